"""The rules of the house, as tests: lint, types, layers, and what must stand nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        [str(BIN / "ruff"), "check", "--quiet"],
        [str(BIN / "ruff"), "format", "--check", "--quiet"],
        [str(BIN / "mypy")],
        [str(BIN / "lint-imports"), "--no-cache"],
    ],
    ids=lambda command: Path(command[0]).name + " " + " ".join(command[1:2]),
)
def test_the_code_keeps_the_rules(command: list[str]) -> None:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nobody_uses_the_sdks_websocket_client() -> None:
    """It connects without verifying TLS, and breaks with the websockets that Prefect needs."""
    files = [
        path for folder in ("trading", "config", "tasks", "flows", "deployments") for path in (PROJECT / folder).rglob("*.py")
    ]
    assert files
    guilty = [str(path) for path in files if "coinbase.websocket" in path.read_text() or "WSClient" in path.read_text()]
    assert guilty == []


def test_the_pins_that_keep_the_schedule_alive_are_locked() -> None:
    locked = (PROJECT / "uv.lock").read_text()
    version = {
        name: locked.split(f'name = "{name}"\nversion = "', 1)[1].split('"', 1)[0]
        for name in ("sqlalchemy", "prefect", "fastapi", "websockets", "coinbase-advanced-py")
    }
    assert version["sqlalchemy"].startswith("2.0.")  # with 2.1 no cron run is ever made, silently
    assert version["prefect"].startswith("3.8.")
    assert int(version["fastapi"].split(".")[1]) < 151
    assert int(version["websockets"].split(".")[0]) >= 15
    assert version["coinbase-advanced-py"] == "1.8.4"
