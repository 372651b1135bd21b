"""The watchdog: what it sees at one look, and, as a process beside processes that die, what it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from config.halt import halt_file
from config.settings import PROJECT, Settings
from config.vitals import code_version, configuration
from deployments.watchdog import Watchdog
from tests.builders.plans import PLAN_FILE
from tests.builders.post import Hook, serving
from tests.builders.venues import quick_desk
from trading.cycle import run
from trading.store.database import connect
from trading.store.heartbeats import beat, pulse

KEEL = Path(sys.executable).parent / "keel"


@dataclass
class Clock:
    """A wall clock that a test may move on; the database has its own."""

    ahead: timedelta = field(default=timedelta())

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def watchdog(database_url: str, tmp_path: Path) -> Watchdog:
    settings = Settings(home=tmp_path, DATABASE_URL=database_url, plans=tmp_path, silence_seconds=60)
    return Watchdog(settings=settings, say=lambda _: None, now=Clock(), pause=lambda _: None)


def keys(dog: Watchdog) -> set[str]:
    return {incident.key.removeprefix("watch:") for incident in dog.look()}


def age(database_url: str, process: str, seconds: float) -> None:
    with connect(database_url) as owner:
        owner.execute("update keel.heartbeat set at = at - make_interval(secs => %s) where process = %s", (seconds, process))


def stack_beats(dog: Watchdog, database_url: str, *, stopped: bool = False) -> None:
    beat(database_url, "stack", code_version(), configuration(dog.settings), stopped=stopped)


# -------------------------------------------------------------------------------------------------------- one look


def test_a_well_stack_is_no_news(watchdog: Watchdog, database_url: str) -> None:
    stack_beats(watchdog, database_url)
    assert keys(watchdog) == set()


def test_a_stack_that_never_started_or_was_stopped_is_none_either(watchdog: Watchdog, database_url: str) -> None:
    watchdog.since -= timedelta(hours=1)
    assert keys(watchdog) == set()
    stack_beats(watchdog, database_url, stopped=True)
    age(database_url, "stack", 3600)
    assert keys(watchdog) == set()


@pytest.mark.parametrize(("silent", "found"), [(50, set()), (61, {"heartbeat_age_seconds"})])
def test_silence_counts_from_its_limit_on(watchdog: Watchdog, database_url: str, silent: float, found: set[str]) -> None:
    watchdog.since -= timedelta(hours=1)
    stack_beats(watchdog, database_url)
    age(database_url, "stack", silent)
    assert keys(watchdog) == found


def test_a_stack_gets_its_time_to_start_from_when_the_watchdog_did(watchdog: Watchdog, database_url: str) -> None:
    stack_beats(watchdog, database_url)
    age(database_url, "stack", 3600)
    assert keys(watchdog) == set()


@pytest.mark.parametrize(
    ("version", "configured", "found"),
    [("another", None, {"code_versions"}), (None, "another", {"configurations"}), (None, None, set())],
)
def test_two_versions_or_configurations_at_once_are_seen(
    watchdog: Watchdog, database_url: str, version: str | None, configured: str | None, found: set[str]
) -> None:
    beat(database_url, "stack", version or code_version(), configured or configuration(watchdog.settings))
    assert keys(watchdog) == found


def test_what_is_each_users_own_is_no_second_configuration_and_what_both_trade_by_is(watchdog: Watchdog, tmp_path: Path) -> None:
    own = {"home": tmp_path / "other", "anchors": tmp_path / "anchors", "alert_hosts": "example.org", "alerts": SecretStr("x://y"),
           "simulator_home": tmp_path / "venue"}  # fmt: skip
    settings = watchdog.settings
    assert configuration(settings.model_copy(update=own)) == configuration(settings)
    assert configuration(settings.model_copy(update={"halt_file": tmp_path / "HALT"})) != configuration(settings)


def test_a_clock_that_goes_wrong_is_seen(watchdog: Watchdog, database_url: str) -> None:
    stack_beats(watchdog, database_url)
    for seconds, found in ((0.5, set()), (2, {"clock_offset_seconds"}), (-5, {"clock_offset_seconds", "clock_step_seconds"})):
        watchdog.now = Clock(timedelta(seconds=seconds))
        assert keys(watchdog) == found


def test_a_ledger_that_is_away_is_news_once_it_lasts(tmp_path: Path) -> None:
    clock = Clock()
    settings = Settings(home=tmp_path, DATABASE_URL="postgresql://nobody@127.0.0.1:1/keel", silence_seconds=60)
    dog = Watchdog(settings=settings, say=lambda _: None, now=clock, pause=lambda _: None)
    assert keys(dog) == set()
    clock.ahead = timedelta(seconds=59)
    assert keys(dog) == set()
    clock.ahead = timedelta(seconds=61)
    assert keys(dog) == {"ledger"}


def test_a_ledger_that_takes_no_writes_is_one_that_is_away(watchdog: Watchdog, database_url: str) -> None:
    clock = watchdog.now
    assert isinstance(clock, Clock)
    with connect(database_url) as owner:
        name = psycopg.sql.Identifier(str(owner.info.dbname))
        owner.execute(psycopg.sql.SQL("alter database {} set default_transaction_read_only = on").format(name))
    assert keys(watchdog) == set()
    clock.ahead = timedelta(seconds=61)
    assert keys(watchdog) == {"ledger"}


def test_a_look_that_fails_is_told_and_the_next_one_is_made(watchdog: Watchdog, tmp_path: Path, hook: Hook) -> None:
    class Over(Exception):
        pass

    def pause(_: float) -> None:
        if len(hook.bodies) or not looks:
            raise Over
        looks.pop()

    looks = [1, 2]
    watchdog.settings = watchdog.settings.model_copy(
        update={"alerts": SecretStr(f"json://127.0.0.1:{hook.port}"), "alert_hosts": "127.0.0.1", "plans": tmp_path / "a.toml"}
    )
    (tmp_path / "a.toml").mkdir()
    (tmp_path / "a.toml" / "b.toml").mkdir()  # a plan that cannot be read
    watchdog.pause = pause
    with pytest.raises(Over):
        watchdog.run()
    [body] = hook.bodies
    assert "the watchdog cannot look" in body["title"]


def test_a_due_slot_that_nobody_claimed_is_seen_while_the_stack_should_run(watchdog: Watchdog, database_url: str) -> None:
    with quick_desk(database_url) as desk:
        desk.source.at = datetime.now(UTC)  # type: ignore[attr-defined]
        run(desk)
    with connect(database_url) as owner:
        told = pulse(owner, "", "", datetime.now(UTC))
        assert told.unclaimed_seconds is None
    stack_beats(watchdog, database_url)
    watchdog.since -= timedelta(days=1)
    assert keys(watchdog) == set()
    with connect(database_url) as owner:
        owner.execute("alter table keel.cycle disable trigger all")
        owner.execute("update keel.cycle set slot_at = clock_timestamp() - interval '1 hour 299 seconds'")
        assert keys(watchdog) == set()
        owner.execute("update keel.cycle set slot_at = clock_timestamp() - interval '1 hour 301 seconds'")
    assert keys(watchdog) == {"unclaimed_slot_seconds"}


@pytest.mark.parametrize(("acts", "state"), [("live", "closed"), ("never", "closed"), ("always", "open")])
def test_in_paper_it_alerts_and_trips_nothing_unless_told_to(
    watchdog: Watchdog, database_url: str, acts: str, state: str
) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        watchdog.settings = watchdog.settings.model_copy(update={"watchdog": acts})
        watchdog.since -= timedelta(hours=1)
        stack_beats(watchdog, database_url)
        age(database_url, "stack", 3600)
        assert "heartbeat_age_seconds" in keys(watchdog)
        assert [row.state for row in desk.books.breakers(["global"])] == [state]


def test_where_a_live_portfolio_is_it_trips(watchdog: Watchdog, database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        with connect(database_url) as owner:
            owner.execute("""insert into keel.portfolio (book, mode, name, source, cash_asset, lot_method)
                             values ('live:main', 'live', 'main', 'coinbase', 'USD', 'fifo')""")
        watchdog.since -= timedelta(hours=1)
        stack_beats(watchdog, database_url)
        age(database_url, "stack", 3600)
        watchdog.look()
        (row,) = desk.books.breakers(["global"])
    assert (row.state, row.level, row.opened_by) == ("open", "cancel", "watchdog")
    assert "heartbeat_age_seconds: observed" in row.reason


# ------------------------------------------------------------------------------------------------- as real processes


def eventually(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.1)


@contextmanager
def process(environment: dict[str, str], *command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, env=environment, cwd=PROJECT, text=True, stdout=subprocess.PIPE) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    with serving(server):
        yield server


@pytest.fixture
def environment(database_url: str, tmp_path: Path, hook: Hook) -> dict[str, str]:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "default.toml").write_text(PLAN_FILE)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEEL_", "MAX_", "DATABASE_URL"))}
    return kept | {
        "KEEL_HOME": str(tmp_path),
        "DATABASE_URL": database_url,
        "KEEL_MARKET": "synthetic",
        "KEEL_PLANS": str(tmp_path / "plans"),
        "KEEL_WATCH_SECONDS": "0.2",
        "KEEL_SILENCE_SECONDS": "3",
        "KEEL_WATCHDOG": "always",
        "KEEL_ALERTS": f"json://127.0.0.1:{hook.port}",
        "KEEL_ALERT_HOSTS": "127.0.0.1",
    }


def keel(environment: dict[str, str], *arguments: str) -> str:
    return subprocess.run([str(KEEL), *arguments], env=environment, capture_output=True, text=True, check=True).stdout


def rest(environment: dict[str, str]) -> None:
    """A purchase below the market, at the paper exchange."""
    prices = json.loads(keel(environment, "trade", "--json"))["prices"]
    bid = next(float(row["bid"]) for row in prices if row["product"] == "BTC-USD")
    keel(environment, "order", "BUY", "BTC-USD", "0.0005", "--limit", f"{bid * 0.97:.2f}", "--tif", "gtc")


def states(database_url: str) -> list[str]:
    with connect(database_url) as owner:
        query = "select state from keel.orders where type = 'limit'"
        return [str(row[0]) for row in owner.execute(query)]


BEATS = """
import time
from config.settings import load
from config.vitals import code_version, configuration
from trading.store.heartbeats import beat
settings = load()
while True:
    beat(settings.database_url, "stack", code_version(), configuration(settings))
    print("beat", flush=True)
    time.sleep(0.3)
"""


def test_a_stack_that_is_killed_is_noticed_tripped_cancelled_and_told(
    environment: dict[str, str], database_url: str, hook: Hook
) -> None:
    rest(environment)
    assert states(database_url) == ["open"]
    with process(environment, str(KEEL), "watchdog") as dog, process(environment, sys.executable, "-c", BEATS) as stack:
        assert dog.stdout is not None
        assert stack.stdout is not None
        assert "watching" in dog.stdout.readline()
        assert stack.stdout.readline() == "beat\n"
        assert states(database_url) == ["open"]
        stack.send_signal(signal.SIGKILL)
        eventually(lambda: states(database_url) == ["cancelled"], "the resting order is cancelled")
        eventually(lambda: any("heartbeat_age_seconds" in str(body) for body in hook.bodies), "somebody is told")
    with connect(database_url) as owner:
        found = owner.execute("select state, level, opened_by from keel.breaker where scope = 'global'").fetchone()
    assert found == ("open", "cancel", "watchdog")
    keel(environment, "verify")


def test_a_halt_file_that_anybody_makes_is_followed_without_any_run(
    environment: dict[str, str], database_url: str, hook: Hook
) -> None:
    rest(environment)
    environment["KEEL_WATCHDOG"] = "never"
    with process(environment, str(KEEL), "watchdog") as dog:
        assert dog.stdout is not None
        assert "watching" in dog.stdout.readline()
        halt_file(Settings(home=Path(environment["KEEL_HOME"]))).touch()
        eventually(lambda: states(database_url) == ["cancelled"], "the resting order is cancelled")
        eventually(lambda: any("halt file" in str(body) for body in hook.bodies), "somebody is told")
