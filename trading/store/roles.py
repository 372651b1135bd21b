"""Whose rights a session of the database has: the names of `sql/roles.sql`."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Whose rights a session has ; none of them can log in."""

    OWNER = "keel_owner"
    DECIDE = "keel_decide"
    EXECUTE = "keel_execute"
    RECONCILE = "keel_reconcile"
    REPORT = "keel_report"
    HUMAN = "keel_human"
    VENUE = "keel_venue"
    """The paper exchange's own books, and nothing of the ledger."""
