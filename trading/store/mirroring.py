"""The chain read as an outbox: each change as rows for a mirror outside, in the order of the commits, none left out.

What a change wrote stands in its audit row, in the same transaction. Appending takes the chain's head, so no row of a lower
number is committed later than one of a higher: a number is all that a mirror has to remember.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from trading.store.database import Connection, connect, translated
from trading.store.reports import Reports
from trading.store.roles import Role
from trading.store.rows import plain

Row = dict[str, Any]
SUPABASE = "supabase"
"""Name of the mirror in a Supabase project."""


@dataclass(frozen=True, slots=True)
class Told:
    """One change: its number and time in the chain, and its rows by table of the mirror, each with the key `key`."""

    seq: int
    at: str
    rows: Mapping[str, list[Row]]


class Lag(NamedTuple):
    """How far a mirror is behind: records, and the age of the oldest of them in seconds (0 when nothing waits)."""

    records: int
    seconds: float


def told_to(reports: Reports, name: str) -> int:
    """Number of the last change that the mirror has; 0 before its first."""
    found = reports.mappings("select seq from keel.mirror where name = :name", name=name)
    return int(found[0]["seq"]) if found else 0


def tell(url: str, name: str, seq: int) -> None:
    """Remembers that the mirror has everything up to this change; never goes back. Raises LedgerUnavailable, NotAllowed."""
    with connect(url, "keel mirror", Role.DECIDE) as connection, translated():
        connection.execute("select keel.mirrored(%s, %s)", (name, seq))


def lag(connection: Connection, name: str) -> Lag | None:
    """How far the mirror is behind; None for one that was never told anything. Raises LedgerUnavailable."""
    with translated():
        row = connection.execute(
            """select h.seq - m.seq, (select extract(epoch from clock_timestamp() - cast(a.at as timestamptz))
                                      from keel.audit a where a.seq = m.seq + 1)
               from keel.audit_head h join keel.mirror m on m.name = %s""",
            (name,),
        ).fetchone()
    return None if row is None else Lag(int(str(row[0])), max(float(str(row[1] or 0)), 0.0))


def changes_after(reports: Reports, seq: int, most: int) -> list[Told]:
    """The next changes of the chain, at most so many; one that tells a mirror nothing has no rows."""
    found = reports.mappings(
        "select seq, at, payload from keel.audit where seq > :seq order by seq limit :most", seq=seq, most=most
    )
    return [Told(row["seq"], row["at"], _rows(reports, row["seq"], row["at"], json.loads(row["payload"]))) for row in found]


def _rows(reports: Reports, seq: int, at: str, payload: Mapping[str, Any]) -> dict[str, list[Row]]:
    ids = [row["client_order_id"] for name in ("intents", "events") for row in payload.get(name, ())]
    fills = [fill for fill in payload.get("fills", ()) if fill.get("client_order_id")]
    tables = {
        "orders": list(_orders(reports, ids)),
        "order_events": list(_events(payload.get("events", ()))),
        "fills": [_pick(fill, f"{fill['book']}:{fill['entry_id']}", _FILL) for fill in fills],
        "positions": list(_positions(reports, [fill["client_order_id"] for fill in fills])),
        "pnl": [_pick(row, f"{row['book']}:{row['plan']}:{row['at']}", _PNL) for row in payload.get("equity", ())],
        "risk_metrics": list(_risk(payload.get("cycles", ()))),
        "breaker_events": [_pick(row, f"{row['scope']}:{row['generation']}", _BREAKER) for row in payload.get("breakers", ())],
    }
    return {table: [row | {"seq": seq, "recorded_at": at} for row in rows] for table, rows in tables.items() if rows}


_FILL = ("book", "entry_id", "client_order_id", "product", "side", "quantity", "price", "fee", "fee_asset", "traded_at")
_PNL = ("book", "plan", "at", "equity", "cash", "realised", "unrealised", "fees")
_RISK = ("daily_loss", "daily_loss_usd", "drawdown", "open_positions", "largest_position_share", "volatility",
         "consecutive_errors")  # fmt: skip
_BREAKER = ("scope", "generation", "state", "level", "reason")


def _pick(row: Mapping[str, Any], key: str, names: tuple[str, ...]) -> Row:
    return {"key": key} | {name: row.get(name) for name in names}


def _risk(cycles: Any) -> Iterator[Row]:
    """What the breaker looked at in a run that decided; a figure that could not be known is null."""
    for cycle in cycles:
        summary = cycle.get("summary") or {}
        if figures := summary.get("risk"):
            owner = {"book": cycle["book"], "plan": cycle["plan"], "at": summary["market_at"]}
            yield {"key": ":".join(owner.values())} | owner | {name: figures.get(name) for name in _RISK}


def _events(events: Any) -> Iterator[Row]:
    """Every step of every order: what the state of an order alone would not tell afterwards."""
    for event in events:
        key = f"{event['client_order_id']}:{event['seq']}"
        yield _pick(event, key, ("client_order_id", "event", "from_state", "to_state", "evidence"))


def _orders(reports: Reports, ids: list[str]) -> Iterator[Row]:
    """The orders as they stand: those that the change concerned, whole, so that a row of the mirror never lacks a column."""
    query = """select client_order_id, exchange_order_id, mode, book, plan, slot, product, side, type, quantity, price, state,
                 filled, reason, created_at
               from keel.orders where client_order_id = any(cast(:ids as uuid[]))"""
    for row in reports.mappings(query, ids=sorted(set(ids))) if ids else ():
        yield {"key": str(row["client_order_id"]), **plain(row)}


def _positions(reports: Reports, ids: list[str]) -> Iterator[Row]:
    """What is held now of the products that were traded; nothing held is a position that is closed."""
    query = """select distinct i.book, i.plan, i.product, coalesce(p.quantity, 0) as quantity, coalesce(p.cost, 0) as cost
               from keel.intent i left join keel.positions p using (book, plan, product)
               where i.client_order_id = any(cast(:ids as uuid[]))"""
    for row in reports.mappings(query, ids=sorted(set(ids))) if ids else ():
        state = "open" if row["quantity"] else "closed"
        yield {"key": f"{row['book']}:{row['plan']}:{row['product']}", "state": state, **plain(row)}
