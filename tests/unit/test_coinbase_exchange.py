"""The Coinbase account against a TLS server on loopback that answers whatever the table says, and recorded payloads."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests

from tests.builders.coinbase_server import Reply as HttpReply
from tests.builders.coinbase_server import Venue, coinbase_server, ok, product
from tests.builders.keys import made_key
from tests.builders.plans import buy, sell, submit
from tests.builders.simulator import HURRY
from trading.errors import ConfigurationError, OutcomeUnknown, Unanswered
from trading.exchange.coinbase import CoinbaseExchange, Pace, RateBudget, wire
from trading.exchange.coinbase.replies import classify
from trading.exchange.port import Accepted, Balance, FeeTier, Rejected, Reply, Status
from trading.money import digest
from trading.orders import FillKind, Mode, OrderType, Request, Side, TimeInForce

ID = UUID("11111111-2222-4333-8444-555555555555")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
TAKEN = {
    "success": True,
    "success_response": {"order_id": "v-1", "product_id": "BTC-USD", "side": "BUY", "client_order_id": str(ID)},
    "order_configuration": None,
}


KEY = made_key()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Venue]:
    with coinbase_server(tmp_path) as running:
        yield running


def exchange(server: Venue, **changes: Any) -> CoinbaseExchange:
    options = {"host": server.host, "ca_file": server.ca_file, "timeout": (2.0, 0.3), "pace": HURRY} | changes
    return CoinbaseExchange(KEY, mode=Mode.REHEARSAL, monotonic=lambda: 0.0, sleep=lambda _: None, **options)


def refused(**fields: str) -> HttpReply:
    return ok({"success": False, "error_response": fields})


def error(status: int, word: str) -> HttpReply:
    return status, {"Content-Type": "application/json"}, json.dumps({"error": word, "message": "why"}).encode()


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def stops_half_way(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n" + json.dumps(TAKEN).encode())


def says_nothing(connection: socket.socket) -> None:
    connection.settimeout(5)
    connection.recv(1)  # returns when the client has given up


# ---- what a reply to a create counts as

LIMIT = b'{"errors":[{"id":"rate_limit_exceeded","message":"Too many requests"}]}'
CERTAIN: dict[str, tuple[HttpReply, Accepted | str]] = {
    "taken": (ok(TAKEN), Accepted("v-1")),
    "taken, as until 2024": (ok({"success": True, "order_id": "v-2", "failure_reason": "UNKNOWN_F"}), Accepted("v-2")),
    "taken, with an error beside it": (ok(TAKEN | {"error_response": {"error": "UNKNOWN_FAILURE_REASON"}}), Accepted("v-1")),
    "taken, with keys that nobody knows": (ok(TAKEN | {"new": {"of": [2027]}}), Accepted("v-1")),
    "no, by error": (refused(error="INSUFFICIENT_FUND", message="too little"), "INSUFFICIENT_FUND"),
    "no, by the order's reason": (
        refused(error="UNKNOWN_FAILURE_REASON", new_order_failure_reason="INVALID_SIZE_PRECISION"), "INVALID_SIZE_PRECISION",
    ),
    "no, by the preview's reason": (
        refused(
            error="UNKNOWN_FAILURE_REASON", new_order_failure_reason="UNKNOWN_FAILURE_REASON",
            preview_failure_reason="PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE",
        ), "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE",
    ),
    "401 by the venue": ((401, {"Content-Type": "text/plain"}, b"Unauthorized\n"), "UNAUTHORIZED"),
    "403 by the venue": (error(403, "PERMISSION_DENIED"), "PERMISSION_DENIED"),
    "400 by the venue": (error(400, "INVALID_ARGUMENT"), "INVALID_ARGUMENT"),
}  # fmt: skip
DOUBTFUL: dict[str, tuple[HttpReply | Callable[[socket.socket], None], Reply]] = {
    "no, for no reason": (
        refused(error="UNKNOWN_FAILURE_REASON", preview_failure_reason="UNKNOWN_PREVIEW_FAILURE_REASON"), Reply.UNEXPLAINED,
    ),
    "no, for a reason of tomorrow": (refused(error="MERCURY_IN_RETROGRADE"), Reply.UNEXPLAINED),
    "no, without a word": (ok({"success": False}), Reply.UNEXPLAINED),
    "the id is known": (refused(error="DUPLICATE_CLIENT_ORDER_ID"), Reply.DUPLICATE),
    "400 without a known word": (error(400, "unknown"), Reply.UNEXPLAINED),
    "400 that is INTERNAL": (error(400, "INTERNAL"), Reply.UNEXPLAINED),
    "404 right after the create": (error(404, "NOT_FOUND"), Reply.UNEXPLAINED),
    "403 by a gateway": ((403, {}, b"<html>Attention Required!</html>"), Reply.UNREADABLE),
    "401 by a gateway": ((401, {}, b"<html>who are you</html>"), Reply.UNREADABLE),
    "429 with headers": ((429, {"retry-after": "1", "x-ratelimit-remaining": "0"}, LIMIT), Reply.THROTTLED),
    "429 without headers": ((429, {}, LIMIT), Reply.THROTTLED),
    "429 as text": ((429, {}, b"Too many requests"), Reply.THROTTLED),
    "500": (error(500, "INTERNAL"), Reply.SERVER_ERROR),
    "502 as a page": ((502, {"Content-Type": "text/html"}, HTML), Reply.SERVER_ERROR),
    "520 of a proxy": ((520, {}, b""), Reply.SERVER_ERROR),
    "200 as a page": ((200, {"Content-Type": "text/html"}, HTML), Reply.UNREADABLE),
    "200 with nothing": ((200, {}, b""), Reply.UNREADABLE),
    "200 with a list": (ok([TAKEN]), Reply.UNREADABLE),
    "200 with half of it": ((200, {}, json.dumps(TAKEN).encode()[:60]), Reply.UNREADABLE),
    "200 that is no text": ((200, {}, b"\xff\xfe\x00{}"), Reply.UNREADABLE),
    "200 packed wrongly": ((200, {"Content-Encoding": "gzip"}, b"no gzip"), Reply.UNREADABLE),
    "success as a word": (ok(TAKEN | {"success": "true"}), Reply.UNREADABLE),
    "success without an order": (ok({"success": True, "success_response": {}}), Reply.UNREADABLE),
    "success of somebody else's": (
        ok({"success": True, "success_response": {"order_id": "v-3", "client_order_id": "x"}}), Reply.UNREADABLE,
    ),
    "a redirect": ((307, {"Location": "https://127.0.0.1:1/"}, b""), Reply.UNREADABLE),
    "a reset": (resets, Reply.DISCONNECTED),
    "an end half way": (stops_half_way, Reply.DISCONNECTED),
    "silence": (says_nothing, Reply.TIMED_OUT),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "expected"), CERTAIN.values(), ids=CERTAIN)
def test_a_clear_reply_settles_the_send(server: Venue, reply: HttpReply, expected: Accepted | str) -> None:
    coinbase = exchange(server)
    server.faults = [reply]
    outcome = submit(coinbase, coinbase.body(ID, buy()))
    if isinstance(expected, Accepted):
        assert outcome == expected
    else:
        assert isinstance(outcome, Rejected)
        assert outcome.code == expected


@pytest.mark.parametrize(("reply", "expected"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_every_other_reply_leaves_the_order_in_doubt_and_is_sent_once(
    server: Venue, reply: HttpReply | Callable[[socket.socket], None], expected: Reply
) -> None:
    coinbase = exchange(server)
    server.faults = [reply]
    with pytest.raises(OutcomeUnknown, match=f"^{expected.value}: "):
        submit(coinbase, coinbase.body(ID, buy()))
    assert len(server.asked) == 1


def test_nobody_listening_is_a_doubt(server: Venue) -> None:
    coinbase = exchange(server, host="127.0.0.1:1")
    with pytest.raises(OutcomeUnknown, match=r"^disconnected: "):
        submit(coinbase, coinbase.body(ID, buy()))


def test_every_reply_has_been_seen() -> None:
    assert {reply for _, reply in DOUBTFUL.values()} | {Reply.ACCEPTED, Reply.REFUSED, Reply.UNAUTHORISED} == set(Reply)


# ---- the bytes that leave


def test_the_bytes_that_arrive_are_the_body(server: Venue) -> None:
    coinbase, body = exchange(server), exchange(server).body(ID, buy())
    server.faults = [ok(TAKEN)]
    coinbase.submit(body, digest(body))
    assert server.bodies == [body.encode()]


def test_a_body_that_is_not_the_approved_one_does_not_leave(server: Venue) -> None:
    coinbase = exchange(server)
    approved, other = coinbase.body(ID, buy()), coinbase.body(ID, buy(quantity="1"))
    with pytest.raises(ConfigurationError, match="not the one that was approved, nothing was sent"):
        coinbase.submit(other, digest(approved))
    assert server.asked == []


def test_what_a_layer_changes_on_the_way_does_not_leave(server: Venue) -> None:
    class Meddler(requests.auth.AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            assert isinstance(request.body, bytes)
            request.body = request.body.replace(b"0.001", b"1.001")
            return request

    coinbase = exchange(server)
    client, _ = coinbase._connection._open()
    client.session.auth = Meddler()
    with pytest.raises(ConfigurationError, match="nothing was sent"):
        submit(coinbase, coinbase.body(ID, buy()))
    assert server.asked == []


def test_a_pledge_is_good_for_one_send_and_none_is_good_without(server: Venue) -> None:
    coinbase = exchange(server)
    server.faults = [ok(TAKEN)]
    body = coinbase.body(ID, buy())
    submit(coinbase, body)
    client, _ = coinbase._connection._open()
    with pytest.raises(ConfigurationError, match="nothing was sent"):
        client.session.post(f"https://{server.host}/api/v3/brokerage/orders", data=body.encode())
    with pytest.raises(ConfigurationError, match="nothing was sent"):
        client.session.post(f"https://{server.host}/api/v3/brokerage/orders", data=iter([body.encode()]))
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["https://api.coinbase.com.evil.test/", "https://127.0.0.1:1/", "http://{host}/"])
def test_another_host_or_no_tls_is_refused_before_a_connection(server: Venue, url: str) -> None:
    client, _ = exchange(server)._connection._open()
    with pytest.raises(ConfigurationError, match="expected https://"):
        client.session.get(url.format(host=server.host))


def test_the_environment_changes_neither_trust_nor_the_way(
    server: Venue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "none.pem"))
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.faults = [ok({"iso": "2026-11-24T12:00:00Z"})]
    assert exchange(server).venue_time() == NOON


def test_an_authority_that_nobody_named_is_not_trusted(server: Venue) -> None:
    with pytest.raises(OutcomeUnknown, match=r"^disconnected: SSLError"):
        submit(exchange(server, ca_file=None), exchange(server).body(ID, buy()))


@pytest.mark.parametrize(
    ("mode", "host"),
    [
        (Mode.LIVE, "127.0.0.1:8443"), (Mode.LIVE, "localhost:8443"), (Mode.LIVE, "api.coinbase.com:443"),
        (Mode.LIVE, "api-sandbox.coinbase.com"), (Mode.REHEARSAL, "api.coinbase.com"), (Mode.REHEARSAL, "10.0.0.1:8443"),
        (Mode.REHEARSAL, "127.0.0.1.evil.test:8443"), (Mode.REHEARSAL, "127.0.0.1"), (Mode.PAPER, "api.coinbase.com"),
    ],
)  # fmt: skip
def test_a_mode_talks_to_its_own_hosts_only(mode: Mode, host: str) -> None:
    with pytest.raises(ConfigurationError, match="found"):
        CoinbaseExchange(KEY, mode=mode, host=host, monotonic=lambda: 0.0, sleep=lambda _: None)


# ---- bodies


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (buy(), {"market_market_ioc": {"base_size": "0.001"}}),
        (
            buy(type=OrderType.LIMIT, limit_price=Decimal("50000.10")),
            {"sor_limit_ioc": {"base_size": "0.001", "limit_price": "50000.1"}},
        ),
        (
            sell(type=OrderType.LIMIT, limit_price=Decimal("5E+4"), time_in_force=TimeInForce.GTC, post_only=True),
            {"limit_limit_gtc": {"base_size": "0.001", "limit_price": "50000", "post_only": True}},
        ),
        (
            buy(type=OrderType.LIMIT, limit_price=Decimal(1), time_in_force=TimeInForce.GTD, expires_at=NOON),
            {"limit_limit_gtd": {
                "base_size": "0.001", "limit_price": "1", "post_only": False, "end_time": "2026-11-24T12:00:00Z",
            }},
        ),
        (
            buy(type=OrderType.LIMIT, limit_price=Decimal(1), time_in_force=TimeInForce.FOK),
            {"limit_limit_fok": {"base_size": "0.001", "limit_price": "1"}},
        ),
        (
            sell(type=OrderType.BRACKET, limit_price=Decimal(11), stop_price=Decimal(9), time_in_force=TimeInForce.GTC),
            {"trigger_bracket_gtc": {"base_size": "0.001", "limit_price": "11", "stop_trigger_price": "9"}},
        ),
        (
            sell(type=OrderType.STOP_LIMIT, limit_price=Decimal(9), stop_price=Decimal(10), time_in_force=TimeInForce.GTC),
            {"stop_limit_stop_limit_gtc": {
                "base_size": "0.001", "limit_price": "9", "stop_price": "10", "stop_direction": "STOP_DIRECTION_STOP_DOWN",
            }},
        ),
        (
            buy(type=OrderType.STOP_LIMIT, limit_price=Decimal(11), stop_price=Decimal(10), time_in_force=TimeInForce.GTD,
                expires_at=NOON),
            {"stop_limit_stop_limit_gtd": {
                "base_size": "0.001", "limit_price": "11", "stop_price": "10", "stop_direction": "STOP_DIRECTION_STOP_UP",
                "end_time": "2026-11-24T12:00:00Z",
            }},
        ),
    ],
)  # fmt: skip
def test_a_body_has_the_one_configuration_of_its_terms(server: Venue, request_: Request, expected: object) -> None:
    body = json.loads(exchange(server).body(ID, request_))
    assert body.pop("order_configuration") == expected
    assert body == {"client_order_id": str(ID), "product_id": "BTC-USD", "side": request_.side.upper()}


@pytest.mark.parametrize(
    "request_",
    [
        sell(type=OrderType.STOP, stop_price=Decimal(10), time_in_force=TimeInForce.GTC),
        buy(time_in_force=TimeInForce.GTC),
        buy(post_only=True),
        buy(time_in_force=TimeInForce.FOK),
        buy(type=OrderType.LIMIT, limit_price=Decimal(1), time_in_force=TimeInForce.FOK, post_only=True),
        sell(type=OrderType.BRACKET, limit_price=Decimal(11), time_in_force=TimeInForce.GTC),
        buy(type=OrderType.LIMIT, time_in_force=TimeInForce.GTC),
        buy(type=OrderType.LIMIT, limit_price=Decimal(1), time_in_force=TimeInForce.GTD),
    ],
)
def test_terms_that_coinbase_does_not_know_make_no_body(server: Venue, request_: Request) -> None:
    with pytest.raises(ConfigurationError, match="coinbase: BTC-USD: "):
        exchange(server).body(ID, request_)


# ---- edits and previews


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"success": True, "errors": []}, ""),
        ({"success": True, "errors": {"edit_failure_reason": "UNKNOWN_EDIT_ORDER_FAILURE_REASON"}}, ""),
        ({"success": False, "errors": [{"edit_failure_reason": "ORDER_NOT_FOUND"}]}, "ORDER_NOT_FOUND"),
        (
            {"success": False, "errors": {
                "edit_failure_reason": "UNKNOWN_EDIT_ORDER_FAILURE_REASON", "preview_failure_reason": "PREVIEW_INVALID_SIDE",
            }}, "PREVIEW_INVALID_SIDE",
        ),
        ({"success": False}, "no reason"),
    ],
)  # fmt: skip
def test_an_edit_sends_both_price_and_size_and_tells_the_reason(server: Venue, reply: Any, reason: str) -> None:
    server.faults = [ok(reply)]
    assert exchange(server).edit("v-1", quantity=Decimal("0.50"), limit_price=Decimal("5E+1")) == reason
    assert server.bodies == [b'{"order_id":"v-1","price":"50","size":"0.5"}']


@pytest.mark.parametrize("reply", [(200, {}, HTML), error(500, "INTERNAL"), ok({"success": "yes"}), resets, says_nothing])
def test_an_edit_without_a_clear_answer_is_of_unknown_outcome(server: Venue, reply: Any) -> None:
    server.faults = [reply]
    with pytest.raises(OutcomeUnknown, match="edit"):
        exchange(server).edit("v-1", quantity=Decimal(1), limit_price=Decimal(1))
    assert len(server.asked) == 1


def test_a_preview_tells_the_reasons_against_an_order_and_places_none(server: Venue) -> None:
    server.faults = [ok({"errs": ["PREVIEW_INSUFFICIENT_FUND"], "warning": ["BIG_ORDER"], "order_total": "1.5"})]
    told = exchange(server).preview(buy())
    assert (told.refused, told.warnings) == (("PREVIEW_INSUFFICIENT_FUND",), ("BIG_ORDER",))
    assert (told.total, told.commission) == (Decimal("1.5"), Decimal(0))
    assert server.bodies == [
        b'{"order_configuration":{"market_market_ioc":{"base_size":"0.001"}},"product_id":"BTC-USD","side":"BUY"}'
    ]


@pytest.mark.parametrize(
    "reply", [ok({}), ok({"errs": "none"}), ok({"errs": [], "order_total": "much"}), error(400, "X"), resets]
)
def test_a_preview_that_cannot_be_read_is_no_answer(server: Venue, reply: Any) -> None:
    server.faults = [reply]
    with pytest.raises(Unanswered):
        exchange(server).preview(buy())


@pytest.mark.parametrize(
    ("reasons", "takes"),
    [
        ([], True), (["PREVIEW_INSUFFICIENT_FUND"], True), (["BRACKET_ORDER_NOT_SUPPORTED"], False),
        (["PREVIEW_INVALID_ORDER_CONFIG"], False), (["PREVIEW_INSUFFICIENT_FUND", "UNSUPPORTED_ORDER_CONFIGURATION"], False),
    ],
)  # fmt: skip
def test_whether_a_kind_of_order_is_taken_is_told_by_a_preview(server: Venue, reasons: list[str], takes: bool) -> None:
    server.faults = [ok({"errs": reasons})]
    assert exchange(server).takes(buy()) is takes


# ---- reads


def order_row(id_: str = "v-1", **changes: Any) -> dict[str, Any]:
    return {
        "order_id": id_, "client_order_id": str(ID), "product_id": "BTC-USD", "side": "BUY", "status": "OPEN",
        "order_configuration": {"limit_limit_gtc": {"base_size": "0.5", "limit_price": "100.00", "post_only": False}},
        "filled_size": "0.1", "total_fees": "0.06", "created_time": "2026-11-24T12:00:00.123456789Z",
    } | changes  # fmt: skip


def fill_row(id_: str = "e-1", **changes: Any) -> dict[str, Any]:
    return {
        "entry_id": id_, "trade_id": "t-1", "order_id": "v-1", "trade_time": "2026-11-24T12:00:00Z", "trade_type": "FILL",
        "price": "100", "size": "0.5", "commission": "0.3", "product_id": "BTC-USD", "liquidity_indicator": "TAKER",
        "sequence_timestamp": "2026-11-24T12:00:00Z", "size_in_quote": False, "side": "BUY",
    } | changes  # fmt: skip


def orders_page(*rows: dict[str, Any], cursor: str = "") -> HttpReply:
    return ok({"orders": list(rows), "has_next": bool(cursor), "cursor": cursor or "last"})


def test_orders_are_read_over_all_pages_and_open_ones_of_any_age_with_them(server: Venue) -> None:
    server.faults = [
        orders_page(order_row("a"), order_row("b"), cursor="2"), orders_page(order_row("b"), order_row("c")),
        orders_page(order_row("b", status="CANCEL_QUEUED"), order_row("old")),
    ]  # fmt: skip
    found = exchange(server).orders(NOON)
    assert [order.exchange_order_id for order in found] == ["a", "b", "c", "old"]
    assert found[1].raw_status == "CANCEL_QUEUED", "what was read last counts"
    first, second, third = (query for _, query in server.asked)
    assert first == {"start_date": ["2026-11-24T12:00:00Z"], "limit": ["1000"]}, "no filter by status"
    assert second == first | {"cursor": ["2"]}
    assert third == {"order_status": ["OPEN"], "limit": ["1000"]}


@pytest.mark.parametrize(
    "pages",
    [
        [orders_page(order_row("a"), cursor="2"), orders_page(order_row("b"), cursor="2"), orders_page(), orders_page()],
        [orders_page(cursor="2")],
        [ok({"orders": [order_row("a")], "has_next": True, "cursor": ""})],
        [ok({"orders": [order_row("a")]})],
        [ok({"orders": "none", "has_next": False})],
        [orders_page(order_row("a", side="SIDEWAYS"))],
        [orders_page(order_row("a", created_time=""))],
        [orders_page(order_row("a", filled_size="much"))],
    ],
    ids=["a cursor again", "an empty page", "no cursor", "no end", "no list", "no side", "no time", "no number"],
)
def test_a_list_that_is_not_whole_or_cannot_be_read_is_no_answer(server: Venue, pages: list[HttpReply]) -> None:
    server.faults = list(pages)
    with pytest.raises(Unanswered, match="coinbase: "):
        exchange(server).orders(NOON)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"status": Status.OPEN, "quantity": Decimal("0.5"), "limit_price": Decimal(100)}),
        ({"status": "QUEUED"}, {"status": Status.OPEN, "raw_status": "QUEUED"}),
        ({"status": "FAILED"}, {"status": Status.REJECTED}),
        ({"status": "MELTED"}, {"status": Status.UNKNOWN, "raw_status": "MELTED"}),
        ({"client_order_id": None}, {"client_order_id": ""}),
        ({"order_configuration": None}, {"quantity": Decimal("0.1"), "limit_price": None}),
        ({"order_configuration": {"market_market_ioc": {"quote_size": "10"}}}, {"quantity": Decimal("0.1")}),
        ({"order_configuration": {"x": {"quote_size": "10", "limit_price": "100"}}}, {"quantity": Decimal("0.1")}),
        ({"order_configuration": {"twap_2027": {"base_size": 2, "new": []}}}, {"quantity": Decimal(2)}),
        ({"total_fees": "", "filled_size": ""}, {"fees": Decimal(0), "filled": Decimal(0)}),
    ],
)  # fmt: skip
def test_an_order_is_read_as_the_venue_tells_it(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = wire.exchange_order(order_row(**changes))
    assert replace(found, **expected) == found


def test_times_keep_their_microseconds_and_numbers_their_digits(server: Venue) -> None:
    server.faults = [orders_page(order_row()), orders_page()]
    [order] = exchange(server).orders(NOON)
    assert order.created_at == NOON + timedelta(microseconds=123456)
    server.faults = [(200, {}, b'{"fee_tier":{"maker_fee_rate":0.30000000000000004,"taker_fee_rate":"0.012"}}')]
    assert exchange(server).fee_tier() == FeeTier(Decimal("0.30000000000000004"), Decimal("0.012"))


def test_fills_end_with_an_empty_page_are_told_once_oldest_first_and_know_their_client(server: Venue) -> None:
    late = fill_row("e-2", trade_time="2026-11-24T13:00:00Z", order_id="v-2")
    early = fill_row("e-0", trade_time="2026-11-24T11:59:59Z")
    server.faults = [
        ok({"fills": [late, fill_row()], "cursor": "2"}), ok({"fills": [fill_row(), early], "cursor": "3"}),
        ok({"fills": [], "cursor": "4"}), orders_page(order_row("v-1"), order_row("v-2", client_order_id="by hand")),
    ]  # fmt: skip
    found = exchange(server).fills(NOON)
    assert [(fill.entry_id, fill.client_order_id) for fill in found] == [("e-1", ID), ("e-2", None)]
    assert server.asked[0][1]["start_sequence_timestamp"] == ["2026-11-24T11:58:00Z"], "an entry may be dated before its trade"
    assert server.asked[-1][1]["order_ids"] == ["v-1", "v-2"]


def test_fills_of_one_moment_keep_the_venues_order(server: Venue) -> None:
    server.faults = [ok({"fills": [fill_row("second"), fill_row("first")], "cursor": ""}), orders_page(order_row())]
    assert [fill.entry_id for fill in exchange(server).fills(NOON)] == ["first", "second"]


def test_the_client_of_a_fill_is_not_asked_twice(server: Venue) -> None:
    coinbase = exchange(server)
    server.faults = [ok(TAKEN), ok({"fills": [fill_row()], "cursor": ""})]
    submit(coinbase, coinbase.body(ID, buy()))
    assert [fill.client_order_id for fill in coinbase.fills(NOON)] == [ID]
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"quantity": Decimal("0.5"), "fee": Decimal("0.3"), "liquidity": "taker", "kind": FillKind.TRADE}),
        ({"size_in_quote": True, "size": "2.6399716828", "price": "2975.32"}, {"quantity": Decimal("0.000887290000000000")}),
        ({"trade_type": "REVERSAL"}, {"kind": FillKind.REVERSAL}),
        ({"trade_type": "CORRECTION"}, {"kind": FillKind.CORRECTION}),
        ({"trade_type": "SYNTHETIC"}, {"kind": FillKind.SYNTHETIC}),
        ({"product_id": "BTC-USDC"}, {"product": "BTC-USDC", "fee_asset": "USDC"}),
        ({"liquidity_indicator": "UNKNOWN_LIQUIDITY_INDICATOR"}, {"liquidity": "unknown_liquidity_indicator"}),
        ({"side": "SELL"}, {"side": Side.SELL}),
    ],
)  # fmt: skip
def test_a_fill_is_read_as_the_venue_tells_it(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = wire.fill(fill_row(**changes), str(ID))
    assert replace(found, **expected) == found


@pytest.mark.parametrize("changes", [{"trade_type": "DREAM"}, {"entry_id": None}, {"price": ""}, {"size": True}])
def test_a_fill_that_cannot_be_booked_is_no_answer(changes: dict[str, Any]) -> None:
    with pytest.raises(Unanswered, match="coinbase: "):
        wire.fill(fill_row(**changes), str(ID))


def account(currency: str, available: str, hold: str, uuid: str = "") -> dict[str, Any]:
    parts = {"available_balance": {"value": available, "currency": currency}, "hold": {"value": hold, "currency": currency}}
    return {"uuid": uuid or currency, "currency": currency, **parts}


def test_balances_are_read_over_all_pages_and_accounts_of_one_asset_add_up(server: Venue) -> None:
    server.faults = [
        ok({"accounts": [account("USD", "10.5", "1"), account("BTC", "1", "0.5", "a")], "has_next": True, "cursor": "2"}),
        ok({"accounts": [account("BTC", "2", "0", "b"), account("BTC", "1", "0.5", "a")], "has_next": False, "cursor": "x"}),
    ]
    expected = {"USD": Balance(Decimal("10.5"), Decimal(1)), "BTC": Balance(Decimal(3), Decimal("0.5"))}
    assert exchange(server).balances() == expected


def test_products_come_with_their_flags(server: Venue) -> None:
    server.faults = [ok({"products": [product("BTC-USD", cancel_only=True), product("ETH-USD", post_only=True)]})]
    found = exchange(server).products(["BTC-USD", "ETH-USD", "NOPE-USD"])
    assert (found["BTC-USD"].tradable, found["ETH-USD"].post_only, len(found)) == (False, True, 2)
    server.faults = [ok({"products": [product("BTC-USD", base_increment="much")]})]
    with pytest.raises(Unanswered, match="base_increment"):
        exchange(server).products(["BTC-USD"])


@pytest.mark.parametrize(
    "first", [error(500, "INTERNAL"), (502, {}, HTML), (401, {}, b"Unauthorized\n"), (429, {}, LIMIT), (200, {}, HTML), resets]
)
def test_a_read_is_asked_again_with_a_new_signature(server: Venue, first: Any) -> None:
    server.faults = [first, ok({"can_view": True, "can_trade": True, "can_transfer": False, "portfolio_uuid": "p"})]
    permissions = exchange(server).permissions()
    assert (permissions.can_trade, permissions.can_transfer, permissions.portfolio) == (True, False, "p")


def test_a_permission_that_is_not_told_is_no_answer(server: Venue) -> None:
    server.faults = [ok({"can_view": True, "can_trade": True})]
    with pytest.raises(Unanswered, match="can_transfer"):
        exchange(server).permissions()


@pytest.mark.parametrize("reply", [error(403, "PERMISSION_DENIED"), (307, {"Location": "https://127.0.0.1:1/"}, b"")])
def test_a_read_that_is_refused_is_unanswered_at_once(server: Venue, reply: HttpReply) -> None:
    server.faults = [reply]
    with pytest.raises(Unanswered, match=r"GET /api/v3/brokerage/transaction_summary: status"):
        exchange(server).fee_tier()
    assert len(server.asked) == 1


# ---- cancels


def test_cancels_go_out_by_the_hundred_and_refusals_come_back_with_their_reason(server: Venue) -> None:
    ids = [f"v-{number}" for number in range(205)]
    told = [{"success": id_ != "v-7", "failure_reason": "UNKNOWN_CANCEL_ORDER", "order_id": id_} for id_ in ids[:-1]]
    told.append({"order_id": "v-204"})
    server.faults = [ok({"results": told[first : first + 100]}) for first in (0, 100, 200)]
    assert exchange(server).cancel(ids) == {"v-7": "UNKNOWN_CANCEL_ORDER", "v-204": "no reason"}
    assert [len(json.loads(body)["order_ids"]) for body in server.bodies] == [100, 100, 5]


@pytest.mark.parametrize(
    "reply",
    [ok({"results": []}), ok({}), error(500, "INTERNAL"), (401, {}, b"Unauthorized\n"), (200, {}, HTML), resets, says_nothing],
)  # fmt: skip
def test_a_cancel_without_a_result_for_each_order_is_of_unknown_outcome(server: Venue, reply: Any) -> None:
    server.faults = [reply]
    with pytest.raises(OutcomeUnknown, match="cancel"):
        exchange(server).cancel(["v-1"])
    assert len(server.asked) == 1


# ---- pace


def test_reads_leave_a_reserve_that_a_cancel_uses_without_waiting(server: Venue) -> None:
    waited: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    pace = replace(HURRY, private_per_second=5, cancel_reserve=2)
    coinbase = CoinbaseExchange(
        KEY, mode=Mode.REHEARSAL, host=server.host, ca_file=server.ca_file, monotonic=lambda: now[0], sleep=sleep, pace=pace
    )
    tier = ok({"fee_tier": {"maker_fee_rate": "0", "taker_fee_rate": "0"}})
    done = ok({"results": [{"success": True, "order_id": "v-1"}]})
    server.faults = [tier, tier, tier, done, done, tier]
    for _ in range(3):
        coinbase.fee_tier()
    coinbase.cancel(["v-1"])
    coinbase.cancel(["v-1"])
    assert waited == []
    coinbase.fee_tier()
    assert waited == [pytest.approx(0.6)], "the reserve is filled again before a read may go"


def test_a_budget_without_a_reserve_is_as_before() -> None:
    waited: list[float] = []
    budget = RateBudget(2, 1, lambda: 0.0, waited.append)
    budget.take()
    budget.take()
    assert waited == [0.5]


def test_the_pace_by_default_lies_within_the_venues_limits() -> None:
    assert (Pace().private_per_second, Pace().public_per_second) == (10, 5)


# ---- recorded payloads

recorded = pytest.mark.skipif("KEEL_RECORDED" not in os.environ, reason="KEEL_RECORDED is not set: no recorded payloads")


def payload(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((Path(os.environ["KEEL_RECORDED"]) / "fixtures" / "coinbase" / name).read_text())
    return body.get("response", body)


@recorded
@pytest.mark.parametrize(
    "name",
    ["nautilus/http_orders_list.json", "ccxt/fetch_orders_3540_1.json", "ccxt/fetch_orders_by_status_3610_1.json"],
)
def test_recorded_orders_are_read(name: str) -> None:
    for row in payload(name)["orders"]:
        order = wire.exchange_order(row)
        assert order.exchange_order_id == row["order_id"]
        assert order.status is not Status.UNKNOWN
        assert order.quantity > 0


@recorded
@pytest.mark.parametrize(
    "name", ["nautilus/http_fills.json", "jkorf/Trading_GetUserTrades.json", "ccxt/fetch_my_trades_3896_1.json"]
)
def test_recorded_fills_are_read(name: str) -> None:
    for row in payload(name)["fills"]:
        fill = wire.fill(row, "")
        worth = fill.quantity * fill.price if row["size_in_quote"] else fill.quantity
        assert worth == pytest.approx(Decimal(row["size"]), abs=Decimal("1e-12"))


@recorded
def test_recorded_accounts_and_fees_are_read() -> None:
    found = dict(map(wire.balance, payload("nautilus/http_accounts.json")["accounts"]))
    assert found["BTC"] == Balance(Decimal("1.23456789"), Decimal("0.005"))
    assert wire.balance(payload("ccxt/fetch_accounts_v3_650_1.json"))[1].total == 0
    assert wire.fee_tier(payload("jkorf/Account_GetFeeInfo.json")) == FeeTier(Decimal("0.002"), Decimal("0.001"))


@recorded
def test_recorded_replies_to_creates_are_classified() -> None:
    def told(name: str, client_id: str) -> Reply:
        return classify(200, json.dumps(payload(name)).encode(), client_id).reply

    assert told("jkorf/Trading_PlaceOrder.json", "0000-00000-000000") is Reply.ACCEPTED
    assert told("jkorf/Trading_PlaceOrder.json", str(ID)) is Reply.UNREADABLE
    assert told("ccxt/handle_errors_5063_2.json", str(ID)) is Reply.REFUSED
    assert told("ccxt/handle_errors_5063_1.json", str(ID)) is Reply.UNREADABLE
