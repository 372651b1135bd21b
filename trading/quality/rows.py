"""Candles as arrays, read from what a source sent and from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading.market import COLUMNS, FIELDS, Candles, Floats, Ints

Bools = npt.NDArray[np.bool_]

# Epoch seconds lie below this (the year 6325); milliseconds of our time lie above, and are a wrong type.
_START_MOST = 1 << 37
# Product and start as one sortable integer.
_KEY = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Candles as arrays. `ohlcv` has shape (rows, 5) in the order of `FIELDS`; `code` is the product's place."""

    code: Ints
    start: Ints
    ohlcv: Floats

    def __len__(self) -> int:
        return len(self.code)

    @property
    def key(self) -> Ints:
        return self.code * _KEY + self.start

    def take(self, where: Ints | Bools) -> Rows:
        return Rows(code=self.code[where], start=self.start[where], ohlcv=self.ohlcv[where])

    def frame(self, products: Sequence[str]) -> pd.DataFrame:
        names = np.array(products, dtype=object)[self.code] if len(products) else np.array([], dtype=object)
        columns = {name: self.ohlcv[:, place] for place, name in enumerate(FIELDS)}
        return pd.DataFrame({"product": names, "start": self.start} | columns, columns=list(COLUMNS))


def read_rows(fetched: pd.DataFrame, products: Sequence[str]) -> tuple[Rows, Floats, int]:
    """Rows of the products asked for, cells of a wrong type per row, and the number of rows of other products."""
    size = len(fetched)
    foreign = np.zeros(size)
    columns: dict[str, Floats] = {}
    for name in COLUMNS[1:]:
        columns[name], wrong = _numbers(fetched[name]) if name in fetched else (np.full(size, np.nan), np.ones(size, bool))
        foreign += wrong
    code = _codes(fetched["product"], products) if "product" in fetched else np.full(size, -1, dtype=np.int64)
    asked = code >= 0
    whole = np.isfinite(columns["start"]) & (columns["start"] == np.floor(columns["start"]))
    plausible = whole & (columns["start"] >= 0) & (columns["start"] < _START_MOST)
    foreign += np.isfinite(columns["start"]) & ~plausible
    start = np.where(plausible, columns["start"], -1).astype(np.int64)
    values = np.column_stack([columns[name] for name in FIELDS]) if size else np.empty((0, len(FIELDS)))
    rows = Rows(code=code[asked], start=start[asked], ohlcv=values[asked])
    return rows, foreign[asked], int(size - np.count_nonzero(asked))


def _codes(names: pd.Series, products: Sequence[str]) -> Ints:
    """The place of each name among the products, -1 for one that was not asked for."""
    asked = pd.Index(list(products), dtype=object)
    return np.asarray(asked.get_indexer(pd.Index(names.to_numpy(dtype=object), dtype=object)), dtype=np.int64)


def _numbers(column: pd.Series) -> tuple[Floats, Bools]:
    """The column as floats (NaN where it has none) and which cells are not numbers at all."""
    if column.dtype.kind in "if":
        return column.to_numpy(dtype=np.float64), np.zeros(len(column), dtype=bool)
    cells = column.to_numpy(dtype=object)
    number = np.array([isinstance(cell, int | float | np.number) and not isinstance(cell, bool) for cell in cells], dtype=bool)
    floats = np.full(len(cells), np.nan)
    floats[number] = cells[number].astype(np.float64)
    null = column.isna().to_numpy()
    return floats, ~number & ~null


def stored_rows(history: pd.DataFrame | Candles | None, products: Sequence[str], reach: int) -> Rows:
    """The stored candles that start at `reach` or later, sorted; they are taken as sound."""
    if history is None or not len(products):
        return Rows(code=np.empty(0, np.int64), start=np.empty(0, np.int64), ohlcv=np.empty((0, 5)))
    if isinstance(history, Candles):
        return _matrix_rows(history, products, reach)
    start = history["start"].to_numpy(dtype=np.int64)
    late = np.flatnonzero(start >= reach)  # first, because names are dear to look up
    code = _codes(history["product"].iloc[late], products)
    rows = Rows(code=code, start=start[late], ohlcv=history[list(FIELDS)].to_numpy(dtype=np.float64)[late])
    rows = rows.take(code >= 0)
    return rows.take(np.argsort(rows.key, kind="stable"))


def _matrix_rows(history: Candles, products: Sequence[str], reach: int) -> Rows:
    first = int(np.searchsorted(history.starts, reach))
    place = {product: code for code, product in enumerate(products)}
    asked = [column for column, product in enumerate(history.products) if product in place]
    codes = np.array([place[history.products[column]] for column in asked], dtype=np.int64)
    asked_in_order = np.array(asked, dtype=np.int64)[np.argsort(codes)]
    values = np.stack([getattr(history, name)[first:, asked_in_order].T.ravel() for name in FIELDS], axis=1)
    starts = history.starts[first:]
    rows = Rows(code=np.repeat(np.sort(codes), len(starts)), start=np.tile(starts, len(codes)), ohlcv=values)
    return rows.take(~np.isnan(values[:, 3]))
