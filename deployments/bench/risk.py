"""Requests validated per second by every control, every outcome recorded, beside a plain ten-check Decimal validator.

Each input that a control may look at is there: a book, a second price source, signals of two candles, orders of the last hour,
holdings that move.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from statistics import median
from typing import Any

import numpy as np

from deployments.bench.validate import (
    NOW,
    PLENTY,
    PRICE,
    PRODUCTS,
    PlainValidator,
    bench_market,
    bench_plan,
    bench_portfolio,
    entries,
    rate,
)
from trading.market import Market
from trading.money import ONE
from trading.plan import Controls, Plan
from trading.portfolio import Bought, Portfolio, Recent
from trading.risk import Opinions, Validator
from trading.risk.catalogue import ORDER_CONTROLS, PRODUCT_CONTROLS

SEED = 7


def run(n: int = 100_000, runs: int = 5) -> dict[str, Any]:
    """`ours` and `floor` in requests per second (median of the runs), `ratio` = ours ÷ floor."""
    plan, market, portfolio, requests = _plan(n), _market(), _portfolio(), entries(n)
    opinions = Opinions(now=dict.fromkeys(PRODUCTS, 1.0), before=dict.fromkeys(PRODUCTS, 1.0))
    ours, floor = [], []
    for _ in range(runs):
        validator = Validator(plan, market, portfolio, NOW, opinions)
        ours.append(rate(validator.validate, requests))
        if len(validator.approved) != n:
            refused = validator.refused[0].message
            raise AssertionError(f"risk bench: {len(validator.approved)} of {n} requests approved, expected all: {refused}")
        floor.append(rate(PlainValidator().validate, requests))
    figures = {"ours": median(ours), "floor": median(floor), "checks": len(PRODUCT_CONTROLS) + len(ORDER_CONTROLS)}
    ratio = figures["ours"] / figures["floor"]
    return {"name": "risk", **figures, "ratio": ratio, "unit": "requests/s", "runs": runs}


def _plan(n: int) -> Plan:
    """Bounds that no request reaches: each is looked at and none refuses."""
    controls = Controls(
        max_entries_per_slot=n,
        max_orders_per_hour=2 * n,
        max_orders_per_day=2 * n,
        max_live_orders=2 * n,
        max_messages_per_minute=2 * n,
        max_repeated_entries=2 * n,
        max_hourly_share=ONE,
        max_volume_share=ONE,
        max_correlated_variance=ONE,
    )
    return bench_plan().model_copy(update={"controls": controls})


def _market() -> Market:
    market = bench_market()
    steps = np.random.default_rng(SEED).normal(0.0, 0.002, market.candles.close.shape)
    close = float(PRICE) * np.exp(steps - steps.mean(axis=0))
    candles = replace(market.candles, open=close, high=close, low=close, close=close)
    asks = ((PRICE, Decimal(2)), (PRICE + 5, Decimal(5)))
    quotes = {id_: replace(quote, asks=asks) for id_, quote in market.quotes.items()}
    return replace(market, candles=candles, quotes=quotes, second=market.quotes, taker_fee=Decimal("0.012"), cash_at_venue=PLENTY)


def _portfolio() -> Portfolio:
    bought = (Bought(Decimal("0.002"), PRICE, NOW - timedelta(minutes=5)),)
    recent = Recent(hour_orders=1, day_orders=1, entries=1, resting_sale=PRICE * 2, bought=bought)
    return replace(bench_portfolio(), recent=dict.fromkeys(PRODUCTS, recent))
