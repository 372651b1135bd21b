"""Stored decisions, read back for their proof: what was seen, what was decided, and how each request was judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from trading.errors import ConfigurationError
from trading.orders import slot_name
from trading.store.database import Connection, translated
from trading.store.reports import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """One slot's decision. `seen` and `decided` are the texts that were stored; `source` is the portfolio's market source."""

    book: str
    plan: str
    slot_at: datetime
    plan_sha: str
    code: str
    seen: str
    decided: str
    source: str
    evaluations: Sequence[dict[str, Any]] = ()
    """product, leg, approved and body of each request, as they were stored."""

    @property
    def slot(self) -> str:
        return slot_name(self.plan, self.slot_at)


class Decisions:
    """The decisions of one ledger."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def newest(self, book: str, plan: str, count: int) -> list[StoredDecision]:
        """The plan's last decisions, oldest first."""
        found = self._read("d.book = %s and d.plan = %s", "d.slot_at desc limit %s", book, plan, count)
        return found[::-1]

    def of_slot(self, plan: str, slot_at: datetime, scope: Scope) -> list[StoredDecision]:
        """The decision of a slot in each portfolio of the scope that has the plan."""
        where = "d.plan = %s and d.slot_at = %s and %s in ('', p.mode) and %s in ('', p.name)"
        return self._read(where, "d.book", plan, slot_at, scope.mode or "", scope.portfolio or "")

    def configuration(self, sha256: str) -> str:
        """The text with that hash: a plan, or a venue's rules. Raises ConfigurationError when the ledger has none."""
        rows = self._rows("select body from keel.config_version where sha256 = %s", sha256)
        if not rows:
            raise ConfigurationError(f"configuration {sha256}: found nothing in the ledger, expected its text")
        return str(rows[0]["body"])

    def _read(self, where: str, order: str, *values: object) -> list[StoredDecision]:
        rows = self._rows(
            f"""select d.book, d.plan, d.slot_at, d.plan_sha, d.code, d.seen, d.decided, p.source
                from keel.decision d join keel.portfolio p on p.book = d.book where {where} order by {order}""",  # noqa: S608 - parts of this file
            *values,
        )
        return self._with_evaluations(StoredDecision(**row) for row in rows)

    def _with_evaluations(self, decisions: Iterable[StoredDecision]) -> list[StoredDecision]:
        found = list(decisions)
        judged: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in self._rows(
            """select book, slot, product, leg, approved, body from keel.evaluation
               where (book, plan, slot) in (select * from unnest(%s::text[], %s::text[], %s::text[]))""",
            [one.book for one in found], [one.plan for one in found], [one.slot for one in found],
        ):  # fmt: skip
            judged.setdefault((row["book"], row["slot"]), []).append(row)
        return [replace(one, evaluations=tuple(judged.get((one.book, one.slot), ()))) for one in found]

    def _rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with translated(), self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values).fetchall()
