"""Proof that the ledger is what it says: the audit chain recomputed, the books added up, every invariant asked.

The invariants are the named queries of `sql/invariants.sql`; their rows are the exceptions. Nothing is changed. All checks
read one snapshot, so a run that trades meanwhile raises no false alarm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from typing import Any

from psycopg import IsolationLevel
from psycopg.rows import class_row

from trading.store.anchoring import Evidence, unheld
from trading.store.database import Connection, connect, translated
from trading.store.roles import Role

FOUND_MAX = 20
"""Exceptions listed by one check; the first ones tell what is wrong, the last line how far it goes."""
_GENESIS = sha256(b"keel").digest()
_VERSIONS = (1, 2)
"""Of the audit row: version 2 hashes the database role as well."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check's verdict; `found` names what breaks it, empty when it holds; where it does, a line of `found` is a note."""

    name: str
    ok: bool
    found: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "found": list(self.found)}


@dataclass(frozen=True, slots=True)
class Verification:
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "checks": [check.to_dict() for check in self.checks]}


def verify(url: str, evidence: Evidence | None = None) -> Verification:
    """Every check's verdict over one snapshot of the ledger; with `evidence`, anchors are held against it as well.

    Without anchors a chain that was recomputed from some row on, or cut with its head moved, looks sound. Raises
    LedgerUnavailable.
    """
    with connect(url, "keel verify", Role.REPORT) as connection, translated():
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            return prove(connection, evidence)


def prove(connection: Connection, evidence: Evidence | None = None) -> Verification:
    """As `verify`, inside a transaction of the caller's."""
    asked = [_checked(name, _exceptions(connection, sql)) for name, sql in invariants().items()]
    outside = [] if evidence is None else [_anchors(connection, evidence)]
    return Verification((_checked("audit_chain", _chain(connection)), *outside, *asked))


def invariants() -> dict[str, str]:
    """Name -> query of its exceptions, from `sql/invariants.sql`."""
    parts = re.split(r"^-- name: (\w+)$", (files("trading.store") / "sql" / "invariants.sql").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _exceptions(connection: Connection, sql: str) -> Iterator[str]:
    return (str(row[0]) for row in connection.execute(sql))


def _checked(name: str, exceptions: Iterator[str]) -> Check:
    found = list(exceptions)
    more = [f"... and {len(found) - FOUND_MAX} more"] if len(found) > FOUND_MAX else []
    return Check(name, not found, (*found[:FOUND_MAX], *more))


def _anchors(connection: Connection, evidence: Evidence) -> Check:
    """AUD-2: every anchor is in the chain byte for byte. A torn line is a note: a crash while writing leaves one."""
    check = _checked("anchors", unheld(connection, evidence))
    return replace(check, found=(*check.found, *(f"note: {line} is torn" for line in evidence.lines.torn)))


def _chain(connection: Connection) -> Iterator[str]:
    """Walks the chain from its first row: version, sequence without holes, links, hashes, and the head at its end.

    The hash covers, each on its line: version, number, time, actor, role (from version 2
    on), kind, flow run, task run, payload; before it the
    hash of the row before (as `keel.audit_append` writes it). Recomputed here, by other code than wrote it.
    """
    before, expected = _GENESIS, 1
    with connection.cursor(name="chain", row_factory=class_row(_Link)) as cursor:
        cursor.itersize = 1000
        for row in cursor.execute("select * from keel.audit order by seq"):
            if row.seq != expected:
                yield f"row {expected} is missing: the next one is {row.seq}"
            if row.version not in _VERSIONS:
                yield f"row {row.seq}: found version {row.version}, expected one of {_VERSIONS}"
            if row.prev != before:
                yield f"row {row.seq} does not follow the row before it"
            if row.recomputed() != row.hash:
                yield f"row {row.seq} ({row.kind} at {row.at}) was changed after it was written"
            before, expected = row.hash, row.seq + 1
    head = connection.execute("select seq, hash from keel.audit_head").fetchone()
    if head != (expected - 1, before):
        yield f"the head says row {'none' if head is None else head[0]}, the chain ends at {expected - 1}"


@dataclass(frozen=True, slots=True)
class _Link:
    seq: int
    version: int
    at: str
    actor: str
    kind: str
    flow_run_id: str
    task_run_id: str
    payload: str
    prev: bytes
    hash: bytes
    role: str

    def recomputed(self) -> bytes:
        role = (self.role,) if self.version > 1 else ()
        words = (str(self.version), str(self.seq), self.at, self.actor, *role, self.kind, self.flow_run_id, self.task_run_id)
        return sha256(self.prev + "\n".join((*words, self.payload)).encode()).digest()
