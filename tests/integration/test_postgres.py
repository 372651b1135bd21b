"""The embedded Postgres comes back from whatever was done to it, and is never started twice."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from config.postgres import EmbeddedPostgres, embedded, find_binaries, ledger_url
from config.settings import PROJECT, Settings, private_folder
from trading.errors import ConfigurationError
from trading.store.database import connect

START_AND_TELL = """
import sys
from pathlib import Path
from config.postgres import EmbeddedPostgres
from trading.store.database import connect

server = EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2]))
server.start()
server.create_database("keel")
with connect(server.url("keel")) as connection:
    print(connection.execute("select pg_postmaster_start_time()").fetchone())
"""


@pytest.fixture(scope="module")
def binaries() -> Path:
    return find_binaries(Path(named) if (named := os.environ.get("KEEL_PG_BIN")) else None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, binaries: Path) -> Iterator[EmbeddedPostgres]:
    with stopped_at_the_end(EmbeddedPostgres(tmp_path_factory.mktemp("embedded") / "postgres", binaries)) as embedded:
        embedded.start()
        with connect(embedded.url("postgres")) as connection:
            connection.execute("create table kept (n int)")
            connection.execute("insert into kept values (1)")
        yield embedded


@contextmanager
def stopped_at_the_end(server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    try:
        yield server
    finally:
        server.stop()
        assert server._processes() == []


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A program that has nothing to do with Postgres."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def kill_all(server: EmbeddedPostgres) -> None:
    """As kill -9 does, every process of the server at once; the next start finds what that leaves behind."""
    pids = server._processes()
    assert pids, "nothing to kill"
    for pid in pids:
        with suppress(ProcessLookupError):  # the first kill takes others with it
            os.kill(pid, signal.SIGKILL)


def give_number_to(process: subprocess.Popen[bytes], server: EmbeddedPostgres) -> None:
    """Both lock files as they stand after the machine has given the dead server's number to another program."""
    for file in (server.data / "postmaster.pid", *server.socket.glob("*.lock")):
        _, rest = file.read_text().split("\n", 1)
        file.write_text(f"{process.pid}\n{rest}")


def holds(server: EmbeddedPostgres) -> int:
    """Rows in the table that was there before."""
    with connect(server.url("postgres")) as connection:
        found = connection.execute("select count(*) from kept").fetchone()
    assert found is not None
    return int(found[0])


def test_it_starts_again_after_everything_was_killed(server: EmbeddedPostgres) -> None:
    server.start()
    kill_all(server)
    server.start()
    assert holds(server) == 1


def test_it_starts_when_its_old_number_belongs_to_another_program(
    server: EmbeddedPostgres, bystander: subprocess.Popen[bytes]
) -> None:
    server.start()
    kill_all(server)
    give_number_to(bystander, server)
    server.start()
    assert holds(server) == 1
    assert bystander.poll() is None


def test_stopping_a_dead_server_leaves_alone_who_got_its_number(
    server: EmbeddedPostgres, bystander: subprocess.Popen[bytes]
) -> None:
    server.start()
    kill_all(server)
    give_number_to(bystander, server)
    server.stop()
    with pytest.raises(subprocess.TimeoutExpired):
        bystander.wait(0.5)


def test_stopping_a_dead_server_whose_processes_linger_waits_for_them_and_hits_nobody_else(
    server: EmbeddedPostgres, bystander: subprocess.Popen[bytes]
) -> None:
    server.start()
    postmaster = int((server.data / "postmaster.pid").read_text().split("\n")[0])
    lingering = [pid for pid in server._processes() if pid != postmaster]
    for pid in lingering:
        os.kill(pid, signal.SIGSTOP)
    os.kill(postmaster, signal.SIGKILL)
    give_number_to(bystander, server)
    with ThreadPoolExecutor(1) as beside:
        stopping = beside.submit(server.stop)
        with pytest.raises(TimeoutError):  # not before they are gone
            stopping.result(1)
        for pid in lingering:
            os.kill(pid, signal.SIGKILL)
        stopping.result(30)
    assert server._processes() == []
    with pytest.raises(subprocess.TimeoutExpired):
        bystander.wait(0.5)


def test_it_starts_beside_a_dead_server_that_nobody_has_reaped(
    server: EmbeddedPostgres, bystander: subprocess.Popen[bytes]
) -> None:
    server.start()
    kill_all(server)
    give_number_to(bystander, server)
    bystander.kill()  # not waited for: a zombie, as in a container whose first process does not reap
    server.start()
    assert holds(server) == 1


def test_a_truncated_pid_file_is_no_obstacle(server: EmbeddedPostgres) -> None:
    server.start()
    kill_all(server)
    (server.data / "postmaster.pid").write_text("")
    server.start()
    assert holds(server) == 1


def test_it_knows_its_own_processes_through_a_symbolic_link(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    (tmp_path / "link").symlink_to(server.root)
    assert EmbeddedPostgres(tmp_path / "link", server.binaries)._processes() == server._processes() != []


def test_it_is_durable_keeps_utc_and_asks_for_a_password(server: EmbeddedPostgres) -> None:
    server.start()
    wanted = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on", "TimeZone": "UTC",
              "listen_addresses": "", "password_encryption": "scram-sha-256"}  # fmt: skip
    with connect(server.url("postgres")) as connection:
        found = dict(connection.execute("select name, setting from pg_settings").fetchall())
        methods = connection.execute("select distinct auth_method from pg_hba_file_rules").fetchall()
    assert {name: found[name] for name in wanted} == wanted
    assert methods == [("scram-sha-256",)]
    assert (server.root / "password").stat().st_mode & 0o077 == 0


def test_six_starts_at_once_share_one_server(tmp_path: Path, binaries: Path) -> None:
    root = tmp_path / "postgres"
    with stopped_at_the_end(EmbeddedPostgres(root, binaries)):
        command = [sys.executable, "-c", START_AND_TELL, str(root), str(binaries)]
        starts = [
            subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(6)
        ]
        told = [process.communicate(timeout=120)[0] for process in starts]
    assert [process.returncode for process in starts] == [0] * 6, told
    assert len(set(told)) == 1


@pytest.mark.parametrize("name", ["with a space and 'quotes'", "long-" + "x" * 150], ids=["space", "long"])
def test_it_runs_in_a_folder_with_an_awkward_name(tmp_path: Path, binaries: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with stopped_at_the_end(EmbeddedPostgres(tmp_path / name / "postgres", binaries)) as server:
        server.start()
        server.create_database("keel")
        with connect(server.url("keel")) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_an_interrupted_first_start_is_made_good(tmp_path: Path, binaries: Path) -> None:
    with stopped_at_the_end(EmbeddedPostgres(tmp_path / "postgres", binaries)) as server:
        half = server.root / "data.new"
        (half / "base").mkdir(parents=True)  # as an initdb leaves it that was killed
        (half / "PG_VERSION").write_text("18\n")
        server.start()
        assert server.running()


def test_it_follows_its_folder_and_ignores_the_postgres_variables_of_a_shell(
    tmp_path: Path, binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped_at_the_end(EmbeddedPostgres(tmp_path / "old" / "postgres", binaries)) as server:
        server.start()
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.setenv("PGPORT", "5999")
    monkeypatch.setenv("PGDATA", "/nowhere")
    with stopped_at_the_end(EmbeddedPostgres(tmp_path / "new" / "postgres", binaries)) as server:
        server.start()
        with connect(server.url("postgres")) as connection:
            assert connection.execute("show port").fetchone() == ("5432",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a user namespace")
def test_where_root_gets_no_user_namespace_the_error_names_the_ways_out(tmp_path: Path, binaries: Path) -> None:
    forbidden = f"""
import sys; from pathlib import Path; from config.postgres import EmbeddedPostgres
Path("/proc/sys/user/max_user_namespaces").write_text("0")
EmbeddedPostgres(Path({str(tmp_path)!r}) / "postgres", Path({str(binaries)!r})).start()
"""
    # In a namespace of its own the limit is the test's, not the machine's.
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", forbidden]
    found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if "unshare" in found.stderr and "Traceback" not in found.stderr:
        pytest.skip(f"no user namespaces here: {found.stderr.strip()}")
    assert "ConfigurationError: Postgres cannot run as root" in found.stderr
    assert "KEEL_PG_USER" in found.stderr


def test_an_account_that_does_not_exist_is_a_wrong_setting(tmp_path: Path, binaries: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs Postgres as another user")
    with pytest.raises(ConfigurationError, match="KEEL_PG_USER: found 'no-such-account', expected an account"):
        embedded(Settings(home=tmp_path, KEEL_PG_USER="no-such-account", KEEL_PG_BIN=binaries))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
def test_under_root_it_runs_as_the_account_that_the_setting_names(binaries: Path) -> None:
    account = pwd.getpwnam("nobody")
    try:
        subprocess.run([binaries / "postgres", "--version"], user=account.pw_uid, check=True, capture_output=True)
    except PermissionError:
        pytest.skip(f"{binaries} cannot be read by other users here")
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        settings = Settings(home=home, KEEL_PG_USER=account.pw_name, KEEL_PG_BIN=binaries)
        with stopped_at_the_end(embedded(settings)) as server:
            server.start()
            assert private_folder(home).stat().st_mode & 0o777 == 0o710  # passed through, not read
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in server._processes()} == {account.pw_uid}
            kill_all(server)
            server.start()
            assert server.running()


# ---------------------------------------------------------------------------------------------------- which database


@pytest.mark.parametrize("url", ["mysql://keel:secret@db/keel", "postgresql:keel", "db/keel"])
def test_another_kind_of_database_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"environment DATABASE_URL: found scheme .*, expected postgresql://") as caught:
        ledger_url(Settings(DATABASE_URL=url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_foreign_database_is_taken_as_it_is_and_nothing_is_started(tmp_path: Path, scheme: str) -> None:
    settings = Settings(DATABASE_URL=f"{scheme}://keel@db/keel", home=tmp_path)
    assert ledger_url(settings) == "postgresql+psycopg://keel@db/keel"
    assert list(tmp_path.iterdir()) == []


def test_without_any_postgres_the_error_names_three_ways_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_binaries(tmp_path)
    for way in (f"KEEL_PG_BIN={tmp_path}", "DATABASE_URL", "make paper", "set KEEL_PG_BIN"):
        assert way in str(caught.value)


def test_a_setting_names_the_binaries(tmp_path: Path) -> None:
    programs(tmp_path, "15.4 (Debian 15.4-1)")
    assert find_binaries(tmp_path) == tmp_path


def test_a_postgres_that_is_too_old_is_none(tmp_path: Path) -> None:
    programs(tmp_path, "14.9")
    with pytest.raises(ConfigurationError, match="no Postgres 15 or later found in KEEL_PG_BIN"):
        find_binaries(tmp_path)


def programs(folder: Path, version: str) -> None:
    """Programs that only say their version."""
    for name in ("initdb", "pg_ctl", "postgres"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
