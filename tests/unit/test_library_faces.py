"""The calls that people already write, as they write them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.builders.plans import NOON
from trading.errors import ConfigurationError
from trading.money import dec
from trading.risk import BreakerState, CircuitBreaker, CircuitBreakerConfig, NotResumed, OrderValidator


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


QUIET: dict[str, Any] = {
    "portfolio_value": 100_000,
    "daily_pnl": 0,
    "open_positions": 2,
    "largest_position_pct": 0.20,
    "portfolio_volatility": 0.25,
}
ORDER: dict[str, Any] = {
    "symbol": "BTC-USD",
    "side": "buy",
    "quantity": 0.01,
    "order_type": "market",
    "price": None,
    "current_price": 50000.0,
    "portfolio_value": 10000.0,
    "current_position_size": 0.0,
    "open_positions": 2,
    "available_balance": 5000.0,
}


def config(**changes: Any) -> CircuitBreakerConfig:
    return CircuitBreakerConfig(
        max_daily_loss_pct=0.05,
        max_drawdown_pct=0.10,
        max_open_positions=5,
        max_portfolio_volatility=0.50,
        max_consecutive_errors=5,
        **changes,
    )


def test_a_loss_of_six_percent_opens_the_breaker() -> None:
    breaker = CircuitBreaker(config())
    may_trade = breaker.check_and_update(
        portfolio_value=100000,
        daily_pnl=-6000,
        open_positions=2,
        largest_position_pct=0.20,
        portfolio_volatility=0.25,
    )
    assert may_trade is False
    assert breaker.state == "open"
    (violation,) = breaker.get_violation_history()
    assert (violation.code, violation.observed, violation.limit) == ("daily_loss", dec("0.06"), dec("0.05"))


@pytest.mark.parametrize(
    ("trips", "just_below"),
    [
        ({"daily_pnl": -5000}, {"daily_pnl": -4999.99}),
        ({"open_positions": 6}, {"open_positions": 5}),
        ({"largest_position_pct": 0.36}, {"largest_position_pct": 0.35}),
        ({"portfolio_volatility": "0.51"}, {"portfolio_volatility": dec("0.50")}),
    ],
)
def test_each_figure_trips_a_fresh_breaker(trips: dict[str, Any], just_below: dict[str, Any]) -> None:
    assert CircuitBreaker(config(), clock=Clock()).check_and_update(**QUIET | just_below)
    assert not CircuitBreaker(config(), clock=Clock()).check_and_update(**QUIET | trips)


def test_drawdown_is_taken_from_the_highest_value_seen() -> None:
    breaker = CircuitBreaker(config(), clock=Clock())
    assert breaker.check_and_update(portfolio_value=100_000)
    assert breaker.check_and_update(portfolio_value=90_001)
    assert not breaker.check_and_update(portfolio_value=90_000)


def test_only_what_was_given_is_judged() -> None:
    assert CircuitBreaker().check_and_update()
    assert CircuitBreaker().state is BreakerState.CLOSED


def test_five_errors_in_a_row_open_and_a_success_ends_the_run() -> None:
    breaker = CircuitBreaker(config(), clock=Clock())
    for _ in range(4):
        breaker.record_error()
    breaker.record_success()
    for _ in range(4):
        breaker.record_error()
    assert breaker.check_and_update(**QUIET)
    breaker.record_error()
    assert not breaker.check_and_update(**QUIET)
    assert {entry.code for entry in breaker.get_violation_history()} == {"consecutive_errors", "error_rate"}


def test_a_person_leads_out_through_the_test_period() -> None:
    clock = Clock()
    breaker = CircuitBreaker(config(cool_down_minutes=30, test_period_minutes=60), clock=clock)
    assert not breaker.check_and_update(**QUIET | {"daily_pnl": -6000})
    assert not breaker.check_and_update(**QUIET), "good figures alone close nothing"
    assert isinstance(breaker.resume("ada", "checked"), NotResumed)
    clock.now += timedelta(minutes=30)
    breaker.resume("ada", "checked")
    assert breaker.state == "half_open"
    assert breaker.check_and_update(**QUIET)
    clock.now += timedelta(minutes=60)
    assert breaker.check_and_update(**QUIET)
    assert breaker.state == "closed"


def test_a_violation_in_the_test_period_opens_again() -> None:
    clock = Clock()
    breaker = CircuitBreaker(config(cool_down_minutes=0), clock=clock)
    breaker.check_and_update(**QUIET | {"open_positions": 9})
    breaker.resume("ada", "checked")
    assert not breaker.check_and_update(**QUIET | {"open_positions": 9})
    assert breaker.state == "open"


def test_a_limit_that_is_none_is_reported_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"CircuitBreakerConfig.max_daily_loss: found 5"):
        CircuitBreaker(CircuitBreakerConfig(max_daily_loss_pct=5))


def test_an_order_within_all_limits_is_allowed() -> None:
    validator = OrderValidator(max_order_size_usd=1000.0, max_position_size_pct=0.30, max_open_positions=5)
    response = validator.validate_order(
        symbol="BTC-USD",
        side="buy",
        quantity=0.01,
        order_type="market",
        price=None,
        current_price=50000.0,
        portfolio_value=10000.0,
        current_position_size=0.0,
        open_positions=2,
        available_balance=5000.0,
    )
    assert response.allowed is True
    assert response.messages == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": 0.0201}, "order_size_max"),
        ({"current_position_size": 0.0501}, "position_size"),
        ({"open_positions": 5}, "open_positions"),
        ({"available_balance": 499.99}, "balance"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": -1}, "quantity"),
        ({"order_type": "limit", "price": 40000}, "price_band"),
        ({"order_type": "limit"}, "terms"),
        ({"side": "sell", "current_position_size": 0.009}, "holding"),
        ({"current_price": 0}, "price_known"),
        ({"portfolio_value": 0}, "equity_known"),
        ({"daily_volume": 1501}, "daily_volume"),
        ({"total_exposure": 9501}, "leverage"),
        ({"quantity": 0.0001}, "order_size_min"),
    ],
)
def test_an_order_over_a_limit_names_it(changes: dict[str, Any], code: str) -> None:
    validator = OrderValidator(max_order_size_usd=1000, max_daily_volume_usd=2000, min_order_size_usd=10)
    response = validator.validate_order(**ORDER | changes)
    assert not response.allowed
    assert any(message.startswith(f"{code}: ") for message in response.messages), response.messages


def test_every_problem_is_named_at_once() -> None:
    response = OrderValidator().validate_order(**ORDER | {"quantity": 0.2, "open_positions": 5})
    assert [message.partition(":")[0] for message in response.messages] == [
        "order_size_max",
        "position_size",
        "open_positions",
        "balance",
    ]
    assert "observed 10000, limit 1000" in response.messages[0]


def test_a_sale_is_not_held_up_by_limits_on_entries() -> None:
    response = OrderValidator().validate_order(
        **ORDER | {"side": "SELL", "current_position_size": 0.01, "open_positions": 9, "available_balance": 0}
    )
    assert response.allowed


def test_checks_without_their_inputs_are_not_run() -> None:
    response = OrderValidator().validate_order("BTC-USD", "buy", "0.01")
    assert response.allowed
    assert [outcome.code for outcome in response.outcomes] == ["quantity", "terms", "holding"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"side": "hold"}, "side: found 'hold', expected one of buy, sell"),
        ({"order_type": "twap"}, "order_type: found 'twap', expected one of market"),
        ({"quantity": "many"}, "quantity: found 'many', expected a number"),
        ({"current_price": float("nan")}, "current_price: found nan, expected a finite number"),
    ],
)
def test_what_is_no_order_is_an_error(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        OrderValidator().validate_order(**ORDER | changes)
