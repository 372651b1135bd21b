"""Whether a desk may send real orders: the checks before live trading, each with what was found, and their verdict.

Live and rehearsal desks start forbidden: nothing is sent until every check has been made and has passed. Paper needs none.
A few checks bind new risk only (the arming): when one of them fails, exits and settling go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from trading.errors import Unanswered
from trading.exchange.port import FeeTier
from trading.market import Product
from trading.money import text
from trading.orders import Mode, Side

SKEW_MOST = timedelta(seconds=10)
"""Between our clock and the venue's: its signatures live two minutes, and a day's limits are counted by our clock."""
RECONCILED_MOST = timedelta(hours=26)
ANCHORED_MOST = timedelta(hours=26)
"""A day and a little: the daily flows reconcile and anchor, and every run does."""
ARMED_MOST = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyCheck:
    """One condition of live trading, as it was found."""

    name: str
    ok: bool
    found: str
    expected: str
    """With the command that brings it about, where there is one."""
    risk_only: bool = False
    """True if its failure stops new risk and lets exits pass."""

    def __str__(self) -> str:
        return f"{self.name}: found {self.found}, expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Safety:
    """The verdict of all checks. No check at all is no permission."""

    checks: tuple[SafetyCheck, ...] = ()

    @property
    def failed(self) -> list[SafetyCheck]:
        return [check for check in self.checks if not check.ok]

    @property
    def ok(self) -> bool:
        return bool(self.checks) and not self.failed

    def forbids(self, side: Side) -> str:
        """Why an order of that side may not be sent; empty when it may. On a spot venue a sale takes no new risk."""
        if not self.checks:
            return "the checks of live trading have not been made"
        stops = [check for check in self.failed if not check.risk_only or side is Side.BUY]
        return "; ".join(map(str, stops))


PASSED = Safety((SafetyCheck(name="mode", ok=True, found="paper", expected="paper"),))
"""Of a paper desk: no real order can come of it."""


class KeyRights(Protocol):
    """What the venue says that a key may do."""

    @property
    def can_view(self) -> bool: ...
    @property
    def can_trade(self) -> bool: ...
    @property
    def can_transfer(self) -> bool: ...


class LiveVenue(Protocol):
    """What the checks ask the venue. Each raises Unanswered when it does not tell."""

    def permissions(self) -> KeyRights: ...
    def view_permissions(self) -> KeyRights: ...
    def venue_time(self) -> datetime: ...
    def fee_tier(self) -> FeeTier: ...
    def products(self, ids: list[str]) -> dict[str, Product]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the ledger says of a portfolio, as the checks need it."""

    reconciled_at: datetime | None
    """Wall time of the last reconciliation that was clean."""
    open_breaks: int
    breaker: str
    """Empty if no breaker of the plan is open; else the strictest one with its reason."""
    armed_until: datetime | None
    anchor_age: timedelta | None
    chain: str
    """Empty if the anchored heads are the ledger's own; else what does not hold."""
    ramp: str
    """Empty if the plan's money is within its step of the capital ramp; else what is over it."""


def check_venue(venue: LiveVenue, products: Iterable[str], now: datetime) -> list[SafetyCheck]:
    """What the venue says of key, clock, fees and products. A question without an answer is a failed check."""
    wanted = list(products)
    return [
        *_asked("key_permissions", "a key that may view and trade, and not transfer", lambda: _permissions(venue)),
        *_asked("view_permissions", "a second key, which may only view", lambda: _view_permissions(venue)),
        *_asked("clock", f"within {SKEW_MOST.total_seconds():.0f} s of the venue's", lambda: _clock(venue, now)),
        *_asked("fee_tier", "the account's fee rates", lambda: _fees(venue)),
        *_asked("products", f"{', '.join(wanted)} open for trading", lambda: _products(venue, wanted)),
    ]


def check_standing(standing: Standing, now: datetime) -> list[SafetyCheck]:
    """What the ledger says: reconciled, anchored, breaker, arming, ramp."""
    at, age = standing.reconciled_at, standing.anchor_age
    reconciled = at is not None and now - at <= RECONCILED_MOST and not standing.open_breaks
    said = "never" if at is None else f"last clean at {at:%Y-%m-%d %H:%M:%SZ}"
    until = standing.armed_until
    armed = until is not None and until > now
    return [
        SafetyCheck(
            name="reconciled", ok=reconciled,
            found=f"{said}, {standing.open_breaks} open breaks", expected="clean within a day, no open break (keel reconcile)",
        ),
        SafetyCheck(name="chain", ok=not standing.chain, found=standing.chain or "as anchored", expected="as anchored"),
        SafetyCheck(
            name="anchor", ok=age is not None and age <= ANCHORED_MOST,
            found="none" if age is None else f"{age.total_seconds() / 3600:.1f} h old",
            expected="one of the last day (keel anchor)",
        ),
        SafetyCheck(
            name="breaker", ok=not standing.breaker, found=standing.breaker or "closed or half-open",
            expected="closed, or half-open on a person's resume (keel breaker resume)", risk_only=True,
        ),
        SafetyCheck(
            name="ramp", ok=not standing.ramp, found=standing.ramp or "within the step", risk_only=True,
            expected="within the step (keel ramp show)",
        ),
        SafetyCheck(
            name="arming", ok=armed, risk_only=True, expected="a person's arming of a day at most (keel arm)",
            found="none" if until is None else f"{'until' if armed else 'expired at'} {until:%Y-%m-%d %H:%M:%SZ}",
        ),
    ]  # fmt: skip


def _asked(name: str, expected: str, ask: Callable[[], tuple[bool, str]]) -> Iterable[SafetyCheck]:
    try:
        ok, found = ask()
    except Unanswered as error:
        ok, found = False, f"no answer ({error})"
    yield SafetyCheck(name=name, ok=ok, found=found, expected=expected)


def _permissions(venue: LiveVenue) -> tuple[bool, str]:
    may = venue.permissions()
    return may.can_view and may.can_trade and not may.can_transfer, f"a key that may {rights(may)}"


def _view_permissions(venue: LiveVenue) -> tuple[bool, str]:
    may = venue.view_permissions()
    return may.can_view and not may.can_trade and not may.can_transfer, f"a key that may {rights(may)}"


def rights(may: KeyRights) -> str:
    """`view and trade`, or `nothing`."""
    allowed = {"view": may.can_view, "trade": may.can_trade, "transfer": may.can_transfer}
    return " and ".join(name for name, has in allowed.items() if has) or "nothing"


def _clock(venue: LiveVenue, now: datetime) -> tuple[bool, str]:
    skew = abs(venue.venue_time() - now)
    return skew <= SKEW_MOST, f"{skew.total_seconds():.1f} s"


def _fees(venue: LiveVenue) -> tuple[bool, str]:
    tier = venue.fee_tier()
    return True, f"maker {text(tier.maker)}, taker {text(tier.taker)}"


def _products(venue: LiveVenue, wanted: list[str]) -> tuple[bool, str]:
    listed = venue.products(wanted)
    problems = [f"{id_} not listed" for id_ in wanted if id_ not in listed]
    problems += [f"{id_} closed by its flags" for id_ in wanted if id_ in listed and not listed[id_].tradable]
    return not problems, ", ".join(problems) or "all open"


def needs_checks(mode: Mode) -> bool:
    """Do orders of this mode go to a venue of its own?"""
    return mode is not Mode.PAPER
