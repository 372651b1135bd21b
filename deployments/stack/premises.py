"""The state folder of a stack: one supervisor at a time, a record of what runs, and the shell file that leads to it."""

from __future__ import annotations

import errno
import fcntl
import json
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from config.prefect import HOST, client_settings
from config.settings import write_private
from deployments.stack.processes import ProcessId
from trading.errors import ConfigurationError

FIRST_PORT = 4200
_PORTS_TRIED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a running supervisor says about itself."""

    supervisor: ProcessId
    port: int


def try_lock(home: Path) -> IO[str] | None:
    """The stack's lock, held as long as the file is open; None when a supervisor holds it. The kernel frees it."""
    lock = (home / "stack.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def read_record(home: Path) -> Record | None:
    try:
        found = json.loads((home / "stack.json").read_text())
    except FileNotFoundError:
        return None
    return Record(supervisor=ProcessId(**found["supervisor"]), port=found["port"])


@contextmanager
def recorded(home: Path, port: int) -> Iterator[None]:
    """Records this process as the supervisor, for as long as the block lasts."""
    record = Record(supervisor=ProcessId.current(), port=port)
    write_private(home / "stack.json", json.dumps(asdict(record)))
    try:
        yield
    finally:
        (home / "stack.json").unlink(missing_ok=True)


def write_shell_file(home: Path, port: int) -> Path:
    """`. <state folder>/env.sh` makes `prefect` and `keel` talk to this stack. It holds the password: 0600."""
    # No DATABASE_URL: a later `keel up` of that shell would take the embedded ledger for a foreign one.
    lines = ["# For a shell: the stack's Prefect server, and the project's commands. Written at each start."]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in client_settings(home, port).items()]
    lines += [f'export PATH={shlex.quote(str(Path(sys.prefix) / "bin"))}:"$PATH"']
    file = home / "env.sh"
    write_private(file, "\n".join([*lines, ""]))
    return file


def choose_port(wanted: int | None) -> int:
    """The port that was set, or the first free one from 4200. Raises ConfigurationError naming the setting."""
    if wanted is not None:
        if not is_free(wanted):
            raise ConfigurationError(f"KEEL_PREFECT_PORT={wanted}: another program listens there; set a free port, or none")
        return wanted
    for port in range(FIRST_PORT, FIRST_PORT + _PORTS_TRIED):
        if is_free(port):
            return port
    raise ConfigurationError(f"no free port from {FIRST_PORT} to {FIRST_PORT + _PORTS_TRIED - 1}: set KEEL_PREFECT_PORT")


def is_free(port: int) -> bool:
    """True if a server could listen there now; a port whose last connections are only waiting to time out is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
