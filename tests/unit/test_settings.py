"""Settings: the README's table is complete, and bad values are all named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import PROJECT, Settings, load, with_absolute_paths
from trading.errors import ConfigurationError
from trading.plan import Limits


def test_the_readme_names_every_variable() -> None:
    table = (PROJECT / "README.md").read_text()
    for field in Settings.model_fields.values():
        assert f"`{(field.description or '').split(':', 1)[0]}`" in table
    for limit in Limits.model_fields:
        assert f"`{limit.upper()}`" in table


def test_every_description_begins_with_its_variable() -> None:
    for name, field in Settings.model_fields.items():
        variable = (field.description or "").split(":", 1)[0]
        assert variable in (field.validation_alias, f"KEEL_{name.upper()}")


def test_bad_values_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEL_PREFECT_PORT", "seventy")
    monkeypatch.setenv("KEEL_TIMEOUT_SECONDS", "-1")
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "environment KEEL_PREFECT_PORT",
        "environment KEEL_TIMEOUT_SECONDS",
    ]


def test_another_folder_changes_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = {
        "KEEL_HALT_FILE": "STOP", "KEEL_CREDENTIALS_FILE": "../keys", "KEEL_MARKET": "replay:candles", "KEEL_PLANS": "/etc/plans",
        "KEEL_SECOND_MARKET": "coinbase", "KEEL_ANCHORS": "", "KEEL_COINBASE_HOST": "host", "OTHER": "a/b",
    }  # fmt: skip
    assert with_absolute_paths(asked) == asked | {
        "KEEL_HALT_FILE": f"{tmp_path}/STOP",
        "KEEL_CREDENTIALS_FILE": f"{tmp_path}/../keys",
        "KEEL_MARKET": f"replay:{tmp_path}/candles",
    }
