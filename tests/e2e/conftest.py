"""A real stack for each file of tests: `keel up` as a process of its own, in its own state folder, over generated candles."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

from config.settings import PROJECT
from deployments.stack.premises import is_free, read_record
from deployments.stack.processes import end, marked
from tests.builders.candles import write_generated

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
KEEL = PROJECT / ".venv" / "bin" / "keel"
MINUTELY, SHORT, SLOW = "trade/minutely", "trade/short", "trade/slow"
_POLL_SECONDS = 0.2
T = TypeVar("T")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real stacks take minutes, and more where the machine has other work: each wait here has its own limit anyway."""
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


def until(what: str, question: Callable[[], T | None], seconds: float = 90) -> T:
    """The answer, once there is one."""
    limit = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > limit:
            pytest.fail(f"{what}: not seen within {seconds:.0f} s")
        time.sleep(_POLL_SECONDS)
    return answer


@dataclass(kw_only=True)
class Stack:
    """One state folder, and the `keel up` that runs in it."""

    home: Path
    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None
    said_before: int = 0
    """Bytes of the output file that earlier starts wrote."""
    clients: dict[int, httpx.Client] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------------- the command

    def up(self, *options: str, **settings: str) -> subprocess.Popen[str]:
        """Starts `keel up` in a session of its own, as a terminal does; returns at once."""
        self.said_before = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("a") as out:
            self.process = subprocess.Popen(
                [KEEL, "up", *options], cwd=self.home.parent, env=self.environment | settings, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, text=True, start_new_session=True,
            )  # fmt: skip
        return self.process

    def run(self, *command: str, seconds: float = 60, **settings: str) -> subprocess.CompletedProcess[str]:
        """A `keel` command, to its end."""
        return subprocess.run(
            [KEEL, *command], cwd=self.home.parent, env=self.environment | settings, capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command in a shell that has read the stack's file and holds nothing else, in no particular folder."""
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(self.home.parent)}
        line = f". '{self.home}/env.sh' && {command}"
        return subprocess.run(["sh", "-c", line], cwd="/", env=bare, capture_output=True, text=True, timeout=90, check=False)

    def edit_plan(self, name: str, found: str, put: str) -> None:
        plan = Path(self.environment["KEEL_PLANS"]) / f"{name}.toml"
        before = plan.read_text()
        assert before.count(found) == 1, f"{plan}: {found}"
        plan.write_text(before.replace(found, put))

    def write_plan_that_trades(self, name: str) -> None:
        """A plan of that name, in a portfolio of that name, that buys at one slot and sells at the next."""
        plans = Path(self.environment["KEEL_PLANS"])
        head, _, rest = (plans / "default.toml").read_text().partition("[strategy]")
        after = rest[rest.index("[allocation]") :]
        made = f'{head}[strategy]\nname = "deployments.bench.cycle:EveryOther"\n\n{after}'
        (plans / f"{name}.toml").write_text(made.replace('"default"', f'"{name}"').replace('"main"', f'"{name}"'))

    @property
    def output(self) -> Path:
        return self.home.parent / f"{self.home.name} output"

    def said(self) -> str:
        """What the newest `keel up` has printed."""
        with self.output.open() as out:
            out.seek(self.said_before)
            return out.read()

    def await_line(self, pattern: str, seconds: float = 90) -> str:
        def found() -> str | None:
            line = re.search(f"^.*{pattern}.*$", self.said(), re.MULTILINE)
            if line is None and self.process is not None and self.process.poll() is not None:
                pytest.fail(f"keel up ended with {self.process.returncode} before it said {pattern!r}:\n{self.said()}")
            return line.group() if line else None

        return until(pattern, found, seconds)

    def await_first_run(self) -> None:
        self.await_line("going on by schedule", 150)

    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def interrupt(self) -> None:
        """Ctrl-C as a terminal does it: SIGINT to everything in its foreground."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGINT)

    def await_end(self, seconds: float = 60) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def kill_everything(self) -> None:
        """SIGKILL of supervisor, server, worker, runs and Postgres at once."""
        assert self.process is not None
        victims = [self.process.pid, *(process.pid for process in marked(self.home)), *self.postgres_processes()]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def postgres_processes(self) -> list[int]:
        data = str(self.home / "postgres" / "data")
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _working_directory(folder) == data]

    def has_left(self, port: int) -> bool:
        """True if the port is free, or was taken since by what another file's tests, run beside this one, have started."""
        ours = os.fsencode(self.home)
        others = [b"KEEL_HOME=" in found and ours not in found for found in map(_environment_of, _listeners(port))]
        return all(others) if others else is_free(port)

    def assert_nothing_is_left(self, port: int) -> None:
        assert marked(self.home) == []
        assert self.postgres_processes() == []
        assert self.has_left(port)
        assert read_record(self.home) is None

    # --------------------------------------------------------------------------------------------------- the server

    @property
    def port(self) -> int:
        record = read_record(self.home)
        assert record is not None, "no stack runs"
        return record.port

    def api(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        """The server's answer to a POST or another method, or to a GET where there is no body; None where it answers nothing.

        Its database takes one writer: where that is busy it answers 503 and did nothing, and is asked again, as
        Prefect's own client does.
        """
        if self.port not in self.clients:
            user, _, password = (self.home / "auth").read_text().strip().partition(":")
            self.clients[self.port] = httpx.Client(
                base_url=f"http://127.0.0.1:{self.port}/api", auth=(user, password), timeout=30
            )
        client = self.clients[self.port]

        def answered() -> httpx.Response | None:
            answer = client.get(path) if body is None else client.request(method, path, json=body)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer = until(f"an answer of {path}", answered, 30).raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api(f"/deployments/name/{name}")
        return found

    def runs(self, deployment: str, *states: str) -> list[dict[str, Any]]:
        """Its runs in these states, the earliest start first."""
        runs: list[dict[str, Any]] = self.api("/flow_runs/filter", {
            "deployments": {"id": {"any_": [self.deployment(deployment)["id"]]}},
            "flow_runs": {"state": {"type": {"any_": list(states)}}},
        })  # fmt: skip
        return sorted(runs, key=lambda run: run["start_time"] or run["expected_start_time"])

    def trigger(self, deployment: str, parameters: dict[str, Any] | None = None) -> str:
        """Id of a run by hand, as the UI's button makes it; with the form's parameters, or those of the deployment."""
        body = {} if parameters is None else {"parameters": parameters}
        return str(self.api(f"/deployments/{self.deployment(deployment)['id']}/create_flow_run", body)["id"])

    def await_state(self, run_id: str, *states: str, seconds: float = 90) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            run: dict[str, Any] = self.api(f"/flow_runs/{run_id}")
            return run if run["state_type"] in states else None

        return until(f"run {run_id} in {states}", reached, seconds)

    def await_scheduled_run(self, deployment: str, since: datetime, seconds: float = 120) -> dict[str, Any]:
        """A run that the schedule made, that began after a moment, and that has completed."""

        def completed() -> dict[str, Any] | None:
            runs = [run for run in self.runs(deployment, "COMPLETED") if run["auto_scheduled"]]
            return next((run for run in runs if datetime.fromisoformat(run["start_time"]) > since), None)

        return until(f"a scheduled run of {deployment} since {since}", completed, seconds)


@pytest.fixture(scope="session")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generated(tmp_path_factory.mktemp("candles"), 11)


@pytest.fixture(scope="session")
def make_stack(tmp_path_factory: pytest.TempPathFactory, candles: Path) -> Callable[..., Stack]:
    """Makes a stack of that name that is not up; `minutely` with a deployment that fires every minute."""

    def make(name: str, *, minutely: bool = False) -> Stack:
        folder = tmp_path_factory.mktemp("stack") / "a folder"
        folder.mkdir()
        for package in ("config", "flows", "tasks", "trading"):  # what a stack must not take for its own, though it starts here
            (folder / f"{package}.py").write_text("raise ImportError('code of another checkout')\n")
        declared = _deployments(folder, minutely=minutely)
        return Stack(home=folder / name, environment=_environment(folder / name, candles, declared, _plans(folder)))

    return make


@pytest.fixture(scope="module")
def shared(make_stack: Callable[..., Stack]) -> Iterator[Stack]:
    with lasting(make_stack("shared")) as stack:
        yield stack


@contextmanager
def lasting(stack: Stack) -> Iterator[Stack]:
    """Whatever of the stack is up at the end of the block is taken down."""
    try:
        yield stack
    finally:
        stack.run("down", seconds=260)
        end(marked(stack.home), 5)


@pytest.fixture
def stack(shared: Stack) -> Stack:
    """The file's stack, up and with its first run done."""
    if not shared.is_up():
        shared.up()
    shared.await_first_run()
    return shared


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the pages are not looked at (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where there is a browser

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


def run_process(run_id: str) -> int | None:
    """Process id of a flow run's engine."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"PREFECT__FLOW_RUN_ID={run_id}".encode() in (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:  # it ended meanwhile
            continue
    return None


def prefect_program(home: Path, name: str) -> int:
    """Process id of the stack's `server` or `worker`."""
    command = ["-m", "prefect", name, "start"]
    found = [
        process.pid for process in marked(home) if Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")[1:5] == command
    ]
    assert len(found) == 1, (name, found)
    return found[0]


def now() -> datetime:
    return datetime.now(UTC)


def _environment(home: Path, candles: Path, deployments: Path, plans: Path) -> dict[str, str]:
    ours = ("KEEL_", "PREFECT_", "DATABASE_URL", "PYTEST", "PYTHON")
    machine = {"KEEL_PG_BIN", "KEEL_PG_USER"}
    kept = {name: value for name, value in os.environ.items() if name in machine or not name.startswith(ours)}
    return kept | {
        "KEEL_HOME": str(home),
        "KEEL_MARKET": f"replay:{candles}",
        "KEEL_PREFECT_YAML": str(deployments),
        "KEEL_PLANS": str(plans),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",  # of the person's own profile, and not to be followed
    }


def _deployments(folder: Path, *, minutely: bool) -> Path:
    """The project's own file, two more deployments of a flow that only takes its time, and if it is asked for one of its trade
    flow that fires every minute on a plan of its own, so that hand and schedule are not in each other's way.
    """
    declared = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    paper = next(found for found in declared["deployments"] if found["name"] == "paper")
    every_minute = paper | {
        "name": MINUTELY.partition("/")[2],
        "parameters": {"params": {"plan": "minutely"}},
        "schedules": [{"slug": "minutely", "cron": "* * * * *", "timezone": "UTC"}],
    }
    timed = [
        paper | {"name": name, "entrypoint": "tests/e2e/flows_for_tests.py:trade", "parameters": {"params": {"seconds": seconds}},
                 "schedules": []}
        for name, seconds in (("short", 4), ("slow", 600))
    ]  # fmt: skip
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(declared | {"deployments": [*declared["deployments"], *timed, *[every_minute] * minutely]}))
    return file


def _plans(folder: Path) -> Path:
    plans = Path(shutil.copytree(PROJECT / "config" / "plans", folder / "plans"))
    default = (plans / "default.toml").read_text()
    assert default.count('"default"') == default.count('"main"') == 1
    (plans / "minutely.toml").write_text(default.replace('"default"', '"minutely"').replace('"main"', '"minutely"'))
    return plans


def _listeners(port: int) -> list[Path]:
    """The folders in /proc of the processes that listen on this port of this machine."""
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{line[9]}]" for line in fields if line[3] == "0A" and int(line[1].rpartition(":")[2], 16) == port}
    return [folder for folder in Path("/proc").glob("[0-9]*") if sockets & _open_files(folder)]


def _open_files(process: Path) -> set[str]:
    try:
        return {str(file.readlink()) for file in (process / "fd").iterdir()}
    except OSError:  # it ended, or belongs to somebody else
        return set()


def _environment_of(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:  # it ended
        return b""


def _working_directory(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except OSError:  # it ended
        return ""
