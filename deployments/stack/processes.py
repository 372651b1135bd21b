"""Processes of the machine: which one is which, which are this stack's, and how to end them.

Everything that the stack starts carries `KEEL_STACK=<state folder>` in its environment. By that, and by nothing else,
a later command finds what a killed supervisor left behind: a number alone may belong to another program by now.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARKER = "KEEL_STACK"
_PROC = Path("/proc")
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told apart from a later one with the same number by its start (clock ticks since boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process as it is now; None when there is none, or only a zombie."""
        try:
            fields = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def current(cls) -> ProcessId:
        """This process."""
        return cls(os.getpid(), int((_PROC / "self" / "stat").read_text().rsplit(")", 1)[1].split()[19]))

    def alive(self) -> bool:
        return ProcessId.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        if self.alive():
            with suppress(ProcessLookupError):  # it ended in between
                os.kill(self.pid, number)


def marked(home: Path) -> list[ProcessId]:
    """The processes that a stack of this state folder started, this one and its parents excepted."""
    entry = f"{MARKER}={home}".encode()
    spared = set(_ancestors(os.getpid()))
    found = []
    for folder in _PROC.glob("[0-9]*"):
        pid = int(folder.name)
        if pid not in spared and entry in _environment(folder) and (process := ProcessId.of(pid)) is not None:
            found.append(process)
    return found


def end(processes: Iterable[ProcessId], patience_seconds: float) -> int:
    """Asks each to end, kills what is left after the patience, and returns how many there were."""
    asked = list(processes)
    for process in asked:
        process.signal(signal.SIGTERM)
    _wait(asked, patience_seconds)
    for process in asked:
        process.signal(signal.SIGKILL)
    _wait(asked, patience_seconds)
    return len(asked)


def _wait(processes: list[ProcessId], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(process.alive() for process in processes):
        time.sleep(_POLL_SECONDS)


def _environment(folder: Path) -> list[bytes]:
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except OSError:  # it ended, or belongs to another user
        return []


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        try:
            pid = int((_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return
