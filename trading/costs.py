"""What trading cost: the implementation shortfall of an order, and the parts that it is made of.

Perold, "The implementation shortfall: paper versus reality" (Journal of Portfolio Management, 1988): the difference between
a paper portfolio, which trades every decision whole, at the price of the decision and for nothing, and the real one. All
amounts are in the quote asset, all ratios in basis points of the decision's notional; positive = worse for us.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from trading.errors import ConfigurationError
from trading.money import ZERO
from trading.orders import Side

PARTS = ("delay", "spread", "impact", "fees", "opportunity")
BASIS_POINTS = Decimal(10_000)

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    """What became of one order that may not trade any more. Prices in quote per base, quantities in base."""

    side: Side
    quantity: Decimal
    decision_price: Decimal
    """Close of the slot's candle; the arrival mid of an order that no slot decided."""
    arrival_mid: Decimal
    """Middle of the quote that the order was made on, in the run that sent it."""
    half_spread: Decimal
    """Half of ask minus bid then; zero where no quote was kept: the impact holds the spread then."""
    filled: Decimal = ZERO
    paid: Decimal = ZERO
    """Sum of quantity × price of its fills."""
    fees: Decimal = ZERO
    later_price: Decimal | None = None
    """Close at the next decision, which decides anew about what was not filled; None while it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The parts of a shortfall, in quote, positive = worse; `notional` is what the decision was worth."""

    notional: Decimal = ZERO
    delay: Decimal = ZERO
    """From the decision's price to the arrival mid, on what was filled."""
    spread: Decimal = ZERO
    """Half the spread, on what was filled: the price of not waiting. A maker gets it back as negative impact."""
    impact: Decimal = ZERO
    """From the touch to the average fill: slippage beyond the best price; negative where it was better."""
    fees: Decimal = ZERO
    opportunity: Decimal = ZERO
    """What was not filled, from the decision's price to the close at the next decision."""

    @property
    def shortfall(self) -> Decimal:
        """The implementation shortfall: exactly the sum of the parts."""
        return sum((getattr(self, part) for part in PARTS), ZERO)

    def basis_points(self, part: str = "shortfall") -> Decimal | None:
        """A part, or the whole, in basis points of the notional; None without one."""
        value: Decimal = getattr(self, part)
        return value / self.notional * BASIS_POINTS if self.notional else None

    def __add__(self, other: Costs) -> Costs:
        return Costs(**{name: getattr(self, name) + getattr(other, name) for name in ("notional", *PARTS)})


def costs_of(order: Traded) -> Costs | None:
    """The shortfall of one order by its parts (Perold 1988); None while what it missed has no price yet.

    A buy of 2 decided at 100, arriving at 101 between 100.5 and 101.5, that fills 1 at 102 for a fee of 0.1, with a next close
    of 105: delay 1, spread 0.5, impact 0.5, fees 0.1, opportunity 5; in sum 7.1 of a notional of 200, or 355 basis points.
    """
    sign, missed = order.side.sign, order.quantity - order.filled
    if missed and order.later_price is None:
        return None
    spread = order.filled * order.half_spread
    gap = ZERO if order.later_price is None else order.later_price - order.decision_price
    return Costs(
        notional=order.quantity * order.decision_price,
        delay=sign * order.filled * (order.arrival_mid - order.decision_price),
        spread=spread,
        impact=sign * (order.paid - order.filled * order.arrival_mid) - spread,
        fees=order.fees,
        opportunity=sign * missed * gap,
    )


def shortfall(order: Traded) -> Decimal:
    """The same whole without its parts: what the real trade and the missed one cost more than the paper one, in quote.

    Raises ConfigurationError while what was missed has no price.
    """
    missed = order.quantity - order.filled
    if missed and order.later_price is None:
        raise ConfigurationError("shortfall: found no later price, expected the close at the next decision")
    real = order.side.sign * (order.paid - order.filled * order.decision_price) + order.fees
    later = order.decision_price if order.later_price is None else order.later_price
    return real + order.side.sign * missed * (later - order.decision_price)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCosts:
    """One order with what it cost; `costs` is None while a missed part has no price yet."""

    client_order_id: UUID
    book: str
    plan: str
    product: str
    side: str
    type: str
    state: str
    decided_at: datetime
    """Market time."""
    quantity: Decimal
    filled: Decimal
    decision_price: Decimal
    arrival_mid: Decimal
    average_price: Decimal | None
    costs: Costs | None
    unpriced: str = ""
    """Fees in an asset that is neither of the pair's: `0.1 BNB`, not part of the costs."""

    @property
    def asset(self) -> str:
        return self.product.split("-", 1)[1]


GROUPS: Mapping[str, Callable[[OrderCosts], str]] = {
    "product": lambda row: row.product,
    "side": lambda row: row.side,
    "type": lambda row: row.type,
    "hour": lambda row: f"{row.decided_at:%H}",
}
"""What costs can be summed by; `hour` is the hour of the day of the decision, market time, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSum:
    """The costs of a group of orders, all in one quote asset."""

    group: str
    asset: str
    orders: int
    unknown: int
    """Orders whose missed part has no price yet: not in the sum."""
    costs: Costs


def summed(rows: Iterable[OrderCosts], by: str | None = None) -> list[CostSum]:
    """The sums by group and quote asset, in the order of both; without `by` one sum for each asset, named `all`.

    Raises ConfigurationError for a grouping that does not exist.
    """
    if by is not None and by not in GROUPS:
        raise ConfigurationError(f"costs by {by}: expected one of {', '.join(GROUPS)}")
    named = GROUPS[by] if by else _all
    groups = _grouped(rows, lambda row: (named(row), row.asset))
    return [_summed(group, asset, members) for (group, asset), members in sorted(groups.items())]


def _all(_: OrderCosts) -> str:
    return "all"


def _grouped(rows: Iterable[OrderCosts], key: Callable[[OrderCosts], _Key]) -> dict[_Key, list[OrderCosts]]:
    groups: dict[_Key, list[OrderCosts]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _summed(group: str, asset: str, rows: list[OrderCosts]) -> CostSum:
    known = [row.costs for row in rows if row.costs is not None]
    return CostSum(group=group, asset=asset, orders=len(rows), unknown=len(rows) - len(known), costs=sum(known, Costs()))


def spelled(costs: Costs | None) -> dict[str, Any]:
    """Parts, sum and basis points by name, Decimals; every value None where the costs are not known."""
    names = ("notional", *PARTS, "shortfall")
    if costs is None:
        return dict.fromkeys((*names, "basis_points"))
    return {name: getattr(costs, name) for name in names} | {"basis_points": costs.basis_points()}
