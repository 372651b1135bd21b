"""`breaker/halt` and `breaker/resume` under a real Prefect server: what the form does, and what a person is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import State, StateType
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import Automation
from prefect.testing.utilities import prefect_test_harness
from pydantic import ValidationError

from config.settings import PROJECT
from deployments.stack.declared import read_declared
from deployments.stack.provision import ensure_pools, provision
from flows.halt import breaker as halt
from flows.parameters import HaltParameters, ResumeParameters
from flows.resume import breaker as resume
from tasks import control
from trading import hand
from trading.cycle import run
from trading.risk import Level
from trading.store.database import connect
from trading.store.halting import requested

PLAN = """
name = "default"
products = ["BTC-USD", "ETH-USD"]
[strategy]
name = "crossover"
[breaker]
cool_down_minutes = 0
"""


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> Iterator[str]:
    """A plan that has traded on the synthetic market, and a Prefect server."""
    (tmp_path / "default.toml").write_text(PLAN)
    for name, value in {
        "KEEL_HOME": str(tmp_path), "KEEL_PLANS": str(tmp_path), "KEEL_MARKET": "synthetic", "DATABASE_URL": database_url
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    from config.desk import open_desk  # noqa: PLC0415 - reads the settings above

    with prefect_test_harness():
        with open_desk() as desk:
            run(desk)
        yield database_url


def trip() -> None:
    """By hand, so that the plan's own cool-down counts: none."""
    from config.desk import open_desk  # noqa: PLC0415 - as above

    with open_desk() as desk:
        hand.trip(desk, "global", Level.CANCEL, "a drill")


LIVE = """insert into keel.portfolio (book, mode, name, source, cash_asset, lot_method)
          values ('live:main', 'live', 'main', 'coinbase', 'USD', 'fifo')"""


def standing(url: str) -> tuple[str, str | None]:
    with connect(url) as connection:
        row = connection.execute("select state, level from keel.breaker where scope = 'global'").fetchone()
    assert row is not None
    return str(row[0]), None if row[1] is None else str(row[1])


def test_the_form_opens_a_breaker_and_cancels(ledger: str) -> None:
    ended = halt(HaltParameters(reason="a drill"), return_state=True)
    assert ended.is_completed(), ended.message
    assert "global is open at cancel: a drill" in (ended.message or "")
    assert standing(ledger) == ("open", "cancel")


def test_a_scope_that_is_not_there_is_refused_with_those_that_are(ledger: str) -> None:
    ended = halt(HaltParameters(scope="glbal", reason="a drill"), return_state=True)
    assert ended.is_failed()
    assert "portfolio:paper:main" in (ended.message or "")
    assert standing(ledger) == ("closed", None)


def test_with_postgres_down_the_form_fails_and_says_so(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/keel")
    ended = halt(HaltParameters(reason="a drill"), return_state=True)
    assert ended.is_failed()
    assert "LedgerUnavailable" in (ended.message or "")
    assert standing(ledger) == ("closed", None)


@pytest.mark.parametrize("bad", [{"reason": ""}, {"reason": "why not", "level": "flatten"}, {"reason": "why not", "more": 1}])
def test_the_form_takes_nothing_that_it_does_not_know(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HaltParameters.model_validate(bad)


def answer(name: str, reason: str) -> None:
    """What a person does in the UI, once the run asks."""
    paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
    with get_client(sync_client=True) as client:
        until = time.monotonic() + 60
        while not (runs := client.read_flow_runs(flow_run_filter=paused)):
            assert time.monotonic() < until, "the run asks"
            time.sleep(0.2)
        client.resume_flow_run(runs[0].id, run_input={"name": name, "reason": reason})


def test_a_resume_asks_a_person_and_completes_on_paper(ledger: str, tmp_path: Path) -> None:
    trip()
    (tmp_path / "HALT").touch()
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(answer, "anna", "it was a drill and is over")
        ended: State[str] = resume(ResumeParameters(), return_state=True)
        told.result()
    assert ended.is_completed(), ended.message
    assert standing(ledger) == ("half_open", None)
    assert not (tmp_path / "HALT").exists()
    with connect(ledger) as connection:
        row = connection.execute("select resumed_by, resume_reason from keel.breaker where scope = 'global'").fetchone()
    assert row == ("anna (Prefect)", "it was a drill and is over")


def test_for_live_a_request_is_filed_and_nothing_is_led_out(ledger: str) -> None:
    trip()
    assert control.resume("default", "live", "anna", "it was a drill and is over")[0] is False  # nothing live was ever opened
    with connect(ledger) as connection:
        connection.execute(LIVE)
    done, line = control.resume("default", "live", "anna", "it was a drill and is over")
    assert (done, "keel resume --mode live" in line) == (True, True)
    assert standing(ledger) == ("open", "cancel")
    with connect(ledger) as connection:
        [wish] = requested(connection)
    assert "anna (Prefect), plan default: it was a drill and is over" in wish


def test_where_a_live_portfolio_shares_the_breakers_paper_is_no_way_around(ledger: str, tmp_path: Path) -> None:
    trip()
    (tmp_path / "HALT").touch()
    with connect(ledger) as connection:
        connection.execute(LIVE)
    assert "live portfolios" in control.resume("default", "paper", "anna", "it was a drill and is over")[1]
    assert standing(ledger) == ("open", "cancel")
    assert (tmp_path / "HALT").exists()


def test_live_runs_that_keep_failing_run_the_halting_deployment() -> None:
    declared = read_declared(PROJECT / "prefect.yaml", {"KEEL_PROJECT": str(PROJECT)})

    async def provisioned() -> tuple[str, Automation]:
        async with get_client() as client:
            await ensure_pools(client)
            assert await provision(client, PROJECT / "prefect.yaml", declared)
            assert not await provision(client, PROJECT / "prefect.yaml", declared)
            [automation] = await client.read_automations_by_name("keel: live runs that keep failing open the breaker")
            return str((await client.read_deployment_by_name("breaker/halt")).id), automation

    with prefect_test_harness():
        deployment, automation = asyncio.run(provisioned())
    [action] = automation.actions
    assert isinstance(action, RunDeployment)
    assert str(action.deployment_id) == deployment
    assert HaltParameters.model_validate((action.parameters or {})["params"]).level == "no_new"
