"""The file of anchors, and the ledger held against it.

The file is append-only JSON lines. It belongs where who can write to the database cannot write: another disk, another
host, a path with the append-only attribute. A verifier keeps its own copy.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from trading.anchors import Anchor, AnchorLines, read_lines, sign, signed_by
from trading.errors import AnchorFailed
from trading.store.database import Connection, translated
from trading.store.journal import Change, Journal


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was kept outside of the ledger: anchors, and the keys that may have signed them."""

    lines: AnchorLines
    keys: Collection[Ed25519PublicKey]


@dataclass(frozen=True, slots=True)
class AnchorFile:
    """Anchors as lines of a file that only ever grows."""

    path: Path

    def read(self) -> AnchorLines:
        """Every anchor that the file holds; none when there is no file. Raises AnchorFailed when it cannot be read."""
        try:
            return read_lines(self.path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return AnchorLines((), (), ())
        except OSError as error:
            raise AnchorFailed(f"anchors {self.path}: cannot be read: {error.strerror}") from error

    def append(self, anchor: Anchor) -> None:
        """Adds a line and waits until it is on the disk. Raises AnchorFailed; a part of the line may then have been written."""
        try:
            opened = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _append_line(opened, anchor.line())
            finally:
                os.close(opened)
        except OSError as error:
            raise AnchorFailed(f"anchors {self.path}: cannot be written: {error.strerror}") from error


def _append_line(opened: int, line: str) -> None:
    fcntl.flock(opened, fcntl.LOCK_EX)
    size = os.fstat(opened).st_size
    starts_clean = size == 0 or os.pread(opened, 1, size - 1) == b"\n"
    data = (b"" if starts_clean else b"\n") + line.encode() + b"\n"  # a torn line stays as it is, and ends here
    while data:
        data = data[os.write(opened, data) :]
    os.fsync(opened)


def anchor_head(journal: Journal, file: AnchorFile, key: Ed25519PrivateKey, now: datetime) -> Anchor:
    """Signs the chain's head, appends it to the file, then notes in the ledger that it did; returns the anchor.

    Raises AnchorFailed (an empty ledger, a file that cannot be written), LedgerUnavailable.
    """
    with translated():
        head = journal.connection.execute("select seq, hash from keel.audit_head").fetchone()
    if head is None or not head[0]:
        raise AnchorFailed("the ledger holds nothing to anchor yet")
    seq, value = head
    assert isinstance(seq, int)
    assert isinstance(value, bytes)
    anchor = sign(key, seq, value, now)
    file.append(anchor)
    change = Change()
    change.add("anchors", seq=anchor.seq, hash=anchor.hash, anchored=anchor.at)
    journal.record("anchor", change)
    return anchor


def anchor_age(connection: Connection, evidence: Evidence, now: datetime) -> timedelta | None:
    """How long ago the ledger was last anchored: the newest anchor that one of the keys signed and that the chain still holds.

    None when there is no such anchor. What requires a fresh one takes None for too old.
    """
    anchors = evidence.lines.anchors
    hashes = _hashes(connection, anchors)
    held = [anchor.at for anchor in anchors if hashes.get(anchor.seq) == anchor.hash and signed_by(anchor, evidence.keys)]
    return now - max(held) if held else None


def unheld(connection: Connection, evidence: Evidence) -> Iterator[str]:
    """A line for every anchor that the chain does not hold byte for byte, or that none of the keys signed.

    A torn line is no exception: it is what a crash leaves.
    """
    lines = evidence.lines
    yield from (f"{line} is no anchor" for line in lines.unreadable)
    hashes, last = _hashes(connection, lines.anchors), 0
    head = max(hashes, default=0)
    for anchor in lines.anchors:
        name = f"anchor of row {anchor.seq} at {anchor.at}"
        if not signed_by(anchor, evidence.keys):
            yield f"{name}: none of the keys given signed it"
        if anchor.seq < last:
            yield f"{name}: follows an anchor of row {last}: the chain went back"
        if anchor.seq not in hashes:
            yield f"{name}: the chain ends before it" if anchor.seq > head else f"{name}: the chain has no such row"
        elif hashes[anchor.seq] != anchor.hash:
            yield f"{name}: the chain has another hash there: it was written anew"
        last = anchor.seq


def _hashes(connection: Connection, anchors: Collection[Anchor]) -> dict[int, str]:
    """Row -> its hash now, of the rows that the anchors name and of the last one."""
    query = "select seq, encode(hash, 'hex') from keel.audit where seq = any(%s) or seq = (select max(seq) from keel.audit)"
    with translated():
        rows = connection.execute(query, ([anchor.seq for anchor in anchors],)).fetchall()
    return {int(str(seq)): str(value) for seq, value in rows}
