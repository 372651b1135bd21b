"""The rows that the ledger's readings return: what each column means, its unit and sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from trading.money import text


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """An order as it stands. `quantity` and `filled` in base, `price` (limit or stop; None at the market) in quote."""

    client_order_id: UUID
    exchange_order_id: str | None
    mode: str
    book: str
    plan: str
    strategy: str
    slot: str
    product: str
    leg: int
    side: str
    type: str
    quantity: Decimal
    price: Decimal | None
    state: str
    filled: Decimal
    reason: str
    decision: str
    """Why it was wanted; `reason` is the last word on it."""
    decision_price: Decimal
    decided_at: datetime
    created_at: datetime
    sent_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FillRow:
    """One execution. `decided_at` is market time, `staged_at` and `seen_at` wall time."""

    entry_id: str
    client_order_id: UUID
    exchange_order_id: str
    book: str
    plan: str
    slot: str
    product: str
    side: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: str
    decision_price: Decimal
    decided_at: datetime
    traded_at: datetime
    staged_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionRow:
    """What a plan holds of a product, marked at `price`: the newest stored candle's close, of time `priced_at`.

    Price and unrealised are None where no candle is stored: an unknown mark is never a zero.
    """

    book: str
    plan: str
    product: str
    quantity: Decimal
    cost: Decimal
    price: Decimal | None
    priced_at: datetime | None

    @property
    def value(self) -> Decimal | None:
        return None if self.price is None else self.quantity * self.price

    @property
    def unrealised(self) -> Decimal | None:
        return None if self.value is None else self.value - self.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class PnlRow:
    """A product's results of one UTC day, in `asset`: `realised` before fees (plus = gain), `fees` positive."""

    day: date
    book: str
    plan: str
    product: str
    asset: str
    realised: Decimal
    fees: Decimal

    @property
    def net(self) -> Decimal:
        return self.realised - self.fees


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityRow:
    """A plan's share of a portfolio, in `asset`. Equity and unrealised are None when a holding has no price."""

    book: str
    plan: str
    asset: str
    source: str
    capital: Decimal
    cash: Decimal
    realised: Decimal
    fees: Decimal
    equity: Decimal | None
    unrealised: Decimal | None

    @property
    def exposure(self) -> Decimal | None:
        """The invested share of equity; None where equity is not known, or is not positive."""
        return None if self.equity is None or self.equity <= 0 else 1 - self.cash / self.equity


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityPoint:
    """One stored mark, at market time."""

    book: str
    plan: str
    at: datetime
    equity: Decimal
    cash: Decimal
    unrealised: Decimal
    realised: Decimal
    fees: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeRow:
    """One sale with what it had cost (FIFO), in quote and before fees; `fees` are those of the sale's own fill."""

    at: datetime
    book: str
    plan: str
    product: str
    quantity: Decimal
    cost: Decimal
    proceeds: Decimal
    realised: Decimal
    fees: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStateRow:
    """One scope's breaker; `at` is the market time of its last move, `level` is set while it is open."""

    scope: str
    state: str
    level: str | None
    generation: int
    reason: str
    at: datetime
    resumable_at: datetime | None
    test_until: datetime | None
    opened_by: str
    resumed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerEventRow:
    scope: str
    generation: int
    from_state: str | None
    to_state: str
    level: str | None
    reason: str
    actor: str
    violations: list[dict[str, Any]]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakRow:
    """A difference that reconciliation found; `class_` is its kind, severity 1 the worst."""

    id: UUID
    book: str
    class_: str
    severity: int
    subject: str
    asset: str
    ours: str
    theirs: str
    opened_at: datetime
    resolved_at: datetime | None
    resolution: str | None
    resolved_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleRow:
    book: str
    plan: str
    slot_at: datetime
    epoch: int
    state: str
    reason: str
    market_at: datetime
    plan_sha: str
    candles_sha: str | None
    flow_run_id: str | None
    started_at: datetime
    finished_at: datetime | None
    summary: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRow:
    """What a process last said of itself, at wall time; `stopped`: it ended as it was told to."""

    process: str
    at: datetime
    version: str
    configuration: str
    stopped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRow:
    """What the data gate found for one slot; `at` is wall time."""

    book: str
    plan: str
    slot_at: datetime
    at: datetime
    passed: bool
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    seq: int
    at: str
    actor: str
    kind: str
    flow_run_id: str
    task_run_id: str


_SPELLINGS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (Decimal, text),
    (datetime, lambda at: at.astimezone(UTC).isoformat().replace("+00:00", "Z")),
    (date, str),
    (UUID, str),
    (PurePath, str),
    (Enum, lambda member: member.value),
)


def plain(value: Any) -> Any:
    """JSON-able: Decimals as plain text, times as ISO 8601 UTC, rows as objects with their properties."""
    for kind, spell in _SPELLINGS:
        if isinstance(value, kind):
            return spell(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        derived = [name for name, item in vars(type(value)).items() if isinstance(item, property)]
        return {name.rstrip("_"): plain(getattr(value, name)) for name in (*value.__dataclass_fields__, *derived)}
    return value
