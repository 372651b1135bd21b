"""The simulated venue's matching against a naive one that sorts a list each time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from trading.simulator.book import Book, Resting, Side, other, within


@dataclass(frozen=True)
class Waiting:
    number: int
    side: Side
    price: Decimal
    left: Decimal


Trade = tuple[int, int, Decimal, Decimal]


class Naive:
    """All orders in one list: the best is found by sorting."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []

    def enter(self, order: Waiting) -> list[Trade]:
        trades: list[Trade] = []
        while order.left:
            facing = [one for one in self.waiting if one.side != order.side and within(order.side, one.price, order.price)]
            facing.sort(key=lambda one: (one.price if order.side == "BUY" else -one.price, one.number))
            if not facing:
                self.waiting.append(order)
                break
            met = facing[0]
            part = min(met.left, order.left)
            trades.append((order.number, met.number, met.price, part))
            self.waiting.remove(met)
            if met.left > part:
                self.waiting.append(replace(met, left=met.left - part))
            order = replace(order, left=order.left - part)
        return trades

    def cancel(self, number: int) -> None:
        self.waiting = [one for one in self.waiting if one.number != number]


def enter(book: Book, order: Waiting) -> list[Trade]:
    """As the floor does it: from the front of the other side, then rest."""
    trades, left = [], order.left
    while left and (met := book.first(other(order.side))) is not None and within(order.side, met.price, order.price):
        part = min(left, met.left)
        trades.append((order.number, int(met.id), met.price, part))
        book.reduce(met, part)
        left -= part
    if left:
        book.add(Resting(str(order.number), "user", order.side, order.price, left))
    return trades


steps = st.lists(
    st.tuples(st.sampled_from(["enter", "enter", "cancel"]), st.sampled_from(get_args(Side)), st.integers(95, 105),
              st.integers(1, 9)),
    max_size=60,
)  # fmt: skip


@given(steps)
def test_the_book_trades_as_the_naive_book_does(script: list[tuple[str, Side, int, int]]) -> None:
    book, naive = Book(), Naive()
    for number, (step, side, price, quantity) in enumerate(script):
        if step == "cancel":
            book.remove(str(number % (quantity * 3)))
            naive.cancel(number % (quantity * 3))
        else:
            order = Waiting(number, side, Decimal(price), Decimal(quantity))
            assert enter(book, order) == naive.enter(order)
        for half in get_args(Side):
            ours = sorted((int(one.id), one.price, one.left) for one in book.waiting(half))
            assert ours == sorted((one.number, one.price, one.left) for one in naive.waiting if one.side == half)
            assert sum((size for _, size in book.levels(half)), Decimal(0)) == sum((left for _, _, left in ours), Decimal(0))
