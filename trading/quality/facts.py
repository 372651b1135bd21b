"""Facts about candles, one numpy pass for all products: what the expectations hold against their bounds.

Three stages: `shape` looks at each candle by itself, `course` at each candle against the earlier ones of its product,
`coverage` at each product. NaN in a fact means that the rule does not apply to the row. All arrays run over rows, sorted by
product and start; a product is its place in the list that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading.market import COLUMNS, FIELDS, Candles, Floats, Ints
from trading.quality.verdict import QualityRules

Bools = npt.NDArray[np.bool_]

# 1 / the third quartile of the normal distribution: a median of absolute values as a standard deviation.
MAD_TO_DEVIATION = 1.4826
# Any epoch second of ours lies below this, so product and start fit one sortable integer.
_KEY = 1 << 40
# Rows whose trailing windows are gathered at once: bounds memory to a few MiB.
_BLOCK = 4096
# A volume is in the wrong unit when it is at least this far from usual and dividing by the price brings it this much nearer.
_UNIT_FACTOR = 100.0
_UNIT_NEARER = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Candles as arrays. `values` has shape (rows, 5) in the order of `FIELDS`; `code` is the product's place."""

    code: Ints
    start: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.code)

    @property
    def key(self) -> Ints:
        return self.code * _KEY + self.start

    def take(self, where: Ints | Bools) -> Rows:
        return Rows(code=self.code[where], start=self.start[where], values=self.values[where])

    def frame(self, products: Sequence[str]) -> pd.DataFrame:
        names = np.array(products, dtype=object)[self.code] if len(products) else np.array([], dtype=object)
        columns = {name: self.values[:, place] for place, name in enumerate(FIELDS)}
        return pd.DataFrame({"product": names, "start": self.start} | columns, columns=list(COLUMNS))


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
    rows, foreign, strangers = _read(fetched, products)
    seen = np.bincount(rows.code, minlength=len(products))
    back_step = _back_steps(rows)
    values = rows.values
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


def _read(fetched: pd.DataFrame, products: Sequence[str]) -> tuple[Rows, Floats, int]:
    """Rows of the products asked for, cells of a wrong type per row, and the number of rows of other products."""
    size = len(fetched)
    foreign = np.zeros(size)
    columns: dict[str, Floats] = {}
    for name in COLUMNS[1:]:
        columns[name], wrong = (
            _numbers(fetched[name]) if name in fetched else (np.full(size, np.nan), np.ones(size, bool))
        )
        foreign += wrong
    if "product" in fetched:
        code = pd.Categorical(fetched["product"], categories=list(products)).codes.astype(np.int64)
    else:
        code = np.full(size, -1, dtype=np.int64)
    asked = code >= 0
    whole = np.isfinite(columns["start"]) & (columns["start"] == np.floor(columns["start"]))
    foreign += np.isfinite(columns["start"]) & ~whole
    start = np.where(whole & (np.abs(columns["start"]) < _KEY), columns["start"], -1).astype(np.int64)
    values = np.column_stack([columns[name] for name in FIELDS]) if size else np.empty((0, len(FIELDS)))
    rows = Rows(code=code[asked], start=start[asked], values=values[asked])
    return rows, foreign[asked], int(size - np.count_nonzero(asked))


def _numbers(column: pd.Series) -> tuple[Floats, Bools]:
    """The column as floats (NaN where it has none) and which cells are not numbers at all."""
    if column.dtype.kind in "if":
        return column.to_numpy(dtype=np.float64), np.zeros(len(column), dtype=bool)
    cells = column.to_numpy(dtype=object)
    number = np.array(
        [isinstance(cell, int | float | np.number) and not isinstance(cell, bool) for cell in cells], dtype=bool
    )
    floats = np.full(len(cells), np.nan)
    floats[number] = cells[number].astype(np.float64)
    null = column.isna().to_numpy()
    return floats, ~number & ~null


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
    values = rows.values
    same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    repeated[1:] = (rows.key[1:] == rows.key[:-1]) & same.all(axis=1)
    return repeated


def _shape_facts(rows: Rows, seconds: int, now: int) -> dict[str, Floats]:
    values, start = rows.values, rows.start
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


def stored_rows(history: pd.DataFrame | Candles | None, products: Sequence[str], reach: int) -> Rows:
    """The stored candles that start at `reach` or later, sorted; they are taken as sound."""
    if history is None or not len(products):
        return Rows(code=np.empty(0, np.int64), start=np.empty(0, np.int64), values=np.empty((0, 5)))
    if isinstance(history, Candles):
        return _matrix_rows(history, products, reach)
    code = pd.Categorical(history["product"], categories=list(products)).codes.astype(np.int64)
    start = history["start"].to_numpy(dtype=np.int64)
    rows = Rows(code=code, start=start, values=history[list(FIELDS)].to_numpy(dtype=np.float64))
    rows = rows.take((code >= 0) & (start >= reach))
    return rows.take(np.argsort(rows.key, kind="stable"))


def _matrix_rows(history: Candles, products: Sequence[str], reach: int) -> Rows:
    first = int(np.searchsorted(history.starts, reach))
    place = {product: code for code, product in enumerate(products)}
    asked = [column for column, product in enumerate(history.products) if product in place]
    codes = np.array([place[history.products[column]] for column in asked], dtype=np.int64)
    asked_in_order = np.array(asked, dtype=np.int64)[np.argsort(codes)]
    values = np.stack([getattr(history, name)[first:, asked_in_order].T.ravel() for name in FIELDS], axis=1)
    starts = history.starts[first:]
    rows = Rows(code=np.repeat(np.sort(codes), len(starts)), start=np.tile(starts, len(codes)), values=values)
    return rows.take(~np.isnan(values[:, 3]))


def revisions(rows: Rows, stored: Rows, volume_most: float) -> tuple[Bools, Floats]:
    """Which rows are stored already, and by which ratio each of those differs from what is stored (0: it agrees)."""
    known = np.zeros(len(rows), dtype=bool)
    change = np.zeros(len(rows))
    if not len(stored) or not len(rows):
        return known, change
    at = np.minimum(np.searchsorted(stored.key, rows.key), len(stored) - 1)
    known = stored.key[at] == rows.key
    ours, theirs = stored.values[at], rows.values
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(theirs - ours) / np.maximum(np.abs(ours), np.finfo(float).tiny)
    ratio[:, 4] = np.where(ratio[:, 4] > volume_most, ratio[:, 4], 0)
    return known, np.where(known, ratio.max(axis=1), 0.0)


def course_facts(sound: Rows, stored: Rows, seconds: int, rules: QualityRules) -> tuple[Bools, dict[str, Floats]]:
    """Which sound rows are stored already, and the facts of each against the course of its product.

    A row that is stored has only its `revision`; the other facts are of new rows, NaN elsewhere.
    """
    known, revision = revisions(sound, stored, rules.volume_revision_most)
    facts = {"revision": revision}
    for name, values in _course(sound.take(~known), stored, seconds, rules).items():
        facts[name] = np.full(len(sound), np.nan)
        facts[name][~known] = values
    return known, facts


def _course(new: Rows, stored: Rows, seconds: int, rules: QualityRules) -> dict[str, Floats]:
    """Each new candle against the earlier ones of its product, never against a later one, but for confirming a jump."""
    both = Rows(
        code=np.concatenate([stored.code, new.code]),
        start=np.concatenate([stored.start, new.start]),
        values=np.concatenate([stored.values, new.values]),
    )
    order = np.argsort(both.key, kind="stable")
    line = both.take(order)
    place = np.flatnonzero(order >= len(stored))
    first = np.ones(len(line), dtype=bool)
    first[1:] = line.code[1:] != line.code[:-1]
    begins = np.maximum.accumulate(np.where(first, np.arange(len(line)), 0))
    allowed = _allowed_moves(line, first, begins, place, seconds, rules)
    jump = _jumps(line, first, place, allowed, seconds)
    return {
        "jump": jump,
        "wick": _wicks(line, first, place, allowed, rules),
        "gap": np.where(first, 0, np.diff(line.start, prepend=line.start[:1]) // seconds - 1)[place].astype(np.float64),
        "flat_run": _flat_runs(line, first)[place],
        "unit_shift": _unit_shifts(line, begins, place, rules),
    }


def _moves(line: Rows, first: Bools, seconds: int) -> Floats:
    """Absolute log return of each close, per interval: a move over a hole is divided by the root of its length."""
    close = np.log(line.values[:, 3])
    steps = np.maximum(np.diff(line.start, prepend=line.start[:1]) / seconds, 1)
    moves = np.abs(np.diff(close, prepend=close[:1])) / np.sqrt(steps)
    return np.where(first, np.nan, moves)


def trailing_median(values: Floats, begins: Ints, place: Ints, window: int, least: int) -> Floats:
    """Median of the up to `window` values before each place, of the same product; NaN when fewer than `least` exist."""
    result = np.full(len(place), np.nan)
    back = np.arange(-window, 0)
    for low in range(0, len(place), _BLOCK):
        here = place[low : low + _BLOCK]
        index = here[:, None] + back
        picked = np.where(index >= begins[here][:, None], values[np.maximum(index, 0)], np.nan)
        picked.sort(axis=1)  # NaN sorts to the end
        count = np.count_nonzero(~np.isnan(picked), axis=1)
        row = np.arange(len(here))
        middle = (picked[row, np.maximum(count - 1, 0) // 2] + picked[row, np.minimum(count // 2, window - 1)]) / 2
        result[low : low + _BLOCK] = np.where(count >= least, middle, np.nan)
    return result


def _allowed_moves(line: Rows, first: Bools, begins: Ints, place: Ints, seconds: int, rules: QualityRules) -> Floats:
    usual = trailing_median(_moves(line, first, seconds), begins, place, rules.window, rules.least_history)
    allowed = np.clip(rules.jump_times * MAD_TO_DEVIATION * usual, rules.jump_least, rules.jump_most)
    return np.where(np.isnan(usual), rules.jump_most, allowed)


def _jumps(line: Rows, first: Bools, place: Ints, allowed: Floats, seconds: int) -> Floats:
    """Each close's move from the last accepted close, in units of the allowed move; 0 where the next close confirmed it.

    A false print must not become the level that the next candle is measured from, so products with a suspect are walked in
    order; the others need no walk, because every close was accepted.
    """
    jump = _moves(line, first, seconds)[place] / allowed
    jump[np.isnan(jump)] = 0
    codes = line.code[place]
    close = np.log(line.values[:, 3])
    for product in np.unique(codes[jump > 1]):
        mine = np.flatnonzero(codes == product)
        begins = int(place[mine[0]])
        level = begins if first[begins] else begins - 1
        _walk(line.start / seconds, close, place, mine, level, allowed, jump)
    return jump


def _walk(time: Floats, close: Floats, place: Ints, mine: Ints, level: int, allowed: Floats, jump: Floats) -> None:
    """Writes the jumps of one product into `jump`; `level` is the last accepted row, `suspects` jumps that wait.

    A close within the allowed move of the newest suspect confirms the new level, and with it every suspect on the way there:
    a fall that takes three candles is a fall, a print that the next close does not support is none.
    """
    suspects: list[int] = []
    for each in mine:
        at = int(place[each])
        if not suspects and at - 1 > level:
            level = at - 1  # stored rows lie between: they were accepted when they were stored
        jump[each] = abs(close[at] - close[level]) / np.sqrt(max(time[at] - time[level], 1.0)) / allowed[each]
        # The nearer explanation first: after a real move the next close is near it and, per interval, not far from the old
        # level either.
        if suspects and abs(close[at] - close[place[suspects[-1]]]) <= min(
            allowed[each], abs(close[at] - close[level])
        ):
            low, high = sorted((close[level], close[at]))
            for earlier in (*suspects, each):
                if low - allowed[each] <= close[place[earlier]] <= high + allowed[each]:
                    jump[earlier] = 0
            level, suspects = at, []
        elif jump[each] <= 1:
            level, suspects = at, []
        else:
            suspects.append(int(each))


def _wicks(line: Rows, first: Bools, place: Ints, allowed: Floats, rules: QualityRules) -> Floats:
    """How far high and low reach beyond both closes, in units of `wick_times` the allowed move (at most e to the 1)."""
    values = line.values[place]
    before = line.values[np.maximum(place - 1, 0), 3]
    before = np.where(first[place], values[:, 0], before)
    above = np.log(values[:, 1] / np.maximum(before, values[:, 3]))
    below = np.log(np.minimum(before, values[:, 3]) / values[:, 2])
    most = np.minimum(rules.wick_times * allowed, 1.0)
    return np.asarray(np.maximum(above, below) / most, dtype=np.float64)


def _flat_runs(line: Rows, first: Bools) -> Floats:
    """How many candles up to this one repeat the last close: open = high = low = close, and nothing (new) traded."""
    values = line.values
    before = np.roll(values, 1, axis=0)
    still = (
        (values[:, :4] == before[:, 3:4]).all(axis=1) & ((values[:, 4] == 0) | (values[:, 4] == before[:, 4])) & ~first
    )
    index = np.arange(len(line))
    last_change = np.maximum.accumulate(np.where(still, -1, index)) if len(line) else index
    return (index - last_change).astype(np.float64)


def _unit_shifts(line: Rows, begins: Ints, place: Ints, rules: QualityRules) -> Floats:
    """1 where volumes are 100 times off what is usual and become usual when multiplied or divided by the price.

    The middle one of the last three volumes decides, because one thin or busy candle is noise. A product whose price is
    near 1 shows nothing, and neither does a source that was in the wrong unit from its first candle.
    """
    with np.errstate(divide="ignore"):
        volume = np.where(line.values[:, 4] > 0, np.log(line.values[:, 4]), np.nan)
    three = np.where(
        place[:, None] - np.arange(3) >= begins[place][:, None], volume[place[:, None] - np.arange(3)], np.nan
    )
    off = np.median(three, axis=1) - trailing_median(volume, begins, place, rules.window, rules.least_history)
    price = np.log(line.values[place, 3])
    in_other_unit = np.minimum(np.abs(off - price), np.abs(off + price))
    shifted: Bools = (np.abs(off) > np.log(_UNIT_FACTOR)) & (in_other_unit < _UNIT_NEARER * np.abs(off))
    return shifted.astype(np.float64)


def coverage(
    shaped: Shape, sound: Rows, stored: Rows, *, last_start: int, seconds: int, window: int
) -> dict[str, Floats]:
    """Facts of each product: missing, how far behind, share of the trailing window missing, repeats."""
    count = len(shaped.seen)
    code = np.concatenate([stored.code, sound.code])
    start = np.concatenate([stored.start, sound.start])
    newest = np.full(count, -1, dtype=np.int64)
    oldest = np.full(count, last_start + seconds, dtype=np.int64)
    np.maximum.at(newest, code, start)
    np.minimum.at(oldest, code, start)
    opens = last_start - (window - 1) * seconds
    held = np.bincount(code[(start >= opens) & (start <= last_start)], minlength=count)
    due = np.clip((last_start - np.maximum(oldest, opens)) // seconds + 1, 0, window)
    behind = np.where(newest < 0, window, np.clip((last_start - newest) // seconds, 0, None))
    return {
        "absent": ((shaped.seen == 0) & (behind > 0)).astype(np.float64),
        "behind": behind.astype(np.float64),
        "missing_share": np.maximum(due - held, 0) / window,
        "repeats": shaped.repeats.astype(np.float64),
    }
