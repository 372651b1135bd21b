"""The rules of the simulated venue, one order at a time. Prices stand still until a test moves them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.builders.simulator import BALANCES, NOON, PRICES, place, reason, venue
from trading.errors import ConfigurationError
from trading.money import ZERO, text
from trading.simulator.orders import SimOrder, round16
from trading.simulator.shapes import fill_body, order_body
from trading.simulator.tape import Still
from trading.simulator.venue import MAIN_PORTFOLIO, Venue
from trading.simulator.wallet import FEES, MARKET


def order(on: Venue, client_id: str) -> SimOrder:
    return on.orders[on.by_client_id[client_id]]


def usd(on: Venue) -> Decimal:
    return on.floor.wallet.available(MAIN_PORTFOLIO, "USD")


def move(on: Venue, price: str, product: str = "BTC-USD") -> None:
    on.apply("price", {"product_id": product, "price": price})


def cancel(on: Venue, client_id: str) -> Any:
    return on.apply("cancel", {"order_ids": [on.by_client_id[client_id]], "portfolio": MAIN_PORTFOLIO})["results"][0]


def edit(on: Venue, client_id: str, **changes: str) -> Any:
    reply = on.apply("edit", {"body": {"order_id": on.by_client_id[client_id], **changes}, "portfolio": MAIN_PORTFOLIO})
    return "" if reply["success"] else reply["errors"][0]["edit_failure_reason"]


def test_a_market_buy_walks_up_the_book_and_pays_the_takers_fee_of_each_fill() -> None:
    it = venue()
    place(it, "a", "BUY", "market_market_ioc", base_size="0.5")
    fills = it.floor.fills
    assert len(fills) > 1
    assert [fill.price for fill in fills] == sorted({fill.price for fill in fills})
    assert sum(fill.quantity for fill in fills) == Decimal("0.5")
    assert all(fill.fee == round16(fill.quantity * fill.price * Decimal("0.009")) for fill in fills)
    assert order(it, "a").status == "FILLED"
    spent = sum(fill.value + fill.fee for fill in fills)
    assert usd(it) == BALANCES["USD"] - spent
    assert it.floor.wallet.totals[FEES, "USD"] == sum(fill.fee for fill in fills)


def test_a_limit_that_crosses_takes_first_and_then_rests_as_a_maker() -> None:
    it = venue()
    place(it, "a", "BUY", "limit_limit_gtc", base_size="1", limit_price="60003.00")
    taken = order(it, "a").filled_size
    assert ZERO < taken < 1
    assert order(it, "a").status == "OPEN"
    move(it, "59000")
    assert order(it, "a").status == "FILLED"
    assert {fill.liquidity for fill in it.floor.fills} == {"TAKER", "MAKER"}
    maker = next(fill for fill in it.floor.fills if fill.liquidity == "MAKER")
    assert maker.price == Decimal(60003), "a maker trades at its own price"
    assert maker.fee == round16(maker.value * Decimal("0.005"))
    assert it.floor.wallet.holds[MAIN_PORTFOLIO, "USD"] == 0


def test_a_resting_buy_holds_its_price_times_size_and_fee_and_a_cancel_gives_it_back() -> None:
    it = venue()
    place(it, "a", "BUY", "limit_limit_gtc", base_size="0.1", limit_price="50000")
    assert it.floor.wallet.holds[MAIN_PORTFOLIO, "USD"] == Decimal("5045.000")
    assert cancel(it, "a")["success"]
    assert usd(it) == BALANCES["USD"]
    assert cancel(it, "a")["failure_reason"] == "INVALID_CANCEL_REQUEST"


def test_of_two_orders_at_one_price_the_older_one_fills_first() -> None:
    it = venue()
    for name in ("older", "younger"):
        place(it, name, "BUY", "limit_limit_gtc", base_size="0.1", limit_price="59990")
    it.apply("settings", {"depth_notional": "5000"})
    move(it, "59980")
    assert order(it, "older").filled_size >= order(it, "younger").filled_size
    assert order(it, "older").filled_size > 0


def test_a_reused_client_id_says_success_and_echoes_the_new_terms_with_the_first_orders_id() -> None:
    it = venue()
    first = place(it, "same", "BUY", "limit_limit_gtc", base_size="0.1", limit_price="50000")
    second = place(it, "same", "SELL", "limit_limit_gtc", base_size="0.2", limit_price="70000")
    assert second["success"]
    assert second["success_response"]["order_id"] == first["success_response"]["order_id"]
    assert second["success_response"]["side"] == "SELL"
    assert second["order_configuration"] == {"limit_limit_gtc": {"base_size": "0.2", "limit_price": "70000"}}
    assert len(it.orders) == 1
    assert len(it.received["same"]) == 2


@pytest.mark.parametrize(
    ("side", "key", "terms", "expected"),
    [
        ("BUY", "market_market_ioc", {"base_size": "0.000000001"}, "INVALID_SIZE_PRECISION"),
        ("BUY", "market_market_ioc", {"base_size": "0.00001"}, "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),
        ("BUY", "market_market_ioc", {"quote_size": "0.5"}, "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL"),
        ("BUY", "market_market_ioc", {"quote_size": "10.001"}, "PREVIEW_INVALID_QUOTE_SIZE_PRECISION"),
        ("SELL", "market_market_ioc", {"quote_size": "10"}, "UNKNOWN"),
        ("BUY", "market_market_ioc", {}, "INVALID_REQUEST"),
        ("BUY", "market_market_ioc", {"base_size": "NaN"}, "INVALID_REQUEST"),
        ("BUY", "market_market_fok", {"base_size": "1"}, "UNSUPPORTED_ORDER_CONFIGURATION"),
        ("BUY", "limit_limit_gtc", {"base_size": "0.1", "limit_price": "50000.001"}, "INVALID_PRICE_PRECISION"),
        ("BUY", "limit_limit_gtc", {"base_size": "5", "limit_price": "50000"}, "INSUFFICIENT_FUND"),
        ("SELL", "limit_limit_gtc", {"base_size": "3", "limit_price": "70000"}, "INSUFFICIENT_FUND"),
        ("BUY", "limit_limit_gtc", {"base_size": "0.1"}, "INVALID_LIMIT_PRICE"),
        (
            "BUY",
            "limit_limit_gtc",
            {"base_size": "0.1", "limit_price": "61000", "post_only": True},
            "INVALID_LIMIT_PRICE_POST_ONLY",
        ),
        (
            "BUY",
            "limit_limit_gtd",
            {"base_size": "0.1", "limit_price": "50000", "end_time": "2026-11-24T11:00:00Z"},
            "PREVIEW_INVALID_END_TIME",
        ),
        (
            "SELL",
            "stop_limit_stop_limit_gtc",
            {"base_size": "0.1", "limit_price": "59000", "stop_price": "61000", "stop_direction": "STOP_DIRECTION_STOP_DOWN"},
            "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE",
        ),
        (
            "BUY",
            "stop_limit_stop_limit_gtc",
            {"base_size": "0.1", "limit_price": "61000", "stop_price": "62000", "stop_direction": "STOP_DIRECTION_STOP_UP"},
            "PREVIEW_STOP_PRICE_ABOVE_LIMIT_PRICE",
        ),
        (
            "SELL",
            "trigger_bracket_gtc",
            {"base_size": "0.1", "limit_price": "59000", "stop_trigger_price": "58000"},
            "INVALID_BRACKET_PRICES",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_reason_and_changes_nothing(
    side: str, key: str, terms: dict[str, Any], expected: str
) -> None:
    it = venue()
    before = dict(it.balances(MAIN_PORTFOLIO))
    assert reason(place(it, "a", side, key, **terms)) == expected
    assert it.orders == {}
    assert it.balances(MAIN_PORTFOLIO) == before
    assert it.refused[0]["client_order_id"] == "a"


@pytest.mark.parametrize(
    ("flag", "limit_is_taken", "expected"),
    [
        ("trading_disabled", False, "UNTRADABLE_PRODUCT"),
        ("cancel_only", False, "ORDER_ENTRY_DISABLED"),
        ("view_only", False, "UNTRADABLE_PRODUCT"),
        ("limit_only", True, "UNSUPPORTED_ORDER_CONFIGURATION"),
        ("post_only", False, "UNSUPPORTED_ORDER_CONFIGURATION"),
        ("auction_mode", True, "PREVIEW_NOT_ALLOWED_BY_MARKET_STATE"),
    ],
)
def test_a_products_flags_refuse_what_they_say(flag: str, limit_is_taken: bool, expected: str) -> None:
    it = venue()
    it.apply("product", {"product_id": "BTC-USD", flag: True})
    assert reason(place(it, "market", "BUY", "market_market_ioc", base_size="0.1")) == expected
    limit = place(it, "limit", "BUY", "limit_limit_gtc", base_size="0.1", limit_price="50000")
    assert limit["success"] is limit_is_taken


def test_fill_or_kill_trades_all_or_nothing() -> None:
    it = venue()
    place(it, "too much", "SELL", "limit_limit_fok", base_size="2", limit_price="59997")
    assert (order(it, "too much").status, order(it, "too much").filled_size) == ("CANCELLED", ZERO)
    place(it, "enough", "SELL", "limit_limit_fok", base_size="0.1", limit_price="59997")
    assert order(it, "enough").status == "FILLED"


def test_what_is_left_of_an_immediate_order_is_cancelled_with_its_fills_kept() -> None:
    it = venue()
    place(it, "a", "SELL", "sor_limit_ioc", base_size="2", limit_price="59997")
    assert order(it, "a").status == "CANCELLED"
    assert ZERO < order(it, "a").filled_size < 2
    assert it.floor.wallet.holds[MAIN_PORTFOLIO, "BTC"] == 0


def test_price_protection_stops_an_order_before_it_trades_far_from_the_mid() -> None:
    it = venue()
    it.apply("product", {"product_id": "BTC-USD", "protection": "0.0003"})
    place(it, "a", "BUY", "limit_limit_gtc", base_size="1", limit_price="65000")
    assert order(it, "a").status == "CANCELLED"
    assert max(fill.price for fill in it.floor.fills) <= 60000 * Decimal("1.0003")


def test_own_orders_never_trade_with_each_other() -> None:
    it = venue()
    place(it, "resting", "SELL", "limit_limit_gtc", base_size="0.1", limit_price="60001")
    place(it, "taking", "BUY", "limit_limit_gtc", base_size="0.15", limit_price="60002")
    assert it.floor.fills == []
    assert order(it, "resting").status == "CANCELLED"
    assert (order(it, "taking").status, order(it, "taking").left) == ("OPEN", Decimal("0.05"))


def test_a_stop_waits_for_the_last_trade_and_then_is_a_limit_order() -> None:
    it = venue()
    terms = {"base_size": "0.1", "limit_price": "57000", "stop_price": "58000", "stop_direction": "STOP_DIRECTION_STOP_DOWN"}
    place(it, "a", "SELL", "stop_limit_stop_limit_gtc", **terms)
    assert order_body(order(it, "a"))["trigger_status"] == "STOP_PENDING"
    move(it, "58001")
    assert order(it, "a").filled_size == 0
    move(it, "57990")
    assert order(it, "a").status == "FILLED"
    assert order_body(order(it, "a"))["trigger_status"] == "STOP_TRIGGERED"


@pytest.mark.parametrize(("price", "filled_at_least"), [("66000", "65000"), ("54000", "53000")])
def test_a_bracket_takes_its_profit_or_its_loss_never_both(price: str, filled_at_least: str) -> None:
    it = venue()
    place(it, "a", "SELL", "trigger_bracket_gtc", base_size="0.1", limit_price="65000", stop_trigger_price="55000")
    move(it, price)
    move(it, "60000")
    move(it, "54000" if price == "66000" else "66000")
    assert order(it, "a").filled_size == Decimal("0.1")
    assert {fill.price >= Decimal(filled_at_least) for fill in it.floor.fills} == {True}


def test_an_attached_bracket_starts_to_work_when_its_parent_has_traded() -> None:
    it = venue()
    body = {
        "client_order_id": "parent", "product_id": "BTC-USD", "side": "BUY",
        "order_configuration": {"limit_limit_gtc": {"base_size": "0.1", "limit_price": "59000"}},
        "attached_order_configuration": {"trigger_bracket_gtc": {"limit_price": "65000", "stop_trigger_price": "55000"}},
    }  # fmt: skip
    reply = it.apply("create", {"body": body, "portfolio": MAIN_PORTFOLIO})
    child = reply["success_response"]["attached_order_id"]
    assert child not in it.orders
    move(it, "58000")
    assert it.orders[child].status == "OPEN"
    assert it.orders[child].terms.base_size == Decimal("0.1")
    assert it.orders[child].originating_order_id == order(it, "parent").order_id


def test_a_good_till_date_order_expires_at_its_time_and_gives_its_hold_back() -> None:
    it = venue()
    end = (NOON + timedelta(minutes=5)).isoformat()
    place(it, "a", "BUY", "limit_limit_gtd", base_size="0.1", limit_price="50000", end_time=end)
    it.advance(NOON + timedelta(minutes=4, seconds=59))
    assert order(it, "a").status == "OPEN"
    it.advance(NOON + timedelta(minutes=5))
    assert order(it, "a").status == "EXPIRED"
    assert usd(it) == BALANCES["USD"]


def test_a_queued_cancel_takes_effect_later_and_can_lose_against_a_fill() -> None:
    it = venue()
    it.apply("settings", {"cancel_lag_seconds": 10})
    for name in ("slow", "overtaken"):
        place(it, name, "BUY", "limit_limit_gtc", base_size="0.01", limit_price="50000" if name == "slow" else "59000")
        assert cancel(it, name)["success"]
        assert order(it, name).status == "CANCEL_QUEUED"
    assert cancel(it, "slow")["failure_reason"] == "DUPLICATE_CANCEL_REQUEST"
    move(it, "58000")
    it.advance(NOON + timedelta(seconds=10))
    assert (order(it, "slow").status, order(it, "overtaken").status) == ("CANCELLED", "FILLED")


@pytest.mark.parametrize("rounding", ["base_grid", "exact16"])
def test_a_buy_by_quote_size_has_its_fee_inside_and_tells_its_fills_in_quote(rounding: str) -> None:
    it = venue()
    it.apply("settings", {"quote_buy_rounding": rounding})
    place(it, "a", "BUY", "market_market_ioc", quote_size="100")
    done, (fill,) = order(it, "a"), it.floor.fills
    assert done.status == "FILLED"
    body = fill_body(fill)
    assert (body["size_in_quote"], Decimal(body["size"])) == (True, fill.value)
    if rounding == "exact16":
        assert done.filled_value == round16(Decimal(100) / Decimal("1.009"))
        assert done.filled_size == round16(done.filled_value / fill.price)
        assert order_body(done)["total_value_after_fees"] == "100"
    else:
        assert done.filled_size % Decimal("0.00000001") == 0
        assert Decimal("99.99") < done.filled_value + done.fees <= 100


def test_an_alias_trades_in_the_same_book_and_settles_in_what_the_order_names() -> None:
    it = venue()
    place(it, "a", "BUY", "market_market_ioc", product="BTC-USDC", base_size="0.01")
    assert it.floor.wallet.available(MAIN_PORTFOLIO, "USD") == BALANCES["USD"]
    assert it.floor.wallet.available(MAIN_PORTFOLIO, "USDC") < BALANCES["USDC"]
    assert it.floor.fills[0].product == "BTC-USDC"


def test_an_edit_changes_price_and_size_and_an_omitted_size_is_zero() -> None:
    it = venue()
    place(it, "a", "BUY", "limit_limit_gtc", base_size="0.1", limit_price="50000")
    assert edit(it, "a", price="51000") == "INVALID_EDITED_SIZE"
    assert edit(it, "a", price="50000", size="0.1") == "EDIT_REQUEST_EQUAL_TO_ORIGINAL_REQUEST"
    assert edit(it, "a", price="50000", size="9") == "COMMANDER_REJECTED_EDIT_ORDER"
    assert edit(it, "a", price="51000", size="0.2") == ""
    assert it.floor.wallet.holds[MAIN_PORTFOLIO, "USD"] == Decimal(51000) * Decimal("0.2") * Decimal("1.009")
    assert len(order_body(order(it, "a"))["edit_history"]) == 1


def test_balances_and_fills_can_lag_behind_what_happened() -> None:
    it = venue()
    it.apply("settings", {"balance_lag_seconds": 30, "fill_lag_seconds": 20})
    place(it, "a", "BUY", "market_market_ioc", base_size="0.1")
    assert it.balances(MAIN_PORTFOLIO)["BTC"][0] == BALANCES["BTC"]
    assert it.floor.fills[0].visible_at == NOON + timedelta(seconds=20)
    it.advance(NOON + timedelta(seconds=30))
    assert it.balances(MAIN_PORTFOLIO)["BTC"][0] == BALANCES["BTC"] + Decimal("0.1")


def test_the_check_of_the_books_notices_money_that_appeared() -> None:
    it = venue()
    it.floor.wallet.totals[MARKET, "USD"] += 1
    with pytest.raises(Exception, match=r"USD sums to 1\.0+, expected 0"):
        place(it, "a", "BUY", "market_market_ioc", base_size="0.1")


def test_the_check_of_the_books_notices_a_hold_without_an_order() -> None:
    it = venue()
    it.floor.wallet.hold(MAIN_PORTFOLIO, "BTC", Decimal(1))
    with pytest.raises(Exception, match="its orders need 0"):
        place(it, "a", "BUY", "market_market_ioc", base_size="0.1")


def test_a_senseless_command_is_refused_and_says_what_was_expected() -> None:
    it = venue()
    with pytest.raises(ConfigurationError, match="expected one of maker_fee"):
        it.apply("settings", {"makerfee": 1})
    with pytest.raises(ConfigurationError, match="neither a flag nor a limit"):
        it.apply("product", {"product_id": "BTC-USD", "colour": "red"})


def test_a_market_without_another_side_takes_no_market_order() -> None:
    it = Venue(Still(PRICES), 1, BALANCES, NOON)
    it.floor.books["BTC-USD"].remove_owned(MARKET)
    assert reason(place(it, "a", "BUY", "market_market_ioc", base_size="0.1")) == "INVALID_NO_LIQUIDITY"
    assert text(usd(it)) == "100000"
