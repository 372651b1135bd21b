"""The parts of a shortfall are the shortfall, to the last unit; and both sides of a trade are mirror images."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from trading.costs import PARTS, Traded, costs_of, shortfall
from trading.money import ZERO
from trading.orders import Side

prices = st.decimals("0.00000001", "1000000", places=8)
quantities = st.decimals("0.00000001", "1000000", places=8)


@st.composite
def orders(draw: st.DrawFn) -> Traded:
    fills = draw(st.lists(st.tuples(quantities, prices), max_size=4))
    filled = sum((quantity for quantity, _ in fills), ZERO)
    missed = draw(st.one_of(st.just(ZERO), quantities))
    assert isinstance(missed, Decimal)
    return Traded(
        side=draw(st.sampled_from(Side)), quantity=filled + missed or Decimal(1), decision_price=draw(prices),
        arrival_mid=draw(prices), half_spread=draw(st.decimals("0", "100", places=9)), filled=filled,
        paid=sum((quantity * price for quantity, price in fills), ZERO), fees=draw(st.decimals("-10", "1000", places=18)),
        later_price=draw(prices),
    )  # fmt: skip


@given(orders())
def test_the_parts_are_the_shortfall_exactly(order: Traded) -> None:
    costs = costs_of(order)
    assert costs is not None
    assert sum((getattr(costs, part) for part in PARTS), ZERO) == costs.shortfall == shortfall(order)


@given(orders())
def test_what_one_side_loses_by_the_price_the_other_wins(order: Traded) -> None:
    other = replace(order, side=Side.SELL if order.side is Side.BUY else Side.BUY)
    assert shortfall(order) - order.fees == -(shortfall(other) - order.fees)


@given(orders(), orders())
def test_costs_add_up_part_by_part(first: Traded, second: Traded) -> None:
    one, other = costs_of(first), costs_of(second)
    assert one is not None
    assert other is not None
    assert (one + other).shortfall == shortfall(first) + shortfall(second)
