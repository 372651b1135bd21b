"""How far each limit of a plan is used now: the figures that the breaker and the checks decide on, beside their limits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError

from trading.errors import ConfigurationError
from trading.market import Candles, Market, Quote
from trading.money import ZERO
from trading.plan import Plan
from trading.portfolio import Portfolio
from trading.risk.breaker import TRIGGERS, RiskFigures, risk_figures
from trading.store.books import Books
from trading.store.candles import CandleStore
from trading.store.reports import Reports
from trading.store.rows import EquityRow, PositionRow

VOLATILITY_CANDLES = 200
"""Candles of the past that the volatility of today's holdings is taken from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """One limit and what stands against it; `observed` is None where it cannot be known. What happens at the limit: `then`."""

    code: str
    observed: Decimal | None
    limit: Decimal
    then: str

    @property
    def share(self) -> Decimal | None:
        """Observed ÷ limit, at least 0: a gain uses nothing of a limit on losses. None where unknown, or without a limit."""
        return None if self.observed is None or not self.limit else max(self.observed / self.limit, ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRisk:
    """A plan's risk now: figures at the newest stored closes, and every limit with its use."""

    figures: RiskFigures
    limits: tuple[LimitUse, ...]


def plan_risk(reports: Reports, worth: EquityRow, positions: Iterable[PositionRow], now: datetime) -> PlanRisk | None:
    """The risk of a plan with these positions at market time `now`; None for one that never claimed a slot.

    Raises LedgerUnavailable; ConfigurationError when the plan was stored by another version of the code.
    """
    book, plan = worth.book, worth.plan
    configured = _plan(reports, book, plan)
    if configured is None:
        return None
    marks = {row.product: row.price for row in positions}
    with reports.driver() as connection:
        books = Books(connection)
        day_start = now.replace(hour=0, minute=0, second=0, microsecond=0)
        held = books.portfolio(book, plan, configured.cash_asset, day_start, now)
        consecutive, operations, failed = books.errors(book, plan)
        store = CandleStore(connection, worth.source)
        candles = store.load(sorted(held.positions), configured.interval, now, VOLATILITY_CANDLES)
    figures = risk_figures(
        held, _market(marks, candles, now), consecutive_errors=consecutive, operations=operations, failed_operations=failed
    )
    return PlanRisk(figures=figures, limits=(*_breaker(configured, figures), *_profile(configured, held)))


def _plan(reports: Reports, book: str, plan: str) -> Plan | None:
    """The plan as it was when it last claimed a slot."""
    found = reports.plan_body(book, plan)
    try:
        return None if found is None else Plan.model_validate(json.loads(found))
    except ValidationError as error:
        raise ConfigurationError(f"plan {plan} of {book}: was stored by another version: {error}") from error


def _market(marks: Mapping[str, Decimal | None], candles: Candles, now: datetime) -> Market:
    """The market at the marks of the holdings: the price that positions and equity are shown at."""
    quotes = {
        product: Quote(product=product, bid=price, ask=price, at=now) for product, price in marks.items() if price is not None
    }
    return Market(at=now, products={}, candles=candles, quotes=quotes)


def _breaker(plan: Plan, figures: RiskFigures) -> list[LimitUse]:
    """What opens the plan's breaker."""
    uses = []
    for trigger in TRIGGERS:
        limit = trigger.limit(plan.breaker, plan.limits)
        if limit is not None:
            then = f"breaker opens: {trigger.level}"
            uses.append(LimitUse(code=trigger.code, observed=trigger.observed(figures), limit=limit, then=then))
    return uses


def _profile(plan: Plan, held: Portfolio) -> list[LimitUse]:
    """What the checks of an order hold it against, of those limits that the books alone tell."""
    day, hour = plan.limits.max_daily_volume_usd, plan.controls.max_hourly_share
    cash = (("day_volume", held.day_volume, day), ("hour_volume", held.hour_volume, day * hour))
    return [
        *(LimitUse(code=code, observed=observed, limit=limit, then="entries refused") for code, observed, limit in cash),
        LimitUse(code="messages_per_minute", observed=Decimal(held.minute_orders),
                 limit=Decimal(plan.controls.max_messages_per_minute), then="entries refused"),
    ]  # fmt: skip
