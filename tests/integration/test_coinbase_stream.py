"""The WebSocket stream over the simulated venue: a fill is booked when it happens, through every mishap of a connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from config.credentials import Secret
from config.credentials.keys import coinbase_key
from tests.builders.keys import made_key
from tests.builders.plans import NOON, buy, submit
from tests.builders.simulator import Running, running
from tests.builders.venues import quick_desk
from trading import hand
from trading.desk import Desk
from trading.exchange.coinbase.stream import CONNECTED, Doorbell, Patience, Ring, Stream
from trading.exchange.port import Accepted
from trading.money import stamp
from trading.orders import Mode, Order, OrderType, Request, State, TimeInForce
from trading.settlement import settle

LIMIT_SECONDS = 30
"""After which a test gives up; what it waits for comes within a second or two."""
HASTY = Patience(silence=3, opening=5, between_gaps=0.2, backoff_first=0.1, backoff_most=0.5)


MANY = {"duplicate_seconds": 0} | dict.fromkeys(
    ("max_orders_per_hour", "max_orders_per_day", "max_messages_per_minute", "max_repeated_entries", "max_live_orders"), 1000
)


def resting(price: str = "59000", quantity: str = "0.0001") -> Request:
    terms = {"type": OrderType.LIMIT, "limit_price": Decimal(price), "time_in_force": TimeInForce.GTC}
    return buy("BTC-USD", quantity, **terms)


def stream(server: Running, bell: Doorbell, key: str = "view", **changes: object) -> Stream:
    parts = server.secret(key)
    options = {
        "on_wake": bell.ring,
        "on_gap": bell.ring_for_all,
        "url": server.line["ws_url"],
        "ca_file": Path(server.line["ca_file"]),
        "patience": HASTY,
    } | changes
    return Stream(
        coinbase_key(Secret(parts["name"]), Secret(parts["privateKey"]), key), ["BTC-USD"], mode=Mode.REHEARSAL,
        monotonic=time.monotonic, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def hears(bell: Doorbell, wanted: Callable[[Ring | None], bool]) -> None:
    """Answers the bell until it is as wanted."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not wanted(bell.wait(0.1)):
        assert time.monotonic() < limit, "nothing was heard of it"


def hears_of(bell: Doorbell, order_id: str) -> None:
    told: set[str] = set()

    def wanted(ring: Ring | None) -> bool:
        told.update(ring.orders if ring else ())
        return order_id in told

    hears(bell, wanted)


def hears_why(bell: Doorbell, *words: str) -> None:
    """Waits for reasons that have these words, in this order."""
    told: list[str] = []
    left = list(words)

    def wanted(ring: Ring | None) -> bool:
        told.extend(ring.gaps if ring else ())
        while told and left:
            left[:1] = [] if left[0] in told.pop(0) else left[:1]
        return not left

    hears(bell, wanted)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("venue"), "--public-rate", "0") as started:
        yield started


@contextmanager
def rehearsed(url: str, home: Path) -> Iterator[tuple[Desk, Running]]:
    """A desk whose exchange is the simulated venue, which stands at noon with the plan's capital on the account."""
    with (
        running(home, "--start", stamp(NOON), "--balances", "USD=1000") as server,
        quick_desk(url, {"BTC-USD": "60000", "ETH-USD": "2500"}, controls=MANY) as desk,
    ):
        desk.exchange = server.exchange()
        desk.fund = lambda *_: None
        yield desk, server


def placed(desk: Desk, price: str) -> Order:
    made = hand.place(desk, resting(price))
    assert made.order is not None, made
    assert made.order.state is State.OPEN
    return made.order


def fills(desk: Desk, server: Running, bell: Doorbell) -> None:
    """A resting order fills, and is booked because the bell rang: no cycle, no scan by the clock."""
    server.control("market", {"product_id": "BTC-USD", "price": "60000"})
    order = placed(desk, "59000")
    while bell.wait(0.3) is not None:
        pass  # what rang for the order's own beginning
    server.control("market", {"product_id": "BTC-USD", "price": "58000"})

    def booked(ring: Ring | None) -> bool:
        if ring is not None:
            settle(desk)
        return desk.books.orders([order.id])[order.id].state is State.FILLED

    hears(bell, booked)
    ours = {asset: amount for asset, amount in desk.books.venue_balances(desk.book).items() if amount}
    assert ours == {asset: held.total for asset, held in desk.exchange.balances().items() if held.total}


def test_a_fill_is_booked_when_it_happens_through_every_mishap_of_the_connection(database_url: str, tmp_path: Path) -> None:
    bell = Doorbell()
    mishaps: list[tuple[str, dict[str, object]]] = [
        ("ws_duplicate", {"channel": "user", "count": 3}), ("ws_drop", {"channel": "user"}),
        ("ws_out_of_order", {"channel": "user"}), ("ws_drop", {"channel": "heartbeats", "count": 2}),
        ("ws_silence", {"seconds": 5}), ("ws_close", {"code": 1000}), ("ws_close", {"code": 1012}), ("ws_close", {"abort": True}),
    ]  # fmt: skip
    with rehearsed(database_url, tmp_path) as (desk, server), stream(server, bell).listening():
        hears_why(bell, CONNECTED)
        fills(desk, server, bell)
        for kind, details in mishaps:
            server.control("market", {"product_id": "BTC-USD", "price": "60000"})
            order = placed(desk, "58100")
            server.fault(kind, "*", **details)
            fills(desk, server, bell)
            settle(desk)
            assert desk.books.orders([order.id])[order.id].state is State.FILLED


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013])
def test_every_close_code_is_followed_by_a_new_connection(server: Running, code: int) -> None:
    bell = Doorbell()
    with stream(server, bell).listening():
        hears_why(bell, CONNECTED)
        server.fault("ws_close", "*", code=code)
        hears_why(bell, f"received {code}", CONNECTED)


def test_a_silent_connection_is_replaced(tmp_path: Path) -> None:
    bell = Doorbell()
    hasty = Patience(silence=2, backoff_first=0.1)
    with running(tmp_path) as server, stream(server, bell, patience=hasty).listening():
        hears_why(bell, CONNECTED)
        server.fault("ws_silence", "*", seconds=4)
        hears_why(bell, "no heartbeat", CONNECTED)


def test_an_order_rings_when_it_is_placed_moved_and_cancelled(server: Running) -> None:
    bell, exchange = Doorbell(), server.exchange()
    with stream(server, bell).listening():
        hears_why(bell, CONNECTED)
        for _ in range(2):
            accepted = submit(exchange, exchange.body(uuid4(), resting("50000")))
            assert isinstance(accepted, Accepted)
            hears_of(bell, accepted.exchange_order_id)
            exchange.cancel([accepted.exchange_order_id])
            hears_of(bell, accepted.exchange_order_id)


@pytest.mark.parametrize(("kind", "channel"), [("ws_drop", "user"), ("ws_drop", "heartbeats"), ("ws_out_of_order", "user")])
def test_what_is_lost_or_late_rings_for_everything_and_is_subscribed_anew(server: Running, kind: str, channel: str) -> None:
    bell, exchange = Doorbell(), server.exchange()
    with stream(server, bell).listening():
        hears_why(bell, CONNECTED)
        server.fault(kind, "*", channel=channel)
        accepted = submit(exchange, exchange.body(uuid4(), resting("50000")))
        assert isinstance(accepted, Accepted)
        hears_why(bell, "expected")
        hears_of(bell, accepted.exchange_order_id)  # the new subscription tells of open orders
    exchange.cancel([accepted.exchange_order_id])


def test_open_orders_ring_at_the_first_connection(server: Running) -> None:
    exchange = server.exchange()
    accepted = [submit(exchange, exchange.body(uuid4(), resting("50000"))) for _ in range(51)]  # more than one batch
    bell = Doorbell()
    with stream(server, bell).listening():
        ids = [answer.exchange_order_id for answer in accepted if isinstance(answer, Accepted)]
        hears_of(bell, ids[-1])
    exchange.cancel(ids)


def test_prices_are_told(server: Running) -> None:
    bell = Doorbell()
    with stream(server, bell).listening() as listening:
        hears(bell, lambda _: "BTC-USD" in listening.ticks)
        tick = listening.ticks["BTC-USD"]
        assert 0 < tick.bid < tick.ask


def test_a_key_that_the_venue_turns_away_is_no_end_but_no_connection_either(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    bell = Doorbell()
    listening = Stream(
        made_key(), ["BTC-USD"], mode=Mode.REHEARSAL, url=server.line["ws_url"], ca_file=Path(server.line["ca_file"]),
        patience=HASTY, on_wake=bell.ring, on_gap=bell.ring_for_all, monotonic=time.monotonic,
    )  # fmt: skip
    with listening.listening():
        hears(bell, lambda _: caplog.text.count("authentication failure") >= 2)
    assert bell.wait(0) is None


def test_an_authority_that_nobody_named_is_not_trusted(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    bell = Doorbell()
    with stream(server, bell, ca_file=None).listening():
        hears(bell, lambda _: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
    assert bell.wait(0) is None


def test_no_token_and_no_key_is_logged(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    bell, secret = Doorbell(), server.secret("view")
    with caplog.at_level(logging.DEBUG), stream(server, bell).listening() as listening:
        hears_why(bell, CONNECTED)
        server.fault("ws_close", "*", code=1011)
        hears_why(bell, "1011")
    told = caplog.text + repr(listening)
    assert "1011" in told
    assert "eyJ" not in told, "so begins a token"
    assert not any(line in told for line in [secret["name"], *secret["privateKey"].splitlines()] if line)


def test_what_ends_the_thread_is_raised_where_the_block_ends(server: Running) -> None:
    def refuses(reason: str) -> None:
        raise ValueError(reason)

    bell = Doorbell()
    listening = stream(server, bell, on_gap=refuses)
    with pytest.raises(ValueError, match=CONNECTED), listening.listening():
        hears(bell, lambda _: listening.failure is not None)


def test_it_ends_at_once_when_it_is_closed_also_while_it_cannot_connect() -> None:
    bell = Doorbell()
    listening = Stream(
        made_key(), ["BTC-USD"], mode=Mode.REHEARSAL, url="wss://127.0.0.1:1", patience=Patience(backoff_first=3600),
        on_wake=bell.ring, on_gap=bell.ring_for_all, monotonic=time.monotonic, jitter=lambda: 1.0,
    )  # fmt: skip
    with listening.listening():
        pass
