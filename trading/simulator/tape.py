"""Where the simulated market's prices come from: points in time with a price, and the candles over them.

A tape is a pure function of its parameters: what it says about a time never changes, so that a venue that is started again
goes on exactly where it stood. Three kinds: a seeded synthetic walk, a folder of recorded candles, and prices that stand
still until somebody moves them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from trading.errors import ConfigurationError
from trading.market import FIELDS, INTERVALS, Floats, Ints
from trading.money import derived_id, floor_to

DAY = 86400


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The market trades at this price from this second on."""

    at: int
    product: str
    price: Decimal


@dataclass(frozen=True, slots=True)
class Bar:
    """One candle; a bucket without trades has none."""

    start: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class Tape(Protocol):
    name: str
    """What a venue's home remembers, so that it is not opened with other prices."""

    def increments(self) -> list[tuple[str, Decimal]]:
        """The products with a book of their own and their price increments."""

    def points(self, after: int, until: int) -> Iterator[Point]:
        """Every point with `after` < at <= `until`, by time and product."""

    def last(self, product: str, at: int) -> Point | None:
        """The newest point at or before `at`."""

    def bars(self, product: str, start: int, end: int, seconds: int) -> list[Bar]:
        """The candles of `seconds` with `start` <= start < `end`, oldest first."""


class Still:
    """Prices that do not move by themselves: for tests and rehearsals that move them."""

    def __init__(self, prices: Mapping[str, Decimal]) -> None:
        self.prices = dict(prices)
        self.name = "still:" + ",".join(f"{product}={price}" for product, price in sorted(prices.items()))

    def increments(self) -> list[tuple[str, Decimal]]:
        return [(product, _increment(price)) for product, price in self.prices.items()]

    def points(self, after: int, until: int) -> Iterator[Point]:
        del after, until
        return iter(())

    def last(self, product: str, at: int) -> Point | None:
        del at
        return Point(0, product, self.prices[product])

    def bars(self, product: str, start: int, end: int, seconds: int) -> list[Bar]:
        price = self.prices[product]
        first = -(-start // seconds) * seconds
        return [Bar(at, price, price, price, price, Decimal(1)) for at in range(first, end, seconds)]


DEFAULT_PRICES = {
    "BTC-USD": Decimal(60000), "ETH-USD": Decimal(2500), "SOL-USD": Decimal(150), "LTC-USD": Decimal(80),
    "XRP-USD": Decimal("0.6"), "ADA-USD": Decimal("0.5"), "DOGE-USD": Decimal("0.15"),
}  # fmt: skip


def _increment(price: Decimal) -> Decimal:
    return Decimal("0.01") if price >= 10 else Decimal("0.0001")


class Synthetic:
    """A seeded walk, one point every 15 seconds: noise of many periods, each as high as the root of its length.

    Any time can be asked for at once, whatever was asked before.
    """

    STEP = 15
    _PERIODS = (4, 16, 60, 240, 960, 5760, 40320, 172800)  # in steps: a minute up to a month
    _DAILY = 0.02  # height of the noise whose period is a day

    def __init__(self, seed: int, prices: Mapping[str, Decimal] = DEFAULT_PRICES) -> None:
        self.prices = dict(prices)
        self.seed = seed
        self.name = f"synthetic:{seed}:" + ",".join(sorted(prices))
        self._day = lru_cache(maxsize=512)(self._ticks_of_day)

    def increments(self) -> list[tuple[str, Decimal]]:
        return [(product, _increment(price)) for product, price in self.prices.items()]

    def points(self, after: int, until: int) -> Iterator[Point]:
        for at in range((after // self.STEP + 1) * self.STEP, until + 1, self.STEP):
            yield from (self._point(product, at) for product in sorted(self.prices))

    def last(self, product: str, at: int) -> Point | None:
        return self._point(product, at // self.STEP * self.STEP)

    def bars(self, product: str, start: int, end: int, seconds: int) -> list[Bar]:
        first, per_bar = -(-start // seconds) * seconds, seconds // self.STEP
        count = max(0, -(-(end - first) // seconds))
        if not count:
            return []
        ticks = self._ticks(product, first // self.STEP, count * per_bar).reshape(count, per_bar)
        increment = _increment(self.prices[product])
        made = []
        for place, row in enumerate(ticks):
            open_, high, low, close = (int(value) * increment for value in (row[0], row.max(), row.min(), row[-1]))
            volume = Decimal(int(row.sum() % 9973) + 1) * per_bar / 1000
            made.append(Bar(first + place * seconds, open_, high, low, close, volume))
        return made

    def _point(self, product: str, at: int) -> Point:
        step = at // self.STEP
        ticks = self._day(product, step * self.STEP // DAY)[step % (DAY // self.STEP)]
        return Point(at, product, int(ticks) * _increment(self.prices[product]))

    def _ticks(self, product: str, step: int, count: int) -> Ints:
        days = range(step * self.STEP // DAY, (step + count - 1) * self.STEP // DAY + 1)
        first = days[0] * (DAY // self.STEP)
        return np.concatenate([self._day(product, day) for day in days])[step - first : step - first + count]

    def _ticks_of_day(self, product: str, day: int) -> Ints:
        """Prices of a day in increments. Sums and products only: the same digits on every machine."""
        per_day = DAY // self.STEP
        steps = np.arange(day * per_day, (day + 1) * per_day, dtype=np.int64)
        moved = np.zeros(per_day)
        for period in self._PERIODS:
            corner, part = steps // period, (steps % period) / period
            key = derived_id("synthetic price", str(self.seed), product, str(period)).int & 0xFFFFFFFFFFFF
            here, there = _noise(corner, key), _noise(corner + 1, key)
            moved += self._DAILY * np.sqrt(period / per_day) * (here + (there - here) * part)
        base = self.prices[product]
        ticks: Ints = np.rint(np.maximum(1 + moved, 0.1) * float(base / _increment(base))).astype(np.int64)
        return ticks


def _noise(places: Ints, key: int) -> Floats:
    """A number in [-1, 1) for each place: splitmix64, as published by Vigna."""
    mixed: npt.NDArray[np.uint64] = places.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 52) - 1


@dataclass(frozen=True, slots=True)
class _Recording:
    starts: Ints
    prices: tuple[Floats, ...]
    """open, high, low, close, volume, one row per start."""


class Recorded:
    """Candles `PATH/<venue>/<PRODUCT>/<interval>.parquet`, played `shift` seconds later than they were recorded.

    A candle becomes four points: open, the extreme that lies nearer to it, the other one, close.
    """

    def __init__(self, path: Path, shift: int) -> None:
        self.shift = shift
        self.name = f"recorded:{path}"
        self._files: dict[str, dict[int, Path]] = {}
        for file in sorted(path.glob("*/*/*.parquet")):
            if file.stem in INTERVALS:
                self._files.setdefault(file.parent.name, {})[INTERVALS[file.stem]] = file
        if not self._files:
            raise ConfigurationError(f"prices: {path} holds no <venue>/<PRODUCT>/<interval>.parquet")
        self._read = lru_cache(maxsize=64)(_read)
        self.steps = {product: min(files) for product, files in self._files.items()}

    def span(self) -> tuple[int, int]:
        """First and last start that every product has, as recorded."""
        ends = [self._finest(product).starts[[0, -1]] for product in self._files]
        return int(max(first for first, _ in ends)), int(min(last for _, last in ends))

    def increments(self) -> list[tuple[str, Decimal]]:
        return [(product, self._increment(product)) for product in self._files]

    def points(self, after: int, until: int) -> Iterator[Point]:
        return heapq.merge(*(self._points(product, after, until) for product in sorted(self._files)))

    def last(self, product: str, at: int) -> Point | None:
        recording, step = self._finest(product), self.steps[product]
        place = int(np.searchsorted(recording.starts, at - self.shift, side="right")) - 1
        if place < 0:
            return None
        reached = [point for point in self._of_candle(product, recording, place, step) if point.at <= at]
        return reached[-1]

    def bars(self, product: str, start: int, end: int, seconds: int) -> list[Bar]:
        usable = [interval for interval in self._files[product] if seconds % interval == 0]
        if not usable:
            return []
        recording = self._read(self._files[product][max(usable)])
        first, stop = np.searchsorted(recording.starts, [start - self.shift, end - self.shift])
        grouped: dict[int, list[Sequence[float]]] = {}
        for place in range(int(first), int(stop)):
            bucket = (int(recording.starts[place]) + self.shift) // seconds * seconds
            grouped.setdefault(bucket, []).append([float(column[place]) for column in recording.prices])
        return [_bar(bucket, rows) for bucket, rows in grouped.items() if bucket >= start]

    def _finest(self, product: str) -> _Recording:
        return self._read(self._files[product][self.steps[product]])

    def _increment(self, product: str) -> Decimal:
        return _increment(Decimal(str(self._finest(product).prices[3].min())))

    def _points(self, product: str, after: int, until: int) -> Iterator[Point]:
        recording, step = self._finest(product), self.steps[product]
        first = max(int(np.searchsorted(recording.starts, after - self.shift - step, side="right")), 0)
        stop = int(np.searchsorted(recording.starts, until - self.shift, side="right"))
        for place in range(first, stop):
            yield from (point for point in self._of_candle(product, recording, place, step) if after < point.at <= until)

    def _of_candle(self, product: str, recording: _Recording, place: int, step: int) -> Iterable[Point]:
        open_, high, low, close, _ = (float(column[place]) for column in recording.prices)
        path = (open_, high, low, close) if high - open_ < open_ - low else (open_, low, high, close)
        start, increment = int(recording.starts[place]) + self.shift, self._increment(product)
        return [
            Point(start + quarter * step // 4, product, floor_to(Decimal(repr(price)), increment))
            for quarter, price in enumerate(path)
        ]


def _bar(start: int, rows: Sequence[Sequence[float]]) -> Bar:
    exact = [[Decimal(repr(value)) for value in row] for row in rows]
    highs, lows = max(row[1] for row in exact), min(row[2] for row in exact)
    return Bar(start, exact[0][0], highs, lows, exact[-1][3], sum((row[4] for row in exact), Decimal(0)))


def _read(file: Path) -> _Recording:
    """The rows that have a price, by start; raises ConfigurationError where the file is not what it should be."""
    try:
        table = pq.ParquetFile(file, memory_map=False).read(columns=["start", *FIELDS], use_threads=False)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ConfigurationError(f"prices: {file} cannot be read: {error}") from error
    starts, first = np.unique(table.column("start").to_numpy(), return_index=True)
    columns = [table.column(name).to_numpy()[first].astype(np.float64) for name in FIELDS]
    priced = np.all([np.isfinite(column) & (column > 0) for column in columns[:4]], axis=0)
    if not priced.any():
        raise ConfigurationError(f"prices: {file} holds no candle with a price")
    return _Recording(starts[priced].astype(np.int64), tuple(column[priced] for column in columns))
