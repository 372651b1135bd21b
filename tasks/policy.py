"""What Prefect does with a run and a step that fail, stated once: steps that read are tried again, all else never.

No result is kept and none is taken from a cache: a run that is repeated asks anew.
"""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE

from tasks.alerts import run_failed

ONCE: dict[str, Any] = {"retries": 0, "cache_policy": NO_CACHE, "persist_result": False}
"""Of a step that may have sent an order, or decides what is sent."""
READ: dict[str, Any] = ONCE | {"retries": 3, "retry_delay_seconds": [1, 4, 10], "retry_jitter_factor": 0.5}
"""Of a step that is safe to do again."""
RUN: dict[str, Any] = {"retries": 0, "persist_result": False, "on_failure": [run_failed], "on_crashed": [run_failed]}
"""Of a flow: the next run settles what this one left, and a person hears of it."""
