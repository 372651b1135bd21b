"""The paper exchange as stories: what one hour after the other does to its orders, and two processes at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest

from tests.builders.plans import NOON, buy, product, sell, submit
from tests.builders.street import HOUR, Street, on_street, paper_exchange
from trading.errors import BooksRefused
from trading.exchange.paper import PaperExchange
from trading.exchange.port import Accepted, Balance, Rejected, Status
from trading.matching import Execution
from trading.money import ZERO, dec
from trading.orders import OrderType, Request, TimeInForce
from trading.store.database import connect
from trading.store.paper import PaperBooks

LONG_AGO = NOON - timedelta(days=1)


@pytest.fixture
def street() -> Street:
    return Street()


@pytest.fixture
def exchange(database_url: str, street: Street) -> Iterator[PaperExchange]:
    """1,000 USD and 5 BTC at a price of 100; maker 0.4 %, taker 1 %, slippage 0.1 %."""
    with paper_exchange(database_url, street, USD="1000", BTC="5") as opened:
        yield opened


def send(exchange: PaperExchange, request: Request) -> str:
    answer = submit(exchange, exchange.body(uuid4(), request))
    assert isinstance(answer, Accepted), answer
    return answer.exchange_order_id


def status(exchange: PaperExchange, id_: str) -> Status:
    return {order.exchange_order_id: order.status for order in exchange.orders(LONG_AGO)}[id_]


def rests(price: str, **changes: Any) -> dict[str, Any]:
    return {"type": OrderType.LIMIT, "limit_price": dec(price), "time_in_force": TimeInForce.GTC} | changes


def stop(price: str, **changes: Any) -> dict[str, Any]:
    return {"type": OrderType.STOP, "stop_price": dec(price), "time_in_force": TimeInForce.GTC} | changes


def prices(exchange: PaperExchange) -> list[tuple[str, str]]:
    return [(f"{fill.quantity.normalize():f}", f"{fill.price.normalize():f}") for fill in exchange.fills(LONG_AGO)]


# ---- one hour after the other


def test_a_candle_that_began_before_the_order_does_not_fill_it(exchange: PaperExchange, street: Street) -> None:
    street.at += timedelta(minutes=20)
    id_ = send(exchange, buy(quantity="1", **rests("90")))
    street.hour("100 101 80 99")  # the 80 may have been at ten past
    assert status(exchange, id_) is Status.OPEN
    street.hour("99 101 89 99")
    assert status(exchange, id_) is Status.FILLED
    assert prices(exchange) == [("1", "90")]


def test_a_resting_order_fills_over_hours_by_the_share_of_their_volume(exchange: PaperExchange, street: Street) -> None:
    id_ = send(exchange, sell(quantity="2", **rests("110")))
    street.hour("100 111 99 105", volume="12")
    street.hour("105 112 99 105", volume="0")
    street.hour("105 112 99 105", volume="100")
    fills = exchange.fills(LONG_AGO)
    assert prices(exchange) == [("1.2", "110"), ("0.8", "110")]
    assert [fill.traded_at for fill in fills] == [NOON + HOUR, NOON + 3 * HOUR]
    assert status(exchange, id_) is Status.FILLED
    assert exchange.balances() == {"USD": Balance(dec("1219.12"), ZERO), "BTC": Balance(Decimal(3), ZERO)}


def test_a_stop_that_a_gap_overtakes_buys_what_its_hold_pays_for(exchange: PaperExchange, street: Street) -> None:
    id_ = send(exchange, buy(quantity="4", **stop("110")))
    assert exchange.balances()["USD"] == Balance(dec("111.2"), dec("888.8"))  # 4 × 2 × 110 × 1.01
    street.hour("300 310 290 305")
    [fill] = exchange.fills(LONG_AGO)
    assert fill.price == dec("300.3")
    assert status(exchange, id_) is Status.CANCELLED  # the rest
    balances = exchange.balances()
    assert balances["USD"].hold == ZERO
    assert dec("111.2") <= balances["USD"].available < dec("111.2") + dec("0.00001")
    assert balances["BTC"].total == 5 + fill.quantity


def test_a_stop_limit_triggers_in_one_candle_and_trades_from_the_next(exchange: PaperExchange, street: Street) -> None:
    id_ = send(exchange, sell(quantity="1", **stop("95", type=OrderType.STOP_LIMIT, limit_price=Decimal(90))))
    street.hour("100 101 94 94")
    assert exchange.fills(LONG_AGO) == []
    street.hour("94 96 93 96")
    assert prices(exchange) == [("1", "90")]
    assert status(exchange, id_) is Status.FILLED


def test_an_order_expires_at_its_end_even_where_no_candle_comes(exchange: PaperExchange, street: Street) -> None:
    ends = {"time_in_force": TimeInForce.GTD, "expires_at": NOON + timedelta(minutes=90)}
    id_ = send(exchange, buy(quantity="1", **rests("90", **ends)))
    street.hour(None)
    assert status(exchange, id_) is Status.OPEN
    street.hour(None)
    assert status(exchange, id_) is Status.EXPIRED
    assert exchange.balances()["USD"] == Balance(Decimal(1000), ZERO)


def test_a_quote_is_good_once_for_all_slices_together(exchange: PaperExchange, street: Street) -> None:
    street.volume = Decimal(20)  # of which 2 fill
    first, second, third = (send(exchange, buy(quantity="1.5")) for _ in range(3))
    assert [quantity for quantity, _ in prices(exchange)] == ["1.5", "0.5"]
    assert [status(exchange, id_) for id_ in (first, second, third)] == [Status.FILLED, Status.CANCELLED, Status.CANCELLED]
    street.hour("100 101 99 100", volume="20")
    send(exchange, buy(quantity="1.5"))
    assert [quantity for quantity, _ in prices(exchange)] == ["1.5", "0.5", "1.5"]


def test_more_than_the_account_holds_is_rejected_and_nothing_moves(exchange: PaperExchange) -> None:
    before = exchange.balances()
    for request in (buy(quantity="10"), sell(quantity="5.1"), buy(quantity="10", **rests("99.5"))):
        answer = submit(exchange, exchange.body(uuid4(), request))
        assert isinstance(answer, Rejected)
        assert answer.code == "INSUFFICIENT_FUND"
    assert exchange.balances() == before
    assert exchange.orders(LONG_AGO) == []


def test_what_is_on_hold_cannot_be_spent_twice(exchange: PaperExchange) -> None:
    id_ = send(exchange, sell(quantity="4", **rests("120")))
    answer = submit(exchange, exchange.body(uuid4(), sell(quantity="2")))
    assert isinstance(answer, Rejected)
    exchange.cancel([id_])
    send(exchange, sell(quantity="2"))


def test_a_deposit_is_made_once_per_reference(exchange: PaperExchange) -> None:
    assert exchange.deposit("USD", Decimal(50), "a gift")
    assert not exchange.deposit("USD", Decimal(50), "a gift")
    assert exchange.balances()["USD"].available == 1050


def test_a_hidden_order_is_at_the_venue_but_in_no_list(exchange: PaperExchange) -> None:
    id_ = send(exchange, buy(quantity="1"))
    exchange.hides = lambda _: True
    assert exchange.orders(LONG_AGO) == exchange.fills(LONG_AGO) == []
    exchange.hides = None
    assert status(exchange, id_) is Status.FILLED


def test_bytes_that_come_again_at_another_price_tell_no_fills_of_that_price(exchange: PaperExchange, street: Street) -> None:
    body = exchange.body(uuid4(), buy(quantity="1"))
    first = submit(exchange, body)
    street.hour("100 201 99 200")
    again = submit(exchange, body)
    assert isinstance(again, Accepted)
    assert again == first
    assert again.fills is None or [fill.price for fill in again.fills] == [dec("101.11")]
    assert prices(exchange) == [("1", "101.11")]


def test_candles_are_asked_for_once_a_product_and_only_when_one_has_closed(exchange: PaperExchange, street: Street) -> None:
    asked: list[str] = []

    def counted(product_id: str, at: datetime) -> pd.DataFrame:
        asked.append(product_id)
        return street.candles_after(product_id, at)

    exchange.candles_after = counted
    for minute in range(3):
        street.at = NOON + timedelta(minutes=minute)
        send(exchange, buy(quantity="1", **rests("90")))
    exchange.balances()
    street.at = NOON + HOUR  # only the first order was there when this hour began
    exchange.balances()
    assert asked == ["BTC-USD"]
    street.hour("99 101 89 99")
    assert len(exchange.fills(LONG_AGO)) == 3
    assert asked == ["BTC-USD"] * 3, "the first order has waited since noon, the others since one o'clock"


# ---- two processes


def moved_on(books: PaperBooks, row: dict[str, Any], hours: int, fills: Sequence[Execution], hold: str) -> bool:
    """Moves a resting buy on as of `hours` after noon."""
    spent = sum((fill.notional + fill.fee for fill in fills), ZERO)
    gained = sum((fill.quantity for fill in fills), ZERO)
    return books.progress(
        row, status="open", triggered=False, looked_at=NOON + hours * HOUR, hold=dec(hold), flow=("USD", spent, "BTC", gained),
        entries=[f"{hours} {number}" for number, _ in enumerate(fills)], fills=fills,
    )  # fmt: skip


def test_who_looked_at_an_order_before_another_moved_it_on_moves_nothing(exchange: PaperExchange) -> None:
    send(exchange, buy(quantity="2", **rests("90")))
    [seen] = exchange.books.resting(exchange.account)
    part = Execution(Decimal(1), Decimal(90), dec("0.36"), "maker")
    assert moved_on(exchange.books, seen, 2, [part], hold="90.9")
    after = exchange.balances()
    assert not moved_on(exchange.books, seen, 3, [part], hold="90.9"), "another has filled it meanwhile"
    [now] = exchange.books.resting(exchange.account)
    assert not moved_on(exchange.books, now, 1, [part], hold="0"), "another has looked further already"
    assert exchange.balances() == after


def test_fills_that_a_hold_does_not_cover_are_an_error_and_nothing_moves(exchange: PaperExchange) -> None:
    send(exchange, buy(quantity="2", **rests("90")))
    [seen] = exchange.books.resting(exchange.account)
    before = exchange.balances()
    dear = Execution(Decimal(2), Decimal(95), ZERO, "maker")
    with pytest.raises(BooksRefused, match=r"more than the 181\.8"):
        moved_on(exchange.books, seen, 1, [dear], hold="0")
    assert exchange.balances() == before


def test_the_same_bytes_from_two_processes_at_once_are_one_order(database_url: str, street: Street) -> None:
    def race(body: str, other: PaperExchange, gate: Barrier) -> object:
        gate.wait()
        return submit(other, body)

    with connect(database_url) as second, paper_exchange(database_url, street, USD="100000") as first:
        both = first, on_street(PaperBooks(second), street, first.account)
        with ThreadPoolExecutor(2) as threads:
            for _ in range(20):
                body, gate = first.body(uuid4(), buy(quantity="1")), Barrier(2, timeout=10)
                one, other = threads.map(race, [body, body], both, [gate, gate])
                assert one == other
        fills, balances = first.fills(LONG_AGO), first.balances()
    assert len(fills) == 20
    assert balances["BTC"].total == 20
    assert balances["USD"].total == 100_000 - sum(fill.notional + fill.fee for fill in fills)


def test_two_processes_that_look_at_once_fill_a_resting_order_once(database_url: str, street: Street) -> None:
    street.rules = product(base_increment=dec("0.01"))
    with connect(database_url) as second, paper_exchange(database_url, street, USD="100000") as first:
        both = first, on_street(PaperBooks(second), street, first.account)
        for price in range(80, 95):
            send(first, buy(quantity="2", **rests(str(price))))
        with ThreadPoolExecutor(2) as threads:
            for _ in range(4):
                street.hour("100 101 70 99", volume="6")
                gate = Barrier(2, timeout=10)

                def look(exchange: PaperExchange, gate: Barrier = gate) -> object:
                    gate.wait()
                    return exchange.balances()

                list(threads.map(look, both))
        orders, fills, balances = first.orders(LONG_AGO), first.fills(LONG_AGO), first.balances()
    assert {order.status for order in orders} == {Status.FILLED}
    assert sum(fill.quantity for fill in fills) == 30 == balances["BTC"].total
    assert balances["USD"].total == 100_000 - sum(fill.notional + fill.fee for fill in fills)
    assert balances["USD"].hold == ZERO
