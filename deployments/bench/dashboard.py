"""`keel bench dashboard`: one reading of the books for the screens, over 10,000 orders, beside as many bare round trips.

ours    `take`: positions, worth, orders, fills, limits, breakers, runs, as the dashboard and `keel watch` read them
floor   the same number of queries that ask for nothing, over the same kind of connection

Beside it, in the same run, seconds to the first page and to the first view with charts (as Streamlit's server makes them, its
imports included; no browser), and the memory of that process. They need the extra `dashboard`, else they are None.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import event, text

from deployments.bench._filled import filled
from deployments.bench._still import ledger, timed
from trading.dashboard import desks, take
from trading.store.database import engine
from trading.store.reports import Reports

_PAGE = """
import json, resource, sys, time
start = time.perf_counter()
from streamlit.testing.v1 import AppTest
page = AppTest.from_file(sys.argv[1], default_timeout=120).run()
first = time.perf_counter()
page.session_state["view"] = "Portfolio"
page.run()
charts = time.perf_counter()
if page.exception or page.error:
    sys.exit(f"the page failed: {page.exception} {page.error}")
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"first_page_seconds": first - start, "charts_seconds": charts - first, "memory_bytes": used}))
"""


def run(orders: int = 10_000, products: int = 10, rounds: int = 25) -> dict[str, Any]:
    """Seconds of one reading and of its bare round trips (medians over rounds in turn)."""
    with ledger() as url, filled(url, orders, products):
        reports = Reports(engine(url))
        [scope] = desks(reports)
        queries = _queries(reports, lambda: take(reports, scope, datetime.now(UTC)))
        ours, floors = [], []
        for _ in range(rounds):
            ours.append(timed(lambda: take(reports, scope, datetime.now(UTC))))
            floors.append(timed(lambda: _bare(reports, queries)))
        page = _page(url)
        reports.engine.dispose()
    middle, least = statistics.median(ours), statistics.median(floors)
    return {
        "name": "dashboard", "ours": middle, "floor": least, "ratio": middle / least, "unit": "seconds per reading",
        "runs": rounds, "orders": orders, "products": products, "queries": queries, **page,
    }  # fmt: skip


def _queries(reports: Reports, reading: Any) -> int:
    """How many queries the reading makes through the engine."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    event.listen(reports.engine, "before_cursor_execute", counted)
    reading()
    event.remove(reports.engine, "before_cursor_execute", counted)
    return count


def _bare(reports: Reports, queries: int) -> None:
    for _ in range(queries):
        with reports.engine.connect() as connection:
            connection.execute(text("select 1")).all()


def _page(url: str) -> dict[str, float | None]:
    """The page made once in a process of its own."""
    from importlib.util import find_spec

    from deployments.dashboard import APP

    if find_spec("streamlit") is None:
        return dict.fromkeys(("first_page_seconds", "charts_seconds", "memory_bytes"))
    environment = os.environ | {"DATABASE_URL": url}
    made = subprocess.run([sys.executable, "-c", _PAGE, str(APP)], env=environment, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"the page was not made: {made.stderr[-800:]}")
    found: dict[str, float | None] = json.loads(made.stdout.splitlines()[-1])
    return found
