"""The choice of the market: by setting, else once for a state directory."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from config.market import choose_market, coinbase_answers, open_market, second_market
from tests.builders.candles import write_generated
from tests.builders.coinbase_server import coinbase_server
from trading.errors import ConfigurationError

SPREAD = Decimal("0.0004")


def never() -> bool:
    raise AssertionError("the probe must not be asked")


@pytest.mark.parametrize(("answers", "chosen"), [(True, "coinbase"), (False, "synthetic")])
def test_a_new_home_chooses_coinbase_if_it_answers_and_keeps_the_choice(tmp_path: Path, answers: bool, chosen: str) -> None:
    home = tmp_path / "new" / ".keel"
    assert choose_market(None, home, lambda: answers) == chosen
    assert choose_market(None, home, never) == chosen
    assert choose_market("", home, never) == chosen
    assert (home / "market").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in home.iterdir()] == ["market"]


def test_a_setting_wins_and_leaves_the_homes_choice_alone(tmp_path: Path) -> None:
    choose_market(None, tmp_path, lambda: True)
    assert choose_market("synthetic", tmp_path, never) == "synthetic"
    assert choose_market(None, tmp_path, never) == "coinbase"


def test_a_replay_is_named_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_market("replay:candles/../candles", tmp_path, never) == f"replay:{tmp_path}/candles"


@pytest.mark.parametrize("setting", ["binance", "Coinbase", "replay:", "replay", "replay: ", "synthetic:7"])
def test_an_unknown_setting_names_the_three_spellings(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigurationError, match=r"KEEL_MARKET: found .* expected coinbase, replay:PATH or synthetic"):
        choose_market(setting, tmp_path, never)


def test_a_damaged_choice_is_an_error_and_not_a_new_choice(tmp_path: Path) -> None:
    (tmp_path / "market").write_text("")
    with pytest.raises(ConfigurationError, match=r"market: found '', expected coinbase"):
        choose_market(None, tmp_path, never)


def test_a_choice_made_by_another_start_meanwhile_wins(tmp_path: Path) -> None:
    def slow_probe() -> bool:
        choose_market(None, tmp_path, lambda: True)
        return False

    assert choose_market(None, tmp_path, slow_probe) == "coinbase"


def test_each_name_opens_its_source(tmp_path: Path) -> None:
    write_generated(tmp_path, 1, length=5)
    names = [open_market(name, spread=SPREAD).name for name in ("coinbase", "synthetic", f"replay:{tmp_path}")]
    assert names == ["coinbase", "synthetic", f"replay:{tmp_path}"]


def test_an_opened_source_takes_the_clock_that_it_is_given() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert open_market("synthetic", spread=SPREAD, clock=lambda: at).now() == at
    assert open_market("coinbase", spread=SPREAD, clock=lambda: at).now() == at


def test_the_probe_asks_the_venue(tmp_path: Path) -> None:
    with coinbase_server(tmp_path) as venue:
        assert coinbase_answers(venue.host, venue.ca_file)
    assert not coinbase_answers(venue.host, venue.ca_file)


@pytest.mark.parametrize(
    ("setting", "first", "name"),
    [
        (None, "coinbase", None),
        (" ", "coinbase", None),
        ("coinbase", "simulator", "coinbase"),
        ("replay:/b", "replay:/a", "replay:/b"),
    ],
)
def test_a_second_market_is_another_one(setting: str | None, first: str, name: str | None) -> None:
    assert second_market(setting, first) == name


@pytest.mark.parametrize(
    ("setting", "first"),
    [
        ("coinbase", "coinbase"),
        ("replay:/a/../a", "replay:/a"),
        ("replay:/a", "coinbase"),
        ("coinbase", "replay:/a"),
        ("kraken", "coinbase"),
    ],
)
def test_a_second_market_that_proves_nothing_is_refused(setting: str, first: str) -> None:
    with pytest.raises(ConfigurationError, match="KEEL_SECOND_MARKET: found"):
        second_market(setting, first)
