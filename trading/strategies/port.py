"""What a strategy is: candles in, signals out, and never a look ahead."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from trading.market import Candles, Floats


@runtime_checkable
class Strategy(Protocol):
    """A view of every product at every candle. Your own needs these two names; both of ours and yours stay pure.

    Two more are optional: `explain(candles, products) -> dict[str, str]`, words for the newest signal of products that
    are to be traded, and `problems(products) -> list[str]`, what is wrong with the parameters for a plan's products.
    """

    @property
    def lookback(self) -> int:
        """Candles needed before the newest row means anything."""

    def signals(self, candles: Candles) -> Floats:
        """Shape (T, P), each in -1 ... 1; NaN is no opinion. A row depends on the rows up to it, never on later ones.

        Spot is long-only: zero and below want the product flat.
        """
