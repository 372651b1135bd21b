"""Trend following by two means of the close: in while the fast one is above the slow one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from trading.indicators import carried, ema, sma
from trading.market import Candles, Floats
from trading.plan import Part


class Crossover(Part):
    """Signal 1 while the fast mean is above the slow one, -1 while below, 0 where they are equal."""

    kind: Literal["sma", "ema"] = "sma"
    fast: int = Field(default=12, ge=1, le=1000, description="candles of the fast mean")
    slow: int = Field(default=48, ge=2, le=5000, description="candles of the slow mean")

    @model_validator(mode="after")
    def _fast_below_slow(self) -> Crossover:
        if self.fast >= self.slow:
            raise ValueError(f"fast: found {self.fast}, expected less than slow ({self.slow})")
        return self

    @property
    def lookback(self) -> int:
        # An exponential mean forgets its first value slowly: after 4 spans 0.03 % of it is left.
        # One candle more, to see a cross.
        return (4 * self.slow if self.kind == "ema" else self.slow) + 1

    def signals(self, candles: Candles) -> Floats:
        close = carried(candles.close)
        mean = ema if self.kind == "ema" else sma
        # A product without a candle in this row gets no opinion in it, however well its past is known.
        return np.where(np.isnan(candles.close), np.nan, np.sign(mean(close, self.fast) - mean(close, self.slow)))

    def explain(self, candles: Candles, products: Sequence[str]) -> dict[str, str]:
        """`sma 12/48 crossed up` or `sma 12/48 above` for the newest row of each product."""
        last = self.signals(candles)[-2:]
        return {product: self._words(last[:, candles.column(product)]) for product in products}

    def _words(self, signals: Floats) -> str:
        name = f"{self.kind} {self.fast}/{self.slow}"
        side = {1.0: "above", -1.0: "below"}.get(float(signals[-1]), "level")
        crossed = len(signals) > 1 and not np.isnan(signals[-2]) and signals[-2] != signals[-1] and side != "level"
        return f"{name} crossed {'up' if side == 'above' else 'down'}" if crossed else f"{name} {side}"
