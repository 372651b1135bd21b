"""Fixed weights, brought back when they have drifted by more than the plan's no-trade band."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from trading.market import Candles, Floats
from trading.plan import Part, ProductId


class Rebalance(Part):
    """The signal of a product is its weight: with `allocation.weight = 1` that is its share of equity.

    A product of the plan without a weight wants none.
    """

    weights: dict[ProductId, Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1, description="product -> weight")

    @model_validator(mode="after")
    def _at_most_all(self) -> Rebalance:
        total = sum(self.weights.values())
        if total > 1 + 1e-9:
            raise ValueError(f"weights: found a sum of {total:g}, expected at most 1")
        return self

    @property
    def lookback(self) -> int:
        return 1

    def signals(self, candles: Candles) -> Floats:
        weights = np.array([self.weights.get(product, 0.0) for product in candles.products])
        return np.where(np.isnan(candles.close), np.nan, weights)

    def explain(self, _: Candles, products: Sequence[str]) -> dict[str, str]:
        return {product: f"rebalance to {self.weights.get(product, 0.0):g}" for product in products}

    def problems(self, products: Iterable[str]) -> list[str]:
        unknown = sorted(set(self.weights) - set(products))
        return [f"weights: found {', '.join(unknown)}, expected only products of the plan"] if unknown else []
