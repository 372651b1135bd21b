"""The steps of a trade cycle as Prefect tasks: each one line plus its retry policy.

Reads (settle, fetch, reconcile) and publishing are retried, with jitter: they are safe to run again. What decides and
what executes is not: a step that may have sent an order is never run twice by the orchestrator.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from trading import cycle as steps
from trading.cycle import Cycle
from trading.desk import Desk

_ONCE: dict[str, Any] = {"retries": 0, "cache_policy": NO_CACHE, "persist_result": False}
_READ: dict[str, Any] = _ONCE | {"retries": 3, "retry_delay_seconds": [1, 4, 10], "retry_jitter_factor": 0.5}


class Work:
    """What the tasks of one run share. Not a dataclass: Prefect would look into every field at every task."""

    __slots__ = ("cycle", "desk")

    def __init__(self, desk: Desk, cycle: Cycle) -> None:
        self.desk = desk
        self.cycle = cycle


def _step(work: Work, step: Callable[[Desk, Cycle], None]) -> Work:
    """Does the step and hands the work on: so the run's graph shows one straight line."""
    step(work.desk, work.cycle)
    return work


@task(name="claim slot", **_ONCE)
def claim_slot(desk: Callable[[], Desk], due: datetime | None) -> Work:
    """Takes the portfolio and the slot; `desk` is called for the desk, so that it stays opaque like the rest."""
    opened = desk()
    return Work(opened, steps.claim_slot(opened, due))


@task(name="settle orders", **_READ)
def settle_orders(work: Work) -> Work:
    return _step(work, steps.settle_orders)


@task(name="fetch prices", **_READ)
def fetch_prices(work: Work) -> Work:
    return _step(work, steps.fetch_prices)


@task(name="evaluate signals", **_ONCE)
def evaluate_signals(work: Work) -> Work:
    return _step(work, steps.evaluate_signals)


@task(name="validate orders", **_ONCE)
def validate_orders(work: Work) -> Work:
    return _step(work, steps.validate_orders)


@task(name="check breaker", **_ONCE)
def check_breaker(work: Work) -> Work:
    return _step(work, steps.check_breaker)


@task(name="execute", **_ONCE)
def execute(work: Work) -> Work:
    return _step(work, steps.execute)


@task(name="reconcile", **_READ)
def reconcile(work: Work) -> Work:
    return _step(work, steps.reconcile)
