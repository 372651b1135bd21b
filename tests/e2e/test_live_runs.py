"""The deployment `trade/live` through a real Prefect server and its own worker, in rehearsal against the simulated Coinbase.

Five slots; the venue takes an order and drops its answer, and one run is killed. The books end equal to the venue's truth.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.builders.simulator import Running, running
from tests.e2e.conftest import KEEL, Stack, run_process, until

pytestmark = pytest.mark.e2e
LIVE, PLAN = "trade/live", "lively"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture
def venue(stack: Stack) -> Iterator[Running]:
    options = ("--prices", "synthetic", "--start", "2026-03-01T00:10:00Z", "--public-rate", "0")
    with running(stack.home / "simulator", *options) as simulator:
        yield simulator


@contextmanager
def live_worker(stack: Stack) -> Iterator[None]:
    log = (stack.home / "logs" / "live-worker.log").open("w")
    with log, subprocess.Popen([KEEL, "worker"], cwd=stack.home, env=_without_prefect(stack), stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _without_prefect(stack: Stack) -> dict[str, str]:
    return {name: value for name, value in stack.environment.items() if not name.startswith("PREFECT_")}


def keel(stack: Stack, *command: str) -> str:
    done = stack.run(*command, "--plan", PLAN, "--mode", "rehearsal", USER="anna")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_five_slots_in_rehearsal_through_the_live_pool_end_equal_to_the_venue(stack: Stack, venue: Running) -> None:
    stack.write_plan_that_trades(PLAN)
    keel(stack, "reconcile")
    keel(stack, "breaker", "resume", "--reason", "first rehearsal")
    keel(stack, "arm", "--reason", "first rehearsal")
    keel(stack, "check-live")
    states, params = [], {"params": {"plan": PLAN, "mode": "rehearsal"}}
    with live_worker(stack):
        for number in range(5):
            venue.control("clock", {"advance": 3600})
            if number == 0:
                venue.fault("accept_then_drop")
            run_id = stack.trigger(LIVE, params)
            if number == 3:
                os.kill(until("the run's process", partial(run_process, run_id), 60), signal.SIGKILL)
            states.append(stack.await_state(run_id, *ENDED, seconds=120)["state_type"])
        venue.control("clock", {"advance": 3600})
        with (stack.home / "simulator" / "keys" / "trade.json").open("r+") as key:  # torn: no real desk opens
            whole = key.read()
            key.truncate(10)
        states.append(stack.await_state(stack.trigger(LIVE, params), *ENDED, seconds=120)["state_type"])
        (stack.home / "simulator" / "keys" / "trade.json").write_text(whole)
    assert states == ["COMPLETED", "COMPLETED", "COMPLETED", "CRASHED", "COMPLETED", "FAILED"]
    keel(stack, "reconcile")
    orders = json.loads(stack.run("orders", "--mode", "rehearsal", "--portfolio", PLAN, "--json").stdout)
    truth = venue.oracle
    assert {row["client_order_id"]: Decimal(row["filled_size"]) for row in truth["orders"]} == {
        row["client_order_id"]: Decimal(row["filled"]) for row in orders if row["exchange_order_id"]
    }
    assert {row["state"] for row in orders} == {"filled"}
    shadow = json.loads(stack.run("orders", "--portfolio", f"{PLAN}-r-shadow", "--json").stdout)
    assert {row["mode"] for row in shadow} == {"paper"}
    assert max(row["slot"] for row in shadow) > max(row["slot"] for row in orders), (
        "it went on where the real part could not begin"
    )
    proved = json.loads(stack.run("verify", "--json").stdout)
    assert [check["name"] for check in proved["checks"] if not check["ok"]] == []
    names = [artifact["key"] for artifact in stack.api("/artifacts/latest/filter", {})]
    assert {f"trade-{PLAN}", f"shadow-{PLAN}"} <= set(names)


def test_the_live_worker_takes_neither_commands_nor_code_from_the_server(stack: Stack, venue: Running, tmp_path: Path) -> None:
    """Whoever may write to the server is not the key's user: a deployment of theirs starts what is declared, or nothing."""
    del venue
    proofs = {name: tmp_path / name for name in ("command", "steps", "code", "environment")}
    (tmp_path / "theirs.py").write_text(
        f"from pathlib import Path\nfrom prefect import flow\nPath({str(proofs['code'])!r}).touch()\n"
        "@flow\ndef trade(params): pass\n@flow\ndef spy(params): pass\n"
    )
    (tmp_path / "sitecustomize.py").write_text(f"open({str(proofs['environment'])!r}, 'w')\n")

    def ask(flow: str, name: str) -> dict[str, Any]:
        made = stack.api("/deployments/", {
            "flow_id": stack.api("/flows/", {"name": flow})["id"], "name": name, "work_pool_name": "live",
            "entrypoint": "theirs.py:" + flow, "path": str(tmp_path),
            "parameters": {"params": {"plan": PLAN, "mode": "rehearsal"}},
            "pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": f"touch {proofs['steps']}"}}],
            "job_variables": {"env": {"PYTHONPATH": str(tmp_path)}, "working_dir": str(tmp_path)} | (
                {"command": f"touch {proofs['command']}"} if name == "commands" else {}
            ),
        })  # fmt: skip
        run = stack.api(f"/deployments/{made['id']}/create_flow_run", {})
        return stack.await_state(str(run["id"]), *ENDED, seconds=120)

    stack.write_plan_that_trades(PLAN)
    with live_worker(stack):
        ended = {name: ask(flow, name)["state_type"] for flow, name in (
            ("trade", "commands"), ("trade", "code"), ("spy", "other"), ("spy", "commands"),
        )}  # fmt: skip
    assert ended == {"commands": "CRASHED", "code": "COMPLETED", "other": "CRASHED"}
    assert [name for name, proof in proofs.items() if proof.exists()] == []
