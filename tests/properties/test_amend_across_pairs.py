"""Fees in a third asset tie pairs together: taking a fill back re-runs every pair that it reaches, and no other."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.amend import Posted, affected, pairs, rebook
from trading.errors import BooksRefused
from trading.ledger import Booking, book_fill, unbalanced
from trading.lots import Lot, LotMethod, Lots, lots_by
from trading.money import ZERO, ledger_round
from trading.orders import Fill, Side

BOOK, PLAN, NOON = "paper:main", "default", datetime(2026, 1, 1, 12, tzinfo=UTC)
PRODUCTS = ("BTC-USD", "ETH-USD", "BNB-USD")
Trade = tuple[str, Side, Decimal, Decimal, Decimal, str]

amounts = st.integers(1, 10**6).map(lambda units: Decimal(units) / 10**5)
fees = st.integers(-(10**4), 10**5).map(lambda units: Decimal(units) / 10**7)
fee_assets = st.sampled_from(["USD", "BTC", "BNB"])
trade = st.tuples(st.sampled_from(PRODUCTS), st.sampled_from(Side), amounts, amounts, fees, fee_assets)
histories = st.lists(trade, min_size=1, max_size=10)


def fills_of(trades: list[Trade]) -> list[Fill]:
    return [
        Fill(
            entry_id=f"e{number}", trade_id=f"t{number}", exchange_order_id="x", client_order_id=None, product=product,
            side=side, quantity=quantity, price=price, fee=fee, fee_asset=asset, liquidity="taker",
            traded_at=NOON + timedelta(seconds=number),
        )
        for number, (product, side, quantity, price, fee, asset) in enumerate(trades)
    ]  # fmt: skip


class Books:
    """A plan's books: lots by pair, sums by account, and each lot as it was opened and as it is left."""

    def __init__(self, method: LotMethod) -> None:
        self.lots: dict[str, Lots] = {product: lots_by(method) for product in ("BTC-USD", "ETH-USD", "BNB-USD")}
        self.accounts: defaultdict[tuple[str, str, str], Decimal] = defaultdict(lambda: ZERO)
        self.opened: dict[UUID, tuple[str, Lot]] = {}
        self.left: dict[UUID, tuple[Decimal, Decimal]] = {}
        self.posted: list[Posted] = []

    def book(self, fill: Fill) -> None:
        """Books a fill of the venue."""
        fee_lots = next((self.lots[product] for product in pairs(fill) - {fill.product}), None)
        booking = book_fill(self.lots[fill.product], fill, BOOK, PLAN, fee_lots)
        self.write(booking, fill.product)
        taken = [self.opened[match.lot] for match in booking.matches]
        paid = frozenset(lot.id for product, lot in taken if product != fill.product)
        self.posted.append(Posted(booking, fill, tuple(lot for _, lot in taken), paid))

    def write(self, booking: Booking, product: str) -> None:
        """What the ledger does with the rows of a booking."""
        assert not unbalanced(booking.transaction)
        for account, amount in booking.transaction.postings:
            self.accounts[account.kind, account.product, account.asset] += amount
        for lot in booking.opened:
            assert lot.id not in self.opened, "a lot has one id for ever"
            self.opened[lot.id] = product, lot
            self.left[lot.id] = lot.quantity, lot.cost
        for match in booking.matches:
            quantity, cost = self.left[match.lot]
            self.left[match.lot] = quantity - match.quantity, cost - match.cost
            assert min(self.left[match.lot]) >= 0, "a lot is never over-consumed"

    def take_back(self, place: int, corrected: Fill | None = None) -> None:
        again = affected((posted.fill for posted in self.posted[place:]), corrected)
        history = [posted for posted in self.posted[place:] if posted.fill in again]
        product = history[0].fill.product
        products = {posted.fill.entry_id: posted.fill.product for posted in history}
        others = {other: lots for other, lots in self.lots.items() if other != product}
        for booking in rebook(self.lots[product], history, BOOK, PLAN, corrected, others):
            self.write(booking, products.get(booking.transaction.source_id, product))

    def check(self) -> None:
        """Both identities of each pair; and the lots in memory are those that the rows come to."""
        assert not any(cost for quantity, cost in self.left.values() if not quantity), "cost out plus cost left is cost in"
        for product, lots in self.lots.items():
            base, quote = product.split("-")
            rows = sorted(left for id_, left in self.left.items() if self.opened[id_][0] == product and left[0])
            assert rows == sorted((lot.quantity, lot.cost) for lot in lots.lots)
            assert (lots.quantity, lots.cost) == tuple(sum((row[place] for row in rows), ZERO) for place in (0, 1))
            assert self.accounts["trading", product, base] == -lots.quantity
            assert self.accounts["trading", product, quote] == lots.cost

    def says(self) -> tuple[object, object]:
        accounts = {account: amount for account, amount in self.accounts.items() if amount}
        return accounts, {name: sorted((lot.acquired_at, lot.quantity, lot.cost) for lot in lots.lots)
                          for name, lots in self.lots.items()}  # fmt: skip


def books_of(fills: list[Fill], method: LotMethod) -> Books:
    books = Books(method)
    for fill in fills:
        books.book(fill)
        books.check()
    return books


@given(histories, st.data(), st.sampled_from(LotMethod), st.booleans())
def test_taking_a_fill_back_leaves_the_books_of_all_pairs_as_if_it_had_never_been(
    trades: list[Trade], data: st.DataObject, method: LotMethod, corrects: bool
) -> None:
    fills = fills_of(trades)
    place = data.draw(st.integers(0, len(fills) - 1))
    wrong, fee_asset = fills[place], data.draw(fee_assets)
    corrected = replace(wrong, entry_id="c", price=wrong.price * 2, fee_asset=fee_asset) if corrects else None
    books = books_of(fills, method)
    books.take_back(place, corrected)
    books.check()
    rest = [*fills[:place], *([corrected] if corrected else []), *fills[place + 1 :]]
    assert books.says() == books_of(rest, method).says()


class Naive:
    """A second way to count: plain rows, searched anew at every step. Nothing of `trading.lots` is in it."""

    def __init__(self, method: LotMethod) -> None:
        self.method = method
        self.rows: dict[str, list[tuple[datetime, Decimal, Decimal]]] = {product: [] for product in PRODUCTS}
        self.income = ZERO

    def fill(self, fill: Fill) -> None:
        base, quote = fill.product.split("-")
        rebate = -min(fill.fee, ZERO) if fill.fee_asset == base else ZERO
        if fill.side is Side.BUY:
            self.gain(fill.product, fill.traded_at, fill.quantity + rebate, fill.notional)
        else:
            sold = min(fill.quantity, self.held(fill.product))
            money = fill.notional if sold == fill.quantity else ledger_round(fill.notional * sold / fill.quantity)
            self.income += money - self.lose(fill.product, sold)
            if rebate:
                self.gain(fill.product, fill.traded_at, rebate, ZERO)
        if fill.fee > 0 and (paid := f"{fill.fee_asset}-{quote}") in self.rows:
            self.lose(paid, min(fill.fee, self.held(paid)))

    def held(self, product: str) -> Decimal:
        return sum((quantity for _, quantity, _ in self.rows[product]), ZERO)

    def gain(self, product: str, at: datetime, quantity: Decimal, cost: Decimal) -> None:
        rows = self.rows[product]
        if self.method is LotMethod.AVERAGE and rows:
            ((at, *pooled),) = rows
            quantity, cost = quantity + pooled[0], cost + pooled[1]
            rows.clear()
        rows.append((at, quantity, cost))

    def turn(self, row: tuple[datetime, Decimal, Decimal]) -> tuple[Fraction, datetime]:
        return (-Fraction(row[2]) / Fraction(row[1]) if self.method is LotMethod.HIFO else Fraction(0)), row[0]

    def lose(self, product: str, quantity: Decimal) -> Decimal:
        rows, total = self.rows[product], ZERO
        while quantity:
            row = min(rows, key=self.turn)
            rows.remove(row)
            part = min(quantity, row[1])
            cost = row[2] if part == row[1] else ledger_round(row[2] * part / row[1])
            if part < row[1]:
                rows.append((row[0], row[1] - part, row[2] - cost))
            quantity, total = quantity - part, total + cost
        return total


@given(histories, st.sampled_from(LotMethod))
def test_a_second_way_of_counting_finds_the_same_lots_income_and_balances(trades: list[Trade], method: LotMethod) -> None:
    fills, naive = fills_of(trades), Naive(method)
    books = books_of(fills, method)
    venue: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for fill in fills:
        naive.fill(fill)
        base, quote = fill.product.split("-")
        venue[base] += fill.side.sign * fill.quantity
        venue[quote] -= fill.side.sign * fill.notional
        venue[fill.fee_asset] -= fill.fee
    assert books.says()[1] == {product: sorted(rows) for product, rows in naive.rows.items()}
    assert -sum(amount for (kind, _, _), amount in books.accounts.items() if kind == "income") == naive.income
    assert {asset: amount for asset, amount in venue.items() if amount} == {
        asset: amount for (kind, _, asset), amount in books.accounts.items() if kind == "venue" and amount
    }


def bnb_then_btc() -> Books:
    return books_of(
        fills_of(
            [
                ("BNB-USD", Side.BUY, Decimal(2), Decimal(300), ZERO, "USD"),
                ("ETH-USD", Side.BUY, Decimal(1), Decimal(3000), ZERO, "USD"),
                ("BTC-USD", Side.BUY, Decimal("0.1"), Decimal(60000), Decimal("0.5"), "BNB"),
            ]
        ),
        LotMethod.FIFO,
    )


def test_a_fee_in_a_third_asset_is_paid_from_its_lots_at_their_cost() -> None:
    books = bnb_then_btc()
    assert books.accounts["fees", "BTC-USD", "USD"] == 150
    assert (books.lots["BNB-USD"].quantity, books.lots["BNB-USD"].cost) == (Decimal("1.5"), Decimal(450))
    assert books.accounts["fees", "BTC-USD", "BNB"] == 0


def test_taking_back_the_coin_that_paid_a_fee_posts_that_fee_anew_and_leaves_other_pairs_alone() -> None:
    books = bnb_then_btc()
    assert [fill.product for fill in affected(posted.fill for posted in books.posted)] == ["BNB-USD", "BTC-USD"]
    books.take_back(0)
    books.check()
    assert books.accounts["fees", "BTC-USD", "USD"] == 0
    assert books.accounts["fees", "BTC-USD", "BNB"] == Decimal("0.5")


def test_a_pair_that_is_left_out_of_a_rerun_is_refused() -> None:
    books = bnb_then_btc()
    with pytest.raises(BooksRefused, match="moved lots of"):
        rebook(books.lots["BTC-USD"], books.posted[2:], BOOK, PLAN)


def test_a_rerun_without_a_later_sale_is_refused() -> None:
    books = books_of(
        fills_of([("BTC-USD", side, Decimal(1), Decimal(100), ZERO, "USD") for side in (Side.BUY, Side.SELL)]), LotMethod.FIFO
    )
    with pytest.raises(BooksRefused, match="the history has a gap"):
        rebook(books.lots["BTC-USD"], books.posted[:1], BOOK, PLAN)
