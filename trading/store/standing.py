"""Where a portfolio stands on its way to real orders: reconciled, armed, and on which step of its capital ramp."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg.rows import dict_row

from trading.store.database import Connection, translated


@dataclass(frozen=True, slots=True, kw_only=True)
class RampStep:
    """The newest step of a plan: how much of its own money it may have at risk, since when, and on whose word."""

    step: int
    capital: Decimal
    reason: str
    actor: str
    at: datetime
    evidence: dict[str, Any]


def reconciled_at(connection: Connection, book: str) -> datetime | None:
    """Wall time of the newest clean reconciliation; None without one."""
    return _time(connection, "select max(at) from keel.reconciliation where book = %s and clean", book)


def armed_until(connection: Connection, book: str) -> datetime | None:
    """Wall time at which the newest arming ends, which may be over; None without one."""
    return _time(connection, "select keel.armed_until(%s)", book)


def ramp_steps(connection: Connection, book: str, plan: str) -> list[RampStep]:
    """The plan's steps, newest first."""
    query = """select step, capital, reason, actor, at, evidence from keel.ramp_step where book = %s and plan = %s
               order by at desc"""
    with translated(), connection.cursor(row_factory=dict_row) as cursor:
        return [RampStep(**row) for row in cursor.execute(query, (book, plan)).fetchall()]


def _time(connection: Connection, query: str, book: str) -> datetime | None:
    with translated():
        row = connection.execute(query, (book,)).fetchone()
    return row[0] if row is not None and isinstance(row[0], datetime) else None
