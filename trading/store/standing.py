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


def opened_plan_at(connection: Connection, book: str, plan: str) -> datetime | None:
    """Market time at which the plan got its capital; None before that."""
    query = "select effective_at from keel.txn where (kind, source_type, source_id) = ('opening', 'plan', %s)"
    return _time(connection, query, f"{book}:{plan}")


def given(connection: Connection, book: str, plan: str) -> Decimal | None:
    """Cash that the plan was opened with and was given since, less what was taken from it; None before it is opened."""
    query = """
      select -sum(p.amount) from keel.txn t join keel.posting p on p.txn_id = t.id join keel.account a on a.id = p.account_id
      where t.book = %s and t.kind in ('opening', 'allotment') and a.kind = 'equity' and a.plan = %s"""
    with translated():
        row = connection.execute(query, (book, plan)).fetchone()
    return None if row is None or row[0] is None else Decimal(str(row[0]))


def drawdown_since(connection: Connection, book: str, plan: str, since: datetime) -> Decimal:
    """1 − last mark ÷ highest mark at or after `since` (market time), as a ratio; zero without a mark.

    Cash that the plan was given or that was taken from it meanwhile is neither gain nor loss.
    """
    query = """
      with marks as (
        select at, equity + coalesce((select sum(amount) from keel.allotment f
                                      where (f.book, f.plan) = (e.book, e.plan) and f.posted_at > e.recorded_at), 0) as equity
        from keel.equity e where book = %s and plan = %s and at >= %s)
      select 1 - (select equity from marks order by at desc limit 1) / nullif(max(equity), 0) from marks"""
    with translated():
        row = connection.execute(query, (book, plan, since)).fetchone()
    return Decimal(str(row[0])) if row is not None and row[0] is not None else Decimal(0)


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
