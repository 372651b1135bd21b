"""Coinbase API keys: read from whatever form they were pasted in, and checked before anything is signed with them.

Nothing here raises while it holds a key as text: a reason comes back as a value, so that no traceback can print the key.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from config.credentials.secret import Secret
from trading.errors import ConfigurationError

HMAC_RETIRED = (
    "found a legacy HMAC-SHA256 key, expected a key of the Coinbase Developer Platform: Coinbase retired HMAC keys for "
    "Advanced Trade in February 2025. Make a new one at https://portal.cdp.coinbase.com/access/api "
    "(Secret API key, signature algorithm ECDSA) with the permissions View and Trade, never Transfer"
)
_NAME = re.compile(r"(organizations/[0-9a-f-]{36}/apiKeys/)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LEGACY_NAME = re.compile(r"[A-Za-z0-9]{16}|[0-9a-f]{32}")
_LEGACY_SECRET = re.compile(r"[A-Za-z0-9]{32}|[0-9a-fA-F]{40,128}")
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)

SigningKey = EllipticCurvePrivateKey | Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CoinbaseKey:
    """A key pair that signs. Its repr names the algorithm and the public key, nothing of the secret."""

    name: Secret
    """The key's name as Coinbase gave it: `organizations/…/apiKeys/…` or a UUID."""
    private: Secret
    """The private key, PKCS 8 in PEM with plain newlines, whatever form it was given in."""
    algorithm: Literal["ES256", "EdDSA"]
    fingerprint: str
    """The first 16 hex digits of the SHA-256 of the public key (SubjectPublicKeyInfo, DER)."""

    def __repr__(self) -> str:
        return f"CoinbaseKey({self.algorithm}, public key {self.fingerprint})"

    def proves_itself(self) -> bool:
        """True if what it signs verifies under its public key."""
        message, key = b"keel-credentials-test", _load(self.private)
        if isinstance(key, EllipticCurvePrivateKey):
            key.public_key().verify(key.sign(message, ECDSA(SHA256())), message, ECDSA(SHA256()))
        elif isinstance(key, Ed25519PrivateKey):
            key.public_key().verify(key.sign(message), message)
        return not isinstance(key, str)


def coinbase_key(name: Secret, private: Secret, where: str) -> CoinbaseKey:
    """The key, checked. Raises ConfigurationError with everything that is wrong, without a character of either text.

    `where` begins each problem: the place that the key comes from.
    """
    name = _unwrapped(name)
    problems = [f"{where}: API key: {problem}" for problem in (_name_problem(name),) if problem]
    key = _load(private)
    if isinstance(key, str):
        problems.append(f"{where}: private key: {key}")
    if problems or isinstance(key, str):
        raise ConfigurationError(problems)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return CoinbaseKey(
        name=name,
        private=Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()),
        algorithm="ES256" if isinstance(key, EllipticCurvePrivateKey) else "EdDSA",
        fingerprint=sha256(public).hexdigest()[:16],
    )


def key_file_parts(file: Secret, where: str) -> tuple[Secret, Secret]:
    """Name and private key out of the JSON that Coinbase lets one download. Raises ConfigurationError for anything else."""
    parts = _parts(file)
    if parts is None:
        raise ConfigurationError(f'{where}: found something else, expected the JSON of Coinbase: {{"name": …, "privateKey": …}}')
    return parts


def _parts(file: Secret) -> tuple[Secret, Secret] | None:
    try:
        row = json.loads(file.reveal())
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    name, private = row.get("name", row.get("id")), row.get("privateKey")
    return (Secret(name), Secret(private)) if isinstance(name, str) and isinstance(private, str) else None


def _unwrapped(text: Secret) -> Secret:
    """Without the quotes, the byte order mark and the white space that pasting adds."""
    return Secret(text.reveal().strip("\ufeff \t\r\n\"'"))


def _name_problem(name: Secret) -> str | None:
    text = name.reveal()
    if not text:
        return "found nothing, expected organizations/…/apiKeys/… or a UUID"
    if _NAME.fullmatch(text):
        return None
    if _LEGACY_NAME.fullmatch(text):
        return HMAC_RETIRED
    if "PRIVATE KEY" in text:
        return "found a private key, expected the key's name: the two are swapped"
    return f"found {len(text)} characters of another form, expected organizations/…/apiKeys/… or a UUID"


def _load(private: Secret) -> SigningKey | str:
    """The key, or what is wrong with the text."""
    text = _newlines(_unwrapped(private).reveal())
    if not text:
        return "found nothing, expected a PEM block or 64 bytes in base64"
    if "-----" in text:
        return _from_pem(text)
    return _from_base64("".join(text.split()))


def _newlines(text: str) -> str:
    """Newlines of Windows, and newlines written as backslash and letter, become plain ones."""
    for found in ("\\r\\n", "\\n", "\\r", "\r\n", "\r"):
        text = text.replace(found, "\n")
    return text


def _from_pem(text: str) -> SigningKey | str:
    block = _PEM.search(text)
    if block is None:
        return "found a torn PEM block, expected it whole, from -----BEGIN to the -----END line of the same kind"
    label, body = block.group(1), "".join(block.group(2).split())
    if label not in {"EC PRIVATE KEY", "PRIVATE KEY"}:
        return _wrong_label(label)
    # Wrapped anew: editors and environment files turn the newlines of a block into spaces or lose them.
    lines = [f"-----BEGIN {label}-----", *(body[at : at + 64] for at in range(0, len(body), 64)), f"-----END {label}-----", ""]
    try:
        return _accepted(load_pem_private_key("\n".join(lines).encode(), password=None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "found a PEM block that holds no readable key, expected it unchanged: a character is missing or wrong"


def _wrong_label(label: str) -> str:
    if "ENCRYPTED" in label:
        return "found an encrypted PEM block, expected it without a passphrase"
    if "PUBLIC" in label or "CERTIFICATE" in label:
        return "found a public key or certificate, expected the private key"
    return "found a PEM block of another kind, expected EC PRIVATE KEY or PRIVATE KEY"


def _accepted(key: PrivateKeyTypes) -> SigningKey | str:
    if isinstance(key, Ed25519PrivateKey):
        return key
    if not isinstance(key, EllipticCurvePrivateKey):
        return f"found {type(key).__name__}, expected ECDSA on P-256 or Ed25519"
    if not isinstance(key.curve, SECP256R1):
        return f"found ECDSA on {key.curve.name}, expected ECDSA on P-256 (secp256r1)"
    return key


def _from_base64(text: str) -> SigningKey | str:
    if _LEGACY_SECRET.fullmatch(text):
        return HMAC_RETIRED
    try:
        raw = b64decode(text, validate=True)
    except ValueError:
        return "found neither PEM nor base64, expected a PEM block or 64 bytes in base64"
    if len(raw) != 64:
        return f"found {len(raw)} bytes in base64, expected the 64 of an Ed25519 key"
    key = Ed25519PrivateKey.from_private_bytes(raw[:32])
    if key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) != raw[32:]:
        return (
            "found 64 bytes whose second half is not the public key of the first, expected an Ed25519 key: "
            "it is damaged, or the HMAC secret of another Coinbase API"
        )
    return key
