"""Flatten: what a plan holds is sold by a person's command, in slices with a limit, through an open breaker."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.builders.desks import replay_desk
from trading import hand
from trading.cycle import run
from trading.desk import Desk
from trading.flattening import flatten
from trading.orders import OrderType, Side
from trading.risk import Level
from trading.store.verify import verify


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose plan has bought on the paper exchange."""
    with replay_desk(database_url, tmp_path) as opened:
        for _ in range(60):
            run(opened)
            if held(opened):
                break
        assert held(opened)
        yield opened
    found = verify(database_url)
    assert found.ok, [check for check in found.checks if not check.ok]


def held(desk: Desk) -> dict[str, Decimal]:
    positions = desk.books.portfolio(desk.book, desk.plan.name, "USD", desk.market_now()).positions
    return {product: position.quantity for product, position in positions.items() if position.quantity}


def test_everything_is_sold_through_an_open_breaker_by_orders_with_a_limit(desk: Desk) -> None:
    hand.trip(desk, "global", Level.CANCEL, "a drill")
    before = held(desk)
    found = flatten(desk, "a drill")
    assert {one.product: one.sold + one.left for one in found} == before
    assert all(one.left == 0 or one.said for one in found)
    assert sum(before.values()) > sum(held(desk).values())
    orders = [order for number in range(1, 9) for order in desk.books.slot_orders(desk.book, f"hand:{number}")]
    assert orders
    for order in orders:
        request = order.intent.request
        assert (request.side, request.type, request.protective) == (Side.SELL, OrderType.LIMIT, True)
        assert request.limit_price is not None
        assert request.limit_price * request.quantity <= desk.plan.limits.max_order_size_usd


def test_no_slice_is_larger_than_one_order_may_be(desk: Desk) -> None:
    small = desk.plan.limits.model_copy(update={"max_order_size_usd": Decimal(30)})
    desk.plan = desk.plan.model_copy(update={"limits": small})
    product, quantity = next(iter(held(desk).items()))
    found = flatten(desk, "in slices", [product])
    orders = [order for number in range(1, 60) for order in desk.books.slot_orders(desk.book, f"hand:{number}")]
    assert len(orders) > 1
    assert [one.product for one in found] == [product]
    assert found[0].sold + found[0].left == quantity


def test_a_halt_file_stops_it_too(desk: Desk) -> None:
    desk.halted = lambda: "halted by a file"
    before = held(desk)
    found = flatten(desk, "not now")
    assert all("halted by a file" in one.said for one in found)
    assert held(desk) == before


def test_another_product_is_left_alone(desk: Desk) -> None:
    before = held(desk)
    assert flatten(desk, "nothing of that", ["XYZ-USD"]) == []
    assert held(desk) == before
