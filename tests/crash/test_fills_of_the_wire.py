"""What a venue may do to fills, over the socket: the ledger ends with each entry once and with the venue's balances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.exchange import Wire, running
from tests.crash.failpoints import Failpoints
from tests.crash.story import ScriptedPlace, Story, compared, opened
from trading import hand
from trading.desk import Desk
from trading.money import dec
from trading.orders import OrderType, Request, Side, State, TimeInForce
from trading.reconcile import reconcile

pytestmark = pytest.mark.crash
RESTING = Request(
    product="BTC-USD", side=Side.BUY, quantity=dec("0.001"), type=OrderType.LIMIT, limit_price=dec("49000"),
    time_in_force=TimeInForce.GTC,
)  # fmt: skip
STORY = Story(venue=0)


@pytest.fixture
def place(fresh_place: Callable[[], ScriptedPlace]) -> ScriptedPlace:
    made = fresh_place()
    made.renew()
    return made


@pytest.fixture
def wire(place: ScriptedPlace) -> Iterator[Wire]:
    opened_wire = Wire(place.port, place.book, timeout_seconds=10)
    yield opened_wire
    opened_wire.close()


@pytest.fixture
def desk(place: ScriptedPlace) -> Iterator[Desk]:
    with opened(place, STORY, Failpoints()) as made:
        yield made


def rest(desk: Desk) -> tuple[str, str]:
    """(exchange order id, the venue's time) of an order that rests at the venue."""
    order = hand.place(desk, RESTING).order
    assert order is not None
    assert order.state is State.OPEN
    assert order.exchange_order_id is not None
    return order.exchange_order_id, desk.market_now().isoformat()


def trade(wire: Wire, order: tuple[str, str], quantity: str, **how: object) -> dict[str, Any]:
    fill: dict[str, Any] = wire.ask("trade", order=order[0], quantity=quantity, price="49000", at=order[1], **how)
    return fill


def state_of(desk: Desk, exchange_order_id: str) -> State:
    order = desk.books.order_by_exchange_id(desk.book, exchange_order_id)
    assert order is not None
    return order.state


def test_fills_of_one_moment_that_pages_tell_twice_are_booked_once(place: ScriptedPlace, desk: Desk, wire: Wire) -> None:
    order = rest(desk)
    for _ in range(7):  # over four pages, each of which repeats the last entry of the one before
        trade(wire, order, "0.0001")
    assert reconcile(desk).clean
    assert list(compared(place, STORY, wire.ask("oracle"), still_open=True)) == []


@pytest.mark.parametrize(
    "how",
    [{"fee": "-0.0123456789012345"}, {"fee": "0.0000000000000001"}, {"in_quote": True}],
    ids=["negative fee", "fee of 16 decimals", "size in quote"],
)
def test_an_odd_fill_is_booked_to_the_last_unit(place: ScriptedPlace, desk: Desk, wire: Wire, how: dict[str, object]) -> None:
    order = rest(desk)
    trade(wire, order, "0.0004", **how)
    trade(wire, order, "0.0006", **how)
    assert reconcile(desk).clean
    assert state_of(desk, order[0]) is State.FILLED
    assert list(compared(place, STORY, wire.ask("oracle"))) == []


def test_a_fill_that_comes_after_the_cancel_is_money(place: ScriptedPlace, desk: Desk, wire: Wire) -> None:
    order = rest(desk)
    known = desk.books.order_by_exchange_id(desk.book, order[0])
    assert known is not None
    assert hand.cancel(desk, known.id, "test").state is State.CANCELLED
    trade(wire, order, "0.0004")
    assert reconcile(desk).clean
    assert state_of(desk, order[0]) is State.CANCELLED
    assert list(compared(place, STORY, wire.ask("oracle"))) == []


def test_an_order_that_fills_while_its_cancel_is_on_the_way_is_filled(place: ScriptedPlace, desk: Desk, wire: Wire) -> None:
    order = rest(desk)
    wire.ask("cancel", orders=[order[0]], race=True)
    known = desk.books.order_by_exchange_id(desk.book, order[0])
    assert known is not None
    assert hand.cancel(desk, known.id, "test").state is State.FILLED
    assert reconcile(desk).clean
    assert list(compared(place, STORY, wire.ask("oracle"))) == []


@pytest.mark.parametrize(("kind", "price"), [("reversal", None), ("correction", "48990")])
def test_a_fill_that_is_taken_back_or_corrected_leaves_the_venues_balances(
    place: ScriptedPlace, desk: Desk, wire: Wire, kind: str, price: str | None
) -> None:
    order = rest(desk)
    fill = trade(wire, order, "0.0004")
    assert reconcile(desk).clean
    wire.ask("adjust", entry=fill["entry_id"], kind=kind, at=order[1], price=price)
    reconcile(desk)
    problems = list(compared(place, STORY, wire.ask("oracle"), still_open=True))
    assert [problem for problem in problems if not problem.startswith("break ('adjusted_fill'")] == []


def test_a_venue_that_is_killed_comes_back_with_all_that_it_answered(
    fresh_place: Callable[[], ScriptedPlace], tmp_path: Path
) -> None:
    place = fresh_place()
    with running(tmp_path) as venue:
        place.port = venue.port
        place.renew()
        with opened(place, STORY, Failpoints()) as desk:
            order = rest(desk)
        wire = Wire(place.port, place.book, timeout_seconds=10)
        trade(wire, order, "0.0004")
        before = wire.ask("oracle")
        wire.close()
        venue.kill()
        venue.start()
        after = wire.ask("oracle")
        assert after["orders"] == before["orders"]
        assert after["balances"] == before["balances"]
        with opened(place, STORY, Failpoints()) as desk:
            assert reconcile(desk).clean
        assert list(compared(place, STORY, wire.ask("oracle"), still_open=True)) == []
        wire.close()
