"""No key of a plan takes what is no bound: nothing, no number, less than nothing, more than anybody means, or another type."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tests.builders.plans import plan
from trading.errors import ConfigurationError
from trading.plan import Plan, check, worded

HUGE = Decimal(10) ** 30
WRONG: list[Any] = [None, Decimal("NaN"), Decimal("Infinity"), Decimal(-2), HUGE, "many", True, [1], {"a": 1}]
TAKES = {
    ("scaling.volatility_target", "None"),  # no target: entries are not scaled by volatility
    ("controls.book_required", "True"), ("controls.second_source_required", "True"),
}  # fmt: skip
"""What is sensible there all the same."""
WORDS = {"orders.type", "ramp.steps"}
"""No numbers: `test_plans` has them."""


def keys() -> Iterator[tuple[str, str]]:
    """(part, key) of every bound; the part is empty for the plan's own."""
    for name, field in Plan.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from ((name, key) for key in model.model_fields if name != "strategy" and f"{name}.{key}" not in WORDS)
    yield from (("", key) for key in ("capital", "staleness_intervals", "late_exit_intervals"))


KEYS = sorted(keys())


def with_value(part: str, key: str, value: object) -> Plan:
    return plan(**({part: {key: value}} if part else {key: value}))


def test_the_census_of_keys_is_no_empty_one() -> None:
    assert len(KEYS) > 65


@pytest.mark.parametrize(("part", "key"), KEYS)
def test_a_plan_with_such_a_value_is_none(part: str, key: str) -> None:
    name = f"{part}.{key}".lstrip(".")
    for wrong in WRONG:
        if (name, str(wrong)) in TAKES:
            with_value(part, key, wrong)
            continue
        with pytest.raises(ValidationError) as refused:
            with_value(part, key, wrong)
        assert key in [where.split(".")[-1] for where, _ in worded(refused.value, Plan)], (name, wrong)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # that the value is wrong is the point
@pytest.mark.parametrize(("part", "key"), KEYS)
def test_a_copy_with_such_a_value_is_found_before_it_trades(part: str, key: str) -> None:
    """A copy with changes asks nobody whether they are any good."""
    made, name = plan(), f"{part}.{key}".lstrip(".")
    check(made)
    for wrong in WRONG:
        if (name, str(wrong)) in TAKES:
            continue
        inner = getattr(made, part).model_copy(update={key: wrong}) if part else wrong
        with pytest.raises(ConfigurationError, match=rf"plan default: {name}: found "):
            check(made.model_copy(update={part or key: inner}))


@pytest.mark.parametrize(
    ("part", "key", "most"),
    [
        ("limits", "max_order_size_usd", 10**12),
        ("limits", "max_portfolio_volatility", 1000),
        ("limits", "max_open_positions", 10**6),
        ("checks", "quote_age_seconds", 86_400),
        ("controls", "max_orders_per_day", 10**6),
        ("breaker", "max_doubt_seconds", 86_400),
        ("breaker", "test_period_minutes", 525_600),
        ("ramp", "days", 3650),
        ("", "staleness_intervals", 1000),
    ],
)
def test_a_number_ends_at_its_bound(part: str, key: str, most: int) -> None:
    with_value(part, key, most)
    with pytest.raises(ValidationError, match="less than or equal to"):
        with_value(part, key, most + 1)
