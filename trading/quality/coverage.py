"""Facts of each product that was asked for, after the bad candles are gone."""

from __future__ import annotations

import numpy as np

from trading.market import Floats
from trading.quality.rows import Rows
from trading.quality.shape import Shape


def coverage(shaped: Shape, sound: Rows, stored: Rows, *, last_start: int, seconds: int, window: int) -> dict[str, Floats]:
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
