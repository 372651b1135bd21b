"""What each strategy says on prices that a reader can follow, and how a choice of one can be wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.builders.plans import flat_candles
from trading.errors import ConfigurationError
from trading.market import Candles, Floats
from trading.plan import StrategyChoice
from trading.strategies import REGISTRY, Strategy, create, explain, history, latest, problems

NAN = float("nan")


def candles(*closes: float, product: str = "BTC-USD") -> Candles:
    """One product whose candles are points: open, high, low and close are the same."""
    close = np.array(closes, dtype=np.float64)[:, np.newaxis]
    flat = flat_candles({product: "1"}, rows=len(closes))
    return replace(flat, open=close, high=close, low=close, close=close)


def strategy(name: str, **parameters: Any) -> Strategy:
    return create(StrategyChoice(name=name, parameters=parameters))


def said(signals: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in signals[:, 0]]


def test_a_crossover_is_long_while_the_fast_mean_is_above() -> None:
    crossover = strategy("crossover", fast=1, slow=2)
    assert said(crossover.signals(candles(10, 10, 11, 12, 9))) == [None, 0, 1, 1, -1]


def test_a_crossover_names_the_cross_and_the_state_after_it() -> None:
    crossover = strategy("crossover", fast=1, slow=2)
    assert explain(crossover, candles(10, 10, 9, 12), ["BTC-USD"])["BTC-USD"] == "sma 1/2 crossed up"
    assert explain(crossover, candles(10, 9, 12, 13), ["BTC-USD"])["BTC-USD"] == "sma 1/2 above"
    assert explain(crossover, candles(10, 11, 12, 11), ["BTC-USD"])["BTC-USD"] == "sma 1/2 crossed down"


def test_an_exponential_crossover_follows_the_trend_too() -> None:
    rising, falling = (strategy("crossover", kind="ema", fast=3, slow=8) for _ in range(2))
    assert said(rising.signals(candles(*range(100, 140))))[-1] == 1
    assert said(falling.signals(candles(*range(140, 100, -1))))[-1] == -1


def test_a_breakout_holds_from_a_new_high_to_a_new_low() -> None:
    donchian = strategy("donchian", entry=3, exit=2)
    assert said(donchian.signals(candles(10, 11, 10, 12, 11, 11, 9, 10))) == [None, None, None, 1, 1, 1, -1, -1]
    assert explain(donchian, candles(10, 11, 10, 12), ["BTC-USD"])["BTC-USD"] == "donchian: 12 broke the 3-candle high 11"


def test_reversion_buys_the_fall_and_leaves_after_the_recovery() -> None:
    reversion = strategy("rsi", window=2, oversold=30, recovered=60)
    assert said(reversion.signals(candles(10, 9, 8, 7, 7.2, 9, 11)))[2:] == [1, 1, 1, -1, -1]
    assert explain(reversion, candles(10, 9, 8, 7), ["BTC-USD"])["BTC-USD"].startswith("rsi 2 at 0.0 (in below 30")


def test_fixed_weights_are_the_signals() -> None:
    fixed = strategy("rebalance", weights={"BTC-USD": 0.4})
    assert latest(fixed, flat_candles({"BTC-USD": "1", "ETH-USD": "1"}, rows=2)) == {"BTC-USD": 0.4, "ETH-USD": 0.0}
    assert problems(fixed, ["ETH-USD"]) == ["weights: found BTC-USD, expected only products of the plan"]
    assert problems(fixed, ["BTC-USD"]) == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("crossover", {"fast": 2, "slow": 4}),
        ("crossover", {"kind": "ema", "fast": 2, "slow": 4}),
        ("donchian", {"entry": 4, "exit": 2}),
        ("rsi", {"window": 3}),
        ("rebalance", {"weights": {"BTC-USD": 0.5}}),
    ],
)
def test_a_product_without_a_newest_candle_gets_no_opinion(name: str, parameters: dict[str, Any]) -> None:
    chosen = strategy(name, **parameters)
    assert math.isnan(latest(chosen, candles(*range(10, 60), NAN))["BTC-USD"])


def test_a_short_gap_in_the_past_leaves_the_opinion_and_a_long_one_takes_it() -> None:
    crossover = strategy("crossover", fast=2, slow=12)
    assert latest(crossover, candles(*range(10, 30), *[NAN] * 5, 31, 32))["BTC-USD"] == 1
    assert math.isnan(latest(crossover, candles(*range(10, 30), *[NAN] * 6, 31, 32))["BTC-USD"])


def test_the_lookback_is_enough_for_an_opinion_of_a_trend() -> None:
    crossover = strategy("crossover", fast=12, slow=48)
    assert latest(crossover, candles(*range(1, crossover.lookback + 1)))["BTC-USD"] == 1
    assert history(crossover) == 169, "the week that the portfolio's volatility is taken over"


class Contrarian:
    """A user's own strategy, found by `module:attribute`."""

    lookback = 2

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def signals(self, candles: Candles) -> Floats:
        return -self.strength * np.sign(np.diff(candles.close, axis=0, prepend=candles.close[:1]))


def test_a_strategy_of_the_users_own_is_named_by_module_and_attribute() -> None:
    own = create(StrategyChoice(name=f"{__name__}:Contrarian", parameters={"strength": 0.5}))
    assert latest(own, candles(10, 11)) == {"BTC-USD": -0.5}
    assert explain(own, candles(10, 11), ["BTC-USD"])["BTC-USD"] == "contrarian"


def test_signals_out_of_range_or_shape_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="found signal -2 for BTC-USD"):
        latest(Contrarian(2), candles(10, 11))

    class Misshapen(Contrarian):
        def signals(self, candles: Candles) -> Floats:
            return np.zeros((3, 7 * len(candles.products)))

    with pytest.raises(ConfigurationError, match=r"found signals of shape \(3, 7\), expected \(2, 1\)"):
        latest(Misshapen(), candles(10, 11))


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("nope", {}, ["strategy.name: found 'nope', expected crossover, donchian, rsi, rebalance, or module:attribute"]),
        ("nowhere.at_all:Mine", {}, ["strategy.name: nowhere.at_all:Mine: cannot import 'nowhere.at_all'"]),
        ("math:Mine", {}, ["'Mine' does not exist in module 'math'"]),
        ("math:pi", {}, ["'pi' is no class or function"]),
        ("os:getcwd", {}, ["gives a str, expected `lookback` and `signals`"]),
        ("crossover", {"fast": 50, "slow": 20}, ["strategy.parameters.fast: found 50, expected less than slow (20)"]),
        (
            "crossover",
            {"fast": "x", "width": 1},
            [
                "strategy.parameters.fast: found 'x'",
                "strategy.parameters.width: found an unknown key, expected one of kind",
            ],
        ),
        ("donchian", {"entry": 5, "exit": 9}, ["strategy.parameters.exit: found 9, expected at most entry (5)"]),
        ("rsi", {"oversold": NAN}, ["strategy.parameters.oversold: found nan, expected a finite number"]),
        ("rsi", {"oversold": 70, "recovered": 30}, ["found 70, expected less than recovered (30)"]),
        ("rebalance", {}, ["strategy.parameters.weights: found nothing"]),
        ("rebalance", {"weights": {"A-USD": 0.7, "B-USD": 0.7}}, ["weights: found a sum of 1.4, expected at most 1"]),
        (f"{__name__}:Contrarian", {"power": 2}, ["does not take them"]),
    ],
)
def test_a_wrong_choice_says_what_is_wrong(name: str, parameters: dict[str, Any], expected: Sequence[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        strategy(name, **parameters)
    assert len(error.value.problems) == len(expected)
    for problem, words in zip(error.value.problems, expected, strict=True):
        assert words in problem


def test_every_registered_strategy_is_a_strategy() -> None:
    for name in REGISTRY:
        parameters = {"weights": {"BTC-USD": 1}} if name == "rebalance" else {}
        assert isinstance(strategy(name, **parameters), Strategy)
