"""Reversion by the relative strength index: in when it is oversold, out when it has recovered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field, model_validator

from trading.indicators import carried, held, rsi
from trading.market import Candles, Floats
from trading.plan import Part


class RsiReversion(Part):
    """Signal 1 from an index below `oversold` on, -1 from one above `recovered` on; no opinion before either."""

    window: int = Field(default=14, ge=2, le=1000, description="candles of Wilder's smoothing")
    oversold: float = Field(default=30.0, gt=0, lt=100, description="in below this index")
    recovered: float = Field(default=55.0, gt=0, lt=100, description="out above this index")

    @model_validator(mode="after")
    def _in_below_out(self) -> RsiReversion:
        if self.oversold >= self.recovered:
            raise ValueError(f"oversold: found {self.oversold:g}, expected less than recovered ({self.recovered:g})")
        return self

    @property
    def lookback(self) -> int:
        # Wilder's smoothing has forgotten its start after ten windows (5e-5 of it is left).
        return 10 * self.window + 1

    def signals(self, candles: Candles) -> Floats:
        index = rsi(carried(candles.close), self.window)
        events = np.where(index < self.oversold, 1.0, np.where(index > self.recovered, -1.0, np.nan))
        return np.where(np.isnan(candles.close), np.nan, held(events))

    def explain(self, candles: Candles, products: Sequence[str]) -> dict[str, str]:
        """`rsi 14 at 27.1 (in below 30, out above 55)` for the newest row of each product."""
        index = dict(zip(candles.products, rsi(carried(candles.close), self.window)[-1].tolist(), strict=True))
        bounds = f"(in below {self.oversold:g}, out above {self.recovered:g})"
        return {product: f"rsi {self.window} at {index[product]:.1f} {bounds}" for product in products}
