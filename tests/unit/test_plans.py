"""Plans and limits: what the shipped files say, what the environment overrides, and every way a plan can be wrong."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from config.plans import ENVIRONMENT_NAMES, PLANS, PROFILES, load_plan, load_plans, plan_names, sourced_limits
from tests.builders import plans as made
from trading.errors import ConfigurationError
from trading.money import dec
from trading.orders import OrderType, Request, Side
from trading.plan import Controls, Plan, collared
from trading.strategies import create

GOOD = """
name = "mine"
products = ["BTC-USD"]

[strategy]
name = "crossover"
"""


def written(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def problems(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with a plan file, each problem without the file that it begins with."""
    with pytest.raises(ConfigurationError) as error:
        load_plan(path, environ or {}, path.parent)
    return [problem.removeprefix(f"{path}: ") for problem in error.value.problems]


@pytest.mark.parametrize(
    ("profile", "values"),
    [
        ("conservative", ["50", "200", "2", "50", "0.20", "0.30"]),
        ("moderate", ["100", "500", "3", "100", "0.25", "0.40"]),
        ("aggressive", ["500", "2000", "5", "200", "0.30", "0.50"]),
    ],
)
def test_the_profiles_have_the_documented_values(profile: str, values: list[str]) -> None:
    limits = sourced_limits(profile, {})
    assert list(limits) == [
        "MAX_ORDER_SIZE_USD",
        "MAX_DAILY_VOLUME_USD",
        "MAX_OPEN_POSITIONS",
        "MAX_DAILY_LOSS_USD",
        "MAX_POSITION_SIZE",
        "MAX_PORTFOLIO_VOLATILITY",
    ]
    assert [limit.value for limit in limits.values()] == [Decimal(value) for value in values]
    assert {limit.source for limit in limits.values()} == {f"profile {profile}"}


def test_the_default_plan_trades_bitcoin_and_ether_by_the_hour() -> None:
    plan = load_plan("default", {})
    assert (plan.products, plan.interval, plan.portfolio) == (("BTC-USD", "ETH-USD"), "1h", "main")
    assert (plan.capital, plan.profile, plan.limits.max_order_size_usd) == (1000, "moderate", 100)


def test_every_shipped_plan_loads_and_its_strategy_is_made() -> None:
    plans = load_plans({})
    assert list(plans) == plan_names() == ["default", "rebalance"]
    for plan in plans.values():
        assert create(plan.strategy).lookback >= 1


def test_a_plan_is_named_by_its_hash_with_its_limits() -> None:
    plan = load_plan("default", {})
    assert plan.sha256 == load_plan("default", {}).sha256
    assert plan.sha256 != load_plan("default", {"MAX_ORDER_SIZE_USD": "99"}).sha256


@pytest.mark.parametrize("variable", list(ENVIRONMENT_NAMES))
def test_the_environment_overrides_each_limit_and_is_named_as_its_source(variable: str) -> None:
    value = {"MAX_OPEN_POSITIONS": "2", "MAX_DAILY_VOLUME_USD": "150"}.get(variable, "0.24")
    environ = {variable: value} | ({"MAX_DAILY_VOLUME_USD": "150"} if variable == "MAX_ORDER_SIZE_USD" else {})
    if variable == "MAX_ORDER_SIZE_USD":
        environ[variable] = value = "90"
    assert getattr(load_plan("default", environ).limits, variable.lower()) == Decimal(value)
    limit = sourced_limits("moderate", environ)[variable]
    assert (limit.value, limit.source) == (Decimal(value), f"environment {variable}")


def test_an_empty_variable_is_unset() -> None:
    assert sourced_limits("moderate", {"MAX_ORDER_SIZE_USD": " "})["MAX_ORDER_SIZE_USD"].source == "profile moderate"


def test_wrong_limits_in_the_environment_are_all_named() -> None:
    environ = {"MAX_ORDER_SIZE_USD": "lots", "MAX_OPEN_POSITIONS": "1.5", "MAX_POSITION_SIZE": "25", "MAX_DAILY_LOSS_USD": "0"}
    with pytest.raises(ConfigurationError) as error:
        load_plan("default", environ)
    assert [problem.partition(", expected")[0] for problem in error.value.problems] == [
        "environment: MAX_ORDER_SIZE_USD: found 'lots'",
        "environment: MAX_OPEN_POSITIONS: found '1.5'",
        "environment: MAX_DAILY_LOSS_USD: found '0'",
        "environment: MAX_POSITION_SIZE: found '25'",
    ]


def test_a_missing_plan_says_which_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"found no file config/plans/nope.toml, expected .*: default, rebalance"):
        load_plan("nope", {})
    with pytest.raises(ConfigurationError, match=r"found no file /nowhere/nope.toml"):
        load_plan("/nowhere/nope.toml", {})


def test_a_minimal_plan_is_complete(tmp_path: Path) -> None:
    plan = load_plan(written(tmp_path, GOOD), {})
    assert isinstance(plan, Plan)
    assert plan.costs.taker_fee == Decimal("0.012")
    assert load_plan("mine", {}, tmp_path) == plan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name = ", ["found what is not TOML, expected TOML 1.0"]),
        (GOOD.replace('"mine"', '"Mine!"'), ["name: found 'Mine!', expected text that matches"]),
        (GOOD.replace('"mine"', '"other"'), ["name: found 'other', expected the file's name, 'mine'"]),
        (GOOD.replace('name = "mine"', ""), ["name: found nothing, expected a value"]),
        (GOOD.replace('["BTC-USD"]', "[]"), ["products: found [], expected at least one product"]),
        (GOOD.replace('["BTC-USD"]', '"BTC-USD"'), ["products: found 'BTC-USD', expected a list"]),
        (GOOD.replace("BTC-USD", "btc"), ["products.0: found 'btc', expected text that matches"]),
        (
            GOOD.replace('["BTC-USD"]', '["BTC-USD", "BTC-USD"]'),
            ["products: found ['BTC-USD', 'BTC-USD'], expected each product once, BTC-USD is listed twice"],
        ),
        (GOOD.replace("BTC-USD", "BTC-EUR"), ["products: found BTC-EUR, expected products quoted in the cash asset USD"]),
        ("interval = '7m'" + GOOD, ["interval: found '7m', expected one of 1m, 5m"]),
        ("capital = nan" + GOOD, ["capital: found Decimal('NaN'), expected a finite number"]),
        ("capital = 'much'" + GOOD, ["capital: found 'much', expected a finite number"]),
        ("capital = true" + GOOD, ["capital: found True, expected a finite number"]),
        ("capital = -5" + GOOD, ["capital: found -5, expected greater than 0"]),
        ("capital = 24" + GOOD, ["capital: found 24, expected enough for one order of orders.min_notional 5"]),
        ("profile = 'wild'" + GOOD, ["profile: found 'wild', expected 'conservative', 'moderate' or 'aggressive'"]),
        ("captial = 9" + GOOD, ["captial: found an unknown key, expected one of name, description"]),
        (GOOD + "[costs]\nfee = 1", ["costs.fee: found an unknown key, expected one of spread, slippage"]),
        (GOOD + "[costs]\nspread = 2", ["costs.spread: found 2, expected less than or equal to 1"]),
        (GOOD + "[checks]\nmax_leverage = 3", ["checks.max_leverage: found 3, expected less than or equal to 1"]),
        (GOOD + "[limits]\nmax_order_size_usd = 9", ["limits: found a table, expected a profile"]),
        (GOOD.replace("crossover", "nope"), ["strategy.name: found 'nope', expected crossover, donchian"]),
        (
            GOOD + "[strategy.parameters]\nfast = 50\nslow = 20",
            ["strategy.parameters.fast: found 50, expected less than slow (20)"],
        ),
        (
            GOOD.replace("crossover", "rebalance") + "[strategy.parameters.weights]\nETH-USD = 0.5",
            ["strategy.parameters.weights: found ETH-USD, expected only products of the plan"],
        ),
        (GOOD + "[orders]\nmin_notional = 101", ["orders.min_notional: found 101, expected at most max_order_size_usd 100"]),
        (
            GOOD + "[breaker]\nmax_position_share = 0.2",
            ["breaker.max_position_share: found 0.2, expected at least max_position_size 0.25 (profile moderate)"],
        ),
        (GOOD + "[breaker]\nmax_open_positions = 2", ["breaker.max_open_positions: found 2, expected at least"]),
        (GOOD + "[breaker]\nmax_volatility = 0.1", ["breaker.max_volatility: found 0.1, expected at least"]),
    ],
)
def test_a_wrong_plan_names_key_found_and_expected(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = problems(written(tmp_path, text))
    assert len(found) == len(expected), found
    for problem, words in zip(found, expected, strict=True):
        assert problem.startswith(words)


def test_every_problem_of_a_plan_is_reported_at_once(tmp_path: Path) -> None:
    text = """
        name = "mine"
        products = ["BTC-USD", "ETH-EUR"]
        interval = "7h"
        capital = -1
        [strategy]
        name = "rsi"
        [strategy.parameters]
        window = 0
        [allocation]
        weight = 3
    """
    keys = [problem.partition(":")[0] for problem in problems(written(tmp_path, text), {"MAX_POSITION_SIZE": "7"})]
    assert sorted(keys) == sorted(
        ["environment", "products", "interval", "capital", "allocation.weight", "strategy.parameters.window"]
    )


def test_limits_that_contradict_are_named_with_their_sources(tmp_path: Path) -> None:
    found = problems(written(tmp_path, GOOD), {"MAX_DAILY_VOLUME_USD": "50"})
    assert found == ["limits.max_daily_volume_usd: found 50, expected at least max_order_size_usd 100 (profile moderate)"]


def test_a_folder_reports_the_problems_of_all_its_plans(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    written(tmp_path, GOOD.replace("BTC-USD", "BTC-EUR").replace("mine", "euro"), "euro")
    written(tmp_path, "interval = 3" + GOOD.replace("mine", "three"), "three")
    with pytest.raises(ConfigurationError) as error:
        load_plans({}, tmp_path)
    assert [Path(problem.partition(":")[0]).stem for problem in error.value.problems] == ["euro", "three"]


@pytest.mark.parametrize(
    ("side", "stop", "limit"),
    [(Side.SELL, "100", "98"), (Side.BUY, "100", "102"), (Side.SELL, "33.33", "32.67"), (Side.BUY, "33.33", "33.99")],
)
def test_a_stop_gets_a_limit_at_the_collar_rounded_towards_the_stop(side: Side, stop: str, limit: str) -> None:
    wanted = Request(product="BTC-USD", side=side, quantity=dec("1"), type=OrderType.STOP, stop_price=dec(stop))
    sent = collared(wanted, made.plan(), dec("0.01"))
    assert (sent.type, sent.stop_price, sent.limit_price) == (OrderType.STOP_LIMIT, dec(stop), dec(limit))
    assert collared(sent, made.plan(), dec("0.01")) == sent


def test_every_plan_that_ships_says_what_it_does() -> None:
    for path in PLANS.glob("*.toml"):
        assert load_plan(path, {}).description


@pytest.mark.parametrize("profile", ["conservative", "moderate", "aggressive"])
def test_a_profile_sets_every_control_and_the_plan_changes_single_ones(tmp_path: Path, profile: str) -> None:
    text = GOOD.replace("[strategy]", f'profile = "{profile}"\n\n[controls]\nmax_spread = 0.001\n\n[strategy]')
    changed, plain = (
        load_plan(written(tmp_path, body), {}, tmp_path).controls for body in (text, text.replace("max_spread = 0.001", ""))
    )
    assert (changed.max_spread, changed.max_impact) == (Decimal("0.001"), plain.max_impact)
    assert set(tomllib.loads((PROFILES / f"{profile}.toml").read_text())["controls"]) == set(Controls.model_fields)


def test_the_defaults_of_the_controls_are_those_of_the_moderate_profile() -> None:
    assert load_plan("default", {}).controls == Controls()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("max_spread = nan", "controls.max_spread: found Decimal('NaN'), expected a finite number"),
        ("max_spread = -1", "controls.max_spread: found -1, expected greater than or equal to 0"),
        ('max_live_orders = "many"', "controls.max_live_orders: found 'many', expected a valid integer"),
        ("max_speed = 1", "controls.max_speed: found an unknown key, expected one of max_spread"),
    ],
)
def test_a_control_that_is_none_is_reported_with_file_and_key(tmp_path: Path, line: str, problem: str) -> None:
    found = problems(written(tmp_path, GOOD.replace("[strategy]", f"[controls]\n{line}\n\n[strategy]")))
    assert len(found) == 1
    assert found[0].startswith(problem)
