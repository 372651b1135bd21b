"""One reading of a plan's books for the screens: dashboard, terminal and metrics show this and compute nothing of their own.

Ages are not in here: a snapshot holds times, and whoever shows it subtracts them from the clock at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading.orders import State
from trading.report.figures import concerns
from trading.store.reports import Reports, Scope
from trading.store.rows import (
    BreakerStateRow,
    BreakRow,
    CycleRow,
    EquityRow,
    FillRow,
    HeartbeatRow,
    OrderRow,
    PositionRow,
    VerdictRow,
)
from trading.store.usage import PlanRisk, plan_risk

ORDERS_SHOWN, CYCLES_SHOWN = 200, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What stands in the books of one plan; lists are newest first."""

    scope: Scope
    taken_at: datetime
    """Wall time of the reading."""
    market_at: datetime
    """Wall time, or where a replay stands: what day and week are counted by."""
    equity: EquityRow
    positions: Sequence[PositionRow]
    results: Mapping[str, tuple[Decimal, Decimal]]
    """Product -> (realised, fees) since the opening."""
    stops: Mapping[str, Decimal]
    orders: Sequence[OrderRow]
    fills: Sequence[FillRow]
    outcomes: dict[str, int]
    breakers: Sequence[BreakerStateRow]
    breaks: Sequence[BreakRow]
    cycles: Sequence[CycleRow]
    verdicts: Sequence[VerdictRow]
    heartbeats: Sequence[HeartbeatRow]
    reconciliations: Sequence[dict[str, Any]]
    anchored_at: datetime | None
    risk: PlanRisk | None

    @property
    def mode(self) -> str:
        return self.equity.book.split(":", 1)[0]

    @property
    def doubts(self) -> int:
        return self.outcomes.get(State.IN_DOUBT, 0)

    @property
    def total(self) -> Decimal | None:
        """Won or lost since the opening, after fees."""
        return None if self.equity.equity is None else self.equity.equity - self.equity.capital

    @property
    def halted(self) -> Sequence[BreakerStateRow]:
        """The breakers that are not closed."""
        return [row for row in self.breakers if row.state != "closed"]


def desks(reports: Reports) -> list[Scope]:
    """Every plan that has books, those with real orders first. Raises LedgerUnavailable."""
    order = {"live": 0, "rehearsal": 1, "paper": 2}
    found = [Scope(mode=book.split(":")[0], portfolio=book.split(":")[1], plan=plan) for book, plan in reports.plans()]
    return sorted(found, key=lambda scope: (order.get(str(scope.mode), 3), str(scope.portfolio), str(scope.plan)))


def take(reports: Reports, scope: Scope, now: datetime) -> Snapshot | None:
    """The books of the plan that the scope names, as they are now; None for a plan without books. Raises LedgerUnavailable."""
    positions = reports.positions(scope)
    rows = reports.equity(scope, positions)
    if not rows:
        return None
    [equity] = rows
    cycles = reports.cycles(scope, CYCLES_SHOWN)
    market_at = cycles[0].market_at if cycles and equity.source.startswith("replay:") else now
    return Snapshot(
        scope=scope,
        taken_at=now,
        market_at=market_at,
        equity=equity,
        positions=positions,
        results=reports.results(scope),
        stops=reports.stops(scope),
        orders=reports.orders(scope, newest=ORDERS_SHOWN)[::-1],
        fills=reports.fills(scope, newest=ORDERS_SHOWN)[::-1],
        outcomes=reports.outcomes(scope),
        breakers=[row for row in reports.breakers() if concerns(row.scope, equity.book, equity.plan)],
        breaks=reports.breaks(scope, open_only=True),
        cycles=cycles,
        verdicts=reports.verdicts(scope, CYCLES_SHOWN),
        heartbeats=reports.heartbeats(),
        reconciliations=reports.reconciliation(scope),
        anchored_at=reports.anchored_at(),
        risk=plan_risk(reports, equity, positions, market_at),
    )
