"""Facts of each candle against the earlier ones of its product, all products in one numpy pass.

Arrays run over one line of rows, sorted by product and start: the stored ones and the new ones together. `place` holds the
places of the new ones in that line, `begins` the place where the row's product begins.
"""

from __future__ import annotations

import numpy as np

from trading.market import Floats, Ints
from trading.quality.rows import Bools, Rows
from trading.quality.verdict import QualityRules

# 1 / the third quartile of the normal distribution: a median of absolute values as a standard deviation.
MAD_TO_DEVIATION = 1.4826
# Rows whose trailing windows are gathered at once: bounds memory to a few MiB.
_BLOCK = 4096
# A volume is in the wrong unit when it is at least this far from usual and the price brings it this much nearer.
_UNIT_FACTOR = 200.0
_UNIT_NEARER = 0.25


def revisions(rows: Rows, stored: Rows, volume_most: float) -> tuple[Bools, Floats]:
    """Which rows are stored already, and by which ratio each of those differs from what is stored (0: it agrees)."""
    known = np.zeros(len(rows), dtype=bool)
    change = np.zeros(len(rows))
    if not len(stored) or not len(rows):
        return known, change
    at = np.minimum(np.searchsorted(stored.key, rows.key), len(stored) - 1)
    known = stored.key[at] == rows.key
    ours, theirs = stored.ohlcv[at], rows.ohlcv
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
        ohlcv=np.concatenate([stored.ohlcv, new.ohlcv]),
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
    close = np.log(line.ohlcv[:, 3])
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
    close = np.log(line.ohlcv[:, 3])
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
        if suspects and abs(close[at] - close[place[suspects[-1]]]) <= min(allowed[each], abs(close[at] - close[level])):
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
    values = line.ohlcv[place]
    before = line.ohlcv[np.maximum(place - 1, 0), 3]
    before = np.where(first[place], values[:, 3], before)  # a first candle has only its own close, its open may be the lie
    above = np.log(values[:, 1] / np.maximum(before, values[:, 3]))
    below = np.log(np.minimum(before, values[:, 3]) / values[:, 2])
    most = np.minimum(rules.wick_times * allowed, 1.0)
    return np.asarray(np.maximum(above, below) / most, dtype=np.float64)


def _flat_runs(line: Rows, first: Bools) -> Floats:
    """How many candles up to this one stand still: one price and nothing traded, or an exact copy of the one before."""
    values = line.ohlcv
    before = np.roll(values, 1, axis=0)
    one_price = (values[:, :4] == values[:, 3:4]).all(axis=1)
    copied = (values[:, 3:] == before[:, 3:]).all(axis=1)
    still = one_price & ((values[:, 4] == 0) | copied) & ~first
    index = np.arange(len(line))
    last_change = np.maximum.accumulate(np.where(still, -1, index)) if len(line) else index
    return (index - last_change).astype(np.float64)


def _unit_shifts(line: Rows, begins: Ints, place: Ints, rules: QualityRules) -> Floats:
    """1 where volumes are 200 times off what is usual and become usual when multiplied or divided by the price.

    The middle one of the last three volumes decides, because one thin or busy candle is noise. A product whose price is
    below about 200 shows nothing, and neither does a source that was in the wrong unit from its first candle.
    """
    with np.errstate(divide="ignore"):
        volume = np.where(line.ohlcv[:, 4] > 0, np.log(line.ohlcv[:, 4]), np.nan)
    three = np.where(place[:, None] - np.arange(3) >= begins[place][:, None], volume[place[:, None] - np.arange(3)], np.nan)
    off = np.median(three, axis=1) - trailing_median(volume, begins, place, rules.window, rules.least_history)
    price = np.log(line.ohlcv[place, 3])
    in_other_unit = np.minimum(np.abs(off - price), np.abs(off + price))
    shifted: Bools = (np.abs(off) > np.log(_UNIT_FACTOR)) & (in_other_unit < _UNIT_NEARER * np.abs(off))
    return shifted.astype(np.float64)
