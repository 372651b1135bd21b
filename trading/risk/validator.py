"""Order validation: each request is approved or refused, with one evaluation that holds the outcome of every check.

The validator runs on: an approval moves cash, volume, positions and exposure, so that two orders that fit one by one
but not together are not both approved. A refusal moves nothing. Anything that cannot be known refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from trading.market import Market
from trading.money import ZERO, stamp, text
from trading.orders import Request, Side
from trading.plan import Plan, order_price
from trading.portfolio import Portfolio
from trading.risk.catalogue import LOOKS_AT, ORDER_CONTROLS, PRODUCT_CONTROLS, SAYS, Data
from trading.risk.checks import Bounds, Finding, Guard, Lane, OrderCheck, ProductCheck, Proposed, Value
from trading.risk.comovement import ALONE, Comovement
from trading.risk.lanes import Lanes, Opinions, bounds_of, buying_power


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
            "data": LOOKS_AT[self.code].value,
        }


class Batch(NamedTuple):
    """What all evaluations of one batch share."""

    plan_sha256: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Tables:
    """The checks that bind one kind of request."""

    product_checks: tuple[ProductCheck, ...]
    order_checks: tuple[OrderCheck, ...]
    order_tests: tuple[Callable[[Proposed], Finding], ...]
    codes: tuple[str, ...]
    compares: bool
    """With the other holdings: how they move together is worked out only where a check asks."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A product whose own checks have been run for one kind of request."""

    lane: Lane
    tables: Tables
    findings: tuple[Finding, ...]
    passed: bool
    tests: tuple[Callable[[Proposed], Finding], ...]
    compares: bool


def tables_of(product_checks: Sequence[ProductCheck], order_checks: Sequence[OrderCheck]) -> dict[str, Tables]:
    """The checks that bind a protective exit, an ordinary exit and an entry."""
    return {
        "protective": _tables(product_checks, order_checks, {Guard.INTEGRITY}),
        "exit": _tables(product_checks, order_checks, {Guard.INTEGRITY, Guard.ORDER}),
        "entry": _tables(product_checks, order_checks, set(Guard)),
    }


def _tables(product_checks: Sequence[ProductCheck], order_checks: Sequence[OrderCheck], guards: set[Guard]) -> Tables:
    product = tuple(check for check in product_checks if check.guard in guards)
    order = tuple(check for check in order_checks if check.guard in guards)
    codes = (*(check.code for check in product), *(check.code for check in order))
    return Tables(product, order, tuple(check.test for check in order), codes, "correlated" in codes)


@dataclass(slots=True)
class Evaluation(Proposed):
    """Every check of one request with its outcome, the plan it was judged by and the market time.

    It keeps the figures of that moment, and the outcomes are read off them when asked for: the checks are pure.
    """

    prepared: Prepared
    batch: Batch

    @property
    def plan_sha256(self) -> str:
        return self.batch.plan_sha256

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        prepared, checks = self.prepared, self.prepared.tables.order_checks
        findings = (*prepared.findings, *(order_finding(check, self) for check in checks))
        return tuple(Outcome(code, *finding) for code, finding in zip(prepared.tables.codes, findings, strict=True))

    @property
    def failures(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    def to_dict(self) -> dict[str, Any]:
        """For storage: JSON-able, numbers as text. `quote_at` is the time of the quote that it was judged by.

        Each check names the data that it looked at; `ages` has the age of what can be old, in seconds. The ledger was read in
        the same step, under the portfolio's lock.
        """
        lane, quote = self.lane, self.lane.quote
        return {
            "plan_sha256": self.batch.plan_sha256,
            "at": stamp(self.batch.at),
            "quote_at": None if quote is None else stamp(quote.at),
            "ages": {
                Data.QUOTE.value: _stored(lane.quote_age),
                Data.CANDLES.value: _stored(lane.candle_age),
                Data.SECOND.value: _stored(lane.second_age),
            },
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


TABLES: Mapping[str, Tables] = tables_of(PRODUCT_CONTROLS, ORDER_CONTROLS)
"""All checks: what the pipeline runs."""
_NAN = Decimal("NaN")
_BUY = Side.BUY  # looked up once: see checks


@dataclass(slots=True)
class _Standing:
    """What runs on for one product: each approval moves it."""

    quantity: Decimal
    free: Decimal
    value: Decimal
    active: bool
    legs: set[int] = field(default_factory=set)


class Validator:
    """Validates the requests of one batch, one after the other, on running totals. `now` is market time.

    `opinions` are the signals that the batch was made from; None for an order that no strategy asked for. `tables` are the
    checks by kind of request: anything but all of them is for benches and for the tests that miss one.
    `approved` and `refused` keep every outcome in memory.
    """

    def __init__(
        self,
        plan: Plan,
        market: Market,
        portfolio: Portfolio,
        now: datetime,
        opinions: Opinions | None = None,
        tables: Mapping[str, Tables] = TABLES,
    ) -> None:
        self._market = market
        self._portfolio = portfolio
        self._tables = tables
        self._batch = Batch(plan.sha256, now)
        self._source = Lanes(plan, market, portfolio, now)
        self._bounds = bounds_of(plan, market, portfolio, now, opinions)
        self._cash = buying_power(market, portfolio)
        self._day_volume = portfolio.day_volume
        self._exposure = _exposure(market, portfolio)
        self._open_positions = len(_active(portfolio))
        self._comovement = Comovement(market.candles, _values(market, portfolio))
        self._lanes: dict[str, Lane] = {}
        self._standings: dict[str, _Standing] = {}
        self._prepared: dict[str, dict[str, Prepared]] = {kind: {} for kind in tables}
        self.approved: list[Approved] = []
        self.refused: list[Refused] = []

    def validate(self, request: Request) -> Approved | Refused:
        """Approved, or refused with every check that did not pass; recorded either way."""
        kind = "protective" if request.protective else "entry" if request.side is _BUY else "exit"
        prepared = self._prepared[kind].get(request.product) or self._prepare(kind, request.product)
        evaluation = self._propose(request, prepared)
        if prepared.passed and _pass(prepared.tests, evaluation):
            self._move_on(evaluation)
            approved = Approved(request, evaluation)
            self.approved.append(approved)
            return approved
        refused = Refused(request, evaluation)
        self.refused.append(refused)
        return refused

    def _propose(self, request: Request, prepared: Prepared) -> Evaluation:
        lane = prepared.lane
        standing = self._standings[lane.id]
        return Evaluation(
            request,
            lane,
            self._bounds,
            _notional(request, lane),
            self._cash,
            self._day_volume,
            self._exposure,
            self._open_positions,
            standing.quantity,
            standing.free,
            standing.value,
            standing.active,
            request.leg in standing.legs,
            len(self.approved),
            len(standing.legs),
            self._comovement.look(lane.id) if prepared.compares else ALONE,
            prepared,
            self._batch,
        )

    def _move_on(self, proposed: Evaluation) -> None:
        """The running totals after an approval."""
        request, notional, standing = proposed.request, proposed.notional, self._standings[proposed.lane.id]
        standing.legs.add(request.leg)
        # A protective exit needs no price; its volume counts at the send, once it is known.
        if not request.protective or not notional.is_nan():
            self._day_volume += notional
        if request.side is not _BUY:
            standing.free -= request.quantity
            return
        standing.quantity += request.quantity
        standing.value += notional
        self._exposure += notional
        self._cash -= notional * proposed.bounds.outlay
        if not standing.active:
            standing.active = True
            self._open_positions += 1
        if proposed.prepared.compares:
            self._comovement.buy(proposed.lane.id, float(notional))

    def _prepare(self, kind: str, product: str) -> Prepared:
        if product not in self._lanes:
            self._lanes[product] = self._source.lane(product)
            self._standings[product] = self._standing(product)
        lane, tables = self._lanes[product], self._tables[kind]
        findings = tuple(product_finding(check, lane, self._bounds) for check in tables.product_checks)
        passed = all(finding[0] for finding in findings)
        prepared = Prepared(lane, tables, findings, passed, tables.order_tests, tables.compares)
        self._prepared[kind][product] = prepared
        return prepared

    def _standing(self, product: str) -> _Standing:
        position, working = self._portfolio.positions.get(product), self._portfolio.working.get(product, ZERO)
        value = (self._portfolio.value(product, self._market.quotes) or ZERO) + working
        if position is None:
            return _Standing(ZERO, ZERO, value, working > ZERO)
        return _Standing(position.quantity, position.free, value, position.quantity > ZERO or working > ZERO)


def validate(
    plan: Plan,
    requests: Iterable[Request],
    market: Market,
    portfolio: Portfolio,
    now: datetime,
    opinions: Opinions | None = None,
) -> list[Approved | Refused]:
    """Each request's outcome, in the given order, each judged after the approvals before it. `now` is market time."""
    validator = Validator(plan, market, portfolio, now, opinions)
    return [validator.validate(request) for request in requests]


def _values(market: Market, portfolio: Portfolio) -> dict[str, float]:
    """Worth of what is held and being bought, by product, as a float: for statistics only."""
    held = {product: portfolio.value(product, market.quotes) or ZERO for product in portfolio.positions}
    products = held.keys() | portfolio.working.keys()
    return {id_: float(held.get(id_, ZERO) + portfolio.working.get(id_, ZERO)) for id_ in sorted(products)}


def _active(portfolio: Portfolio) -> set[str]:
    """Products that are held or being bought."""
    held = {product for product, position in portfolio.positions.items() if position.quantity}
    return held | {product for product, notional in portfolio.working.items() if notional}


def _exposure(market: Market, portfolio: Portfolio) -> Decimal:
    """Worth of positions and live buys; a position without a quote is missing in it, but then equity is unknown too."""
    values = (portfolio.value(product, market.quotes) or ZERO for product in portfolio.positions)
    return sum(values, ZERO) + sum(portfolio.working.values(), ZERO)


def _notional(request: Request, lane: Lane) -> Decimal:
    """Quantity at the price that the order is valued at; NaN when that is not known."""
    try:
        if request.limit_price is None and request.stop_price is None:
            return request.quantity * (lane.buy_price if request.side is _BUY else lane.sell_price)  # type: ignore[operator]
        return _NAN if lane.quote is None else request.quantity * order_price(request, lane.quote)
    except Exception:  # noqa: BLE001  fail closed: whatever is wrong with the request or missing, the checks refuse it
        return _NAN


def _pass(tests: tuple[Callable[[Proposed], Finding], ...], proposed: Proposed) -> bool:
    try:
        for test in tests:
            if not test(proposed)[0]:
                return False
    except Exception:  # noqa: BLE001  fail closed: the evaluation names the check that failed
        return False
    return True


def order_finding(check: OrderCheck, proposed: Proposed) -> Finding:
    """The check's finding; one that raises has not passed, and what it observed is the error."""
    try:
        return check.test(proposed)
    except Exception as error:  # noqa: BLE001  a check that fails refuses
        return False, _failed(error), None


def product_finding(check: ProductCheck, lane: Lane, bounds: Bounds) -> Finding:
    """The check's finding; one that raises has not passed, and what it observed is the error."""
    try:
        return check.test(lane, bounds)
    except Exception as error:  # noqa: BLE001  a check that fails refuses
        return False, _failed(error), None


def _failed(error: Exception) -> str:
    return f"check failed: {type(error).__name__} {error}".strip()


def _shown(value: Value) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4f}"
    return text(round(value, 8)) if isinstance(value, Decimal) and value.is_finite() else str(value)


def _stored(value: Value) -> str | None:
    if value is None:
        return None
    return text(value) if isinstance(value, Decimal) and value.is_finite() else str(value)
