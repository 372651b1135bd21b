"""Keys by hand: set, show, test, rotate. No command takes a secret as an argument, and none prints one."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import Json, fail, print_json, print_table

if TYPE_CHECKING:
    from config.credentials import Places, Secret

credentials = typer.Typer(name="credentials", help="Coinbase keys: set, show, test, rotate.", no_args_is_help=True)


class Place(StrEnum):
    FILE = "file"
    VAULT = "vault"
    KEYCHAIN = "keychain"


@credentials.command("set")
def set_key(
    source: Annotated[
        Path | None, typer.Option("--from", help="The JSON that Coinbase lets one download; else asked for.")
    ] = None,
    to: Annotated[Place, typer.Option("--to", help="Where to keep it.")] = Place.FILE,
    view: Annotated[bool, typer.Option("--view", help="The key that only looks, for reconciliation.")] = False,
) -> None:
    """Check a key and keep it. It is read from a file or from the terminal, never from the command line."""
    from config.credentials import get_credentials_manager
    from config.credentials.keys import coinbase_key
    from config.credentials.places import TRADE, VIEW

    name, private = _asked() if source is None else _from_file(source)
    key = coinbase_key(name, private, "standard input" if source is None else str(source))
    where = _store(get_credentials_manager().places, to, dict(zip(VIEW if view else TRADE, (key.name, key.private), strict=True)))
    print(f"{'view' if view else 'trade'} key kept in {where}: {key.algorithm}, public key {key.fingerprint}")


@credentials.command("show")
def show_keys(as_json: Json = False) -> None:
    """Which keys are found, where, and how the switches between paper and live stand. No secret is printed."""
    from config.credentials import get_credentials_manager

    manager = get_credentials_manager()
    switches, keys = manager.switches(), _keys()
    if as_json:
        print_json(
            {
                "keys": keys,
                "paper": manager.is_paper_trading(),
                "switches": {
                    "PAPER_TRADING": switches.paper_trading,
                    "LIVE_TRADING_ENABLED": switches.live_trading_enabled,
                    "ENVIRONMENT": switches.environment,
                },
                "conflicts": list(switches.conflicts),
            }
        )
        return
    print_table("Keys", keys, ("key", "where", "algorithm", "public_key", "problem"), "No keys.")
    print("paper" if manager.is_paper_trading() else "live, as far as the switches go")
    for reason in (*switches.missing(), *switches.conflicts):
        print(f"  {reason}")


@credentials.command("test")
def prove_keys(
    view: Annotated[bool, typer.Option("--view", help="Only the key that looks.")] = False,
    ask: Annotated[bool, typer.Option("--ask", help="Ask Coinbase (KEEL_COINBASE_HOST) what each key may do.")] = False,
    as_json: Json = False,
) -> None:
    """Sign with each key and verify the signature; status 1 if one is missing or wrong. Without --ask nobody else is asked."""
    from config.live import rights_of

    rows = [row for row in _keys() if row["key"] == "view" or not view]
    if ask:
        for row in rows:
            row["may"], problem = rights_of(row["key"]) if row["signs"] else (None, "")
            row["problem"] = row["problem"] or problem or None
    if as_json:
        print_json(rows)
    else:
        print_table("Keys", rows, ("key", "where", "signs", *(("may",) if ask else ()), "problem"), "No keys.")
    if bad := [row["key"] for row in rows if row["problem"] or not row["signs"]]:
        raise fail("key_unusable", f"{', '.join(bad)}: see keel credentials show")


@credentials.command("rotate")
def rotate_vault(
    new_key_file: Annotated[Path | None, typer.Option("--new-key-file", help="Seal under this key file from now on.")] = None,
    ask: Annotated[bool, typer.Option("--passphrase", help="Seal under a new passphrase, asked for.")] = False,
) -> None:
    """Seal the encrypted file under a new key; by default a new one in the same key file. For Coinbase's own key: set."""
    from config.credentials import get_credentials_manager
    from config.credentials.vault import KeyFile, Passphrase, rotate
    from trading.errors import ConfigurationError

    places = get_credentials_manager().places
    old = places.opener()
    if ask or (new_key_file is None and isinstance(old, Passphrase)):
        rotate(places.vault, old, Passphrase(_passphrase()))
    elif new_key_file is not None and new_key_file.exists() and KeyFile(new_key_file) != old:
        raise ConfigurationError(f"{new_key_file}: found a file, expected a path where none is yet: it would be used unchanged")
    else:
        rotate(places.vault, old, old if new_key_file is None else KeyFile(new_key_file))
    print(f"{places.vault} is sealed under a new key; the old one no longer opens it")


def _keys() -> list[dict[str, Any]]:
    from config.credentials import get_credentials_manager
    from config.credentials.places import TRADE, VIEW
    from trading.errors import ConfigurationError

    rows: list[dict[str, Any]] = []
    for label, names in (("trade", TRADE), ("view", VIEW)):
        row: dict[str, Any] = {
            "key": label,
            "where": None,
            "algorithm": None,
            "public_key": None,
            "signs": False,
            "problem": None,
        }
        try:
            found = get_credentials_manager().find(names)
        except ConfigurationError as error:
            rows.append(row | {"problem": "; ".join(error.problems)})
            continue
        key = found.key
        signs = key.proves_itself()
        rows.append(row | {"where": found.where, "algorithm": key.algorithm, "public_key": key.fingerprint, "signs": signs})
    return rows


def _from_file(source: Path) -> tuple[Secret, Secret]:
    from config.credentials import Secret
    from config.credentials.keys import key_file_parts
    from config.credentials.private import read_private

    return key_file_parts(Secret(read_private(source).decode("utf-8", errors="replace")), str(source))


def _asked() -> tuple[Secret, Secret]:
    """The JSON of Coinbase, or name and key by themselves, from a pipe; at a terminal both are asked for, unseen."""
    from config.credentials import Secret
    from config.credentials.keys import key_file_parts

    if not sys.stdin.isatty():
        return key_file_parts(Secret(sys.stdin.read()), "standard input")
    name = Secret(typer.prompt("API key (organizations/…/apiKeys/…)", hide_input=True))
    return name, Secret(typer.prompt("Private key, on one line with \\n for its newlines", hide_input=True))


def _passphrase() -> Secret:
    from config.credentials import Secret
    from trading.errors import ConfigurationError

    text = typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True)
    if len(text) < 12:
        raise ConfigurationError("passphrase: found fewer than 12 characters, expected 12 or more")
    return Secret(text)


def _store(places: Places, to: Place, values: dict[str, Secret]) -> str:
    from config.credentials.places import store_in_keychain, write_env_file
    from config.credentials.vault import seal, unseal

    if to is Place.KEYCHAIN:
        store_in_keychain(places.keychain, values)
        return "the system keychain"
    if to is Place.FILE:
        write_env_file(places.env_file, values)
        return str(places.env_file)
    opener = places.opener()
    seal(places.vault, (unseal(places.vault, opener) if places.vault.exists() else {}) | values, opener)
    return str(places.vault)
