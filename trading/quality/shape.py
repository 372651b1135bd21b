"""Facts of each fetched candle by itself. NaN in a fact means that the rule does not apply to the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trading.market import Floats, Ints
from trading.quality.rows import Bools, Rows, read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The fetched rows, sorted and merged, with the facts of each; and the counts of what was dropped on the way."""

    rows: Rows
    facts: dict[str, Floats]
    unfinished: int
    strangers: int
    repeats: Ints
    """Exact duplicates that were merged, by product."""
    seen: Ints
    """Rows that the source gave, by product."""


def shape(fetched: pd.DataFrame, products: Sequence[str], seconds: int, now: int) -> Shape:
    """Sorts, merges exact duplicates, drops strangers and unfinished candles, and measures each row that is left."""
    rows, foreign, strangers = read_rows(fetched, products)
    seen = np.bincount(rows.code, minlength=len(products))
    back_step = _back_steps(rows)
    values = rows.ohlcv
    order = np.lexsort((*(values[:, place] for place in range(4, -1, -1)), rows.start, rows.code))
    rows, foreign, back_step = rows.take(order), foreign[order], back_step[order]
    repeated = _repeats(rows)
    repeats = np.bincount(rows.code[repeated], minlength=len(products))
    open_still = (rows.start <= now) & (rows.start + seconds > now) & (rows.start >= 0)
    # A merged duplicate takes its trace of disorder with it only if both rows stepped back: keep the first row's mark.
    keep = ~repeated & ~open_still
    rows, foreign, back_step = rows.take(keep), foreign[keep], back_step[keep]
    facts = _shape_facts(rows, seconds, now) | {"foreign": foreign, "back_step": back_step}
    unfinished = int(np.count_nonzero(open_still & ~repeated))
    return Shape(rows=rows, facts=facts, unfinished=unfinished, strangers=strangers, repeats=repeats, seen=seen)


def _back_steps(rows: Rows) -> Floats:
    """1 where a row starts before the row of its product that the source gave just before it."""
    order = np.argsort(rows.code, kind="stable")
    code, start = rows.code[order], rows.start[order]
    step = np.zeros(len(rows))
    step[1:] = (code[1:] == code[:-1]) & (start[1:] < start[:-1]) & (start[1:] >= 0)
    result = np.empty(len(rows))
    result[order] = step
    return result


def _repeats(rows: Rows) -> Bools:
    """Which sorted rows equal the row before them in everything."""
    repeated = np.zeros(len(rows), dtype=bool)
    values = rows.ohlcv
    same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    repeated[1:] = (rows.key[1:] == rows.key[:-1]) & same.all(axis=1)
    return repeated


def _shape_facts(rows: Rows, seconds: int, now: int) -> dict[str, Floats]:
    values, start = rows.ohlcv, rows.start
    opened, high, low, close, volume = values.T
    prices = values[:, :4]
    nulls = np.count_nonzero(~np.isfinite(values), axis=1) + (start < 0)
    breach = np.maximum(np.maximum(opened, close) - high, low - np.minimum(opened, close))
    same = np.zeros(len(rows) + 1, dtype=bool)
    same[1:-1] = rows.key[1:] == rows.key[:-1]
    whole = np.isfinite(prices).all(axis=1)
    return {
        "nulls": nulls.astype(np.float64),
        "off_grid": np.where(start >= 0, start % seconds, np.nan),
        "ahead": np.where(start > now, start - now, 0).astype(np.float64),
        "ohlc_breach": np.where(whole, np.maximum(breach, 0), np.nan),
        "not_positive": np.count_nonzero(prices <= 0, axis=1).astype(np.float64),
        "volume": volume,
        # A null start is its own failure, not a second candle at one time.
        "rivals": ((same[:-1] | same[1:]) & (start >= 0)).astype(np.float64),
    }
