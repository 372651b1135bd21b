"""Opening a breaker: one way for people, for breaks, and for the ledger's own keepers (proof, restore), who have no desk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from trading.errors import Stale
from trading.plan import BreakerRules
from trading.risk.breaker import BreakerRow, Cause, Level, closed, open_breaker
from trading.store.books import Books
from trading.store.database import Connection
from trading.store.journal import Change, Journal

REQUESTS = "(resume)"
"""Stands for a plan where the wish to resume is filed: no plan's operations are counted with it."""


def tighten(
    journal: Journal, scope: str, level: Level, reason: str, at: datetime, *, actor: str, cause: Cause,
    rules: BreakerRules | None = None, evidence: Sequence[object] = (),
) -> BreakerRow:  # fmt: skip
    """Opens the scope's breaker at the level; one that is open only ever gets stricter, one that is missing is made.

    `at` is market time. Takes no lock: a trip never waits.
    """
    books = Books(journal.connection)
    while True:
        found = books.breakers([scope])
        before = found[0] if found else closed(scope, at)
        after = open_breaker(before, rules or BreakerRules(), at, level=level, reason=reason, actor=actor, cause=cause)
        if after.generation == before.generation:
            return after
        change = Change()
        change.breaker(after, before if found else None, actor=actor, violations=evidence)
        try:
            journal.record("breaker", change)
        except Stale:
            continue  # it moved between the look and the move: each round somebody got on, so this ends
        return after


def halt(journal: Journal, scope: str, level: Level, reason: str, now: datetime, cause: Cause = Cause.DOUBT) -> BreakerRow:
    """`tighten` without a desk: `now` is wall time; in a ledger of replays alone their market time is used, which a resume is
    measured by. The cool-down is the default one.
    """
    at = _market_time(Books(journal.connection)) or now
    return tighten(journal, scope, level, reason, at, actor=journal.author().actor, cause=cause)


def _market_time(books: Books) -> datetime | None:
    """Where the newest replay stands; None as soon as one portfolio trades a market that has the clock on its wall."""
    query = """select max(c.market_at) from keel.cycle c
               where not exists (select from keel.portfolio where source not like 'replay:%')"""
    row = books.connection.execute(query).fetchone()
    found = row[0] if row else None
    return found if isinstance(found, datetime) else None


class Resting(NamedTuple):
    """Where orders may rest at a venue."""

    mode: str
    book: str
    plan: str


def resting(connection: Connection) -> list[Resting]:
    """Every plan with orders that the venue may have, one for each portfolio: settling it settles the whole portfolio."""
    query = """select distinct on (i.book) p.mode, i.book, i.plan
               from keel.order_head h join keel.intent i using (client_order_id) join keel.portfolio p on p.book = i.book
               where h.state in ('sending', 'in_doubt', 'open', 'cancelling') order by i.book, i.created_at desc"""
    return [Resting(*map(str, row)) for row in connection.execute(query)]


def real_books(connection: Connection) -> list[str]:
    """The portfolios whose orders are real."""
    return [str(row[0]) for row in connection.execute("select book from keel.portfolio where mode = 'live' order by book")]


def request_resume(journal: Journal, book: str, wish: str) -> None:
    """Files a wish to resume: a row that tells who and why, and leads nothing out."""
    change = Change()
    change.add("operations", book=book, plan=REQUESTS, kind="resume.request", ok=True, detail=wish)
    journal.record("resume.request", change)


def requested(connection: Connection) -> list[str]:
    """The wishes of the last day, newest first, with their times."""
    query = """select to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI"Z" ') || detail from keel.operation
               where plan = %s and kind = 'resume.request' and at > clock_timestamp() - interval '1 day' order by id desc"""
    return [str(row[0]) for row in connection.execute(query, (REQUESTS,))]
