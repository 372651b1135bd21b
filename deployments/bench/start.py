"""`keel bench start`: how soon the first task of a run begins: after a slot's scheduled time, and after a call by hand.

Runs the real stack (Postgres, Prefect server, worker) on the synthetic market in a temporary folder, with a schedule of
every minute. There is no floor beside it: an empty flow starts by the same engine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from config.settings import PROJECT

LIMIT_SECONDS = 300.0


def run(runs: int = 3) -> dict[str, Any]:
    """Seconds from the scheduled time, and from the call of a run by hand, to the first task's start (medians)."""
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder)) as api:
        by_schedule = [first_task_after(flow_run) for flow_run in scheduled_runs(api, runs)]
        by_hand = [hand_run(api) for _ in range(runs)]
    return {
        "name": "start", "ours": statistics.median(by_schedule), "floor": None, "ratio": None, "unit": "seconds", "runs": runs,
        "by_hand": statistics.median(by_hand),
    }  # fmt: skip


@contextmanager
def stack(home: Path) -> Iterator[Any]:
    """A running stack's API client; the schedule of trade/paper is every minute."""
    declared = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    trade = next(part for part in declared["deployments"] if part["entrypoint"].startswith("flows/trade.py"))
    trade["schedules"] = [{"cron": "* * * * *", "timezone": "UTC", "slug": "bench", "active": True}]
    declared["deployments"] = [trade]
    file = home / "prefect.yaml"
    file.write_text(yaml.safe_dump(declared))
    candles = _candles(home / "candles")
    environment = dict(os.environ) | {
        "KEEL_HOME": str(home / "home"), "KEEL_MARKET": f"replay:{candles}", "KEEL_PREFECT_YAML": str(file),
    }  # fmt: skip
    environment.pop("DATABASE_URL", None)
    keel = [sys.executable, "-c", "from deployments.cli import main; main()"]
    with (home / "up.log").open("w") as log:
        process = subprocess.Popen([*keel, "up"], env=environment, stdout=log, stderr=log, cwd=PROJECT)
    try:
        _await(lambda: "This run" in (home / "up.log").read_text(), process, home / "up.log")
        os.environ |= _exported(home / "home" / "env.sh")
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            yield client
    finally:
        subprocess.run([*keel, "down"], env=environment, check=False, cwd=PROJECT, stdout=subprocess.DEVNULL)
        process.wait(60)


def _candles(folder: Path) -> Path:
    """Flat candles for a few hundred slots: any market will do, and a replay takes every cron."""
    import numpy as np
    import pandas as pd

    starts = np.arange(0, 600 * 3600, 3600, dtype=np.int64) + 1_735_689_600
    for product in ("BTC-USD", "ETH-USD"):
        wave = 100 + np.sin(starts / 36_000)
        file = folder / "bench" / product / "1h.parquet"
        file.parent.mkdir(parents=True)
        frame = {"start": starts, "open": wave, "high": wave + 1, "low": wave - 1, "close": wave, "volume": wave * 1000}
        pd.DataFrame(frame).to_parquet(file, index=False)
    return folder


def _exported(file: Path) -> dict[str, str]:
    """What sourcing the stack's shell file would set."""
    shell = subprocess.run(["/bin/sh", "-c", f'. "{file}" && env'], capture_output=True, text=True, check=True)
    pairs = (line.split("=", 1) for line in shell.stdout.splitlines() if line.startswith(("PREFECT_", "KEEL_")))
    return dict(pairs)


def _await(ready: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the stack did not come up:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def scheduled_runs(client: Any, count: int) -> list[Any]:
    """The first `count` runs that the schedule started, once they are done."""
    from prefect.client.schemas.filters import FlowRunFilter

    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        done = [
            found for found in client.read_flow_runs(flow_run_filter=FlowRunFilter())
            if found.auto_scheduled and found.state is not None and found.state.is_completed()
        ]  # fmt: skip
        if len(done) >= count:
            return [(client, found, found.expected_start_time) for found in done[:count]]
        time.sleep(1)
    raise RuntimeError(f"the schedule started fewer than {count} runs in {LIMIT_SECONDS:.0f} s")


def hand_run(client: Any) -> float:
    """Seconds from the call to the first task."""
    deployment = client.read_deployment_by_name("trade/paper")
    called = datetime.now().astimezone()
    created = client.create_flow_run_from_deployment(deployment.id)
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        found = client.read_flow_run(created.id)
        if found.state is not None and found.state.is_final():
            if not found.state.is_completed():  # crowded out by the schedule: one run at a time
                return hand_run(client)
            return first_task_after((client, found, called))
        time.sleep(0.5)
    raise RuntimeError("the run by hand did not end")


def first_task_after(flow_run: tuple[Any, Any, datetime]) -> float:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    client, found, since = flow_run
    end = time.monotonic() + 30
    while time.monotonic() < end:  # task runs are recorded by events, a moment after the run has ended
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[found.id])))
        starts = [task.start_time for task in tasks if task.start_time is not None]
        if len(starts) == len(tasks) and starts:
            return float((min(starts) - since).total_seconds())
        time.sleep(0.5)
    raise RuntimeError(f"no task of {found.name} was recorded")
