"""From signals to requests: sizes, the band, the limits, exits before entries, and what is said about each cut."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from tests.builders.plans import NOON, flat_candles, market, plan, portfolio, position, product, quote
from trading.allocation import LEGS_MAX, Proposal, allocate
from trading.market import Market
from trading.money import text
from trading.orders import OrderType, Side, TimeInForce
from trading.plan import Plan, StrategyChoice
from trading.portfolio import Portfolio
from trading.risk import Approved, validate
from trading.strategies import create

NAN = float("nan")
ROOMY = {"max_order_size_usd": "1000", "max_daily_volume_usd": "100000", "max_position_size": "0.5"}


def proposed(
    signals: dict[str, float],
    held: Portfolio | None = None,
    plan_: Plan | None = None,
    market_: Market | None = None,
    **more: Any,
) -> Proposal:
    return allocate(plan_ or plan(limits=ROOMY), signals, market_ or market(), held or portfolio(), **more)


def orders(proposal: Proposal) -> list[str]:
    return [f"{r.side} {r.product} {text(r.quantity)} leg {r.leg}" for r in proposal.requests]


def codes(proposal: Proposal) -> list[str]:
    return [f"{clip.product} {clip.code}" for clip in proposal.clips]


def test_a_full_signal_buys_the_plans_weight() -> None:
    proposal = proposed({"BTC-USD": 1.0})
    assert orders(proposal) == ["buy BTC-USD 0.004 leg 0"]
    assert proposal.targets == {"BTC-USD": Decimal("0.2")}
    assert codes(proposal) == []


def test_half_a_signal_buys_half_and_half_open_half_of_that() -> None:
    assert orders(proposed({"BTC-USD": 0.5})) == ["buy BTC-USD 0.002 leg 0"]
    assert orders(proposed({"BTC-USD": 0.5}, size_factor=Decimal("0.5"))) == ["buy BTC-USD 0.001 leg 0"]


def test_no_opinion_asks_for_nothing() -> None:
    held = portfolio("900", position(quantity="0.002"))
    assert proposed({"BTC-USD": NAN}, held) == Proposal()
    assert proposed({}, held) == Proposal()


@pytest.mark.parametrize("signal", [0.0, -0.3, -1.0])
def test_zero_and_below_sell_all_that_is_free(signal: float) -> None:
    held = portfolio("900", position(quantity="0.002", held="0.0005"))
    assert orders(proposed({"BTC-USD": signal}, held)) == ["sell BTC-USD 0.0015 leg 0"]
    assert proposed({"BTC-USD": signal}).requests == ()


def test_quantities_are_rounded_down_to_the_increment() -> None:
    coarse = market(products={"BTC-USD": product(base_increment=Decimal("0.0003"))})
    assert orders(proposed({"BTC-USD": 1.0}, market_=coarse)) == ["buy BTC-USD 0.0039 leg 0"]


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("0.0036", ["buy BTC-USD 0.0004 leg 0"]),  # 0.18 held: 0.02 away, the band
        ("0.0037", []),  # 0.185 held
        ("0.0043", []),  # 0.215 held
        ("0.0044", ["sell BTC-USD 0.0004 leg 0"]),  # 0.22 held
    ],
)
def test_moves_within_the_band_are_not_traded(quantity: str, expected: list[str]) -> None:
    held = portfolio(str(1000 - 50_000 * Decimal(quantity)), position(quantity=quantity))
    assert orders(proposed({"BTC-USD": 1.0}, held)) == expected


def test_live_buys_count_as_held() -> None:
    assert orders(proposed({"BTC-USD": 1.0}, portfolio(working={"BTC-USD": Decimal(150)}))) == ["buy BTC-USD 0.001 leg 0"]
    assert proposed({"BTC-USD": 1.0}, portfolio(working={"BTC-USD": Decimal(190)})).requests == ()


def test_a_full_exit_is_traded_inside_the_band() -> None:
    held = portfolio("995", position(quantity="0.0001"))
    assert orders(proposed({"BTC-USD": 0.0}, held)) == ["sell BTC-USD 0.0001 leg 0"]


def test_exits_come_before_entries_and_entries_by_strength() -> None:
    ids = ("A-USD", "B-USD", "C-USD")
    there = market(dict.fromkeys(ids, "100"))
    held = portfolio("900", position("C-USD", "1", "100"))
    proposal = proposed({"A-USD": 0.5, "B-USD": 1.0, "C-USD": -1.0}, held, plan(products=ids, limits=ROOMY), there)
    assert orders(proposal) == ["sell C-USD 1 leg 0", "buy B-USD 2 leg 0", "buy A-USD 1 leg 0"]


@pytest.mark.parametrize(
    ("limits", "changes", "quantity", "clip"),
    [
        ({"max_order_size_usd": "100"}, {}, "0.002", "order_size_max: observed 200, limit 100"),
        ({"max_position_size": "0.1"}, {}, "0.002", "position_size: observed 0.2, limit 0.1"),
        ({"max_daily_volume_usd": "150"}, {"day_volume": Decimal(50)}, "0.002", "daily_volume: observed 200, limit 100"),
        ({"max_daily_volume_usd": "300"}, {"hour_volume": Decimal(50)}, "0.002", "hourly_volume: observed 200, limit 100"),
        ({}, {"cash_held": Decimal("878.7494")}, "0.002", "balance: observed 200, limit 100"),
        ({}, {"working": {"ETH-USD": Decimal(900)}}, "0.002", "leverage: observed 200, limit 100"),
    ],
)
def test_an_entry_is_cut_to_each_limit_and_says_so(
    limits: dict[str, Any], changes: dict[str, Any], quantity: str, clip: str
) -> None:
    controls = {} if clip.startswith(("hourly", "volume_share")) else {"max_hourly_share": 1}
    proposal = proposed({"BTC-USD": 1.0}, portfolio(**changes), plan(limits=ROOMY | limits, controls=controls))
    assert orders(proposal) == [f"buy BTC-USD {quantity} leg 0"]
    assert [str(found) for found in proposal.clips] == [f"BTC-USD: {clip}"]


def test_entries_share_what_the_limits_leave() -> None:
    tight = plan(limits=ROOMY | {"max_daily_volume_usd": "250"}, controls={"max_hourly_share": 1})
    proposal = proposed({"BTC-USD": 1.0, "ETH-USD": 0.9}, plan_=tight)
    assert orders(proposal) == ["buy BTC-USD 0.004 leg 0", "buy ETH-USD 0.025 leg 0"]
    assert codes(proposal) == ["ETH-USD daily_volume"]


def test_an_entry_is_cut_to_its_share_of_what_the_product_trades() -> None:
    thin = market(candles=replace(flat_candles({"BTC-USD": "50000"}), volume=np.full((200, 1), 1 / 24)))
    proposal = proposed({"BTC-USD": 1.0}, market_=thin)
    assert orders(proposal) == ["buy BTC-USD 0.002 leg 0"]
    assert [str(clip) for clip in proposal.clips] == ["BTC-USD: volume_share: observed 200, limit 100"]


def test_the_number_of_positions_is_kept() -> None:
    ids = ("A-USD", "B-USD", "C-USD", "D-USD")
    proposal = proposed(
        dict.fromkeys(ids, 1.0), plan_=plan(products=ids, limits=ROOMY), market_=market(dict.fromkeys(ids, "100"))
    )
    assert [request.product for request in proposal.requests] == ["A-USD", "B-USD", "C-USD"]
    assert [str(clip) for clip in proposal.clips] == ["D-USD: open_positions: observed 4, limit 3"]


@pytest.mark.parametrize(
    ("code", "there", "held"),
    [
        ("product_gated", {"gated": {"BTC-USD": "flat for 215 h"}}, {}),
        ("in_doubt", {}, {"doubts": frozenset({"BTC-USD"})}),
        ("asset_frozen", {}, {"frozen": frozenset({"BTC"})}),
    ],
)
def test_what_takes_no_new_risk_still_exits(code: str, there: dict[str, Any], held: dict[str, Any]) -> None:
    entry = proposed({"BTC-USD": 1.0}, portfolio(**held), market_=market(**there))
    assert (orders(entry), codes(entry)) == ([], [f"BTC-USD {code}"])
    exit_ = proposed({"BTC-USD": 0.0}, portfolio("900", position(quantity="0.002"), **held), market_=market(**there))
    assert orders(exit_) == ["sell BTC-USD 0.002 leg 0"]


def test_without_a_quote_nothing_is_traded() -> None:
    held = portfolio("900", position(quantity="0.002"))
    proposal = proposed({"BTC-USD": 0.0}, held, market_=market(quotes={}))
    assert (orders(proposal), codes(proposal)) == ([], ["BTC-USD price_known"])


def test_when_one_holding_cannot_be_valued_others_still_exit_and_nothing_enters() -> None:
    held = portfolio("800", position(quantity="0.002"), position("ETH-USD", "0.05", "2000"))
    there = market(quotes={"BTC-USD": quote()})
    assert orders(proposed({"BTC-USD": 0.0, "ETH-USD": 0.0}, held, market_=there)) == ["sell BTC-USD 0.002 leg 0"]
    entry = proposed({"BTC-USD": 1.0}, held, market_=there)
    assert (orders(entry), codes(entry)) == ([], ["BTC-USD equity_known"])


def test_an_exit_over_the_order_limit_is_sliced_evenly() -> None:
    held = portfolio("0", position(quantity="0.0050001"))
    proposal = proposed({"BTC-USD": 0.0}, held, plan())
    assert [request.leg for request in proposal.requests] == [0, 1, 2]
    assert [request.quantity for request in proposal.requests] == [Decimal("0.0016667")] * 3
    assert codes(proposal) == ["BTC-USD sliced"]
    assert all(isinstance(answer, Approved) for answer in validate(plan(), proposal.requests, market(), held, NOON))


def test_a_huge_exit_takes_several_slots() -> None:
    proposal = proposed({"BTC-USD": 0.0}, portfolio("0", position(quantity="1")), plan())
    assert len(proposal.requests) == LEGS_MAX
    assert sum(request.quantity for request in proposal.requests) == Decimal("0.04")
    assert codes(proposal) == ["BTC-USD sliced", "BTC-USD legs"]


@pytest.mark.parametrize(
    ("quantity", "legs"),
    [("0.1", ["0.1"]), ("0.3", ["0.1", "0.1", "0.1"])],
)
def test_what_cannot_be_sold_in_smaller_parts_is_sold_over_the_limit(quantity: str, legs: list[str]) -> None:
    """The venue takes a tenth of a coin at least, 5,000 USD, and the limit is 100: the exit goes all the same."""
    coarse = market(products={"BTC-USD": product(base_increment=Decimal("0.1"))})
    held = portfolio("0", position(quantity=quantity))
    requests = proposed({"BTC-USD": 0.0}, held, plan(), coarse).requests
    assert [text(request.quantity) for request in requests] == legs
    assert all(isinstance(answer, Approved) for answer in validate(plan(), requests, coarse, held, NOON))


@pytest.mark.parametrize(("quantity", "legs"), [("0.0035", ["0.0035"]), ("0.0055", ["0.00275", "0.00275"])])
def test_slices_are_never_below_the_venues_minimum(quantity: str, legs: list[str]) -> None:
    """A minimum of 95 USD under a limit of 100 leaves no room for an even split of 175 USD: it goes in one."""
    strict = market(products={"BTC-USD": product(min_notional=Decimal(95))})
    held = portfolio("0", position(quantity=quantity))
    requests = proposed({"BTC-USD": 0.0}, held, plan(), strict).requests
    assert [text(request.quantity) for request in requests] == legs
    assert all(isinstance(answer, Approved) for answer in validate(plan(), requests, strict, held, NOON))


def test_a_partial_exit_that_would_leave_dust_sells_all() -> None:
    """Half of a holding of 3 USD where the venue takes 2 USD at least: the other half could not be sold."""
    small = market(products={"BTC-USD": product(min_notional=Decimal(2))})
    held = portfolio("3", position(quantity="0.00006"))
    assert orders(proposed({"BTC-USD": 1.0}, held, market_=small)) == ["sell BTC-USD 0.00006 leg 0"]


def test_dust_stays_and_is_named() -> None:
    held = portfolio("999", position(quantity="0.00001"))
    proposal = proposed({"BTC-USD": 0.0}, held)
    assert (orders(proposal), codes(proposal)) == ([], ["BTC-USD dust"])


@pytest.mark.parametrize(
    ("cash", "rules", "code"),
    [
        ("24", {}, "order_size_min"),  # 4.80 USD under the plan's 5
        ("100", {"min_notional": Decimal(21)}, "order_size_min"),  # 20 USD under the venue's 21
        ("100", {"base_min_size": Decimal("0.0005")}, "venue_size_min"),
        ("100", {"min_notional": Decimal("19.9")}, "exitable"),  # 20 USD in, 19.75 out at worst
    ],
)
def test_what_could_never_be_exited_is_not_entered(cash: str, rules: dict[str, Any], code: str) -> None:
    there = market(products={"BTC-USD": product(**rules)})
    proposal = proposed({"BTC-USD": 1.0}, portfolio(cash, peak_equity=Decimal(cash)), market_=there)
    assert (orders(proposal), codes(proposal)) == ([], [f"BTC-USD {code}"])


def test_an_untradable_product_is_left_alone_both_ways() -> None:
    shut = market(products={"BTC-USD": product(tradable=False)})
    assert codes(proposed({"BTC-USD": 1.0}, market_=shut)) == ["BTC-USD product_tradable"]
    exit_ = proposed({"BTC-USD": 0.0}, portfolio("900", position(quantity="0.002")), market_=shut)
    assert (orders(exit_), codes(exit_)) == ([], ["BTC-USD product_tradable"])


def test_limit_entries_rest_on_the_passive_side_until_the_next_candle() -> None:
    proposal = proposed({"BTC-USD": 1.0}, plan_=plan(orders={"type": "limit"}, limits=ROOMY))
    (request,) = proposal.requests
    assert (request.type, request.limit_price, request.time_in_force) == (OrderType.LIMIT, Decimal(49950), TimeInForce.GTD)
    assert request.expires_at is not None
    assert (request.expires_at - NOON).total_seconds() == 3600
    assert request.quantity == Decimal("0.00400400")


@pytest.mark.parametrize(("flag", "price"), [("limit_only", Decimal(48750)), ("post_only", Decimal(50000))])
def test_where_the_venue_takes_limits_only_exits_are_limits(flag: str, price: Decimal) -> None:
    there = market(products={"BTC-USD": product(**{flag: True})})
    held = portfolio("900", position(quantity="0.001"))
    (request,) = proposed({"BTC-USD": 0.0}, held, market_=there).requests
    assert (request.side, request.type, request.limit_price) == (Side.SELL, OrderType.LIMIT, price)
    assert all(isinstance(answer, Approved) for answer in validate(plan(), [request], there, held, NOON))


def test_a_request_says_why() -> None:
    rising = market()
    close = rising.candles.close.copy()
    close[:, 0] = range(100, 300)
    rising = replace(rising, candles=replace(rising.candles, close=close))
    crossover = create(StrategyChoice(name="crossover", parameters={"fast": 12, "slow": 48}))
    (request,) = proposed({"BTC-USD": 1.0}, market_=rising, strategy=crossover).requests
    assert request.reason == "sma 12/48 above: signal 1.00, weight 0.00 → 0.20"
