"""The steps of a trade cycle as Prefect tasks: each one line plus its retry policy.

Reads (settle, fetch, reconcile) and publishing are retried, with jitter: they are safe to run again. What decides and
what executes is not: a step that may have sent an order is never run twice by the orchestrator.
"""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from trading import cycle as steps

_once: dict[str, Any] = {"retries": 0, "cache_policy": NO_CACHE, "persist_result": False}
_read: dict[str, Any] = _once | {"retries": 3, "retry_delay_seconds": [1, 4, 10], "retry_jitter_factor": 0.5}

claim_slot = task(steps.claim_slot, name="claim slot", **_once)
settle_orders = task(steps.settle_orders, name="settle orders", **_read)
fetch_prices = task(steps.fetch_prices, name="fetch prices", **_read)
evaluate_signals = task(steps.evaluate_signals, name="evaluate signals", **_once)
validate_orders = task(steps.validate_orders, name="validate orders", **_once)
check_breaker = task(steps.check_breaker, name="check breaker", **_once)
execute = task(steps.execute, name="execute", **_once)
reconcile = task(steps.reconcile, name="reconcile", **_read)
