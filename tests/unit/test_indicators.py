"""Indicators against hand computations and pandas; what a gap does to each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.builders.plans import flat_candles
from trading.indicators import carried, ema, held, highest_before, lowest_before, portfolio_volatility, rsi, sma

NAN = float("nan")


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, np.newaxis]


def listed(matrix: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 10) for value in matrix[:, 0]]


def test_a_mean_is_known_once_its_window_is_full() -> None:
    assert listed(sma(column(1, 2, 3, 4, 5), 3)) == [None, None, 2, 3, 4]


def test_a_hole_empties_every_window_that_it_lies_in() -> None:
    assert listed(sma(column(1, 2, NAN, 4, 5, 6), 2)) == [None, 1.5, None, None, 4.5, 5.5]


def test_a_mean_of_many_rows_agrees_with_pandas() -> None:
    close = 50_000 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, (500, 7)), axis=0))
    expected = pd.DataFrame(close).rolling(48).mean().to_numpy()
    np.testing.assert_allclose(sma(close, 48), expected, rtol=1e-12)


def test_an_exponential_mean_agrees_with_pandas_after_its_warm_up() -> None:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.01, (300, 3)), axis=0))
    expected = pd.DataFrame(close).ewm(span=12, adjust=False, min_periods=12).mean().to_numpy()
    np.testing.assert_allclose(ema(close, 12), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("prices", "index"),
    [
        ((1, 2, 3, 4), 100.0),  # only gains
        ((4, 3, 2, 1), 0.0),  # only losses
        ((5, 5, 5, 5), 50.0),  # nothing moved
        ((10, 12, 11, 13), 100 * 1.5 / 1.75),  # mean of gains 2 -> 1 -> 1.5, of losses 0 -> 0.5 -> 0.25
    ],
)
def test_the_strength_index_of_a_short_history(prices: tuple[float, ...], index: float) -> None:
    assert rsi(column(*prices), 2)[-1, 0] == pytest.approx(index)


def test_a_channel_looks_at_the_rows_above_only() -> None:
    assert listed(highest_before(column(1, 5, 2, 9, 3), 2)) == [None, None, 5, 5, 9]
    assert listed(lowest_before(column(4, 5, 2, 9, 3), 2)) == [None, None, 4, 2, 2]


def test_a_short_gap_is_an_unchanged_price_and_a_long_one_is_none() -> None:
    assert listed(carried(column(NAN, 7, NAN, NAN, 8, NAN), 2)) == [None, 7, 7, 7, 8, 8]
    assert listed(carried(column(7, NAN, NAN, NAN, 8), 2)) == [7, 7, 7, None, 8]


def test_an_event_stays_in_force_until_the_next() -> None:
    assert listed(held(column(NAN, 1, NAN, NAN, -1, NAN))) == [None, 1, 1, 1, -1, -1]


def test_volatility_is_the_annualised_deviation_of_weighted_returns() -> None:
    candles = flat_candles({"A-USD": "100", "B-USD": "50"}, rows=200)
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (200, 2)), axis=0))
    returns = np.diff(np.log(close), axis=0)[-168:]
    expected = np.std(returns @ np.array([0.2, 0.3]), ddof=1) * np.sqrt(365 * 24)
    assert portfolio_volatility(replace(candles, close=close), [0.2, 0.3]) == pytest.approx(expected)


def test_cash_alone_has_no_volatility_and_a_short_history_has_none_known() -> None:
    candles = flat_candles({"A-USD": "100"}, rows=24)
    assert portfolio_volatility(candles, [0.0]) == 0.0
    assert portfolio_volatility(candles, [0.5]) is None
    assert portfolio_volatility(flat_candles({"A-USD": "100"}, rows=25), [0.5]) is not None
