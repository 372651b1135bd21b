"""Incidents: what a person must hear of, made from what the ledger says now. One incident has one key for as long as it lasts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from trading.breaks import KINDS
from trading.money import stamp
from trading.risk.breaker import BreakerRow, BreakerState, Level
from trading.risk.watches import BY_CODE
from trading.store.books import Books
from trading.store.database import Connection
from trading.store.mirroring import SUPABASE, lag

MIRROR_LAG_SECONDS = 300
"""A mirror that waits longer is an incident."""


class Severity(IntEnum):
    INFO = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that happened and goes on. Two looks that find the same key find the same incident."""

    key: str
    severity: Severity
    title: str
    evidence: str
    still_works: str
    do: str
    """The runbook's line."""
    owner: str = "operator"

    def to_text(self) -> str:
        return (
            f"[{self.severity.word}] {self.title}\n  {self.evidence}\n  Still works: {self.still_works}\n"
            f"  Owner: {self.owner}. First: {self.do}\n  docs/runbook.md"
        )


_STILL_WORKS: Mapping[Level | None, str] = {
    Level.REDUCE_ONLY: "sales that reduce a holding, settling, reconciling; no purchase is sent",
    Level.NO_NEW: "protective exits, settling, reconciling; nothing else is sent",
    Level.CANCEL: "protective exits, settling, reconciling; what rests and adds risk is cancelled",
}
_BREAKER_SEVERITY: Mapping[Level | None, Severity] = {Level.REDUCE_ONLY: Severity.WARNING}
_BREAK_SEVERITY = {1: Severity.CRITICAL, 2: Severity.WARNING, 3: Severity.INFO}


def incidents(connection: Connection) -> list[Incident]:
    """Every breaker and break that is open in the ledger, worst first. Raises LedgerUnavailable."""
    books = Books(connection)
    opened = [of_breaker(row) for row in books.breakers() if row.state is BreakerState.OPEN and row.opened_by != "opening"]
    names = [str(row[0]) for row in connection.execute("select book from keel.portfolio order by book")]
    breaks = [of_break(row) for name in names for row in books.open_breaks(name)]
    return worst_first([*opened, *breaks, *mirrors(connection)])


def mirrors(connection: Connection) -> list[Incident]:
    """The mirror in Supabase, where it is further behind than it may be."""
    behind = lag(connection, SUPABASE)
    if behind is None or behind.seconds < MIRROR_LAG_SECONDS:
        return []
    return [
        Incident(
            key=f"mirror:{SUPABASE}", severity=Severity.WARNING, title="the mirror in Supabase is behind",
            evidence=f"{behind.records} changes wait, the oldest for {behind.seconds:.0f} s",
            still_works="everything: nothing that trades waits for the mirror, and it loses nothing",
            do="look at `keel mirror` and at the project's status; it catches up by itself",
        )
    ]  # fmt: skip


def worst_first(found: Iterable[Incident]) -> list[Incident]:
    return sorted(found, key=lambda incident: (-incident.severity, incident.key))


def of_breaker(row: BreakerRow) -> Incident:
    """An open breaker; one that opens again, or further, is another incident."""
    code = row.reason.split(":", 1)[0]
    do = BY_CODE[code].do if code in BY_CODE else "`keel breaker show`, `keel reconcile`; lead out with `keel resume`"
    since = "" if row.opened_at is None else f" since {stamp(row.opened_at)}"
    return Incident(
        key=f"breaker:{row.scope}:{row.generation}",
        severity=_BREAKER_SEVERITY.get(row.level, Severity.CRITICAL),
        title=f"breaker {row.scope} is open at {row.level}",
        evidence=f"{row.reason} (by {row.opened_by}{since})",
        still_works=_STILL_WORKS.get(row.level, _STILL_WORKS[Level.CANCEL]),
        do=do,
    )


def of_break(row: Mapping[str, Any]) -> Incident:
    kind = KINDS.get(row["class"])
    means = kind.means if kind else "a kind that this version does not know"
    freezes = f"; {row['asset']} is frozen" if row["asset"] else ""
    return Incident(
        key=f"break:{row['id']}",
        severity=_BREAK_SEVERITY.get(int(row["severity"]), Severity.CRITICAL),
        title=f"break in {row['book']}: {row['class']} {row['subject']}",
        evidence=f"{means}; ours {row['ours']}, theirs {row['theirs']}",
        still_works=f"everything that the breakers let through{freezes}",
        do=f"`keel breaks show {str(row['id'])[:8]}`, then resolve it with a reason",
        owner=str(row["owner"]),
    )
