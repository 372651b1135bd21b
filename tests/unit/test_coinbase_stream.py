"""The WebSocket stream without a socket: what each message says, what is owed to the one who answers, where it may connect."""

from __future__ import annotations

import json
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest

from tests.builders.keys import made_key
from trading.errors import ConfigurationError
from trading.exchange.coinbase.channels import Beat, Broken, Missed, Orders, Reader, Subscribed, Tick
from trading.exchange.coinbase.stream import CONNECTED, Doorbell, Lost, Patience, Ring, Stream, _Hearing
from trading.orders import Mode

KEY = made_key()
ALL = frozenset({"heartbeats", "user", "ticker"})


def message(number: int | None, channel: str = "heartbeats", *events: Any) -> str:
    return json.dumps({"channel": channel, "timestamp": "2026-11-24T12:00:00.123456789Z", "sequence_num": number,
                       "events": list(events)})  # fmt: skip


# ---- what a message says


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        (message(0), [Beat()]),
        (message(0, "subscriptions", {"subscriptions": {"user": ["u"], "heartbeats": []}}), [Subscribed(ALL - {"ticker"})]),
        (message(0, "user", {"type": "snapshot", "orders": []}), []),
        (
            message(0, "user", {"type": "update", "orders": [{"order_id": "a", "status": "NEW?"}, {"order_id": "b"}]}),
            [Orders(frozenset({"a", "b"}))],
        ),
        (message(0, "tomorrow", 1), []),
        ('{"type":"error","message":"authentication failure"}', [Broken("the venue says: authentication failure")]),
        (message(0, "user", {"orders": "many"}), None),
        (message(0, "ticker", {"tickers": [{"product_id": "BTC-USD", "price": "dear"}]}), None),
        (message(None), [Missed("found sequence_num None, expected a number"), Beat()]),
    ],
)
def test_a_message_says_what_it_says_and_an_odd_one_is_to_be_asked_for(text: str, heard: list[Any] | None) -> None:
    found = Reader().read(text)
    if heard is None:
        assert [type(one) for one in found] == [Missed]
    else:
        assert found == heard


def test_a_ticker_tells_exact_prices() -> None:
    row = {"product_id": "BTC-USD", "price": "60000.10", "best_bid": "60000", "best_ask": ""}
    [tick] = Reader().read(message(0, "ticker", {"tickers": [row]}))
    assert isinstance(tick, Tick)
    assert (tick.price, tick.bid, tick.ask) == (Decimal("60000.1"), Decimal(60000), Decimal(0))
    assert tick.at is not None


@pytest.mark.parametrize("text", ["", "[]", "null", '{"channel":', b"\xff\xfe"])
def test_what_cannot_be_read_breaks_the_connection(text: str | bytes) -> None:
    [heard] = Reader().read(text)
    assert isinstance(heard, Broken)


@pytest.mark.parametrize(
    ("numbers", "missed"),
    [
        ([0, 1, 2], []),
        ([7, 8], []),  # joined later than at its beginning
        ([0, 0, 1, 1, 2], []),  # told again
        ([0, 2, 3], [2]),
        ([0, 2, 1, 3], [2]),  # what comes late was missed before
        ([0, 5, 9, 3, 10], [5, 9]),
    ],
)
def test_a_gap_in_the_numbers_is_told_once(numbers: list[int], missed: list[int]) -> None:
    reader = Reader()
    heard = {number: reader.read(message(number)) for number in dict.fromkeys(numbers)}
    reader = Reader()
    gaps = [number for number in numbers for one in reader.read(message(number)) if isinstance(one, Missed)]
    assert gaps == missed
    assert all(Beat() in one for one in heard.values())


# ---- what a connection owes


def test_a_connection_counts_when_every_channel_is_acknowledged() -> None:
    hearing = _Hearing(Patience(), 0)
    hearing.take(Subscribed(frozenset({"user"})), 1)
    assert hearing.due(1) == ""
    hearing.take(Subscribed(ALL), 2)
    assert hearing.due(2) == CONNECTED
    hearing.take(Subscribed(ALL), 3)
    assert hearing.due(3) == "", "an acknowledgement after a gap is no new connection"


def test_many_gaps_ring_once_in_a_while_and_none_is_forgotten() -> None:
    hearing = _Hearing(Patience(between_gaps=5), 0)
    hearing.take(Missed("first"), 1)
    assert hearing.due(1) == "first"
    for at in (2, 3, 4):
        hearing.take(Missed(f"at {at}"), at)
        assert hearing.due(at) == ""
    assert hearing.due(6) == "at 2"
    assert hearing.due(20) == ""


def test_a_silent_connection_is_given_up() -> None:
    hearing = _Hearing(Patience(silence=12), 0)
    hearing.take(Beat(), 11)
    with pytest.raises(Lost, match="no acknowledgement of heartbeats, ticker, user for 13 s"):
        hearing.check(13)  # a heartbeat acknowledges nothing
    hearing.take(Subscribed(ALL), 14)
    hearing.take(Orders(frozenset("a")), 20)
    hearing.check(26)
    with pytest.raises(Lost, match="no heartbeat for 13 s"):
        hearing.check(27)
    hearing.take(Beat(), 27)
    hearing.check(39)


# ---- the doorbell


def test_the_one_who_answers_gets_all_that_came_meanwhile_at_once() -> None:
    bell = Doorbell()
    bell.ring(frozenset("ab"))
    bell.ring(frozenset("bc"))
    bell.ring_for_all("lost")
    assert bell.wait(0) == Ring(frozenset("abc"), ("lost",))
    assert bell.wait(0) is None


def test_a_ring_wakes_the_one_who_waits() -> None:
    bell = Doorbell()
    thread = Thread(target=bell.ring, args=(frozenset("a"),))
    thread.start()
    assert bell.wait(30) == Ring(frozenset("a"), ())
    thread.join()


# ---- where it connects, and what it tells of itself


def stream(url: str = "wss://127.0.0.1:1", mode: Mode = Mode.REHEARSAL, **changes: Any) -> Stream:
    bell = Doorbell()
    return Stream(
        KEY, ["BTC-USD"], mode=mode, url=url, on_wake=bell.ring, on_gap=bell.ring_for_all, monotonic=lambda: 0.0, **changes
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "url"),
    [
        (Mode.LIVE, "wss://127.0.0.1:8443"), (Mode.LIVE, "wss://advanced-trade-ws.coinbase.com.evil.test"),
        (Mode.LIVE, "ws://advanced-trade-ws.coinbase.com"), (Mode.LIVE, "wss://advanced-trade-ws.coinbase.com:444"),
        (Mode.REHEARSAL, "wss://advanced-trade-ws.coinbase.com"), (Mode.REHEARSAL, "ws://127.0.0.1:8443"),
        (Mode.REHEARSAL, "wss://10.0.0.1:8443"), (Mode.PAPER, "wss://127.0.0.1:8443"),
    ],
)  # fmt: skip
def test_a_mode_listens_to_its_own_hosts_only(mode: Mode, url: str) -> None:
    with pytest.raises(ConfigurationError, match="found"):
        stream(url, mode)


def test_live_listens_to_coinbase() -> None:
    assert stream("wss://advanced-trade-ws-user.coinbase.com", Mode.LIVE).url


def test_the_wait_before_a_new_connection_doubles_up_to_a_bound_and_is_drawn() -> None:
    patience = Patience(backoff_first=1, backoff_most=30)
    most = [stream(patience=patience, jitter=lambda: 1.0)._backoff(failures) for failures in (0, 1, 2, 4, 5, 1000)]
    assert most == [1, 2, 4, 16, 30, 30]
    assert stream(patience=patience, jitter=lambda: 0.25)._backoff(2) == 1


def test_it_tells_nothing_of_its_key() -> None:
    assert repr(stream()) == "Stream(wss://127.0.0.1:1, BTC-USD)"
