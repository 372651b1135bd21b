"""Candles in a trader's notation, and seeded ones in the file layout of a replay.

`candles("100 101 99")` is three closed candles of BTC-USD; `-` is a missing one. `write_replay(path, ...)` makes the files
that `Replay(path)` reads: `PATH/<venue>/<PRODUCT>/<interval>.parquet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd

from trading.market import COLUMNS, Candles, interval_seconds

SLOT = datetime(2025, 1, 1, tzinfo=UTC)
"""The close of the newest candle, unless a test says otherwise."""


def rows(
    closes: str, *, product: str = "BTC-USD", interval: str = "1h", end: datetime = SLOT, volume: float = 10.0
) -> pd.DataFrame:
    """Long-form candles with these closes, the last one closing at `end`; `-` leaves a hole.

    Each opens at the close before it; high and low are the larger and smaller of open and close.
    """
    words = closes.split()
    seconds = interval_seconds(interval)
    first = int(end.timestamp()) // seconds * seconds - len(words) * seconds
    made: list[tuple[object, ...]] = []
    before: float | None = None
    for place, word in enumerate(words):
        if word == "-":
            continue
        close = float(word)
        opened = close if before is None else before
        made.append((product, first + place * seconds, opened, max(opened, close), min(opened, close), close, volume))
        before = close
    return typed(pd.DataFrame(made, columns=list(COLUMNS)))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the dtypes that every source gives: product text, start int64, the rest float64."""
    floats = dict.fromkeys(COLUMNS[2:], "float64")
    return frame.loc[:, list(COLUMNS)].astype({"product": object, "start": "int64", **floats}).reset_index(drop=True)


def candles(closes: str | Mapping[str, str], *, interval: str = "1h", end: datetime = SLOT, volume: float = 10.0) -> Candles:
    """`rows` as a matrix: of BTC-USD, or of each product of a mapping such as `{"BTC-USD": "1 2", "ETH-USD": "3 -"}`."""
    named = {"BTC-USD": closes} if isinstance(closes, str) else dict(closes)
    length = max(len(text.split()) for text in named.values())
    frames = [rows(text, product=name, interval=interval, end=end, volume=volume) for name, text in named.items()]
    return Candles.from_frame(pd.concat(frames), interval, list(named), end=end, length=length)


def generated(
    seed: int,
    products: Sequence[str] = ("BTC-USD", "ETH-USD"),
    *,
    length: int = 400,
    interval: str = "1h",
    end: datetime = SLOT,
    volatility: float = 0.006,
) -> pd.DataFrame:
    """Clean, gap-free long-form candles: a seeded walk around slow waves, so that trend and reversion rules both trade.

    `volatility` is the standard deviation of one candle's log return. Prices have two decimals.
    """
    seconds = interval_seconds(interval)
    last = int(end.timestamp()) // seconds * seconds - seconds
    starts = np.arange(last - (length - 1) * seconds, last + 1, seconds, dtype=np.int64)
    return pd.concat([_walk(seed, product, starts, volatility) for product in products], ignore_index=True)


def _walk(seed: int, product: str, starts: np.ndarray, volatility: float) -> pd.DataFrame:
    random = np.random.default_rng([seed, crc32(product.encode())])
    size = len(starts)
    level = 60_000.0 if product.startswith("BTC") else float(random.uniform(20, 4_000))
    wave = 0.08 * np.sin(np.arange(size) * 2 * np.pi / random.uniform(60, 120))
    close = np.round(level * np.exp(wave + np.cumsum(random.normal(0, volatility, size))), 2)
    opened = np.concatenate([[close[0]], close[:-1]])
    reach = np.abs(random.normal(0, volatility / 2, (2, size)))
    high = np.ceil(np.maximum(opened, close) * (1 + reach[0]) * 100) / 100
    low = np.floor(np.minimum(opened, close) * (1 - reach[1]) * 100) / 100
    frame = {"product": product, "start": starts, "open": opened, "high": high, "low": low, "close": close}
    return typed(pd.DataFrame(frame | {"volume": np.round(random.gamma(2, 2_000_000 / level, size), 8)}))


def write_replay(path: Path, frame: pd.DataFrame, *, interval: str = "1h", venue: str = "coinbase") -> Path:
    """Writes long-form candles as a replay's files, in the frame's row order; returns `path`."""
    for product, part in frame.groupby("product", sort=False):
        file = path / venue / str(product) / f"{interval}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        part.drop(columns="product").to_parquet(file, index=False, compression="zstd")
    return path


def write_generated(path: Path, seed: int, products: Sequence[str] = ("BTC-USD", "ETH-USD"), *, length: int = 400) -> Path:
    """A replay folder of `generated` 1 h candles."""
    return write_replay(path, generated(seed, products, length=length))
