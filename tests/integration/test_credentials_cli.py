"""`keel credentials` in processes of its own: what it keeps, what it prints, and that no key is in what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.builders.simulator import running

NAME = "organizations/0f3c2b1a-1111-4222-8333-444455556666/apiKeys/9a8b7c6d-1111-4222-8333-444455556666"
# The group by itself: what it does hangs on no other command.
PROGRAM = (
    "import sys; from deployments import cli; from deployments.cli.credentials import credentials; "
    "known = [group.name or group.typer_instance.info.name for group in cli.app.registered_groups]; "
    "'credentials' in known or cli.app.add_typer(credentials); cli.main()"
)


def new_key() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        .decode()
    )


@dataclass
class Credentials:
    """Runs `keel credentials ...` in a home of its own, and holds every output against the canary."""

    home: Path
    canary: str
    seen: str = ""

    def __call__(self, *arguments: str, status: int = 0, given: str = "", **environ: str) -> str:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("KEEL_", "COINBASE_", "MAX_"))}
        places = {"KEEL_HOME": str(self.home), "KEEL_CREDENTIALS_FILE": str(self.home / ".env.coinbase")}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "credentials", *arguments],
            env=kept | places | environ, input=given, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.seen += done.stdout + done.stderr
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        lines = [line for line in self.canary.splitlines() if not line.startswith("-----")]
        forms = [NAME, *lines, *(quote(line, safe="") for line in lines), b64encode(self.canary.encode()).decode()]
        assert not [form for form in forms if form in self.seen]
        return done.stdout + done.stderr

    def json(self, *arguments: str, status: int = 0, **environ: str) -> Any:
        text = self(*arguments, "--json", status=status, **environ)
        return json.JSONDecoder().raw_decode(text)[0]


@pytest.fixture
def keel(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path, new_key())


def downloaded(key: str) -> str:
    return json.dumps({"name": NAME, "privateKey": key})


def test_a_key_set_in_the_file_is_shown_and_signs(keel: Credentials) -> None:
    keel("set", given=downloaded(keel.canary))
    keel("set", "--view", given=downloaded(new_key()))
    assert (keel.home / ".env.coinbase").stat().st_mode & 0o777 == 0o600
    shown = keel.json("show")
    assert [(row["key"], row["algorithm"]) for row in shown["keys"]] == [("trade", "ES256"), ("view", "ES256")]
    assert shown["paper"] is True
    assert [row["signs"] for row in keel.json("test")] == [True, True]


def test_a_missing_key_fails_the_test(keel: Credentials) -> None:
    assert "COINBASE_API_KEY and COINBASE_PRIVATE_KEY: found nowhere" in keel("test", "--json", status=1)


def test_the_vault_takes_both_keys_and_rotates(keel: Credentials) -> None:
    opened = {"KEEL_VAULT_KEY_FILE": str(keel.home / "vault.key")}
    keel("set", "--to", "vault", given=downloaded(keel.canary), **opened)
    keel("set", "--to", "vault", "--view", given=downloaded(new_key()), **opened)
    first = (keel.home / "vault.key").read_bytes()
    keel("rotate", **opened)
    assert (keel.home / "vault.key").read_bytes() != first
    assert [row["signs"] for row in keel.json("test", **opened)] == [True, True]
    (keel.home / "vault.key").write_bytes(first)
    assert "cannot be opened" in keel.json("test", status=1, **opened)[0]["problem"]


def test_a_wrong_key_is_refused_and_nothing_is_kept(keel: Credentials) -> None:
    said = keel("set", given=downloaded(keel.canary[:-60]), status=2)
    assert "error[configuration]: standard input: private key: found a torn PEM block" in said
    assert list(keel.home.iterdir()) == []


def test_an_exposed_download_is_refused(keel: Credentials) -> None:
    file = keel.home / "cdp_api_key.json"
    file.write_text(downloaded(keel.canary))
    file.chmod(0o644)
    assert "found mode 0644" in keel("set", "--from", str(file), status=2)


def test_a_keychain_that_is_not_there_is_said(keel: Credentials) -> None:
    assert "keychain: found none" in keel("set", "--to", "keychain", given=downloaded(keel.canary), status=2)


def test_the_venue_is_asked_what_each_key_may_do(keel: Credentials, tmp_path: Path) -> None:
    with running(tmp_path / "venue") as venue:
        there = {"KEEL_COINBASE_HOST": venue.host, "KEEL_CA_FILE": str(venue.line["ca_file"])}
        for key, option in (("trade", ()), ("view", ("--view",))):
            keel("set", *option, given=json.dumps(venue.secret(key)))
        asked = keel.json("test", "--ask", **there)
        assert [(row["may"], row["problem"]) for row in asked] == [("view and trade", None), ("view", None)]
        keel("set", given=json.dumps(venue.secret("transfer")))
        keel("set", "--view", given=json.dumps(venue.secret("ed25519")))
        asked = keel.json("test", "--ask", status=1, **there)
    assert [row["problem"] for row in asked] == [
        "found a key that may view and trade and transfer, expected one that may view and trade and no more",
        "found a key that may view and trade, expected one that may view and no more",
    ]


def test_a_host_that_is_neither_coinbase_nor_loopback_is_never_asked(keel: Credentials) -> None:
    keel("set", given=downloaded(keel.canary))
    said = keel("test", "--ask", status=2, KEEL_COINBASE_HOST="example.org")
    assert "found host 'example.org'" in said
