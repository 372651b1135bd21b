"""What a live worker runs: the flows that this installation declares, whatever the server says of commands, files and settings.

The server tells which run is due and with which parameters; the worker lives behind another user than the server, so it takes
nothing more from there. A plain process worker would run any command, and load any file, that a deployment names.

    python -m deployments.stack.live_worker serve  the worker
    python -m deployments.stack.live_worker        one run, in a process of its own: `PREFECT__FLOW_RUN_ID` names it
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.engine import configure_from_env, handle_engine_signals
from prefect.flow_engine import flow_run_logger, load_flow_run, run_flow
from prefect.utilities.processutils import command_to_string, setup_signal_handlers_worker
from prefect.workers import process
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from config.settings import PROJECT
from deployments.stack.provision import LIVE_POOL
from trading.errors import NotAllowed

if TYPE_CHECKING:
    import anyio.abc
    from prefect.client.schemas.objects import FlowRun
    from prefect.flows import Flow

_RUNS_AT_ONCE_MAX = 2
_STOP_SECONDS_MAX = 20


def declared(name: str) -> Flow[..., Any]:
    """The flow of that name which may run here. Raises NotAllowed for every other one."""
    if name != "trade":
        raise NotAllowed(f"flow {name}: the live worker runs none but trade, of flows/live.py")
    from flows.live import trade

    return trade


async def _declared_flow_of(flow_run: FlowRun, **_: object) -> Flow[..., Any]:
    """In the place of Prefect's loader, which would load what the server names: for a flow's own hooks."""
    async with get_client() as client:
        return declared((await client.read_flow(flow_run.flow_id)).name)


class LiveWorker(ProcessWorker):
    """Starts each run by this installation's own command, in its own folder, in the worker's own environment."""

    __dispatch_key__ = "keel-live"  # an entry of its own among Prefect's workers, though its pool is of the kind `process`

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        configuration.command = command_to_string([sys.executable, "-m", __spec__.name])
        configuration._command_configured = True  # noqa: SLF001 - else Prefect fetches code by the deployment's own steps
        configuration.env = {**os.environ, "PREFECT__FLOW_RUN_ID": str(flow_run.id)}
        configuration.working_dir = PROJECT
        return await super().run(flow_run, configuration, task_status)


def _told_to_stop(words: str) -> None:
    """It ends within a second as a rule; where it hangs, it ends all the same and says where it hung."""
    print(words, flush=True)
    faulthandler.dump_traceback_later(_STOP_SECONDS_MAX, exit=True)


async def serve() -> None:
    """Polls the live pool until the process is told to stop; a server that is not up yet is waited for."""
    process.load_flow_from_flow_run = _declared_flow_of
    setup_signal_handlers_worker(os.getpid(), "the live worker", _told_to_stop)
    await LiveWorker(work_pool_name=LIVE_POOL, name=f"keel-live-{os.getpid()}", limit=_RUNS_AT_ONCE_MAX).start()


def _run() -> None:
    """As `python -m prefect.engine` does it, but for where the flow comes from."""
    flow_run_id = UUID(os.environ["PREFECT__FLOW_RUN_ID"])
    configure_from_env()
    with handle_engine_signals(flow_run_id):
        flow_run = load_flow_run(flow_run_id=flow_run_id)
        with get_client(sync_client=True) as client:
            name = client.read_flow(flow_run.flow_id).name
        run_flow(declared(name), flow_run=flow_run, error_logger=flow_run_logger(flow_run=flow_run))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        # A script's background job is born deaf to it. Before asyncio's own handler, which cancels the worker and takes the
        # place of this one alone: KeyboardInterrupt, thrown wherever the loop happens to be, can be swallowed there.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(asyncio.CancelledError, KeyboardInterrupt):  # how a signal ends it
            asyncio.run(serve())
    else:
        _run()
