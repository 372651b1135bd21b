"""Every check: what it refuses, and that it passes just inside. One table for each guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from tests.builders.plans import NOON, buy, flat_candles, market, plan, portfolio, position, product, quote, sell
from trading.market import Market
from trading.orders import OrderType, Request, Side, TimeInForce
from trading.plan import Plan
from trading.portfolio import Portfolio
from trading.risk import Approved, Refused, Validator, validate
from trading.risk.breaker import portfolio_risk, position_shares
from trading.risk.catalogue import ORDER_CONTROLS, PRODUCT_CONTROLS
from trading.risk.checks import ORDER_CHECKS, PRODUCT_CHECKS
from trading.risk.validator import TABLES, Tables, tables_of

HELD = position(quantity="0.002")  # 100 USD of BTC
LOOSE = {"max_entries_per_slot": 10, "max_hourly_share": 1, "max_correlated_variance": 1, "vwap_band": "0.5"}
"""Controls that let the first checks speak alone: `test_controls` has the others."""


def judged(
    request: Request,
    *,
    plan_: Plan | None = None,
    market_: Market | None = None,
    held: Portfolio | None = None,
    without: str = "",
    tables: Mapping[str, Tables] | None = None,
) -> Approved | Refused:
    tables = tables or tables_of(
        [check for check in PRODUCT_CONTROLS if check.code != without],
        [check for check in ORDER_CONTROLS if check.code != without],
    )
    return Validator(plan_ or plan(controls=LOOSE), market_ or market(), held or portfolio(), NOON, tables=tables).validate(
        request
    )


def failed(answer: Approved | Refused) -> list[str]:
    return [outcome.code for outcome in answer.evaluation.failures]


def limit(side: Side = Side.BUY, price: str = "50000", quantity: str = "0.001", **changes: Any) -> Request:
    terms = {"type": OrderType.LIMIT, "limit_price": Decimal(price), "time_in_force": TimeInForce.GTC}
    return Request(product="BTC-USD", side=side, quantity=Decimal(quantity), **terms | changes)


def stop(price: str = "49000", **changes: Any) -> Request:
    terms = {"type": OrderType.STOP, "stop_price": Decimal(price), "time_in_force": TimeInForce.GTC}
    return sell(**terms | changes)


def bracket(**changes: Any) -> Request:
    """Sells at 70,000, or below 49,000."""
    return replace(stop(type=OrderType.BRACKET, limit_price=Decimal(70000)), **changes)


def only(**changes: Any) -> Market:
    """The market with other rules for BTC-USD."""
    return market(products={"BTC-USD": product(**changes)})


def quoted(mid: str = "50000", age_seconds: int = 0) -> Market:
    return market(quotes={"BTC-USD": quote(mid=mid, at=NOON - timedelta(seconds=age_seconds))})


def level(price: str) -> Market:
    """A BTC-USD that stood still at a price, and is quoted at 50,000 now."""
    still = np.full((200, 1), float(price))
    candles = replace(flat_candles({"BTC-USD": price}), open=still, high=still, low=still, close=still)
    return market(candles=candles, quotes={"BTC-USD": quote()})


def buy_stop(price: str) -> Request:
    return buy(type=OrderType.STOP, stop_price=Decimal(price), time_in_force=TimeInForce.GTC)


def volatile(less: Decimal) -> dict[str, Any]:
    """ETH is held, and the limit is its volatility, less so much."""
    held = portfolio("900", position("ETH-USD", "0.05"))
    found = portfolio_risk(position_shares(held, market(), Decimal(1000)), market())
    assert found is not None
    limits = {"max_portfolio_volatility": found - less}
    return {"held": held, "plan_": plan(controls=LOOSE, limits=limits)}


RICH = {"held": portfolio("900", position(quantity="0.01"))}
WIDE = {"market_": market(quotes={"BTC-USD": quote(spread="20")})}
"""Bid 49,990, ask 50,010."""


def test_an_ordinary_buy_is_approved_with_every_check_on_record() -> None:
    answer = judged(buy())
    assert isinstance(answer, Approved)
    stored = answer.evaluation.to_dict()
    assert [check["code"] for check in stored["checks"]] == [c.code for c in (*PRODUCT_CONTROLS, *ORDER_CONTROLS)]
    assert all(check["passed"] for check in stored["checks"])
    assert (stored["plan_sha256"], stored["at"]) == (plan(controls=LOOSE).sha256, "2026-11-24T12:00:00Z")
    assert {"code": "order_size_max", "passed": True, "observed": "50", "limit": "100", "data": "quote"} in stored["checks"]


# request, circumstances that refuse it, circumstances just inside
TINY = "0.0000001"
ENTRIES: list[tuple[str, Request, dict[str, Any], Request, dict[str, Any]]] = [
    ("product_in_plan", buy(), {"plan_": plan(controls=LOOSE, products=("ETH-USD",))}, buy(), {}),
    (
        "product_gated",
        buy(),
        {"market_": market(gated={"BTC-USD": "stale"})},
        buy(),
        {"market_": market(gated={"ETH-USD": "stale"})},
    ),
    (
        "in_doubt",
        buy(),
        {"held": portfolio(doubts=frozenset({"BTC-USD"}))},
        buy(),
        {"held": portfolio(doubts=frozenset({"ETH-USD"}))},
    ),
    (
        "asset_frozen",
        buy(),
        {"held": portfolio(frozen=frozenset({"BTC"}))},
        buy(),
        {"held": portfolio(frozen=frozenset({"ETH"}))},
    ),
    ("asset_frozen", buy(), {"held": portfolio(frozen=frozenset({"USD"}))}, buy(), {}),
    ("quote_stale", buy(), {"market_": quoted(age_seconds=121)}, buy(), {"market_": quoted(age_seconds=120)}),
    ("quote_stale", buy(), {"market_": quoted(age_seconds=-121)}, buy(), {"market_": quoted(age_seconds=-120)}),
    ("price_out_of_range", buy(), {"market_": quoted("62700")}, buy(), {"market_": quoted("62500")}),
    ("price_out_of_range", buy(), {"market_": quoted("37400")}, buy(), {"market_": quoted("37500")}),
    ("equity_known", buy(), {"held": portfolio("1000", position("ETH-USD", "0.1")), "market_": quoted()}, buy(), {}),
    ("order_size_max", buy(quantity="0.00200001"), {}, buy(quantity="0.002"), {}),
    ("order_size_min", buy(quantity="0.00009999"), {}, buy(quantity="0.0001"), {}),
    (
        "position_size",
        buy(quantity="0.00100001"),
        {"held": portfolio("800", position(quantity="0.004"))},
        buy(quantity="0.001"),
        {"held": portfolio("800", position(quantity="0.004"))},
    ),
    (
        "position_size",
        buy(),
        {"held": portfolio(working={"BTC-USD": Decimal("200.01")})},
        buy(),
        {"held": portfolio(working={"BTC-USD": Decimal(200)})},
    ),
    (
        "balance",
        buy(),
        {"held": portfolio("1000", cash_held=Decimal("949.3748"))},
        buy(),
        {"held": portfolio("1000", cash_held=Decimal("949.3747"))},
    ),
    (
        "daily_volume",
        buy(),
        {"held": portfolio(day_volume=Decimal("450.01"))},
        buy(),
        {"held": portfolio(day_volume=Decimal(450))},
    ),
    (
        "leverage",
        buy(),
        {"held": portfolio("1000", working={"ETH-USD": Decimal("950.01")})},
        buy(),
        {"held": portfolio("1000", working={"ETH-USD": Decimal(950)})},
    ),
    ("exitable", buy(), {"market_": only(min_notional=Decimal("49.5"))}, buy(), {"market_": only(min_notional=Decimal("49.3"))}),
    (
        "portfolio_volatility",
        buy(),
        {
            "held": portfolio("900", position("ETH-USD", "0.05")),
            "plan_": plan(controls=LOOSE, limits={"max_portfolio_volatility": "0.001"}),
        },
        buy(),
        {"held": portfolio("900", position("ETH-USD", "0.05"))},
    ),
]

ORDERS: list[tuple[str, Request, dict[str, Any], Request, dict[str, Any]]] = [
    ("price_known", buy(), {"market_": market(quotes={})}, buy(), {}),
    ("price_known", sell(), {"market_": market(quotes={})}, sell(), {}),
    (
        "venue_notional_min",
        buy(),
        {"market_": only(min_notional=Decimal("50.01"))},
        sell(),
        {"market_": only(min_notional=Decimal(50))},
    ),
    ("price_band", limit(price="52501"), {}, limit(price="52500"), {}),
    ("price_band", limit(price="47499"), {}, limit(price="47500"), {}),
    ("price_band", limit(Side.SELL, "47499"), {}, limit(Side.SELL, "47500"), {}),
    ("price_band", stop("50000"), {}, stop("49999"), {}),
    (
        "price_band",
        stop("49000", type=OrderType.STOP_LIMIT, limit_price=Decimal(46000)),
        {},
        stop("49000", type=OrderType.STOP_LIMIT, limit_price=Decimal(47000)),
        {},
    ),
]

INTEGRITY: list[tuple[str, Request, dict[str, Any], Request, dict[str, Any]]] = [
    ("product_known", buy(), {"market_": market(products={})}, buy(), {}),
    ("product_tradable", sell(protective=True), {"market_": only(tradable=False)}, sell(protective=True), {}),
    ("quantity", buy(quantity="0"), {}, buy(), {}),
    ("quantity", buy(quantity="-0.001"), {}, buy(), {}),
    ("quantity", replace(buy(), quantity=Decimal("NaN")), {}, buy(), {}),
    ("quantity", replace(buy(), quantity=0.001), {}, buy(), {}),
    ("terms", buy(limit_price=Decimal(50000)), {}, buy(), {}),
    ("terms", limit(limit_price=None), {}, limit(), {}),
    ("terms", limit(limit_price=Decimal(-1)), {}, limit(), {}),
    (
        "terms",
        limit(time_in_force=TimeInForce.GTD),
        {},
        limit(time_in_force=TimeInForce.GTD, expires_at=NOON + timedelta(hours=1)),
        {},
    ),
    ("terms", limit(time_in_force=TimeInForce.IOC, post_only=True), {}, limit(post_only=True), {}),
    ("terms", limit(time_in_force=TimeInForce.FOK, post_only=True), {}, limit(time_in_force=TimeInForce.FOK), {}),
    ("terms", buy(time_in_force=TimeInForce.FOK), {}, buy(), {}),
    ("terms", stop(stop_price=None), {}, stop(), {}),
    ("terms", stop(time_in_force=TimeInForce.IOC), {}, stop(), {}),
    ("terms", bracket(limit_price=None), {}, bracket(), {}),
    ("terms", bracket(side=Side.BUY), {}, bracket(), {}),
    ("price_band", bracket(limit_price=Decimal(50000)), {}, bracket(limit_price=Decimal("50000.01")), {}),
    ("price_band", bracket(stop_price=Decimal(50000)), {}, bracket(stop_price=Decimal("49999.99")), {}),
    ("order_type", buy(), {"market_": only(limit_only=True)}, limit(), {"market_": only(limit_only=True)}),
    ("order_type", limit(), {"market_": only(post_only=True)}, limit(post_only=True), {"market_": only(post_only=True)}),
    (
        "quantity_increment",
        buy(quantity="0.0010005"),
        {"market_": only(base_increment=Decimal("0.000001"))},
        buy(quantity="0.001001"),
        {"market_": only(base_increment=Decimal("0.000001"))},
    ),
    ("price_increment", limit(price="50000.005"), {}, limit(price="50000.01"), {}),
    (
        "venue_size_min",
        buy(),
        {"market_": only(base_min_size=Decimal("0.0011"))},
        buy(),
        {"market_": only(base_min_size=Decimal("0.001"))},
    ),
    (
        "venue_size_max",
        buy(),
        {"market_": only(base_max_size=Decimal("0.0009"))},
        buy(),
        {"market_": only(base_max_size=Decimal("0.001"))},
    ),
    ("holding", sell(quantity="0.0021"), {}, sell(quantity="0.002"), {}),
    ("holding", sell(protective=True, quantity="0.0021"), {}, sell(protective=True, quantity="0.002"), {}),
    ("holding", buy(protective=True), {}, sell(protective=True), {}),
    (
        "holding",
        sell(),
        {"held": portfolio("1000", position(quantity="0.002", held="0.0011"))},
        sell(),
        {"held": portfolio("1000", position(quantity="0.002", held="0.001"))},
    ),
]


ENTRIES += [
    ("price_out_of_range", buy(), {"market_": level("39999.99")}, buy(), {"market_": level("40000")}),
    (
        "price_out_of_range",
        buy(),
        {"market_": level("62500.01"), "plan_": plan(controls=LOOSE, checks={"range_band": "0.2"})},
        buy(),
        {"market_": level("62500"), "plan_": plan(controls=LOOSE, checks={"range_band": "0.2"})},
    ),
    ("equity_known", buy(), {"held": portfolio("0")}, buy(), {}),
    ("order_size_max", buy(quantity="0.00210000"), {"market_": only(base_min_size=Decimal("0.0015"))}, buy(), {}),
    (
        "exitable",
        buy(),
        {"market_": only(min_notional=Decimal("49.5"))},
        buy(),
        {"market_": only(base_min_size=Decimal("0.001"))},
    ),
    (
        "portfolio_volatility",
        buy(),
        volatile(Decimal("1e-9")),
        buy(),
        volatile(Decimal(0)),
    ),
]
ORDERS += [
    ("price_known", buy(), {"market_": market(quotes={"BTC-USD": replace(quote(), bid=Decimal(0))})}, buy(), {}),
    ("order_size_max", sell(quantity="0.0021"), RICH, sell(quantity="0.002"), RICH),
    (
        "order_size_max",
        sell(quantity="0.003"),
        RICH | {"market_": only(base_min_size=Decimal("0.0015"))},
        sell(quantity="0.00299999"),
        RICH | {"market_": only(base_min_size=Decimal("0.0015"))},
    ),
    ("price_band", buy_stop("50000"), {}, buy_stop("50000.01"), {}),
    ("price_band", buy_stop("50005"), WIDE, buy_stop("50010.01"), WIDE),
    ("price_band", stop("49995"), WIDE, stop("49989.99"), WIDE),
    (
        "price_band",
        stop("49000", type=OrderType.STOP_LIMIT, limit_price=Decimal("46549.99")),
        {},
        stop("49000", type=OrderType.STOP_LIMIT, limit_price=Decimal(46550)),
        {},
    ),
]
INTEGRITY += [
    ("terms", limit(limit_price=Decimal(0)), {}, limit(), {}),
    ("terms", stop(stop_price=Decimal(-1)), {}, stop(), {}),
    ("price_increment", stop("48999.995"), {}, stop("48999.99"), {}),
]

FOUR = ("A-USD", "B-USD", "C-USD", "D-USD")
FULL = portfolio("700", *(position(id_, "1", "100") for id_ in FOUR[:3]))
BATCHES: list[tuple[str, list[Request], dict[str, Any], list[list[str]]]] = [
    # one after the other, and what each of them fails
    ("duplicate", [buy(), buy(), buy(leg=1)], {}, [[], ["duplicate"], []]),
    (
        "open_positions",
        [buy("A-USD", "0.5"), buy("D-USD", "0.5")],
        {"plan_": plan(products=FOUR, controls=LOOSE), "market_": market(dict.fromkeys(FOUR, "100")), "held": FULL},
        [[], ["open_positions"]],
    ),
    (
        "open_positions",
        [buy(), buy(leg=1), buy("ETH-USD", "0.01")],
        {"plan_": plan(controls=LOOSE, limits={"max_open_positions": 2})},
        [[], [], []],
    ),
    (
        "open_positions",
        [buy(), buy(leg=1), buy("ETH-USD", "0.01")],
        {"plan_": plan(controls=LOOSE, limits={"max_open_positions": 1})},
        [[], [], ["open_positions"]],
    ),
]
"""What only shows in a batch."""


def holds(code: str, tables: Mapping[str, Tables]) -> bool:
    """Does every case of the check come out as it should, with these checks?"""
    cases = [case for case in (*ENTRIES, *ORDERS, *INTEGRITY) if case[0] == code]
    batches = [batch for batch in BATCHES if batch[0] == code]
    assert cases or batches, code
    for _, wrong, there, right, inside in cases:
        if code not in failed(judged(wrong, **_holding(wrong) | there, tables=tables)):
            return False
        if failed(judged(right, **_holding(right) | inside, tables=tables)):
            return False
    return all(in_a_row(requests, there, tables) == outcomes for _, requests, there, outcomes in batches)


def _holding(request: Request) -> dict[str, Any]:
    """What a sale sells."""
    return {"held": portfolio("900", HELD)} if request.side is Side.SELL or request.protective else {}


def in_a_row(requests: list[Request], there: Mapping[str, Any], tables: Mapping[str, Tables] = TABLES) -> list[list[str]]:
    world = {"plan_": plan(controls=LOOSE), "market_": market(), "held": portfolio()} | there
    validator = Validator(world["plan_"], world["market_"], world["held"], NOON, tables=tables)
    return [failed(validator.validate(request)) for request in requests]


@pytest.mark.parametrize(("code", "requests", "there", "outcomes"), BATCHES)
def test_a_check_of_what_came_before_refuses_beyond_its_limit(
    code: str, requests: list[Request], there: dict[str, Any], outcomes: list[list[str]]
) -> None:
    assert in_a_row(requests, there) == outcomes
    assert code in {check.code for check in ORDER_CHECKS}


@pytest.mark.parametrize(("code", "wrong", "there", "right", "inside"), [*ENTRIES, *ORDERS, *INTEGRITY])
def test_a_check_refuses_beyond_its_limit_and_passes_just_inside(
    code: str, wrong: Request, there: dict[str, Any], right: Request, inside: dict[str, Any]
) -> None:
    refused = judged(wrong, **_holding(wrong) | there)
    assert isinstance(refused, Refused)
    assert code in failed(refused)
    assert code in refused.message
    assert failed(judged(right, **_holding(right) | inside)) == []


BACKED = {
    "price_known",
    "equity_known",
    "product_known",
    "quantity",
    "terms",
    "holding",
    "price_band",
    "venue_size_min",
    "venue_notional_min",
}
"""Without these others still refuse some case of theirs: what has no price, no rules or no sense fails in more than one place."""


@pytest.mark.parametrize(("code", "wrong", "there"), [case[:3] for case in (*ENTRIES, *ORDERS, *INTEGRITY)])
def test_a_check_that_is_taken_out_is_noticed(code: str, wrong: Request, there: dict[str, Any]) -> None:
    """Nothing else refuses what it refuses: were it off, the order would go."""
    answer = judged(wrong, **_holding(wrong) | there, without=code)
    assert code not in failed(answer)
    assert isinstance(answer, Approved) or code in BACKED, failed(answer)


def test_every_check_of_the_table_is_tested_above_or_below() -> None:
    tested = {code for code, *_ in (*ENTRIES, *ORDERS, *INTEGRITY, *BATCHES)}
    assert tested == {check.code for check in (*PRODUCT_CHECKS, *ORDER_CHECKS)}


def test_a_protective_exit_is_never_seen_by_entry_guards() -> None:
    """Gate, doubt, freeze, stale quote, no quote at all, every limit used up: the exit goes."""
    troubled = portfolio("0", HELD, doubts=frozenset({"BTC-USD"}), frozen=frozenset({"BTC", "USD"}), day_volume=Decimal(10**6))
    nowhere = market(gated={"BTC-USD": "stale"}, quotes={}, candles=flat_candles({"ETH-USD": "2000"}))
    tight = plan(controls=LOOSE, products=("ETH-USD",), limits={"max_order_size_usd": "1"})
    exit_ = sell(quantity="0.002", protective=True)
    assert isinstance(judged(exit_, plan_=tight, market_=nowhere, held=troubled), Approved)


def test_an_ordinary_exit_is_not_held_up_by_what_bars_entries() -> None:
    troubled = portfolio("0", HELD, doubts=frozenset({"BTC-USD"}), frozen=frozenset({"BTC"}), day_volume=Decimal(10**6))
    gated = market(gated={"BTC-USD": "stale"}, quotes={"BTC-USD": quote(at=NOON - timedelta(days=1))})
    assert isinstance(judged(sell(quantity="0.002"), market_=gated, held=troubled), Approved)
    assert failed(judged(sell(quantity="0.0021"), held=portfolio("0", position(quantity="0.01")))) == ["order_size_max"]


@pytest.mark.parametrize(("held_back", "second"), [("898.7494", []), ("898.7495", ["balance"])])
def test_two_orders_cannot_overdraw_together(held_back: str, second: list[str]) -> None:
    """Each needs 50 USD * 1.0005 * 1.012 = 50.6253; 101.2506 is enough for both, and not a cent less."""
    cash = portfolio("1000", cash_held=Decimal(held_back))
    answers = validate(plan(controls=LOOSE), [buy(), buy("ETH-USD", "0.025")], market(), cash, NOON)
    assert [failed(answer) for answer in answers] == [[], second]


def test_two_orders_cannot_exceed_equity_together() -> None:
    nearly = portfolio("1000", working={"ETH-USD": Decimal(900)})
    answers = validate(plan(controls=LOOSE), [buy(), buy(leg=1), buy(quantity="0.0001", leg=2)], market(), nearly, NOON)
    assert [failed(answer) for answer in answers] == [[], [], ["leverage"]]


def test_each_approval_moves_volume_position_and_count_on() -> None:
    ids = ("A-USD", "B-USD", "C-USD", "D-USD")
    many = plan(products=ids, controls=LOOSE, limits={"max_order_size_usd": "200"})
    there = market(dict.fromkeys(ids, "100"))
    answers = validate(many, [buy(id_, "0.5") for id_ in ids], there, portfolio(), NOON)
    assert [failed(answer) for answer in answers] == [[], [], [], ["open_positions"]]
    answers = validate(many, [buy("A-USD", "1.5"), buy("A-USD", "1.5", leg=1)], there, portfolio(), NOON)
    assert [failed(answer) for answer in answers] == [[], ["position_size"]]
    answers = validate(many, [buy(id_, "1.7") for id_ in ids[:3]], there, portfolio(), NOON)
    assert [failed(answer) for answer in answers] == [[], [], ["daily_volume", "hourly_volume"]]


def test_a_refusal_moves_nothing_on() -> None:
    answers = validate(plan(), [buy(quantity="0.01"), buy()], market(), portfolio("1000", cash_held=Decimal(940)), NOON)
    assert [type(answer) for answer in answers] == [Refused, Approved]


def test_sales_of_one_batch_share_the_holding() -> None:
    legs = [sell(quantity="0.0012", leg=leg) for leg in range(2)]
    answers = validate(plan(controls=LOOSE), legs, market(), portfolio("900", HELD), NOON)
    assert [failed(answer) for answer in answers] == [[], ["holding"]]


def test_a_check_that_fails_refuses_and_says_so() -> None:
    broken = market(products={"BTC-USD": product(base_increment=Decimal(0))})
    refused = judged(buy(), market_=broken)
    assert failed(refused) == ["quantity_increment", "exitable"]
    assert "quantity_increment: quantity is a multiple of the increment: observed check failed: " in refused.message


def test_a_missing_price_refuses_every_check_that_needs_one() -> None:
    assert {"price_known", "order_size_max", "balance", "quote_stale"} <= set(failed(judged(buy(), market_=market(quotes={}))))


def test_a_validator_remembers_every_outcome() -> None:
    validator = Validator(plan(), market(), portfolio(), NOON)
    for request in (buy(), buy(), buy("ETH-USD", "0.01")):
        validator.validate(request)
    assert (len(validator.approved), len(validator.refused)) == (2, 1)
    assert validator.refused[0].code == "duplicate"


def test_a_crossed_quote_is_no_price() -> None:
    crossed = market(quotes={"BTC-USD": replace(quote(), bid=Decimal(50001))})
    assert "price_known" in failed(judged(buy(), market_=crossed))
