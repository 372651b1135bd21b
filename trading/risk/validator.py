"""Order validation: each request is approved or refused, with one evaluation that holds the outcome of every check.

The validator runs on: an approval moves cash, volume, positions and exposure, so that two orders that fit one by one
but not together are not both approved. A refusal moves nothing. Anything that cannot be known refuses.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from trading.market import Market, Product, age
from trading.money import ONE, ZERO, dec, stamp, text
from trading.orders import Request, Side
from trading.plan import Plan, order_price
from trading.portfolio import Portfolio
from trading.risk.breaker import portfolio_risk
from trading.risk.checks import (
    ORDER_CHECKS,
    PRODUCT_CHECKS,
    SAYS,
    Finding,
    Guard,
    Lane,
    OrderCheck,
    ProductCheck,
    Proposed,
    Totals,
    Value,
)

_BOUND_BY = {
    "protective": frozenset({Guard.INTEGRITY}),
    "exit": frozenset({Guard.INTEGRITY, Guard.ORDER}),
    "entry": frozenset(Guard),
}


class Outcome(NamedTuple):
    """One check of one request."""

    code: str
    passed: bool
    observed: Value
    limit: Value

    @property
    def message(self) -> str:
        return f"{self.code}: {SAYS[self.code]}: observed {_shown(self.observed)}, limit {_shown(self.limit)}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "passed": self.passed,
            "observed": _stored(self.observed),
            "limit": _stored(self.limit),
        }


class Evaluation(NamedTuple):
    """Every check of one request: codes beside findings, the plan they were judged by and the market time."""

    plan_sha256: str
    at: datetime
    quote_at: datetime | None
    """Time of the quote that was judged by: the age of the data."""
    codes: tuple[str, ...]
    product_findings: tuple[Finding, ...]
    order_findings: tuple[Finding, ...]

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        findings = (*self.product_findings, *self.order_findings)
        return tuple(Outcome(code, *finding) for code, finding in zip(self.codes, findings, strict=True))

    @property
    def failures(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    def to_dict(self) -> dict[str, Any]:
        """For storage: JSON-able, numbers as text."""
        return {
            "plan_sha256": self.plan_sha256,
            "at": stamp(self.at),
            "quote_at": None if self.quote_at is None else stamp(self.quote_at),
            "checks": [outcome.to_dict() for outcome in self.outcomes],
        }


class Approved(NamedTuple):
    """The only thing that may become an order."""

    request: Request
    evaluation: Evaluation


class Refused(NamedTuple):
    request: Request
    evaluation: Evaluation

    @property
    def code(self) -> str:
        """The first check that refused."""
        return self.evaluation.failures[0].code

    @property
    def message(self) -> str:
        """Every refusal, with observed value and limit."""
        return "; ".join(outcome.message for outcome in self.evaluation.failures)


class _Tables(NamedTuple):
    """The checks that bind one kind of request."""

    product_checks: tuple[ProductCheck, ...]
    order_checks: tuple[OrderCheck, ...]
    codes: tuple[str, ...]


class _Ready(NamedTuple):
    """A lane whose product checks have been run for one kind of request."""

    lane: Lane
    product_findings: tuple[Finding, ...]
    all_passed: bool


def _tables(guards: frozenset[Guard]) -> _Tables:
    product = tuple(check for check in PRODUCT_CHECKS if check.guard in guards)
    order = tuple(check for check in ORDER_CHECKS if check.guard in guards)
    return _Tables(product, order, tuple(check.code for check in (*product, *order)))


_TABLES = {kind: _tables(guards) for kind, guards in _BOUND_BY.items()}
