"""The steps of a trade cycle as Prefect tasks: each one line plus its retry policy.

Reads (settle, fetch, reconcile) and publishing are retried, with jitter: they are safe to run again. What decides and
what executes is not: a step that may have sent an order is never run twice by the orchestrator.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from prefect import task

from tasks.policy import ONCE, READ
from trading import cycle as steps
from trading.cycle import Cycle
from trading.desk import Desk


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


@task(name="claim slot", **ONCE)
def claim_slot(desk: Callable[[], Desk], due: datetime | None) -> Work:
    """Takes the portfolio and the slot; `desk` is called for the desk, so that it stays opaque like the rest."""
    opened = desk()
    return Work(opened, steps.claim_slot(opened, due))


@task(name="settle orders", **READ)
def settle_orders(work: Work) -> Work:
    return _step(work, steps.settle_orders)


@task(name="fetch prices", **READ)
def fetch_prices(work: Work) -> Work:
    return _step(work, steps.fetch_prices)


@task(name="evaluate signals", **ONCE)
def evaluate_signals(work: Work) -> Work:
    return _step(work, steps.evaluate_signals)


@task(name="validate orders", **ONCE)
def validate_orders(work: Work) -> Work:
    return _step(work, steps.validate_orders)


@task(name="check breaker", **ONCE)
def check_breaker(work: Work) -> Work:
    return _step(work, steps.check_breaker)


@task(name="execute", **ONCE)
def execute(work: Work) -> Work:
    return _step(work, steps.execute)


@task(name="reconcile", **READ)
def reconcile(work: Work) -> Work:
    return _step(work, steps.reconcile)
