"""Whether a desk may send real orders: the checks before live trading, each with what was found, and their verdict.

Live and rehearsal desks start forbidden: nothing is sent until every check has been made and has passed. Paper needs none.
Two kinds. What a person has to have said (switches, limits), who we are at the venue (keys, clock) and whether the ledger may
be forged (chain, anchor) bind every order. What is known of market, books and plan binds new risk only: an exit lowers what
can be lost, and books that do not agree are a reason for it. Breaker and integrity guards still judge each exit by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, Protocol

from trading.errors import Unanswered
from trading.exchange.port import FeeTier
from trading.market import Product
from trading.money import ZERO, text
from trading.orders import Mode, Side
from trading.risk.watches import VENUE_CLOCK_SECONDS

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
    observed: Decimal | None = field(default=None)
    """The figure that a watch judges (`WATCHED_BY`); None where there is none, or where the venue did not tell it."""

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

    @property
    def signs(self) -> dict[str, Decimal | None]:
        """What the venue told that a watch judges. What it did not tell is no sign: this run sends nothing anyway.

        Rights count while the portfolio is armed: before, keys may come and go, and nobody has said yes to them. Those of a key
        that this process has not got are another key's.
        """
        armed = any(check.ok for check in self.checks if check.name == "arming")
        failed = {check.name for check in self.failed}
        found: dict[str, Decimal | None] = {}
        for check in self.checks:
            key, code = _KEY_OF.get(check.name), WATCHED_BY.get(check.name)
            if code is not None and check.observed is not None and (key is None or (armed and key not in failed)):
                found[code] = (found.get(code) or ZERO) + check.observed
        return found

    def forbids(self, side: Side) -> str:
        """Why an order of that side may not be sent; empty when it may. On a spot venue a sale takes no new risk."""
        if not self.checks:
            return "the checks of live trading have not been made"
        stops = [check for check in self.failed if not check.risk_only or side is Side.BUY]
        return "; ".join(map(str, stops))


WATCHED_BY = {"clock": "venue_clock_seconds", "key_permissions": "permission_drift", "view_permissions": "permission_drift"}
"""Check -> the watch that its figure goes to: it opens a breaker, where the failed check only forbids this run's orders."""

_KEY_OF = {"key_permissions": "credentials", "view_permissions": "view_credentials"}

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


class _Answer(NamedTuple):
    ok: bool
    found: str
    observed: Decimal | None = None


def check_venue(venue: LiveVenue, products: Iterable[str], clock: Callable[[], datetime]) -> list[SafetyCheck]:
    """What the venue says of key, clock, fees and products. A question without an answer is a failed check.

    `clock` tells our wall time: it is read at the question, for the answers before it may have taken their time.
    """
    wanted = list(products)
    return [
        *_asked("key_permissions", "a key that may view and trade, and not transfer", lambda: _permissions(venue)),
        *_asked("view_permissions", "a second key, which may only view", lambda: _view_permissions(venue)),
        *_asked("clock", f"within {VENUE_CLOCK_SECONDS} s of the venue's", lambda: _clock(venue, clock)),
        *_asked("fee_tier", "the account's fee rates", lambda: _fees(venue), risk_only=True),
        # One closed product must not lock in another: an exit out of it is refused by its own guard (product_tradable).
        *_asked("products", f"{', '.join(wanted)} open for trading", lambda: _products(venue, wanted), risk_only=True),
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
            name="reconciled", ok=reconciled, risk_only=True,
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


def _asked(name: str, expected: str, ask: Callable[[], _Answer], *, risk_only: bool = False) -> Iterable[SafetyCheck]:
    try:
        answer = ask()
    except Unanswered as error:
        answer = _Answer(ok=False, found=f"no answer ({error})")
    yield SafetyCheck(
        name=name, ok=answer.ok, found=answer.found, expected=expected, observed=answer.observed, risk_only=risk_only
    )


def _permissions(venue: LiveVenue) -> _Answer:
    return _expecting(venue.permissions(), trades=True)


def _view_permissions(venue: LiveVenue) -> _Answer:
    return _expecting(venue.view_permissions(), trades=False)


def _expecting(may: KeyRights, *, trades: bool) -> _Answer:
    """Observed is the number of rights that are there and should not be, or the other way round."""
    differing = (not may.can_view) + (may.can_trade is not trades) + may.can_transfer
    return _Answer(not differing, f"a key that may {rights(may)}", Decimal(differing))


def rights(may: KeyRights) -> str:
    """`view and trade`, or `nothing`."""
    allowed = {"view": may.can_view, "trade": may.can_trade, "transfer": may.can_transfer}
    return " and ".join(name for name, has in allowed.items() if has) or "nothing"


def _clock(venue: LiveVenue, clock: Callable[[], datetime]) -> _Answer:
    """As much as is certain: within the time that the answer took, with its retries, the venue's clock may have told anything."""
    before, told, after = clock(), venue.venue_time(), clock()
    skew = max(before - told, told - after, timedelta())
    seconds = Decimal(str(skew.total_seconds()))
    return _Answer(seconds <= VENUE_CLOCK_SECONDS, f"{seconds:.1f} s", seconds)


def _fees(venue: LiveVenue) -> _Answer:
    tier = venue.fee_tier()
    return _Answer(ok=True, found=f"maker {text(tier.maker)}, taker {text(tier.taker)}")


def _products(venue: LiveVenue, wanted: list[str]) -> _Answer:
    listed = venue.products(wanted)
    problems = [f"{id_} not listed" for id_ in wanted if id_ not in listed]
    problems += [f"{id_} closed by its flags" for id_ in wanted if id_ in listed and not listed[id_].tradable]
    return _Answer(not problems, ", ".join(problems) or "all open")


def needs_checks(mode: Mode) -> bool:
    """Do orders of this mode go to a venue of its own?"""
    return mode is not Mode.PAPER
