"""A made-up market for demonstrations: seeded, regime-switching, and NOT real prices.

Every price is a pure function of (seed, product, time), so any process at any time sees the same history without storing it.
The logarithm of a price is a fixed anchor plus waves of noise at six scales, from 64 days to three minutes. The waves run in
*market time*, which passes slowly on calm days and fast in a crash: that switches the volatility and keeps the level within
fixed bounds for ever. A common wave moves all products together; trends and crashes are common as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading.feeds.quoting import assumed_product, quote_around
from trading.market import COLUMNS, Floats, Ints, Product, Quote, interval_seconds, last_close

Words = npt.NDArray[np.uint64]

DAY = 86_400
# Periods of the waves in days of market time; neighbours differ by 8, which keeps their sum near a random walk's spectrum.
_PERIODS = (64.0, 8.0, 1.0, 1 / 8, 1 / 64, 1 / 512)
# Amplitude of the wave whose period is one day; gives about 0.5 % an hour and 3 % a day on an ordinary day.
_AMPLITUDE = 0.022
# Shares of the common and the own wave; their squares sum to 1.
_COMMON, _OWN = 0.6, 0.8
# Market days that pass in one day: calm, ordinary and crash days, by shares of days.
_CALM, _ORDINARY, _CRASH = 0.3, 1.0, 5.0
_CALM_SHARE, _CRASH_SHARE = 0.35, 0.97
# Days after 1970 for which market time is laid out (to 2133).
_DAYS = 60_000
_TREND_DAYS = 10
_CRASH_FALL_DAYS, _CRASH_RECOVERY_DAYS = 0.3, 6.0
# Points inside a candle at which the path is looked at for its high and low.
_POINTS = 4


class Synthetic:
    """A live `MarketSource` without a market: prices are invented from `seed`; `clock` gives the time.

    Any product id is known. Volumes are in base units, about 400,000 of quote an hour.
    """

    name = "synthetic"
    is_replay = False

    def __init__(self, seed: int, clock: Callable[[], datetime], spread: Decimal = Decimal("0.0004")) -> None:
        self.seed = seed
        self.spread = spread
        self._clock = clock
        draw = _uniform(seed, "regime", np.arange(_DAYS))
        # Calm and ordinary regimes last for blocks of days, a crash for one.
        block = _uniform(seed, "block", np.arange(_DAYS) // 5)
        self._crashes = np.flatnonzero(draw > _CRASH_SHARE)
        speed = np.where(block < _CALM_SHARE, _CALM, _ORDINARY)
        speed[self._crashes] = _CRASH
        self._speed = speed
        self._market_time = np.concatenate([[0.0], np.cumsum(speed)])

    def now(self) -> datetime:
        return self._clock()

    def next_slot(self, products: Sequence[str], interval: str, history: int, after: datetime | None) -> datetime | None:
        """The last candle close at the clock's time; the other arguments do not matter to a market without a beginning."""
        del products, history, after
        return last_close(self._clock(), interval)

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        return {product: assumed_product(product, Decimal(1).scaleb(-_decimals(self.seed, product))) for product in ids}

    def quotes(self, ids: Sequence[str], at: datetime) -> dict[str, Quote]:
        """The path at `at`, plus and minus half the spread: at a candle's close, its close."""
        if not ids:
            return {}
        prices = self.prices(ids, np.array([at.timestamp()]))[:, 0]
        found: dict[str, Quote] = {}
        for product, price in zip(ids, prices, strict=True):
            increment = Decimal(1).scaleb(-_decimals(self.seed, product))
            quote = quote_around(product, float(price), spread=self.spread, increment=increment, at=at)
            if quote is not None:
                found[product] = quote
        return found

    def candles(self, since: Mapping[str, int], interval: str, until: datetime) -> pd.DataFrame:
        """Closed candles from the first grid start at or after `since[product]`, before `until` and never after the clock."""
        seconds = interval_seconds(interval)
        last = int(min(until, self._clock()).timestamp()) // seconds * seconds
        wanted: dict[int, list[str]] = {}
        for product, first in since.items():
            wanted.setdefault(-(-first // seconds) * seconds, []).append(product)
        parts = [
            self._candles(products, np.arange(first, last, seconds, dtype=np.int64), seconds)
            for first, products in wanted.items()
            if first < last
        ]
        if not parts:
            return pd.DataFrame({name: np.empty(0, dtype=np.int64 if name == "start" else np.float64) for name in COLUMNS})
        return pd.concat(parts, ignore_index=True)

    def prices(self, products: Sequence[str], times: Floats) -> Floats:
        """Rounded prices, shape (products, times), of times in epoch seconds."""
        days = times / DAY
        day = days.astype(np.int64)
        market_time = self._market_time[day] + (days - day) * self._speed[day]
        common = _COMMON * _waves(self.seed, ["market"], market_time)[0] + self._drift(days)
        own = _OWN * _waves(self.seed, products, market_time)
        own += common
        own += np.array([_anchor(self.seed, product) for product in products])[:, None]
        np.exp(own, out=own)
        scale = np.array([10.0 ** _decimals(self.seed, product) for product in products])[:, None]
        np.multiply(own, scale, out=own)
        np.round(own, out=own)
        own /= scale
        return own

    def _candles(self, products: Sequence[str], starts: Ints, seconds: int) -> pd.DataFrame:
        size = len(starts)
        times = starts[0] + np.arange(size * _POINTS + 1) * (seconds / _POINTS)
        path = self.prices(products, times)
        inside = path[:, :-1].reshape(len(products), size, _POINTS)
        opened, close = path[:, 0:-1:_POINTS], path[:, _POINTS::_POINTS]
        high = np.maximum(inside.max(axis=2), close)
        low = np.minimum(inside.min(axis=2), close)
        return pd.DataFrame({
            "product": np.repeat(np.array(products, dtype=object), size), "start": np.tile(starts, len(products)),
            "open": opened.ravel(), "high": high.ravel(), "low": low.ravel(), "close": close.ravel(),
            "volume": self._volumes(products, starts, seconds, close).ravel(),
        })  # fmt: skip

    def _volumes(self, products: Sequence[str], starts: Ints, seconds: int, close: Floats) -> Floats:
        """Never 0; more on days when market time runs fast."""
        busy = np.sqrt(self._speed[starts // DAY]) * 400_000 * seconds / 3600
        noise = np.stack([_uniform(self.seed, f"volume|{product}", starts // 60) for product in products])
        return np.round(busy * np.exp(1.5 * (noise - 0.5)) / close, 8) + 1e-8

    def _drift(self, days: Floats) -> Floats:
        """Common trends (a climb or fall within ten days that ends where it began) and crashes, in log price."""
        block = (days // _TREND_DAYS).astype(np.int64)
        within = days / _TREND_DAYS - block
        height = 0.16 * (_uniform(self.seed, "trend", block) - 0.5)
        drift = height * np.where(within < 0.7, within / 0.7, (1 - within) / 0.3)
        nearby = (self._crashes > days.min() - _CRASH_RECOVERY_DAYS - 2) & (self._crashes < days.max() + 1)
        for crash in self._crashes[nearby]:
            drift -= self._crash(int(crash), days)
        return drift

    def _crash(self, day: int, days: Floats) -> Floats:
        """A fall of 6 to 20 % within seven hours, made good within six days."""
        hour, depth = _uniform(self.seed, "crash", np.array([2 * day, 2 * day + 1]))
        since = days - day - 0.6 * hour
        falling = np.clip(since / _CRASH_FALL_DAYS, 0, 1)
        recovered = np.clip((since - _CRASH_FALL_DAYS) / _CRASH_RECOVERY_DAYS, 0, 1)
        return np.asarray((0.06 + 0.14 * depth) * (falling - recovered), dtype=np.float64)


def _anchor(seed: int, product: str) -> float:
    """The log of the price around which a product moves for ever: near 60,000 for BTC, 3,000 for ETH, else 0.5 to 500."""
    known = {"BTC": 60_000.0, "ETH": 3_000.0}
    if (base := product.partition("-")[0]) in known:
        return float(np.log(known[base]))
    return float(np.log(0.5) + np.log(1000) * _uniform(seed, f"anchor|{product}", np.zeros(1, dtype=np.int64))[0])


def _decimals(seed: int, product: str) -> int:
    """Hundredths from a price of 20 on; below that, ten-thousandths and less, so that a step stays a small ratio."""
    price = np.exp(_anchor(seed, product))
    return 2 if price >= 20 else 4 if price >= 1 else 5


def _waves(seed: int, names: Sequence[str], at: Floats) -> Floats:
    """Noise around 0, shape (names, times): at each scale a straight line between random heights on a lattice."""
    total = np.zeros((len(names), len(at)))
    streams = np.array([_stream(seed, f"wave|{name}") for name in names], dtype=np.uint64)[:, None]
    for scale, period in enumerate(_PERIODS):
        place = at / period
        low = np.floor(place).astype(np.int64)
        weight = place - low
        corners, back = np.unique(np.concatenate([low, low + 1]), return_inverse=True)
        heights = _mix(streams, corners.astype(np.uint64) * np.uint64(16) + np.uint64(scale))
        heights -= 0.5
        heights *= np.sqrt(12 * period) * _AMPLITUDE
        total += heights[:, back[: len(at)]] * (1 - weight)
        total += heights[:, back[len(at) :]] * weight
    return total


def _stream(seed: int, name: str) -> int:
    return (seed * 0x9E3779B97F4A7C15 + crc32(name.encode()) * 0xD1342543DE82EF95) % (1 << 64)


def _uniform(seed: int, name: str, at: Ints) -> Floats:
    """Reproducible numbers in [0, 1) of integer places."""
    return _mix(np.uint64(_stream(seed, name)), at.astype(np.uint64))


def _mix(stream: Words | np.uint64, at: Words) -> Floats:
    """SplitMix64's finaliser over stream + place (Steele, Lea, Flood 2014), as numbers in [0, 1)."""
    with np.errstate(over="ignore"):  # wrapping is the point
        state = stream + at * np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        state *= np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return np.asarray((state >> np.uint64(11)).astype(np.float64) * 2.0**-53, dtype=np.float64)
