"""Every statistic against a computation by hand; what too little data and holes do to each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading import performance
from trading.performance import equity_curve, slippage_of

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
NAN = float("nan")
EQUITY = st.floats(1, 1_000_000)


def daily(*equity: float) -> pd.Series[float]:
    """One mark a day, at midnight."""
    return equity_curve([(MONDAY + timedelta(days=day), value) for day, value in enumerate(equity)])


def hourly(*equity: float) -> pd.Series[float]:
    return equity_curve([(MONDAY + timedelta(hours=hour), value) for hour, value in enumerate(equity)])


def grown(changes: Sequence[float]) -> pd.Series[float]:
    """Daily marks whose returns are `changes`."""
    equity = [1000.0]
    for change in changes:
        equity.append(equity[-1] * (1 + change))
    return daily(*equity)


# Returns of +10 %, −10 %, +5 %, each from one day to the next. Mean 0.05/3 = 0.016667; deviations 0.083333, −0.116667,
# 0.033333, squares 0.0069444 + 0.0136111 + 0.0011111 = 0.0216667, over n − 1 = 2 is 0.0108333, root 0.1040833.
# Downside: √(0.1² ÷ 3) = 0.0577350.
WAVE = (100.0, 110.0, 99.0, 103.95)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("total_return", 0.0395),
        ("max_drawdown", 0.1),
        ("annualised_volatility", 0.1040833 * math.sqrt(365)),
        ("sharpe", 0.0166667 / 0.1040833 * math.sqrt(365)),
        ("sortino", 0.0166667 / 0.0577350 * math.sqrt(365)),
    ],
)
def test_a_statistic_of_four_daily_closes_is_what_the_hand_computes(name: str, expected: float) -> None:
    assert getattr(performance, name)(daily(*WAVE)) == pytest.approx(expected, rel=1e-5)


def test_less_than_three_days_are_judged_from_mark_to_mark_and_annualised_by_their_spacing() -> None:
    hours_a_year = 365 * 24
    assert performance.annualised_volatility(hourly(*WAVE)) == pytest.approx(0.1040833 * math.sqrt(hours_a_year), rel=1e-5)
    assert performance.sharpe(hourly(*WAVE)) == pytest.approx(0.0166667 / 0.1040833 * math.sqrt(hours_a_year), rel=1e-5)


def test_three_days_and_more_are_judged_by_the_last_mark_of_each_utc_day() -> None:
    noise = [(MONDAY + timedelta(days=day, hours=hour), 1.0) for day in range(4) for hour in (3, 11)]
    closes = [(MONDAY + timedelta(days=day, hours=23), value) for day, value in enumerate(WAVE)]
    changes, a_year = performance.returns(equity_curve(noise + closes))
    assert a_year == 365
    assert changes.to_list() == pytest.approx([0.1, -0.1, 0.05])


def test_a_day_without_a_mark_closes_where_the_day_before_did() -> None:
    curve = equity_curve([(MONDAY, 100.0), (MONDAY + timedelta(days=2), 110.0), (MONDAY + timedelta(days=3), 99.0)])
    assert performance.returns(curve)[0].to_list() == pytest.approx([0.0, 0.1, -0.1])


def test_days_are_those_of_utc_whatever_zone_the_curve_is_in() -> None:
    curve = equity_curve([(MONDAY + timedelta(hours=8 * step), 100.0 + step) for step in range(13)])
    abroad = curve.tz_convert(timezone(timedelta(hours=9)))
    pd.testing.assert_series_equal(
        performance.returns(abroad)[0], performance.returns(curve)[0], check_freq=False, check_index_type=False
    )


# Twenty returns −1 %, −2 % ... −20 % in any order. The 5 % quantile lies at rank 0.95 of 19 steps: −20 % + 0.95 × 1 %.
LOSSES = [-rank / 100 for rank in (7, 3, 20, 1, 12, 5, 9, 18, 2, 16, 4, 11, 6, 8, 19, 10, 13, 15, 14, 17)]


def test_the_value_at_risk_is_the_loss_at_the_empirical_quantile() -> None:
    assert performance.value_at_risk(grown(LOSSES)) == pytest.approx(0.1905)


def test_the_expected_shortfall_is_the_mean_of_the_tail() -> None:
    assert performance.expected_shortfall(grown(LOSSES)) == pytest.approx(0.20)  # 1 + floor(19 × 0.05) = 1 return
    # Of 41 returns 1 + floor(40 × 0.05) = 3 count.
    assert performance.expected_shortfall(grown([*LOSSES, *[0.01] * 21])) == pytest.approx((0.20 + 0.19 + 0.18) / 3)


def test_nineteen_returns_have_no_five_percent_tail() -> None:
    assert performance.value_at_risk(grown(LOSSES[:19])) is None
    assert performance.expected_shortfall(grown(LOSSES[:19])) is None


CURVE_STATISTICS = ("total_return", "annualised_volatility", "sharpe", "sortino", "value_at_risk", "expected_shortfall")


@pytest.mark.parametrize("name", [*CURVE_STATISTICS, "max_drawdown"])
@pytest.mark.parametrize("equity", [(), (NAN,), (0.0, 0.0, 0.0)])
def test_no_marks_and_no_money_say_nothing(name: str, equity: tuple[float, ...]) -> None:
    assert getattr(performance, name)(daily(*equity)) is None


@pytest.mark.parametrize("name", CURVE_STATISTICS)
def test_one_mark_says_nothing_of_returns(name: str) -> None:
    assert getattr(performance, name)(daily(100.0)) is None


@pytest.mark.parametrize("name", ["annualised_volatility", "sharpe", "sortino"])
def test_one_return_has_no_deviation(name: str) -> None:
    assert getattr(performance, name)(hourly(100.0, 90.0)) is None


@pytest.mark.parametrize(
    ("name", "equity", "expected"),
    [
        ("max_drawdown", (100.0,), 0.0),  # known: it has not fallen
        ("max_drawdown", (100.0, 110.0, 120.0), 0.0),
        ("annualised_volatility", (100.0, 100.0, 100.0, 100.0), 0.0),  # known: it did not move
        ("sharpe", (100.0, 100.0, 100.0, 100.0), None),
        ("sharpe", (100.0, 200.0, 400.0, 800.0), None),  # the same return each day: no deviation to divide by
        ("sortino", (100.0, 110.0, 111.0, 130.0), None),  # no loss: no bound
    ],
)
def test_a_quiet_curve(name: str, equity: tuple[float, ...], expected: float | None) -> None:
    assert getattr(performance, name)(daily(*equity)) == expected


@pytest.mark.parametrize("name", [*CURVE_STATISTICS, "max_drawdown"])
@pytest.mark.parametrize("spacing", [timedelta(days=1), timedelta(hours=1)])
@pytest.mark.parametrize("place", [0, 5, 23])
def test_a_mark_that_is_nan_counts_as_not_there(name: str, spacing: timedelta, place: int) -> None:
    known = [(MONDAY + spacing * step, value) for step, value in enumerate(grown([*LOSSES, 0.03, 0.01]))]
    holed = [*known[:place], (MONDAY + spacing * (place - 0.5), NAN), *known[place:]]
    raw = pd.Series([value for _, value in holed], index=pd.DatetimeIndex([at for at, _ in holed]))
    statistic = getattr(performance, name)
    assert statistic(equity_curve(holed)) == statistic(raw) == statistic(equity_curve(known))
    assert statistic(raw) is not None


def test_a_curve_is_ascending_and_the_last_word_on_a_time_counts() -> None:
    late, early = MONDAY + timedelta(hours=1), MONDAY
    curve = equity_curve([(late, 5.0), (early, 1.0), (late, 7.0)])
    assert curve.to_dict() == {pd.Timestamp(early): 1.0, pd.Timestamp(late): 7.0}


def test_a_time_without_a_zone_is_an_error() -> None:
    with pytest.raises(ValueError, match="2026-11-23 00:00:00 without a zone"):
        equity_curve([(MONDAY.replace(tzinfo=None), 1.0)])


def test_drawdown_is_the_share_below_the_peak_so_far() -> None:
    assert performance.drawdown(daily(100, 120, 90, 150, 75)).to_list() == pytest.approx([0, 0, 0.25, 0, 0.5])
    assert performance.max_drawdown(daily(100, 120, 90, 150, 75)) == pytest.approx(0.5)


def test_exposure_is_the_invested_share_and_unknown_without_equity() -> None:
    found = performance.exposure(daily(100, 200, 0, NAN), daily(100, 50, 0, 1)).to_list()
    assert found[:2] == pytest.approx([0, 0.75])
    assert all(math.isnan(share) for share in found[2:])


# ---- closed trades


@pytest.mark.parametrize(
    ("results", "win_rate", "profit_factor", "average_win", "average_loss"),
    [
        ((), None, None, None, None),
        ((10.0, -5.0, 30.0, -15.0), 0.5, 2.0, 20.0, -10.0),
        ((10.0, 0.0), 0.5, None, 10.0, None),  # at zero nobody won, and nobody lost
        ((-4.0, -2.0), 0.0, 0.0, None, -3.0),
    ],
)
def test_closed_trades(
    results: tuple[float, ...],
    win_rate: float | None,
    profit_factor: float | None,
    average_win: float | None,
    average_loss: float | None,
) -> None:
    assert performance.win_rate(results) == win_rate
    assert performance.profit_factor(results) == profit_factor
    assert performance.average_win(results) == average_win
    assert performance.average_loss(results) == average_loss


# ---- orders and fills


@pytest.mark.parametrize(("ended", "failed", "rate"), [(0, 0, None), (8, 2, 0.75), (3, 3, 0.0), (5, 0, 1.0)])
def test_order_success(ended: int, failed: int, rate: float | None) -> None:
    assert performance.success_rate(ended, failed) == rate


@pytest.mark.parametrize(
    ("side", "price", "expected"), [("buy", 101.0, 0.01), ("buy", 99.0, -0.01), ("sell", 99.0, 0.01), ("sell", 102.0, -0.02)]
)
def test_slippage_is_positive_when_the_price_is_worse_than_at_arrival(side: str, price: float, expected: float) -> None:
    assert slippage_of(side, price, 100.0) == pytest.approx(expected)


def test_the_mean_slippage_is_weighted_by_notional() -> None:
    fills = [("buy", 3.0, 101.0, 100.0), ("sell", 1.0, 101.0, 100.0)]  # notionals 303 and 101: +1 % × ¾ − 1 % × ¼
    assert performance.slippage(fills) == pytest.approx(0.005)
    assert performance.slippage([]) is None


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ((4.0, 1.0, 2.0, 3.0), 0.5, 2.5),
        ((4.0, 1.0, 2.0, 3.0), 0.95, 3.85),  # 0.95 of the three steps from 1 to 4
        ((4.0, 1.0), 1.0, 4.0),
        ((7.0,), 0.95, 7.0),
        ((NAN, 1.0, NAN, 3.0), 0.5, 2.0),
        ((NAN,), 0.5, None),
        ((), 0.5, None),
    ],
)
def test_a_percentile_lies_between_the_values(values: tuple[float, ...], share: float, expected: float | None) -> None:
    assert performance.percentile(values, share) == (None if expected is None else pytest.approx(expected))


# ---- whatever the curve


@given(st.lists(EQUITY, max_size=40), st.sampled_from([daily, hourly]))
def test_every_statistic_is_unknown_or_finite_and_in_its_range(equity: list[float], marks: object) -> None:
    curve = marks(*equity)  # type: ignore[operator]
    found = {name: getattr(performance, name)(curve) for name in (*CURVE_STATISTICS, "max_drawdown")}
    assert all(value is None or math.isfinite(value) for value in found.values())
    assert found["max_drawdown"] is None or 0 <= found["max_drawdown"] < 1
    assert found["annualised_volatility"] is None or found["annualised_volatility"] >= 0
    if found["value_at_risk"] is not None and found["expected_shortfall"] is not None:
        assert found["expected_shortfall"] >= found["value_at_risk"] - 1e-9


@given(st.lists(EQUITY, min_size=2, max_size=25), st.floats(0.5, 2))
def test_no_statistic_depends_on_the_size_of_the_account(equity: list[float], factor: float) -> None:
    for name in (*CURVE_STATISTICS[:2], "value_at_risk", "max_drawdown"):
        statistic = getattr(performance, name)
        before, after = statistic(daily(*equity)), statistic(daily(*equity) * factor)
        assert after == (None if before is None else pytest.approx(before, rel=1e-6, abs=1e-9))
