"""Fills that the venue takes back, where later fills lived on their lots: in the ledger, with every invariant asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.builders.venues import QuickExchange, quick_desk
from trading import hand
from trading.desk import Desk
from trading.orders import FillKind, Order, OrderType, Request, Side, TimeInForce
from trading.reconcile import reconcile
from trading.store.verify import verify

UNIT = Decimal("0.001")


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with quick_desk(database_url) as opened:
        yield opened
        assert not [check for check in verify(database_url).checks if not check.ok]


def venue(desk: Desk) -> QuickExchange:
    assert isinstance(desk.exchange, QuickExchange)
    return desk.exchange


def trade(desk: Desk, side: Side, product: str, reference: str, **terms: Any) -> Order:
    made = hand.place(desk, replace(Request(product=product, side=side, quantity=UNIT), **terms), reference)
    assert made.order is not None
    return made.order


def take_back(desk: Desk, order: Order) -> None:
    """The venue reverses the order's one fill: what it moved in the account moves back, its fee of 1 USD included."""
    venue(desk).trades(venue(desk).placed[order.exchange_order_id or ""], str(UNIT), kind=FillKind.REVERSAL, trade="t")


def breaks(desk: Desk) -> set[tuple[str, str]]:
    return {(row["class"], row["asset"]) for row in desk.books.open_breaks(desk.book)}


def test_a_sale_whose_coin_is_taken_back_stands_in_suspense_and_is_a_break(desk: Desk) -> None:
    bought = trade(desk, Side.BUY, "BTC-USD", "A")
    trade(desk, Side.SELL, "BTC-USD", "B")
    take_back(desk, bought)
    reconcile(desk)
    assert {("adjusted_fill", "BTC"), ("uncovered", "BTC"), ("uncovered", "USD")} <= breaks(desk)
    assert desk.books.suspense(desk.book, "BTC") == [("default", UNIT)]


def test_a_fee_that_was_paid_in_coin_is_posted_anew_when_the_coin_is_taken_back(desk: Desk) -> None:
    bought = trade(desk, Side.BUY, "BTC-USD", "A")
    trade(desk, Side.BUY, "BTC-USD", "B")
    rests = {"type": OrderType.LIMIT, "limit_price": Decimal(1960), "time_in_force": TimeInForce.GTC, "quantity": UNIT * 10}
    resting = trade(desk, Side.BUY, "ETH-USD", "C", **rests)
    late = venue(desk).trades(
        venue(desk).placed[resting.exchange_order_id or ""], "0.01", price="1900"
    )  # for a fee of 0.0001 BTC
    venue(desk).traded[-1] = replace(late, fee=Decimal("0.0001"), fee_asset="BTC")
    venue(desk)._move("BTC", Decimal("-0.0001"))
    reconcile(desk)
    assert lots(desk) == {"BTC-USD": (Decimal("0.0019"), Decimal(95)), "ETH-USD": (UNIT * 10, Decimal(19))}
    take_back(desk, bought)
    reconcile(desk)
    assert lots(desk) == {"BTC-USD": (Decimal("0.0009"), Decimal(45)), "ETH-USD": (UNIT * 10, Decimal(19))}
    fees = "select count(*) from keel.txn t where t.source_id = %s and t.reverses is null"
    (postings,) = desk.books.connection.execute(fees, (late.entry_id,)).fetchone() or (0,)
    assert postings == 2  # posted, taken back, posted anew


def lots(desk: Desk) -> dict[str, tuple[Decimal, Decimal]]:
    """Product -> quantity and cost of what is left."""
    query = "select product, sum(left_quantity), sum(left_cost) from keel.lot where left_quantity > 0 group by product"
    return {product: (quantity, cost) for product, quantity, cost in desk.books.connection.execute(query)}  # type: ignore[misc]
