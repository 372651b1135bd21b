"""A decision is made on the past alone: changing any later candle never changes an earlier row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.plans import flat_candles
from trading.market import FIELDS, Candles
from trading.plan import StrategyChoice
from trading.strategies import create

ROWS, PRODUCTS = 60, ("A-USD", "B-USD", "C-USD")

CHOICES: list[tuple[str, dict[str, Any]]] = [
    ("crossover", {"fast": 3, "slow": 9}),
    ("crossover", {"kind": "ema", "fast": 3, "slow": 9}),
    ("donchian", {"entry": 9, "exit": 4}),
    ("rsi", {"window": 5}),
    ("rebalance", {"weights": {"A-USD": 0.5}}),
]


def random_candles(seed: int, gaps: float) -> Candles:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, (ROWS, len(PRODUCTS))), axis=0))
    close[rng.random(close.shape) < gaps] = np.nan
    spread = rng.random(close.shape) * 0.02
    fields = {"open": close, "high": close * (1 + spread), "low": close * (1 - spread), "close": close, "volume": close}
    return replace(flat_candles(dict.fromkeys(PRODUCTS, "1"), rows=ROWS), **fields)


@pytest.mark.parametrize(("name", "parameters"), CHOICES)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, ROWS - 1), gaps=st.sampled_from([0.0, 0.05, 0.4]))
@settings(max_examples=40, deadline=None)
def test_later_candles_never_change_an_earlier_signal(
    name: str, parameters: dict[str, Any], seed: int, cut: int, gaps: float
) -> None:
    strategy = create(StrategyChoice(name=name, parameters=parameters))
    candles = random_candles(seed, gaps)
    other = random_candles(seed + 1, gaps)
    changed = {field: np.vstack([getattr(candles, field)[:cut], getattr(other, field)[cut:] * 1000]) for field in FIELDS}
    before = strategy.signals(candles)[:cut]
    np.testing.assert_array_equal(before, strategy.signals(replace(candles, **changed))[:cut])
    np.testing.assert_array_equal(before, strategy.signals(candles.up_to(cut)))


@pytest.mark.parametrize(("name", "parameters"), CHOICES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_product_is_judged_by_its_own_candles_and_within_range(name: str, parameters: dict[str, Any], seed: int) -> None:
    strategy = create(StrategyChoice(name=name, parameters=parameters))
    candles = random_candles(seed, 0.05)
    signals = strategy.signals(candles)
    for column in range(len(PRODUCTS)):
        np.testing.assert_allclose(strategy.signals(candles.only([column]))[:, 0], signals[:, column])
    assert np.nanmax(np.abs(signals), initial=0) <= 1
