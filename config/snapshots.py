"""Snapshots of the ledger: whole copies in a file each, taken before its schema changes, and put back by a person's command.

The copies are Postgres's own (pg_dump, custom format). A restore never overwrites: the copy goes into a new database, which
then takes the ledger's name; the one before keeps its rows under another name.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from psycopg import sql
from sqlalchemy import URL, make_url

from config.clock import wall_clock
from config.postgres import find_binaries
from config.settings import Settings, private_folder
from trading.errors import LedgerUnavailable
from trading.risk import Level
from trading.store.database import HEAD, Connection, Sessions, connect, downgrade, ensure_schema, make_roles, revision, translated
from trading.store.halting import halt
from trading.store.journal import Author, Journal

_INHERITED = ("PATH", "LD_LIBRARY_PATH", "HOME")
_TIMEOUT_SECONDS = 3600
_CLOSING_SECONDS = 2.0
_POLL_SECONDS = 0.05


def ready(url: str, settings: Settings) -> None:
    """Brings the ledger to this version's schema; one that holds anything is copied first."""
    ensure_schema(url, before_upgrade=lambda: snapshot(url, settings))


def snapshot(url: str, settings: Settings) -> Path:
    """The file of a new copy, private to its user, in `snapshots` of the state folder. Raises LedgerUnavailable."""
    folder = private_folder(private_folder(settings.home) / "snapshots")
    with connect(url) as connection:
        name = f"{_compact(wall_clock())}-{revision(connection) or 'empty'}-{_rows(connection)}"
    file = folder / f"{name}.dump"
    draft = file.with_suffix(f".{os.getpid()}.draft")
    draft.touch(mode=0o600)
    _run(settings, "pg_dump", "--format=custom", f"--file={draft}", url=make_url(url))
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(file)  # a file of that name is whole
    return file


def latest(settings: Settings, at: str = "*") -> Path | None:
    """The newest copy, of any revision or of that one; None if there is none."""
    found = sorted((settings.home / "snapshots").glob(f"*-{at}-*.dump"))
    return found[-1] if found else None


def step_down(url: str, settings: Settings, to: str) -> Path:
    """Brings the schema down to an older revision, after a copy; returns the copy.

    Raises BooksRefused, naming them, where rows would be lost: nothing is changed then.
    """
    taken = snapshot(url, settings)
    downgrade(url, to)
    return taken


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: what the ledger has lost by it is still in the database `kept`."""

    kept: str
    rows: int
    """Audit rows in the ledger now."""
    lost: Mapping[str, int]
    """Kind of change -> how many of them the restored copy lacks."""
    same_history: bool
    """True if the copy is an earlier state of the ledger that it replaces."""
    anchors: Path | None
    """Where the anchors of the replaced ledger were put: the chain of the copy does not hold all of them."""


def restore(url: str, settings: Settings, file: Path, author: Callable[[], Author]) -> Restored:
    """Puts a copy in the ledger's place and holds all trading by open breakers, until a person has reconciled and resumed.

    Raises LedgerUnavailable: an unreadable copy, or somebody is connected to the ledger. Nothing is replaced then.
    """
    ledger = make_url(url)
    name, stamp = str(ledger.database), _compact(wall_clock())
    draft, kept = f"{name}_restoring_{stamp}", f"{name}_before_restore_{stamp}"
    with connect(_at(ledger, "postgres")) as admin:
        _nobody_at(admin, name)
        make_roles(admin)  # the copy may come from another server
        _execute(admin, "create database {}", draft)
        try:
            _run(settings, "pg_restore", "--exit-on-error", f"--dbname={draft}", str(file), url=ledger.set(database=draft))
            with connect(_at(ledger, draft)) as connection:
                current = revision(connection) == HEAD  # an older schema knows no roles
            with Sessions(_at(ledger, draft), in_roles=current) as sessions:
                _hold(Journal(sessions, author), file)
        except Exception:
            _execute(admin, "drop database {} with (force)", draft)
            raise
        _nobody_at(admin, name)
        _execute(admin, "alter database {} rename to {}", name, kept)
        _execute(admin, "alter database {} rename to {}", draft, name)
    return _compared(url, _at(ledger, kept), kept, _put_aside(settings, stamp))


def _hold(journal: Journal, file: Path) -> None:
    """Opens every portfolio's breaker in the restored ledger: the venue may know what it has forgotten."""
    for (book,) in journal.connection.execute("select book from keel.portfolio order by 1").fetchall():
        halt(journal, f"portfolio:{book}", Level.NO_NEW, f"restored from a snapshot ({file.name})", wall_clock())


def _compared(url: str, before: str, kept: str, anchors: Path | None) -> Restored:
    with connect(url) as now, connect(before) as old:
        rows = _rows(now)
        copied = now.execute("select max(seq) from keel.audit where kind <> 'breaker'").fetchone()
        last = int(str(copied[0] or 0)) if copied else 0
        same = _hash(now, last) == _hash(old, last)
        query = "select kind, count(*) from keel.audit where seq > %s group by 1 order by 1"
        lost = {str(kind): int(str(count)) for kind, count in old.execute(query, (last if same else 0,)).fetchall()}
    return Restored(kept, rows, lost, same, anchors)


def _put_aside(settings: Settings, stamp: str) -> Path | None:
    file = settings.anchors or settings.home / "anchors.jsonl"
    if not file.exists():
        return None
    return file.rename(file.with_name(f"{file.name}.before_restore_{stamp}"))


def _hash(connection: Connection, seq: int) -> object:
    row = connection.execute("select hash from keel.audit where seq = %s", (seq,)).fetchone()
    return None if row is None else row[0]


def _rows(connection: Connection) -> int:
    if revision(connection) is None:
        return 0
    row = connection.execute("select seq from keel.audit_head").fetchone()
    return int(str(row[0])) if row else 0


def _nobody_at(admin: Connection, database: str) -> None:
    # People and programs: Postgres itself stops its own cleaners there.
    query = """select application_name, pid from pg_stat_activity
               where datname = %s and backend_type = 'client backend' order by 1, 2"""
    until = time.monotonic() + _CLOSING_SECONDS
    while (found := admin.execute(query, (database,)).fetchall()) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)  # a session that was closed a moment ago is still listed
    if found:
        who = ", ".join(f"{application or 'unnamed'} ({pid})" for application, pid in found)
        raise LedgerUnavailable(f"the ledger is in use by {who}: stop the stack (`keel down`) and whatever else uses it")


def _execute(admin: Connection, statement: str, *names: str) -> None:
    with translated():
        admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _at(url: URL, database: str) -> str:
    return url.set(database=database).render_as_string(hide_password=False)


def _compact(at: datetime) -> str:
    return at.strftime("%Y%m%dT%H%M%SZ")


def _run(settings: Settings, program: str, *arguments: str, url: URL) -> None:
    """One of Postgres's programs at that database. The password goes by the environment: arguments are public."""
    told = {
        "PGUSER": url.username,
        "PGHOST": url.host,
        "PGPORT": url.port,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }
    query = {"host": "PGHOST", "port": "PGPORT", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {"LC_ALL": "C"}
    environment |= {name: str(value) for name, value in told.items() if value is not None} | {"PGDATABASE": str(url.database)}
    environment |= {query[name]: str(value) for name, value in url.query.items() if name in query}
    command = [str(find_binaries(settings.postgres_bin) / program), "--no-password", *arguments]
    done = subprocess.run(  # noqa: S603 - our own program and paths
        command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_SECONDS
    )
    if done.returncode:
        raise LedgerUnavailable(f"{program} failed: {done.stderr.strip()[-2000:]}")
