"""Where real money follows, a person types the words back: with other words, or none, nothing is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from config.settings import PROJECT
from deployments.cli.control import confirmed
from tests.builders import real_money
from trading.store.database import connect

REASON = ("--reason", "a drill")
COMMANDS = {
    "arm": ("arm", *REASON),
    "promote": ("ramp", "promote", *REASON),
    "flatten": ("flatten", *REASON),
    "resume": ("resume", *REASON),
    "resume a breaker": ("breaker", "resume", *REASON),
}


@pytest.mark.parametrize("typed", ["", "yes", "arm live:other", "ARM LIVE:MAIN"])
def test_other_words_are_refused(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        confirmed(["live:main"], typed, "arm")
    assert 'expected the phrase "arm live:main"' in capsys.readouterr().err


def test_the_words_themselves_and_money_that_is_not_real_go_on() -> None:
    confirmed(["live:main"], " arm live:main ", "arm")
    confirmed(["live:b", "live:a", "live:b"], "resume live:a live:b")
    confirmed([], None)


@pytest.mark.parametrize("typed", [(), ("--confirm", "yes")])
@pytest.mark.parametrize("case", COMMANDS)
def test_every_command_that_lets_real_money_go_asks_first(
    case: str, typed: tuple[str, ...], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting = {"MAX_POSITION_SIZE": "0.3", "MAX_PORTFOLIO_VOLATILITY": "0.4"}  # the default plan's breaker stands above them
    real_money.only(monkeypatch, tmp_path, **real_money.all_set() | fitting, DATABASE_URL=database_url)
    command = [sys.executable, "-c", "from deployments.cli import main; main()", *COMMANDS[case], "--mode", "live", *typed]
    done = subprocess.run(
        command, env=os.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=PROJECT, check=False
    )
    assert (done.returncode, "error[not_confirmed]" in done.stderr) == (1, True), done.stderr
    with connect(database_url) as owner:
        assert owner.execute("select count(*) from keel.audit").fetchone() == (0,)
