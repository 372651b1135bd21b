"""The halt file: while it exists, no order leaves this machine, in any mode. Whoever can write a file can stop trading.

It needs neither Prefect nor Postgres nor `keel`: `touch .keel/HALT` is enough. `keel resume` takes it away.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from config.settings import Settings, private_folder, write_private
from trading.money import stamp

SHOWN_MAX = 200


def halt_file(settings: Settings) -> Path:
    """`KEEL_HALT_FILE`, or `HALT` in the state folder."""
    return settings.halt_file or settings.home / "HALT"


def halted_by(settings: Settings) -> Callable[[], str]:
    """What tells why nothing may be sent, asked right before each send; its answer is empty when it may.

    Fails closed: a folder that is gone, or that cannot be looked into, halts as the file itself does.
    """
    file = halt_file(settings)

    def halted() -> str:
        try:
            file.parent.stat()
            file.lstat()  # a link that leads nowhere is there as well
        except FileNotFoundError as error:
            return "" if error.filename == str(file) else f"halted: the folder of the halt file is gone ({file.parent})"
        except OSError as error:
            return f"halted: the halt file cannot be looked for ({error})"
        return f"halted by {file}{_said(file)}"

    return halted


def write_halt(settings: Settings, reason: str, actor: str, now: datetime) -> Path:
    """Writes the file; one that is there stays as it is: the first reason is kept. Raises OSError."""
    file = halt_file(settings)
    if settings.halt_file is None:
        private_folder(settings.home)
    if not file.exists():
        write_private(file, f"{stamp(now)} {actor}: {reason}\n")
    return file


def remove_halt(settings: Settings) -> bool:
    """Takes the file away; True if there was one. Raises OSError."""
    file = halt_file(settings)
    was_there = file.is_symlink() or file.exists()
    file.unlink(missing_ok=True)
    return was_there


def _said(file: Path) -> str:
    """What whoever wrote it said: for people; nothing of it decides anything."""
    text = ""
    with suppress(OSError):
        text = file.read_text(encoding="utf-8", errors="replace")[:SHOWN_MAX].strip()
    return f": {text}" if text else ""
