"""The paper exchange's books, whatever is sent and wherever the price goes: the real exchange over the real Postgres.

Two exchanges, each on a connection of its own, work on the same account: two processes that know nothing of each other.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.builders.plans import NOON, product, submit
from tests.builders.street import COSTS, HOUR, Street, on_street, paper_exchange
from trading.errors import OutcomeUnknown
from trading.exchange.paper import PaperExchange
from trading.exchange.port import Accepted, Status
from trading.matching import hold_of
from trading.money import NAMESPACE, ZERO, dec
from trading.orders import OrderType, Request, Side, TimeInForce
from trading.store.database import connect
from trading.store.paper import PaperBooks

COARSE = product(base_increment=dec("0.01"), base_min_size=dec("0.01"), min_notional=Decimal(1))
FINE = replace(COARSE, base_increment=dec("1e-9"), price_increment=dec("1e-9"), base_min_size=dec("1e-9"))
"""Notionals of this one have 18 decimals, so that fees have more and are rounded."""
ROUNDING = dec("1e-16")
"""What the roundings of one order may add up to."""
FUNDS = {"USD": Decimal(5000), "BTC": Decimal(20)}
LONG_AGO = NOON - timedelta(days=1)
WAITS = (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.BRACKET)
STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)
_accounts = itertools.count()


@dataclass(slots=True)
class World:
    """One account, with what a test knows of it."""

    street: Street
    books: PaperBooks
    account: str
    number: int = 0
    sent: dict[str, tuple[str, Request]] = field(default_factory=dict)
    """Exchange order id -> the body that was accepted under it, and its request."""

    def rows(self) -> list[dict[str, Any]]:
        """The orders with their holds, as they are written down."""
        return self.books.orders(self.account, LONG_AGO)

    def next_id(self) -> UUID:
        self.number += 1
        return uuid5(NAMESPACE, f"{self.account} {self.number}")


def state(exchange: PaperExchange) -> tuple[object, ...]:
    """All that the exchange tells."""
    return exchange.orders(LONG_AGO), exchange.fills(LONG_AGO), exchange.balances()


# ---- what may happen


@dataclass(frozen=True, slots=True)
class Send:
    request: Request
    answer_is_lost: bool

    def happen(self, world: World, exchange: PaperExchange) -> None:
        body = exchange.body(world.next_id(), self.request)
        exchange.after_commit = _lose if self.answer_is_lost else None
        try:
            answer = submit(exchange, body)
        except OutcomeUnknown:
            exchange.after_commit = None
            answer = submit(exchange, body)
            assert isinstance(answer, Accepted), "what was lost was the answer that it had been taken"
        exchange.after_commit = None
        event(f"accepted {self.request.type}" if isinstance(answer, Accepted) else answer.code)
        if isinstance(answer, Accepted):
            world.sent[answer.exchange_order_id] = body, self.request


def _lose(_: str) -> None:
    raise OutcomeUnknown("the answer was lost")


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The same bytes: the first order answers, nothing else happens."""

    which: int

    def happen(self, world: World, exchange: PaperExchange) -> None:
        if world.sent:
            id_, (body, _) = list(world.sent.items())[self.which % len(world.sent)]
            before = state(exchange)
            answer = submit(exchange, body)
            assert answer == Accepted(id_)
            fills = [fill for fill in exchange.fills(LONG_AGO) if fill.exchange_order_id == id_]
            assert isinstance(answer, Accepted)
            assert answer.fills is None or list(answer.fills) == fills
            assert state(exchange) == before


@dataclass(frozen=True, slots=True)
class Cancel:
    which: int

    def happen(self, world: World, exchange: PaperExchange) -> None:
        if not world.sent:
            return
        id_ = list(world.sent)[self.which % len(world.sent)]
        before = {order.exchange_order_id: order.status for order in exchange.orders(LONG_AGO)}[id_]
        refused = exchange.cancel([id_])
        after = {order.exchange_order_id: order.status for order in exchange.orders(LONG_AGO)}[id_]
        assert set(refused) == (set() if before is Status.OPEN else {id_})
        assert after is (Status.CANCELLED if before is Status.OPEN else before)
        event(f"cancel of one that is {before}")


@dataclass(frozen=True, slots=True)
class Hour:
    """The next full hour, with its candle or (None) without one."""

    prices: str | None
    volume: str

    def happen(self, world: World, exchange: PaperExchange) -> None:
        del exchange
        world.street.hour(self.prices, self.volume)


@dataclass(frozen=True, slots=True)
class Minutes:
    """Time goes on within the hour: what is sent now was not there when the candle began."""

    minutes: int

    def happen(self, world: World, exchange: PaperExchange) -> None:
        del exchange
        world.street.at += timedelta(minutes=self.minutes)


def cents(least: int, most: int) -> st.SearchStrategy[Decimal]:
    return st.integers(least, most).map(lambda count: Decimal(count) / 100)


@st.composite
def requests(draw: st.DrawFn, *, nano: bool, kinds: tuple[OrderType, ...] = tuple(OrderType)) -> Request:
    """Requests that are good at a price of 100; `nano`: quantities and limits have nine decimals."""
    kind, side = draw(st.sampled_from(kinds)), draw(st.sampled_from(list(Side)))
    side = Side.SELL if kind is OrderType.BRACKET else side
    tif = draw(st.sampled_from([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.GTD, TimeInForce.IOC, TimeInForce.FOK]))
    dust = dec("1e-9") * draw(st.integers(0, 10**7 - 1)) if nano else ZERO
    stop = 100 + side.sign * draw(cents(110, 900)) if kind in (*STOPS, OrderType.BRACKET) else None
    limit = 100 + draw(cents(-800, 800)) if stop is None else stop + side.sign * draw(cents(1, 300))
    limit = 100 + draw(cents(110, 800)) if kind is OrderType.BRACKET else limit
    return Request(
        product="BTC-USD",
        side=side,
        quantity=draw(st.one_of(cents(10, 200), cents(10, 3000))) + dust,
        type=kind,
        limit_price=limit + dust if kind in WAITS else None,
        stop_price=stop,
        time_in_force=tif,
        post_only=kind is OrderType.LIMIT and not draw(st.integers(0, 3)),
        expires_at=NOON + draw(st.integers(3, 12)) * HOUR / 2 if tif is TimeInForce.GTD else None,
    )


@st.composite
def hours(draw: st.DrawFn) -> Hour:
    opened, close = draw(cents(9000, 11000)), draw(cents(9000, 11000))
    high = max(opened, close) + draw(cents(0, 500))
    low = min(opened, close) - draw(cents(0, 500))
    volume = draw(st.one_of(st.just("1000"), st.sampled_from(["0", "0.05", "3", "20.123"])))
    return Hour(f"{opened} {high} {low} {close}", volume)


def steps(*, nano: bool) -> st.SearchStrategy[list[tuple[Any, int]]]:
    """What happens, and at which of the two exchanges."""
    send = st.builds(Send, requests(nano=nano), st.booleans())
    some = st.integers(0, 20)
    other = st.one_of(hours(), hours(), st.just(Hour(None, "0")), st.builds(Minutes, st.integers(1, 40)),
                      st.builds(SendAgain, some), st.builds(Cancel, some))  # fmt: skip
    at = st.integers(0, 1)
    first = st.lists(st.tuples(send, at), min_size=1, max_size=5)
    then = st.lists(st.tuples(st.one_of(hours(), send, other), at), min_size=2, max_size=14)
    return st.tuples(first, then).map(lambda both: [*both[0], *both[1]])


# ---- what holds after each step


def check(world: World, exchange: PaperExchange) -> None:
    orders, fills, balances = exchange.orders(LONG_AGO), exchange.fills(LONG_AGO), exchange.balances()
    rows = {row["exchange_order_id"]: row for row in world.rows()}
    assert set(rows) == {order.exchange_order_id for order in orders} == set(world.sent)
    assert len({fill.entry_id for fill in fills}) == len(fills)

    moved = dict(FUNDS)
    for fill in fills:
        moved["BTC"] += fill.side.sign * fill.quantity
        moved["USD"] -= fill.side.sign * fill.notional + fill.fee
    assert {asset: balance.total for asset, balance in balances.items()} == moved
    assert all(balance.available >= 0 and balance.hold >= 0 for balance in balances.values())

    held = {"USD": ZERO, "BTC": ZERO}
    for order in orders:
        request, row = world.sent[order.exchange_order_id][1], rows[order.exchange_order_id]
        own = [fill for fill in fills if fill.exchange_order_id == order.exchange_order_id]
        assert order.filled == sum((fill.quantity for fill in own), ZERO) <= order.quantity
        assert (order.filled == order.quantity) is (order.status is Status.FILLED)
        assert request.time_in_force is not TimeInForce.FOK or order.filled in (ZERO, order.quantity)
        assert order.fees == sum((fill.fee for fill in own), ZERO)
        needs = hold_of(request, order.quantity - order.filled, COSTS) if order.status is Status.OPEN else ZERO
        assert abs(row["hold"] - needs) <= (ROUNDING if request.side is Side.BUY else ZERO)
        event(f"{request.type} is {order.status}")
        held["BTC" if request.side is Side.SELL else "USD"] += row["hold"]
        for fill in own:
            check_fill(world.street, request, row, fill)
    assert {asset: balance.hold for asset, balance in balances.items()} == held


def check_fill(street: Street, request: Request, row: dict[str, Any], fill: Any) -> None:
    """No fill is worse than the limit; one of a candle is pessimistic, and the candle had not begun before the order."""
    sign = request.side.sign
    stopped_out = request.type is OrderType.BRACKET and fill.liquidity == "taker"
    if request.limit_price is not None and not stopped_out:
        assert sign * fill.price <= sign * request.limit_price
    rate = COSTS.maker_fee if fill.liquidity == "maker" else COSTS.taker_fee
    assert ZERO <= fill.fee - fill.quantity * fill.price * rate < ROUNDING or abs(fill.fee - fill.notional * rate) < ROUNDING
    event(f"{'at once' if fill.traded_at == row['created_at'] else 'by a candle'}: {request.type} filled")
    if fill.traded_at == row["created_at"]:
        assert request.type in (OrderType.MARKET, OrderType.LIMIT)
        return
    [candle] = [candle for candle in street.closed if candle[0] == int((fill.traded_at - HOUR).timestamp())]
    assert fill.traded_at - HOUR >= row["created_at"]
    assert request.expires_at is None or fill.traded_at < request.expires_at
    _, opened, high, low, _, volume = candle
    assert fill.quantity <= COSTS.participation * dec(volume)
    if request.type is OrderType.STOP or stopped_out:
        assert request.stop_price is not None
        assert sign * fill.price >= max(sign * request.stop_price, sign * dec(opened))
    else:
        assert request.limit_price == fill.price
        assert low < float(fill.price) if request.side is Side.BUY else high > float(fill.price)


@pytest.mark.parametrize("rules", [COARSE, FINE], ids=["coarse", "fine"])
@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_balances_holds_and_fills_agree_whatever_happens(database_url: str, rules: Any, data: st.DataObject) -> None:
    street, account = Street(rules=rules), f"paper:{next(_accounts)}"
    happened = data.draw(steps(nano=rules is FINE))
    with connect(database_url) as second, paper_exchange(
        database_url, street, account, **{asset: str(amount) for asset, amount in FUNDS.items()}
    ) as first:  # fmt: skip
        exchanges = first, on_street(PaperBooks(second), street, account)
        world = World(street, first.books, account)
        for step, which in happened:
            step.happen(world, exchanges[which])
            check(world, exchanges[which])
            assert state(exchanges[0]) == state(exchanges[1])


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_it_makes_no_difference_how_often_one_looks(database_url: str, data: st.DataObject) -> None:
    """Looked at after every candle, or once at the end: resting orders end alike."""
    wanted = data.draw(st.lists(requests(nano=False, kinds=(OrderType.LIMIT, *STOPS)), min_size=1, max_size=6))
    candles = data.draw(st.lists(hours(), min_size=1, max_size=6))
    found = []
    for looks_often in (True, False):
        street, account = Street(rules=COARSE), f"paper:{next(_accounts)}"
        with paper_exchange(database_url, street, account, USD="5000", BTC="20") as exchange:
            for number, request in enumerate(wanted):
                submit(exchange, exchange.body(uuid5(NAMESPACE, f"looks {number}"), request))
            for hour in candles:
                street.hour(hour.prices, hour.volume)
                if looks_often:
                    exchange.balances()
            orders, fills, balances = state(exchange)
            found.append((
                sorted((one.client_order_id, one.status, one.filled, one.fees) for one in orders),  # type: ignore[attr-defined]
                sorted((fill.client_order_id, fill.traded_at, fill.quantity, fill.price, fill.fee) for fill in fills),  # type: ignore[attr-defined]
                balances,
            ))  # fmt: skip
    assert found[0] == found[1]
