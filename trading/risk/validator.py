"""Order validation: each request is approved or refused, with one evaluation that holds the outcome of every check.

The validator runs on: an approval moves cash, volume, positions and exposure, so that two orders that fit one by one
but not together are not both approved. A refusal moves nothing. Anything that cannot be known refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from trading.market import Market, Product, Quote, age
from trading.money import ONE, ZERO, dec, stamp, text
from trading.orders import Request, Side
from trading.plan import Plan, order_price
from trading.portfolio import Portfolio
from trading.risk.breaker import portfolio_risk, position_shares
from trading.risk.checks import (
    ORDER_CHECKS,
    PRODUCT_CHECKS,
    SAYS,
    Bounds,
    Finding,
    Guard,
    Lane,
    OrderCheck,
    ProductCheck,
    Proposed,
    Value,
)


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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A product whose own checks have been run for one kind of request."""

    lane: Lane
    tables: Tables
    findings: tuple[Finding, ...]
    passed: bool


def _tables(guards: frozenset[Guard]) -> Tables:
    product = tuple(check for check in PRODUCT_CHECKS if check.guard in guards)
    order = tuple(check for check in ORDER_CHECKS if check.guard in guards)
    codes = (*(check.code for check in product), *(check.code for check in order))
    return Tables(product, order, tuple(check.test for check in order), codes)


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
        """For storage: JSON-able, numbers as text. `quote_at` is the time of the quote that it was judged by."""
        quote = self.lane.quote
        return {
            "plan_sha256": self.batch.plan_sha256,
            "at": stamp(self.batch.at),
            "quote_at": None if quote is None else stamp(quote.at),
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


_TABLES = {
    "protective": _tables(frozenset({Guard.INTEGRITY})),
    "exit": _tables(frozenset({Guard.INTEGRITY, Guard.ORDER})),
    "entry": _tables(frozenset(Guard)),
}
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

    `approved` and `refused` keep every outcome in memory.
    """

    def __init__(self, plan: Plan, market: Market, portfolio: Portfolio, now: datetime) -> None:
        self._plan = plan
        self._market = market
        self._portfolio = portfolio
        self._batch = Batch(plan.sha256, now)
        self._listed = frozenset(plan.products)
        self._range = _recent_range(market, plan.checks.range_candles)
        self._bounds = _bounds(plan, market, portfolio)
        self._cash = portfolio.cash_free
        self._day_volume = portfolio.day_volume
        self._exposure = _exposure(market, portfolio)
        self._open_positions = len(_active(portfolio))
        self._lanes: dict[str, Lane] = {}
        self._standings: dict[str, _Standing] = {}
        self._prepared: dict[str, dict[str, Prepared]] = {kind: {} for kind in _TABLES}
        self.approved: list[Approved] = []
        self.refused: list[Refused] = []

    def validate(self, request: Request) -> Approved | Refused:
        """Approved, or refused with every check that did not pass; recorded either way."""
        kind = "protective" if request.protective else "entry" if request.side is _BUY else "exit"
        prepared = self._prepared[kind].get(request.product) or self._prepare(kind, request.product)
        evaluation = self._propose(request, prepared)
        if prepared.passed and _pass(prepared.tables.order_tests, evaluation):
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
            prepared,
            self._batch,
        )

    def _move_on(self, proposed: Proposed) -> None:
        """The running totals after an approval."""
        request, notional, standing = proposed.request, proposed.notional, self._standings[proposed.lane.id]
        standing.legs.add(request.leg)
        if not notional.is_nan():  # a protective exit needs no price; its volume counts at the send, once it is known
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

    def _prepare(self, kind: str, product: str) -> Prepared:
        if product not in self._lanes:
            self._lanes[product] = self._lane(product)
            self._standings[product] = self._standing(product)
        lane, tables = self._lanes[product], _TABLES[kind]
        findings = tuple(product_finding(check, lane, self._bounds) for check in tables.product_checks)
        prepared = Prepared(lane, tables, findings, all(finding[0] for finding in findings))
        self._prepared[kind][product] = prepared
        return prepared

    def _standing(self, product: str) -> _Standing:
        position, working = self._portfolio.positions.get(product), self._portfolio.working.get(product, ZERO)
        value = (self._portfolio.value(product, self._market.quotes) or ZERO) + working
        if position is None:
            return _Standing(ZERO, ZERO, value, working > ZERO)
        return _Standing(position.quantity, position.free, value, position.quantity > ZERO or working > ZERO)

    def _lane(self, product: str) -> Lane:
        rules, quote = self._market.products.get(product), self._market.quotes.get(product)
        lane = Lane(id=product, product=rules, quote=quote, listed=product in self._listed)
        lane.gated = self._market.gated.get(product, "")
        lane.doubted = self._portfolio.is_doubted(product)
        lane.frozen = ", ".join(sorted(self._portfolio.frozen.intersection(product.split("-"))))
        lane.range_low, lane.range_high = _range_bounds(self._range.get(product), self._plan.checks.range_band)
        if rules is not None:
            _bind_rules(lane, rules)
        if quote is not None:
            _bind_quote(lane, quote, self._plan, self._batch.at)
        return lane


def validate(
    plan: Plan, requests: Iterable[Request], market: Market, portfolio: Portfolio, now: datetime
) -> list[Approved | Refused]:
    """Each request's outcome, in the given order, each judged after the approvals before it. `now` is market time."""
    validator = Validator(plan, market, portfolio, now)
    return [validator.validate(request) for request in requests]


def _bounds(plan: Plan, market: Market, portfolio: Portfolio) -> Bounds:
    limits, equity = plan.limits, portfolio.equity(market.quotes)
    worth = max(equity or ZERO, ZERO)
    return Bounds(
        order_size_max=limits.max_order_size_usd,
        order_size_min=plan.orders.min_notional,
        position_value_max=limits.max_position_size * worth,
        open_positions_max=limits.max_open_positions,
        day_volume_max=limits.max_daily_volume_usd,
        exposure_max=plan.checks.max_leverage * worth,
        price_band=plan.checks.price_band,
        outlay=plan.costs.outlay,
        equity=equity,
        volatility=portfolio_risk(position_shares(portfolio, market, worth), market) if worth else None,
        volatility_max=limits.max_portfolio_volatility,
        quote_age_max=Decimal(plan.checks.quote_age_seconds),
    )


def _active(portfolio: Portfolio) -> set[str]:
    """Products that are held or being bought."""
    held = {product for product, position in portfolio.positions.items() if position.quantity}
    return held | {product for product, notional in portfolio.working.items() if notional}


def _exposure(market: Market, portfolio: Portfolio) -> Decimal:
    """Worth of positions and live buys; a position without a quote is missing in it, but then equity is unknown too."""
    values = (portfolio.value(product, market.quotes) or ZERO for product in portfolio.positions)
    return sum(values, ZERO) + sum(portfolio.working.values(), ZERO)


def _bind_rules(lane: Lane, rules: Product) -> None:
    lane.base_increment, lane.price_increment = rules.base_increment, rules.price_increment
    lane.base_min_size, lane.base_max_size = rules.base_min_size, rules.base_max_size
    lane.min_notional = rules.min_notional


def _bind_quote(lane: Lane, quote: Quote, plan: Plan, now: datetime) -> None:
    lane.quote_age = Decimal(str(age(quote, now).total_seconds()))
    lane.buy_price, lane.sell_price = quote.ask, quote.bid
    lane.price_low = quote.mid * (ONE - plan.checks.price_band)
    lane.price_high = quote.mid * (ONE + plan.checks.price_band)
    if lane.product is not None and lane.base_increment > ZERO and quote.bid > ZERO:
        lane.sliceable_from = 2 * lane.product.smallest_sale(quote.bid)
        lane.exitable_from = lane.product.smallest_sale(quote.bid * plan.costs.proceeds)


def _recent_range(market: Market, candles: int) -> dict[str, tuple[float, float]]:
    """Lowest low and highest high of each product's last candles; NaN where it has none."""
    low, high = market.candles.low[-candles:], market.candles.high[-candles:]
    if not len(low):
        return {}
    # fmin and fmax pass over NaN: a gap inside the window does not hide the rest of it.
    pairs = zip(np.fmin.reduce(low, axis=0).tolist(), np.fmax.reduce(high, axis=0).tolist(), strict=True)
    return dict(zip(market.candles.products, pairs, strict=True))


def _range_bounds(bounds: tuple[float, float] | None, band: Decimal) -> tuple[Decimal | None, Decimal | None]:
    if bounds is None or bounds[0] != bounds[0]:  # NaN: no candle in the window
        return None, None
    return dec(bounds[0]) * (ONE - band), dec(bounds[1]) * (ONE + band)


def _notional(request: Request, lane: Lane) -> Decimal:
    """Quantity at the price that the order is valued at; NaN when that is not known."""
    try:
        if request.limit_price is None and request.stop_price is None:
            price = lane.buy_price if request.side is _BUY else lane.sell_price
            return _NAN if price is None else request.quantity * price
        return _NAN if lane.quote is None else request.quantity * order_price(request, lane.quote)
    except Exception:  # noqa: BLE001  fail closed: whatever is wrong with the request, the checks refuse it
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
    return text(round(value, 8)) if isinstance(value, Decimal) and value.is_finite() else str(value)


def _stored(value: Value) -> str | None:
    if value is None:
        return None
    return text(value) if isinstance(value, Decimal) and value.is_finite() else str(value)
