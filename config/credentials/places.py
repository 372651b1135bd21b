"""Where settings and keys are looked for, in order: environment, `.env.coinbase`, encrypted file, system keychain.

The first place that has either half of a key pair must have both: halves of two places never make a pair.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Protocol

from dotenv.parser import Binding, parse_stream

from config.credentials.private import read_private, write_durably
from config.credentials.secret import Secret
from config.credentials.vault import KeyFile, Opener, Passphrase, opened_by, unseal
from config.plans import ENVIRONMENT_NAMES
from config.settings import PROJECT
from trading.errors import ConfigurationError

TRADE = ("COINBASE_API_KEY", "COINBASE_PRIVATE_KEY")
VIEW = ("COINBASE_VIEW_API_KEY", "COINBASE_VIEW_PRIVATE_KEY")
SECRETS = (*TRADE, *VIEW)
SWITCHES = ("PAPER_TRADING", "LIVE_TRADING_ENABLED", "ENVIRONMENT")
PLAIN = (*SWITCHES, *ENVIRONMENT_NAMES)
"""Read from environment and `.env.coinbase` only: they are no secrets, and asking for them unlocks nothing."""

_SERVICE = "tradekeel"
_KEYCHAINS = ("SecretService", "libsecret", "kwallet", "macOS", "Windows")


class KeychainBackend(Protocol):
    """What `keyring` offers of each backend."""

    def get_password(self, service: str, username: str) -> str | None: ...
    def set_password(self, service: str, username: str, password: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where this process looks. Variables: KEEL_CREDENTIALS_FILE, KEEL_VAULT, KEEL_VAULT_KEY_FILE, KEEL_VAULT_PASSPHRASE."""

    environ: Mapping[str, Secret]
    env_file: Path
    vault: Path
    key_file: Path | None
    passphrase: Secret | None
    keychain: KeychainBackend | None

    def opener(self) -> Opener:
        """What opens the vault. Raises ConfigurationError if neither key file nor passphrase is set."""
        if self.key_file is not None:
            return KeyFile(self.key_file)
        if self.passphrase is not None:
            return Passphrase(self.passphrase)
        kind = opened_by(self.vault).replace("_", " ") if self.vault.exists() else "key file"
        raise ConfigurationError(
            f"{self.vault}: found nothing to open it with, expected its {kind}: "
            "set KEEL_VAULT_KEY_FILE, or KEEL_VAULT_PASSPHRASE for a passphrase"
        )

    def secrets(self) -> Iterator[tuple[str, Mapping[str, Secret]]]:
        """Each place by name with the secrets it holds, in order of precedence; opened only when asked for."""
        yield "environment", {name: self.environ[name] for name in SECRETS if name in self.environ}
        yield f"file {self.env_file}", {name: text for name, text in self.file().items() if name in SECRETS}
        yield f"vault {self.vault}", unseal(self.vault, self.opener()) if _is_there(self.vault) else {}
        yield "keychain", self._keychain()

    def file(self) -> dict[str, Secret]:
        """What `.env.coinbase` sets; nothing if there is no such file."""
        return read_env_file(self.env_file) if _is_there(self.env_file) else {}

    def plain(self, name: str) -> list[tuple[str, str]]:
        """Every place that sets the plain setting, with its text; the first one counts."""
        found = ((f"environment {name}", self.environ.get(name)), (f"file {self.env_file}: {name}", self.file().get(name)))
        return [(where, text.reveal().strip()) for where, text in found if text is not None and text.reveal().strip()]

    def _keychain(self) -> dict[str, Secret]:
        if self.keychain is None:
            return {}
        found = {name: self.keychain.get_password(_SERVICE, name) for name in SECRETS}
        return {name: Secret(text) for name, text in found.items() if text}


def _is_there(file: Path) -> bool:
    """Raises ConfigurationError for a file in a folder that is another user's: nobody can tell what it holds."""
    try:
        return file.exists()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be looked for: {error.strerror}") from error


def places(environ: Mapping[str, str], home: Path) -> Places:
    """The places that the variables name, or the usual ones."""
    key_file, passphrase = environ.get("KEEL_VAULT_KEY_FILE"), environ.get("KEEL_VAULT_PASSPHRASE")
    return Places(
        environ={name: Secret(environ[name]) for name in (*SECRETS, *PLAIN) if environ.get(name, "").strip()},
        env_file=Path(environ.get("KEEL_CREDENTIALS_FILE") or PROJECT / "config" / "api-keys" / ".env.coinbase"),
        vault=Path(environ.get("KEEL_VAULT") or home / "credentials.vault"),
        key_file=Path(key_file) if key_file else None,
        passphrase=Secret(passphrase) if passphrase else None,
        keychain=system_keychain(),
    )


def system_keychain() -> KeychainBackend | None:
    """The keychain of this machine; None where `keyring` is not installed or finds none that keeps secrets."""
    try:
        keyring = importlib.import_module("keyring")
    except ModuleNotFoundError:
        return None
    backend: KeychainBackend = keyring.get_keyring()
    return backend if keychain_problem(backend) is None else None


def keychain_problem(backend: object) -> str | None:
    """Why this backend is refused; None if it is one of the systems' own. Judged by its class, never by what it says.

    A list of what is known to be safe: the plaintext, null and fail backends, and those that come later, are not on it.
    """
    members = getattr(backend, "backends", None)
    if type(backend).__module__ == "keyring.backends.chainer" and members:
        return next((problem for member in members if (problem := keychain_problem(member))), None)
    if type(backend).__module__ in {f"keyring.backends.{name}" for name in _KEYCHAINS}:
        return None
    kind = f"{type(backend).__module__}.{type(backend).__qualname__}"
    return f"keychain: found {kind}, expected one of {', '.join(_KEYCHAINS)}: others may keep secrets in plain text"


def store_in_keychain(backend: KeychainBackend | None, values: Mapping[str, Secret]) -> None:
    """Raises ConfigurationError if there is no keychain, or one that is refused."""
    if backend is None:
        raise ConfigurationError("keychain: found none, expected the package keyring and a running system keychain")
    if problem := keychain_problem(backend):
        raise ConfigurationError(problem)
    for name, value in values.items():
        backend.set_password(_SERVICE, name, value.reveal())


def read_env_file(file: Path) -> dict[str, Secret]:
    """The settings of the file. Raises ConfigurationError that names bad lines by number; their text may be a key's."""
    values: dict[str, Secret] = {}
    problems: list[str] = []
    for binding in _bindings(file):
        where = f"{file}: line {binding.original.line}"
        if binding.error or (binding.key and binding.value is None):
            problems.append(f'{where}: found no NAME=value; a key of several lines stands in "quotes"')
        elif binding.key is None or binding.value is None:
            continue
        elif binding.key not in (*SECRETS, *PLAIN):
            problems.append(f"{where}: found a name that is none of {', '.join((*SECRETS, *PLAIN))}")
        elif binding.key in values:
            problems.append(f"{where}: found {binding.key} a second time, expected it once")
        elif binding.value.strip():
            values[binding.key] = Secret(binding.value)
    if problems:
        raise ConfigurationError(problems)
    return values


def write_env_file(file: Path, values: Mapping[str, Secret]) -> None:
    """Sets the values in the file and leaves its other lines as they are."""
    kept = [binding.original.string for binding in _bindings(file) if binding.key not in values] if file.exists() else []
    if kept and not kept[-1].endswith("\n"):
        kept.append("\n")
    lines = [f'{name}="{_one_line(value)}"\n' for name, value in values.items()]
    write_durably(file, "".join([*kept, *lines]).encode())


def _one_line(value: Secret) -> str:
    return value.reveal().strip().replace("\n", "\\n")


def _bindings(file: Path) -> list[Binding]:
    return list(parse_stream(StringIO(read_private(file).decode("utf-8-sig", errors="replace"))))
