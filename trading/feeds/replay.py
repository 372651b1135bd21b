"""Recorded candles played as a market: files `PATH/<venue>/<PRODUCT>/<interval>.parquet`, read as they lie.

Market time is the slot that is asked for, never the wall clock. Nothing is repaired: the quality gate sees what was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trading.errors import ConfigurationError, KeelError
from trading.feeds.quoting import assumed_product, quote_around
from trading.market import COLUMNS, FIELDS, INTERVALS, Floats, Ints, Product, Quote, interval_seconds
from trading.money import utc

# Venues quote in hundredths, and in smaller steps only below a price of 1; a step below 1e-8 has no venue.
_DECIMALS_LEAST, _DECIMALS_MOST = 2, 8

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One file: its columns in the file's order, and the starts once more, sorted and unique, with their closes."""

    columns: Mapping[str, Column]
    starts: Ints
    closes: Floats


class Replay:
    """A `MarketSource` over a folder of recorded candles.

    `spread` is the full bid-ask spread as a ratio; a quote is the close of the newest candle that has closed, of whatever
    recorded interval, and says so in its time. The path holds one venue's folder.
    """

    is_replay = True

    def __init__(self, path: Path, spread: Decimal) -> None:
        self.path = Path(path)
        self.name = f"replay:{self.path}"
        self.spread = spread
        self._venue = self._only_venue()
        self._recordings: dict[tuple[str, str], Recording] = {}
        self._known: dict[str, list[str]] = {}
        self._rules: dict[str, Product] = {}

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        """Assumed rules with a price increment from the recorded decimals; a product without a file is missing."""
        return {product: self._product(product) for product in ids if self._intervals(product)}

    def candles(self, since: Mapping[str, int], interval: str, until: datetime) -> pd.DataFrame:
        """Recorded rows with `since[product]` <= start < `until`, in the files' order.

        Raises ConfigurationError for a product or interval that was not recorded.
        """
        end = until.timestamp()
        parts: dict[str, list[Column]] = {name: [] for name in COLUMNS}
        for product, first in since.items():
            columns = self._recording(product, interval).columns
            start = columns["start"]
            kept = np.flatnonzero((start >= first) & (start < end))
            parts["product"].append(np.full(len(kept), product, dtype=object))
            for name in COLUMNS[1:]:
                parts[name].append(columns[name][kept])
        return pd.DataFrame({name: np.concatenate(part) if part else np.empty(0) for name, part in parts.items()})

    def quotes(self, ids: Sequence[str], at: datetime) -> dict[str, Quote]:
        """The last recorded close at `at`, plus and minus half the spread; its time is that close."""
        found: dict[str, Quote] = {}
        for product in ids:
            closed = self._last_closed(product, int(at.timestamp()))
            if closed is None:
                continue
            time, price = closed
            increment = self._product(product).price_increment
            quote = quote_around(product, price, spread=self.spread, increment=increment, at=utc(time))
            if quote is not None:
                found[product] = quote
        return found

    def now(self) -> datetime:
        raise KeelError(f"{self.name} has no clock: market time is the slot that next_slot gives")

    def next_slot(self, products: Sequence[str], interval: str, history: int, after: datetime | None) -> datetime | None:
        """The next close on the grid, from the first with `history` candles of every product to the last of any.

        None after the last candle of the product that ends last: where the others ended earlier, their slots are gated as
        stale, which a reader sees, rather than cut off, which nobody would. Raises ConfigurationError where a product has
        fewer candles than `history`.
        """
        seconds = interval_seconds(interval)
        starts = {product: self._recording(product, interval).starts for product in products}
        short = [
            f"{self.name}: {product} has {len(found)} candles of {interval}, expected at least {history} (the plan's history)"
            for product, found in starts.items()
            if len(found) < max(history, 1)
        ]
        if short:
            raise ConfigurationError(short)
        first = max(int(found[max(history, 1) - 1]) for found in starts.values()) + seconds
        slot = -(-first // seconds) * seconds
        if after is not None:
            slot = max(slot, int(after.timestamp()) // seconds * seconds + seconds)
        last = max(int(found[-1]) for found in starts.values()) + seconds
        return utc(slot) if slot <= last else None

    def _only_venue(self) -> Path:
        if not self.path.is_dir():
            raise ConfigurationError(f"replay: {self.path} is not a folder, expected PATH/<venue>/<PRODUCT>/<interval>.parquet")
        venues = sorted(folder for folder in self.path.iterdir() if any(folder.glob("*/*.parquet")))
        if len(venues) != 1:
            found = ", ".join(folder.name for folder in venues) or "none"
            raise ConfigurationError(
                f"replay: {self.path} holds {len(venues)} venue folders ({found}), expected one: "
                "PATH/<venue>/<PRODUCT>/<interval>.parquet"
            )
        return venues[0]

    def _intervals(self, product: str) -> list[str]:
        """The recorded intervals of a product, finest first; looked up once, a recording does not grow."""
        if product not in self._known:
            folder = self._venue / product
            self._known[product] = [interval for interval in INTERVALS if (folder / f"{interval}.parquet").is_file()]
        return self._known[product]

    def _recording(self, product: str, interval: str) -> Recording:
        interval_seconds(interval)
        if (product, interval) not in self._recordings:
            file = self._venue / product / f"{interval}.parquet"
            if not file.is_file():
                raise ConfigurationError(f"replay: {file} is missing: {self._what_is_there(product, interval)}")
            self._recordings[product, interval] = _read(file)
        return self._recordings[product, interval]

    def _what_is_there(self, product: str, interval: str) -> str:
        intervals = self._intervals(product)
        if intervals:
            return f"{product} was recorded in {', '.join(intervals)}, not in {interval}"
        recorded = sorted(folder.name for folder in self._venue.iterdir() if folder.is_dir())
        return f"{product} was not recorded at {self._venue.name}, which has {', '.join(recorded) or 'nothing'}"

    def _product(self, product: str) -> Product:
        if product not in self._rules:
            interval = self._intervals(product)[-1]  # the coarsest: the fewest rows, the same prices
            closes = self._recording(product, interval).closes
            self._rules[product] = assumed_product(product, _price_increment(closes))
        return self._rules[product]

    def _last_closed(self, product: str, at: int) -> tuple[int, float] | None:
        """Close time and close of the newest finished candle among the recorded intervals."""
        newest: tuple[int, float] | None = None
        for interval in self._intervals(product):
            seconds, recording = INTERVALS[interval], self._recording(product, interval)
            place = int(np.searchsorted(recording.starts, at - seconds, side="right")) - 1
            if place >= 0 and (newest is None or int(recording.starts[place]) + seconds > newest[0]):
                newest = (int(recording.starts[place]) + seconds, float(recording.closes[place]))
        return newest


def _read(file: Path) -> Recording:
    """The file's columns; ConfigurationError when it cannot be read, lacks a column, or holds no number where one belongs."""
    try:
        table = pq.ParquetFile(file, memory_map=False).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ConfigurationError(f"replay: {file} cannot be read: {error}") from error
    wanted = ("start", *FIELDS)
    missing = [name for name in wanted if name not in table.column_names]
    if missing or table.num_rows == 0:
        found = f"{table.num_rows} rows with {', '.join(table.column_names)}"
        raise ConfigurationError(f"replay: {file}: found {found}, expected rows with {', '.join(wanted)}")
    columns = {name: table.column(name).to_numpy() for name in wanted}
    if columns["start"].dtype.kind not in "iu":
        raise ConfigurationError(f"replay: {file}: start is {columns['start'].dtype}, expected int64 epoch seconds")
    starts, first = np.unique(columns["start"], return_index=True)
    closes = columns["close"][first].astype(np.float64)
    priced = np.isfinite(closes) & (closes > 0)  # no quote is made of a candle that has no price
    return Recording(columns=columns, starts=starts[priced].astype(np.int64), closes=closes[priced])


def _price_increment(closes: Floats) -> Decimal:
    """0.01, or where prices lie below 1 the coarsest power of ten from there on that every close is a multiple of."""
    decimals = _DECIMALS_LEAST
    if closes.min(initial=np.inf) < 1:
        while decimals < _DECIMALS_MOST and not np.allclose(np.round(closes, decimals), closes, rtol=1e-12, atol=0):
            decimals += 1
    return Decimal(1).scaleb(-decimals)
