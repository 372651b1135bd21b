"""Keys, switches and their places: what is accepted, what is refused with which words, and that nothing shows a key."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import os
import pickle
import traceback
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from config.credentials import CredentialsManager, Secret
from config.credentials.keys import coinbase_key, key_file_parts
from config.credentials.places import SECRETS, Places, keychain_problem, places, read_env_file, store_in_keychain, write_env_file
from config.credentials.vault import KeyFile, seal
from config.plans import ENVIRONMENT_NAMES
from trading.errors import ConfigurationError

NAME = "organizations/0f3c2b1a-1111-4222-8333-444455556666/apiKeys/9a8b7c6d-1111-4222-8333-444455556666"
EC = ec.generate_private_key(ec.SECP256R1())
SEC1 = EC.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
PKCS8 = EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ED = ed25519.Ed25519PrivateKey.generate()
ED_PEM = ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ED_RAW = ED.private_bytes_raw() + ED.public_key().public_bytes_raw()
OTHER = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def forms(text: str) -> list[str]:
    """The ways in which a text may leak: raw, by line, in base64, URL-encoded."""
    lines = [line for line in text.splitlines() if line and not line.startswith("-----")]
    return [text, *lines, b64encode(text.encode()).decode(), quote(text, safe=""), *(quote(line, safe="") for line in lines)]


def manager(tmp_path: Path, environ: dict[str, str] | None = None) -> CredentialsManager:
    return CredentialsManager(places({"KEEL_CREDENTIALS_FILE": str(tmp_path / ".env.coinbase"), **(environ or {})}, tmp_path))


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        (SEC1, "ES256"),
        (PKCS8, "ES256"),
        (SEC1.replace("\n", "\r\n"), "ES256"),
        (SEC1.replace("\n", "\\n"), "ES256"),
        (SEC1.replace("\n", "\\r\\n"), "ES256"),
        (SEC1.replace("\n", " "), "ES256"),
        ("\ufeff" + f'"{SEC1}"', "ES256"),
        (ED_PEM, "EdDSA"),
        (b64encode(ED_RAW).decode(), "EdDSA"),
        (b64encode(ED_RAW).decode() + "\r\n", "EdDSA"),
    ],
    ids=itertools.count(),  # never the key
)
def test_a_key_is_read_in_every_form_that_people_paste(text: str, algorithm: str) -> None:
    from coinbase.jwt_generator import build_rest_jwt  # noqa: PLC0415

    key = coinbase_key(Secret(f" {NAME}\r\n"), Secret(text), "test")
    assert key.algorithm == algorithm
    assert key.proves_itself()
    assert key.name.reveal() == NAME
    assert build_rest_jwt("GET host/path", key.name.reveal(), key.private.reveal()).count(".") == 2


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (NAME, "", "private key: found nothing"),
        ("", SEC1, "API key: found nothing"),
        (SEC1, NAME, "the two are swapped"),
        ("not a name", SEC1, "found 10 characters of another form"),
        ("abcdEFGH12345678", SEC1, "retired HMAC keys for Advanced Trade in February 2025"),
        (NAME, "a1" * 32, "https://portal.cdp.coinbase.com/access/api"),
        (NAME, "abcdefghijABCDEFGHIJ123456789012", "retired HMAC"),
        (NAME, b64encode(os.urandom(64)).decode(), "HMAC secret of another Coinbase API"),
        (NAME, b64encode(ED_RAW[:32]).decode(), "found 32 bytes in base64"),
        (NAME, "?!", "neither PEM nor base64"),
        (NAME, SEC1[:80], "torn PEM block"),
        (NAME, SEC1[:60] + SEC1[64:], "a character is missing or wrong"),
        (NAME, pem(rsa.generate_private_key(65537, 2048)), "expected ECDSA on P-256 or Ed25519"),
        (NAME, pem(ec.generate_private_key(ec.SECP384R1())), "found ECDSA on secp384r1"),
        (NAME, EC.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), "found a public key"),
        (NAME, EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode(), "encrypted PEM"),
    ],
    ids=itertools.count(),  # never the key
)
def test_a_wrong_key_is_refused_with_what_is_wrong_and_without_the_key(name: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^test: ") as caught:
        coinbase_key(Secret(name), Secret(text), "test")
    assert expected in str(caught.value)
    shown = _everything_about(caught.value)
    for given in (name, text):
        assert not [form for form in forms(given) if len(form) > 8 and form in shown]


def _everything_about(error: BaseException) -> str:
    """The traceback with the local variables of our own frames, as the chattiest of loggers prints it."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in report.stack if "/credentials/" in frame.filename]
    assert ours
    return str(error) + repr(error) + "".join(f"{frame.locals}" for frame in ours) + f"{error.__context__!r}"


def test_a_secret_shows_itself_in_no_way_but_one(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(SEC1)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("canary").debug("%s %r", secret, {"key": secret})
    key = coinbase_key(Secret(NAME), secret, "test")
    shown = f"{secret} {secret!r} {secret:>10} {[secret]} {key} {key!r} {dir(secret)} {caplog.text}"
    assert not [form for form in (*forms(SEC1), *forms(PKCS8), *forms(NAME)) if form in shown]
    for leak in (pickle.dumps, copy.deepcopy, copy.copy, hash, json.dumps, vars):
        with pytest.raises(TypeError):
            leak(secret)
    assert secret == Secret(SEC1)
    assert secret != Secret(OTHER)
    assert secret != SEC1
    assert secret.reveal() == SEC1


def test_the_places_are_asked_in_their_order(tmp_path: Path) -> None:
    def pair(last: str) -> dict[str, str]:
        return {"COINBASE_API_KEY": NAME[:-1] + last, "COINBASE_PRIVATE_KEY": SEC1}

    def hidden(last: str) -> dict[str, Secret]:
        return {name: Secret(text) for name, text in pair(last).items()}

    key_file = KeyFile(tmp_path / "vault.key")
    store = Kept()
    base = places({"KEEL_CREDENTIALS_FILE": str(tmp_path / "env"), "KEEL_VAULT_KEY_FILE": str(key_file.file)}, tmp_path)

    def found(environ: dict[str, Secret]) -> str:
        here = Places(
            environ=environ, env_file=base.env_file, vault=base.vault, key_file=base.key_file, passphrase=None, keychain=store
        )
        return CredentialsManager(here).get_coinbase_credentials().name.reveal()[-1]

    store_in_keychain(store, hidden("4"))
    assert found({}) == "4"
    seal(base.vault, hidden("3"), key_file)
    assert found({}) == "3"
    write_env_file(base.env_file, hidden("2"))
    assert found({}) == "2"
    assert found(hidden("1")) == "1"


class Kept:
    """A keychain in memory that calls itself the system's."""

    __module__ = "keyring.backends.SecretService"

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.rows.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.rows[service, username] = password


@pytest.mark.parametrize("module", ["keyring.backends.fail", "keyring.backends.null", "keyrings.alt.file", "mine"])
def test_a_keychain_that_keeps_plain_text_or_nothing_is_refused_by_its_class(module: str) -> None:
    refused = type("Keyring", (), {"__module__": module})()
    chain = type("ChainerBackend", (), {"__module__": "keyring.backends.chainer", "backends": [Kept(), refused]})()
    for backend in (refused, chain):
        assert f"found {module}.Keyring" in (keychain_problem(backend) or "")
    assert keychain_problem(Kept()) is None


def test_nothing_found_names_what_is_missing_and_every_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        manager(tmp_path).get_coinbase_view_credentials()
    for said in ("COINBASE_VIEW_API_KEY", "environment", ".env.coinbase", "credentials.vault", "keychain"):
        assert said in str(caught.value)


def test_halves_of_two_places_make_no_pair(tmp_path: Path) -> None:
    write_env_file(tmp_path / ".env.coinbase", {"COINBASE_PRIVATE_KEY": Secret(SEC1)})
    with pytest.raises(ConfigurationError, match="COINBASE_PRIVATE_KEY: found nothing in environment"):
        manager(tmp_path, {"COINBASE_API_KEY": NAME}).get_coinbase_credentials()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / ".env.coinbase"
    write_env_file(file, {"COINBASE_API_KEY": Secret(NAME)})
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"found mode {mode:04o}"):
        read_env_file(file)


def test_bad_lines_are_named_by_number_and_never_quoted(tmp_path: Path) -> None:
    file = tmp_path / ".env.coinbase"
    file.touch(0o600)
    file.write_text(f"COINBASE_API_KEY={NAME}\nCOINBASE_PRIVATE_KEY={SEC1}PAPER_TRADING=true\nPAPER_TRADING=true\n")
    with pytest.raises(ConfigurationError) as caught:
        read_env_file(file)
    assert "line 3: found no NAME=value" in str(caught.value)
    assert "found PAPER_TRADING a second time" in str(caught.value)
    assert not [form for form in forms(SEC1) if form in str(caught.value)]


def test_the_example_is_paper_and_has_a_line_for_everything(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "config" / "api-keys" / ".env.coinbase.example"
    for name in (*SECRETS, *ENVIRONMENT_NAMES):
        assert f"\n{name}=" in example.read_text()
    copied = tmp_path / ".env.coinbase"
    copied.touch(0o600)
    copied.write_text(example.read_text())
    assert manager(tmp_path).is_paper_trading()


LIVE = {"PAPER_TRADING": "false", "LIVE_TRADING_ENABLED": "true", "ENVIRONMENT": "production"}
KEYS = {
    "COINBASE_API_KEY": NAME,
    "COINBASE_PRIVATE_KEY": SEC1,
    "COINBASE_VIEW_API_KEY": NAME,
    "COINBASE_VIEW_PRIVATE_KEY": OTHER,
}
LIMITS = {
    "MAX_ORDER_SIZE_USD": "50",
    "MAX_DAILY_VOLUME_USD": "200",
    "MAX_OPEN_POSITIONS": "2",
    "MAX_DAILY_LOSS_USD": "20",
    "MAX_POSITION_SIZE": "0.2",
    "MAX_PORTFOLIO_VOLATILITY": "0.3",
}
COMPLETE = LIVE | KEYS | LIMITS


def test_everything_set_is_safe_and_live(tmp_path: Path) -> None:
    complete = manager(tmp_path, COMPLETE)
    assert complete.validate_live_trading_safety() == (True, [])
    assert not complete.is_paper_trading()


def test_without_settings_it_is_paper(tmp_path: Path) -> None:
    assert manager(tmp_path).is_paper_trading()


@pytest.mark.parametrize("name", COMPLETE)
def test_each_thing_taken_away_is_one_reason_against_live(tmp_path: Path, name: str) -> None:
    without = manager(tmp_path, {other: text for other, text in COMPLETE.items() if other != name})
    is_safe, warnings = without.validate_live_trading_safety()
    assert not is_safe
    assert [warning for warning in warnings if name in warning]
    assert without.is_paper_trading() == (name in LIVE)


@pytest.mark.parametrize("name", [*LIVE, "MAX_ORDER_SIZE_USD"])
def test_two_places_that_differ_mean_paper(tmp_path: Path, name: str) -> None:
    write_env_file(tmp_path / ".env.coinbase", {name: Secret("true" if name == "PAPER_TRADING" else "0")})
    here = manager(tmp_path, COMPLETE)
    assert [problem for problem in here.switches().conflicts if problem.startswith(f"{name}: found different values")]
    assert here.is_paper_trading()


@pytest.mark.parametrize("changed", [{"PAPER_TRADING": "true"}, {"PAPER_TRADING": "maybe"}, {"ENVIRONMENT": "staging"}])
def test_a_contradiction_means_paper(tmp_path: Path, changed: dict[str, str]) -> None:
    here = manager(tmp_path, COMPLETE | changed)
    assert here.switches().conflicts
    assert here.is_paper_trading()


def test_one_key_for_both_tasks_is_a_warning(tmp_path: Path) -> None:
    _, warnings = manager(tmp_path, COMPLETE | {"COINBASE_VIEW_PRIVATE_KEY": SEC1}).validate_live_trading_safety()
    assert [warning.split(":")[0] for warning in warnings] == ["COINBASE_VIEW_API_KEY"]


def test_limits_say_where_they_come_from(tmp_path: Path) -> None:
    write_env_file(tmp_path / ".env.coinbase", {"MAX_DAILY_LOSS_USD": Secret("33")})
    limits = manager(tmp_path, {"MAX_ORDER_SIZE_USD": "50"}).get_risk_limits()
    assert limits["MAX_ORDER_SIZE_USD"].source == "environment MAX_ORDER_SIZE_USD"
    assert limits["MAX_DAILY_LOSS_USD"].source.endswith(".env.coinbase: MAX_DAILY_LOSS_USD")
    assert limits["MAX_DAILY_LOSS_USD"].value == 33
    assert limits["MAX_POSITION_SIZE"].source == "profile moderate"


def test_the_file_that_coinbase_offers_is_taken_apart() -> None:
    name, private = key_file_parts(Secret(json.dumps({"name": NAME, "privateKey": SEC1})), "test")
    assert coinbase_key(name, private, "test").algorithm == "ES256"
    with pytest.raises(ConfigurationError, match="expected the JSON of Coinbase"):
        key_file_parts(Secret("[]"), "test")
