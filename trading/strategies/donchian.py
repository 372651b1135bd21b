"""Breakout of a price channel (R. Donchian): in at a new high, out at a new low, in force until the opposite one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field, model_validator

from trading.indicators import carried, held, highest_before, lowest_before
from trading.market import Candles, Floats
from trading.plan import Part


class Donchian(Part):
    """Signal 1 from a close above the high of the `entry` candles before, -1 from one below the low of `exit` candles.

    No opinion before the first breakout in the candles that it sees: it then leaves a holding as it is.
    """

    entry: int = Field(default=55, ge=1, le=5000, description="candles of the high that is broken")
    exit: int = Field(default=20, ge=1, le=5000, description="candles of the low that is broken")

    @model_validator(mode="after")
    def _exit_within_entry(self) -> Donchian:
        if self.exit > self.entry:
            raise ValueError(f"exit: found {self.exit}, expected at most entry ({self.entry})")
        return self

    @property
    def lookback(self) -> int:
        # Room for a breakout that is some time ago to be still in sight.
        return 4 * self.entry + 1

    def signals(self, candles: Candles) -> Floats:
        high, low = self._channel(candles)
        up, down = candles.close > high, candles.close < low
        events = np.where(up, 1.0, np.where(down, -1.0, np.nan))
        return np.where(np.isnan(candles.close), np.nan, held(events))

    def explain(self, candles: Candles, products: Sequence[str]) -> dict[str, str]:
        """`donchian: 102 broke the 55-candle high 101.5` or `long since an earlier break`, for the newest row."""
        high, low = self._channel(candles)
        rows = zip(candles.close[-1], high[-1], low[-1], self.signals(candles)[-1], strict=True)
        words = dict(zip(candles.products, (self._words(*row) for row in rows), strict=True))
        return {product: words[product] for product in products}

    def _words(self, close: float, high: float, low: float, signal: float) -> str:
        if close > high:
            return f"donchian: {close:.8g} broke the {self.entry}-candle high {high:.8g}"
        if close < low:
            return f"donchian: {close:.8g} broke the {self.exit}-candle low {low:.8g}"
        return f"donchian: {'long' if signal > 0 else 'out'} since an earlier break"

    def _channel(self, candles: Candles) -> tuple[Floats, Floats]:
        return highest_before(carried(candles.high), self.entry), lowest_before(carried(candles.low), self.exit)
