"""Each rule of the paper exchange's fills, as tables: what it refuses, what fills at once, what a later candle does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.builders.plans import NOON, buy, product, sell
from trading.market import Product, Quote
from trading.matching import Bar, Execution, Matched, hold_of, is_marketable, match_bar, match_now, refusal
from trading.money import ZERO, dec, text
from trading.orders import OrderType, Request, TimeInForce
from trading.plan import Costs

RULES = product(
    base_increment=dec("0.01"), base_min_size=dec("0.05"), base_max_size=Decimal(50), price_increment=dec("0.01"),
    min_notional=Decimal(10),
)  # fmt: skip
QUOTE = Quote(product="BTC-USD", bid=Decimal(99), ask=Decimal(101), at=NOON)
COSTS = Costs(
    spread=ZERO, slippage=dec("0.001"), maker_fee=dec("0.004"), taker_fee=dec("0.01"), participation=dec("0.1")
)  # fmt: skip
PLENTY = Decimal(1000)
"""A candle's volume of which the participation share covers every order here."""
HOUR = timedelta(hours=1)


def limit(price: str, **changes: Any) -> dict[str, Any]:
    """The terms of a limit order that rests."""
    return {"type": OrderType.LIMIT, "limit_price": dec(price), "time_in_force": TimeInForce.GTC} | changes


def stop(price: str, **changes: Any) -> dict[str, Any]:
    return {"type": OrderType.STOP, "stop_price": dec(price), "time_in_force": TimeInForce.GTC} | changes


def stop_limit(stop_price: str, limit_price: str, **changes: Any) -> dict[str, Any]:
    return stop(stop_price, type=OrderType.STOP_LIMIT, limit_price=dec(limit_price)) | changes


def bracket(stop_price: str, limit_price: str, **changes: Any) -> dict[str, Any]:
    """Takes the profit at the limit, ends the loss at the stop."""
    return stop_limit(stop_price, limit_price, type=OrderType.BRACKET) | changes


FOK = TimeInForce.FOK
GTD = TimeInForce.GTD
IOC = TimeInForce.IOC


# ---- what is refused


@pytest.mark.parametrize(
    ("request_", "changes", "code"),
    [
        (buy(quantity="1"), {"tradable": False}, "UNTRADABLE_PRODUCT"),
        (buy(quantity="1", **limit("90")), {"tradable": False}, "UNTRADABLE_PRODUCT"),
        (buy(quantity="1"), {"limit_only": True}, "UNTRADABLE_PRODUCT"),
        (sell(quantity="1", **stop("90")), {"limit_only": True}, "UNTRADABLE_PRODUCT"),  # becomes a market order
        (buy(quantity="1", **limit("101")), {"limit_only": True}, None),
        (buy(quantity="1", **limit("101")), {"post_only": True}, "UNTRADABLE_PRODUCT"),
        (buy(quantity="1", **limit("100.99")), {"post_only": True}, None),
        (buy(quantity="0"), {}, "INVALID_SIZE_PRECISION"),
        (buy(quantity="-1"), {}, "INVALID_SIZE_PRECISION"),
        (buy(quantity="1.001"), {}, "INVALID_SIZE_PRECISION"),
        (buy(quantity="1.010"), {}, None),
        (buy(quantity="1", **limit("90.001")), {}, "INVALID_PRICE_PRECISION"),
        (buy(quantity="1", **limit("0")), {}, "INVALID_PRICE_PRECISION"),
        (sell(quantity="1", **stop("90.001")), {}, "INVALID_PRICE_PRECISION"),
        (sell(quantity="1", **stop("-1")), {}, "INVALID_PRICE_PRECISION"),
        (buy(quantity="0.04"), {"min_notional": ZERO}, "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),
        (buy(quantity="0.05"), {"min_notional": ZERO}, None),  # the minimum itself is taken
        (buy(quantity="0.09"), {}, "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),  # 9 of at least 10 USD at the mid
        (buy(quantity="0.10"), {}, None),
        (buy(quantity="0.10", **limit("99.99")), {}, "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),  # valued at its limit
        (sell(quantity="0.11", **stop("90")), {}, "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),  # valued at its stop
        (buy(quantity="50.01"), {}, "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE"),
        (buy(quantity="50"), {}, None),
        (buy(quantity="1", type=OrderType.LIMIT), {}, "INVALID_REQUEST"),
        (buy(quantity="1", limit_price=Decimal(90)), {}, "INVALID_REQUEST"),
        (sell(quantity="1", type=OrderType.STOP), {}, "INVALID_REQUEST"),
        (sell(quantity="1", **stop("90", limit_price=Decimal(90))), {}, "INVALID_REQUEST"),
        (sell(quantity="1", type=OrderType.STOP_LIMIT, limit_price=Decimal(90)), {}, "INVALID_REQUEST"),
        (sell(quantity="1", type=OrderType.STOP_LIMIT, stop_price=Decimal(90)), {}, "INVALID_REQUEST"),
        (buy(quantity="1", **limit("90", time_in_force=GTD)), {}, "PREVIEW_INVALID_END_TIME"),
        (buy(quantity="1", **limit("90", time_in_force=GTD, expires_at=NOON)), {}, "PREVIEW_INVALID_END_TIME"),
        (buy(quantity="1", **limit("90", time_in_force=GTD, expires_at=NOON + HOUR)), {}, None),
        (buy(quantity="1", **limit("101", post_only=True)), {}, "INVALID_LIMIT_PRICE_POST_ONLY"),
        (sell(quantity="1", **limit("99", post_only=True)), {}, "INVALID_LIMIT_PRICE_POST_ONLY"),
        (buy(quantity="1", post_only=True), {}, "INVALID_LIMIT_PRICE_POST_ONLY"),
        (sell(quantity="1", **stop("90", post_only=True)), {}, "INVALID_LIMIT_PRICE_POST_ONLY"),
        (buy(quantity="1", **limit("100.99", post_only=True)), {}, None),
        (sell(quantity="1", **limit("99.01", post_only=True)), {}, None),
        (buy(quantity="1", **stop("101")), {}, "PREVIEW_STOP_PRICE_BELOW_LAST_TRADE_PRICE"),
        (sell(quantity="1", **stop("99")), {}, "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE"),
        (buy(quantity="1", **stop("101.01")), {}, None),
        (sell(quantity="1", **stop("98.99")), {}, None),
        (buy(quantity="1", **stop_limit("110", "109.99")), {}, "PREVIEW_STOP_PRICE_ABOVE_LIMIT_PRICE"),
        (sell(quantity="1", **stop_limit("90", "90.01")), {}, "PREVIEW_STOP_PRICE_BELOW_LIMIT_PRICE"),
        (buy(quantity="1", **stop_limit("110", "110")), {}, None),
        (sell(quantity="1", **stop_limit("90", "89")), {}, None),
        (sell(quantity="1", **bracket("90", "110")), {}, None),
        (sell(quantity="1", **bracket("90", "110")), {"limit_only": True}, "UNTRADABLE_PRODUCT"),  # its stop sells at the market
        (sell(quantity="1", **bracket("99", "110")), {}, "INVALID_BRACKET_PRICES"),
        (sell(quantity="1", **bracket("90", "101")), {}, "INVALID_BRACKET_PRICES"),
        (buy(quantity="1", **bracket("90", "110")), {}, "INVALID_BRACKET_PRICES"),
        (sell(quantity="1", **bracket("90", "110") | {"limit_price": None}), {}, "INVALID_REQUEST"),
        (buy(quantity="1", **limit("101", time_in_force=FOK)), {}, None),
        (buy(quantity="1", **limit("101", time_in_force=FOK, post_only=True)), {}, "POST_ONLY_NOT_ALLOWED_WITH_FOK"),
        (buy(quantity="1", time_in_force=FOK), {}, "FOK_ONLY_ALLOWED_ON_LIMIT_ORDERS"),
        (sell(quantity="1", **stop("90", time_in_force=FOK)), {}, "FOK_ONLY_ALLOWED_ON_LIMIT_ORDERS"),
    ],
)
def test_an_order_is_refused_in_the_venue_s_word_or_taken(request_: Request, changes: dict[str, Any], code: str | None) -> None:
    found = refusal(request_, replace(RULES, **changes), QUOTE)
    assert (found.code if found else None) == code


@pytest.mark.parametrize(("rules", "quote", "code"), [(None, QUOTE, "INVALID_PRODUCT_ID"), (RULES, None, "INVALID_NO_LIQUIDITY")])
def test_what_is_not_traded_or_not_quoted_is_refused(rules: Product | None, quote: Quote | None, code: str) -> None:
    found = refusal(buy(quantity="1"), rules, quote)
    assert found is not None
    assert found.code == code


@pytest.mark.parametrize(
    ("request_", "takes"),
    [
        (buy(), True),
        (buy(**limit("101")), True),
        (buy(**limit("100.99")), False),
        (sell(**limit("99")), True),
        (sell(**limit("99.01")), False),
        (buy(**stop("110")), False),
        (sell(**stop_limit("98", "97")), False),
    ],
)
def test_what_takes_at_once(request_: Request, takes: bool) -> None:
    assert is_marketable(request_, QUOTE) is takes


# ---- what fills at once


def parts(matched: Matched) -> str:
    """`0.3 @ 101.11, 0.7 @ 102`: quantity and price of each execution."""
    return ", ".join(f"{text(part.quantity)} @ {text(part.price)}" for part in matched.executions)


# Slippage 0.1 %: 101 × 1.001 = 101.101, a buy's price goes up to 101.11; 99 × 0.999 = 98.901, a sell's down to 98.90.
@pytest.mark.parametrize(
    ("request_", "fills", "status"),
    [
        (buy(quantity="1"), "1 @ 101.11", "filled"),
        (sell(quantity="1"), "1 @ 98.9", "filled"),
        (buy(quantity="1", **limit("105")), "1 @ 101.11", "filled"),
        (buy(quantity="1", **limit("101.05")), "1 @ 101.05", "filled"),  # slippage ends at the limit
        (sell(quantity="1", **limit("98.95")), "1 @ 98.95", "filled"),
        (buy(quantity="1", **limit("101")), "1 @ 101", "filled"),
        (buy(quantity="1", **limit("100")), "", "open"),
        (buy(quantity="1", **limit("100", time_in_force=IOC)), "", "cancelled"),
        (buy(quantity="1", **stop("110")), "", "open"),
        (sell(quantity="1", **stop_limit("90", "89")), "", "open"),
        (sell(quantity="1", **bracket("90", "110")), "", "open"),
        (buy(quantity="1", **limit("105", time_in_force=FOK)), "1 @ 101.11", "filled"),
        (buy(quantity="1", **limit("100", time_in_force=FOK)), "", "cancelled"),
    ],
)
def test_an_order_takes_the_touch_with_slippage_bounded_by_its_limit(request_: Request, fills: str, status: str) -> None:
    matched = match_now(request_, RULES, QUOTE, COSTS, PLENTY)
    assert parts(matched) == fills
    assert matched.status == status


def test_fill_or_kill_fills_nothing_where_the_volume_is_not_enough() -> None:
    wanted = limit("105", time_in_force=FOK)
    assert match_now(buy(quantity="1", **wanted), RULES, QUOTE, COSTS, Decimal(9)) == Matched((), "cancelled")
    assert match_now(buy(quantity="1", **wanted), RULES, QUOTE, COSTS, Decimal(10)).status == "filled"


def test_a_taker_pays_the_taker_fee_on_the_notional() -> None:
    [part] = match_now(buy(quantity="2"), RULES, QUOTE, COSTS, PLENTY).executions
    assert part == Execution(Decimal(2), dec("101.11"), dec("2.0222"), "taker")
    assert part.notional == dec("202.22")


@pytest.mark.parametrize(
    ("request_", "volume", "taken", "quantity", "status"),
    [
        (buy(quantity="1"), "10", "0", "1", "filled"),  # 10 % of 10
        (buy(quantity="1"), "9.99", "0", "0.99", "cancelled"),  # 0.999, down to the increment
        (buy(quantity="1", **limit("105")), "9.99", "0", "0.99", "open"),
        (buy(quantity="1", **limit("105", time_in_force=IOC)), "9.99", "0", "0.99", "cancelled"),
        (buy(quantity="1"), "0", "0", "0", "cancelled"),
        (buy(quantity="1"), "0.09", "0", "0", "cancelled"),  # less than an increment
        (buy(quantity="1"), "10", "0.4", "0.6", "cancelled"),  # what an earlier slice took is gone
        (buy(quantity="1"), "10", "1", "0", "cancelled"),
        (buy(quantity="1"), "10", "7", "0", "cancelled"),
    ],
)
def test_no_more_fills_than_the_share_of_the_candle_s_volume(
    request_: Request, volume: str, taken: str, quantity: str, status: str
) -> None:
    matched = match_now(request_, RULES, QUOTE, COSTS, dec(volume), dec(taken))
    assert (matched.quantity, matched.status) == (dec(quantity), status)


BOOK = replace(
    QUOTE,
    asks=((Decimal(101), dec("0.305")), (Decimal(102), dec("0.3")), (Decimal(103), Decimal(5))),
    bids=((Decimal(99), dec("0.5")), (Decimal(98), dec("0.5"))),
)


@pytest.mark.parametrize(
    ("request_", "taken", "fills", "status"),
    [
        (buy(quantity="0.2"), "0", "0.2 @ 101.11", "filled"),
        # Each level's slippage; of a level only whole increments.
        (buy(quantity="1"), "0", "0.3 @ 101.11, 0.3 @ 102.11, 0.4 @ 103.11", "filled"),
        (buy(quantity="1", **limit("102.05")), "0", "0.3 @ 101.11, 0.3 @ 102.05", "open"),
        (buy(quantity="1", **limit("101.99")), "0", "0.3 @ 101.11", "open"),
        (sell(quantity="2"), "0", "0.5 @ 98.9, 0.5 @ 97.9", "cancelled"),  # the book ends
        (sell(quantity="0.6", **limit("97.95")), "0", "0.5 @ 98.9, 0.1 @ 97.95", "filled"),
        (sell(quantity="0.4"), "0.3", "0.2 @ 98.9, 0.2 @ 97.9", "filled"),  # its first 0.3 are gone
        (sell(quantity="0.4"), "0.7", "0.3 @ 97.9", "cancelled"),
        (sell(quantity="0.4"), "1", "", "cancelled"),
    ],
)
def test_a_known_book_is_walked_from_its_best_level(request_: Request, taken: str, fills: str, status: str) -> None:
    matched = match_now(request_, RULES, BOOK, COSTS, PLENTY, dec(taken))
    assert parts(matched) == fills
    assert matched.status == status


def test_a_sale_never_goes_below_one_price_increment() -> None:
    penny = Quote(product="BTC-USD", bid=dec("0.01"), ask=dec("0.02"), at=NOON)
    assert parts(match_now(sell(quantity="1"), RULES, penny, COSTS, PLENTY)) == "1 @ 0.01"


# ---- what a later candle does


def bar(opened: str, high: str, low: str, volume: str = "1000") -> Bar:
    """The candle after noon: it closes at one o'clock."""
    return Bar(NOON + HOUR, dec(opened), dec(high), dec(low), dec(volume))


def held_against(request_: Request, candle: Bar, *, left: str = "", hold: str = "", triggered: bool = False) -> Matched:
    rest = dec(left) if left else request_.quantity
    covered = dec(hold) if hold else hold_of(request_, rest, COSTS)
    return match_bar(request_, rest, covered, candle, RULES, COSTS, triggered=triggered)


@pytest.mark.parametrize(
    ("request_", "candle", "fills", "status"),
    [
        (buy(quantity="1", **limit("95")), bar("100", "105", "95"), "", "open"),  # touched: others queue before us
        (buy(quantity="1", **limit("95")), bar("100", "105", "94.99"), "1 @ 95", "filled"),
        (buy(quantity="1", **limit("95")), bar("90", "92", "88"), "1 @ 95", "filled"),  # a gap: never better
        (sell(quantity="1", **limit("105")), bar("100", "105", "95"), "", "open"),
        (sell(quantity="1", **limit("105")), bar("100", "105.01", "95"), "1 @ 105", "filled"),
        (buy(quantity="1", **limit("95")), bar("100", "105", "90", "5"), "0.5 @ 95", "open"),
        (buy(quantity="1", **limit("95")), bar("100", "105", "90", "0"), "", "open"),
    ],
)
def test_a_resting_limit_fills_at_its_limit_once_the_price_went_through_it(
    request_: Request, candle: Bar, fills: str, status: str
) -> None:
    matched = held_against(request_, candle)
    assert parts(matched) == fills
    assert matched.status == status


def test_a_resting_limit_pays_the_maker_fee() -> None:
    [part] = held_against(buy(quantity="1", **limit("95")), bar("100", "105", "90")).executions
    assert (part.fee, part.liquidity) == (dec("0.38"), "maker")


def test_the_last_part_of_a_resting_limit_fills_it() -> None:
    matched = held_against(buy(quantity="1", **limit("95")), bar("100", "105", "90", "3"), left="0.3")
    assert (matched.quantity, matched.status) == (dec("0.3"), "filled")


@pytest.mark.parametrize(
    ("request_", "candle", "fills", "status"),
    [
        (sell(quantity="1", **stop("90")), bar("100", "105", "90.01"), "", "open"),
        # At the stop with slippage, wherever the candle went then: 90 × 0.999 = 89.91.
        (sell(quantity="1", **stop("90")), bar("100", "105", "90"), "1 @ 89.91", "filled"),
        (sell(quantity="1", **stop("90")), bar("100", "105", "50"), "1 @ 89.91", "filled"),
        # A gap: the open is worse than the stop. 80 × 0.999 = 79.92.
        (sell(quantity="1", **stop("90")), bar("80", "95", "75"), "1 @ 79.92", "filled"),
        (sell(quantity="1", **stop("90")), bar("80", "95", "75", "4"), "0.4 @ 79.92", "cancelled"),
        (sell(quantity="1", **stop("90")), bar("80", "95", "75", "0"), "", "cancelled"),
        (buy(quantity="1", **stop("110")), bar("100", "109.99", "95"), "", "open"),
        (buy(quantity="1", **stop("110")), bar("100", "110", "95"), "1 @ 110.11", "filled"),
        (buy(quantity="1", **stop("110")), bar("120", "125", "95"), "1 @ 120.12", "filled"),
        # Held: 2 × 110 × 1.01 = 222.20; at 400 × 1.001 = 400.40 with the fee that pays 0.549...
        (buy(quantity="1", **stop("110")), bar("400", "410", "390"), "0.54 @ 400.4", "cancelled"),
    ],
)
def test_a_stop_fills_at_the_worse_of_stop_and_open_as_far_as_volume_and_hold_reach(
    request_: Request, candle: Bar, fills: str, status: str
) -> None:
    matched = held_against(request_, candle)
    assert parts(matched) == fills
    assert matched.status == status
    assert matched.triggered is (status != "open")
    assert {part.liquidity for part in matched.executions} <= {"taker"}


@pytest.mark.parametrize(
    ("candle", "fills", "status"),
    [
        (bar("100", "109", "91"), "", "open"),
        (bar("100", "110", "91"), "", "open"),  # others queue before us
        (bar("100", "110.01", "91"), "1 @ 110 maker", "filled"),
        (bar("100", "110.01", "91", "4"), "0.4 @ 110 maker", "open"),
        (bar("100", "109", "90"), "1 @ 89.91 taker", "filled"),
        (bar("80", "95", "75"), "1 @ 79.92 taker", "filled"),
        (bar("100", "120", "90"), "1 @ 89.91 taker", "filled"),  # both are reached: the worse for us
        (bar("100", "120", "90", "4"), "0.4 @ 89.91 taker", "cancelled"),
    ],
)
def test_a_bracket_is_a_limit_until_its_stop_is_reached(candle: Bar, fills: str, status: str) -> None:
    matched = held_against(sell(quantity="1", **bracket("90", "110")), candle)
    assert ", ".join(f"{text(part.quantity)} @ {text(part.price)} {part.liquidity}" for part in matched.executions) == fills
    assert matched.status == status


@pytest.mark.parametrize(
    ("request_", "reached"),
    [
        (sell(quantity="1", **stop_limit("90", "85")), bar("100", "101", "90")),
        (buy(quantity="1", **stop_limit("110", "115")), bar("100", "110", "99")),
        (sell(quantity="1", **stop_limit("90", "85")), bar("100", "120", "50")),  # through stop and limit alike
    ],
)
def test_a_stop_limit_only_triggers_in_the_candle_that_reaches_it(request_: Request, reached: Bar) -> None:
    assert held_against(request_, reached) == Matched((), "open", triggered=True)


def test_a_stop_limit_that_is_not_reached_waits() -> None:
    assert held_against(sell(quantity="1", **stop_limit("90", "85")), bar("100", "105", "90.01")) == Matched((), "open")


@pytest.mark.parametrize(
    ("request_", "candle", "fills", "status"),
    [
        (sell(quantity="1", **stop_limit("90", "85")), bar("86", "86", "80"), "1 @ 85", "filled"),
        (sell(quantity="1", **stop_limit("90", "85")), bar("84", "85", "80"), "", "open"),  # fell past its limit: it waits
        (buy(quantity="1", **stop_limit("110", "115")), bar("114", "120", "114"), "1 @ 115", "filled"),
        (buy(quantity="1", **stop_limit("110", "115")), bar("118", "120", "115"), "", "open"),
        (buy(quantity="1", **stop_limit("110", "115")), bar("114", "120", "114", "2"), "0.2 @ 115", "open"),
    ],
)
def test_a_triggered_stop_limit_is_a_limit_order_that_pays_the_taker_fee(
    request_: Request, candle: Bar, fills: str, status: str
) -> None:
    matched = held_against(request_, candle, triggered=True)
    assert parts(matched) == fills
    assert (matched.status, matched.triggered) == (status, True)
    assert all(part.fee == part.notional * COSTS.taker_fee for part in matched.executions)


@pytest.mark.parametrize(
    ("after", "status"), [(timedelta(minutes=1), "expired"), (HOUR, "expired"), (HOUR + timedelta(seconds=1), "filled")]
)
@pytest.mark.parametrize("terms", [limit("95"), stop_limit("110", "95"), stop("110")])
def test_an_order_that_ends_within_the_candle_expires_before_it_fills(
    terms: dict[str, Any], after: timedelta, status: str
) -> None:
    ends = buy(quantity="1", **terms | {"time_in_force": GTD, "expires_at": NOON + after})
    through = bar("100", "115", "90")
    assert held_against(ends, through, triggered=terms["type"] is OrderType.STOP_LIMIT).status == status


@pytest.mark.parametrize(
    ("request_", "left", "hold"),
    [
        (sell(quantity="1", **limit("105")), "0.4", "0.4"),
        (sell(quantity="1", **stop("90")), "1", "1"),
        (buy(quantity="1", **limit("95")), "1", "95.95"),  # 95 and the taker fee, although it may turn out a maker
        (buy(quantity="1", **limit("95")), "0.5", "47.975"),
        (buy(quantity="1", **stop_limit("110", "115")), "1", "116.15"),
        (buy(quantity="1", **stop("110")), "1", "222.2"),  # twice the stop: room for a gap
    ],
)
def test_what_a_resting_order_holds(request_: Request, left: str, hold: str) -> None:
    assert hold_of(request_, dec(left), COSTS) == dec(hold)


def test_a_fee_of_more_than_eighteen_decimals_is_rounded_up() -> None:
    fine = replace(RULES, base_increment=dec("1e-18"), base_min_size=dec("1e-18"), min_notional=ZERO)
    third = dec("0.333333333333333333")
    [part] = match_now(buy(quantity=str(third)), fine, QUOTE, COSTS, PLENTY).executions
    exact = third * dec("101.11") * COSTS.taker_fee
    assert exact < part.fee < exact + dec("1e-18")
    assert part.fee == part.fee.quantize(dec("1e-18"))
