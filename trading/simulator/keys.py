"""The CA and certificate of the simulated venue, the key pairs of its user, and the check of their signatures.

A request is signed as at Coinbase: a JWT by ES256 or EdDSA that names the key, lives two minutes and is bound to the method,
host and path. Nothing of this key material is worth anything elsewhere.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trading.errors import ConfigurationError
from trading.money import derived_id
from trading.simulator.venue import MAIN_PORTFOLIO

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_MOST_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as the venue knows it: its public half and what it may do."""

    name: str
    public: PublicKey
    can_view: bool = True
    can_trade: bool = True
    can_transfer: bool = False
    portfolio: str = MAIN_PORTFOLIO

    @property
    def algorithm(self) -> str:
        return "EdDSA" if isinstance(self.public, ed25519.Ed25519PublicKey) else "ES256"


def verified(token: str, keys: Mapping[str, Key], now: datetime, uris: Collection[str] | None) -> Key | None:
    """The key that signed the token, or None when anything about it is wrong. `uris` is None for a WebSocket's token.

    No leeway: a clock that runs ahead or behind is refused, as at the venue.
    """
    try:
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token, key.public, algorithms=[key.algorithm], issuer="cdp",
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp", "nbf", "iss", "sub"]},
        )  # fmt: skip
    except (jwt.PyJWTError, KeyError):
        return None
    at = now.timestamp()
    in_time = claims["nbf"] <= at < claims["exp"] <= claims["nbf"] + _MOST_SECONDS
    bound = uris is None or claims.get("uri") in uris
    return key if in_time and bound and claims["sub"] == key.name else None


def load_keys(file: Path) -> dict[str, Key]:
    """The keys of a file: a list of `{"name", "privateKey" or "publicKey", "can_view", "can_trade", "can_transfer"}`.

    Raises ConfigurationError when the file or a key in it cannot be read.
    """
    try:
        found = json.loads(file.read_text())
        keys = [_key(entry) for entry in (found if isinstance(found, list) else [found])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"keys: {file}: {error}, expected a list of name and privateKey or publicKey") from error
    return {key.name: key for key in keys}


def _key(entry: Mapping[str, Any]) -> Key:
    if "publicKey" in entry:
        public = serialization.load_pem_public_key(entry["publicKey"].encode())
    else:
        public = serialization.load_pem_private_key(entry["privateKey"].encode(), None).public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise TypeError(f"{entry['name']} is neither ECDSA nor Ed25519")
    grants = {name: bool(entry[name]) for name in ("can_view", "can_trade", "can_transfer") if name in entry}
    return Key(name=entry["name"], public=public, portfolio=entry.get("portfolio", MAIN_PORTFOLIO), **grants)


_MADE = {
    "trade": {"can_trade": True, "can_transfer": False},
    "view": {"can_trade": False, "can_transfer": False},
    "transfer": {"can_trade": True, "can_transfer": True},
    "ed25519": {"can_trade": True, "can_transfer": False},
}
"""The keys of a new home: what each is named after, and what it may do."""


def make_keys(home: Path) -> dict[str, Path]:
    """Key files in the SDK's format by name, made where they are missing; `keys.json` is what the venue knows of them."""
    folder = home / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = {name: folder / f"{name}.json" for name in _MADE}
    entries = []
    for name, file in files.items():
        if not file.exists():
            private = ed25519.Ed25519PrivateKey.generate() if name == "ed25519" else ec.generate_private_key(ec.SECP256R1())
            _write(file, json.dumps({"name": _key_name(name), "privateKey": _pem(private)}))
        entries.append(json.loads(file.read_text()) | {"can_view": True} | _MADE[name])
    _write(home / "keys.json", json.dumps(entries))
    return files


def _key_name(name: str) -> str:
    """In Coinbase's own form, which clients check before they sign."""
    return f"organizations/{derived_id('sim organization')}/apiKeys/{derived_id('sim key', name)}"


def _pem(private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    elliptic = isinstance(private, ec.EllipticCurvePrivateKey)
    format_ = serialization.PrivateFormat.TraditionalOpenSSL if elliptic else serialization.PrivateFormat.PKCS8
    return private.private_bytes(serialization.Encoding.PEM, format_, serialization.NoEncryption()).decode()


def _write(file: Path, content: str) -> None:
    file.touch(mode=0o600)
    file.write_text(content)


_SIGNS = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


def make_certificates(home: Path, host: str, now: datetime) -> tuple[Path, Path]:
    """(CA file, server file with key and certificate) in `home`. The CA is kept, so that clients go on trusting it."""
    authority, server = home / "ca.pem", home / "server.pem"
    if not authority.exists() or not server.exists() or not _signs(authority):
        signer = ec.generate_private_key(ec.SECP256R1())
        ca_name = _named("Simulated venue CA")
        ca = (
            _certificate(ca_name, ca_name, signer.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS, critical=True)
        )
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(_named("Simulated venue"), ca_name, key.public_key(), now)
        leaf = leaf.add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        leaf = leaf.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        made = leaf.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        _write(server, _pem(key) + made)
        authority.write_bytes(ca.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return authority, server


def _signs(authority: Path) -> bool:
    """False for a CA that was made without its key usage: Python 3.13 and later trust none."""
    extensions = x509.load_pem_x509_certificate(authority.read_bytes()).extensions
    return any(isinstance(extension.value, x509.KeyUsage) for extension in extensions)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _names(host: str) -> list[x509.GeneralName]:
    loopback: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return loopback if host in ("127.0.0.1", "localhost") else [*loopback, x509.DNSName(host)]


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    made = made.serial_number(x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
