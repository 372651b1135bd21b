"""Every setting from the environment, in one place: nothing else in the project reads it.

The limits (`MAX_ORDER_SIZE_USD` ...) are read by `config.plans`, the credentials by `config.credentials`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from trading.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """Read with `load()`. Every field is also an environment variable of the name that its description begins with."""

    model_config = SettingsConfigDict(env_prefix="KEEL_", extra="ignore", frozen=True, hide_input_in_errors=True)

    home: Path = Field(default=PROJECT / ".keel", description="KEEL_HOME: state of the local stack, private to its user")
    database_url: str | None = Field(
        default=None, validation_alias="DATABASE_URL", description="DATABASE_URL: the ledger; unset: the embedded Postgres"
    )
    human_database_url: str | None = Field(
        default=None,
        description="KEEL_HUMAN_DATABASE_URL: the ledger by a login that may act as keel_human; unset: as DATABASE_URL",
    )
    postgres_bin: Path | None = Field(
        default=None, validation_alias="KEEL_PG_BIN", description="KEEL_PG_BIN: folder of Postgres binaries to use"
    )
    postgres_user: str | None = Field(
        default=None, validation_alias="KEEL_PG_USER", description="KEEL_PG_USER: who runs the embedded Postgres under root"
    )
    market: str | None = Field(
        default=None, description="KEEL_MARKET: coinbase, replay:PATH or synthetic; unset: chosen at the first start"
    )
    second_market: str | None = Field(
        default=None,
        description="KEEL_SECOND_MARKET: another source, spelled like KEEL_MARKET, that prices are compared with; unset: none",
    )
    anchors: Path | None = Field(
        default=None, description="KEEL_ANCHORS: file of signed chain heads, append-only; unset: anchors.jsonl in KEEL_HOME"
    )
    halt_file: Path | None = Field(
        default=None, description="KEEL_HALT_FILE: while this file exists no order is sent; unset: HALT in KEEL_HOME"
    )
    alerts: SecretStr = Field(
        default=SecretStr(""),
        description="KEEL_ALERTS: Apprise URLs, spaces between; before each its floor, if not warning: critical=mailtos://...",
    )
    alert_hosts: str = Field(default="", description="KEEL_ALERT_HOSTS: hosts that alerts by mail or webhook may go to")
    supabase_url: str | None = Field(
        default=None, description="KEEL_SUPABASE_URL: https address of the Supabase project that `keel mirror` tells"
    )
    supabase_key: SecretStr = Field(default=SecretStr(""), description="KEEL_SUPABASE_KEY: service key of that project")
    watch_seconds: float = Field(
        default=15.0, gt=0, le=60, description="KEEL_WATCH_SECONDS: between heartbeats of the stack, and looks of the watchdog"
    )
    silence_seconds: int = Field(
        default=90, ge=1, description="KEEL_SILENCE_SECONDS: without a heartbeat, until the watchdog acts"
    )
    unclaimed_seconds: int = Field(
        default=300, ge=1, description="KEEL_UNCLAIMED_SECONDS: that a slot which was due may go unclaimed"
    )
    watchdog: Literal["live", "always", "never"] = Field(
        default="live",
        description="KEEL_WATCHDOG: when it trips and cancels, beside alerting: with live portfolios, always, never",
    )
    plans: Path = Field(default=PROJECT / "config" / "plans", description="KEEL_PLANS: folder of the plans")
    prefect_port: int | None = Field(
        default=None, ge=1, le=65535, description="KEEL_PREFECT_PORT: port of server and UI; unset: the first free from 4200"
    )
    prefect_yaml: Path = Field(
        default=PROJECT / "prefect.yaml", description="KEEL_PREFECT_YAML: the deployments and their schedules"
    )
    coinbase_host: str = Field(default="api.coinbase.com", description="KEEL_COINBASE_HOST: host[:port] of the REST API")
    simulator_home: Path | None = Field(
        default=None,
        description="KEEL_SIMULATOR_HOME: home of the simulated Coinbase that rehearsals go to; unset: simulator in KEEL_HOME",
    )
    ca_file: Path | None = Field(default=None, description="KEEL_CA_FILE: CA of the REST API; unset: the usual ones")
    timeout_seconds: float = Field(default=10.0, gt=0, le=120, description="KEEL_TIMEOUT_SECONDS: of one REST call")
    requests_per_second: float = Field(
        default=5.0, gt=0, le=30, description="KEEL_REQUESTS_PER_SECOND: budget of public REST calls"
    )
    synthetic_seed: int = Field(default=7, ge=0, description="KEEL_SYNTHETIC_SEED: seed of the synthetic market")
    paper_fault: Literal["", "accept_then_raise"] = Field(
        default="", description="KEEL_PAPER_FAULT: accept_then_raise: the paper exchange takes an order, then loses its answer"
    )


def load() -> Settings:
    """The settings now; raises ConfigurationError that lists every bad one by its variable."""
    try:
        return Settings()
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            name = str(problem["loc"][0])
            field = Settings.model_fields.get(name)
            variable = (field.description or name).split(":", 1)[0] if field else name
            problems.append(f"environment {variable}: {problem['msg']}")
        raise ConfigurationError(problems) from None


def with_absolute_paths(environ: Mapping[str, str]) -> dict[str, str]:
    """These variables, every relative path in a setting made absolute: for a process that will stand in another folder."""
    paths = [
        str(field.validation_alias or f"KEEL_{name.upper()}")
        for name, field in Settings.model_fields.items()
        if field.annotation in (Path, Path | None)
    ]
    found = dict(environ)
    for variable in (*paths, "KEEL_CREDENTIALS_FILE", "KEEL_VAULT", "KEEL_VAULT_KEY_FILE"):
        if found.get(variable):
            found[variable] = _absolute(found[variable])
    for variable in ("KEEL_MARKET", "KEEL_SECOND_MARKET"):
        kind, _, path = found.get(variable, "").strip().partition(":")
        if kind == "replay" and path.strip():
            found[variable] = f"replay:{_absolute(path.strip())}"
    return found


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def who_acts() -> str:
    """Of this process: the person at the terminal, or the account that it runs under."""
    return os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid {os.getuid()}"


def private_folder(path: Path) -> Path:
    """The folder, made if it is missing, readable by its owner only. Raises ConfigurationError where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"folder {path}: cannot be made: {error.strerror} (KEEL_HOME names another)") from error
    if path.stat().st_mode & 0o067:  # the group may pass through, where Postgres runs under an account of its own
        path.chmod(0o700)
    return path


def write_private(file: Path, text: str) -> None:
    """Writes the file, whole or not at all, readable by its owner only."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)
    draft.replace(file)
