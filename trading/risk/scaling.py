"""How large entries may be below the profile's limits: smaller in a storm, smaller the deeper the portfolio is under its peak.

Each factor lies between zero and one and multiplies the weight that an entry aims at. Neither ever lets more through than the
profile, and neither sells anything: what is held already is the strategy's and the breaker's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from trading.indicators import portfolio_volatility
from trading.market import Market
from trading.money import ONE, ZERO, dec, text
from trading.plan import Plan
from trading.portfolio import Portfolio


class Scale(NamedTuple):
    """One factor with what it comes from, in words."""

    code: str
    factor: Decimal
    observed: str
    limit: str


def volatility_factor(target: Decimal | None, realised: Decimal | None) -> Decimal:
    """min(1, target ÷ realised), both annualised: half the size at twice the volatility. 1 without a target.

    Zero where the volatility is not known: a size that cannot be judged is none. The scaling is that of volatility-managed
    portfolios (A. Moreira and T. Muir, Journal of Finance 72, 2017), capped at one: calm adds nothing.
    """
    if target is None:
        return ONE
    if realised is None:
        return ZERO
    return ONE if realised <= target else target / realised


def drawdown_factor(drawdown: Decimal | None, begins: Decimal, ends: Decimal, least: Decimal) -> Decimal:
    """1 up to a drawdown of `begins`, then falling in a straight line to `least` at `ends`, and `least` from there on.

    At begins 0.05, ends 0.10 and least 0.25 a drawdown of 0.08 gives 0.55. Zero where the drawdown is not known. The less is
    left above the floor, the less is risked: S. Grossman and Z. Zhou, Mathematical Finance 3, 1993; the line is our choice.
    """
    if drawdown is None:
        return ZERO
    if drawdown <= begins:
        return ONE
    if drawdown >= ends:
        return least
    return ONE - (ONE - least) * (drawdown - begins) / (ends - begins)


def scales(plan: Plan, market: Market, portfolio: Portfolio, wanted: Mapping[str, Decimal]) -> tuple[Scale, ...]:
    """The factors of a plan now. `wanted`: product -> share of equity that the signals ask for."""
    rules, ends = plan.scaling, plan.breaker.max_drawdown
    realised = _volatility(market, wanted) if rules.volatility_target is not None else None
    begins = rules.drawdown_begins * ends
    drawdown = _drawdown(portfolio, market)
    return (
        Scale(
            "volatility_scale",
            volatility_factor(rules.volatility_target, realised),
            _figure(realised),
            f"target {_figure(rules.volatility_target)}",
        ),
        Scale(
            "drawdown_scale",
            drawdown_factor(drawdown, begins, ends, rules.drawdown_least),
            _figure(drawdown),
            f"full size up to {_figure(begins)}",
        ),
    )


def _volatility(market: Market, wanted: Mapping[str, Decimal]) -> Decimal | None:
    """Annualised, of a portfolio with the wanted weights."""
    if any(weight and id_ not in market.candles.products for id_, weight in wanted.items()):
        return None
    found = portfolio_volatility(market.candles, [float(wanted.get(id_, ZERO)) for id_ in market.candles.products])
    return None if found is None else dec(found)


def _drawdown(portfolio: Portfolio, market: Market) -> Decimal | None:
    equity = portfolio.equity(market.quotes)
    if equity is None or equity <= ZERO:
        return None
    return ONE - equity / max(portfolio.peak_equity, equity)


def _figure(value: Decimal | None) -> str:
    return "unknown" if value is None else text(round(value, 4))
