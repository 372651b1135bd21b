"""Keys that sing: after runs at DEBUG with crashes, no piece of a secret is anywhere but where it was put.

Two keys that trade: the rehearsal's own, read from a file by every run, and one in the environment of the live worker. One run
completes, one fails in the middle of opening its venue, one breaks in a task that has just signed, one is killed while its
order is on the wire. Then everything is searched: output and logs, Prefect's database, the ledger, every file of the state
folder, and while a run is at work the processes of the machine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from config.postgres import owner_url
from config.prefect import client_settings
from config.settings import PROJECT, Settings
from tests.builders import real_money
from tests.builders.simulator import Running, running
from tests.e2e.conftest import KEEL, Stack, lasting, run_process, until

pytestmark = pytest.mark.e2e
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PLAN = "canary"
_LINES_FROM = 30  # shorter lines of a PEM are too common to mean anything
_TOKEN = re.compile(rb"eyJ[\w-]{20,}\.eyJ[\w-]{20,}\.[\w-]{40,}")


def needles(pem: str) -> list[bytes]:
    """Every form in which the key may lie about: each PEM, its lines, its number, all of them in base64 and URL-encoded."""
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    texts = {pem}
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        texts.add(key.private_bytes(Encoding.PEM, form, NoEncryption()).decode())
    number = key.private_numbers().private_value.to_bytes(32, "big")
    texts |= {line for text in set(texts) for line in text.splitlines() if len(line) >= _LINES_FROM and "-----" not in line}
    plain = {text.encode() for text in texts} | {text.replace("\n", "\\n").encode() for text in texts}
    coded = {b64 for text in plain | {number} for b64 in _base64s(text)} | {quote(text, safe="").encode() for text in texts}
    return sorted(plain | coded | {number, number.hex().encode(), str(int.from_bytes(number, "big")).encode()})


def _base64s(data: bytes) -> Iterator[bytes]:
    """Its base64 wherever in a longer text it may begin."""
    for shift in range(3):
        whole = b64encode(b"\0" * shift + data)
        yield whole[4 if shift else 0 : len(whole) - 4]


def found_in(data: bytes, songs: dict[str, list[bytes]]) -> list[str]:
    return [name for name, forms in songs.items() if any(form in data for form in forms)]


@pytest.fixture(scope="module")
def stack(make_stack: Callable[[str], Stack]) -> Iterator[Stack]:
    """A stack of its own: candles of two simulators do not go together in one ledger."""
    with lasting(make_stack("secrets")) as made:
        made.up()
        made.await_first_run()
        yield made


@pytest.fixture
def venue(stack: Stack, tmp_path: Path) -> Iterator[Running]:
    del stack
    options = ("--prices", "synthetic", "--start", "2026-03-01T00:10:00Z", "--public-rate", "0")
    with running(tmp_path / "simulator", *options) as simulator:
        yield simulator


def at_debug(stack: Stack, settings: dict[str, str]) -> dict[str, str]:
    """The stack's environment with every log at DEBUG, and with these settings, which are nowhere else."""
    loud = dict.fromkeys(("PREFECT_LOGGING_LEVEL", "PREFECT_LOGGING_ROOT_LEVEL", "PREFECT_LOGGING_SERVER_LEVEL"), "DEBUG")
    loud |= {"PREFECT_LOGGING_EXTRA_LOGGERS": "trading,config,coinbase,urllib3,requests", "PREFECT_DEBUG_MODE": "true"}
    kept = {name: value for name, value in stack.environment.items() if not name.startswith("PREFECT_")}
    return kept | loud | settings


@contextmanager
def worker(stack: Stack, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`keel worker` at DEBUG."""
    log = (stack.home / "logs" / "canary-worker.log").open("wb")
    environment = at_debug(stack, settings)
    with log, subprocess.Popen([KEEL, "worker"], cwd=stack.home, env=environment, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def break_in_a_task(stack: Stack, settings: dict[str, str]) -> str:
    """State of a run that broke while it held the key. Not by the live worker, which runs no flow but its own."""
    environment = at_debug(stack, settings) | client_settings(stack.home, stack.port)
    code = "from tests.e2e.flows_for_tests import Parameters, breaks; breaks(Parameters(seconds=0))"
    with (stack.home / "logs" / "canary-run.log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-c", code], cwd=PROJECT, env=environment, stdout=log, stderr=log, check=False, timeout=120
        )
    (run,) = stack.api("/flow_runs/filter", {"flows": {"name": {"any_": ["breaks"]}}})
    return str(run["state_type"])


def processes_that_show(songs: dict[str, list[bytes]], allowed: int) -> list[str]:
    """Processes with a key in their command line, or in their environment without being `allowed` or one of its children."""
    guilty = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
            may = allowed in _ancestors(int(folder.name))
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
        guilty += [f"{folder.name} {name} in {line[:80]!r}" for name in found_in(line, songs)]
        if not may:
            guilty += [f"{folder.name} {name} in the environment of {line[:80]!r}" for name in found_in(environment, songs)]
    return guilty


def _ancestors(pid: int) -> list[int]:
    found = [pid]
    while found[-1] > 1:
        stat = Path(f"/proc/{found[-1]}/stat").read_text()
        found.append(int(stat.rpartition(")")[2].split()[1]))
    return found


def text_of_ledger(stack: Stack) -> bytes:
    """Every row of every table of the ledger's database, as text."""
    machine = {"postgres_bin": stack.environment.get("KEEL_PG_BIN"), "postgres_user": stack.environment.get("KEEL_PG_USER")}
    url = owner_url(Settings(home=stack.home, **machine)).replace("+psycopg", "")  # type: ignore[arg-type]
    rows: list[str] = []
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select schemaname, tablename from pg_tables where schemaname !~ '^(pg_|information)'"
        ).fetchall()
        for schema, table in tables:
            query = psycopg.sql.SQL("select row_to_json(t)::text from {} t").format(psycopg.sql.Identifier(schema, table))
            rows += [row[0] for row in connection.execute(query).fetchall()]
    assert len(rows) > 100
    return "\n".join(rows).encode()


def text_of_prefect(stack: Stack) -> bytes:
    """Every cell of Prefect's database: runs, parameters, states, results, logs, artifacts, events."""
    cells: list[bytes] = []
    with sqlite3.connect(f"file:{stack.home / 'prefect' / 'prefect.db'}?mode=ro", uri=True) as connection:
        names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        for name in names:
            for row in connection.execute(f'select * from "{name}"'):
                cells += [cell if isinstance(cell, bytes) else str(cell).encode() for cell in row]
    assert {"flow_run", "task_run_state", "log", "artifact"} <= set(names)
    return b"\n".join(cells)


def files_that_show(folder: Path, songs: dict[str, list[bytes]]) -> list[str]:
    return [
        f"{path}: {name}"
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
        for name in found_in(path.read_bytes(), songs)
    ]


def test_no_secret_is_anywhere_after_runs_at_debug_that_failed_and_were_killed(
    stack: Stack, venue: Running, tmp_path: Path
) -> None:
    stack.write_plan_that_trades(PLAN)
    given, home = real_money.keys(), tmp_path / "simulator"
    songs = {
        "the rehearsal's key": needles(venue.secret()["privateKey"]),
        "the worker's key": needles(given["COINBASE_PRIVATE_KEY"]),
        "the worker's view key": needles(given["COINBASE_VIEW_PRIVATE_KEY"]),
    }
    simulated = {"KEEL_SIMULATOR_HOME": str(home)}
    said = b""
    for command in (("reconcile",), ("breaker", "resume", "--reason", "a canary"), ("arm", "--reason", "a canary")):
        done = stack.run(*command, "--plan", PLAN, "--mode", "rehearsal", USER="anna", **simulated)
        assert done.returncode == 0, done.stdout + done.stderr
        said += (done.stdout + done.stderr).encode()
    states = {}
    with worker(stack, given | simulated) as working:
        for command in (("credentials", "show"), ("credentials", "test")):
            done = stack.run(*command, **given, **simulated)
            said += (done.stdout + done.stderr).encode()

        def trade(hours: int = 1) -> str:
            venue.control("clock", {"advance": hours * 3600})
            return stack.trigger("trade/live", {"params": {"plan": PLAN, "mode": "rehearsal"}})

        states["completes"] = stack.await_state(trade(), *ENDED)["state_type"]
        states["breaks"] = break_in_a_task(stack, given | simulated)

        (home / "ready.json").write_text(json.dumps(venue.line | {"host": "127.0.0.1:9"}))
        states["finds no venue"] = stack.await_state(trade(), *ENDED)["state_type"]
        (home / "ready.json").write_text(json.dumps(venue.line))

        before = len(venue.oracle["received"])
        venue.fault("delay", seconds=60)
        run_id = trade(hours=2)  # of the other kind than the first: the plan buys and sells in turn
        until("an order on the wire", lambda: len(venue.oracle["received"]) > before or None)
        process = until("the run's process", partial(run_process, run_id))
        limits = Path(f"/proc/{process}/limits").read_text()
        shown = processes_that_show(songs, working.pid)
        os.kill(process, signal.SIGKILL)
        states["is killed"] = stack.await_state(run_id, *ENDED)["state_type"]
    assert states == {"completes": "COMPLETED", "breaks": "FAILED", "finds no venue": "FAILED", "is killed": "CRASHED"}
    assert re.search(r"Max core file size\s+0\s", limits), limits
    assert shown == []
    prefect, ledger = text_of_prefect(stack), text_of_ledger(stack)
    assert b"it broke while it held CoinbaseKey(ES256, public key" in prefect, "the traceback is there, the key is not"
    assert (stack.home / "logs" / "canary-worker.log").read_bytes().count(b"DEBUG") > 20
    places = {"output": said + stack.output.read_bytes(), "Prefect's database": prefect, "the ledger": ledger}
    assert {place: found for place, data in places.items() if (found := found_in(data, songs))} == {}
    assert files_that_show(stack.home, songs) == []
    tokens = [path for path in (stack.home / "logs").iterdir() if _TOKEN.search(path.read_bytes())]
    assert tokens == []
    assert not _TOKEN.search(prefect), "signatures live for two minutes, and are secrets as well"


def test_the_search_finds_every_form_in_which_a_key_may_lie_about(tmp_path: Path) -> None:
    pem = real_money.keys()["COINBASE_PRIVATE_KEY"]
    songs = {"key": needles(pem)}
    line = pem.splitlines()[1]
    forms = [pem, line, json.dumps({"key": pem}), b64encode(pem.encode()).decode(), b64encode(b"x" + pem.encode()).decode(),
             b64encode(line.encode()).decode(), quote(pem, safe=""), quote(line, safe=""), repr(pem)]  # fmt: skip
    for number, form in enumerate(forms):
        (tmp_path / str(number)).write_text(f"before {form} after")
    assert len(files_that_show(tmp_path, songs)) == len(forms)
    (tmp_path / "clean").write_text("nothing")
    assert len(files_that_show(tmp_path, songs)) == len(forms)
