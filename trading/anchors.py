"""Anchors: heads of the audit chain, signed, so that the chain can be held against them later and elsewhere.

A chain proves that nothing was changed without recomputing what follows. Who may write to the database may recompute it;
what was signed and kept outside of it stays as it was. Pure: keys and texts in, anchors out.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from trading.money import canonical, parse_stamp, stamp

_WHAT = "keel-anchor-1"
"""Signed with every anchor, so that a signature never says anything else than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The chain had `hash` in row `seq` at time `at`, says the holder of the key `key_id`."""

    seq: int
    hash: str
    """SHA-256 in hex, as in the chain."""
    at: datetime
    key_id: str
    signature: str
    """Ed25519 over the other fields, base64."""

    def line(self) -> str:
        """One line of JSON, without its end."""
        return canonical(_fields(self.seq, self.hash, self.at, self.key_id) | {"signature": self.signature})


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the SHA-256 of the raw public key."""
    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def sign(key: Ed25519PrivateKey, seq: int, head: bytes, at: datetime) -> Anchor:
    """The anchor of the chain's row `seq`, whose hash is `head`; the time is cut to whole seconds."""
    at = at.replace(microsecond=0)
    id_ = key_id(key.public_key())
    signature = b64encode(key.sign(_message(seq, head.hex(), at, id_))).decode()
    return Anchor(seq=seq, hash=head.hex(), at=at, key_id=id_, signature=signature)


def signed_by(anchor: Anchor, keys: Collection[Ed25519PublicKey]) -> bool:
    """True if one of the keys made the signature, over exactly these fields."""
    return any(key_id(key) == anchor.key_id and _verifies(anchor, key) for key in keys)


def _verifies(anchor: Anchor, key: Ed25519PublicKey) -> bool:
    try:
        key.verify(b64decode(anchor.signature), _message(anchor.seq, anchor.hash, anchor.at, anchor.key_id))
    except (InvalidSignature, ValueError):
        return False
    return True


def _message(seq: int, head: str, at: datetime, id_: str) -> bytes:
    return canonical(_fields(seq, head, at, id_) | {"what": _WHAT}).encode()


def _fields(seq: int, head: str, at: datetime, id_: str) -> dict[str, int | str]:
    return {"at": stamp(at), "hash": head, "key_id": id_, "seq": seq}


@dataclass(frozen=True, slots=True)
class AnchorLines:
    """What a file of anchors holds. A torn line (a crash while writing) loses its anchor and nothing else."""

    anchors: tuple[Anchor, ...]
    torn: tuple[str, ...]
    """Lines that end in the middle, each named by its number."""
    unreadable: tuple[str, ...]
    """Whole lines that are no anchors: nobody but a hand writes such."""


def read_lines(text: str) -> AnchorLines:
    """The anchors of JSON lines, in the order of the file."""
    anchors: list[Anchor] = []
    torn: list[str] = []
    unreadable: list[str] = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        try:
            anchors.append(parse(line))
        except (ValueError, KeyError, TypeError):
            where = f"line {number}: {line[:60]!r}"
            (unreadable if line.endswith("}") else torn).append(where)
    return AnchorLines(tuple(anchors), tuple(torn), tuple(unreadable))


def parse(line: str) -> Anchor:
    """The anchor of one line. Raises ValueError, KeyError or TypeError for anything else."""
    row = json.loads(line)
    return Anchor(
        seq=int(row["seq"]), hash=str(row["hash"]), at=parse_stamp(row["at"]), key_id=str(row["key_id"]),
        signature=str(row["signature"]),
    )  # fmt: skip
