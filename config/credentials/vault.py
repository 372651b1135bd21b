"""The encrypted file: a few named secrets under AES-256-GCM, opened by a key file or by a passphrase.

    magic · length of the header (2 bytes, big-endian) · header (JSON) · sealed values and tag

Everything before the sealed part is authenticated with it: one changed bit anywhere, and the file does not open.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.credentials.private import draft_of, move_durably, read_private, write_durably
from config.credentials.secret import Secret
from trading.errors import ConfigurationError

_MAGIC = b"keel-vault-1\n"
_BYTES_OF_KEY = 32


class _Header(BaseModel):
    """Read before it is authenticated: hence the bounds, or a planted header could ask for all memory."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    opened_by: str = Field(pattern="^(key_file|passphrase)$")
    nonce: str = Field(pattern="^[0-9a-f]{24}$")
    salt: str = Field(pattern="^[0-9a-f]{32}$")
    memory_kib: int = Field(ge=8, le=1 << 18)
    passes: int = Field(ge=1, le=10)
    lanes: int = Field(ge=1, le=8)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Opens with 32 random bytes, in base64 in a file that its owner alone may read."""

    file: Path

    def next(self) -> Path:
        """Where a rotation keeps the new key until the vault is sealed under it."""
        return self.file.with_name(f"{self.file.name}.next")


@dataclass(frozen=True, slots=True)
class Passphrase:
    """Opens with what a person knows, through argon2id (RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes)."""

    text: Secret
    memory_kib: int = 1 << 16
    passes: int = 3


Opener = KeyFile | Passphrase


def seal(vault: Path, values: Mapping[str, Secret], opener: Opener) -> None:
    """Writes the vault anew, whole or not at all. A key file that does not exist yet is made first."""
    if isinstance(opener, KeyFile) and not opener.file.exists():
        write_durably(opener.file, _new_key())
    _seal(vault, values, opener, opener.file if isinstance(opener, KeyFile) else None)


def unseal(vault: Path, opener: Opener) -> dict[str, Secret]:
    """The values by name. Raises ConfigurationError for the wrong key, a changed file, or one that others may read."""
    data = read_private(vault)
    header, start = _header(vault, data)
    kind = "key_file" if isinstance(opener, KeyFile) else "passphrase"
    if header.opened_by != kind:
        raise ConfigurationError(f"{vault}: found a vault for a {header.opened_by}, expected one for a {kind}")
    for key in _keys(header, opener):
        values = _opened(key, header, data, start)
        if values is not None:
            return values
    raise ConfigurationError(f"{vault}: cannot be opened: the {kind.replace('_', ' ')} is another one, or the file was changed")


def rotate(vault: Path, old: Opener, new: Opener) -> None:
    """Seals the same values under a new key; of the old key's version nothing is kept.

    The same key file given twice gets a new key. Killed at any moment, the vault opens by what is there: the new key lies
    beside the old one (`.next`) before the vault changes, and takes its place after.
    """
    values = unseal(vault, old)
    if not (isinstance(new, KeyFile) and isinstance(old, KeyFile) and new.file == old.file):
        seal(vault, values, new)
        return
    _finish(vault, old)
    write_durably(new.next(), _new_key())
    _seal(vault, values, new, new.next())
    move_durably(new.next(), new.file)


def opened_by(vault: Path) -> str:
    """`key_file` or `passphrase`, as the vault says of itself. Raises ConfigurationError if it is none."""
    return _header(vault, read_private(vault))[0].opened_by


def _finish(vault: Path, opener: KeyFile) -> None:
    """Ends a rotation that was killed: its new key is put in place if the vault is sealed under it, else dropped."""
    draft_of(vault).unlink(missing_ok=True)
    if not opener.next().exists():
        return
    data = read_private(vault)
    header, start = _header(vault, data)
    if _opened(_key_in(opener.next()), header, data, start) is None:
        opener.next().unlink()
    else:
        move_durably(opener.next(), opener.file)


def _seal(vault: Path, values: Mapping[str, Secret], opener: Opener, key_file: Path | None) -> None:
    header = _Header(
        opened_by="key_file" if isinstance(opener, KeyFile) else "passphrase",
        nonce=secrets.token_hex(12),
        salt=secrets.token_hex(16),
        memory_kib=opener.memory_kib if isinstance(opener, Passphrase) else 8,
        passes=opener.passes if isinstance(opener, Passphrase) else 1,
        lanes=4 if isinstance(opener, Passphrase) else 1,
    )
    key = _key_in(key_file) if key_file else next(_keys(header, opener))
    text = header.model_dump_json().encode()
    prefix = _MAGIC + len(text).to_bytes(2, "big") + text
    sealed = AESGCM(key).encrypt(bytes.fromhex(header.nonce), _packed(values), prefix)
    write_durably(vault, prefix + sealed)


def _header(vault: Path, data: bytes) -> tuple[_Header, int]:
    """The header, and where the sealed part starts."""
    begin = len(_MAGIC) + 2
    end = begin + int.from_bytes(data[len(_MAGIC) : begin], "big")
    if not data.startswith(_MAGIC) or len(data) <= end:
        raise ConfigurationError(f"{vault}: found no vault, or a part of one, expected a file written by keel credentials")
    try:
        return _Header.model_validate_json(data[begin:end]), end
    except ValidationError:
        raise ConfigurationError(f"{vault}: found a header that cannot be one, expected the file unchanged") from None


def _keys(header: _Header, opener: Opener) -> Iterator[bytes]:
    """The keys to try: a killed rotation leaves two key files, of which one fits."""
    if isinstance(opener, KeyFile):
        yield _key_in(opener.file)
        if opener.next().exists():
            yield _key_in(opener.next())
        return
    kdf = Argon2id(
        salt=bytes.fromhex(header.salt), length=_BYTES_OF_KEY, iterations=header.passes, lanes=header.lanes,
        memory_cost=header.memory_kib,
    )  # fmt: skip
    yield kdf.derive(opener.text.reveal().encode())


def _key_in(file: Path) -> bytes:
    key = _decoded(read_private(file))
    if key is None:
        raise ConfigurationError(f"{file}: found no key, expected 32 bytes in base64, as keel credentials writes it")
    return key


def _decoded(data: bytes) -> bytes | None:
    try:
        key = b64decode(data.strip(), validate=True)
    except ValueError:
        return None
    return key if len(key) == _BYTES_OF_KEY else None


def _new_key() -> bytes:
    return b64encode(secrets.token_bytes(_BYTES_OF_KEY)) + b"\n"


def _opened(key: bytes, header: _Header, data: bytes, start: int) -> dict[str, Secret] | None:
    """The values, or None if the key does not fit what is there."""
    try:
        plain = AESGCM(key).decrypt(bytes.fromhex(header.nonce), data[start:], data[:start])
    except InvalidTag:
        return None
    return {name: Secret(text) for name, text in json.loads(plain).items()}


def _packed(values: Mapping[str, Secret]) -> bytes:
    return json.dumps({name: value.reveal() for name, value in values.items()}).encode()
