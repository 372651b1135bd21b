"""The checks of live trading at their bounds, and what each failed one forbids."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from tests.builders.plans import NOON, product
from trading.errors import Unanswered
from trading.exchange.coinbase import KeyPermissions
from trading.exchange.port import FeeTier
from trading.market import Product
from trading.orders import Mode, Side
from trading.safety import Safety, SafetyCheck, Standing, check_standing, check_venue, needs_checks

SECOND = timedelta(seconds=1)
SOUND = Standing(
    reconciled_at=NOON, open_breaks=0, breaker="", armed_until=NOON + timedelta(hours=1), anchor_age=timedelta(hours=1),
    chain="", ramp="",
)  # fmt: skip


class Venue:
    """Answers as a venue does on a good day; a test takes one answer away or makes it another."""

    def __init__(self, **changes: object) -> None:
        self.rights = KeyPermissions(can_view=True, can_trade=True, can_transfer=False, portfolio="main")
        self.view_rights = KeyPermissions(can_view=True, can_trade=False, can_transfer=False, portfolio="main")
        self.at = NOON
        self.listed = {"BTC-USD": product()}
        self.silent = ""
        for name, value in changes.items():
            setattr(self, name, value)

    def _asked(self, what: str) -> None:
        if what == self.silent:
            raise Unanswered("no answer in time")

    def permissions(self) -> KeyPermissions:
        self._asked("permissions")
        return self.rights

    def view_permissions(self) -> KeyPermissions:
        self._asked("view permissions")
        return self.view_rights

    def venue_time(self) -> datetime:
        self._asked("time")
        return self.at

    def fee_tier(self) -> FeeTier:
        self._asked("fees")
        return FeeTier(Decimal("0.004"), Decimal("0.006"))

    def products(self, ids: list[str]) -> dict[str, Product]:
        self._asked("products")
        return {id_: self.listed[id_] for id_ in ids if id_ in self.listed}


def failed(checks: list[SafetyCheck]) -> list[str]:
    return [check.name for check in checks if not check.ok]


def test_a_sound_standing_and_a_sound_venue_fail_nothing() -> None:
    assert failed(check_standing(SOUND, NOON)) == []
    assert failed(check_venue(Venue(), ["BTC-USD"], lambda: NOON)) == []


@pytest.mark.parametrize(
    ("holds", "fails", "name"),
    [
        ({"reconciled_at": NOON - timedelta(hours=26)}, {"reconciled_at": NOON - timedelta(hours=26) - SECOND}, "reconciled"),
        ({}, {"reconciled_at": None}, "reconciled"),
        ({}, {"open_breaks": 1}, "reconciled"),
        ({"anchor_age": timedelta(hours=26)}, {"anchor_age": timedelta(hours=26) + SECOND}, "anchor"),
        ({}, {"anchor_age": None}, "anchor"),
        ({}, {"chain": "another hash"}, "chain"),
        ({}, {"breaker": "global is open: a drill"}, "breaker"),
        ({}, {"ramp": "capital 1000 on step 0 of 100"}, "ramp"),
        ({"armed_until": NOON + SECOND}, {"armed_until": NOON}, "arming"),
        ({}, {"armed_until": None}, "arming"),
    ],
)
def test_each_condition_of_the_ledger_holds_to_its_bound(holds: dict[str, object], fails: dict[str, object], name: str) -> None:
    assert failed(check_standing(replace(SOUND, **holds), NOON)) == []  # type: ignore[arg-type]
    assert failed(check_standing(replace(SOUND, **fails), NOON)) == [name]  # type: ignore[arg-type]


def rights(**changes: bool) -> KeyPermissions:
    return KeyPermissions(**{"can_view": True, "can_trade": True, "can_transfer": False} | changes, portfolio="main")


@pytest.mark.parametrize(
    ("venue", "name"),
    [
        (Venue(rights=rights(can_view=False)), "key_permissions"),
        (Venue(rights=rights(can_trade=False)), "key_permissions"),
        (Venue(rights=rights(can_transfer=True)), "key_permissions"),
        (Venue(view_rights=rights()), "view_permissions"),
        (Venue(view_rights=rights(can_trade=False, can_transfer=True)), "view_permissions"),
        (Venue(view_rights=rights(can_view=False, can_trade=False)), "view_permissions"),
        (Venue(silent="view permissions"), "view_permissions"),
        (Venue(at=NOON + 11 * SECOND), "clock"),
        (Venue(at=NOON - 11 * SECOND), "clock"),
        (Venue(listed={}), "products"),
        (Venue(listed={"BTC-USD": product(tradable=False)}), "products"),
        (Venue(silent="permissions"), "key_permissions"),
        (Venue(silent="time"), "clock"),
        (Venue(silent="fees"), "fee_tier"),
        (Venue(silent="products"), "products"),
    ],
)
def test_each_condition_of_the_venue_fails_alone_and_an_answer_that_is_missing_is_a_failure(venue: Venue, name: str) -> None:
    assert failed(check_venue(venue, ["BTC-USD"], lambda: NOON)) == [name]


@pytest.mark.parametrize("seconds", [-10, 0, 10])
def test_a_clock_within_ten_seconds_is_in_step(seconds: int) -> None:
    assert failed(check_venue(Venue(at=NOON + seconds * SECOND), ["BTC-USD"], lambda: NOON)) == []


@pytest.mark.parametrize(
    ("told", "signs"),
    [
        (Venue(), ("0", "0")),
        (Venue(rights=rights(can_transfer=True)), ("1", "0")),
        (Venue(rights=rights(can_view=False, can_trade=False)), ("2", "0")),
        (Venue(view_rights=rights()), ("1", "0")),
        (Venue(rights=rights(can_trade=False), view_rights=rights(can_transfer=True)), ("3", "0")),
        (Venue(at=NOON + 11 * SECOND), ("0", "11")),
        (Venue(at=NOON - SECOND / 10), ("0", "0.1")),
    ],
)
def test_what_the_venue_tells_goes_to_the_watches_as_figures(told: Venue, signs: tuple[str, str]) -> None:
    safety = Safety((*check_venue(told, ["BTC-USD"], lambda: NOON), *check_standing(SOUND, NOON)))
    drift, clock = map(Decimal, signs)
    assert safety.signs == {"permission_drift": drift, "venue_clock_seconds": clock}


def test_what_the_venue_does_not_tell_is_no_sign() -> None:
    for silent, left in (("time", {"permission_drift"}), ("permissions", {"permission_drift", "venue_clock_seconds"})):
        safety = Safety((*check_venue(Venue(silent=silent), ["BTC-USD"], lambda: NOON), *check_standing(SOUND, NOON)))
        assert not safety.ok
        assert safety.signs.keys() == left


def test_the_rights_of_a_key_that_is_not_there_are_no_sign() -> None:
    """A process without the trade key asks with the other one, and hears that this may not trade."""
    told = check_venue(Venue(rights=rights(can_trade=False)), ["BTC-USD"], lambda: NOON)
    for missing, drift in (("credentials", 0), ("view_credentials", 1), ("limits", 1)):
        signs = Safety((check(missing, ok=False), *told, *check_standing(SOUND, NOON))).signs
        assert signs["permission_drift"] == drift, missing


def test_the_rights_of_keys_that_nobody_armed_are_no_sign() -> None:
    told = check_venue(Venue(rights=rights(can_transfer=True)), ["BTC-USD"], lambda: NOON)
    for standing in (SOUND, replace(SOUND, armed_until=NOON), replace(SOUND, armed_until=None)):
        signs = Safety((*told, *check_standing(standing, NOON))).signs
        assert ("permission_drift" in signs) == (standing is SOUND)


@pytest.mark.parametrize(("told_after", "ok"), [(0, True), (-10, True), (-11, False), (30, True), (40, True), (41, False)])
def test_an_answer_that_takes_its_time_says_nothing_of_the_clock_within_that_time(told_after: int, ok: bool) -> None:
    times = iter((NOON, NOON + 30 * SECOND))
    checks = check_venue(Venue(at=NOON + told_after * SECOND), ["BTC-USD"], lambda: next(times))
    assert failed(checks) == ([] if ok else ["clock"])


def check(name: str, *, ok: bool, risk_only: bool = False) -> SafetyCheck:
    return SafetyCheck(name=name, ok=ok, found="that", expected="this", risk_only=risk_only)


@pytest.mark.parametrize(
    ("checks", "buys", "sells"),
    [
        ((), False, False),
        ((check("a", ok=True),), True, True),
        ((check("a", ok=True), check("b", ok=False)), False, False),
        ((check("a", ok=True), check("b", ok=False, risk_only=True)), False, True),
        ((check("a", ok=False), check("b", ok=False, risk_only=True)), False, False),
    ],
)
def test_no_check_at_all_is_no_permission_and_some_bind_new_risk_only(
    checks: tuple[SafetyCheck, ...], buys: bool, sells: bool
) -> None:
    safety = Safety(checks)
    assert (not safety.forbids(Side.BUY), not safety.forbids(Side.SELL)) == (buys, sells)
    assert safety.ok == (buys and sells)


def test_what_market_books_and_plan_say_binds_new_risk_only_and_what_keys_clock_and_chain_say_every_order() -> None:
    checks = check_venue(Venue(), ["BTC-USD"], lambda: NOON) + check_standing(SOUND, NOON)
    bound = {alone: [found.name for found in checks if found.risk_only is alone] for alone in (True, False)}
    assert bound[True] == ["fee_tier", "products", "reconciled", "breaker", "ramp", "arming"]
    assert bound[False] == ["key_permissions", "view_permissions", "clock", "chain", "anchor"]


def test_only_paper_needs_no_checks() -> None:
    assert [mode for mode in Mode if not needs_checks(mode)] == [Mode.PAPER]
