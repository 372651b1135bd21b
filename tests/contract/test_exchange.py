"""What every exchange must keep to: the paper exchange, the benches' venue over TLS, and Coinbase over its simulator.

The tests share an account: each looks at its own orders, and at how balances change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from deployments.bench import venue
from tests.builders.plans import NOON, buy, sell, submit
from tests.builders.simulator import running
from tests.builders.street import Street, paper_exchange
from trading.errors import NotSent, OutcomeUnknown, Unanswered
from trading.exchange.port import Accepted, Duplicates, Exchange, ExchangeOrder, Status
from trading.money import ZERO, digest, stamp
from trading.orders import Fill, OrderType, Request, Side, TimeInForce

LONG_AGO = NOON - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Place:
    """An exchange whose account has USD, with a product that trades around 100 USD and fills at once."""

    exchange: Exchange
    product: str
    goes_to: Callable[[datetime], object]
    """Sets the market's time."""
    is_lost: Callable[[], object]
    """From now on nothing answers."""

    def send(self, request: Request, id_: UUID | None = None) -> UUID:
        """Sends a request that must be accepted; returns its client order id."""
        id_ = id_ or uuid4()
        assert isinstance(submit(self.exchange, self.exchange.body(id_, request)), Accepted)
        return id_

    def order(self, id_: UUID, since: datetime = LONG_AGO) -> ExchangeOrder | None:
        found = [order for order in self.exchange.orders(since) if order.client_order_id == str(id_)]
        assert len(found) <= 1
        return found[0] if found else None

    def fills(self, id_: UUID, since: datetime = LONG_AGO) -> list[Fill]:
        return [fill for fill in self.exchange.fills(since) if fill.client_order_id == id_]

    def totals(self) -> dict[str, Decimal]:
        return {asset: balance.total for asset, balance in self.exchange.balances().items()}


@contextmanager
def paper_place(url: str) -> Iterator[Place]:
    street = Street()
    with paper_exchange(url, street, USD="100000") as exchange:
        yield Place(
            exchange, "BTC-USD", lambda at: setattr(street, "at", at), exchange.books.connection.close
        )  # fmt: skip


@pytest.fixture(scope="module")
def bench_server() -> Iterator[tuple[str, str]]:
    with venue.running() as running:
        yield running


def bench_place(running: tuple[str, str]) -> Place:
    client = venue.Client(*running)
    client.post("/deposit", '{"asset": "USD", "amount": "100000"}')
    return Place(
        venue.Venue(client, venue.Prices(client, 1, NOON)),
        "P0-USD",
        lambda at: client.get("/prices", start=int(at.timestamp()) - 3600, products=1),
        lambda: setattr(client, "address", "https://127.0.0.1:1"),
    )


@contextmanager
def coinbase_place(home: Path) -> Iterator[Place]:
    """A simulator of its own, because its time does not go back."""
    with running(home, "--start", stamp(NOON)) as server:
        server.control("market", {"product_id": "SOL-USD", "price": "100"})
        yield Place(
            server.exchange(), "SOL-USD", lambda at: server.control("clock", {"at": at.isoformat()}), server.process.kill
        )  # fmt: skip


@pytest.fixture(params=["paper", "coinbase"])
def real(request: pytest.FixtureRequest) -> Iterator[Place]:
    """One that takes more than orders at the market."""
    yield from opened_place(request)


@pytest.fixture(params=["paper", "bench", "coinbase"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from opened_place(request)


def opened_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "paper":
        with paper_place(request.getfixturevalue("database_url")) as opened:
            opened.goes_to(NOON)
            yield opened
    elif request.param == "coinbase":
        with coinbase_place(request.getfixturevalue("tmp_path")) as opened:
            yield opened
    else:
        opened = bench_place(request.getfixturevalue("bench_server"))
        opened.goes_to(NOON)
        yield opened


# ---- sends


def test_a_body_is_the_same_for_the_same_request_and_names_its_client_id(place: Place) -> None:
    id_, request = uuid4(), buy(place.product, "0.5")
    body = place.exchange.body(id_, request)
    assert digest(body) == digest(place.exchange.body(id_, buy(place.product, "0.50")))
    assert str(id_) in body
    assert body != place.exchange.body(uuid4(), request)


def test_an_accepted_order_is_listed_with_our_id_and_terms(place: Place) -> None:
    accepted = submit(place.exchange, place.exchange.body(id_ := uuid4(), buy(place.product, "0.5")))
    assert isinstance(accepted, Accepted)
    order = place.order(id_)
    assert order is not None
    assert order.exchange_order_id == accepted.exchange_order_id
    assert (order.product, order.side, order.quantity) == (place.product, Side.BUY, Decimal("0.5"))
    assert order.limit_price is None
    assert order.created_at == NOON


def test_the_same_bytes_again_are_the_same_order(place: Place) -> None:
    assert place.exchange.duplicates == Duplicates.REPLAYS, "a venue that does not needs a contract of its own"
    body = place.exchange.body(id_ := uuid4(), buy(place.product, "0.5"))
    first, told = submit(place.exchange, body), place.order(id_)
    before = place.totals(), place.fills(id_)
    assert submit(place.exchange, body) == first
    assert place.order(id_) == told
    assert (place.totals(), place.fills(id_)) == before


@pytest.mark.parametrize("side", list(Side))
def test_a_market_order_fills_and_moves_both_balances_by_its_fills(place: Place, side: Side) -> None:
    place.send(buy(place.product, "1"))
    base, quote = place.product.split("-")
    before = place.totals()
    id_ = place.send((buy if side is Side.BUY else sell)(place.product, "0.5"))
    order, fills, after = place.order(id_), place.fills(id_), place.totals()
    assert order is not None
    assert order.status is Status.FILLED
    assert order.filled == sum(fill.quantity for fill in fills) == Decimal("0.5")
    assert order.fees == sum(fill.fee for fill in fills) > 0
    assert after[base] - before[base] == side.sign * order.filled
    assert after[quote] - before[quote] == -side.sign * sum(fill.notional for fill in fills) - order.fees
    assert place.exchange.balances()[base].hold == ZERO, "what is done holds nothing"


def test_a_fill_says_whose_it_is_under_a_key_of_its_own(place: Place) -> None:
    ids = [place.send(buy(place.product, "0.5")), place.send(sell(place.product, "0.5"))]
    every = place.exchange.fills(LONG_AGO)
    assert len({fill.entry_id for fill in every}) == len(every)
    for id_, side in zip(ids, Side, strict=True):
        [fill] = place.fills(id_)
        order = place.order(id_)
        assert order is not None
        assert fill.exchange_order_id == order.exchange_order_id
        assert (fill.product, fill.side, fill.fee_asset, fill.traded_at) == (place.product, side, "USD", NOON)
        assert fill.price > 0


def test_fills_that_an_answer_tells_are_those_that_the_list_tells(place: Place) -> None:
    body = place.exchange.body(id_ := uuid4(), buy(place.product, "0.5"))
    for _ in range(2):  # sent again, it is still that order
        answer = submit(place.exchange, body)
        assert isinstance(answer, Accepted)
        assert answer.fills is None or list(answer.fills) == place.fills(id_)


def test_bytes_that_were_not_approved_do_not_leave(place: Place) -> None:
    approved, other = (place.exchange.body(uuid4(), buy(place.product, quantity)) for quantity in ("0.5", "5"))
    before = place.totals(), place.exchange.orders(LONG_AGO)
    with pytest.raises(NotSent, match="nothing was sent"):
        place.exchange.submit(other, digest(approved))
    assert (place.totals(), place.exchange.orders(LONG_AGO)) == before


@pytest.mark.parametrize(("price", "quantity", "fills"), [("110", "0.5", True), ("90", "0.5", False), ("110", "99999", False)])
def test_fill_or_kill_fills_whole_at_once_or_not_at_all(real: Place, price: str, quantity: str, fills: bool) -> None:
    request = buy(
        real.product, quantity, type=OrderType.LIMIT, limit_price=Decimal(price), time_in_force=TimeInForce.FOK
    )  # fmt: skip
    before, order = real.totals(), None
    answer = submit(real.exchange, real.exchange.body(id_ := uuid4(), request))
    if isinstance(answer, Accepted):
        order = real.order(id_)
        assert order is not None
        assert (order.status, order.filled) == ((Status.FILLED, request.quantity) if fills else (Status.CANCELLED, ZERO))
    assert isinstance(answer, Accepted) or not fills
    assert (real.totals() == before) is not fills
    assert all(balance.hold == ZERO for balance in real.exchange.balances().values())


def test_a_bracket_rests_with_the_holding_on_hold_until_it_is_cancelled(real: Place) -> None:
    real.send(buy(real.product, "1"))
    base, before = real.product.split("-")[0], real.exchange.balances()
    terms = {"type": OrderType.BRACKET, "limit_price": Decimal(110), "stop_price": Decimal(90)}
    order = real.order(real.send(sell(real.product, "0.5", time_in_force=TimeInForce.GTC, **terms)))
    assert order is not None
    assert (order.status, order.quantity, order.limit_price) == (Status.OPEN, Decimal("0.5"), Decimal(110))
    assert real.exchange.balances()[base].hold == Decimal("0.5")
    assert real.exchange.cancel([order.exchange_order_id]) == {}
    assert real.exchange.balances() == before


# ---- reads


def test_lists_reach_back_to_a_time_and_include_it(place: Place) -> None:
    early = place.send(buy(place.product, "0.5"))
    then = NOON + timedelta(hours=1)
    place.goes_to(then)
    late = place.send(sell(place.product, "0.5"))
    assert place.order(early, since=then) is None
    assert place.fills(early, since=then) == []
    assert place.order(late, since=then) is not None
    assert len(place.fills(late, since=then)) == 1
    assert place.order(late, since=then + timedelta(seconds=1)) is None
    assert place.fills(late, since=then + timedelta(seconds=1)) == []


def test_fills_are_told_oldest_first(place: Place) -> None:
    ids = []
    for hour in (0, 0, 1, 2):
        place.goes_to(NOON + timedelta(hours=hour))
        ids.append(place.send(buy(place.product, "0.5")))
    told = [fill for fill in place.exchange.fills(LONG_AGO) if fill.client_order_id in ids]
    assert [fill.client_order_id for fill in told] == ids
    assert [(fill.traded_at - NOON) / timedelta(hours=1) for fill in told] == [0, 0, 1, 2]


def test_what_was_never_held_is_no_balance(place: Place) -> None:
    assert "DOGE" not in place.exchange.balances()
    assert all(balance.available >= 0 and balance.hold >= 0 for balance in place.exchange.balances().values())


def test_an_unknown_product_has_no_rules(place: Place) -> None:
    found = place.exchange.products([place.product, "NOPE-USD"])
    assert set(found) == {place.product}
    assert (found[place.product].id, found[place.product].quote) == (place.product, "USD")


def test_fees_are_ratios_of_notional(place: Place) -> None:
    id_ = place.send(buy(place.product, "0.5"))
    tier, [fill] = place.exchange.fee_tier(), place.fills(id_)
    assert 0 <= tier.maker <= tier.taker < 1
    assert fill.fee == fill.notional * tier.taker


def test_a_done_or_unknown_order_is_not_cancelled_and_the_reason_is_told(place: Place) -> None:
    order = place.order(place.send(buy(place.product, "0.5")))
    assert order is not None
    refused = place.exchange.cancel([order.exchange_order_id, "unknown"])
    assert set(refused) == {order.exchange_order_id, "unknown"}
    assert all(refused.values())
    assert place.order(UUID(order.client_order_id)) == order


# ---- when nothing answers


def test_a_read_without_an_answer_is_unanswered(place: Place) -> None:
    place.is_lost()
    for read in (place.exchange.orders, place.exchange.fills):
        with pytest.raises(Unanswered):
            read(LONG_AGO)
    with pytest.raises(Unanswered):
        place.exchange.balances()


def test_a_send_without_an_answer_is_of_unknown_outcome(place: Place) -> None:
    body = place.exchange.body(uuid4(), buy(place.product, "0.5"))
    place.is_lost()
    with pytest.raises(OutcomeUnknown):
        submit(place.exchange, body)
