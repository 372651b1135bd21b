"""Lots: what was bought, at what cost, and which of it a sale gives up first: by FIFO, HIFO or average, fixed per portfolio.

A part of a lot gives up its share of the cost, rounded at 18 decimals; an emptied lot gives its whole remaining cost. So cost out
plus cost left is cost in, to the last unit.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from trading.errors import BooksRefused
from trading.money import ZERO, ledger_round


class LotMethod(StrEnum):
    FIFO = "fifo"
    """The oldest first."""
    HIFO = "hifo"
    """The dearest per unit first; of equals the oldest."""
    AVERAGE = "average"
    """One lot of everything: a purchase gives the old one up and opens one of the sum."""


class Lot(NamedTuple):
    """A quantity bought, and its cost in quote: both are what is left of it."""

    id: UUID
    quantity: Decimal
    cost: Decimal
    acquired_at: datetime
    origin: str = "fill"
    """fill, deposit, income or correction."""
    basis_known: bool = True
    """False where the cost is a fair value, because nobody told what was paid."""


class Match(NamedTuple):
    """A part of a lot given up: its quantity, the cost that went out with it and what it brought.

    A reversal gives back what its original took: the same in the negative. Proceeds of zero are no sale: a fee paid in coin, a
    withdrawal, a lot that joins a pool.
    """

    lot: UUID
    quantity: Decimal
    cost: Decimal
    proceeds: Decimal


class Lots:
    """The lots of one product, oldest first. Mutable: it is the running state of a replay of fills."""

    __slots__ = ("cost", "lots", "quantity")
    method = LotMethod.FIFO

    def __init__(self, lots: Iterable[Lot] = ()) -> None:
        self.lots: Sequence[Lot] = self._arranged(lots)
        self.quantity = sum((lot.quantity for lot in self.lots), ZERO)
        self.cost = sum((lot.cost for lot in self.lots), ZERO)

    def open(self, lot: Lot) -> tuple[Lot, list[Match]]:
        """Adds a lot; returns the one that is opened for it, and what is given up for that (a pool only)."""
        self._put(lot)
        self.quantity += lot.quantity
        self.cost += lot.cost
        return lot, []

    def take(self, quantity: Decimal, proceeds: Decimal) -> list[Match]:
        """Gives up `quantity` in the order of the method. Proceeds are shared by quantity, the last match takes the remainder.

        Raises BooksRefused when less is held.
        """
        if quantity > self.quantity:
            raise BooksRefused(f"lots: {quantity} to give up, only {self.quantity} held")
        matches: list[Match] = []
        left, money_left = quantity, proceeds
        while left:
            lot = self.lots[0]
            part = min(left, lot.quantity)
            whole = part == lot.quantity
            cost = lot.cost if whole else ledger_round(lot.cost * part / lot.quantity)
            share = money_left if part == left else ledger_round(proceeds * part / quantity)
            matches.append(Match(lot.id, part, cost, share))
            if whole:
                self._drop_first()
            else:
                self._change_first(lot._replace(quantity=lot.quantity - part, cost=lot.cost - cost))
            left -= part
            money_left -= share
            self.quantity -= part
            self.cost -= cost
        return matches

    def become(self, other: Lots) -> None:
        """Takes over what the other holds, which must be of the same method."""
        self.lots, self.quantity, self.cost = other.lots, other.quantity, other.cost

    # The order of giving up lives in these four; `lots[0]` is always next.

    def _arranged(self, lots: Iterable[Lot]) -> Sequence[Lot]:
        return deque(lots)

    def _put(self, lot: Lot) -> None:
        if self.lots and lot.acquired_at <= self.lots[-1].acquired_at:  # a late fill: its age counts, not its arrival
            insort(self.lots, lot, key=_age)  # type: ignore[call-overload]  # a deque
        else:
            self.lots.append(lot)  # type: ignore[attr-defined]

    def _drop_first(self) -> None:
        self.lots.popleft()  # type: ignore[attr-defined]

    def _change_first(self, lot: Lot) -> None:
        self.lots[0] = lot  # type: ignore[index]


def _age(lot: Lot) -> tuple[datetime, UUID]:
    return lot.acquired_at, lot.id


class _Dearest(Lot):
    """A lot in a heap: the dearest per unit comes first, compared without dividing."""

    __slots__ = ()

    def __lt__(self, other: tuple[object, ...]) -> bool:
        assert isinstance(other, Lot)
        mine, theirs = self.cost * other.quantity, other.cost * self.quantity
        return mine > theirs if mine != theirs else (self.acquired_at, self.id) < (other.acquired_at, other.id)


class DearestFirst(Lots):
    """HIFO: the highest cost per unit first; of equals the oldest."""

    __slots__ = ()
    method = LotMethod.HIFO

    def _arranged(self, lots: Iterable[Lot]) -> list[Lot]:
        heap: list[Lot] = [_Dearest(*lot) for lot in lots]
        heapq.heapify(heap)
        return heap

    def _put(self, lot: Lot) -> None:
        heapq.heappush(self.lots, _Dearest(*lot))  # type: ignore[arg-type]  # a list

    def _drop_first(self) -> None:
        heapq.heappop(self.lots)  # type: ignore[arg-type]

    def _change_first(self, lot: Lot) -> None:
        heapq.heapreplace(self.lots, _Dearest(*lot))  # type: ignore[arg-type]


class Pool(Lots):
    """Average cost: one lot of everything, as old as its oldest part."""

    __slots__ = ()
    method = LotMethod.AVERAGE

    def open(self, lot: Lot) -> tuple[Lot, list[Match]]:
        quantity, cost = lot.quantity + self.quantity, lot.cost + self.cost
        since = min([lot.acquired_at, *(pooled.acquired_at for pooled in self.lots)])
        given_up = self.take(self.quantity, ZERO)
        opened, _ = super().open(lot._replace(quantity=quantity, cost=cost, acquired_at=since))
        return opened, given_up


_BY_METHOD: dict[LotMethod, type[Lots]] = {kind.method: kind for kind in (Lots, DearestFirst, Pool)}


def lots_by(method: LotMethod, lots: Iterable[Lot] = ()) -> Lots:
    """The lots in the order in which the method gives them up; `lots` oldest first."""
    return _BY_METHOD[method](lots)
