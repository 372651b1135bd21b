"""The Coinbase account over the simulated venue: real SDK, real TLS, and an oracle that knows what became of each order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.builders.plans import buy, sell, submit
from tests.builders.simulator import Running, running
from trading.errors import Halted, OutcomeUnknown, Unanswered
from trading.exchange.coinbase import CoinbaseExchange
from trading.exchange.port import Accepted, ExchangeOrder, Rejected, Status
from trading.money import digest
from trading.orders import OrderType, Request, TimeInForce

FAR = Decimal(50000)
"""A bid that nobody takes: the venue trades around 60000."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("venue"), "--public-rate", "0", "--balances", "USD=10000000,BTC=10") as started:
        yield started


@pytest.fixture
def coinbase(server: Running) -> CoinbaseExchange:
    return server.exchange()


def resting(price: Decimal = FAR, **changes: object) -> Request:
    return replace(buy(type=OrderType.LIMIT, limit_price=price, time_in_force=TimeInForce.GTC), **changes)  # type: ignore[arg-type]


def send(coinbase: CoinbaseExchange, request: Request, id_: UUID | None = None) -> str:
    outcome = submit(coinbase, coinbase.body(id_ or uuid4(), request))
    assert isinstance(outcome, Accepted)
    return outcome.exchange_order_id


def an_hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


def listed(coinbase: CoinbaseExchange, id_: UUID) -> list[ExchangeOrder]:
    return [order for order in coinbase.orders(an_hour_ago()) if order.client_order_id == str(id_)]


def test_the_venue_receives_the_bytes_that_were_hashed(server: Running, coinbase: CoinbaseExchange) -> None:
    id_ = uuid4()
    body = coinbase.body(id_, buy())
    coinbase.submit(body, digest(body))
    assert server.oracle["bodies"][str(id_)] == [digest(body)]


@pytest.mark.parametrize(
    "request_",
    [
        buy(),
        sell(),
        buy(type=OrderType.LIMIT, limit_price=Decimal(60010)),
        resting(),
        resting(post_only=True),
        resting(time_in_force=TimeInForce.GTD, expires_at=datetime(2099, 1, 1, tzinfo=UTC)),
        sell(type=OrderType.STOP_LIMIT, stop_price=FAR, limit_price=Decimal(49900), time_in_force=TimeInForce.GTC),
        buy(type=OrderType.LIMIT, limit_price=Decimal(60010), time_in_force=TimeInForce.FOK),
        sell(type=OrderType.BRACKET, stop_price=FAR, limit_price=Decimal(70000), time_in_force=TimeInForce.GTC),
        buy(type=OrderType.STOP_LIMIT, stop_price=Decimal(70000), limit_price=Decimal(70100), time_in_force=TimeInForce.GTC),
    ],
    ids=lambda request: f"{request.side} {request.type} {request.time_in_force}",
)
def test_every_kind_of_order_is_taken_and_told_back_as_it_was_asked(coinbase: CoinbaseExchange, request_: Request) -> None:
    order_id = send(coinbase, request_, id_ := uuid4())
    [order] = listed(coinbase, id_)
    assert coinbase.order(order_id) == order
    assert (order.exchange_order_id, order.side, order.quantity) == (order_id, request_.side, request_.quantity)
    assert order.limit_price == request_.limit_price
    at_once = request_.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
    assert order.status is (Status.FILLED if at_once else Status.OPEN)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (buy(quantity="5000"), "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE"),
        (buy(quantity="0.000000001"), "INVALID_SIZE_PRECISION"),
        (sell(quantity="100"), "INSUFFICIENT_FUND"),
        (resting(Decimal(70000), post_only=True), "INVALID_LIMIT_PRICE_POST_ONLY"),
        (resting(Decimal("50000.001")), "INVALID_PRICE_PRECISION"),
        (buy("NOPE-USD"), "INVALID_PRODUCT_ID"),
    ],
)
def test_a_refusal_says_the_venues_reason(coinbase: CoinbaseExchange, request_: Request, code: str) -> None:
    outcome = submit(coinbase, coinbase.body(id_ := uuid4(), request_))
    assert isinstance(outcome, Rejected)
    assert outcome.code == code
    assert listed(coinbase, id_) == []


@pytest.mark.parametrize(
    ("fault", "was_taken"),
    [
        ("drop", False), ("error_500", False), ("html_502", False), ("rate_limited", False), ("not_found", False),
        ("accept_then_drop", True), ("accept_then_500", True), ("accept_then_502", True), ("accept_then_429", True),
        ("truncated_json", True), ("half_closed", True),
    ],
)  # fmt: skip
def test_a_lost_answer_is_a_doubt_that_the_list_and_the_same_bytes_resolve(
    server: Running, coinbase: CoinbaseExchange, fault: str, *, was_taken: bool
) -> None:
    body = coinbase.body(id_ := uuid4(), resting())
    server.fault(fault)
    with pytest.raises(OutcomeUnknown):
        submit(coinbase, body)
    assert server.oracle["received"][str(id_)] == 1, "nothing below us sent it again"
    assert [order.client_order_id for order in listed(coinbase, id_)] == [str(id_)] * was_taken
    again = submit(coinbase, body)
    [order] = listed(coinbase, id_)
    assert again == Accepted(order.exchange_order_id)
    assert server.oracle["bodies"][str(id_)] == [digest(body)] * 2


@pytest.mark.parametrize(("fault", "code"), [("unauthorized", "UNAUTHORIZED"), ("forbidden", "PERMISSION_DENIED")])
def test_a_key_that_the_venue_turns_away_is_a_refusal(server: Running, coinbase: CoinbaseExchange, fault: str, code: str) -> None:
    server.fault(fault)
    outcome = submit(coinbase, coinbase.body(id_ := uuid4(), resting()))
    assert isinstance(outcome, Rejected)
    assert outcome.code == code
    assert listed(coinbase, id_) == []


def test_an_answer_that_takes_too_long_is_a_doubt_and_the_order_is_there(server: Running) -> None:
    hasty = server.exchange(timeout=(2, 0.5))
    server.fault("delay", seconds=2)
    with pytest.raises(OutcomeUnknown, match=r"^timed_out: "):
        submit(hasty, hasty.body(id_ := uuid4(), resting()))
    assert str(id_) in server.oracle["orders_by_client_id"]


def test_an_answer_with_its_configuration_null_is_read(server: Running, coinbase: CoinbaseExchange) -> None:
    server.fault("null_configuration")
    id_ = uuid4()
    exchange_order_id = send(coinbase, resting(), id_)
    assert server.oracle["orders_by_client_id"][str(id_)]
    assert [order.exchange_order_id for order in listed(coinbase, id_)] == [exchange_order_id]


def test_an_id_used_before_is_answered_with_the_first_order_and_its_terms_are_told(coinbase: CoinbaseExchange) -> None:
    first = send(coinbase, resting(), id_ := uuid4())
    assert send(coinbase, sell(quantity="0.5"), id_) == first, "the venue says success to other terms"
    [order] = listed(coinbase, id_)
    assert (order.quantity, order.limit_price) == (Decimal("0.001"), FAR)


def test_an_open_order_is_edited_and_one_that_is_not_says_why(server: Running, coinbase: CoinbaseExchange) -> None:
    order_id = send(coinbase, resting(), id_ := uuid4())
    for errors, price in (("list", 50001), ("object", 50002)):
        server.control("settings", {"edit_errors": errors})
        assert coinbase.edit(order_id, quantity=Decimal("0.002"), limit_price=Decimal(price)) == ""
        [order] = listed(coinbase, id_)
        assert (order.quantity, order.limit_price) == (Decimal("0.002"), Decimal(price))
        refused = coinbase.edit("none", quantity=Decimal("0.002"), limit_price=Decimal(price))
        assert refused == "ORDER_NOT_FOUND"


def test_whether_the_venue_takes_brackets_is_asked_and_places_nothing(server: Running, coinbase: CoinbaseExchange) -> None:
    wanted = sell(type=OrderType.BRACKET, stop_price=FAR, limit_price=Decimal(70000), time_in_force=TimeInForce.GTC)
    before = coinbase.orders(an_hour_ago())
    assert coinbase.takes(wanted)
    assert coinbase.takes(replace(wanted, quantity=Decimal(3000))), "that there is not so much is another matter"
    assert coinbase.preview(replace(wanted, quantity=Decimal(3000))).refused
    server.control("settings", {"brackets": False})
    assert not coinbase.takes(wanted)
    outcome = submit(coinbase, coinbase.body(uuid4(), wanted))
    assert isinstance(outcome, Rejected)
    assert outcome.code == "BRACKET_ORDER_NOT_SUPPORTED"
    server.control("settings", {"brackets": True})
    assert coinbase.orders(an_hour_ago()) == before


def test_a_view_key_previews(server: Running) -> None:
    assert server.exchange("view").preview(buy()).total > 0


def test_orders_are_cancelled_in_batches(coinbase: CoinbaseExchange) -> None:
    ids = [send(coinbase, resting()) for _ in range(101)]
    assert coinbase.cancel([*ids, "unknown"]) == {"unknown": "UNKNOWN_CANCEL_ORDER"}
    told = {order.exchange_order_id: order.status for order in coinbase.orders(an_hour_ago())}
    assert {told[id_] for id_ in ids} == {Status.CANCELLED}


def test_a_resting_order_holds_and_what_is_held_comes_back(coinbase: CoinbaseExchange) -> None:
    before = coinbase.balances()["USD"]
    order_id = send(coinbase, resting(quantity=Decimal(1)))
    held = coinbase.balances()["USD"]
    assert held.total == before.total
    assert held.hold - before.hold >= FAR
    coinbase.cancel([order_id])
    assert coinbase.balances()["USD"] == before


def test_an_open_order_is_listed_whatever_its_age(coinbase: CoinbaseExchange) -> None:
    order_id = send(coinbase, resting())
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert order_id in {order.exchange_order_id for order in coinbase.orders(tomorrow)}


def test_a_hidden_order_is_not_listed_until_it_shows(tmp_path: Path) -> None:
    with running(tmp_path, "--start", "2026-11-24T12:00:00Z") as server:
        coinbase, since = server.exchange(), datetime(2026, 11, 24, 11, tzinfo=UTC)
        server.fault("hide_order", seconds=100)
        order_id = send(coinbase, buy())
        assert coinbase.order(order_id) is None
        assert coinbase.orders(since) == []
        server.control("clock", {"advance": 101})
        assert [order.exchange_order_id for order in coinbase.orders(since)] == [order_id]
        assert len(coinbase.fills(since)) == 1


def test_fills_that_lag_are_told_by_the_time_of_their_trade(tmp_path: Path) -> None:
    with running(tmp_path, "--start", "2026-11-24T12:00:00Z") as server:
        coinbase, noon = server.exchange(), datetime(2026, 11, 24, 12, tzinfo=UTC)
        server.control("settings", {"fill_lag_seconds": 300})
        send(coinbase, buy())
        assert coinbase.fills(noon) == []
        server.control("clock", {"advance": 301})
        assert [fill.traded_at for fill in coinbase.fills(noon)] == [noon]


def test_fills_of_somebody_elses_buy_by_quote_size_are_in_base(server: Running, coinbase: CoinbaseExchange) -> None:
    reply = server.client().market_order_buy(client_order_id="by hand", product_id="BTC-USD", quote_size="600")
    order_id = reply["success_response"]["order_id"]
    [fill] = [fill for fill in coinbase.fills(an_hour_ago()) if fill.exchange_order_id == order_id]
    [truth] = [fill for fill in server.oracle["fills"] if fill["order_id"] == order_id]
    assert fill.client_order_id is None
    assert abs(fill.quantity - Decimal(truth["quantity"])) < Decimal("1e-15")
    [order] = [order for order in coinbase.orders(an_hour_ago()) if order.exchange_order_id == order_id]
    assert order.client_order_id == "by hand"


def test_books_of_the_account_equal_the_oracles(server: Running, coinbase: CoinbaseExchange) -> None:
    send(coinbase, buy())
    send(coinbase, sell())
    truth = server.oracle
    told = {fill.entry_id: fill.fee for fill in coinbase.fills(an_hour_ago())}
    assert told == {fill["entry_id"]: Decimal(fill["fee"]) for fill in truth["fills"]}
    [main] = [held for held in truth["balances"].values() if held]
    assert {asset: balance.total for asset, balance in coinbase.balances().items()} == {
        asset: Decimal(parts["total"]) for asset, parts in main.items()
    }


def test_what_a_key_may_do_is_told_and_a_view_key_reads_but_does_not_trade(server: Running) -> None:
    view = server.exchange("view")
    permissions = view.permissions()
    assert (permissions.can_view, permissions.can_trade, permissions.can_transfer) == (True, False, False)
    assert server.exchange("transfer").permissions().can_transfer
    assert view.balances()["USD"].total > 0
    outcome = submit(view, view.body(uuid4(), buy()))
    assert isinstance(outcome, Rejected)
    assert outcome.code == "PERMISSION_DENIED"


def test_a_password_file_does_not_take_the_place_of_the_signature(
    server: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert server.exchange().balances()


def test_a_key_of_the_other_kind_signs_too(server: Running) -> None:
    assert send(server.exchange("ed25519"), buy())


def test_quotes_flags_and_the_venues_clock_are_told(server: Running, coinbase: CoinbaseExchange) -> None:
    now = datetime.now(UTC)
    quote = coinbase.quotes(["BTC-USD", "ETH-USD"], now)["BTC-USD"]
    assert 0 < quote.bid < quote.ask
    assert abs(coinbase.venue_time() - now) < timedelta(seconds=20)
    server.control("products", {"product_id": "LTC-USD", "cancel_only": True})
    assert not coinbase.products(["LTC-USD"])["LTC-USD"].tradable
    assert coinbase.movements(an_hour_ago()) == []


def test_a_read_that_fails_once_is_asked_again(server: Running, coinbase: CoinbaseExchange) -> None:
    for kind in ("drop", "html_502", "rate_limited", "truncated_json", "half_closed"):
        server.fault(kind, endpoint="get_accounts")
        assert coinbase.balances()
    server.fault("error_500", endpoint="get_fills", count=2)
    with pytest.raises(Unanswered, match="status 500"):
        coinbase.fills(an_hour_ago())


def test_while_it_is_halted_cancels_alone_leave_the_socket(server: Running) -> None:
    exchange = server.exchange()
    order_id = send(exchange, resting())
    reasons = iter(["", "halted by a file"])  # it appears between the first look and the bytes
    exchange.obey(lambda: next(reasons, "halted by a file"))
    send(exchange, resting())
    body = exchange.body(id_ := uuid4(), resting())
    with pytest.raises(Halted, match="halted by a file"):
        submit(exchange, body)
    assert str(id_) not in server.oracle["bodies"]
    assert exchange.cancel([order_id]) == {}
