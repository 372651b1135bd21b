"""The circuit breaker as a pure state machine: rows in, rows out; storing them and reading the clock is the caller's.

    closed ── any violation, any person ──> open ── a person's resume, after the cool-down ──> half_open
      ^                                      ^                                                    │  │
      │                                      └──────────────── first violation ───────────────────┘  │
      └── end of the test period, on the authority of that same resume ──────────────────────────────┘

An open breaker has a level that says what it still lets through:

    reduce_only   orders that only reduce a holding
    no_new        protective exits only
    cancel        as no_new, and resting orders that increase risk are cancelled; where the cause is a doubt, all of them

What the market did to us (loss, drawdown, volatility, concentration) opens at reduce_only: a guard never blocks an
exit.
Where our own machinery is in doubt (errors) it opens at no_new. A scope without a row is open: nothing is ever assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from trading.indicators import portfolio_volatility
from trading.market import Market
from trading.money import ONE, ZERO, dec, stamp, text
from trading.orders import Request, Side
from trading.plan import BreakerRules, Limits
from trading.portfolio import Portfolio

ERROR_RATE_MIN_OPERATIONS = 10  # a rate over fewer operations says nothing: one failure of one would be 100 %


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Level(StrEnum):
    REDUCE_ONLY = "reduce_only"
    NO_NEW = "no_new"
    CANCEL = "cancel"


_SEVERITY = {Level.REDUCE_ONLY: 1, Level.NO_NEW: 2, Level.CANCEL: 3}


class Cause(StrEnum):
    """Why a breaker opened, as far as its resting orders are concerned."""

    LOSS = "loss"
    """The market went against us: what reduces a holding protects it, and stays."""
    DOUBT = "doubt"
    """Data, authentication, reconciliation or position are in doubt: nothing of what rests can be trusted."""
    PERSON = "person"
    """Somebody's word: what adds risk goes, what reduces it stays."""


class Violation(NamedTuple):
    """A figure that is over its limit, or that is missing (`observed` None): both open the breaker."""

    code: str
    observed: Decimal | None
    limit: Decimal
    level: Level
    cause: Cause = Cause.LOSS

    @property
    def message(self) -> str:
        observed = "missing" if self.observed is None else _figure(self.observed)
        return f"{self.code}: observed {observed}, limit {_figure(self.limit)}"

    def to_dict(self) -> dict[str, str | None]:
        observed = None if self.observed is None else text(self.observed)
        return {"code": self.code, "observed": observed, "limit": text(self.limit), "level": self.level.value}


class NotResumed(NamedTuple):
    """Why a resume was not accepted: a stable code and what to do about it."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRow:
    """The persisted breaker of one scope. `generation` goes up by one with every change of state or level."""

    scope: str
    """`global`, `venue:coinbase`, `portfolio:paper:main`, `strategy:NAME` or `product:BTC-USD`."""
    state: BreakerState
    level: Level | None = None
    """Set while open, else None."""
    generation: int = 0
    cause: Cause | None = None
    """Set while open; None in rows from before there were causes, and read as a person's word."""
    reason: str = ""
    """What opened it, or the resume that led out."""
    opened_at: datetime | None = None
    opened_by: str = ""
    resumable_at: datetime | None = None
    """End of the cool-down of an open breaker."""
    resumed_at: datetime | None = None
    resumed_by: str = ""
    resume_reason: str = ""
    test_until: datetime | None = None
    """End of the test period of a half-open breaker."""
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskFigures:
    """What the triggers look at; None means that it could not be known, which is a violation by itself.

    Losses and drawdown are positive when money was lost. Ratios and shares are of equity; volatility is annualised.
    """

    daily_loss: Decimal | None = None
    """1 - equity ÷ the day's first equity, open P&L included."""
    daily_loss_usd: Decimal | None = None
    drawdown: Decimal | None = None
    """1 - equity ÷ the highest equity so far."""
    open_positions: int | None = None
    largest_position_share: Decimal | None = None
    volatility: Decimal | None = None
    consecutive_errors: int | None = None
    operations: int | None = None
    """How many of the last operations (runs and sends, at most 20, since a person's resume) the error rate is taken over."""
    failed_operations: int | None = None


class Trigger(NamedTuple):
    """One figure and its limit. Losses and errors trip when they reach it, what is allowed up to a limit when above."""

    code: str
    level: Level
    trips: Callable[[Decimal, Decimal], bool]
    limit: Callable[[BreakerRules, Limits | None], Decimal | None]
    """None: this trigger has no limit here and does not apply."""
    observed: Callable[[RiskFigures], Decimal | None]


def _at_least(observed: Decimal, limit: Decimal) -> bool:
    return observed >= limit


def _above(observed: Decimal, limit: Decimal) -> bool:
    return observed > limit


def _max_loss(limits: Limits | None) -> Decimal | None:
    return None if limits is None else limits.max_daily_loss_usd


def _count(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _error_rate(figures: RiskFigures) -> Decimal | None:
    if figures.operations is None or figures.failed_operations is None:
        return None
    if figures.operations < ERROR_RATE_MIN_OPERATIONS:
        return ZERO
    return Decimal(figures.failed_operations) / figures.operations


TRIGGERS = (
    Trigger("daily_loss", Level.REDUCE_ONLY, _at_least, lambda r, _: r.max_daily_loss, lambda f: f.daily_loss),
    Trigger("daily_loss_usd", Level.REDUCE_ONLY, _at_least, lambda _, p: _max_loss(p), lambda f: f.daily_loss_usd),
    Trigger("drawdown", Level.REDUCE_ONLY, _at_least, lambda r, _: r.max_drawdown, lambda f: f.drawdown),
    Trigger(
        "open_positions",
        Level.REDUCE_ONLY,
        _above,
        lambda r, _: _count(r.max_open_positions),
        lambda f: _count(f.open_positions),
    ),
    Trigger("volatility", Level.REDUCE_ONLY, _above, lambda r, _: r.max_volatility, lambda f: f.volatility),
    Trigger(
        "position_share",
        Level.REDUCE_ONLY,
        _above,
        lambda r, _: r.max_position_share,
        lambda f: f.largest_position_share,
    ),
    Trigger(
        "consecutive_errors",
        Level.NO_NEW,
        _at_least,
        lambda r, _: _count(r.max_consecutive_errors),
        lambda f: _count(f.consecutive_errors),
    ),
    Trigger("error_rate", Level.NO_NEW, _above, lambda r, _: r.max_error_rate, _error_rate),
)
TRIGGER_CODES = frozenset(trigger.code for trigger in TRIGGERS)


def risk_figures(
    portfolio: Portfolio, market: Market, *, consecutive_errors: int, operations: int, failed_operations: int
) -> RiskFigures:
    """The figures of a portfolio at the market's quotes; what cannot be valued is None, never guessed.

    Positions are weighed by their share of equity now; volatility is that of today's holdings over the candles' past.
    """
    errors = RiskFigures(
        open_positions=portfolio.open_positions,
        consecutive_errors=consecutive_errors,
        operations=operations,
        failed_operations=failed_operations,
    )
    equity = portfolio.equity(market.quotes)
    if equity is None or equity <= 0:
        return errors
    shares = position_shares(portfolio, market, equity)
    start = portfolio.day_start_equity
    return replace(
        errors,
        daily_loss=None if start is None or start <= 0 else ONE - equity / start,
        daily_loss_usd=None if start is None else start - equity,
        drawdown=ONE - equity / max(portfolio.peak_equity, equity),
        largest_position_share=max(shares.values(), default=ZERO),
        volatility=portfolio_risk(shares, market),
    )


def portfolio_risk(shares: Mapping[str, Decimal], market: Market) -> Decimal | None:
    """Annualised volatility of holdings with these shares of equity; zero when flat, None with too few candles."""
    if not any(shares.values()):
        return ZERO
    known = set(market.candles.products)
    if any(product not in known for product, share in shares.items() if share):
        return None
    weights = [float(shares.get(product, ZERO)) for product in market.candles.products]
    volatility = portfolio_volatility(market.candles, weights)
    return None if volatility is None else dec(volatility)


def position_shares(portfolio: Portfolio, market: Market, equity: Decimal) -> dict[str, Decimal]:
    """Each position's share of equity at the mid; a position without a quote counts zero (equity is unknown then)."""
    values = {product: portfolio.value(product, market.quotes) or ZERO for product in portfolio.positions}
    return {product: value / equity for product, value in values.items()}


def judge(
    rules: BreakerRules, figures: RiskFigures, limits: Limits | None = None, only: Collection[str] = TRIGGER_CODES
) -> list[Violation]:
    """Every trigger that is over its limit or whose figure is missing, in the order of `TRIGGERS`."""
    found = (_judge_one(trigger, rules, figures, limits) for trigger in TRIGGERS if trigger.code in only)
    return [violation for violation in found if violation is not None]


def _judge_one(trigger: Trigger, rules: BreakerRules, figures: RiskFigures, limits: Limits | None) -> Violation | None:
    limit = trigger.limit(rules, limits)
    if limit is None:
        return None
    observed = trigger.observed(figures)
    if observed is None or not observed.is_finite():
        return Violation(trigger.code, None, limit, trigger.level)
    return Violation(trigger.code, observed, limit, trigger.level) if trigger.trips(observed, limit) else None


def closed(scope: str, now: datetime) -> BreakerRow:
    """The first row of a scope that may trade from the start: on paper."""
    return BreakerRow(scope=scope, state=BreakerState.CLOSED, updated_at=now)


def unopened(scope: str, now: datetime) -> BreakerRow:
    """The first row of a scope whose orders are real: open, until a person resumes it. There is nothing to cool down from."""
    reason = "new: nothing trades here before a person resumes it"
    return BreakerRow(scope=scope, state=BreakerState.OPEN, level=Level.NO_NEW, reason=reason, opened_at=now,
                      opened_by="opening", resumable_at=now, updated_at=now)  # fmt: skip


def open_breaker(
    row: BreakerRow, rules: BreakerRules, now: datetime, *, level: Level, reason: str, actor: str, cause: Cause = Cause.PERSON
) -> BreakerRow:
    """The row open at `level` or, if it is open already at a stricter one, at that. Anything may open it at any time.

    A breaker that is open that far already is returned as it is: the first reason stays on record. At level cancel a doubt
    goes further than the other causes.
    """
    if row.state is BreakerState.OPEN and row.level is not None and _reach(row.level, row.cause) >= _reach(level, cause):
        return row
    return BreakerRow(
        scope=row.scope,
        state=BreakerState.OPEN,
        level=level,
        generation=row.generation + 1,
        cause=cause,
        reason=reason,
        opened_at=now,
        opened_by=actor,
        resumable_at=now + timedelta(minutes=rules.cool_down_minutes),
        updated_at=now,
    )


def _reach(level: Level, cause: Cause | None) -> tuple[int, bool]:
    return _SEVERITY[level], level is Level.CANCEL and cause is Cause.DOUBT


def resume(
    row: BreakerRow, rules: BreakerRules, now: datetime, *, actor: str, reason: str, clean: bool = True
) -> BreakerRow | NotResumed:
    """Half-open on a person's word, or why not. `clean`: a reconciliation after the trip found no open break."""
    refusal = _resume_refusal(row, now, actor.strip(), reason.strip(), clean=clean)
    if refusal is not None:
        return refusal
    return replace(
        row,
        state=BreakerState.HALF_OPEN,
        level=None,
        cause=None,
        generation=row.generation + 1,
        reason=f"resumed by {actor.strip()}: {reason.strip()}",
        resumed_at=now,
        resumed_by=actor.strip(),
        resume_reason=reason.strip(),
        test_until=now + timedelta(minutes=rules.test_period_minutes),
        updated_at=now,
    )


def _resume_refusal(row: BreakerRow, now: datetime, actor: str, reason: str, *, clean: bool) -> NotResumed | None:
    if row.state is not BreakerState.OPEN:
        return NotResumed("not_open", f"the breaker {row.scope} is {row.state}: there is nothing to resume")
    if not actor or not reason:
        return NotResumed("no_authority", "a resume needs the name of a person and a reason")
    if row.resumable_at is None or now < row.resumable_at:
        until = "its end is unknown" if row.resumable_at is None else f"until {stamp(row.resumable_at)}"
        return NotResumed("cooling_down", f"the breaker {row.scope} is cooling down, {until}")
    if not clean:
        return NotResumed("not_reconciled", "open breaks: resolve them and reconcile, then resume")
    return None


def advance(row: BreakerRow, violations: Iterable[Violation], rules: BreakerRules, now: datetime) -> BreakerRow:
    """The row after one look at the figures: opened by a violation, closed after its test period, or as it was."""
    found = list(violations)
    if found:
        level = max((violation.level for violation in found), key=_SEVERITY.__getitem__)
        reason = "; ".join(violation.message for violation in found)
        cause = Cause.DOUBT if any(violation.cause is Cause.DOUBT for violation in found) else Cause.LOSS
        return open_breaker(row, rules, now, level=level, reason=reason, actor="breaker", cause=cause)
    if row.state is BreakerState.HALF_OPEN and row.test_until is not None and now >= row.test_until:
        since = "" if row.resumed_at is None else f" at {stamp(row.resumed_at)}"
        reason = f"test period passed without a violation, resumed by {row.resumed_by}{since}: {row.resume_reason}"
        return replace(
            row,
            state=BreakerState.CLOSED,
            generation=row.generation + 1,
            reason=reason,
            test_until=None,
            updated_at=now,
        )
    return row


class Verdict(NamedTuple):
    """What all scopes together allow: the strictest of them, and the generations that it was read at."""

    state: BreakerState
    level: Level | None
    scope: str
    reason: str
    generations: Mapping[str, int]

    @property
    def may_trade(self) -> bool:
        return self.state is not BreakerState.OPEN

    @property
    def message(self) -> str:
        """What stands open, for people."""
        return f"the breaker {self.scope} is open ({self.level}): {self.reason}"


def strictest(rows: Iterable[BreakerRow], required_scopes: Iterable[str]) -> Verdict:
    """The verdict over the required scopes; a scope without a row is open at no_new."""
    by_scope = {row.scope: row for row in rows}
    scopes = list(required_scopes)
    if not scopes:
        return Verdict(BreakerState.OPEN, Level.NO_NEW, "", "no scope was asked for", {})
    generations = {scope: by_scope[scope].generation if scope in by_scope else -1 for scope in scopes}
    worst = max((_standing(by_scope.get(scope), scope) for scope in scopes), key=_strictness)
    return worst._replace(generations=generations)


def _standing(row: BreakerRow | None, scope: str) -> Verdict:
    if row is None:
        return Verdict(BreakerState.OPEN, Level.NO_NEW, scope, "no breaker row for this scope", {})
    # An open row without a level is damaged: the strictest reading.
    level = (row.level or Level.CANCEL) if row.state is BreakerState.OPEN else None
    return Verdict(row.state, level, scope, row.reason, {})


def _strictness(verdict: Verdict) -> int:
    if verdict.level is not None:
        return 1 + _SEVERITY[verdict.level]
    return 1 if verdict.state is BreakerState.HALF_OPEN else 0


def cancels(row: BreakerRow, side: Side) -> bool:
    """Is a resting order of that side, in this breaker's scope, to be cancelled? On a spot venue only a purchase adds risk."""
    if row.state is not BreakerState.OPEN or row.level is not Level.CANCEL:
        return False
    return side is Side.BUY or row.cause is Cause.DOUBT


def permits(verdict: Verdict, request: Request) -> bool:
    """May this order be sent? Spot is long-only, so every sale only reduces (the holding check bounds its quantity)."""
    if verdict.may_trade:
        return True
    if verdict.level is Level.REDUCE_ONLY:
        return request.side is Side.SELL
    return request.protective and request.side is Side.SELL


def size_factor(verdict: Verdict, rules: BreakerRules) -> Decimal:
    """By what new entries are scaled: the test size while half-open, else 1."""
    return rules.test_size if verdict.state is BreakerState.HALF_OPEN else ONE


def _figure(value: Decimal) -> str:
    """Short text of a figure for messages: at most six decimals, which no limit has more of."""
    return text(round(value, 6))
