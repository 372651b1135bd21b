"""The paper exchange's books at their edges: the last unit of a hold, and two traders who cross."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

from tests.builders.plans import NOON, buy, product, quote, sell, submit
from tests.builders.street import Street, on_street, paper_exchange
from trading.exchange.paper import PaperExchange
from trading.exchange.port import Accepted, Status
from trading.money import ZERO, dec
from trading.orders import OrderType, Request, TimeInForce
from trading.plan import Costs
from trading.store.database import connect
from trading.store.paper import PaperBooks

LONG_AGO = NOON - timedelta(days=1)
EVEN = Costs(spread=ZERO, slippage=ZERO, maker_fee=dec("0.0123"), taker_fee=dec("0.0123"), participation=dec("0.1"))
"""A maker pays what a taker pays: a hold has no room but for the fill itself."""


def accepted(exchange: PaperExchange, request: Request) -> None:
    answer = submit(exchange, exchange.body(uuid4(), request))
    assert isinstance(answer, Accepted), answer


def test_fees_rounded_up_part_by_part_never_cost_more_than_the_hold(database_url: str) -> None:
    fine = product(
        base_increment=dec("1e-10"), base_min_size=dec("1e-10"), price_increment=dec("1e-10"), min_notional=dec("1e-10")
    )
    street = Street(rules=fine, quote=quote("BTC-USD", "0.5", "0.1"))
    request = buy(
        quantity="1", type=OrderType.LIMIT, limit_price=dec("0.3333333333"), time_in_force=TimeInForce.GTC
    )  # fmt: skip
    with paper_exchange(database_url, street, costs=EVEN, USD="1000") as exchange:
        accepted(exchange, request)
        held = exchange.balances()["USD"].hold
        exchange.deposit("USD", held, "as much again")  # the fills must come from the hold, not from what is free
        free = exchange.balances()["USD"].available
        for _ in range(40):
            street.hour("0.5 0.5 0.3 0.5", volume="0.3333333331")
            balance = exchange.balances()["USD"]
            assert balance.available >= free, "a fill was paid out of cash that the order did not hold"
            assert balance.hold >= 0
        [order] = exchange.orders(LONG_AGO)
        fills = exchange.fills(LONG_AGO)
        assert order.filled >= request.quantity - fine.base_increment, "at most an increment stays for want of 1e-18"
        assert sum(fill.notional + fill.fee for fill in fills) <= held
        assert len({fill.entry_id for fill in fills}) == len(fills) > 20


def test_two_traders_who_cross_do_not_block_each_other(database_url: str) -> None:
    street = Street()

    def trade(exchange: PaperExchange, request: Request) -> None:
        for _ in range(100):
            accepted(exchange, request)

    with connect(database_url) as second, paper_exchange(database_url, street, USD="100000", BTC="100") as first:
        other = on_street(PaperBooks(second), street, first.account)
        with ThreadPoolExecutor(2) as threads:
            both = [threads.submit(trade, first, buy(quantity="0.1")), threads.submit(trade, other, sell(quantity="0.1"))]
            for outcome in both:
                outcome.result(timeout=60)  # a deadlock would be an error of one of them
        orders, fills, balances = first.orders(LONG_AGO), first.fills(LONG_AGO), first.balances()
    assert len(orders) == len(fills) == 200
    assert {order.status for order in orders} == {Status.FILLED}
    assert balances["BTC"].total == Decimal(100)
    cash = sum((-fill.side.sign * fill.notional - fill.fee for fill in fills), Decimal(100_000))
    assert balances["USD"].total == cash
