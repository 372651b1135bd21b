"""What an order cost, on numbers that were worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from trading.costs import Costs, OrderCosts, Traded, costs_of, spelled, summed
from trading.errors import ConfigurationError
from trading.orders import Side

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HALF_FILLED = Traded(
    side=Side.BUY, quantity=Decimal(2), decision_price=Decimal(100), arrival_mid=Decimal(101), half_spread=Decimal("0.5"),
    filled=Decimal(1), paid=Decimal(102), fees=Decimal("0.1"), later_price=Decimal(105),
)  # fmt: skip


def amounts(order: Traded) -> tuple[str, ...]:
    found = spelled(costs_of(order))
    return tuple(str(found[name]) for name in ("delay", "spread", "impact", "fees", "opportunity", "shortfall"))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, ("1", "0.5", "0.5", "0.1", "5", "7.1")),
        ({"side": Side.SELL}, ("-1", "0.5", "-1.5", "0.1", "-5", "-6.9")),
        ({"paid": Decimal("100.5")}, ("1", "0.5", "-1.0", "0.1", "5", "5.6")),
        ({"filled": Decimal(0), "paid": Decimal(0), "fees": Decimal(0)}, ("0", "0.0", "0.0", "0", "10", "10.0")),
        ({"quantity": Decimal(1), "later_price": None}, ("1", "0.5", "0.5", "0.1", "0", "2.1")),
        ({"half_spread": Decimal(0)}, ("1", "0", "1", "0.1", "5", "7.1")),
    ],
    ids=["half filled", "a sale", "a maker", "never filled", "filled whole", "no quote kept"],
)
def test_each_part_is_told_apart(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    assert amounts(replace(HALF_FILLED, **changes)) == parts


def test_what_was_missed_has_no_cost_before_there_is_a_price() -> None:
    assert costs_of(replace(HALF_FILLED, later_price=None)) is None


def test_basis_points_are_of_what_the_decision_was_worth() -> None:
    found = costs_of(HALF_FILLED)
    assert found is not None
    assert found.basis_points() == 355
    assert Costs().basis_points() is None


def row(**changes: Any) -> OrderCosts:
    fields: dict[str, Any] = {
        "client_order_id": UUID(int=1), "book": "paper:main", "plan": "default", "product": "BTC-USD", "side": "buy",
        "type": "market", "state": "filled", "decided_at": NOON, "quantity": Decimal(2), "filled": Decimal(1),
        "decision_price": Decimal(100), "arrival_mid": Decimal(101), "average_price": Decimal(102),
        "costs": costs_of(HALF_FILLED),
    }  # fmt: skip
    return OrderCosts(**fields | changes)


def test_sums_by_group_leave_out_what_is_not_known_and_say_so() -> None:
    rows = [row(), row(product="ETH-USD"), row(product="ETH-USD", costs=None)]
    found = summed(rows, "product")
    assert [(one.group, one.orders, one.unknown, str(one.costs.shortfall)) for one in found] == [
        ("BTC-USD", 1, 0, "7.1"),
        ("ETH-USD", 2, 1, "7.1"),
    ]


def test_hours_are_those_of_the_decision() -> None:
    assert [one.group for one in summed([row(), row(decided_at=NOON.replace(hour=3))], "hour")] == ["03", "12"]


def test_assets_are_never_added_up() -> None:
    assert [(one.group, one.asset) for one in summed([row(), row(product="ETH-EUR")])] == [("all", "EUR"), ("all", "USD")]


def test_an_unknown_grouping_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected one of product, side, type, hour"):
        summed([row()], "weather")
