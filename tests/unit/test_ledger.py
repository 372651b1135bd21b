"""The books, in their own notation: what each fill posts, and that nothing is lost to rounding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from trading.errors import BooksRefused
from trading.ledger import Booking, book_fill, opening, unbalanced
from trading.lots import Lots
from trading.money import text
from trading.orders import Fill, Side

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOOK, PLAN = "paper:main", "default"


def fill(side: str, quantity: str, price: str, fee: str = "0", fee_asset: str = "USD", entry: str = "e1") -> Fill:
    return Fill(
        entry_id=entry, trade_id=entry, exchange_order_id="x", client_order_id=None, product="BTC-USD", side=Side(side),
        quantity=Decimal(quantity), price=Decimal(price), fee=Decimal(fee), fee_asset=fee_asset, liquidity="taker",
        traded_at=NOON + timedelta(seconds=int(entry[1:])),
    )  # fmt: skip


def journal(booking: Booking) -> dict[str, str]:
    """`venue:USD` -> amount, as one would write the entry on paper."""
    return {f"{account.kind}:{account.asset}": text(amount) for account, amount in booking.transaction.postings}


def test_a_buy_moves_cash_to_a_lot_and_its_fee_to_fees() -> None:
    lots = Lots()
    booking = book_fill(lots, fill("buy", "0.1", "60000", "15"), BOOK, PLAN)
    assert journal(booking) == {
        "venue:USD": "-6015", "venue:BTC": "0.1", "trading:BTC": "-0.1", "trading:USD": "6000", "fees:USD": "15",
    }  # fmt: skip
    assert (lots.quantity, lots.cost) == (Decimal("0.1"), Decimal(6000))


def test_a_sale_realises_proceeds_minus_the_cost_of_the_oldest_lots() -> None:
    lots = Lots()
    book_fill(lots, fill("buy", "0.1", "60000", "15"), BOOK, PLAN)
    booking = book_fill(lots, fill("sell", "0.04", "65000", "10", entry="e2"), BOOK, PLAN)
    assert journal(booking) == {
        "venue:USD": "2590", "venue:BTC": "-0.04", "trading:BTC": "0.04", "trading:USD": "-2400",
        "income:USD": "-200", "fees:USD": "10",
    }  # fmt: skip
    assert booking.realised == Decimal(200)
    assert (lots.quantity, lots.cost) == (Decimal("0.06"), Decimal(3600))


def test_a_sale_over_two_lots_takes_the_older_one_first() -> None:
    lots = Lots()
    book_fill(lots, fill("buy", "1", "100"), BOOK, PLAN)
    book_fill(lots, fill("buy", "1", "300", entry="e2"), BOOK, PLAN)
    booking = book_fill(lots, fill("sell", "1.5", "400", entry="e3"), BOOK, PLAN)
    assert [(match.quantity, match.cost) for match in booking.matches] == [(1, 100), (Decimal("0.5"), 150)]
    assert lots.cost == 150


def test_thirds_of_a_lot_add_up_to_its_cost_to_the_last_unit() -> None:
    lots = Lots()
    book_fill(lots, fill("buy", "3", "0.333333333333333333"), BOOK, PLAN)
    cost = lots.cost
    out = [book_fill(lots, fill("sell", "1", "1", entry=f"s{n}"), BOOK, PLAN).matches[0].cost for n in range(3)]
    assert sum(out) == cost
    assert lots.cost == 0


def test_a_fee_in_the_base_asset_is_paid_from_the_oldest_lots_at_their_cost() -> None:
    lots = Lots()
    booking = book_fill(lots, fill("buy", "1", "100", "0.01", "BTC"), BOOK, PLAN)
    assert journal(booking) == {
        "venue:USD": "-100", "venue:BTC": "0.99", "trading:BTC": "-0.99", "trading:USD": "99", "fees:USD": "1",
    }  # fmt: skip
    assert (lots.quantity, lots.cost) == (Decimal("0.99"), Decimal(99))


def test_a_fee_in_a_third_asset_is_expensed_in_that_asset() -> None:
    booking = book_fill(Lots(), fill("buy", "1", "100", "0.2", "BNB"), BOOK, PLAN)
    assert journal(booking)["fees:BNB"] == "0.2"
    assert journal(booking)["venue:BNB"] == "-0.2"
    assert not unbalanced(booking.transaction)


def test_a_negative_fee_is_a_rebate_that_is_booked_as_the_venue_says() -> None:
    booking = book_fill(Lots(), fill("buy", "1", "100", "-0.0123456789012345"), BOOK, PLAN)
    assert journal(booking)["fees:USD"] == "-0.0123456789012345"
    assert journal(booking)["venue:USD"] == "-99.9876543210987655"


def test_a_sale_of_more_than_is_held_is_booked_and_the_rest_stands_in_suspense() -> None:
    lots = Lots()
    book_fill(lots, fill("buy", "1", "100"), BOOK, PLAN)
    booking = book_fill(lots, fill("sell", "3", "200", entry="e2"), BOOK, PLAN)
    assert booking.uncovered == 2
    assert journal(booking) == {
        "venue:USD": "600", "venue:BTC": "-3", "trading:BTC": "1", "trading:USD": "-100", "income:USD": "-100",
        "suspense:BTC": "2", "suspense:USD": "-400",
    }  # fmt: skip


def test_lots_themselves_give_up_no_more_than_they_hold() -> None:
    with pytest.raises(BooksRefused, match="only 0 held"):
        Lots().take(Decimal(1), Decimal(100))


def test_ids_are_derived_from_the_venues_entry() -> None:
    first = book_fill(Lots(), fill("buy", "1", "100"), BOOK, PLAN)
    again = book_fill(Lots(), fill("buy", "1", "100"), BOOK, PLAN)
    assert first == again


def test_the_opening_balances_capital_against_equity() -> None:
    entry = opening(BOOK, PLAN, "USD", Decimal(1000), NOON)
    assert not unbalanced(entry)
    assert [account.kind for account, _ in entry.postings] == ["venue", "equity"]
