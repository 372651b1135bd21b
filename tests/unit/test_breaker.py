"""The breaker: each trigger trips and does not trip just below; who opens it, who leads out, what it lets through."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.builders.plans import MODERATE, NOON, buy, flat_candles, market, portfolio, position, quote, sell
from trading.orders import Request
from trading.plan import BreakerRules, Limits
from trading.risk.breaker import (
    TRIGGER_CODES,
    BreakerRow,
    BreakerState,
    Level,
    NotResumed,
    RiskFigures,
    Violation,
    advance,
    closed,
    judge,
    open_breaker,
    permits,
    resume,
    risk_figures,
    size_factor,
    strictest,
)

RULES = BreakerRules()
LIMITS = Limits.model_validate(MODERATE)
CALM = RiskFigures(
    daily_loss=Decimal("0.01"),
    daily_loss_usd=Decimal(10),
    drawdown=Decimal("0.02"),
    open_positions=2,
    largest_position_share=Decimal("0.2"),
    volatility=Decimal("0.25"),
    consecutive_errors=0,
    operations=20,
    failed_operations=1,
)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def opened(level: Level = Level.REDUCE_ONLY, at: datetime = NOON) -> BreakerRow:
    return open_breaker(closed("global", at), RULES, at, level=level, reason="loss", actor="breaker")


def half_open(at: datetime = NOON) -> BreakerRow:
    row = resume(opened(at=at), RULES, at + HOUR, actor="ada", reason="looked at it")
    assert isinstance(row, BreakerRow)
    return row


def test_calm_figures_trip_nothing() -> None:
    assert judge(RULES, CALM, LIMITS) == []


EDGES: list[tuple[str, dict[str, Any], dict[str, Any], Level]] = [
    ("daily_loss", {"daily_loss": Decimal("0.05")}, {"daily_loss": Decimal("0.0499999")}, Level.REDUCE_ONLY),
    ("daily_loss_usd", {"daily_loss_usd": Decimal(100)}, {"daily_loss_usd": Decimal("99.99")}, Level.REDUCE_ONLY),
    ("drawdown", {"drawdown": Decimal("0.10")}, {"drawdown": Decimal("0.0999999")}, Level.REDUCE_ONLY),
    ("open_positions", {"open_positions": 6}, {"open_positions": 5}, Level.REDUCE_ONLY),
    ("volatility", {"volatility": Decimal("0.5000001")}, {"volatility": Decimal("0.50")}, Level.REDUCE_ONLY),
    (
        "position_share",
        {"largest_position_share": Decimal("0.3500001")},
        {"largest_position_share": Decimal("0.35")},
        Level.REDUCE_ONLY,
    ),
    ("consecutive_errors", {"consecutive_errors": 5}, {"consecutive_errors": 4}, Level.NO_NEW),
    ("error_rate", {"failed_operations": 11}, {"failed_operations": 10}, Level.NO_NEW),
    ("error_rate", {"operations": 10, "failed_operations": 6}, {"operations": 9, "failed_operations": 9}, Level.NO_NEW),
]
"""Trigger, figures that trip it, figures just below, and the level that it opens at."""


def holds(code: str) -> bool:
    """Does every case of the trigger come out as it should?"""
    cases = [case for case in EDGES if case[0] == code]
    assert cases, code
    for _, trips, just_below, level in cases:
        found = [(violation.code, violation.level) for violation in judge(RULES, replace(CALM, **trips), LIMITS)]
        if found != [(code, level)] or judge(RULES, replace(CALM, **just_below), LIMITS):
            return False
    return True


@pytest.mark.parametrize(("code", "trips", "just_below", "level"), EDGES)
def test_a_trigger_trips_at_its_limit_and_not_just_below(
    code: str, trips: dict[str, Any], just_below: dict[str, Any], level: Level
) -> None:
    (violation,) = judge(RULES, replace(CALM, **trips), LIMITS)
    assert (violation.code, violation.level) == (code, level)
    assert violation.message.startswith(f"{code}: observed ")
    assert judge(RULES, replace(CALM, **just_below), LIMITS) == []


@pytest.mark.parametrize("figure", [name for name in RiskFigures.__slots__ if name != "failed_operations"])
def test_a_missing_figure_is_a_violation(figure: str) -> None:
    (violation,) = judge(RULES, replace(CALM, **{figure: None}), LIMITS)
    assert violation.observed is None
    assert "observed missing" in violation.message


def test_a_figure_that_is_no_number_counts_as_missing() -> None:
    (violation,) = judge(RULES, replace(CALM, volatility=Decimal("NaN")), LIMITS)
    assert (violation.code, violation.observed) == ("volatility", None)


def test_nothing_known_trips_everything() -> None:
    assert {violation.code for violation in judge(RULES, RiskFigures(), LIMITS)} == TRIGGER_CODES


def test_a_violation_opens_with_its_reason_and_the_strictest_level() -> None:
    found = [
        Violation("daily_loss", Decimal("0.06"), Decimal("0.05"), Level.REDUCE_ONLY),
        Violation("consecutive_errors", Decimal(5), Decimal(5), Level.NO_NEW),
    ]
    row = advance(closed("global", NOON), found, RULES, NOON)
    assert (row.state, row.level, row.generation) == (BreakerState.OPEN, Level.NO_NEW, 1)
    assert row.reason == "daily_loss: observed 0.06, limit 0.05; consecutive_errors: observed 5, limit 5"
    assert row.resumable_at == NOON + HOUR


def test_an_open_breaker_stays_open_whatever_the_figures_say() -> None:
    assert advance(opened(), [], RULES, NOON + 30 * DAY) == opened()


def test_an_open_breaker_gets_stricter_never_looser() -> None:
    stricter = open_breaker(opened(), RULES, NOON + HOUR, level=Level.CANCEL, reason="break", actor="reconcile")
    assert (stricter.level, stricter.generation, stricter.reason) == (Level.CANCEL, 2, "break")
    assert open_breaker(stricter, RULES, NOON + DAY, level=Level.REDUCE_ONLY, reason="x", actor="y") == stricter


@pytest.mark.parametrize(
    ("row", "after", "words", "code"),
    [
        (closed("global", NOON), HOUR, {}, "not_open"),
        (half_open(), HOUR, {}, "not_open"),
        (opened(), HOUR - timedelta(seconds=1), {}, "cooling_down"),
        (opened(), HOUR, {"actor": " "}, "no_authority"),
        (opened(), HOUR, {"reason": ""}, "no_authority"),
        (opened(), HOUR, {"clean": False}, "not_reconciled"),
        (replace(opened(), resumable_at=None), 9 * DAY, {}, "cooling_down"),
    ],
)
def test_a_resume_is_a_persons_after_the_cool_down(row: BreakerRow, after: timedelta, words: dict[str, Any], code: str) -> None:
    answer = resume(row, RULES, NOON + after, **{"actor": "ada", "reason": "looked at it"} | words)
    assert isinstance(answer, NotResumed)
    assert answer.code == code


def test_a_resume_leads_to_half_open_for_the_test_period() -> None:
    row = half_open()
    assert (row.state, row.level, row.generation) == (BreakerState.HALF_OPEN, None, 2)
    assert (row.resumed_by, row.resume_reason, row.test_until) == ("ada", "looked at it", NOON + HOUR + DAY)


def test_half_open_opens_again_at_the_first_violation() -> None:
    later = NOON + 2 * HOUR
    row = advance(half_open(), judge(RULES, replace(CALM, drawdown=Decimal("0.2")), LIMITS), RULES, later)
    assert (row.state, row.generation, row.opened_at) == (BreakerState.OPEN, 3, later)


def test_half_open_closes_at_the_end_of_its_test_citing_the_resume() -> None:
    end = NOON + HOUR + DAY
    assert advance(half_open(), [], RULES, end - timedelta(seconds=1)) == half_open()
    row = advance(half_open(), [], RULES, end)
    assert (row.state, row.generation) == (BreakerState.CLOSED, 3)
    assert "resumed by ada at 2026-11-24T13:00:00Z: looked at it" in row.reason


def test_half_open_trades_at_test_size() -> None:
    assert size_factor(strictest([half_open()], ["global"]), RULES) == Decimal("0.5")
    assert size_factor(strictest([closed("global", NOON)], ["global"]), RULES) == 1


PASSES: list[tuple[BreakerRow, tuple[bool, bool, bool]]] = [
    # may an entry, an exit, a protective exit be sent?
    (closed("global", NOON), (True, True, True)),
    (half_open(), (True, True, True)),
    (opened(Level.REDUCE_ONLY), (False, True, True)),
    (opened(Level.NO_NEW), (False, False, True)),
    (opened(Level.CANCEL), (False, False, True)),
    (replace(opened(), level=None), (False, False, True)),
]


@pytest.mark.parametrize(("row", "passes"), PASSES)
def test_the_level_says_what_passes(row: BreakerRow, passes: tuple[bool, bool, bool]) -> None:
    requests: list[Request] = [buy(), sell(), sell(protective=True)]
    assert tuple(permits(strictest([row], ["global"]), request) for request in requests) == passes
    assert not permits(strictest([opened()], ["global"]), buy(protective=True)), "a buy is never an exit"


def test_the_strictest_scope_wins() -> None:
    rows = [
        closed("global", NOON),
        replace(half_open(), scope="venue:paper"),
        replace(opened(Level.NO_NEW), scope="product:BTC-USD"),
        replace(opened(Level.REDUCE_ONLY), scope="portfolio:paper:main"),
    ]
    verdict = strictest(rows, [row.scope for row in rows])
    assert (verdict.scope, verdict.level) == ("product:BTC-USD", Level.NO_NEW)
    assert verdict.generations == {row.scope: row.generation for row in rows}
    assert strictest(rows, ["global", "venue:paper"]).state is BreakerState.HALF_OPEN
    assert strictest(rows, ["global"]).may_trade


@pytest.mark.parametrize(("rows", "scopes"), [([], ["global"]), ([closed("global", NOON)], ["global", "strategy:x"]), ([], [])])
def test_a_scope_without_a_row_is_open(rows: list[BreakerRow], scopes: list[str]) -> None:
    verdict = strictest(rows, scopes)
    assert (verdict.state, verdict.level) == (BreakerState.OPEN, Level.NO_NEW)


def figures(held: Any, there: Any) -> RiskFigures:
    return risk_figures(held, there, consecutive_errors=0, operations=20, failed_operations=0)


def test_figures_take_open_profit_and_loss_in() -> None:
    """940 USD in cash and 100 of cost that is worth 50 now: 990 of equity against 1,000 and a peak of 1,100."""
    held = portfolio("940", position(quantity="0.001", price="100000"), peak_equity=Decimal(1100))
    found = figures(held, market())
    assert (found.daily_loss, found.daily_loss_usd) == (Decimal("0.01"), Decimal(10))
    assert found.drawdown == Decimal("0.1")
    assert found.largest_position_share == Decimal(50) / Decimal(990)
    assert (found.open_positions, found.consecutive_errors) == (1, 0)
    assert found.volatility is not None
    assert found.volatility > 0


def test_a_gain_is_no_loss_and_a_new_peak_no_drawdown() -> None:
    found = figures(portfolio("1200"), market())
    assert (found.daily_loss, found.drawdown, found.volatility) == (Decimal("-0.2"), 0, 0)
    assert judge(RULES, found, LIMITS) == []


def test_what_cannot_be_valued_is_missing() -> None:
    held = portfolio("900", position())
    assert figures(held, market(quotes={"ETH-USD": quote("ETH-USD", "2000")})).daily_loss is None
    assert figures(held, market(candles=flat_candles({"ETH-USD": "2000"}))).volatility is None
    assert figures(held, market(candles=flat_candles({"BTC-USD": "50000"}, rows=20))).volatility is None
    assert figures(portfolio("0"), market()).drawdown is None
    assert figures(portfolio(day_start_equity=None), market()).daily_loss is None
