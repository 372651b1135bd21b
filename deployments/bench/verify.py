"""`keel bench verify`: what the whole proof takes over a ledger of 10,000 orders, beside reading the same tables.

ours    `trading.store.verify.verify`: the chain recomputed and every invariant asked, over one snapshot
floor   a plain select of every row of the tables that it reads, fetched by the same driver

The ledger is filled by whole cycles of 100 products against the benches' venue, every product traded in each.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, LiteralString

from psycopg import sql

from deployments.bench import venue
from deployments.bench._still import ledger, timed
from deployments.bench.cycle import FIRST_SLOT, bench_desk
from trading import cycle as cycles
from trading.store.database import Connection, connect
from trading.store.verify import verify


def run(orders: int = 10_000, products: int = 100, rounds: int = 3) -> dict[str, Any]:
    """Seconds of ours and of the floor (medians over rounds in turn), and how many checks of how many rows that was."""
    with ExitStack() as stack:
        url = stack.enter_context(ledger())
        address = stack.enter_context(venue.running())
        _fill(url, venue.Client(*address), orders, products)
        connection = stack.enter_context(connect(url))
        connection.execute("analyze")
        ours, floors = [], []
        for _ in range(rounds):
            ours.append(timed(lambda: verify(url)))
            floors.append(timed(lambda: _read(connection)))
        found = verify(url)
        broken = [check for check in found.checks if not check.ok]
        if broken:
            raise RuntimeError(f"the bench's own ledger is not sound: {broken}")
        middle, least = statistics.median(ours), statistics.median(floors)
        return {
            "name": f"verify --orders {orders}", "ours": middle, "floor": least, "ratio": middle / least, "unit": "seconds",
            "runs": rounds, "checks": len(found.checks), "orders": _count(connection, "intent"),
            "audit_rows": _count(connection, "audit"), "postings": _count(connection, "posting"), "rows": _read(connection),
        }  # fmt: skip


def _fill(url: str, client: venue.Client, orders: int, products: int) -> None:
    with bench_desk(url, client, products) as desk:
        for number in range(-(-orders // products)):
            slot = FIRST_SLOT + timedelta(hours=number)
            desk.source.at = slot  # type: ignore[attr-defined]  # the bench's own clock
            cycles.run(desk, slot)


def _read(connection: Connection) -> int:
    """Fetches every row of the ledger's tables; how many there were. Candles are no part of the proof."""
    names = connection.execute(
        "select tablename from pg_tables where schemaname = 'keel' and tablename not in ('candle', 'series')"
    )
    return sum(len(_select("select * from keel.{}", connection, str(name))) for (name,) in names.fetchall())


def _count(connection: Connection, table: str) -> int:
    return int(str(_select("select count(*) from keel.{}", connection, table)[0][0]))


def _select(query: LiteralString, connection: Connection, table: str) -> list[tuple[object, ...]]:
    return connection.execute(sql.SQL(query).format(sql.Identifier(table))).fetchall()
