"""The process that brings the stack up, keeps it up, and takes it down again."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.request import Request, urlopen

from config.postgres import EmbeddedPostgres, embedded, ledger_url
from config.prefect import api_url, auth_string, stack_environment, ui_url
from config.settings import PROJECT, Settings, private_folder
from deployments.stack.children import Child, ChildFailed
from deployments.stack.declared import Declared, checked, read_declared
from deployments.stack.hooks import Hooks
from deployments.stack.premises import FIRST_PORT, choose_port, is_free, recorded, write_shell_file
from deployments.stack.processes import MARKER, end, marked
from trading.errors import KeelError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

T = TypeVar("T")

FIRST_RUN = "trade/paper"
DRAIN_SECONDS = 120.0
_START_SECONDS = 180.0
_STOP_SECONDS = 15.0
_LEDGER_CHECK_SECONDS = 10.0
_ANNOUNCE_SECONDS = 3.0
_RUNS_AT_ONCE_MAX = 4


class PortLost(ChildFailed):
    """Another program took the port between its choice and the server's start: choose again."""


@dataclass(kw_only=True)
class Supervisor:
    """One life of a stack, from its start to its end."""

    settings: Settings
    home: Path
    hooks: Hooks
    declared: Declared
    port: int
    server: Child
    worker: Child
    ledger: str = ""
    """The ledger's URL, once it is open."""
    began: float = field(default_factory=time.monotonic)
    tasks: list[asyncio.Task[int | None]] = field(default_factory=list)
    ledger_work: set[asyncio.Task[Any]] = field(default_factory=set)
    over: asyncio.Future[int] = field(init=False)
    """Done when the stack is to end: with the exit status, or with the error that ends it."""
    hurry: asyncio.Event = field(init=False)
    """Set when the person asks a second time: nothing is waited for any more."""

    def run(self, *, once: bool) -> int:
        """The exit status: of the run with `once`, else 0 when it was told to stop. Raises what ended the stack."""
        if self.port != FIRST_PORT and self.settings.prefect_port is None:
            self.say(f"port {FIRST_PORT} is taken: using {self.port}")
        with recorded(self.home, self.port):
            return asyncio.run(self._live(once=once))

    def say(self, message: str) -> None:
        """One line for the person who watches, and for `logs/stack.log`."""
        line = f"[{time.monotonic() - self.began:6.1f} s] {message}"
        # Either may fail without ending what it tells of: the disk may be full, the terminal gone (SIGHUP).
        with suppress(OSError), (_logs(self.home) / "stack.log").open("a") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {message}\n")
        with suppress(OSError):
            print(line, flush=True)

    # ------------------------------------------------------------------------------------------------ life and end

    async def _live(self, *, once: bool) -> int:
        self.over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.hurry = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._told_to_stop, number)
        self._watch(self._bring_up(once=once))
        try:
            return await self.over
        finally:
            await self._take_down()

    def _told_to_stop(self, number: signal.Signals) -> None:
        if self.over.done():
            self.hurry.set()
        else:
            self.say(f"{signal.Signals(number).name}: stopping; runs under way may end first (again: stop now)")
            self.over.set_result(0)

    def _watch(self, work: Coroutine[Any, Any, int | None]) -> None:
        """Does this beside everything else; its failure, or its result, ends the stack."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self.tasks.append(task)

    def _ended(self, task: asyncio.Task[int | None]) -> None:
        if task.cancelled() or self.over.done():
            return
        if (error := task.exception()) is not None:
            self.over.set_exception(error)
        elif (status := task.result()) is not None:
            self.over.set_result(status)

    # ---------------------------------------------------------------------------------------------------- coming up

    async def _bring_up(self, *, once: bool) -> int | None:
        self.say(f"starting Postgres and the Prefect server; state and logs are in {self.home}")
        await self.server.start()
        prefect = asyncio.create_task(asyncio.to_thread(import_module, "deployments.stack.runs"))
        ledger = self.ledger = await self._on_ledger(self._open_ledger)
        self.say("the ledger is up")
        await self._await_server()
        await prefect
        self._watch(self.server.keep(self._healthy, self.say))
        self._watch(self._keep_ledger())
        self.say(f"the Prefect server is up: {ui_url(self.port)} (it asks once for the password in {self.home / 'auth'})")

        async with self._client() as client:
            await self._provision(client)
            shell_file = write_shell_file(self.home, self.port)
            self.say(f"in another shell: . '{shell_file}' && prefect deployment run {FIRST_RUN}")
            return await self._trade(client, ledger, once=once)

    async def _await_server(self) -> None:
        try:
            await self.server.until(self._healthy, _START_SECONDS)
        except ChildFailed as error:
            if self.server.running() or is_free(self.port):
                raise
            choose_port(self.settings.prefect_port)  # raises where the port was set
            raise PortLost(f"port {self.port} was taken by another program meanwhile: trying the next one") from error

    async def _on_ledger(self, work: Callable[[], T]) -> T:
        """Does it in a thread, and to its end: going down waits for it, so that no Postgres is started behind its back."""
        task = asyncio.create_task(asyncio.to_thread(work))
        self.ledger_work.add(task)
        task.add_done_callback(self.ledger_work.discard)
        return await asyncio.shield(task)

    def _open_ledger(self) -> str:
        url = ledger_url(self.settings)
        self.hooks.migrate(url)
        return url

    async def _provision(self, client: PrefectClient) -> None:
        from deployments.stack.provision import ensure_pools, provision
        from deployments.stack.runs import crash_orphans

        await ensure_pools(client)
        for name in await crash_orphans(client):
            self.say(f"run {name} had lost its process: set to Crashed")
        started = datetime.now(UTC)
        await self.worker.start()
        if await provision(client, self.settings.prefect_yaml, self.declared):
            self.say(f"deployments and schedules are those of {self.settings.prefect_yaml}")
        self._watch(self.worker.keep(lambda: self._online(client, started), self.say))
        self._watch(self._beat(client, started))

    async def _trade(self, client: PrefectClient, ledger: str, *, once: bool) -> int | None:
        from deployments.stack.runs import describe, recently, run_deployment

        since = recently()
        self.say(f"running {FIRST_RUN}")
        run = await run_deployment(client, FIRST_RUN)
        self.say(f"{FIRST_RUN} {run.name}: {describe(run)}")
        if summary := await asyncio.to_thread(self.hooks.summary, ledger, str(run.id)):
            print(f"\n{summary}\n", flush=True)
        print(f"  This run   {ui_url(self.port)}/runs/flow-run/{run.id}\n  Reports    {ui_url(self.port)}/artifacts\n"
              f"  Schedules  {ui_url(self.port)}/deployments\n", flush=True)  # fmt: skip
        if once:
            return 0 if run.state is not None and run.state.is_completed() else 1
        self.say("going on by schedule; Ctrl-C stops everything")
        await self._announce(client, since, {run.id})
        return None

    async def _announce(self, client: PrefectClient, since: datetime, told: set[Any]) -> None:
        """One line for each run that has ended, for as long as the stack lives."""
        from deployments.stack.runs import asked, describe, finished_since

        while True:
            for run in await asked(finished_since(client, since)) or ():
                if run.id not in told:
                    told.add(run.id)
                    self.say(f"{run.name}: {describe(run)}")
            await asyncio.sleep(_ANNOUNCE_SECONDS)

    # ------------------------------------------------------------------------------------------------- staying up

    def _client(self) -> PrefectClient:
        from prefect.client.orchestration import PrefectClient

        # Named, because Prefect keeps the address that it was imported with, and the port may have been chosen again.
        return PrefectClient(api_url(self.port), auth_string=auth_string(self.home))

    async def _healthy(self) -> bool:
        return await asyncio.to_thread(_answers, f"{api_url(self.port)}/admin/version", auth_string(self.home))

    async def _online(self, client: PrefectClient, since: datetime) -> bool:
        from deployments.stack.runs import asked, worker_online

        return bool(await asked(worker_online(client, _worker_name(), since)))

    async def _keep_ledger(self) -> None:
        """Starts the embedded Postgres again when it is gone. A foreign database is its owner's."""
        if (postgres := self._postgres()) is None:
            return
        while True:
            await asyncio.sleep(_LEDGER_CHECK_SECONDS)
            if not await asyncio.to_thread(postgres.running):
                self.say("the ledger's Postgres is gone: starting it again")
                await self._on_ledger(postgres.start)

    async def _beat(self, client: PrefectClient, started: datetime) -> None:
        """A heartbeat for the watchdog, for as long as server and worker are well; silence is the watchdog's to judge."""
        while True:
            if await self._healthy() and await self._online(client, started):
                await self._say_well(stopped=False)
            await asyncio.sleep(self.settings.watch_seconds)

    async def _say_well(self, *, stopped: bool) -> None:
        try:
            await self._on_ledger(lambda: self.hooks.beat(self.ledger, stopped))
        except KeelError as error:
            self.say(f"no heartbeat: {error}")

    # -------------------------------------------------------------------------------------------------- going down

    async def _take_down(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, *self.ledger_work, return_exceptions=True)
        if self.worker.running():
            await self._drain()
        await self.worker.stop(signal.SIGTERM, 1.0 if self.hurry.is_set() else _STOP_SECONDS)
        # The runs before the server: what they say at their end still reaches it.
        runs = [process for process in marked(self.home) if process.pid != self.server.pid]
        await asyncio.to_thread(end, runs, 1.0 if self.hurry.is_set() else _STOP_SECONDS)
        if self.ledger:
            await self._say_well(stopped=True)
        await self.server.stop(signal.SIGTERM, _STOP_SECONDS)
        await asyncio.to_thread(end, marked(self.home), 1.0)
        if (postgres := self._postgres()) is not None:
            await asyncio.to_thread(postgres.stop)
        self.say("stopped")

    async def _drain(self) -> None:
        from httpx import HTTPError

        from deployments.stack.runs import drain

        if not self.server.running() or not await self._healthy():
            return
        try:
            async with self._client() as client:
                if not await drain(client, DRAIN_SECONDS, self.hurry):
                    self.say("runs are still under way: they are ended now; the next start settles what they left")
        except HTTPError as error:
            self.say(f"could not wait for the runs under way: {error!r}")

    def _postgres(self) -> EmbeddedPostgres | None:
        return None if self.settings.database_url else embedded(self.settings)


def make_supervisor(settings: Settings, home: Path, hooks: Hooks) -> Supervisor:
    """A supervisor with its port chosen, schedules and plans checked, nothing started. Raises ConfigurationError.

    Points this process's own Prefect client at the stack's server, whatever the caller's shell or profile says.
    """
    port = choose_port(settings.prefect_port)
    environment = stack_environment(home, port, os.environ)
    # Prefect reads the environment when it is imported, which is later.
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ.update(environment)
    declared = checked(read_declared(settings.prefect_yaml, os.environ), hooks.check_schedule)
    children = environment | {MARKER: str(home)}
    worker = ("worker", "start", "--pool", "local", "--name", _worker_name(), "--limit", str(_RUNS_AT_ONCE_MAX))
    return Supervisor(
        settings=settings,
        home=home,
        hooks=hooks,
        declared=declared,
        port=port,
        server=_child(home, "server", children, "server", "start"),
        worker=_child(home, "worker", children, *worker),
    )


def _child(home: Path, name: str, environment: dict[str, str], *command: str) -> Child:
    return Child(
        name=f"the {name}",
        command=(sys.executable, "-m", "prefect", *command),
        environment=environment,
        folder=PROJECT,
        log=_logs(home) / f"{name}.log",
    )


def _worker_name() -> str:
    return f"keel-{os.getpid()}"


def _logs(home: Path) -> Path:
    return private_folder(home / "logs")


def _answers(url: str, auth: str) -> bool:
    """True if a server answers that knows our password: not another stack's, on a port that both have chosen."""
    basic = base64.b64encode(auth.encode()).decode()
    try:
        with urlopen(Request(url, headers={"Authorization": f"Basic {basic}"}), timeout=2) as response:  # noqa: S310 - loopback
            return bool(response.status == 200)
    except (OSError, HTTPException):  # URLError and HTTPError are OSErrors
        return False
