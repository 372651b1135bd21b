"""What dies or hangs under a real Prefect while a run is at work: its worker, and its server. And a disk without room for logs.

A run is held in the middle of `execute` by a lock on the orders of the paper exchange: marked as sending in the ledger, on
the wire, and not answered. What is killed then has left the hardest question behind.

`KEEL_WORKER_KILLS` says how often the worker is killed besides, at random instants; it is not in the usual run of the tests,
which also shortens the server's patience with silent runs.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.postgres import DATABASE, embedded
from config.settings import Settings
from deployments.stack.processes import ProcessId, marked
from tests.crash import grid
from tests.e2e.conftest import Stack, lasting, prefect_program, until
from trading.store.database import Connection, connect
from trading.store.verify import verify

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

RESTLESS = "trade/restless"
KILLS = int(os.environ.get("KEEL_WORKER_KILLS", "0"))
CRASHED_WITHIN_SECONDS = 120
IMPATIENT_SECONDS = 35
"""Longer than from one heartbeat to the next: a run that lives is left alone."""
WORKER_LIVES_SECONDS = 31
"""Five deaths within two minutes end a stack, as they should."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PLAN = """
name = "restless"
portfolio = "restless"
products = ["BTC-USD", "ETH-USD"]
[strategy]
name = "deployments.bench.cycle:EveryOther"
"""


@pytest.fixture(scope="module")
def stack(make_stack: Callable[[str], Stack]) -> Iterator[Stack]:
    """A stack whose own log is on a full disk, with a plan that trades at every other slot."""
    made = make_stack("outages")
    add_restless(made)
    logs = made.home / "logs"
    logs.mkdir(parents=True, mode=0o700)
    made.home.chmod(0o700)
    (logs / "stack.log").symlink_to("/dev/full")
    with lasting(made):
        made.up()
        made.await_first_run()
        yield made


def add_restless(stack: Stack) -> None:
    (Path(stack.environment["KEEL_PLANS"]) / "restless.toml").write_text(PLAN)
    file = Path(stack.environment["KEEL_PREFECT_YAML"])
    declared = yaml.safe_load(file.read_text())
    paper = next(found for found in declared["deployments"] if found["name"] == "paper")
    restless = paper | {"name": "restless", "parameters": {"params": {"plan": "restless"}}, "schedules": []}
    file.write_text(yaml.safe_dump(declared | {"deployments": [*declared["deployments"], restless]}))


@pytest.fixture
def ledger(stack: Stack) -> Iterator[Connection]:
    with connect(ledger_url(stack)) as owner:
        yield owner


def ledger_url(stack: Stack) -> str:
    settings = Settings(home=stack.home)
    return embedded(settings).url(DATABASE)


@contextmanager
def held_in_execute(stack: Stack, ledger: Connection) -> Iterator[str]:
    """Id of a run that waits for the venue's answer to its first order. The venue takes the order at the end."""
    with connect(ledger_url(stack)) as holder, holder.transaction():
        holder.execute("set local idle_in_transaction_session_timeout = 0")
        holder.execute("lock table paper.orders in exclusive mode")
        yield until("a run that is held at the venue", lambda: a_held_run(stack, ledger))


def a_held_run(stack: Stack, ledger: Connection) -> str | None:
    """None for a run that was let through: nothing was wanted at its slot."""
    run = stack.trigger(RESTLESS)
    return run if until(f"run {run} at the venue or at its end", lambda: where_is(run, stack, ledger), 120) == "held" else None


def where_is(run: str, stack: Stack, ledger: Connection) -> str | None:
    waits = "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%paper.place%'"
    if ledger.execute(waits).fetchall():
        return "held"
    state = state_of(stack, run)
    return state if state in ENDED else None


def state_of(stack: Stack, run: str) -> str:
    return str(stack.api(f"/flow_runs/{run}")["state_type"])


def done_slots(ledger: Connection) -> int:
    row = ledger.execute("select count(*) from keel.cycle where plan = 'restless' and state = 'done'").fetchone()
    assert row is not None
    return int(str(row[0]))


SAME_IN_BOTH = {
    "orders": (
        "select client_order_id::text from keel.order_head where exchange_order_id is not null order by 1",
        "select client_order_id::text from paper.orders order by 1",
    ),
    "fills": ("select entry_id from keel.fill order by 1", "select entry_id from paper.fill order by 1"),
}
NOTHING_OF = {
    "an order without its slot": """select from keel.intent i where not exists (select from keel.cycle c
        where c.book = i.book and c.plan = i.plan and c.slot_at = i.decided_at)""",
    "an order left open": "select from keel.order_head where state in ('staged', 'sending', 'in_doubt', 'open')",
    "a break": "select from keel.recon_break",
}


def check_books(stack: Stack, ledger: Connection) -> None:
    """Ledger and paper exchange tell the same, every order has its slot, and every invariant holds."""
    for what, (ours, theirs) in SAME_IN_BOTH.items():
        assert ledger.execute(ours.encode()).fetchall() == ledger.execute(theirs.encode()).fetchall(), what
    for what, query in NOTHING_OF.items():
        assert ledger.execute(query.encode()).fetchall() == [], what
    assert [found for found in verify(ledger_url(stack)).checks if not found.ok] == []


def test_a_workers_log_that_can_grow_no_more_while_its_run_sends_costs_no_order(stack: Stack, ledger: Connection) -> None:
    with held_in_execute(stack, ledger) as run:
        before = done_slots(ledger)
        resource.prlimit(prefect_program(stack.home, "worker"), resource.RLIMIT_FSIZE, (0, 0))  # as a full disk would refuse
    until("the slot's end in the ledger", lambda: done_slots(ledger) > before, 60)
    check_books(stack, ledger)
    stack.await_state(run, *ENDED, seconds=CRASHED_WITHIN_SECONDS)
    os.kill(prefect_program(stack.home, "worker"), signal.SIGKILL)  # there is room again
    run_again(stack)
    check_books(stack, ledger)


def test_while_the_server_hangs_a_run_ends_its_slot_and_reconciliation_goes_on(stack: Stack, ledger: Connection) -> None:
    before = done_slots(ledger)
    with held_in_execute(stack, ledger) as run:
        before = done_slots(ledger)
        server = prefect_program(stack.home, "server")
        os.kill(server, signal.SIGSTOP)
    try:
        until("the slot's end in the ledger", lambda: done_slots(ledger) > before, 60)
        compared = stack.run("reconcile", "--plan", "restless")
        assert compared.returncode == 0, compared.stdout + compared.stderr
        check_books(stack, ledger)
    finally:
        os.kill(server, signal.SIGCONT)
    assert stack.await_state(run, *ENDED)["state_type"] == "COMPLETED"


def test_a_worker_that_is_killed_while_its_run_sends_an_order_loses_nothing(stack: Stack, ledger: Connection) -> None:
    if not KILLS:
        shorten_the_servers_patience(stack)
    with held_in_execute(stack, ledger) as run:
        killed_at = time.monotonic()
        kill_worker_and_runs(stack)
    assert ledger.execute("select count(*) from keel.order_head where state = 'sending'").fetchone() != (0,)
    stack.await_state(run, "CRASHED", seconds=CRASHED_WITHIN_SECONDS)
    assert time.monotonic() - killed_at < CRASHED_WITHIN_SECONDS
    run_again(stack)
    check_books(stack, ledger)


def test_a_worker_that_is_killed_again_and_again_loses_nothing(stack: Stack, ledger: Connection) -> None:
    if not KILLS:
        pytest.skip("KEEL_WORKER_KILLS is not set: this takes many minutes")
    shorten_the_servers_patience(stack)
    dice = random.Random(11)  # noqa: S311 - replays by its seed
    ended: Counter[tuple[str, str]] = Counter()
    for _ in range(KILLS):
        began = time.monotonic()
        run = stack.trigger(RESTLESS)
        stack.await_state(run, "RUNNING", *ENDED)
        time.sleep(dice.uniform(0, 4))  # the instant itself is what is being tried
        kill_worker_and_runs(stack)
        state = stack.await_state(run, "CRASHED", "COMPLETED", seconds=CRASHED_WITHIN_SECONDS)["state_type"]
        ended["SIGKILL of the worker and its run", f"the run was {state.lower()}"] += 1
        run_again(stack)
        check_books(stack, ledger)
        time.sleep(max(0.0, WORKER_LIVES_SECONDS - (time.monotonic() - began)))
    assert ended["SIGKILL of the worker and its run", "the run was crashed"] >= KILLS // 2
    grid.write("kills of the worker", ended, 0)


def run_again(stack: Stack) -> None:
    """The next run completes: its deployment's only place is free."""
    until("the worker is back", lambda: any_worker(stack))
    run = stack.await_state(stack.trigger(RESTLESS), *ENDED, seconds=120)
    assert run["state_type"] == "COMPLETED", run["state"]


def any_worker(stack: Stack) -> bool:
    return any(name == "worker" for name in programs(stack).values())


def programs(stack: Stack) -> dict[int, str]:
    """Process id -> `server`, `worker` or the command of a run."""
    found = {}
    for process in marked(stack.home):
        words = command(process)
        found[process.pid] = words[3] if words[1:3] == ["-m", "prefect"] else " ".join(words[1:])
    return found


def command(process: ProcessId) -> list[str]:
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
    except OSError:  # it ended
        return [""] * 4


def kill_worker_and_runs(stack: Stack) -> None:
    """SIGKILL of everything that the stack started beside its server and its ledger."""
    server = prefect_program(stack.home, "server")
    victims = [process for process in marked(stack.home) if process.pid != server]
    assert victims
    for process in victims:
        process.signal(signal.SIGKILL)


def test_a_run_whose_process_dies_before_its_first_heartbeat_is_crashed(stack: Stack) -> None:
    shorten_the_servers_patience(stack)
    run = stack.api("/flow_runs/", {"flow_id": stack.deployment("trade/paper")["flow_id"], "state": {"type": "PENDING"}})
    stack.api(f"/flow_runs/{run['id']}/set_state", {"state": {"type": "RUNNING"}, "force": True})  # and nobody is there
    assert stack.await_state(str(run["id"]), *ENDED, seconds=CRASHED_WITHIN_SECONDS)["state_type"] == "CRASHED"


def shorten_the_servers_patience(stack: Stack) -> None:
    """The same automation with another time. It counts from heartbeats that come after this."""
    [automation] = [found for found in stack.api("/automations/filter", {}) if "heartbeat" in found["name"]]
    automation["trigger"]["within"] = IMPATIENT_SECONDS
    kept = ("name", "description", "enabled", "trigger", "actions", "actions_on_trigger", "actions_on_resolve", "tags")
    changed: dict[str, Any] = {name: automation[name] for name in kept if name in automation}
    stack.api(f"/automations/{automation['id']}", changed, method="PUT")
