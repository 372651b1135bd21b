"""Requests validated per second by the first thirty checks, every outcome recorded, beside a plain ten-check Decimal validator.

`keel bench risk` measures all controls.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from statistics import median
from typing import Any

import numpy as np

from trading.market import Candles, Market, Product, Quote
from trading.orders import Request, Side
from trading.plan import Limits, Plan, StrategyChoice
from trading.portfolio import Portfolio
from trading.risk import Validator
from trading.risk.checks import ORDER_CHECKS, PRODUCT_CHECKS
from trading.risk.validator import tables_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCTS = tuple(f"C{number}-USD" for number in range(10))
PRICE = Decimal("50000.01")
PLENTY = Decimal(10**12)


def run(n: int = 100_000, runs: int = 5) -> dict[str, Any]:
    """`ours` and `floor` in requests per second (median of the runs), `ratio` = ours ÷ floor."""
    plan, market, portfolio, requests = bench_plan(), bench_market(), bench_portfolio(), entries(n)
    first = tables_of(PRODUCT_CHECKS, ORDER_CHECKS)
    ours, floor = [], []
    for _ in range(runs):
        validator = Validator(plan, market, portfolio, NOW, tables=first)
        ours.append(rate(validator.validate, requests))
        if len(validator.approved) != n:
            raise AssertionError(f"validate bench: {len(validator.approved)} of {n} requests approved, expected all")
        floor.append(rate(PlainValidator().validate, requests))
    figures = {"ours": median(ours), "floor": median(floor)}
    ratio = figures["ours"] / figures["floor"]
    return {"name": "validate", **figures, "ratio": ratio, "unit": "requests/s", "runs": runs}


def entries(n: int) -> list[Request]:
    return [Request(product=PRODUCTS[i % len(PRODUCTS)], side=Side.BUY, quantity=Decimal("0.001"), leg=i) for i in range(n)]


class PlainValidator:
    """The floor: ten comparisons in Decimal, written out, remembering only yes or no."""

    def __init__(self) -> None:
        self.cash = self.volume_left = PLENTY
        self.outcomes: list[bool] = []

    def validate(self, request: Request) -> None:
        notional = request.quantity * PRICE
        passed = (
            request.quantity > 0
            and request.quantity % Decimal("0.00000001") == 0
            and request.product in PRODUCTS
            and notional >= 1
            and notional <= 100
            and notional * Decimal("1.0126") <= self.cash
            and notional <= self.volume_left
            and abs(PRICE - Decimal(50000)) <= 2500
            and len(PRODUCTS) <= 10
            and request.side is Side.BUY
        )
        if passed:
            self.cash -= notional
            self.volume_left -= notional
        self.outcomes.append(passed)


def rate(validate: Callable[[Request], object], requests: Sequence[Request]) -> float:
    """The collector stays on for what the run itself makes; what was there before (the requests) is set aside."""
    gc.collect()
    gc.freeze()
    started = time.perf_counter()
    for request in requests:
        validate(request)
    elapsed = time.perf_counter() - started
    gc.unfreeze()
    return len(requests) / elapsed


def bench_plan() -> Plan:
    limits = Limits(
        max_order_size_usd=Decimal(100),
        max_daily_volume_usd=PLENTY,
        max_open_positions=len(PRODUCTS),
        max_daily_loss_usd=Decimal(100),
        max_position_size=Decimal(1),
        max_portfolio_volatility=Decimal("0.4"),
    )
    return Plan(name="bench", products=PRODUCTS, limits=limits, strategy=StrategyChoice(name="rebalance"))


def bench_market() -> Market:
    rules = {
        id_: Product(
            id=id_,
            base=id_.removesuffix("-USD"),
            quote="USD",
            base_increment=Decimal("0.00000001"),
            price_increment=Decimal("0.01"),
            base_min_size=Decimal("0.00001"),
            base_max_size=Decimal(3400),
            min_notional=Decimal(1),
        )
        for id_ in PRODUCTS
    }
    close = np.full((48, len(PRODUCTS)), float(PRICE))
    starts = np.arange(48, dtype=np.int64) * 3600 + int(NOW.timestamp()) - 48 * 3600
    candles = Candles(
        interval="1h", products=PRODUCTS, starts=starts, open=close, high=close, low=close, close=close, volume=close
    )
    quotes = {id_: Quote(product=id_, bid=PRICE - Decimal("0.02"), ask=PRICE, at=NOW) for id_ in PRODUCTS}
    return Market(at=NOW, products=rules, candles=candles, quotes=quotes)


def bench_portfolio() -> Portfolio:
    return Portfolio(book="paper:bench", plan="bench", cash_asset="USD", cash=PLENTY)
