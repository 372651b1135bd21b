"""What the pages on deployment and trouble promise: options, codes, sections and units that exist."""

from __future__ import annotations

import configparser
import inspect
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from config.credentials.places import PLAIN, SECRETS
from config.settings import PROJECT, Settings
from deployments.cli import app
from trading import errors

DOCS = PROJECT / "docs"
PAGES = [DOCS / "deployment.md", DOCS / "troubleshooting.md", DOCS / "live.md"]
WATCHDOGS = ("keel-watchdog", "keel-live-watchdog")
UNITS = sorted((PROJECT / "deployments" / "systemd").glob("*.service"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_gives_a_command_exists(page: Path) -> None:
    text = page.read_text()
    lines = re.findall(r"`(keel [^`]+)`", text) + re.findall(r"^\$ (keel [^&\n]+)", text, re.MULTILINE)
    assert lines
    for line in lines:
        words = shlex.split(line)[1:]
        command = get_command(app).commands[words[0]]  # type: ignore[attr-defined]
        if inner := getattr(command, "commands", None):
            command = inner[words[1]] if len(words) > 1 else command
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    known = {(field.description or "").partition(":")[0] for field in Settings.model_fields.values()}
    known |= {
        *PLAIN,
        *SECRETS,
        "KEEL_CREDENTIALS_FILE",
        "KEEL_VAULT",
        "KEEL_VAULT_KEY_FILE",
        "KEEL_VAULT_PASSPHRASE",
        "KEEL_STACK",
    }
    named = set(re.findall(r"\b(?:KEEL|MAX|COINBASE)_[A-Z_]+[A-Z]\b", page.read_text()))
    assert named <= known, named - known


def test_every_code_of_an_error_on_the_page_about_trouble_exists() -> None:
    named = set(re.findall(r"error\[([a-z_]+)\]", (DOCS / "troubleshooting.md").read_text()))
    of_errors = {kind.code for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.KeelError)}
    of_commands = {
        code
        for file in (PROJECT / "deployments" / "cli").glob("*.py")
        for code in re.findall(r'fail\("([a-z_]+)"', file.read_text())
    }
    of_checks = set(re.findall(r'"([a-z_]+)"', (PROJECT / "trading" / "risk" / "checks.py").read_text()))
    assert named
    assert named <= of_errors | of_commands | of_checks


def test_every_section_that_the_page_about_trouble_leads_to_is_there() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    sections = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([a-z-]+)\)", text)) == sections


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_unit_runs_a_command_that_exists_and_not_as_root(unit: Path) -> None:
    service = sections(unit)["Service"]
    program, command = service["ExecStart"].split()
    assert program == f"{service['WorkingDirectory']}/.venv/bin/keel"
    assert command in get_command(app).commands  # type: ignore[attr-defined]
    assert service["User"] not in ("", "root")
    assert service["NoNewPrivileges"] == "yes"


def sections(unit: Path) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit.read_text())
    return parsed


def test_the_key_that_trades_has_a_user_of_its_own_and_no_core_holds_it() -> None:
    users = {unit.stem: sections(unit)["Service"]["User"] for unit in UNITS}
    assert users == {
        "keel": "keel", "keel-watchdog": "keel", "keel-live": "keel-live", "keel-live-watchdog": "keel-live",
    }  # fmt: skip
    for name, command in (("keel-live", "worker"), ("keel-live-watchdog", "watchdog")):
        live = sections(PROJECT / "deployments" / "systemd" / f"{name}.service")["Service"]
        assert live["ExecStart"].endswith(f"keel {command}")
        assert live["LimitCORE"] == "0"
        assert live["EnvironmentFile"] == "/etc/tradekeel-live.env", "without its settings it must not start"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_unit_writes_to_the_state_folder_of_its_user_which_systemd_makes_and_not_to_the_code(unit: Path) -> None:
    service = sections(unit)["Service"]
    home = f"/var/lib/{service['StateDirectory']}"
    assert home == {"keel": "/var/lib/tradekeel", "keel-live": "/var/lib/tradekeel-live"}[service["User"]]
    assert (service["StateDirectoryMode"], service["UMask"], service["ProtectSystem"]) == ("0700", "0077", "strict")
    assert "ReadWritePaths" not in service
    assert f"KEEL_HOME={home}" in unit.read_text() + (DOCS / "deployment.md").read_text()


def test_one_watchdog_takes_the_place_of_the_other() -> None:
    paper, live = (sections(PROJECT / "deployments" / "systemd" / f"{name}.service") for name in WATCHDOGS)
    assert paper["Unit"]["Conflicts"] == f"{WATCHDOGS[1]}.service"
    assert live["Unit"]["Conflicts"] == f"{WATCHDOGS[0]}.service"


def test_the_page_names_every_unit_with_its_user_and_copies_each() -> None:
    page = (DOCS / "deployment.md").read_text()
    for unit in UNITS:
        row = next(line for line in page.splitlines() if line.startswith(f"| [`{unit.name}`]"))
        assert row.endswith(f"| `{sections(unit)['Service']['User']}` |")
        assert f"/opt/tradekeel/deployments/systemd/{unit.name}" in page


def test_both_files_of_settings_on_the_page_agree_in_what_is_not_each_users_own() -> None:
    stack, live = re.findall(r"```ini\n(.*?)```", (DOCS / "deployment.md").read_text(), re.DOTALL)
    one, other = (dict(line.split("=", 1) for line in block.splitlines()) for block in (stack, live))
    assert one["KEEL_HALT_FILE"] == other["KEEL_HALT_FILE"]
    assert one["KEEL_HOME"] != other["KEEL_HOME"]
    assert one["DATABASE_URL"] != other["DATABASE_URL"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_every_unit(unit: Path, tmp_path: Path) -> None:
    here = unit.read_text().replace("/opt/tradekeel", str(PROJECT))
    (tmp_path / unit.name).write_text(re.sub(r"^User=.*$", "User=nobody", here, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit.name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if unit.name in line and "Unknown" in line] == [], done.stderr


def test_the_container_takes_no_key_and_no_books_of_this_machine_with_it() -> None:
    folder = PROJECT / "deployments"
    left_out = (PROJECT / ".dockerignore").read_text().splitlines()
    assert {"config/api-keys/.env.coinbase", ".keel", ".venv"} <= set(left_out)
    made = (folder / "Dockerfile").read_text().splitlines()
    assert next(line for line in reversed(made) if line.startswith("USER")) == "USER keel"
    assert made[-1] == 'CMD ["/opt/tradekeel/.venv/bin/keel", "up"]'
    (service,) = yaml.safe_load((folder / "compose.yaml").read_text())["services"].values()
    assert (folder / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert "environment" not in service
