"""The key that signs anchors, and the file that they go to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from config.clock import wall_clock
from config.settings import Settings, load, private_folder, write_private
from trading.anchors import Anchor, AnchorLines
from trading.desk import Desk
from trading.errors import AnchorFailed, ConfigurationError
from trading.store.anchoring import AnchorFile, Evidence, anchor_head
from trading.store.journal import Change, Journal


def anchor_file(settings: Settings) -> AnchorFile:
    """`KEEL_ANCHORS`, or `anchors.jsonl` in the state folder."""
    return AnchorFile(settings.anchors or private_folder(settings.home) / "anchors.jsonl")


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The key of this state folder, made at its first use; its public half lies beside it, for whoever verifies elsewhere."""
    file = private_folder(settings.home) / "anchor.key"
    if not file.exists():
        _make_once(file)
    key = _loaded(file)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{file}: found another kind of key, expected an Ed25519 private key in PEM")
    public = file.with_suffix(".pub")
    if not public.exists():
        write_private(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())
    return key


def evidence(settings: Settings, file: Path | None = None, keys: Sequence[Path] = ()) -> Evidence | None:
    """The anchors to hold the ledger against: of the file, or this state folder's; None where none were ever written."""
    lines = (anchor_file(settings) if file is None else AnchorFile(file)).read()
    if file is not None and not file.is_file():
        raise ConfigurationError(f"anchors {file}: found no file, expected one of JSON lines")
    if file is not None and not lines.anchors:
        raise ConfigurationError(f"anchors {file}: found not one whole anchor, expected some: nothing would be proved by it")
    if file is None and not keys and lines == AnchorLines((), (), ()):
        return None
    return Evidence(lines, public_keys(settings, keys))


def public_keys(settings: Settings, files: Sequence[Path] = ()) -> list[Ed25519PublicKey]:
    """The keys of the files (an older key's anchors stay valid under it), or that of this state folder."""
    keys = [_loaded(file) for file in files]
    for file, key in zip(files, keys, strict=True):
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigurationError(f"{file}: found another kind of key, expected an Ed25519 public key in PEM")
    return keys or [signing_key(settings).public_key()]  # type: ignore[return-value]  # checked above


def write_anchor(journal: Journal, settings: Settings | None = None) -> Anchor:
    """Anchors the ledger's head now. Raises AnchorFailed, LedgerUnavailable."""
    settings = settings or load()
    return anchor_head(journal, anchor_file(settings), signing_key(settings), wall_clock())


def anchor_after(desk: Desk, settings: Settings | None = None) -> Anchor | None:
    """Anchors at the end of a run. A failure is recorded as a failed operation of the plan and ends no run: then None."""
    try:
        return write_anchor(desk.journal, settings)
    except (AnchorFailed, ConfigurationError, OSError) as error:
        change = Change()
        change.add("operations", book=desk.book, plan=desk.plan.name, kind="anchor", ok=False, detail=str(error)[:500])
        desk.journal.record("anchor.failed", change)
        return None


def _make_once(file: Path) -> None:
    """Writes a new key, whole and private, unless another start has just made one: the first wins."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.new")
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    write_private(draft, text)
    try:
        os.link(draft, file)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _loaded(file: Path) -> object:
    try:
        data = file.read_bytes()
        return load_pem_private_key(data, None) if b"PRIVATE KEY" in data else load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{file}: found what is no key, expected a key in PEM: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
