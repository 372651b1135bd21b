"""The local stack as a person meets it: `keel up`, its addresses, its schedule, kill -9, and Ctrl-C.

The stories share one state folder, because the first start of a Prefect server takes the longest; each starts the stack if
the one before has stopped it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.stack.premises import FIRST_PORT, is_free
from deployments.stack.processes import marked
from tests.e2e.conftest import MINUTELY, SHORT, SLOW, Stack, lasting, now, prefect_program

pytestmark = pytest.mark.e2e

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
LONG_AGO = now().replace(year=2000)


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Another program listens on the port."""
    if not is_free(port):
        yield
        return
    with socket.create_server(("127.0.0.1", port)):
        yield


@pytest.fixture(scope="module")
def shared(make_stack: Callable[..., Stack]) -> Iterator[Stack]:
    """One whose schedule fires every minute."""
    with lasting(make_stack("shared", minutely=True)) as stack:
        yield stack


# ------------------------------------------------------------------------------------------- what prevents a start


def test_a_bad_plan_stops_everything_before_it_starts(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("bad plan")
    stack.edit_plan("default", 'interval = "1h"', 'interval = "1h"\nintervall = "1d"')
    done = stack.run("up", "--once")
    assert done.returncode == 2, done.stderr
    assert "error[configuration]" in done.stderr
    assert "intervall" in done.stderr
    assert not (stack.home / "postgres").exists()
    assert marked(stack.home) == []


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_that_names_the_setting(make_stack: Callable[[str], Stack]) -> None:
    stack = make_stack("port")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = stack.run("up", KEEL_PREFECT_PORT=str(port))
    assert done.returncode == 2, done.stderr
    assert f"KEEL_PREFECT_PORT={port}" in done.stderr
    assert not (stack.home / "postgres").exists()


# ------------------------------------------------------------------------------------------------------ what it does


def test_it_comes_up_on_the_next_free_port_trades_and_prints_summary_and_addresses(shared: Stack) -> None:
    with taken(FIRST_PORT):
        shared.up()
        shared.await_first_run()
    said = shared.said()
    assert shared.port != FIRST_PORT
    assert f"port {FIRST_PORT} is taken: using {shared.port}" in said
    assert re.search(r"trade/paper .*: Completed: default@\S+ traded", said)
    for part in ("What it saw:", "What it wants:", "Books:", "Safety:"):
        assert part in said
    for page in ("runs/flow-run/", "artifacts", "deployments"):
        assert f"http://127.0.0.1:{shared.port}/{page}" in said


def test_secrets_are_for_their_owner_only(stack: Stack) -> None:
    secret = (stack.home / "auth").read_text().strip().partition(":")[2]
    assert stack.home.stat().st_mode & 0o067 == 0
    files = [path for path in stack.home.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert files
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert secret not in stack.said()


def test_the_login_page_answers_and_the_api_asks_for_the_password(stack: Stack) -> None:
    address = f"http://127.0.0.1:{stack.port}"
    login = httpx.get(f"{address}/login", headers={"Accept": "text/html"}, follow_redirects=True)
    assert (login.status_code, login.headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert httpx.get(f"{address}/api/health").status_code == 200
    for path in ("/deployments/filter", "/flow_runs/filter", "/work_pools/filter", "/artifacts/filter", "/variables/filter"):
        assert httpx.post(f"{address}/api{path}", json={}).status_code == 401
    assert httpx.post(f"{address}/api/flow_runs/filter", json={}, auth=("keel", "guess")).status_code == 401


def test_it_listens_on_loopback_only(stack: Stack) -> None:
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    port, listening = f"{stack.port:04X}", "0A"
    assert {row[1] for row in rows if row[3] == listening and row[1].endswith(f":{port}")} == {f"0100007F:{port}"}


def test_a_second_start_says_that_it_is_up_already(stack: Stack) -> None:
    done = stack.run("up")
    assert done.returncode == 1
    assert f"running already, http://127.0.0.1:{stack.port}" in done.stderr
    assert stack.is_up()


def test_the_deployments_are_what_the_file_declares(stack: Stack) -> None:
    found = stack.deployment(MINUTELY)
    assert [(part["schedule"]["cron"], part["schedule"]["timezone"], part["slug"]) for part in found["schedules"]] == [
        ("* * * * *", "UTC", "minutely")
    ]
    assert found["enforce_parameter_schema"]
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"] == {"collision_strategy": "CANCEL_NEW", "grace_period_seconds": 60}
    form = found["parameter_openapi_schema"]["definitions"]["PlanParameters"]["properties"]
    assert form["plan"]["description"].startswith("Name of a plan")


def test_prefects_own_deploy_command_would_change_nothing(stack: Stack) -> None:
    """The file is read by code of our own: what that makes is held against what Prefect makes of the same file."""
    ours = _lasting(stack.deployment("reconcile/daily"))
    file = stack.environment["KEEL_PREFECT_YAML"]
    done = stack.shell(f"cd \"$KEEL_PROJECT\" && prefect --no-prompt deploy --prefect-file '{file}' --name reconcile/daily")
    assert done.returncode == 0, done.stdout + done.stderr
    deployed = stack.deployment("reconcile/daily")
    assert not deployed["version"].startswith("keel-")
    assert _lasting(deployed) == ours


def _lasting(found: Any) -> Any:
    """What stays the same when a deployment is written again."""
    if isinstance(found, dict):
        passing = ("version", "version_id", "updated", "last_polled", "status")
        return {name: _lasting(value) for name, value in found.items() if name not in passing}
    return [_lasting(value) for value in found] if isinstance(found, list) else found


def test_a_deployment_runs_from_any_shell_that_has_read_env_sh(stack: Stack) -> None:
    done = stack.shell("prefect deployment run trade/paper")
    assert done.returncode == 0, done.stdout + done.stderr
    run_id = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", done.stdout)
    assert run_id is not None, done.stdout
    assert stack.await_state(run_id.group(), *ENDED)["state_type"] == "COMPLETED"


def test_reconciliation_and_report_complete_and_leave_their_pages(stack: Stack) -> None:
    runs = {name: stack.trigger(f"{name}/daily") for name in ("reconcile", "report")}
    for name, run_id in runs.items():
        run = stack.await_state(run_id, *ENDED)
        assert run["state_type"] == "COMPLETED", run["state"]
        pages = stack.api("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
        assert [page["key"] for page in pages] == [f"{name}-default"]
        assert len(pages[0]["data"]) > 50


def test_a_run_that_the_schedule_made_starts_by_itself_and_completes(stack: Stack) -> None:
    run = stack.await_scheduled_run(MINUTELY, since=LONG_AGO)
    assert run["parameters"] == {"params": {"plan": "minutely"}}
    stack.await_line(r"minutely@.*: Completed: minutely@\S+ traded")


# ------------------------------------------------------------------------------------------------- what it survives


def test_server_and_worker_that_die_are_started_again(stack: Stack) -> None:
    for name in ("server", "worker"):
        os.kill(prefect_program(stack.home, name), signal.SIGKILL)
    stack.await_line("the server is back")
    stack.await_line("the worker is back")
    assert stack.is_up()


def test_after_everything_was_killed_the_next_start_and_the_next_scheduled_run_go_through(stack: Stack) -> None:
    lost = stack.trigger(SLOW)
    stack.await_state(lost, "RUNNING")
    stack.kill_everything()
    again = now()
    stack.up()
    stack.await_line("had lost its process: set to Crashed")
    stack.await_first_run()
    assert re.search(r"trade/paper .*: Completed: default@", stack.said())
    assert stack.api(f"/flow_runs/{lost}")["state_type"] == "CRASHED"
    stack.await_state(stack.trigger(SLOW), "RUNNING")  # the lost run's place is free
    stack.await_scheduled_run(MINUTELY, since=again)
    verified = stack.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


# ------------------------------------------------------------------------------------------------------ how it stops


def test_a_second_ctrl_c_ends_the_run_that_the_first_one_waits_for(stack: Stack) -> None:
    if not stack.runs(SLOW, "RUNNING"):
        stack.await_state(stack.trigger(SLOW), "RUNNING")
    port = stack.port
    stack.interrupt()
    stack.await_line("SIGINT: stopping")
    assert stack.is_up()
    stack.interrupt()
    assert stack.await_end() == 0, stack.said()
    stack.assert_nothing_is_left(port)


def test_down_waits_for_the_run_under_way_and_leaves_no_process_and_no_port(stack: Stack) -> None:
    run, port = stack.trigger(SHORT), stack.port
    stack.await_state(run, "RUNNING")
    done = stack.run("down", seconds=260)
    assert (done.returncode, done.stderr) == (0, "")
    assert stack.await_end() == 0
    stack.assert_nothing_is_left(port)
    stack.up()
    stack.await_line("the Prefect server is up")
    assert stack.api(f"/flow_runs/{run}")["state_type"] == "COMPLETED"


def test_down_cleans_up_behind_a_supervisor_that_was_killed(shared: Stack) -> None:
    if not shared.is_up():
        shared.up()
    shared.await_line("the Prefect server is up")
    port = shared.port
    assert shared.process is not None
    shared.process.kill()
    shared.process.wait()
    assert marked(shared.home), "the server outlives its supervisor"
    assert not shared.has_left(port)
    done = shared.run("down")
    assert done.returncode == 0, done.stderr
    assert "were left over" in done.stdout
    shared.assert_nothing_is_left(port)


def test_ctrl_c_in_the_middle_of_a_start_leaves_nothing(shared: Stack) -> None:
    shared.up()
    shared.await_line("the ledger is up")
    port = shared.port
    shared.interrupt()
    assert shared.await_end() == 0, shared.said()
    shared.assert_nothing_is_left(port)


def test_once_ends_with_the_status_of_its_run_and_leaves_nothing(shared: Stack) -> None:
    shared.up("--once")
    shared.await_line("the Prefect server is up")
    port = shared.port
    assert shared.await_end(150) == 0, shared.said()
    assert re.search(r"trade/paper .*: Completed: default@", shared.said())
    shared.assert_nothing_is_left(port)


def test_once_fails_when_its_run_fails(shared: Stack) -> None:
    shared.edit_plan("default", '"ETH-USD"', '"SOL-USD"')  # was not recorded, which is seen when the run needs it
    shared.up("--once")
    assert shared.await_end(150) == 1, shared.said()
    assert re.search(r"trade/paper .*: Failed: .*SOL-USD", shared.said())
