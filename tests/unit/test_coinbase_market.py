"""Coinbase's public data over real TLS on loopback: shapes, pages, flags, and what is done when the venue misbehaves."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tests.builders.coinbase_server import Reply, Venue, candle, coinbase_server, ok, product
from trading.errors import ConfigurationError, MarketUnavailable
from trading.exchange.coinbase import PAGE, CoinbaseMarket, RateBudget

NOW = datetime(2026, 4, 7, 14, 30, 5, tzinfo=UTC)
HOUR = 3600
SLOT = int(datetime(2026, 4, 7, 14, tzinfo=UTC).timestamp())
HTML = (502, {"Content-Type": "text/html"}, b"<html><body><h1>502 Bad Gateway</h1></body></html>")


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[Venue]:
    with coinbase_server(tmp_path) as running:
        running.products = {name: product(name) for name in ("BTC-USD", "ETH-USD")}
        running.book = {"BTC-USD": ("68923.66", "68923.67"), "ETH-USD": ("1919.44", "1919.49")}
        yield running


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


def market(venue: Venue, **changes: object) -> CoinbaseMarket:
    time = FakeTime()
    options = {"ca_file": venue.ca_file, "timeout": (2.0, 0.3), "backoff_seconds": 0.0} | changes
    return CoinbaseMarket(clock=lambda: NOW, monotonic=time.monotonic, sleep=time.sleep, base_url=venue.host, **options)  # type: ignore[arg-type]


def one_candle(coinbase: CoinbaseMarket) -> int:
    return len(coinbase.candles({"BTC-USD": SLOT - HOUR}, "1h", NOW.replace(minute=0, second=0)))


def test_products_come_in_one_call_and_an_unknown_one_is_missing(venue: Venue) -> None:
    found = market(venue).products(["BTC-USD", "ETH-USD", "NO-USD"])
    assert list(found) == ["BTC-USD", "ETH-USD"]
    assert len(venue.asked) == 1
    btc = found["BTC-USD"]
    assert (btc.base, btc.quote, btc.tradable) == ("BTC", "USD", True)
    assert (btc.base_increment, btc.price_increment) == (Decimal("1e-8"), Decimal("0.01"))
    assert (btc.base_min_size, btc.base_max_size, btc.min_notional) == (Decimal("1e-8"), Decimal(3400), Decimal(1))


def test_three_hundred_products_are_asked_for_in_two_calls(venue: Venue) -> None:
    ids = [f"A{place}-USD" for place in range(300)]
    venue.products = {name: product(name) for name in ids}
    assert list(market(venue).products(ids)) == ids
    assert [len(query["product_ids"]) for _, query in venue.asked] == [200, 100]


@pytest.mark.parametrize(
    ("changes", "tradable"),
    [
        ({}, True),
        ({"is_disabled": True}, False),
        ({"trading_disabled": True}, False),
        ({"cancel_only": True}, False),
        ({"view_only": True}, False),
        ({"auction_mode": True}, False),
        ({"status": "delisted"}, False),
        ({"status": ""}, False),
        ({"limit_only": True}, True),
        ({"post_only": True}, True),
    ],
)
def test_a_flag_that_forbids_new_orders_makes_a_product_untradable(
    venue: Venue, changes: dict[str, object], tradable: bool
) -> None:
    venue.products["BTC-USD"] = product("BTC-USD", **changes)
    found = market(venue).products(["BTC-USD"])["BTC-USD"]
    assert found.tradable is tradable
    assert found.limit_only is bool(changes.get("limit_only"))
    assert found.post_only is bool(changes.get("post_only"))


@pytest.mark.parametrize("value", [0.01, "", "abc", "NaN", None])
def test_an_increment_that_is_no_exact_text_is_refused_by_name(venue: Venue, value: object) -> None:
    venue.products["BTC-USD"] = product("BTC-USD", base_increment=value)
    with pytest.raises(MarketUnavailable, match="BTC-USD: base_increment"):
        market(venue).products(["BTC-USD"])


def test_a_year_of_hourly_candles_comes_in_pages_of_350_in_order(venue: Venue) -> None:
    since = SLOT - 1000 * HOUR
    found = market(venue).candles({"BTC-USD": since}, "1h", datetime.fromtimestamp(SLOT, UTC))
    assert list(found["start"]) == list(range(since, SLOT, HOUR))
    assert len(venue.asked) == 3
    assert all(int(query["end"][0]) - int(query["start"][0]) <= (PAGE - 1) * HOUR for _, query in venue.asked)
    assert found.dtypes.astype(str).to_dict() | {"product": "any"} == {
        "product": "any", "start": "int64", "open": "float64", "high": "float64", "low": "float64", "close": "float64",
        "volume": "float64",
    }  # fmt: skip


def test_candles_at_or_after_until_are_not_given(venue: Venue) -> None:
    until = datetime.fromtimestamp(SLOT, UTC)
    assert market(venue).candles({"BTC-USD": SLOT - HOUR}, "1h", until)["start"].to_list() == [SLOT - HOUR]
    within = until + timedelta(minutes=30)
    assert market(venue).candles({"BTC-USD": SLOT - HOUR}, "1h", within)["start"].to_list() == [SLOT - HOUR, SLOT]


def test_nothing_is_asked_for_when_nothing_is_due(venue: Venue) -> None:
    found = market(venue).candles({"BTC-USD": SLOT}, "1h", datetime.fromtimestamp(SLOT, UTC))
    assert found.empty
    assert found["start"].dtype == np.int64
    assert venue.asked == []


def test_missing_repeated_and_unreadable_candles_are_passed_on_for_the_gate_to_judge(venue: Venue) -> None:
    first = SLOT - 4 * HOUR
    venue.candles = lambda *_: [
        candle(first + 3 * HOUR), candle(first), candle(first + HOUR, "7"), candle(first + HOUR, "x"), {"start": str(first)},
    ]  # fmt: skip
    found = market(venue).candles({"BTC-USD": first}, "1h", datetime.fromtimestamp(SLOT, UTC))
    assert ((found["start"] - first) // HOUR).to_list() == [0, 0, 1, 1, 3]
    assert found["close"].isna().to_list() == [False, True, False, True, False]


def test_quotes_come_from_the_listing_in_one_call_where_the_venue_fills_them_in(venue: Venue) -> None:
    for name in venue.products:
        venue.products[name] |= {"best_bid_price": "10.1", "best_ask_price": "10.2"}
    quotes = market(venue).quotes(["BTC-USD", "ETH-USD"], NOW)
    assert {name: (quote.bid, quote.ask, quote.at) for name, quote in quotes.items()} == {
        name: (Decimal("10.1"), Decimal("10.2"), NOW) for name in ("BTC-USD", "ETH-USD")
    }
    assert len(venue.asked) == 1


def test_quotes_come_from_the_books_where_the_listing_has_none_and_the_listing_is_not_asked_again(venue: Venue) -> None:
    coinbase = market(venue)
    quote = coinbase.quotes(["BTC-USD", "ETH-USD"], NOW)["BTC-USD"]
    assert (quote.bid, quote.ask) == (Decimal("68923.66"), Decimal("68923.67"))
    assert quote.bids == ((Decimal("68923.66"), Decimal("0.5")),)
    assert quote.at == datetime(2026, 4, 7, 14, 30, 3, 123456, tzinfo=UTC)
    assert len(venue.asked) == 3
    coinbase.quotes(["BTC-USD", "ETH-USD"], NOW)
    assert len(venue.asked) == 5


@pytest.mark.parametrize(("bid", "ask"), [("", "10"), ("10", ""), ("10", "10"), ("11", "10")])
def test_a_one_sided_or_crossed_book_gives_no_quote(venue: Venue, bid: str, ask: str) -> None:
    venue.book["BTC-USD"] = (bid, ask)
    assert list(market(venue).quotes(["BTC-USD", "ETH-USD"], NOW)) == ["ETH-USD"]


def drop(connection: socket.socket) -> None:
    connection.close()


def stay_silent(connection: socket.socket) -> None:
    connection.recv(1)  # until the client gives up and closes


def half_a_reply(connection: socket.socket) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n{"candles":[{"st')
    connection.close()


PASSING = [
    (429, {"Retry-After": "0"}, b'{"error":"rate limit"}'),
    (429, {}, b"too many"),
    HTML,
    (500, {}, b"{}"),
    (200, {"Content-Type": "text/html"}, b"<html>maintenance</html>"),
    (200, {}, b'{"candles":[{"start":"17'),
    drop,
    stay_silent,
    half_a_reply,
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.__name__ if callable(fault) else str(fault[2][:20]))
def test_a_passing_fault_is_retried(venue: Venue, fault: Reply) -> None:
    venue.faults = [fault, fault]
    assert one_candle(market(venue)) == 1
    assert len(venue.asked) == 3


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.__name__ if callable(fault) else str(fault[2][:20]))
def test_a_lasting_fault_ends_in_an_error_that_names_product_and_path(venue: Venue, fault: Reply) -> None:
    venue.faults = [fault] * 9
    with pytest.raises(MarketUnavailable, match=r"BTC-USD: GET /api/v3/brokerage/market/products/BTC-USD/candles"):
        one_candle(market(venue, attempts=3))
    assert len(venue.asked) == 3


def test_an_error_shows_status_and_the_beginning_of_the_reply(venue: Venue) -> None:
    venue.faults = [HTML]
    with pytest.raises(MarketUnavailable, match=r"status 502, reply '<html><body><h1>502 Bad Gateway"):
        one_candle(market(venue, attempts=1))


@pytest.mark.parametrize(
    "refusal",
    [
        (400, {}, b'{"error":"INVALID_ARGUMENT"}'),
        (404, {}, b"{}"),
        (403, {}, b"no"),
        (429, {"Retry-After": "3600"}, b"later"),
    ],
)
def test_a_refusal_that_will_not_pass_is_not_retried(venue: Venue, refusal: Reply) -> None:
    venue.faults = [refusal]
    with pytest.raises(MarketUnavailable):
        one_candle(market(venue))
    assert len(venue.asked) == 1


@pytest.mark.parametrize("body", [{}, {"candles": None}, {"candles": {}}, {"candles": [1]}, {"candles": [{"low": "1"}]}, []])
def test_a_reply_of_another_shape_is_an_error_and_never_no_candles(venue: Venue, body: object) -> None:
    venue.faults = [ok(body)]
    with pytest.raises(MarketUnavailable, match="candles"):
        one_candle(market(venue))


def test_a_certificate_of_an_unknown_authority_is_refused_at_once(venue: Venue) -> None:
    with pytest.raises(MarketUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        one_candle(market(venue, ca_file=None))
    assert venue.asked == []


def test_proxies_and_authorities_of_the_environment_do_not_matter(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    assert one_candle(market(venue)) == 1


def test_it_can_say_whether_the_venue_answers(venue: Venue) -> None:
    assert market(venue).answers()
    venue.faults = [HTML]
    assert not market(venue).answers()
    venue.faults = [drop]
    assert not market(venue).answers()


@pytest.mark.parametrize(
    "changes",
    [{"ca_file": Path("/nowhere.pem")}, {"base_url": "https://api.coinbase.com"}],
    ids=["CA file", "base URL"],
)
def test_a_wrong_setting_is_a_configuration_error(changes: dict[str, object]) -> None:
    time = FakeTime()
    with pytest.raises(ConfigurationError):
        CoinbaseMarket(clock=lambda: NOW, monotonic=time.monotonic, sleep=time.sleep, **changes)  # type: ignore[arg-type]


def test_the_next_slot_is_the_last_candle_close(venue: Venue) -> None:
    assert market(venue).next_slot(["BTC-USD"], "1h", 300, None) == datetime(2026, 4, 7, 14, tzinfo=UTC)


def test_the_budget_lets_a_burst_through_and_then_keeps_the_rate() -> None:
    time = FakeTime()
    budget = RateBudget(5.0, 3, time.monotonic, time.sleep)
    for _ in range(3):
        budget.take()
    assert time.slept == []
    for _ in range(10):
        budget.take()
    assert time.at == pytest.approx(2.0)


def test_retries_are_paid_from_the_budget_too(venue: Venue) -> None:
    time = FakeTime()
    coinbase = CoinbaseMarket(
        clock=lambda: NOW, monotonic=time.monotonic, sleep=time.sleep, base_url=venue.host, ca_file=venue.ca_file,
        requests_per_second=2.0, burst=1, backoff_seconds=0.0,
    )  # fmt: skip
    venue.faults = [HTML, HTML]
    assert one_candle(coinbase) == 1
    assert time.slept == pytest.approx([0.5, 0.5])


@pytest.mark.skipif("KEEL_RECORDED" not in os.environ, reason="KEEL_RECORDED is not set: no recorded payloads")
def test_recorded_live_payloads_are_understood(venue: Venue) -> None:
    folder = Path(os.environ["KEEL_RECORDED"]) / "fixtures" / "coinbase" / "nautilus"
    listed = json.loads((folder / "http_product.json").read_text())
    coinbase = market(venue)
    venue.faults = [ok({"products": [listed], "num_products": 1})]
    found = coinbase.products([listed["product_id"]])[listed["product_id"]]
    assert found.tradable
    assert found.price_increment == Decimal(listed["price_increment"])
    book = json.loads((folder / "http_product_book.json").read_text())
    venue.faults = [ok({"products": [listed]}), ok(book)]
    quote = coinbase.quotes([listed["product_id"]], NOW)[listed["product_id"]]
    assert quote.bid == Decimal(book["pricebook"]["bids"][0]["price"]) < quote.ask
