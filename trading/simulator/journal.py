"""What a simulated venue must not forget: its opening and every command with its time, in one SQLite file.

A command is committed before it is carried out and before it is answered, so that a killed venue has lost nothing that
anybody was told. Against a kill of the process the write-ahead log needs no flush to the disk; against a power cut it would.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from trading.errors import ConfigurationError

_TABLE = """
CREATE TABLE IF NOT EXISTS command (number INTEGER PRIMARY KEY, at TEXT NOT NULL, name TEXT NOT NULL, payload TEXT NOT NULL)
"""


class CommandLog:
    """The commands of one home folder, in their order. Used by one process at a time: a second one is refused."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None, timeout=1)
        try:
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_TABLE)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise ConfigurationError(f"{file}: {error}: another simulator has this home open") from error

    def append(self, at: datetime, name: str, payload: Mapping[str, Any]) -> None:
        """Returns when the command is committed."""
        row = (at.isoformat(), name, json.dumps(payload))
        self._connection.execute("INSERT INTO command (at, name, payload) VALUES (?, ?, ?)", row)

    def __iter__(self) -> Iterator[tuple[datetime, str, dict[str, Any]]]:
        rows = self._connection.execute("SELECT at, name, payload FROM command ORDER BY number").fetchall()
        return ((datetime.fromisoformat(at), name, json.loads(payload)) for at, name, payload in rows)

    def close(self) -> None:
        self._connection.close()
