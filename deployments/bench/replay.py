"""`keel bench replay`: what it costs to prove stored decisions, beside making them from the same figures in memory.

ours    each decision read back from the ledger with its candles, derived anew, and every byte of it compared
floor   the decision alone: signals, requests and every check, of a market and portfolio that are there already
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import cycle as forever
from itertools import islice
from time import process_time
from typing import Any

from config.desk import assembled
from deployments.bench._still import START, ledger, timed
from trading import cycle as cycles
from trading.decision import Standing, decide, evaluation_body, opinions_of
from trading.desk import Desk, day_start
from trading.feeds.synthetic import Synthetic
from trading.plan import Limits, Plan
from trading.proof import replay
from trading.store.decisions import Decisions

DEMANDED_SECONDS = 5.0
"""For a thousand decisions."""


def bench_plan(products: int) -> Plan:
    """A plan that trades every product at every other slot, and sells it at the one between."""
    limits = Limits(
        max_order_size_usd=Decimal(1000), max_daily_volume_usd=Decimal(10**9), max_open_positions=products,
        max_daily_loss_usd=Decimal(10**6), max_position_size=Decimal("0.2"), max_portfolio_volatility=Decimal(100),
    )  # fmt: skip
    return Plan.model_validate({
        "name": "bench", "portfolio": "bench", "products": tuple(f"P{number}-USD" for number in range(products)),
        "capital": 100_000, "limits": limits, "strategy": {"name": "deployments.bench.cycle:EveryOther"},
        "allocation": {"weight": Decimal("0.05") / products, "no_trade_band": Decimal("0.0001")},
        "controls": {"max_correlated_variance": 1, "max_flip_share": 1, "max_orders_per_day": 10**6},
        "breaker": {"max_volatility": 100, "max_drawdown": 1, "max_daily_loss": 1, "max_open_positions": products},
    })  # fmt: skip


class Clock:
    """The bench's own time."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


def run(products: int = 5, slots: int = 50, decisions: int = 1000) -> dict[str, Any]:
    """Seconds for `decisions` replays of ours and of the floor, and their ratio. Raises RuntimeError when one differs."""
    with decided(products, slots) as desk:
        stored = Decisions(desk.books.connection).newest(desk.book, desk.plan.name, slots)
        wanted = list(islice(forever(stored), decisions))
        found: list[bool] = []
        before = process_time()
        ours = timed(lambda: found.extend(one.same for one in replay(desk.books.connection, wanted)))
        cpu = process_time() - before
        if len(found) != decisions or not all(found):
            raise RuntimeError(f"{found.count(False)} of {len(found)} decisions came out otherwise, expected none of {decisions}")
        floor = timed(lambda: decide_alone(desk, decisions))
        requests = sum(len(one.evaluations) for one in wanted) / decisions
    return {
        "name": f"replay --products {products}", "ours": ours, "floor": floor, "ratio": ours / floor, "unit": "seconds",
        "cpu": cpu, "decisions": decisions, "requests_each": requests, "demanded": DEMANDED_SECONDS,
    }  # fmt: skip


@contextmanager
def decided(products: int, slots: int) -> Iterator[Desk]:
    """A desk whose plan has decided so many slots of a made-up market."""
    clock = Clock()
    with ledger() as url, assembled(bench_plan(products), source=Synthetic(1, clock), url=url) as desk:
        for _ in range(slots):
            clock.at += timedelta(hours=1)
            cycles.run(desk)
        yield desk


def decide_alone(desk: Desk, times: int) -> None:
    """The newest slot's decision, so many times."""
    market, plan = desk.market, desk.plan
    if market is None:
        raise RuntimeError("the bench decided nothing")
    portfolio = desk.books.portfolio(desk.book, plan.name, plan.cash_asset, day_start(market.at), market.at)
    standing = Standing(tuple(desk.books.breakers(desk.scopes)), tuple(desk.scopes))
    for _ in range(times):
        decision = decide(plan, desk.strategy, opinions_of(desk.strategy, market.candles), market, portfolio, standing)
        for judged in decision.judged:
            evaluation_body(judged)
