"""How holdings move together: the share of a portfolio's variance that one holding alone would not have.

A portfolio of values v with covariances C has the variance v'Cv. Of it, sum(v_i² C_ii) is what the holdings would have if each
moved by itself; the rest comes from moving together:

    share = 1 - sum(v_i² C_ii) ÷ v'Cv

Zero for one holding, (n - 1)ρ ÷ (1 + (n - 1)ρ) for n equal ones with correlation ρ: two at 0.8 give 0.44, four 0.71, ten 0.88.
It is the complement of the ratio of weighted single variances to portfolio variance (compare the diversification ratio of
Choueifaty and Coignard, Journal of Portfolio Management, 2008). Returns are log returns of the candles that portfolio volatility
is taken over, less their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trading.indicators import VOLATILITY_CANDLES, VOLATILITY_CANDLES_MIN, carried
from trading.market import Candles, Floats


class Together(NamedTuple):
    """What one more purchase meets; variances are in quote², the product's own are those of one unit of quote."""

    variance: float
    """Of all holdings."""
    alone: float
    """Sum of the variances that the holdings would have each by itself."""
    covariance: float
    """Of the product with the portfolio. NaN, as all of them, if anything of it is not known."""
    product_variance: float
    value: float
    """Of the product that is held already."""


ALONE = Together(0.0, 0.0, 0.0, 0.0, 0.0)
"""The first holding needs no candles: it moves with nothing."""
UNKNOWN = Together(*(float("nan"),) * 5)


def share_after(before: Together, bought: float) -> float:
    """Share of variance from moving together after buying for `bought` in quote; NaN where it is not known."""
    own = before.product_variance
    variance = before.variance + 2 * bought * before.covariance + bought * bought * own
    alone = before.alone + (2 * before.value + bought) * bought * own
    if variance <= 0.0 or variance <= alone:  # nothing moves, or the holdings make up for each other
        return 0.0
    return 1.0 - alone / variance


@dataclass(slots=True)
class _Holding:
    """One product in the batch."""

    column: int
    row: Floats | None
    """Covariances of the product with each product; None if they are not known."""
    own: float
    value: float = 0.0


class Comovement:
    """Running variances of the holdings of one batch: a look is O(1), a purchase O(products)."""

    def __init__(self, candles: Candles, values: Mapping[str, float]) -> None:
        """`values`: product -> worth of what is held and being bought, in quote."""
        self._columns = {product: column for column, product in enumerate(candles.products)}
        self._returns, self._known = _returns(candles)
        self._holdings: dict[str, _Holding] = {}
        self._held: set[str] = set()
        self._variance = self._alone = 0.0
        self._covariances = np.zeros(len(candles.products))
        """Of each product with the portfolio."""
        for product, value in values.items():
            if value:
                self.buy(product, value)

    def look(self, product: str) -> Together:
        """What a purchase of the product would meet now."""
        held = self._held
        if not held or (len(held) == 1 and product in held):
            return ALONE
        found = self._holdings.get(product) or self._holding(product)
        if found.row is None:
            return UNKNOWN
        return Together(self._variance, self._alone, self._covariances.item(found.column), found.own, found.value)

    def buy(self, product: str, bought: float) -> None:
        """Takes a purchase into the holdings. What of them is not known makes every further look unknown."""
        found = self._holdings.get(product) or self._holding(product)
        self._held.add(product)
        if found.row is None:
            self._variance = float("nan")
            return
        self._variance += (2.0 * self._covariances.item(found.column) + bought * found.own) * bought
        self._alone += (2.0 * found.value + bought) * bought * found.own
        self._covariances += bought * found.row
        found.value += bought

    def _holding(self, product: str) -> _Holding:
        column = self._columns.get(product, -1)
        row = None if column < 0 or not self._known[column] else self._returns @ self._returns[column]
        found = self._holdings[product] = _Holding(column, row, 0.0 if row is None else row.item(column))
        return found


def _returns(candles: Candles) -> tuple[Floats, list[bool]]:
    """Returns by product (rows) less their mean, and whether there are enough of each. A candle without a trade returns zero."""
    close = carried(candles.close[-(VOLATILITY_CANDLES + 1) :])
    with np.errstate(divide="ignore", invalid="ignore"):  # a price of zero or less gives NaN, which counts as unknown
        returns = np.diff(np.log(close), axis=0)
    known = np.isfinite(returns)
    enough = known.sum(axis=0) >= VOLATILITY_CANDLES_MIN
    filled = np.where(known, returns, 0.0)
    mean = filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    rows = np.ascontiguousarray(np.where(known, filled - mean, 0.0).T)
    return rows, enough.tolist()
