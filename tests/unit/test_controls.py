"""The finer controls: each refuses beyond its limit, passes at it, refuses what it cannot know, and is missed when off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.builders.plans import NOON, buy, flat_candles, market, plan, portfolio, position, quote, sell
from trading.market import Market
from trading.orders import OrderType, Request, TimeInForce
from trading.portfolio import Bought, Portfolio, Recent
from trading.risk import Approved, Opinions, Refused, Validator
from trading.risk.catalogue import LOOKS_AT, ORDER_CONTROLS, PRODUCT_CONTROLS
from trading.risk.checks import MODERATE, ORDER_CHECKS, PRODUCT_CHECKS, Guard
from trading.risk.comovement import Comovement, share_after
from trading.risk.validator import TABLES, Tables, tables_of

CODES = [check.code for check in (*PRODUCT_CONTROLS, *ORDER_CONTROLS)]
FINER = [code for code in CODES if code not in {check.code for check in (*PRODUCT_CHECKS, *ORDER_CHECKS)}]


class World(NamedTuple):
    """What one request is judged in."""

    controls: Mapping[str, Any] = {}
    market: Market | None = None
    held: Portfolio | None = None
    opinions: Opinions | None = None
    products: tuple[str, ...] = ("BTC-USD", "ETH-USD")
    costs: Mapping[str, Any] = {}


def judged(request: Request, world: World, without: str = "", tables: Mapping[str, Tables] | None = None) -> Approved | Refused:
    tables = tables or tables_of(
        [check for check in PRODUCT_CONTROLS if check.code != without],
        [check for check in ORDER_CONTROLS if check.code != without],
    )
    made = plan(controls=world.controls, products=world.products, costs=world.costs)
    there, held = world.market or market(), world.held or portfolio()
    return Validator(made, there, held, NOON, world.opinions, tables).validate(request)


def failed(answer: Approved | Refused) -> list[str]:
    return [outcome.code for outcome in answer.evaluation.failures]


def quoted(**changes: Any) -> Market:
    return market(quotes={"BTC-USD": replace(quote(), **changes)})


def second(mid: str, age_seconds: int = 0) -> Market:
    return market(second={"BTC-USD": quote(mid=mid, at=NOON - timedelta(seconds=age_seconds))})


def booked(*asks: tuple[str, str]) -> Market:
    return quoted(asks=tuple((Decimal(price), Decimal(quantity)) for price, quantity in asks))


def sent(**changes: Any) -> World:
    return World(held=portfolio(recent={"BTC-USD": Recent(**changes)}))


def candled(price: str = "50000", volume: float = 20.0, hours_ago: int = 0) -> Market:
    """Flat candles of BTC-USD at another price or volume, the last of which closed so long ago."""
    candles = flat_candles({"BTC-USD": price}, end=NOON - timedelta(hours=hours_ago))
    return market(candles=replace(candles, volume=np.full((200, 1), volume)), quotes={"BTC-USD": quote()})


def opinions(now: Mapping[str, float], before: Mapping[str, float] | None = None) -> World:
    return World(opinions=Opinions(now=now, before=before))


def turning(turned: int, products: int) -> World:
    ids = ("BTC-USD", *(f"C{number}-USD" for number in range(products - 1)))
    before = {id_: 0.0 if place < turned else 1.0 for place, id_ in enumerate(ids)}
    return opinions(dict.fromkeys(ids, 1.0), before)


def moving(share: float) -> World:
    """ETH is held for as much as the order buys of BTC; so much of a BTC candle's return is ETH's own."""
    steps = np.random.default_rng(5).normal(0.0, 0.01, (2, 200))
    steps -= steps.mean(axis=1, keepdims=True)
    close = np.exp(np.cumsum(np.stack([steps[0] * share + steps[1] * (1 - share), steps[0]], axis=1), axis=0))
    close *= np.array([50000.0, 2000.0]) / close[-1]
    candles = replace(flat_candles({"BTC-USD": "50000", "ETH-USD": "2000"}), open=close, high=close, low=close, close=close)
    loose = {"vwap_band": 1, "max_correlated_variance": "0.4"}
    return World(loose, market(candles=candles), portfolio("950", position("ETH-USD", "0.025", "2000")))


def limit(price: str, **changes: Any) -> Request:
    return buy(**{"type": OrderType.LIMIT, "limit_price": Decimal(price), "time_in_force": TimeInForce.GTC} | changes)


def until(**delta: float) -> Request:
    return limit("50000", time_in_force=TimeInForce.GTD, expires_at=NOON + timedelta(**delta))


class Case(NamedTuple):
    """A request and a world that one control alone refuses, and the same just inside."""

    code: str
    refused: tuple[Request, World]
    passed: tuple[Request, World]


ME = {"BTC-USD": 1.0}
CASES = [
    Case("spread", (buy(), World(market=quoted(bid=Decimal(49750), ask=Decimal("50000.26")))),
         (buy(), World(market=quoted(bid=Decimal(49750), ask=Decimal(49999))))),
    Case("candle_stale", (buy(), World(market=candled(hours_ago=3))), (buy(), World(market=candled(hours_ago=2)))),
    Case("price_off_mean", (buy(), World(market=candled("45400"))), (buy(), World(market=candled("45500")))),
    Case("price_off_mean", (buy(), World(market=candled("55600"))), (buy(), World(market=candled("55500")))),
    Case("second_source", (buy(), World(market=second("50379"))), (buy(), World(market=second("50377")))),
    Case("second_source", (buy(), World(market=second("49627"))), (buy(), World(market=second("49628")))),
    Case("second_source", (buy(), World(market=second("50000", age_seconds=11))), (buy(), World(market=second("50000", 10)))),
    Case("second_source", (buy(), World({"second_source_required": True})), (buy(), World())),
    Case("fee", (buy(), World(market=market(taker_fee=Decimal("0.0181")))),
         (buy(), World(market=market(taker_fee=Decimal("0.018"))))),
    Case("signal", (buy(), opinions({"BTC-USD": 1.01})), (buy(), opinions({"BTC-USD": 1.0}))),
    Case("signal", (buy(), opinions({"BTC-USD": float("nan")})), (buy(), opinions({"BTC-USD": -1.0}))),
    Case("signal", (buy(), opinions({"BTC-USD": float("inf")})), (buy(), World())),
    Case("signal", (buy(), opinions({"ETH-USD": 1.0})), (buy(), opinions({"BTC-USD": 0.0}))),
    Case("signals_turned", (buy(), turning(9, 10)), (buy(), turning(8, 10))),
    Case("signals_turned", (buy(), turning(5, 5)), (buy(), turning(4, 4))),
    Case("volume_share", (buy(), World(market=candled(volume=0.0208))), (buy(), World(market=candled(volume=0.0209)))),
    Case("impact", (buy(), World(market=booked(("50000", "0.0005"), ("50251", "1")))),
         (buy(), World(market=booked(("50000", "0.0005"), ("50250", "1"))))),
    Case("impact", (buy(), World(market=booked(("50000", "0.0009")))),
         (limit("50000"), World(market=booked(("50000", "0.0009"))))),
    Case("impact", (buy(), World({"book_required": True})), (buy(), World(market=booked(("50000", "1"))))),
    Case("hourly_volume", (buy(), World(held=portfolio(day_volume=Decimal(300), hour_volume=Decimal("200.01")))),
         (buy(), World(held=portfolio(day_volume=Decimal(300), hour_volume=Decimal(200))))),
    Case("orders_in_hour", (buy(), sent(hour_orders=10)), (buy(), sent(hour_orders=9))),
    Case("orders_in_day", (buy(), sent(day_orders=50)), (buy(), sent(day_orders=49))),
    Case("live_orders", (buy(), sent(live_orders=3)), (buy(), sent(live_orders=2))),
    Case("messages", (buy(), World(held=portfolio(minute_orders=42))), (buy(), World(held=portfolio(minute_orders=41)))),
    Case("repeated_entries", (buy(), sent(entries=6)), (buy(), sent(entries=5))),
    Case("self_trade", (buy(), sent(resting_sale=Decimal(50000))), (buy(), sent(resting_sale=Decimal("50000.01")))),
    Case("self_trade", (limit("50500"), sent(resting_sale=Decimal(50500))),
         (limit("50499"), sent(resting_sale=Decimal(50500)))),
    Case("order_life", (until(seconds=90001), World()), (until(seconds=90000), World())),
    Case("order_life", (until(seconds=0), World()), (until(seconds=1), World())),
    Case("correlated", (buy(), moving(1.0)), (buy(), moving(0.2))),
]  # fmt: skip


def likened(quantity: str = "0.001", price: str = "50000", seconds_ago: int = 0) -> World:
    bought = Bought(Decimal(quantity), Decimal(price), NOON - timedelta(seconds=seconds_ago))
    return World({"duplicate_seconds": 600}, held=portfolio(recent={"BTC-USD": Recent(bought=(bought,))}))


CASES += [
    Case("like_order", (buy(), likened(seconds_ago=599)), (buy(), likened(seconds_ago=600))),
    Case("like_order", (buy(), likened("0.0009901")), (buy(), likened("0.00099"))),
    Case("like_order", (buy(), likened("0.0010101")), (buy(), likened("0.0010102"))),
    Case("like_order", (buy(), likened(price="50049")), (buy(), likened(price="50051"))),
    Case("like_order", (limit("49951"), likened()), (limit("49949"), likened())),
]


def level(price: str) -> Market:
    """A BTC-USD that stood still at a price, and is quoted at 50,000 now."""
    still = np.full((200, 1), float(price))
    candles = replace(
        flat_candles({"BTC-USD": price}), open=still, high=still, low=still, close=still, volume=np.full((200, 1), 32.0)
    )
    return market(candles=candles, quotes={"BTC-USD": quote()})


def seconded(bid: str, ask: str) -> World:
    return World(market=market(second={"BTC-USD": replace(quote(), bid=Decimal(bid), ask=Decimal(ask))}))


def together() -> Any:
    """What the holdings share by moving as one, after the order: `moving(1.0)` with that very limit is at it."""
    (outcome,) = judged(buy(), moving(1.0)).evaluation.failures
    return Decimal(repr(outcome.observed))


def at_most(share: Decimal) -> World:
    world = moving(1.0)
    return world._replace(controls={**world.controls, "max_correlated_variance": share})


TEN = [f"C{number}-USD" for number in range(9)] + ["BTC-USD"]
FREE = {"taker_fee": 0}
TWO_LEVELS = World(market=booked(("50000", "0.0005"), ("50251", "1")))
CASES += [
    Case("spread", (buy(), World(market=quoted(bid=Decimal("49874.99"), ask=Decimal(50125)))),
         (buy(), World(market=quoted(bid=Decimal(49875), ask=Decimal(50125))))),
    Case("spread", (buy(), World(market=quoted(bid=Decimal(49750), ask=Decimal("50000.26")))), (buy(), World())),
    Case("candle_stale", (buy(), World(market=candled(hours_ago=3))), (buy(), World())),
    Case("price_off_mean", (buy(), World({"vwap_band": "0.2"}, level("62500.01"))),
         (buy(), World({"vwap_band": "0.2"}, level("62500")))),
    Case("second_source", (buy(), World({"max_second_deviation": "0.25"}, second("39999.99"))),
         (buy(), World({"max_second_deviation": "0.25"}, second("40000")))),
    Case("second_source", (buy(), seconded("50001", "50000")), (buy(), seconded("50000", "50000"))),
    Case("second_source", (buy(), seconded("0", "100000")), (buy(), seconded("49999", "50001"))),
    Case("fee", (buy(), World(market=market(taker_fee=Decimal("0.0001")), costs=FREE)),
         (buy(), World(market=market(taker_fee=Decimal(0)), costs=FREE))),
    Case("signals_turned", (buy(), turning(9, 10)), (buy(), opinions(ME))),
    Case("signals_turned", (buy(), turning(9, 10)), (buy(), opinions(dict.fromkeys(TEN, 0.0), dict.fromkeys(TEN, 0.0)))),
    Case("volume_share", (buy(quantity="0.00150001"), World({"max_volume_share": "0.001"}, candled(volume=0.0625))),
         (buy(quantity="0.0015"), World({"max_volume_share": "0.001"}, candled(volume=0.0625)))),
    Case("impact", (buy(), World({"book_required": True})), (buy(), World())),
    Case("impact", (limit("50251"), TWO_LEVELS), (limit("50250"), TWO_LEVELS)),
    Case("impact", (limit("50251"), TWO_LEVELS), (limit("49990"), TWO_LEVELS)),
    Case("like_order", (buy(quantity="0.00099"), likened()), (buy(quantity="0.00098999"), likened())),
    Case("like_order", (buy(quantity="0.00101"), likened()), (buy(quantity="0.00101001"), likened())),
    Case("like_order", (limit("49950"), likened()), (limit("49949.99"), likened())),
    Case("like_order", (limit("50050"), likened()), (limit("50050.01"), likened())),
    Case("correlated", (buy(), at_most(together() - Decimal("1e-9"))), (buy(), at_most(together()))),
]  # fmt: skip


def pegged(mid: str) -> World:
    ids = {"USDC-USD": mid}
    return World({"vwap_band": 1}, market(ids), products=("USDC-USD",))


CASES += [
    Case("peg", (buy("USDC-USD", "50"), pegged("1.0051")), (buy("USDC-USD", "50"), pegged("1.005"))),
    Case("peg", (buy("USDC-USD", "50"), pegged("0.9949")), (buy("USDC-USD", "50"), pegged("0.995"))),
]


def holds(code: str, tables: Mapping[str, Tables]) -> bool:
    """Does every case of the control come out as it should, with these checks?"""
    cases = [case for case in CASES if case.code == code]
    assert cases or code == "entries_in_slot", code
    for case in cases:
        if failed(judged(*case.refused, tables=tables)) != [code] or failed(judged(*case.passed, tables=tables)):
            return False
    return bool(cases) or all(twice_in_a_slot(most, tables) == outcome for most, outcome in SLOTS)


SLOTS: list[tuple[int, list[list[str]]]] = [(1, [[], ["entries_in_slot"]]), (2, [[], []])]
"""Entries of a product that a slot may make, and what two of them fail."""


def twice_in_a_slot(most: int, tables: Mapping[str, Tables] = TABLES) -> list[list[str]]:
    validator = Validator(plan(controls={"max_entries_per_slot": most}), market(), portfolio(), NOON, tables=tables)
    return [failed(validator.validate(buy(leg=leg))) for leg in range(2)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_a_control_refuses_beyond_its_limit_and_passes_at_it(case: Case) -> None:
    assert failed(judged(*case.refused)) == [case.code]
    assert failed(judged(*case.passed)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_a_control_that_is_taken_out_is_noticed(case: Case) -> None:
    assert isinstance(judged(*case.refused, without=case.code), Approved), "nothing else refuses it: the control matters"


def test_a_slot_makes_one_entry_of_a_product() -> None:
    for most, outcome in SLOTS:
        assert twice_in_a_slot(most) == outcome


@pytest.mark.parametrize(
    ("code", "held"),
    [
        ("orders_in_hour", portfolio(recent={"BTC-USD": Recent(hour_orders=9)})),
        ("orders_in_day", portfolio(recent={"BTC-USD": Recent(day_orders=49)})),
        ("live_orders", portfolio(recent={"BTC-USD": Recent(live_orders=2)})),
        ("repeated_entries", portfolio(recent={"BTC-USD": Recent(entries=5)})),
        ("messages", portfolio(minute_orders=41)),
        ("hourly_volume", portfolio(hour_volume=Decimal(200), day_volume=Decimal(200))),
    ],
)
def test_what_the_batch_has_approved_counts_for_the_next_order(code: str, held: Portfolio) -> None:
    validator = Validator(plan(controls={"max_entries_per_slot": 2}), market(), held, NOON)
    assert failed(validator.validate(buy())) == []
    assert failed(validator.validate(buy(leg=1))) == [code]


def test_every_finer_control_has_its_case() -> None:
    assert {case.code for case in CASES} | {"entries_in_slot"} == set(FINER)


def test_every_check_says_what_it_looks_at() -> None:
    assert set(LOOKS_AT) == set(CODES)
    stored = judged(buy(), World()).evaluation.to_dict()
    assert [check["code"] for check in stored["checks"]] == CODES
    assert {check["code"]: check["data"] for check in stored["checks"]} == {code: str(data) for code, data in LOOKS_AT.items()}


def test_an_evaluation_tells_the_ages_of_its_data_and_the_configuration() -> None:
    there = replace(candled(hours_ago=1), second={"BTC-USD": quote(at=NOON - timedelta(seconds=2))},
                    quotes={"BTC-USD": quote(at=NOON - timedelta(seconds=3))})  # fmt: skip
    stored = judged(buy(), World(market=there)).evaluation.to_dict()
    assert stored["ages"] == {"quote": "3", "candles": "3600", "second": "2"}
    assert stored["plan_sha256"] == plan().sha256


def test_no_finer_control_holds_up_an_exit() -> None:
    """Every one of them at its worst, at once: the holding is sold, protective or not."""
    assert {check.guard for check in (*PRODUCT_CONTROLS, *ORDER_CONTROLS) if check.code in FINER} == {Guard.ENTRY}
    busy = Recent(hour_orders=99, day_orders=99, live_orders=99, entries=99, resting_sale=Decimal(1))
    held = portfolio("0", position(), recent={"BTC-USD": busy}, hour_volume=Decimal(10**9), minute_orders=10**6)
    worst = replace(candled("1", volume=0.0, hours_ago=99), taker_fee=Decimal(1), cash_at_venue=Decimal(0))
    worst = replace(worst, quotes={"BTC-USD": replace(quote(), bid=Decimal(40000), ask=Decimal(60000))}, second={})
    strict = World({"second_source_required": True, "book_required": True}, worst, held, Opinions(now={}))
    assert len(failed(judged(buy(), strict))) >= 12
    for exit_ in (sell(), sell(protective=True)):
        assert failed(judged(exit_, strict)) == []


# What is unset, unknown or no number ------------------------------------------------------------------------------------

WRONG = [None, "many", float("nan"), Decimal("NaN"), Decimal(-1), object()]
BOUNDED = {
    "spread": "max_spread", "candle_stale": "candle_age_intervals", "price_off_mean": "vwap_band",
    "second_source": "max_second_deviation", "fee": "max_fee_ratio", "signals_turned": "max_flip_share",
    "volume_share": "max_volume_share", "impact": "max_impact", "entries_in_slot": "max_entries_per_slot",
    "orders_in_hour": "max_orders_per_hour", "orders_in_day": "max_orders_per_day", "live_orders": "max_live_orders",
    "repeated_entries": "max_repeated_entries", "order_life": "order_life_seconds",
}  # fmt: skip
"""Control -> the key that it reads when it judges; the others have theirs compiled before."""
FULL = World(
    market=replace(second("50100"), taker_fee=Decimal("0.012"), quotes={"BTC-USD": replace(quote(spread="10"), asks=(
        (Decimal(50005), Decimal("0.0005")), (Decimal(50010), Decimal(1))))}),
    opinions=Opinions(now=dict.fromkeys((*"ABCDE", "BTC-USD"), 1.0), before=dict.fromkeys((*"ABCDE", "BTC-USD"), 1.0)),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # that the value is wrong is the point
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: type(wrong).__name__ if type(wrong) is object else repr(wrong))
@pytest.mark.parametrize(("code", "key"), BOUNDED.items())
def test_a_limit_that_is_none_refuses(code: str, key: str, wrong: object) -> None:
    """A configuration cannot say such a thing: should one come this far all the same, nothing passes it."""
    request = until(seconds=60)
    assert code not in failed(judged(request, FULL))
    controls = MODERATE.model_copy(update={key: wrong})
    made = plan().model_copy(update={"controls": controls})
    answer = _unless_it_cannot_be_made(
        lambda: Validator(made, FULL.market or market(), portfolio(), NOON, FULL.opinions), request
    )
    assert answer is None or code in failed(answer)


def _unless_it_cannot_be_made(make: Callable[[], Validator], request: Request) -> Approved | Refused | None:
    try:
        validator = make()
    except (TypeError, ValueError, ArithmeticError):
        return None  # no validator, no order
    return validator.validate(request)


UNKNOWN: list[tuple[str, Market]] = [
    ("candle_stale", market(candles=flat_candles({"ETH-USD": "2000"}))),
    ("price_off_mean", market(candles=flat_candles({"ETH-USD": "2000"}))),
    ("price_off_mean", candled(volume=0.0)),
    ("volume_share", market(candles=flat_candles({"ETH-USD": "2000"}))),
    ("volume_share", candled(volume=0.0)),
    ("spread", market(quotes={})),
    ("impact", market(quotes={})),
    ("second_source", second("0")),
    ("fee", market(taker_fee=Decimal("NaN"))),
]


@pytest.mark.parametrize(("code", "there"), UNKNOWN)
def test_what_cannot_be_known_refuses(code: str, there: Market) -> None:
    assert code in failed(judged(buy(), World(market=there)))


def test_a_product_without_a_past_is_not_added_to_other_holdings() -> None:
    young = market(candles=flat_candles({"BTC-USD": "50000", "ETH-USD": "2000"}, rows=20))
    held = portfolio("950", position("ETH-USD", "0.025", "2000"))
    assert "correlated" in failed(judged(buy(), World(market=young, held=held)))
    assert "correlated" not in failed(judged(buy(), World(market=young))), "the first holding moves with nothing"


def test_buying_power_is_the_smaller_of_ledger_and_venue() -> None:
    for told, outcome in (("50.6253", []), ("50.6252", ["balance"])):
        assert failed(judged(buy(), World(market=market(cash_at_venue=Decimal(told))))) == outcome
    rich = World(market=market(cash_at_venue=Decimal(10**6)), held=portfolio("1000", cash_held=Decimal(990)))
    assert failed(judged(buy(), rich)) == ["balance"]


# Moving together --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("holdings", "share"), [(1, 0.0), (2, 0.5), (3, 2 / 3), (5, 0.8)])
def test_equal_holdings_that_move_as_one_share_all_but_their_own_part(holdings: int, share: float) -> None:
    ids = [f"C{number}-USD" for number in range(holdings)]
    steps = np.random.default_rng(1).normal(0.0, 0.01, 200)
    close = np.repeat(100 * np.exp(np.cumsum(steps))[:, np.newaxis], holdings, axis=1)
    candles = replace(flat_candles(dict.fromkeys(ids, "100")), close=close)
    together = Comovement(candles, dict.fromkeys(ids[:-1], 50.0))
    assert share_after(together.look(ids[-1]), 50.0) == pytest.approx(share)


def test_the_running_figures_are_those_of_the_whole_matrix() -> None:
    random = np.random.default_rng(2)
    ids = [f"C{number}-USD" for number in range(6)]
    close = 100 * np.exp(np.cumsum(random.normal(0.0, 0.01, (200, 6)), axis=0))
    candles = replace(flat_candles(dict.fromkeys(ids, "100")), close=close)
    together, values = Comovement(candles, {"C0-USD": 10.0, "C1-USD": 30.0}), np.array([10.0, 30.0, 0, 0, 0, 0])
    matrix = np.cov(np.diff(np.log(close[-169:]), axis=0).T, ddof=0)
    for column, bought in [(2, 20.0), (0, 5.0), (5, 80.0), (2, 1.0)]:
        told = share_after(together.look(ids[column]), bought)
        together.buy(ids[column], bought)
        values[column] += bought
        assert told == pytest.approx(max(0.0, 1 - values**2 @ np.diag(matrix) / (values @ matrix @ values)), abs=1e-9)
