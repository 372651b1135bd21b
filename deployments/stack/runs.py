"""Flow runs, asked and changed through Prefect's API: the first one, the finished ones, and those that a kill left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from httpx import HTTPStatusError, TransportError
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from deployments.stack.provision import POOL
from trading.errors import ConfigurationError

T = TypeVar("T")

_POLL_SECONDS = 0.5
_PAGE = 200
_CROWDED_OUT = "concurrency limit"  # in the message with which the server cancels a run whose deployment is busy
_ATTEMPTS_MAX = 4
_HAS_PROCESS = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
_TERMINAL = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)


async def crash_orphans(client: PrefectClient) -> list[str]:
    """Ends every run that claims to be under way, and returns their names.

    Only for a supervisor that is alone and has not started its worker: whatever claims to run has lost its process,
    and would hold its deployment's only place.
    """
    names: list[str] = []
    while runs := await _in_states(client, _HAS_PROCESS):
        for run in runs:
            await client.set_flow_run_state(run.id, Crashed(message="its process was gone at the start of the stack"), force=True)
            names.append(run.name)
    return names


async def worker_online(client: PrefectClient, name: str, since: datetime) -> bool:
    """True if this worker has reported since then."""
    workers = await client.read_workers_for_work_pool(POOL)
    return any(worker.name == name and (worker.last_heartbeat_time or since) > since for worker in workers)


async def run_deployment(client: PrefectClient, deployment: str) -> FlowRun:
    """Runs a deployment now and returns the run in its final state.

    A scheduled run that holds the deployment's only place is waited for, then it is tried again.
    """
    try:
        found = await client.read_deployment_by_name(deployment)
    except ObjectNotFound:
        raise ConfigurationError(f"deployment {deployment}: not declared in the file that KEEL_PREFECT_YAML names") from None
    for _ in range(_ATTEMPTS_MAX):
        run = await final(client, (await client.create_flow_run_from_deployment(found.id)).id)
        if not _was_crowded_out(run):
            break
        await _until_free(client, found.id)
    return run


async def asked(question: Awaitable[T]) -> T | None:
    """The server's answer; None while it is away (it is being started again, which is said elsewhere)."""
    try:
        return await question
    except (TransportError, HTTPStatusError) as error:
        if isinstance(error, HTTPStatusError) and error.response.status_code < 500:
            raise
        return None


async def final(client: PrefectClient, run_id: UUID) -> FlowRun:
    """The run, once it is in a final state."""
    # The state is another process's: it can only be asked for.
    while not (run := await asked(client.read_flow_run(run_id))) or not run.state or not run.state.is_final():  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)
    return run


async def finished_since(client: PrefectClient, since: datetime) -> Sequence[FlowRun]:
    """Runs that ended at or after a time, the earliest first."""
    ended = FlowRunFilter(end_time=FlowRunFilterEndTime(after_=since), state=_states(_TERMINAL))
    runs = await client.read_flow_runs(flow_run_filter=ended, sort=FlowRunSort.END_TIME_DESC, limit=_PAGE)
    return runs[::-1]


async def drain(client: PrefectClient, seconds: float, hurry: asyncio.Event) -> bool:
    """Starts no more runs and waits for those under way; False when some still run at the end of the patience."""
    await client.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))
    until = time.monotonic() + seconds
    while await _in_states(client, (StateType.RUNNING, StateType.CANCELLING)):
        if hurry.is_set() or time.monotonic() > until:
            return False
        await _pause(hurry)
    for run in await _in_states(client, (StateType.PENDING,)):  # started ahead of its time, and waiting for it
        await client.set_flow_run_state(run.id, Cancelled(message="the stack was stopped before it began"), force=True)
    return True


async def _pause(hurry: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(hurry.wait(), _POLL_SECONDS)
    except TimeoutError:
        return


async def _until_free(client: PrefectClient, deployment_id: UUID) -> None:
    mine = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=_states((StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)),
    )
    while await asked(client.read_flow_runs(flow_run_filter=mine, limit=1)) != []:  # noqa: ASYNC110 - as in `final`
        await asyncio.sleep(_POLL_SECONDS)


async def _in_states(client: PrefectClient, types: Sequence[StateType]) -> list[FlowRun]:
    return await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=_states(types)), limit=_PAGE)


def _states(types: Sequence[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))


def _was_crowded_out(run: FlowRun) -> bool:
    state = run.state
    return state is not None and state.is_cancelled() and _CROWDED_OUT in (state.message or "").lower()


def describe(run: FlowRun) -> str:
    """`Completed: default@2026-11-24T10:00:00Z traded: ...`, or the state alone."""
    if run.state is None:
        return "no state"
    name = run.state.name or run.state.type.value
    return f"{name}: {run.state.message}" if run.state.message else name


def recently() -> datetime:
    """A moment ago: the server's times and ours are of one clock, but a row may come a little late."""
    return datetime.now(UTC) - timedelta(seconds=2)
