"""Halts by the ledger's own keepers (the proof, a restore): they open a breaker and need no desk, plan or exchange for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trading.errors import Stale
from trading.plan import BreakerRules
from trading.risk.breaker import BreakerRow, Level, closed, open_breaker
from trading.store.books import Books
from trading.store.journal import Change, Journal


def halt(journal: Journal, scope: str, level: Level, reason: str, now: datetime) -> BreakerRow:
    """Opens the scope's breaker at the level, with the default cool-down; one that is open only ever gets stricter.

    `now` is wall time; in a ledger of replays alone their market time is used, which a resume is measured by. Takes no lock.
    """
    books, actor = Books(journal.connection), journal.author().actor
    at = _market_time(books) or now
    while True:
        found = books.breakers([scope])
        before = found[0] if found else closed(scope, at)
        after = open_breaker(before, BreakerRules(), at, level=level, reason=reason, actor=actor)
        if after.generation == before.generation:
            return after
        change = Change()
        change.add("breakers", **_row(after), from_state=before.state if found else None, actor=actor, violations=[])
        try:
            journal.record("breaker", change)
        except Stale:
            continue  # it moved between the look and the move: each round somebody got on, so this ends
        return after


def _row(breaker: BreakerRow) -> dict[str, Any]:
    return {name: getattr(breaker, name) for name in BreakerRow.__dataclass_fields__}


def _market_time(books: Books) -> datetime | None:
    """Where the newest replay stands; None as soon as one portfolio trades a market that has the clock on its wall."""
    query = """select max(c.market_at) from keel.cycle c
               where not exists (select from keel.portfolio where source not like 'replay:%')"""
    row = books.connection.execute(query).fetchone()
    found = row[0] if row else None
    return found if isinstance(found, datetime) else None
