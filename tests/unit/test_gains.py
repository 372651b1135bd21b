"""Gains by lot: fees are shared to the last unit, and assets are never added up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trading.gains import Gain, gain_sums, with_shared_fees
from trading.money import ZERO

BOUGHT = datetime(2026, 1, 1, tzinfo=UTC)


def part(quantity: str = "1", **changes: Any) -> Gain:
    fields: dict[str, Any] = {
        "book": "paper:main", "plan": "default", "product": "BTC-USD", "source": "sale", "lot": "lot", "acquired": BOUGHT,
        "disposed": BOUGHT + timedelta(days=400, hours=3), "quantity": Decimal(quantity), "proceeds": Decimal(120),
        "cost": Decimal(100), "fees": Decimal(1), "basis_known": True,
    }  # fmt: skip
    return Gain(**fields | changes)


def test_a_gain_is_before_fees_and_held_in_whole_days() -> None:
    assert (part().gain, part().net, part().held_days, part().asset) == (Decimal(20), Decimal(19), 400, "USD")


def test_the_fee_of_a_sale_is_shared_by_quantity() -> None:
    parts = with_shared_fees([part("1", fees=Decimal(4)), part("3", fees=Decimal(4)), part("1", source="another")])
    assert [one.fees for one in parts] == [Decimal(1), Decimal(3), Decimal(1)]


@given(
    st.lists(st.decimals("0.00000001", "1000", places=8), min_size=1, max_size=7),
    st.decimals("-5", "100", places=18),
)
def test_shares_of_a_fee_are_the_fee(quantities: list[Decimal], fee: Decimal) -> None:
    parts = with_shared_fees([part(str(quantity), fees=fee) for quantity in quantities])
    assert sum((one.fees for one in parts), ZERO) == fee


def test_sums_are_by_plan_and_asset() -> None:
    sums = gain_sums([part(), part(), part(product="ETH-EUR"), part(plan="other")])
    assert [(one.plan, one.asset, one.parts, one.gain) for one in sums] == [
        ("default", "EUR", 1, Decimal(20)),
        ("default", "USD", 2, Decimal(40)),
        ("other", "USD", 1, Decimal(20)),
    ]
