"""Statistics of a plan's results: opinions, so they are floats. Too little to say anything is None, never a zero.

Returns are those of daily closes (the last mark of each UTC day) when the marks span at least three days, else those
from mark to mark; both are annualised by 365 days of trading, crypto's calendar. Ratios by empyrical-reloaded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

DAYS_A_YEAR = 365.0
DAYS_MIN = 3
"""Marks that span fewer days are not resampled: two daily returns say less than the marks themselves."""


def equity_curve(marks: Sequence[tuple[datetime, float]]) -> pd.Series[float]:
    """Equity by time, ascending, one value per time (the last one given)."""
    index = pd.DatetimeIndex([at for at, _ in marks])
    curve = pd.Series([float(value) for _, value in marks], index=index, dtype="float64")
    return curve[~curve.index.duplicated(keep="last")].sort_index()


def drawdown(curve: pd.Series[float]) -> pd.Series[float]:
    """1 − equity ÷ highest equity so far, at each mark: positive below the peak, 0 at it."""
    return 1.0 - curve / curve.cummax()


def returns(curve: pd.Series[float]) -> tuple[pd.Series[float], float]:
    """(simple returns, periods a year): of daily closes over three days or more, else from mark to mark.

    Empty with fewer than two marks, or where an equity of zero leaves no return.
    """
    span_days = (curve.index[-1] - curve.index[0]).total_seconds() / 86_400 if len(curve) > 1 else 0.0
    if span_days >= DAYS_MIN:
        daily = curve.resample("1D").last().ffill()
        return _changes(daily), DAYS_A_YEAR
    if not span_days:
        return _changes(curve), DAYS_A_YEAR
    return _changes(curve), DAYS_A_YEAR * (len(curve) - 1) / span_days


def _changes(curve: pd.Series[float]) -> pd.Series[float]:
    return curve.pct_change().iloc[1:].replace([np.inf, -np.inf], np.nan).dropna()


def total_return(curve: pd.Series[float]) -> float | None:
    """Last equity ÷ first − 1; None with fewer than two marks or a first equity of zero."""
    if len(curve) < 2 or not curve.iloc[0]:
        return None
    return float(curve.iloc[-1] / curve.iloc[0] - 1.0)


def max_drawdown(curve: pd.Series[float]) -> float | None:
    """Largest 1 − equity ÷ peak, positive; None without a mark."""
    return float(drawdown(curve).max()) if len(curve) else None


def annualised_volatility(curve: pd.Series[float]) -> float | None:
    """Standard deviation of the returns (n − 1) × √(periods a year); None with fewer than two returns."""
    import empyrical  # noqa: PLC0415 - brings scipy: over a second that only a report needs

    changes, a_year = returns(curve)
    return _known(empyrical.annual_volatility(changes, annualization=a_year)) if len(changes) > 1 else None


def sharpe(curve: pd.Series[float]) -> float | None:
    """Mean return ÷ its standard deviation (n − 1) × √(periods a year), at a riskless rate of zero (Sharpe 1994).

    None with fewer than two returns, and where returns do not vary.
    """
    import empyrical  # noqa: PLC0415

    changes, a_year = returns(curve)
    return _known(empyrical.sharpe_ratio(changes, annualization=a_year)) if _varies(changes) else None


def sortino(curve: pd.Series[float]) -> float | None:
    """Mean return a year ÷ downside deviation a year, against a required return of zero (Sortino and Price 1994).

    The downside deviation is the root of the mean of the squared negative returns over all returns. None with fewer than
    two returns, and without a negative one: the ratio has no bound then.
    """
    import empyrical  # noqa: PLC0415

    changes, a_year = returns(curve)
    if len(changes) < 2 or not (changes < 0).any():
        return None
    return _known(empyrical.sortino_ratio(changes, annualization=a_year))


def value_at_risk(curve: pd.Series[float], tail: float = 0.05) -> float | None:
    """Historical value at risk: the loss that the worst `tail` of the returns reach or exceed, positive for a loss.

    The empirical quantile, linear between returns; None with fewer than 1 ÷ `tail` returns.
    """
    import empyrical  # noqa: PLC0415

    changes, _ = returns(curve)
    return None if len(changes) < 1 / tail else _known(-empyrical.value_at_risk(changes, cutoff=tail))


def expected_shortfall(curve: pd.Series[float], tail: float = 0.05) -> float | None:
    """Mean loss of the worst `tail` of the returns, positive for a loss; None with fewer than 1 ÷ `tail` returns."""
    import empyrical  # noqa: PLC0415

    changes, _ = returns(curve)
    return None if len(changes) < 1 / tail else _known(-empyrical.conditional_value_at_risk(changes, cutoff=tail))


def _varies(changes: pd.Series[float]) -> bool:
    return len(changes) > 1 and float(changes.std()) > 1e-15


def _known(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


# ---- closed trades: one result per sale, proceeds minus the cost given up


def win_rate(results: Sequence[float]) -> float | None:
    """Share of the trades that won; a trade at zero did not. None without a trade."""
    return sum(1 for result in results if result > 0) / len(results) if results else None


def profit_factor(results: Sequence[float]) -> float | None:
    """Sum of what winners won ÷ sum of what losers lost; None without a loser."""
    lost = -sum(result for result in results if result < 0)
    return sum(result for result in results if result > 0) / lost if lost else None


def average_win(results: Sequence[float]) -> float | None:
    """Mean result of the winners; None without one."""
    won = [result for result in results if result > 0]
    return sum(won) / len(won) if won else None


def average_loss(results: Sequence[float]) -> float | None:
    """Mean result of the losers, negative; None without one."""
    lost = [result for result in results if result < 0]
    return sum(lost) / len(lost) if lost else None


# ---- orders and fills


def success_rate(ended: int, failed: int) -> float | None:
    """Share of the ended orders that did not fail (rejected, abandoned, absent); None when none has ended."""
    return 1.0 - failed / ended if ended else None


def slippage(fills: Sequence[tuple[str, float, float, float]]) -> float | None:
    """Mean slippage against arrival, weighted by notional: of (side, quantity, fill price, arrival mid).

    Per fill it is (price − arrival) ÷ arrival for a buy and the negative for a sell: a ratio, positive is worse. None
    without a fill.
    """
    weight = sum(quantity * price for _, quantity, price, _ in fills)
    if not weight:
        return None
    worse = sum(
        quantity * price * (price / arrival - 1.0) * (1.0 if side == "buy" else -1.0) for side, quantity, price, arrival in fills
    )
    return worse / weight


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` (0 … 1) of the values do not exceed, linear between them; None without a value."""
    return float(np.quantile(np.asarray(values, dtype=np.float64), share)) if values else None
