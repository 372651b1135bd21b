"""Who and when this run is, as Prefect tells it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from threading import Thread

from prefect.context import FlowRunContext
from prefect.runtime import flow_run, task_run

from config.clock import wall_clock
from config.plans import load_plan
from config.settings import load
from trading.market import last_close
from trading.orders import Mode, slot_name
from trading.quality import QualityGate
from trading.store.journal import Author


def warm_up() -> None:
    """Begins the slow imports of a run beside it: the engine waits for the scheduled time, or works on the first steps.

    Only in a process that was started for a run; whoever else imports a flow (to deploy it) does not pay for it.
    """
    if os.environ.get("PREFECT__FLOW_RUN_ID"):
        Thread(target=QualityGate().warm, name="warm-up", daemon=True).start()


def author() -> Author:
    """Prefect, with the ids of the flow run and, inside a task, of the task run."""
    return Author(actor="prefect", flow_run_id=str(flow_run.id or ""), task_run_id=str(task_run.id or ""))


def scheduled_at() -> datetime:
    """When this run was due: its schedule's time. A run by hand is due now, however long ago it was asked for."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or not run.auto_scheduled or flow_run.scheduled_start_time is None:
        return wall_clock()
    return flow_run.scheduled_start_time.astimezone(UTC)


def due() -> datetime:
    """`scheduled_at`, once it has come: the engine may start a prefetched run some tenths of a second early, and then the
    candle of its slot has not closed yet.
    """
    at = scheduled_at()
    while (left := (at - wall_clock()).total_seconds()) > 0:
        time.sleep(left)
    return at


def real_run_name(plan: str, mode: str) -> str:
    """`live default@2026-11-24T10:00:00Z`. A rehearsal has the simulator's time: its slot is in the run's summary."""
    if mode != Mode.LIVE:
        return f"{mode} {plan}, due {scheduled_at():%Y-%m-%dT%H:%M:%SZ}"
    interval = load_plan(plan, os.environ, load().plans).interval
    return f"{mode} {slot_name(plan, last_close(scheduled_at(), interval))}"


def run_name(plan: str) -> str:
    """`default@2026-11-24T10:00:00Z`. A replay has a time of its own: its slot is in the run's summary."""
    settings = load()
    if (settings.market or "").startswith("replay:"):
        return f"{plan}@replay, due {scheduled_at():%Y-%m-%dT%H:%M:%SZ}"
    interval = load_plan(plan, os.environ, settings.plans).interval
    return slot_name(plan, last_close(scheduled_at(), interval))
