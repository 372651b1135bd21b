"""Files that only their owner may read: read after a look at their permissions, written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trading.errors import ConfigurationError

_LONGEST = 1 << 20
"""Bytes. A file of keys is a few kilobytes: anything longer is the wrong file."""


def read_private(file: Path) -> bytes:
    """What the file holds. Raises ConfigurationError if others may read it, or if it is no plain file of this user.

    The permissions are those of what was opened, so nobody can swap the file between the look and the reading.
    """
    try:
        opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    with os.fdopen(opened, "rb") as stream:
        if problem := _exposed(os.fstat(opened)):
            raise ConfigurationError(f"{file}: {problem}")
        return stream.read(_LONGEST)


def _exposed(found: os.stat_result) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        return "found no plain file, expected one"
    if found.st_uid != os.geteuid():
        return f"found an owner with id {found.st_uid}, expected the user who runs this, {os.geteuid()}"
    if mode & 0o077:
        return f"found mode {mode:04o}, which lets others at it, expected 0600 (chmod 600 the file)"
    return f"found {found.st_size} bytes, expected fewer than {_LONGEST}" if found.st_size >= _LONGEST else None


def write_durably(file: Path, data: bytes) -> None:
    """Replaces the file, whole or not at all, on disk when this returns; readable by its owner only."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = draft_of(file)
    draft.unlink(missing_ok=True)  # of a run that was killed
    opened = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(opened, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(opened)
    move_durably(draft, file)


def move_durably(source: Path, target: Path) -> None:
    """The source takes the target's place, on disk when this returns; the old target's bytes are overwritten with zeros.

    A disk may keep older copies of a block; what this process can do against that is done.
    """
    old = os.open(target, os.O_WRONLY | os.O_CLOEXEC) if target.exists() else None
    source.replace(target)
    _sync_folder(target.parent)
    if old is None:
        return
    with os.fdopen(old, "wb") as stream:
        stream.write(bytes(os.fstat(old).st_size))
        stream.flush()
        os.fsync(old)


def draft_of(file: Path) -> Path:
    """Where a new version is written before it takes the file's place."""
    return file.with_name(f".{file.name}.draft")


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
