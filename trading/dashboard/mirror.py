"""Tells the ledger's changes on to Supabase: in order, at least once, and caught up after whatever outage.

The ledger is read and a number is remembered; nothing that trades waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trading.dashboard.reporter import DashboardReporter
from trading.store.mirroring import SUPABASE, Told, changes_after, tell, told_to
from trading.store.reports import Reports

BATCH = 200
"""Changes that are told together: one request for each table."""
TABLES = ("orders", "order_events", "fills", "positions", "pnl", "risk_metrics", "breaker_events")
"""Told in this order, so that what a row refers to is there before it."""


async def catch_up(url: str, reports: Reports, reporter: DashboardReporter) -> int:
    """Tells everything that the mirror does not have yet; returns how many changes that were.

    Raises NotTold when Supabase did not take a batch: it is told again at the next call, whole and by the same keys.
    Raises LedgerUnavailable.
    """
    seq, count = told_to(reports, SUPABASE), 0
    while changes := changes_after(reports, seq, BATCH):
        for table in TABLES:
            if rows := _newest_by_key(changes, table):
                await reporter.tell(table, rows)
        seq, count = changes[-1].seq, count + len(changes)
        tell(url, SUPABASE, seq)
    return count


def _newest_by_key(changes: Iterable[Told], table: str) -> list[dict[str, Any]]:
    """One row by key: one statement may not update a row twice, and the last word on it is what holds."""
    rows: dict[str, dict[str, Any]] = {}
    for change in changes:
        for row in change.rows.get(table, ()):
            rows.pop(row["key"], None)
            rows[row["key"]] = row
    return list(rows.values())
