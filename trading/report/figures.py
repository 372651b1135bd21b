"""What the report says, as data: read from the ledger once, rendered from that alone.

The period ends at the plan's newest mark (a replay's time is not the wall clock's) and reaches `days` back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from trading import performance
from trading.costs import CostSum, summed
from trading.errors import ConfigurationError
from trading.money import ZERO
from trading.orders import LIVE_STATES, State
from trading.store.costing import order_costs
from trading.store.reports import Reports, Scope
from trading.store.rows import BreakerEventRow, BreakRow, EquityPoint, EquityRow, FillRow, PnlRow, PositionRow, TradeRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductResult:
    """A product's results in the period: `realised` before fees, `unrealised` now; plus is a gain."""

    product: str
    realised: Decimal
    fees: Decimal
    unrealised: Decimal | None
    fills: int

    @property
    def net(self) -> Decimal | None:
        return None if self.unrealised is None else self.realised + self.unrealised - self.fees


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that the report shows. Statistics are float or None where there is too little to say."""

    now: EquityRow
    written_at: datetime
    since: datetime
    until: datetime
    days: int
    curve: Sequence[EquityPoint]
    positions: Sequence[PositionRow]
    products: Sequence[ProductResult]
    daily: Sequence[PnlRow]
    trades: Sequence[TradeRow]
    fills: Sequence[FillRow]
    outcomes: dict[str, int]
    breaker_events: Sequence[BreakerEventRow]
    breaks: Sequence[BreakRow]
    statistics: dict[str, float | None]
    costs: Sequence[CostSum] = ()
    """What the orders of the period cost, by product."""

    @property
    def total(self) -> Decimal | None:
        """All that was won or lost since the plan was opened, after fees."""
        return None if self.now.equity is None else self.now.equity - self.now.capital

    @property
    def is_synthetic(self) -> bool:
        return self.now.source == "synthetic"

    @property
    def orders(self) -> int:
        return sum(self.outcomes.values())


def gather(reports: Reports, mode: str, portfolio: str, plan: str, *, days: int, written_at: datetime) -> Figures:
    """The figures of one plan over its last `days` days. Raises ConfigurationError for a plan without books."""
    scope = Scope(mode=mode, portfolio=portfolio, plan=plan)
    rows = reports.equity(scope)
    if not rows:
        raise ConfigurationError(f"report {plan}: found no books in {mode}:{portfolio}, expected a plan that has run once")
    curve = reports.equity_curve(scope)
    until = curve[-1].at if curve else written_at
    since = until - timedelta(days=days)
    shown = [point for point in curve if point.at >= since]
    fills, trades = reports.fills(scope, since), reports.closed_trades(scope, since)
    outcomes, daily = reports.outcomes(scope, since), reports.pnl(scope, since.date())
    positions = reports.positions(scope)
    return Figures(
        now=rows[0],
        written_at=written_at,
        since=since,
        until=until,
        days=days,
        curve=shown,
        positions=positions,
        products=_products(daily, positions, fills),
        daily=daily,
        trades=trades,
        fills=fills,
        outcomes=outcomes,
        breaker_events=[
            event
            for event in reports.breaker_events(since=since)
            if event.from_state and concerns(event.scope, rows[0].book, plan)
        ],
        breaks=reports.breaks(scope, open_only=True),
        statistics=_statistics(shown, trades, fills, outcomes),
        costs=summed(order_costs(reports, scope, since), "product"),
    )


def concerns(scope: str, book: str, plan: str) -> bool:
    """Does a breaker of this scope bind orders of the plan?"""
    kind, _, rest = scope.partition(":")
    return kind in ("global", "venue") or rest in (book, f"{book}:{plan}") or (kind == "product" and rest.startswith(f"{book}:"))


def _products(daily: Sequence[PnlRow], positions: Sequence[PositionRow], fills: Sequence[FillRow]) -> list[ProductResult]:
    held = {position.product: position for position in positions}
    counts = Counter(fill.product for fill in fills)
    realised, fees = defaultdict[str, Decimal](Decimal), defaultdict[str, Decimal](Decimal)
    for row in daily:
        realised[row.product] += row.realised
        if row.product.endswith(f"-{row.asset}"):
            fees[row.product] += row.fees
    return [
        ProductResult(
            product=name,
            realised=realised[name],
            fees=fees[name],
            unrealised=held[name].unrealised if name in held else ZERO,
            fills=counts[name],
        )
        for name in sorted(realised.keys() | held.keys() | counts.keys())
    ]


def _statistics(
    curve: Sequence[EquityPoint], trades: Sequence[TradeRow], fills: Sequence[FillRow], outcomes: Mapping[str, int]
) -> dict[str, float | None]:
    """The statistics by the keys of `markdown.STATISTICS`; each is defined where it is computed."""
    marks = performance.equity_curve([(point.at, float(point.equity)) for point in curve])
    results = [float(trade.realised - trade.fees) for trade in trades]
    arrivals = [(fill.side, float(fill.quantity), float(fill.price), float(fill.decision_price)) for fill in fills]
    waits = [(fill.seen_at - fill.staged_at).total_seconds() for fill in fills]
    return {
        "total_return": performance.total_return(marks),
        "sharpe": performance.sharpe(marks),
        "sortino": performance.sortino(marks),
        "volatility": performance.annualised_volatility(marks),
        "max_drawdown": performance.max_drawdown(marks),
        "value_at_risk": performance.value_at_risk(marks),
        "expected_shortfall": performance.expected_shortfall(marks),
        "win_rate": performance.win_rate(results),
        "profit_factor": performance.profit_factor(results),
        "success_rate": performance.success_rate(*_ended(outcomes)),
        "slippage_mean": performance.slippage(arrivals),
        "slippage_worst": max((performance.slippage_of(side, price, mid) for side, _, price, mid in arrivals), default=None),
        "latency_median": performance.percentile(waits, 0.5),
        "latency_p95": performance.percentile(waits, 0.95),
    }


def _ended(outcomes: Mapping[str, int]) -> tuple[int, int]:
    """(orders that are done, those of them that failed): what is still live has neither succeeded nor failed."""
    ended = {state: count for state, count in outcomes.items() if state not in LIVE_STATES}
    failed = sum(ended.get(state, 0) for state in (State.REJECTED, State.ABANDONED, State.ABSENT))
    return sum(ended.values()), failed
