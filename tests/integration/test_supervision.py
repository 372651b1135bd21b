"""The parts of the supervisor, on real processes: children that die, processes that are left over, ports, lock, shell file."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.prefect import auth_string, stack_environment
from config.settings import PROJECT, Settings
from deployments.stack.children import BACK_OFF_MAX_SECONDS, DEATHS_MAX, Child, ChildFailed
from deployments.stack.declared import Declared, read_declared
from deployments.stack.hooks import Hooks
from deployments.stack.premises import choose_port, is_free, read_record, recorded, try_lock, write_shell_file
from deployments.stack.processes import MARKER, ProcessId, end, marked
from deployments.stack.supervisor import PortLost, Supervisor
from trading.errors import ConfigurationError

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def child(folder: Path, *command: str) -> Child:
    return Child(name="the child", command=command, environment=dict(os.environ), folder=folder, log=folder / "child.log")


def first_child_of(pid: int) -> ProcessId | None:
    return ProcessId.of(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]))


async def at_once() -> bool:
    return True


async def never() -> bool:
    return False


@pytest.fixture
def said() -> list[str]:
    return []


# --------------------------------------------------------------------------------------------------------- children


def test_a_child_that_keeps_dying_is_given_up_with_the_place_of_its_log(tmp_path: Path, said: list[str]) -> None:
    async def story() -> None:
        failing = child(tmp_path, "sh", "-c", "exit 3")
        failing.pause = lambda _deaths: 0.0
        await failing.start()
        await failing.keep(at_once, said.append)

    with pytest.raises(ChildFailed, match=rf"the child ended {DEATHS_MAX} times .* \(status 3\): see .*child.log"):
        asyncio.run(story())
    assert len([line for line in said if "starting it again" in line]) == DEATHS_MAX - 1


def test_the_pause_before_a_start_doubles_up_to_a_bound(tmp_path: Path) -> None:
    pauses = [child(tmp_path, "true").pause(deaths) for deaths in range(1, 8)]
    assert pauses == [1, 2, 4, 8, 16, BACK_OFF_MAX_SECONDS, BACK_OFF_MAX_SECONDS]


def test_a_child_that_ends_while_it_starts_is_not_waited_for(tmp_path: Path) -> None:
    async def story() -> None:
        short = child(tmp_path, "false")
        await short.start()
        await short.until(never, 60)

    with pytest.raises(ChildFailed, match=r"the child ended while it started \(status 1\)"):
        asyncio.run(story())


def test_a_child_that_is_not_ready_in_time_is_an_error(tmp_path: Path) -> None:
    async def story() -> None:
        slow = child(tmp_path, "sleep", "600")
        await slow.start()
        try:
            await slow.until(never, 0.2)
        finally:
            await slow.stop(signal.SIGTERM, 10)

    with pytest.raises(ChildFailed, match="was not ready after"):
        asyncio.run(story())


def test_a_child_that_does_not_listen_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    async def story() -> ProcessId | None:
        python = shlex.join([sys.executable, "-c", DEAF])
        deaf = child(tmp_path, "sh", "-c", f"{python} & trap '' TERM; wait; sleep 600")
        await deaf.start()
        while "deaf" not in deaf.log.read_text():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
        assert deaf.pid is not None
        found = first_child_of(deaf.pid)
        await deaf.stop(signal.SIGTERM, 0.2)
        assert not deaf.running()
        return found

    grandchild = asyncio.run(story())
    assert grandchild is not None
    while grandchild.alive():  # killed, and on its way out; the test's time-out is the bound
        time.sleep(0.01)


def test_the_terminals_ctrl_c_does_not_reach_a_child(tmp_path: Path) -> None:
    async def story() -> bool:
        quiet = child(tmp_path, "sleep", "600")
        await quiet.start()
        assert quiet.pid is not None
        own_session = os.getsid(quiet.pid) == quiet.pid
        await quiet.stop(signal.SIGTERM, 10)
        return own_session

    assert asyncio.run(story())


# ------------------------------------------------------------------------------------------------------- left over


@contextmanager
def program(home: Path | None, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running program, of the stack of that state folder or of none."""
    environment = dict(os.environ) if home is None else os.environ | {MARKER: str(home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_only_the_processes_of_this_state_folder_are_ended(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "mine too"
    with program(mine, "sleep", "600") as left, program(other, "sleep", "600") as others, program(None, "sleep", "600") as none:
        found = marked(mine)
        assert [process.pid for process in found] == [left.pid]
        assert end(found, 10) == 1
        assert left.wait(10) == -signal.SIGTERM
        assert (others.poll(), none.poll()) == (None, None)
    assert marked(mine) == []


def test_who_does_not_listen_is_killed(tmp_path: Path) -> None:
    with program(tmp_path, sys.executable, "-c", DEAF) as deaf:
        assert deaf.stdout is not None
        assert deaf.stdout.readline() == b"deaf\n"
        assert end(marked(tmp_path), 0.2) == 1
        assert deaf.wait(10) == -signal.SIGKILL


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    with program(None, "sleep", "600") as process:
        now = ProcessId.of(process.pid)
        assert now is not None
        assert now.alive()
        earlier = ProcessId(now.pid, now.started - 1)
        assert not earlier.alive()
        earlier.signal(signal.SIGKILL)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)


def test_a_zombie_is_no_process() -> None:
    with program(None, "true") as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has reaped it
        assert ProcessId.of(process.pid) is None


# ------------------------------------------------------------------------------------------------------- state folder


def test_one_supervisor_at_a_time_and_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    hold = f"""
from pathlib import Path; from deployments.stack.premises import try_lock; import time
assert (lock := try_lock(Path({str(tmp_path)!r}))); print("held", flush=True); time.sleep(600)"""
    with subprocess.Popen([sys.executable, "-c", hold], cwd=PROJECT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert try_lock(tmp_path) is None
        holder.kill()
    lock = try_lock(tmp_path)
    assert lock is not None
    lock.close()


def test_what_runs_is_on_record_as_long_as_it_runs(tmp_path: Path) -> None:
    with recorded(tmp_path, 4321):
        record = read_record(tmp_path)
        assert record is not None
        assert (record.supervisor.pid, record.supervisor.alive(), record.port) == (os.getpid(), True, 4321)
    assert read_record(tmp_path) is None


def test_the_shell_file_survives_any_path_and_is_private(tmp_path: Path) -> None:
    home = tmp_path / "it's a $HOME `x`"
    home.mkdir()
    file = write_shell_file(home, 4321)
    assert file.stat().st_mode & 0o777 == 0o600
    wanted = '"$KEEL_HOME" "$PREFECT_API_URL" "$PREFECT_API_AUTH_STRING" "$PATH"'
    told = subprocess.run(
        ["sh", "-c", f'. "$1" && printf "%s\n" {wanted}', "sh", str(file)],
        env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert told[:3] == [str(home), "http://127.0.0.1:4321/api", auth_string(home)]
    assert told[3] == f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin"


def test_the_environment_of_the_stack_keeps_the_callers_prefect_out(tmp_path: Path) -> None:
    theirs = {
        "PREFECT_API_URL": "http://elsewhere/api", "PREFECT_API_KEY": "secret", "PREFECT_PROFILE": "cloud",
        "PYTHONDONTWRITEBYTECODE": "1", "PREFECT_LOGGING_LEVEL": "DEBUG", "COINBASE_VIEW_API_KEY": "key", "TMPDIR": "/shared",
        "KEEL_HALT_FILE": "STOP",
    }  # fmt: skip
    ours = stack_environment(tmp_path, 4321, theirs)
    assert ours["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    assert ours["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert ours["PREFECT_SERVER_API_AUTH_STRING"] == ours["PREFECT_API_AUTH_STRING"] == auth_string(tmp_path)
    assert not {"PREFECT_API_KEY", "PREFECT_PROFILE", "PYTHONDONTWRITEBYTECODE"} & set(ours)
    assert (ours["PREFECT_LOGGING_LEVEL"], ours["COINBASE_VIEW_API_KEY"]) == ("DEBUG", "key")
    # A folder in the machine's /tmp belongs to the first user who had a worker there.
    assert Path(ours["TMPDIR"]).is_relative_to(tmp_path)
    # A run stands in the project's folder: it must look for the same halt file as whoever started the stack.
    assert ours["KEEL_HALT_FILE"] == str(Path.cwd() / "STOP")


def test_the_key_that_trades_is_not_handed_on_to_server_worker_and_their_runs(tmp_path: Path) -> None:
    theirs = {"COINBASE_API_KEY": "name", "COINBASE_PRIVATE_KEY": "secret"}
    assert not set(stack_environment(tmp_path, 4321, theirs)) & set(theirs)


# ------------------------------------------------------------------------------------------------------------- ports


def test_a_taken_port_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
        assert choose_port(None) != port
        with pytest.raises(ConfigurationError, match=f"KEEL_PREFECT_PORT={port}: another program listens there"):
            choose_port(port)
    assert is_free(port)


def supervisor(tmp_path: Path, port: int, *, port_is_set: bool) -> Supervisor:
    """One whose server ends at once."""
    settings = Settings(home=tmp_path, prefect_port=port if port_is_set else None)
    return Supervisor(
        settings=settings, home=tmp_path, hooks=Hooks(migrate=print, check_schedule=print, summary=lambda *_: None),
        declared=declared(), port=port, server=child(tmp_path, "false"), worker=child(tmp_path, "true"),
    )  # fmt: skip


def declared() -> Declared:
    return read_declared(PROJECT / "prefect.yaml", os.environ | {"KEEL_PROJECT": str(PROJECT)})


async def server_starts(stack: Supervisor) -> None:
    await stack.server.start()
    await stack._await_server()


@pytest.mark.parametrize(("port_is_set", "error"), [(False, PortLost), (True, ConfigurationError)])
def test_a_port_that_is_lost_before_the_server_has_it_is_seen(tmp_path: Path, port_is_set: bool, error: type[Exception]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as quicker, pytest.raises(error, match=str(port := quicker.getsockname()[1])):
        asyncio.run(server_starts(supervisor(tmp_path, port, port_is_set=port_is_set)))


def test_a_server_that_ends_for_another_reason_is_a_failure(tmp_path: Path, unused_port: Callable[[], int]) -> None:
    with pytest.raises(ChildFailed, match="the child ended while it started") as caught:
        asyncio.run(server_starts(supervisor(tmp_path, unused_port(), port_is_set=False)))
    assert not isinstance(caught.value, PortLost)


@pytest.fixture
def unused_port() -> Callable[[], int]:
    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return int(listener.getsockname()[1])

    return find


# ------------------------------------------------------------------------------------------------------- the live worker


def test_a_live_worker_that_hangs_when_it_is_told_to_stop_ends_all_the_same_and_says_where() -> None:
    code = """
import threading
from deployments.stack import live_worker
def hangs_here():
    threading.Event().wait()
live_worker._STOP_SECONDS_MAX = 0.2
live_worker._told_to_stop("Received SIGINT.")
hangs_here()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Received SIGINT." in done.stdout
    assert "hangs_here" in done.stderr
