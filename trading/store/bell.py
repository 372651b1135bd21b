"""The ledger's bell: whoever watches the books is told of every commit, and of a database that is gone."""

from __future__ import annotations

from collections.abc import Iterator

from trading.store.database import connect, translated
from trading.store.roles import Role

CHANNEL = "keel"
"""What `keel.audit_append` notifies: everything that is recorded passes it."""


def rings(url: str, quiet_seconds: float = 1.0) -> Iterator[int]:
    """How many records were committed since the last answer: as soon as there are some, and 0 after each quiet while.

    The first answer is 1: what was read before may be old. A 0 has just asked the database. Raises LedgerUnavailable when it
    does not answer; NotAllowed when the login may not read.
    """
    with connect(url, "keel bell", Role.REPORT) as connection, translated():
        connection.execute(f"listen {CHANNEL}")
        yield 1
        while True:
            heard = sum(1 for _ in connection.notifies(timeout=quiet_seconds, stop_after=1))
            if not heard:
                connection.execute("select 1")
            yield heard
