"""Any history of fills, fees, movements and take-backs leaves books that balance, and lots that say the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.amend import Posted, rebook, undo
from trading.ledger import Booking, book_fill, unbalanced
from trading.lots import Lot, LotMethod, Lots, lots_by
from trading.money import ZERO
from trading.movements import Movement, MovementKind, Venue, book_movement
from trading.orders import Fill, Side

BOOK, PLAN, NOON = "paper:main", "default", datetime(2026, 1, 1, 12, tzinfo=UTC)
decimals = st.integers(1, 10**9).map(lambda units: Decimal(units) / 10**6)
fees = st.tuples(st.integers(-(10**4), 10**5).map(lambda units: Decimal(units) / 10**7), st.sampled_from(["USD", "BTC", "BNB"]))
trade = st.tuples(st.sampled_from(Side), decimals, decimals, fees)


def fills_of(trades: list[tuple[Side, Decimal, Decimal, tuple[Decimal, str]]]) -> list[Fill]:
    return [
        Fill(
            entry_id=f"e{number}", trade_id=f"t{number}", exchange_order_id="x", client_order_id=None, product="BTC-USD",
            side=side, quantity=quantity, price=price, fee=fee, fee_asset=asset, liquidity="taker",
            traded_at=NOON + timedelta(seconds=number),
        )
        for number, (side, quantity, price, (fee, asset)) in enumerate(trades)
    ]  # fmt: skip


class Books:
    """What a ledger would keep of bookings: sums by account, and what is left of each lot ever opened."""

    def __init__(self) -> None:
        self.accounts: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
        self.opened: dict[object, Lot] = {}
        self.left: dict[object, tuple[Decimal, Decimal]] = {}

    def write(self, booking: Booking) -> None:
        assert not unbalanced(booking.transaction)
        for account, amount in booking.transaction.postings:
            self.accounts[account.name] += amount
        for lot in booking.opened:
            assert lot.id not in self.opened, "a lot has one id for ever"
            self.opened[lot.id] = lot
            self.left[lot.id] = (lot.quantity, lot.cost)
        for match in booking.matches:
            quantity, cost = self.left[match.lot]
            self.left[match.lot] = (quantity - match.quantity, cost - match.cost)
            assert all(value >= 0 for value in self.left[match.lot])

    def standing(self) -> dict[str, Decimal]:
        return {name: amount for name, amount in self.accounts.items() if amount}

    def check(self, lots: Lots) -> None:
        left = sorted((left for left in self.left.values() if left[0]), key=lambda pair: (pair[0], pair[1]))
        assert left == sorted((lot.quantity, lot.cost) for lot in lots.lots)
        assert (lots.quantity, lots.cost) == tuple(sum((pair[place] for pair in left), ZERO) for place in (0, 1))
        assert self.accounts[f"{BOOK}:{PLAN}:trading:BTC-USD:USD"] == lots.cost
        assert self.accounts[f"{BOOK}:{PLAN}:trading:BTC-USD:BTC"] == -lots.quantity


def run(fills: list[Fill], method: LotMethod) -> tuple[Books, Lots, list[Posted]]:
    books, lots, posted = Books(), lots_by(method), []
    for fill in fills:
        booking = book_fill(lots, fill, BOOK, PLAN)
        books.write(booking)
        posted.append(Posted(booking, fill, tuple(books.opened[match.lot] for match in booking.matches)))
        books.check(lots)
    return books, lots, posted


@given(st.lists(trade, max_size=12), st.sampled_from(LotMethod))
def test_lots_and_trading_accounts_say_the_same_after_every_fill(
    trades: list[tuple[Side, Decimal, Decimal, tuple[Decimal, str]]], method: LotMethod
) -> None:
    books, _, _ = run(fills_of(trades), method)
    held = dict.fromkeys(("BTC", "USD", "BNB"), ZERO)  # an oracle that knows neither lots nor accounts
    for fill in fills_of(trades):
        held["BTC"] += fill.side.sign * fill.quantity
        held["USD"] -= fill.side.sign * fill.quantity * fill.price
        held[fill.fee_asset] -= fill.fee
    assert {asset: books.accounts[f"{BOOK}:{PLAN}:venue:{asset}"] for asset in held} == held


@given(st.lists(trade, min_size=1, max_size=10), st.data(), st.sampled_from(LotMethod), st.booleans())
def test_taking_a_fill_back_leaves_the_books_that_would_have_been_without_it(
    trades: list[tuple[Side, Decimal, Decimal, tuple[Decimal, str]]],
    data: st.DataObject,
    method: LotMethod,
    corrects: bool,
) -> None:
    fills = fills_of(trades)
    books, lots, posted = run(fills, method)
    place = data.draw(st.integers(0, len(fills) - 1))
    corrected = replace(fills[place], entry_id="c", quantity=fills[place].quantity / 2) if corrects else None
    for booking in rebook(lots, posted[place:], BOOK, PLAN, corrected):
        books.write(booking)
    books.check(lots)
    without, their_lots, _ = run([*fills[:place], *([corrected] if corrected else []), *fills[place + 1 :]], method)
    assert books.standing() == without.standing()
    ours = sorted((lot.acquired_at, lot.quantity, lot.cost) for lot in lots.lots)
    assert ours == sorted((lot.acquired_at, lot.quantity, lot.cost) for lot in their_lots.lots)


def test_a_reversal_is_the_exact_negative() -> None:
    _, _, (posted,) = run(fills_of([(Side.BUY, Decimal(1), Decimal(100), (Decimal("0.1"), "BTC"))]), LotMethod.FIFO)
    back = undo(posted.booking)
    assert back.transaction.reverses == posted.booking.transaction.id
    sums: defaultdict[object, Decimal] = defaultdict(lambda: ZERO)
    for account, amount in (*posted.booking.transaction.postings, *back.transaction.postings):
        sums[account] += amount
    assert not any(sums.values())


@pytest.mark.parametrize(("method", "cost"), [(LotMethod.FIFO, 100), (LotMethod.HIFO, 300), (LotMethod.AVERAGE, 200)])
def test_each_method_gives_up_its_own_lot(method: LotMethod, cost: int) -> None:
    fills = fills_of([(Side.BUY, Decimal(1), Decimal(price), (ZERO, "USD")) for price in (100, 300, 200)])
    lots = lots_by(method)
    for fill in fills:
        book_fill(lots, fill, BOOK, PLAN)
    assert sum(match.cost for match in lots.take(Decimal(1), Decimal(250))) == cost


@given(st.lists(st.tuples(decimals, decimals), min_size=2, max_size=20))
def test_the_dearest_lot_goes_first_and_of_equals_the_oldest(bought: list[tuple[Decimal, Decimal]]) -> None:
    lots = lots_by(LotMethod.HIFO)
    for fill in fills_of([(Side.BUY, quantity, price, (ZERO, "USD")) for quantity, price in bought]):
        book_fill(lots, fill, BOOK, PLAN)
    by_id = {lot.id: lot for lot in lots.lots}
    given_up = [by_id[match.lot] for match in lots.take(lots.quantity, ZERO)]
    assert all(
        (-one.cost / one.quantity, one.acquired_at) <= (-other.cost / other.quantity, other.acquired_at)
        for one, other in pairwise(given_up)
    )


MOVEMENTS = [
    (MovementKind.DEPOSIT, "USD", None, "venue:USD 500, equity:USD -500"),
    (MovementKind.WITHDRAWAL, "USD", None, "venue:USD -500, equity:USD 500"),
    (MovementKind.DEPOSIT, "BTC", Decimal(2), "venue:BTC 500, trading:BTC -500, trading:USD 1000, equity:USD -1000"),
    (MovementKind.DEPOSIT, "BTC", None, "venue:BTC 500, suspense:BTC -500"),
    (MovementKind.INCOME, "BTC", Decimal(2), "venue:BTC 500, trading:BTC -500, trading:USD 1000, income:USD -1000"),
    (MovementKind.INCOME, "JUNK", None, "venue:JUNK 500, quarantine:JUNK -500"),
    (MovementKind.WITHDRAWAL, "BTC", None,
     "venue:BTC -500, trading:BTC 100, trading:USD -300, equity:USD 300, suspense:BTC 400"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "asset", "price", "lines"), MOVEMENTS)
def test_each_movement_is_booked_as_the_table_says(kind: MovementKind, asset: str, price: Decimal | None, lines: str) -> None:
    lots = Lots([Lot(UUID(int=1), Decimal(100), Decimal(300), NOON)])
    movement = Movement(entry_id="m", kind=kind, asset=asset, amount=Decimal(500), happened_at=NOON)
    booking = book_movement(lots, movement, Venue(BOOK, PLAN, "USD"), price=price, listed=asset != "JUNK")
    assert {f"{account.kind}:{account.asset}": amount for account, amount in booking.transaction.postings} == {
        name: Decimal(amount) for name, amount in (line.split() for line in lines.split(", "))
    }
    assert not unbalanced(booking.transaction)
