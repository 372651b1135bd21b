"""Indicators over candle matrices: float arrays of shape (T, P), one row per candle start, one column per product.

No look-ahead: a row depends on itself and the rows above it, never on a later one. NaN means "not known": it comes out
where a window is not yet full. A product that did not trade has no candle; `carried` says how long its last close
counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trading.market import Candles, Floats, interval_seconds

GAP_CANDLES_MAX = 5  # no trade for a few candles is an unchanged price; for longer it is no price at all
YEAR_SECONDS = 365 * 86_400  # crypto trades every day
VOLATILITY_CANDLES = 168  # a week of hours: long enough for a figure, short enough to notice a storm
VOLATILITY_CANDLES_MIN = 24

Booleans = npt.NDArray[np.bool_]


def carried(values: Floats, limit: int = GAP_CANDLES_MAX) -> Floats:
    """`values` with gaps of up to `limit` rows filled by the last value above; longer gaps stay NaN from there on."""
    known = ~np.isnan(values)
    if known.all():
        return values
    rows = np.arange(len(values))[:, np.newaxis]
    last = np.maximum.accumulate(np.where(known, rows, -1), axis=0)
    usable = (last >= 0) & (rows - last <= limit)
    return np.where(usable, np.take_along_axis(values, np.maximum(last, 0), axis=0), np.nan)


def held(events: Floats) -> Floats:
    """The last event so far in each column (NaN is no event): how a breakout stays in force until the opposite one."""
    return carried(events, limit=len(events))


def sma(values: Floats, window: int) -> Floats:
    """Mean of the last `window` rows; NaN unless all of them are known."""
    known = ~np.isnan(values)
    # Means are taken around the first known value, so that the running sums stay small and keep their digits.
    anchor = _first_known(values)
    sums = _window_sums(np.where(known, values - anchor, 0.0), window)
    counts = _window_sums(known.astype(np.float64), window)
    return np.where(counts == window, sums / window + anchor, np.nan)


def ema(values: Floats, span: int) -> Floats:
    """Exponential mean with weight 2 ÷ (span + 1) for the newest row, seeded by the first known value.

    NaN until `span` known rows were seen, and at rows that are NaN themselves (the mean then stands still).
    """
    return _smoothed(values, 2.0 / (span + 1.0), span)


def rsi(close: Floats, window: int) -> Floats:
    """Wilder's relative strength index, 0 ... 100; 50 where nothing moved, NaN until `window` changes were seen.

    100 * gain ÷ (gain + loss), both smoothed with weight 1 ÷ window (J. W. Wilder, New Concepts, 1978).
    """
    change = np.diff(close, axis=0, prepend=np.full((1, close.shape[1]), np.nan))
    gain = _smoothed(np.maximum(change, 0.0), 1.0 / window, window)
    loss = _smoothed(np.maximum(-change, 0.0), 1.0 / window, window)
    moved = gain + loss
    return np.where(moved > 0, 100.0 * gain / np.where(moved > 0, moved, 1.0), np.where(np.isnan(moved), np.nan, 50.0))


def highest_before(values: Floats, window: int) -> Floats:
    """Highest of the `window` rows above this one (itself not included); NaN unless all of them are known."""
    return _extreme_before(values, window, np.maximum)


def lowest_before(values: Floats, window: int) -> Floats:
    """Lowest of the `window` rows above this one (itself not included); NaN unless all of them are known."""
    return _extreme_before(values, window, np.minimum)


def portfolio_volatility(candles: Candles, weights: Sequence[float]) -> float | None:
    """Annualised volatility (ratio) of holdings with these weights; None with fewer than 24 returns of a held product.

    Sample standard deviation of the weighted log returns of the last 168 candles * √(candles in 365 days). Cash has
    weight and risk zero; a candle without a trade is a return of zero.
    """
    weight = np.asarray(weights, dtype=np.float64)
    used = weight != 0
    if not used.any():
        return 0.0
    close = carried(candles.close[-(VOLATILITY_CANDLES + 1) :, used])
    with np.errstate(divide="ignore", invalid="ignore"):  # a price of zero or less gives NaN, which counts as unknown
        returns = np.diff(np.log(close), axis=0)
    complete = returns[np.isfinite(returns).all(axis=1)]
    if len(complete) < VOLATILITY_CANDLES_MIN:
        return None
    per_candle = float(np.std(complete @ weight[used], ddof=1))
    return per_candle * math.sqrt(YEAR_SECONDS / interval_seconds(candles.interval))


def _first_known(values: Floats) -> Floats:
    known = ~np.isnan(values)
    first = np.take_along_axis(values, known.argmax(axis=0)[np.newaxis, :], axis=0)[0]
    return np.where(np.isnan(first), 0.0, first)


def _window_sums(values: Floats, window: int) -> Floats:
    sums = np.cumsum(values, axis=0)
    sums[window:] -= sums[:-window].copy()
    return sums


def _smoothed(values: Floats, weight: float, warm_up: int) -> Floats:
    """Running mean += weight * (value - mean), by column; a loop over rows, each a vector of all products."""
    result = np.full(values.shape, np.nan)
    mean = np.full(values.shape[1], np.nan)
    seen = np.zeros(values.shape[1], dtype=np.int64)
    for row, value in enumerate(values):
        known = ~np.isnan(value)
        mean = np.where(known, np.where(seen == 0, value, mean + weight * (value - mean)), mean)
        seen += known
        result[row] = np.where(known & (seen >= warm_up), mean, np.nan)
    return result


def _extreme_before(values: Floats, window: int, extreme: np.ufunc) -> Floats:
    result = np.full(values.shape, np.nan)
    if len(values) > window:
        # np.maximum and np.minimum hand NaN on: a window with a hole has no extreme.
        size = len(values) - window
        best = values[:size].copy()
        for shift in range(1, window):
            extreme(best, values[shift : shift + size], out=best)
        result[window:] = best
    return result
