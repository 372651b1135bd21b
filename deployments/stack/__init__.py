"""The local stack: Postgres, the Prefect server and a worker, supervised in the foreground by one process."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from config.postgres import embedded
from config.prefect import temporary, ui_url
from config.settings import Settings, load, private_folder
from deployments.stack.hooks import Hooks, pipeline_hooks
from deployments.stack.premises import read_record, try_lock
from deployments.stack.processes import end, marked
from trading.errors import Busy

DOWN_SECONDS_MAX = 240.0
_END_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What of the stack runs now."""

    running: bool
    supervisor_pid: int | None
    ui: str | None
    ledger: str
    """`embedded`, with its state, or `DATABASE_URL`."""
    processes: int
    """How many processes the stack has started that live now, runs included; more than none while it is not running
    means that a kill left them behind: `keel down` ends them."""
    home: Path


def up(*, once: bool = False, hooks: Hooks | None = None) -> int:
    """Runs the stack until it is told to stop; the exit status. `once`: one run of `trade/paper`, and its status.

    Raises ConfigurationError, Busy (it runs already), LedgerUnavailable, ChildFailed.
    """
    # With asyncio's machinery: the other commands do without.
    from deployments.stack.supervisor import PortLost, make_supervisor

    settings = load()
    home = _home(settings)
    lock = try_lock(home)
    if lock is None:
        record = read_record(home)
        where = f", {ui_url(record.port)}, process {record.supervisor.pid}" if record else ""
        raise Busy(f"the stack of {home} is running already{where}: `keel down` stops it")
    with lock:
        if left := end(marked(home), _END_SECONDS):
            print(f"ended {left} processes that an earlier stack left behind", flush=True)
        shutil.rmtree(temporary(home), ignore_errors=True)
        while True:
            supervisor = make_supervisor(settings, home, hooks or pipeline_hooks(settings))
            try:
                return supervisor.run(once=once)
            except PortLost as lost:
                print(lost, flush=True)


def down() -> int:
    """Stops the stack, and whatever a killed one left behind. 0 when nothing of it runs any more, 1 otherwise."""
    settings = load()
    home = _home(settings)
    until = time.monotonic() + DOWN_SECONDS_MAX
    if (lock := try_lock(home)) is None:
        record = read_record(home)
        if record is not None and record.supervisor.alive():
            print(f"stopping process {record.supervisor.pid}: runs under way may end first", flush=True)
            record.supervisor.signal(signal.SIGTERM)
        while (lock := try_lock(home)) is None:
            if time.monotonic() > until:
                print(f"error[busy]: the stack of {home} still runs after {DOWN_SECONDS_MAX:.0f} s", file=sys.stderr)
                return 1
            time.sleep(0.1)
    with lock:
        left = end(marked(home), _END_SECONDS)
        (home / "stack.json").unlink(missing_ok=True)
        if settings.database_url is None and (home / "postgres").exists():
            embedded(settings).stop()
    print(f"stopped; {left} processes were left over" if left else "stopped", flush=True)
    return 1 if marked(home) else 0


def status() -> Status:
    """What runs now; starts nothing."""
    settings = load()
    home = _home(settings)
    record = read_record(home)
    alive = record is not None and record.supervisor.alive()
    return Status(
        running=alive,
        supervisor_pid=record.supervisor.pid if record and alive else None,
        ui=ui_url(record.port) if record and alive else None,
        ledger="DATABASE_URL" if settings.database_url else f"embedded, {_ledger_state(settings, home)}",
        processes=len(marked(home)),
        home=home,
    )


def _ledger_state(settings: Settings, home: Path) -> str:
    return "running" if (home / "postgres").exists() and embedded(settings).running() else "stopped"


def _home(settings: Settings) -> Path:
    return private_folder(settings.home).resolve()
