"""Statistics of a plan's results: opinions, so they are floats. Too little to say anything is None, never a zero.

Returns are those of daily closes (the last mark of each UTC day) when the marks span at least three days, else those
from mark to mark; both are annualised by 365 days of trading, crypto's calendar. Ratios by empyrical-reloaded.

A curve is a series of equity by time (UTC, ascending), as `equity_curve` makes it. A mark that is NaN says nothing and
counts as not there; no figure below is ever NaN or infinite.
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
    """Equity by time (UTC), ascending, one value per time (the last one given), without the marks that are NaN.

    Raises ValueError for a time without a time zone: nobody can say on which day it lies.
    """
    if naive := [at for at, _ in marks if at.tzinfo is None]:
        raise ValueError(f"equity curve: found time {naive[0]} without a zone, expected UTC")
    index = pd.DatetimeIndex(pd.to_datetime([at for at, _ in marks], utc=True))
    curve = pd.Series([float(value) for _, value in marks], index=index, dtype="float64").dropna()
    return curve[~curve.index.duplicated(keep="last")].sort_index()


def drawdown(curve: pd.Series[float]) -> pd.Series[float]:
    """1 − equity ÷ highest equity so far, at each mark: a ratio, positive below the peak, 0 at it.

    NaN at a mark that is NaN, and until equity was above zero for the first time. 100, 120, 90 gives 0, 0, 0.25.
    """
    return 1.0 - curve / curve.cummax().where(lambda peak: peak > 0)


def exposure(equity: pd.Series[float], cash: pd.Series[float]) -> pd.Series[float]:
    """1 − cash ÷ equity at each mark: the invested share of equity; NaN where one is not known or equity is not positive."""
    return 1.0 - cash / equity.where(equity > 0)


def returns(curve: pd.Series[float]) -> tuple[pd.Series[float], float]:
    """(simple returns, periods a year): of daily closes over three days or more, else from mark to mark.

    A day's close is its last mark; a day without one closes where the day before did; the first close is the base, so
    what happened before it on the first day is not in here. Mark to mark, a year has as many periods as marks at their
    mean spacing. Empty with fewer than two marks; from an equity of zero or less there is no return.
    """
    curve = curve.dropna()
    span_days = (curve.index[-1] - curve.index[0]).total_seconds() / 86_400 if len(curve) > 1 else 0.0
    if span_days >= DAYS_MIN:
        daily = curve.tz_convert("UTC").resample("1D").last().ffill()
        return _changes(daily), DAYS_A_YEAR
    if not span_days:
        return _changes(curve), DAYS_A_YEAR
    return _changes(curve), DAYS_A_YEAR * (len(curve) - 1) / span_days


def _changes(curve: pd.Series[float]) -> pd.Series[float]:
    before = curve.shift().where(lambda equity: equity > 0)
    return (curve / before - 1.0).iloc[1:].dropna()


def total_return(curve: pd.Series[float]) -> float | None:
    """Last equity ÷ first − 1, not annualised; None with fewer than two marks or a first equity of zero or less."""
    curve = curve.dropna()
    if len(curve) < 2 or curve.iloc[0] <= 0:
        return None
    return float(curve.iloc[-1] / curve.iloc[0] - 1.0)


def max_drawdown(curve: pd.Series[float]) -> float | None:
    """Largest `drawdown` over all marks (not only daily closes): a positive ratio; None without a mark above zero."""
    return _known(drawdown(curve).max()) if len(curve) else None


def annualised_volatility(curve: pd.Series[float]) -> float | None:
    """Standard deviation of the returns (n − 1) × √(periods a year); None with fewer than two returns."""
    import empyrical  # noqa: PLC0415 - brings scipy: a second that only a report needs

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

    Per return: of one day, or of one mark to the next (see `returns`); not annualised. The negative of the empirical
    quantile, linear between returns (numpy's default); None with fewer than 1 ÷ `tail` returns.
    """
    import empyrical  # noqa: PLC0415

    changes, _ = returns(curve)
    return None if len(changes) < 1 / tail else _known(-empyrical.value_at_risk(changes, cutoff=tail))


def expected_shortfall(curve: pd.Series[float], tail: float = 0.05) -> float | None:
    """Mean loss of the worst `tail` of the returns, positive for a loss (conditional value at risk, historical).

    Of n returns the 1 + floor((n − 1) × `tail`) lowest count: never none. None with fewer than 1 ÷ `tail` returns.
    """
    import empyrical  # noqa: PLC0415

    changes, _ = returns(curve)
    return None if len(changes) < 1 / tail else _known(-empyrical.conditional_value_at_risk(changes, cutoff=tail))


def _varies(changes: pd.Series[float]) -> bool:
    return len(changes) > 1 and float(changes.std()) > 1e-15


def _known(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


# ---- closed trades: one result per sale in quote, proceeds minus the cost given up, net of what fees the caller counts


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
    """1 − failed ÷ ended: the share of ended orders that did not fail; None when none has ended.

    What counts as failed is the caller's: a cancelled order that traded nothing is no failure of the pipeline.
    """
    return 1.0 - failed / ended if ended else None


def slippage_of(side: str, price: float, arrival: float) -> float:
    """(price − arrival) ÷ arrival of one fill for a `buy`, its negative for a `sell`: a ratio, positive is worse for us.

    The arrival price is the mid at the decision (implementation shortfall, Perold 1988). A buy at 101 against 100 is 0.01.
    """
    return (price / arrival - 1.0) * (1.0 if side == "buy" else -1.0)


def slippage(fills: Sequence[tuple[str, float, float, float]]) -> float | None:
    """Mean `slippage_of` weighted by notional, of (side, quantity, fill price, arrival mid); None without a fill."""
    weight = sum(quantity * price for _, quantity, price, _ in fills)
    worse = sum(quantity * price * slippage_of(side, price, arrival) for side, quantity, price, arrival in fills)
    return worse / weight if weight else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` (0 … 1) of the values do not exceed, linear between them, in their unit; None without a value.

    What a latency in seconds is told by: 0.5 is the median. NaN values are left out. Of 1, 2, 3, 4 the median is 2.5.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(np.quantile(known, share)) if known.size else None
