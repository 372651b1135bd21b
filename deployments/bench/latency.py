"""`keel bench latency`: what users are promised, beside what was measured just now against the simulated Coinbase.

placement        decision → the venue's acceptance, both commits before it included
cancel           a person's cancel → the venue's answer, with the settling before it
position update  a fill that is told → booked: event, fill, postings, lots and hold in one commit
risk check       one request through the first thirty checks
breaker check    the breakers of a desk read from the ledger and judged for one request

Placement, cancel and breaker check are the slowest of a hundred; the other two are medians, as `keel bench positions` and
`keel bench validate` measure them. Rates are of one process.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from deployments.bench import live, positions, validate
from deployments.bench._still import timed
from trading.desk import Desk
from trading.risk import permits, strictest

PROMISED_MS = {"placement": 500, "cancel": 300, "position_update": 100, "risk_check": 50, "breaker_check": 10}
PROMISED_PER_SECOND = {"orders": 10, "position_updates": 100, "checks": 1000}


def run(orders: int = 100) -> dict[str, Any]:
    """What was measured, beside what is promised; `kept` when all of it is. `ours` and `floor`: placement and the bare SDK."""
    with live.live_desk() as (desk, exchange):
        found = live.measured(desk, exchange, orders)
        breakers = [timed(lambda: _breaker_check(desk)) for _ in range(orders)]
    booked, judged = positions.run(fills=10, rounds=10), validate.run(n=10_000, runs=3)
    seconds = {
        "placement": p99(found["accepted"]), "cancel": p99(found["cancel"]), "position_update": booked["ours"],
        "risk_check": 1 / judged["ours"], "breaker_check": p99(breakers),
    }  # fmt: skip
    rates = {
        "orders": 1 / statistics.median(found["whole"]), "position_updates": booked["durable_fills_per_second"],
        "checks": judged["ours"],
    }  # fmt: skip
    ours, floor = (statistics.median(found[name]) for name in ("accepted", "sdk"))
    return {
        "name": "latency", "ours": ours, "floor": floor, "ratio": ours / floor, "unit": "seconds per placement", "runs": orders,
        **{f"{name}_ms": f"{1000 * seconds[name]:,.3f}, promised under {bound:,}" for name, bound in PROMISED_MS.items()},
        **{f"{name}_per_second": f"{rates[name]:,.0f}, promised {least:,}" for name, least in PROMISED_PER_SECOND.items()},
        "kept": all(1000 * seconds[name] < bound for name, bound in PROMISED_MS.items())
        and all(rates[name] >= least for name, least in PROMISED_PER_SECOND.items()),
    }  # fmt: skip


def p99(seconds: Sequence[float]) -> float:
    """The slowest but for one in a hundred."""
    return sorted(seconds)[max(0, len(seconds) * 99 // 100 - 1)]


def _breaker_check(desk: Desk) -> None:
    scopes = [*desk.scopes, desk.product_scope(live.PRODUCT)]
    if not permits(strictest(desk.books.breakers(scopes), scopes), live.resting()):
        raise RuntimeError(f"the bench found a breaker of {scopes} open, expected all closed")
