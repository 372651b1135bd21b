"""A price-time order book of one product in Decimal: better prices first, at one price the older order first."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from trading.money import ZERO

Side = Literal["BUY", "SELL"]


def other(side: Side) -> Side:
    return "SELL" if side == "BUY" else "BUY"


@dataclass(slots=True)
class Resting:
    """An order that waits: who placed it, at which price, and how much of it (base) is left."""

    id: str
    owner: str
    side: Side
    price: Decimal
    left: Decimal


@dataclass(slots=True)
class _Half:
    """One side. `prices` is ascending; `queues` holds at each price the orders, oldest first."""

    prices: list[Decimal] = field(default_factory=list)
    queues: dict[Decimal, dict[str, Resting]] = field(default_factory=dict)

    def add(self, order: Resting) -> None:
        if order.price not in self.queues:
            insort(self.prices, order.price)
            self.queues[order.price] = {}
        self.queues[order.price][order.id] = order

    def remove(self, order: Resting) -> None:
        queue = self.queues[order.price]
        del queue[order.id]
        if not queue:
            del self.queues[order.price]
            del self.prices[bisect_left(self.prices, order.price)]


@dataclass(slots=True)
class Book:
    """The orders of one product that wait, both sides. Nothing crosses: whoever adds an order has matched it before."""

    _halves: dict[Side, _Half] = field(default_factory=lambda: {"BUY": _Half(), "SELL": _Half()})
    _orders: dict[str, Resting] = field(default_factory=dict)

    def add(self, order: Resting) -> None:
        self._orders[order.id] = order
        self._halves[order.side].add(order)

    def remove(self, id_: str) -> Resting | None:
        """Takes the order out; None when it does not wait here."""
        order = self._orders.pop(id_, None)
        if order is not None:
            self._halves[order.side].remove(order)
        return order

    def reduce(self, order: Resting, quantity: Decimal) -> None:
        """Lowers what is left in place, so that it keeps its turn; at nothing it is gone."""
        order.left -= quantity
        if order.left <= 0:
            self.remove(order.id)

    def remove_owned(self, owner: str) -> None:
        for id_ in [id_ for id_, order in self._orders.items() if order.owner == owner]:
            self.remove(id_)

    def best(self, side: Side) -> Decimal | None:
        prices = self._halves[side].prices
        if not prices:
            return None
        return prices[-1] if side == "BUY" else prices[0]

    def waiting(self, side: Side) -> Iterator[Resting]:
        """The orders of a side in the order in which they would trade. The book may not change meanwhile."""
        half = self._halves[side]
        for price in reversed(half.prices) if side == "BUY" else half.prices:
            yield from half.queues[price].values()

    def first(self, side: Side) -> Resting | None:
        return next(self.waiting(side), None)

    def levels(self, side: Side, most: int | None = None) -> list[tuple[Decimal, Decimal]]:
        """(price, quantity) per level, best first."""
        half = self._halves[side]
        prices = list(reversed(half.prices)) if side == "BUY" else half.prices
        return [(price, sum((order.left for order in half.queues[price].values()), ZERO)) for price in prices[:most]]


def within(taker: Side, price: Decimal, bound: Decimal | None) -> bool:
    """May an order that takes trade at `price`, when `bound` is the worst price that it takes?"""
    return bound is None or (price <= bound if taker == "BUY" else price >= bound)
