"""Sizes that shrink: by how much, never above the profile, and never by selling."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.plans import load_plan
from tests.builders.plans import flat_candles, market, plan, portfolio, position
from trading.allocation import Proposal, allocate
from trading.market import Market
from trading.money import text
from trading.portfolio import Portfolio
from trading.risk.scaling import drawdown_factor, volatility_factor

ROOMY = {"max_order_size_usd": "1000", "max_daily_volume_usd": "100000", "max_position_size": "0.5"}
D = Decimal


def stormy(per_candle: float) -> Market:
    """BTC-USD goes up and down by so much with every hourly candle: annualised, times √8760 = 93.6."""
    steps = np.tile([per_candle, -per_candle], 100)
    close = 50000 * np.exp(np.cumsum(steps))[:, np.newaxis]
    return market({"BTC-USD": "50000"}, candles=replace(flat_candles({"BTC-USD": "50000"}), close=close))


def proposed(there: Market, held: Portfolio | None = None, **scaling: Any) -> Proposal:
    made = plan(limits=ROOMY, controls={"max_hourly_share": 1}, scaling=scaling)
    return allocate(made, {"BTC-USD": 1.0}, there, held or portfolio())


@pytest.mark.parametrize(
    ("target", "realised", "factor"),
    [
        (None, D(9), D(1)), (None, None, D(1)), (D("0.3"), D(0), D(1)), (D("0.3"), D("0.3"), D(1)),
        (D("0.3"), D("0.6"), D("0.5")), (D("0.3"), D(3), D("0.1")), (D("0.3"), None, D(0)),
    ],
)  # fmt: skip
def test_size_falls_in_proportion_to_volatility_above_its_target(
    target: Decimal | None, realised: Decimal | None, factor: Decimal
) -> None:
    assert volatility_factor(target, realised) == factor


@pytest.mark.parametrize(
    ("drawdown", "factor"),
    [("0", "1"), ("0.05", "1"), ("0.06", "0.85"), ("0.08", "0.55"), ("0.10", "0.25"), ("0.5", "0.25"), (None, "0")],
)
def test_size_falls_in_a_line_with_the_drawdown(drawdown: str | None, factor: str) -> None:
    assert drawdown_factor(None if drawdown is None else D(drawdown), D("0.05"), D("0.10"), D("0.25")) == D(factor)


@given(st.decimals(0, 1, places=4), st.decimals(0, 1, places=4), st.decimals(0, 1, places=4), st.decimals("0.001", 9, places=3))
def test_no_factor_is_above_one_and_worse_is_never_larger(
    drawdown: Decimal, more: Decimal, begins: Decimal, realised: Decimal
) -> None:
    ends = min(begins + D("0.1"), D(1))
    less = [drawdown_factor(found, begins, ends, D("0.25")) for found in (drawdown, min(drawdown + more, D(1)))]
    assert 1 >= less[0] >= less[1] >= 0
    both = [volatility_factor(D("0.3"), found) for found in (realised, realised + more)]
    assert 1 >= both[0] >= both[1] > 0


def test_an_entry_in_a_storm_is_scaled_to_the_target_and_says_so() -> None:
    calm, storm = proposed(stormy(0.001)), proposed(stormy(0.02), volatility_target="0.2")
    realised = 0.2 * 0.02 * np.sqrt(168 / 167) * np.sqrt(8760)
    assert [text(request.quantity) for request in calm.requests] == ["0.004"]
    assert float(storm.requests[0].quantity) == pytest.approx(0.004 * 0.2 / realised, rel=1e-3)
    assert [str(clip) for clip in storm.clips] == [f"BTC-USD: volatility_scale: observed {realised:.4f}, limit target 0.2"]


def test_an_entry_under_the_peak_is_scaled_by_the_drawdown() -> None:
    under = proposed(stormy(0.001), portfolio("920", peak_equity=Decimal(1000)))
    assert [text(request.quantity) for request in under.requests] == [text(D("0.2") * D("0.55") * 920 / 50000)]
    assert [str(clip) for clip in under.clips] == ["BTC-USD: drawdown_scale: observed 0.08, limit full size up to 0.05"]


def test_neither_sells_what_is_held_above_the_smaller_size() -> None:
    held = portfolio("800", position(quantity="0.003"), peak_equity=Decimal(1056))
    assert proposed(stormy(0.02), held, volatility_target="0.01").requests == ()


def test_a_volatility_that_is_not_known_makes_no_entry() -> None:
    young = market({"BTC-USD": "50000"}, candles=flat_candles({"BTC-USD": "50000"}, rows=10))
    assert proposed(young, volatility_target="0.3").requests == ()
    assert len(proposed(young).requests) == 1


def test_the_default_plan_shrinks_before_its_profile_stops_it() -> None:
    shipped = load_plan("default", {})
    assert shipped.scaling.volatility_target is not None
    assert shipped.scaling.volatility_target < shipped.limits.max_portfolio_volatility
