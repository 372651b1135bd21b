"""What one cycle may see of the market: products, candles as matrices, quotes; and the source that gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading.errors import ConfigurationError
from trading.money import ceil_to, utc

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIELDS = ("open", "high", "low", "close", "volume")
COLUMNS = ("product", "start", *FIELDS)
INTERVALS = {
    "1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "4h": 14400, "6h": 21600, "1d": 86400,
}  # fmt: skip


def interval_seconds(interval: str) -> int:
    """Seconds of `1h`, `15m`, ...; raises ConfigurationError for another spelling."""
    if interval not in INTERVALS:
        raise ConfigurationError(f"interval: found {interval!r}, expected one of {', '.join(INTERVALS)}")
    return INTERVALS[interval]


def last_close(at: datetime, interval: str) -> datetime:
    """The close of the last candle that has closed at `at` (a candle closes at its start plus the interval)."""
    seconds = interval_seconds(interval)
    return utc(int(at.timestamp()) // seconds * seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A tradable pair and the venue's rules for it. Increments and sizes are in base, notional and price in quote."""

    id: str
    base: str
    quote: str
    base_increment: Decimal
    price_increment: Decimal
    base_min_size: Decimal
    base_max_size: Decimal
    min_notional: Decimal
    tradable: bool = True
    """False when the venue's flags (disabled, cancel-only, view-only, auction ...) forbid a new order."""
    limit_only: bool = False
    post_only: bool = False

    @property
    def is_sound(self) -> bool:
        """True if quantities and prices can be rounded by these rules."""
        return all(increment.is_finite() and increment > 0 for increment in (self.base_increment, self.price_increment))

    def smallest_sale(self, price: Decimal) -> Decimal:
        """The smallest quantity that the venue takes at this price: its minima in base and notional, rounded up."""
        return ceil_to(max(self.base_min_size, self.min_notional / price, self.base_increment), self.base_increment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Best bid and ask of a product at a time. Depth is what a venue showed, best price first; empty if unknown."""

    product: str
    bid: Decimal
    ask: Decimal
    at: datetime
    bids: tuple[tuple[Decimal, Decimal], ...] = ()
    asks: tuple[tuple[Decimal, Decimal], ...] = ()

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candles:
    """Closed candles of several products on one time grid.

    `starts` has shape (T,), epoch seconds, ascending, one interval apart; each of `open` ... `volume` has shape (T, P)
    with one column per product, NaN where a product has no candle at that start. Volume is in base units.
    """

    interval: str
    products: tuple[str, ...]
    starts: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    @property
    def closes_at(self) -> datetime:
        """The close of the newest row: the market time that these candles were complete at."""
        return utc(int(self.starts[-1]) + interval_seconds(self.interval))

    def column(self, product: str) -> int:
        return self.products.index(product)

    def up_to(self, rows: int) -> Candles:
        """The first `rows` rows, for replays and tests of no look-ahead."""
        cut = {name: getattr(self, name)[:rows] for name in FIELDS}
        return replace(self, starts=self.starts[:rows], **cut)

    def only(self, columns: Sequence[int]) -> Candles:
        """These columns alone."""
        cut = {name: getattr(self, name)[:, columns] for name in FIELDS}
        return replace(self, products=tuple(self.products[column] for column in columns), **cut)

    def digest(self) -> str:
        """SHA-256 over grid, products and values: equal only for exactly equal candles."""
        state = sha256(f"{self.interval}|{','.join(self.products)}".encode())
        state.update(np.ascontiguousarray(self.starts, dtype="<i8").tobytes())
        for name in FIELDS:
            state.update(np.ascontiguousarray(getattr(self, name), dtype="<f8").tobytes())
        return state.hexdigest()

    def frame(self) -> pd.DataFrame:
        """Long form with the columns of `COLUMNS`, one row per candle that exists, by product and start."""
        size, count = self.close.shape
        rows = pd.DataFrame(
            {"product": np.repeat(np.array(self.products, dtype=object), size), "start": np.tile(self.starts, count)}
            | {name: getattr(self, name).T.ravel() for name in FIELDS}
        )
        exists: pd.DataFrame = rows.loc[~np.isnan(rows["close"].to_numpy())]
        return exists.reset_index(drop=True)

    @classmethod
    def empty(cls, interval: str, products: Sequence[str], *, end: datetime, length: int) -> Candles:
        """The grid of the last `length` candles that close at or before `end`, without a candle in it."""
        seconds = interval_seconds(interval)
        stop = int(end.timestamp()) // seconds * seconds
        starts = np.arange(stop - length * seconds, stop, seconds, dtype=np.int64)
        matrices = {name: np.full((length, len(products)), np.nan) for name in FIELDS}
        return cls(interval=interval, products=tuple(products), starts=starts, **matrices)

    @classmethod
    def from_frame(cls, rows: pd.DataFrame, interval: str, products: Sequence[str], *, end: datetime, length: int) -> Candles:
        """The last `length` candles that closed at or before `end`, from unique long-form rows in any order."""
        return cls.empty(interval, products, end=end, length=length).with_rows(rows)

    def with_rows(self, rows: pd.DataFrame) -> Candles:
        """These candles and the long-form `rows` that lie on their grid; other rows and products are left out."""
        if rows.empty:
            return self
        at = (rows["start"].to_numpy(dtype=np.int64) - self.starts[0]) // interval_seconds(self.interval)
        column = {product: place for place, product in enumerate(self.products)}
        columns = np.array([column.get(product, -1) for product in rows["product"].tolist()], dtype=np.int64)
        keep = (at >= 0) & (at < len(self.starts)) & (columns >= 0)
        filled = {name: getattr(self, name).copy() for name in FIELDS}
        for name in FIELDS:
            filled[name][at[keep], columns[keep]] = rows[name].to_numpy(dtype=np.float64)[keep]
        return replace(self, **filled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """All that one cycle may see: products, candles, quotes, and which products are gated and why."""

    at: datetime
    """Market time: the wall clock on a live source, the replay's own clock on a replay."""
    products: Mapping[str, Product]
    candles: Candles
    quotes: Mapping[str, Quote]
    gated: Mapping[str, str] = field(default_factory=dict)
    """Product -> the failed expectation; a gated product takes no new risk in this cycle."""
    second: Mapping[str, Quote] = field(default_factory=dict)
    """Quotes of an independent source, where there is one: only ever compared with, never traded on."""
    taker_fee: Decimal | None = None
    """What the venue says that an immediate fill costs this account now; None where it was not asked."""
    cash_at_venue: Decimal | None = None
    """Cash that the venue says is free, less what our own holds reserve beyond its own; None where it was not asked."""


class MarketSource(Protocol):
    """Where prices come from. Implementations: Coinbase's public data, a replay of recorded candles, a synthetic market.

    Every method raises MarketUnavailable when the source cannot answer; nothing is ever guessed or filled in.
    """

    name: str
    """`coinbase`, `replay:PATH` or `synthetic`: stored with the portfolio, which keeps the source it began with."""
    is_replay: bool

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        """The rules of the named products; an unknown id is missing from the answer."""

    def candles(self, since: Mapping[str, int], interval: str, until: datetime) -> pd.DataFrame:
        """Candles of each product with `since[product]` <= start and start < `until`, in the columns of `COLUMNS`.

        As the source gave them: unsorted, duplicated, unfinished or wrong rows included; the quality gate judges them.
        """

    def quotes(self, ids: Sequence[str], at: datetime) -> dict[str, Quote]:
        """Best bid and ask as of market time `at` (now, on a live source); a product without one is missing."""

    def now(self) -> datetime:
        """Market time of a live source (the wall clock). A replay has none of its own: see `next_slot`."""

    def next_slot(self, products: Sequence[str], interval: str, history: int, after: datetime | None) -> datetime | None:
        """A replay's next candle close after `after`, with at least `history` candles before it; None at the end.

        A live source answers with the last candle that has closed.
        """


def age(quote: Quote, now: datetime) -> timedelta:
    return now - quote.at
