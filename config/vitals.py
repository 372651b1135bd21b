"""What a process says of itself and its machine: the code it runs, how it is configured, and whether the disk has room."""

from __future__ import annotations

import shutil
from decimal import Decimal
from functools import cache
from hashlib import sha256
from pathlib import Path

from config.settings import PROJECT, Settings
from trading.money import canonical, dec
from trading.store.heartbeats import Pulse

_PACKAGES = ("config", "deployments", "flows", "tasks", "trading")
_OWN = frozenset({"home", "prefect_port", "postgres_bin", "postgres_user", "plans", "prefect_yaml", "watchdog", "supabase_url",
                  "supabase_key", "alerts", "alert_hosts", "anchors", "simulator_home"})  # fmt: skip
"""Settings that may differ between the processes of one ledger."""


@cache
def code_version() -> str:
    """SHA-256 of the code as it was when this process first asked."""
    found = sha256()
    for file in sorted(
        path for package in _PACKAGES for path in (PROJECT / package).rglob("*") if path.suffix in (".py", ".sql")
    ):
        found.update(str(file.relative_to(PROJECT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def configuration(settings: Settings) -> str:
    """SHA-256 of what processes of one ledger must agree on: settings, secrets left out, and the plans' files."""
    rows = {name: str(value) for name, value in settings.model_dump(exclude=set(_OWN)).items()}
    plans = {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(settings.plans.glob("*.toml"))}
    for name in ("database_url", "human_database_url"):
        rows.pop(name)
    return sha256(canonical({"settings": rows, "plans": plans}).encode()).hexdigest()[:16]


def machine_signs(settings: Settings, told: Pulse) -> dict[str, Decimal | None]:
    """What this machine, its clock and the processes beside this one say: for the watches of those names."""
    return {
        "disk_used": disk_used(settings.home),
        "clock_offset_seconds": told.clock_offset_seconds,
        "clock_step_seconds": told.clock_step_seconds,
        "code_versions": told.versions,
        "configurations": told.configurations,
    }


def disk_used(folder: Path) -> Decimal | None:
    """Used share of the folder's disk, by what a user without privileges may still write; None when it cannot be known."""
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        return None
    return dec(1 - found.free / (found.used + found.free))
