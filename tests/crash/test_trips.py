"""Trips at random instants under load, by every path and at each of its levels: nothing that is forbidden leaves after one.

Two real processes send batch after batch, each for a portfolio of its own, over one ledger: their sends wait for each other's
commits, so that a trip falls between them. Then the ledger is asked, in the order of its commits, which the audit chain tells:
no order that the level forbids was marked as sending after the trip. Of the halt file the venue is asked: no order was let
through by a look that began after the file was there.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from config.desk import open_desk
from config.halt import halt_file
from config.postgres import EmbeddedPostgres
from config.settings import Settings, load
from config.vitals import code_version, configuration
from deployments.bench._load import LIMITS, Line, Load, loading, plan_file, prepared, send_one_batch
from deployments.bench.halt import at_work, rehearsed
from deployments.watchdog import Watchdog
from flows.halt import breaker
from flows.parameters import HaltParameters
from tests.crash import grid
from tests.crash.children import in_a_child
from trading import cycle as cycles
from trading import hand, settlement
from trading.desk import Desk, open_books
from trading.movements import Movement, MovementKind
from trading.quality import QualityGate
from trading.resting import unwanted
from trading.risk import Cause, Level
from trading.store.database import Connection, connect
from trading.store.halting import tighten
from trading.store.heartbeats import beat
from trading.store.journal import Change
from trading.store.verify import verify

TRIPS = int(os.environ.get("KEEL_TRIPS", "18"))
SEED = int(os.environ.get("KEEL_CRASH_SEED", "1"))
KEEL = Path(sys.executable).parent / "keel"
PRODUCTS = ("BTC-USD", "ETH-USD", "SOL-USD")
LOADED = {"alpha": 10, "beta": 3}
"""Plans under load, with how many orders each marks in one transaction: a whole batch, or less, so that a trip falls into one."""
FIRST = "alpha"
STRANGER = "gamma"
"""A third plan, whose runs find something wrong with the venue or with everything."""
LATEST_SECONDS = 0.3
"""A trip comes so long after the first batches at the most; one that takes its time to start comes later."""
AIMED = 0.7
"""Share of the trips that wait for a mark."""
KEPT_LEDGERS = 25
COUNTED: Counter[tuple[str, str]] = Counter()
WRONG: list[str] = []
"""Of all tests here: each adds its own and writes the table anew."""


@dataclass(frozen=True, slots=True)
class Trial:
    path: str
    level: Level
    scope: str
    after_seconds: float
    aimed: bool
    """Comes, from that instant on, as soon as orders are just being marked: the moment at which a trip is tightest."""


@dataclass(frozen=True, slots=True)
class Place:
    """A ledger and a home of its own, with the environment of every process that works on them."""

    url: str
    settings: Settings
    environment: Mapping[str, str]


ELSEWHERE = "venue:elsewhere"
"""Tripped first, where it concerns nobody: a connection's second trip is quick enough to overtake a mark under way."""
Fire = Callable[[], object]

# ------------------------------------------------------------------------------------------------------- the paths


@contextmanager
def by_keel_halt(place: Place, _: Trial) -> Iterator[Fire]:
    def fire() -> None:
        command = [str(KEEL), "halt", "a trip"]
        done = subprocess.run(command, env=place.environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    yield fire


@contextmanager
def by_file(place: Place, _: Trial) -> Iterator[Fire]:
    yield halt_file(place.settings).touch


@contextmanager
def by_sql(place: Place, trial: Trial) -> Iterator[Fire]:
    with connect(place.url) as connection:
        connection.execute("set role keel_decide")
        trip = "select keel.trip(%s, %s, 'a trip', 'anna')"
        connection.execute(trip, (ELSEWHERE, Level.REDUCE_ONLY))
        yield lambda: connection.execute(trip, (trial.scope, trial.level))


@contextmanager
def by_hand(place: Place, trial: Trial) -> Iterator[Fire]:
    """What `keel breaker trip` calls."""
    with open_desk(FIRST, settings=place.settings, by_person=True) as desk:
        tighten(desk.journal, ELSEWHERE, Level.REDUCE_ONLY, "a trip", desk.market_now(), actor="anna", cause=Cause.PERSON)
        yield lambda: hand.trip(desk, trial.scope, trial.level, "a trip")


@contextmanager
def by_flow(_: Place, trial: Trial) -> Iterator[Fire]:
    def fire() -> None:
        ended = breaker.fn(HaltParameters(scope=trial.scope, level=trial.level.value, reason="a trip"))
        assert ended.is_completed(), ended.message

    yield fire


@contextmanager
def by_watchdog(place: Place, _: Trial) -> Iterator[Fire]:
    """A stack that is silent."""
    beat(place.url, "stack", code_version(), configuration(place.settings))
    with connect(place.url) as owner:
        owner.execute("update keel.heartbeat set at = at - interval '1 hour'")
    dog = Watchdog(settings=place.settings, say=lambda _: None)
    dog.since -= timedelta(hours=1)
    yield dog.look


@contextmanager
def by_another_run(place: Place, trial: Trial) -> Iterator[Fire]:
    """A whole cycle in a process of its own finds the plan's slippage too high, reads that failed, or money that is gone."""
    if trial.level is not Level.REDUCE_ONLY:
        with open_desk(STRANGER, settings=place.settings) as desk:
            if trial.level is Level.CANCEL:
                gone = Movement(entry_id="gone", kind=MovementKind.WITHDRAWAL, asset="USD", amount=Decimal(100),
                                happened_at=desk.market_now())  # fmt: skip
                assert desk.exchange.move(gone)  # type: ignore[attr-defined]  # the paper exchange's own
            else:
                change = Change()
                for _ in range(desk.plan.breaker.max_read_failures):
                    change.add(
                        "operations", book=desk.book, plan=desk.plan.name, kind="cycle", ok=False, detail="Unanswered: drill"
                    )
                desk.journal.record("fail", change)

    def run() -> None:
        with open_desk(FIRST if trial.level is Level.REDUCE_ONLY else STRANGER, settings=place.settings) as desk:
            cycles.run(desk)

    def fire() -> None:
        assert in_a_child(run) == 0

    yield fire


ALL = tuple(Level)
HALT_FILE = "halt file"
Way = tuple[tuple[Level, ...], Callable[[Place, Trial], AbstractContextManager[Fire]]]
PATHS: dict[str, Way] = {
    HALT_FILE: ((Level.CANCEL,), by_file),
    "SQL": (ALL, by_sql),
    "`keel breaker trip`": (ALL, by_hand),
    "`breaker/halt`": (ALL, by_flow),
    "watchdog": ((Level.CANCEL,), by_watchdog),
    "another run": (ALL, by_another_run),
    "`keel halt`": ((Level.CANCEL,), by_keel_halt),
}
SCOPES = ("global", "portfolio:paper:alpha", "strategy:paper:alpha:alpha", "venue:paper", "product:paper:alpha:BTC-USD")
OWN_ROWS = SCOPES[:-1]
"""Those that every order of the plan goes by; its product's comes on top."""
OWN_SCOPES = {
    Level.REDUCE_ONLY: "strategy:paper:alpha:alpha", Level.NO_NEW: "venue:paper", Level.CANCEL: "global",
}  # fmt: skip
"""What another run opens."""


def trials() -> Iterator[Trial]:
    """Every path at each of its levels in turn, without end; scope and instant by the seed."""
    dice = random.Random(SEED)  # noqa: S311 - replays by its seed
    while True:
        for path, (levels, _) in PATHS.items():
            for level in levels:
                chooses = path in ("SQL", "`keel breaker trip`", "`breaker/halt`")
                scope = dice.choice(SCOPES) if chooses else OWN_SCOPES[level]
                yield Trial(path, level, scope, dice.uniform(0, LATEST_SECONDS), aimed=dice.random() < AIMED)


# ------------------------------------------------------------------------------------------------------- the places


Places = Callable[[], AbstractContextManager[Place]]


@pytest.fixture(scope="module")
def places(postgres: EmbeddedPostgres, fresh_ledger: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Makes a place: a copy of one ledger in which every plan was opened, and those under load hold something to sell."""
    QualityGate().warm()  # every child forks with the slow imports
    folder = tmp_path_factory.mktemp("trips")
    plans = folder / "plans"
    plans.mkdir()
    for name in (*LOADED, STRANGER):
        (plans / f"{name}.toml").write_text(plan_file(name, PRODUCTS))
    template = fresh_ledger()
    with at(template, folder / "template", plans) as first:
        for name in LOADED:
            with open_desk(name, settings=first.settings) as desk:
                send_one_batch(desk, prepared(desk), "first")
        with open_desk(STRANGER, settings=first.settings) as desk:
            open_books(desk)
    copies: list[str] = []
    numbers = itertools.count()

    @contextmanager
    def place() -> Iterator[Place]:
        if len(copies) == KEPT_LEDGERS:  # together: each drop alone waits for a checkpoint
            _drop(postgres, copies)
            copies.clear()
        copies.append(f"trips_{os.getpid()}_{next(numbers)}")
        _copy(postgres, template, copies[-1])
        with at(postgres.url(copies[-1]), folder / copies[-1], plans) as made:
            yield made

    return place


def _copy(postgres: EmbeddedPostgres, template: str, name: str) -> None:
    source = template.partition("?")[0].rpartition("/")[2]
    with connect(postgres.url("postgres")) as admin:
        admin.execute(psycopg.sql.SQL("create database {} template {}").format(*map(psycopg.sql.Identifier, (name, source))))
        admin.execute(psycopg.sql.SQL("alter database {} set synchronous_commit = off").format(psycopg.sql.Identifier(name)))


def _drop(postgres: EmbeddedPostgres, names: list[str]) -> None:
    with connect(postgres.url("postgres")) as admin:
        for name in names:
            admin.execute(psycopg.sql.SQL("drop database {} with (force)").format(psycopg.sql.Identifier(name)))


@contextmanager
def at(url: str, home: Path, plans: Path) -> Iterator[Place]:
    """The place, as this process's own settings as well: the flow reads them."""
    named = LIMITS | {
        "KEEL_HOME": str(home), "DATABASE_URL": url, "KEEL_MARKET": "synthetic", "KEEL_PLANS": str(plans),
        "KEEL_WATCHDOG": "always",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.startswith(("KEEL_", "MAX_", "DATABASE_URL")):
                environment.delenv(name)
        for name, value in named.items():
            environment.setenv(name, value)
        home.mkdir(exist_ok=True)
        yield Place(url, load(), dict(os.environ))


# ------------------------------------------------------------------------------------------------------ what is asked

MARKS = """
with marks as materialized (
  select a.seq, i.client_order_id, i.book, i.plan, i.product, i.side, i.protective
  from keel.audit a, jsonb_array_elements(a.payload::jsonb -> 'events') e
  join keel.intent i on i.client_order_id = (e ->> 'client_order_id')::uuid
  join keel.order_event o on (o.client_order_id, o.seq) = (i.client_order_id, (e ->> 'seq')::int)
  where o.event = 'send'),
trips as materialized (
  select a.seq, b.scope, b.level
  from keel.audit a, jsonb_array_elements(a.payload::jsonb -> 'breakers') t
  join keel.breaker_event b on (b.scope, b.generation) = (t ->> 'scope', (t ->> 'generation')::bigint)
  where b.to_state = 'open'),
covered as (
  select t.seq as trip, t.scope, t.level, m.*,
         m.protective or (t.level = 'reduce_only' and m.side = 'sell') as permitted
  from trips t join marks m on t.scope in ('global', 'venue:paper', 'portfolio:' || m.book,
    'strategy:' || m.book || ':' || m.plan, 'product:' || m.book || ':' || m.product))
"""
"""Sending marks and trips with their places in the chain; each mark beside every trip that concerns its order."""
FORBIDDEN = f"""{MARKS} select scope, level, trip, seq, side, product, client_order_id::text
                from covered where seq > trip and not permitted order by seq"""
BEFORE = f"""{MARKS} select count(*) from covered where seq < trip and scope = %s and level = %s and not permitted"""
HELD_BACK = "select count(*) from keel.order_event where event = 'abandon' and evidence = 'breaker_open'"
OUTSIDE_OF_THE_CHAIN = f"""{MARKS} select client_order_id::text from keel.order_event
                           where event = 'send' and client_order_id not in (select client_order_id from marks)"""


@dataclass(frozen=True, slots=True)
class Told:
    """What one trial came to."""

    sent_before: int
    """Orders of the kind that the trip forbids, sent before it: proof that it came under way."""
    held_back: int
    """Orders that were stopped after it: proof that it was tried."""
    problems: list[str]

    @property
    def counts(self) -> bool:
        return self.sent_before > 0 and self.held_back > 0


def tell(place: Place, trial: Trial) -> Told:
    """One trip under load, and what ledger and venue say of it."""
    with ExitStack() as stack:
        loads = [
            stack.enter_context(loading(opens(place, name), place.settings.home / f"{name}.load", marked_together))
            for name, marked_together in LOADED.items()
        ]
        watcher = stack.enter_context(connect(place.url))
        fire = stack.enter_context(PATHS[trial.path][1](place, trial))
        for one in loads:
            one.await_batches(1)
        time.sleep(trial.after_seconds)  # the instant itself is what is being tried
        if trial.aimed:
            await_mark(watcher)
        fire()
        fired_at = time.monotonic()
        for one in loads:
            one.await_batches(2)
    found = by_the_venue(loads, fired_at) if trial.path == HALT_FILE else by_the_ledger(place, trial)
    if trial.level is Level.CANCEL:
        found.problems.extend(still_resting(place))
    found.problems.extend(str(check) for check in verify(place.url).checks if not check.ok)
    return found


def await_mark(watcher: Connection) -> None:
    """Returns while some order is being marked as sending."""
    query = """select from pg_stat_activity where datname = current_database() and state = 'active'
               and query like 'select * from keel.mark\\_sending%'"""
    end = time.monotonic() + 30
    while not watcher.execute(query).fetchall():
        assert time.monotonic() < end, "nobody marks an order within 30 s"


def opens(place: Place, name: str) -> Callable[[], AbstractContextManager[Desk]]:
    return lambda: open_desk(name, settings=place.settings)


def by_the_ledger(place: Place, trial: Trial) -> Told:
    with connect(place.url) as owner:
        owner.execute("analyze")  # no statistics yet: the joins would be nested loops
        ((before,),) = owner.execute(BEFORE, (trial.scope, trial.level)).fetchall()
        ((held_back,),) = owner.execute(HELD_BACK).fetchall()
        problems = [f"sent after the trip: {row}" for row in owner.execute(FORBIDDEN).fetchall()]
        problems += [f"sent outside of the chain: {row}" for row in owner.execute(OUTSIDE_OF_THE_CHAIN).fetchall()]
    return Told(int(str(before)), int(str(held_back)), problems)


def by_the_venue(loads: list[Load], there_at: float) -> Told:
    """The file was there from `there_at` on: no look that began later lets an order through, and no order goes without one.

    So each load has one order at most that was on its way when the file came, and arrives after it.
    """
    problems: list[str] = []
    before = looked = 0
    for lines in (one.lines() for one in loads):
        problems += [f"let through after the file was there: {line}" for line in slipped(lines, there_at)]
        arrived = [line for line in lines if line.kind == "arrived"]
        before += sum(line.at < there_at for line in arrived)
        looked += sum(line.kind == "looked" and line.at > there_at for line in lines)
        if len(late := [line for line in arrived if line.at > there_at]) > 1:
            problems.append(f"arrived after the file was there: {late}")
    return Told(before, looked, problems)


def slipped(lines: list[Line], there_at: float) -> Iterator[Line]:
    """Arrivals that no look let through, or one that began when the file was there."""
    passed: Line | None = None
    for line in lines:
        if line.kind == "arrived" and (passed is None or passed.at > there_at):
            yield line
        passed = line if line.kind == "passed" else None if line.kind == "arrived" else passed


def still_resting(place: Place) -> Iterator[str]:
    """What a breaker at cancel wants gone and the venue has all the same, once the next runs have settled."""
    for name in LOADED:
        with open_desk(name, settings=place.settings) as desk:
            settlement.settle(desk)
            yield from (f"rests though it is to be cancelled: {order.id}" for order in unwanted(desk))
            (row, *_) = desk.books.breakers(["global"])
            if halt_file(place.settings).exists() and row.level is not Level.CANCEL:
                yield f"the file opened no breaker: {row}"


def test_nothing_that_a_trip_forbids_is_sent_after_it(places: Places) -> None:
    failed: list[str] = []
    counted: Counter[tuple[str, str]] = Counter()
    for trial in itertools.islice(trials(), 2 * TRIPS):
        with places() as place:
            told = tell(place, trial)
        if told.problems:
            failed.append(f"{trial}: {told.problems[:5]}")
        if told.counts:  # else it came too early or was not tried: another one is drawn
            counted[trial.path, trial.level.value.replace("_", " ")] += 1
        if counted.total() == TRIPS:
            break
    COUNTED.update(counted)
    WRONG.extend(failed)
    grid.write("trips", COUNTED, len(WRONG))
    assert failed == [], "\n".join(failed[:20])
    assert counted.total() == TRIPS, f"too many trips came too early, or were not tried: {counted}"


def test_a_trip_waits_for_a_mark_that_has_read_the_breakers(places: Places) -> None:
    """What the trials find by chance, made certain: a mark in an open transaction holds every breaker that it went by."""
    with places() as place, connect(place.url) as marking, connect(place.url) as tripping:
        ((epoch,),) = marking.execute("select epoch from keel.portfolio where book = 'paper:alpha'").fetchall()
        tripping.execute("set role keel_decide")
        tripping.execute("set lock_timeout = '100ms'")
        with marking.transaction():
            marking.execute(
                "select * from keel.mark_sending('paper:alpha', %s, '{}', %s, false, 'anna', '', '')", (epoch, list(OWN_ROWS))
            )
            for scope in OWN_ROWS:
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    tripping.execute("select keel.trip(%s, 'no_new', 'a trip', 'anna')", (scope,))
        for scope in OWN_ROWS:
            tripping.execute("select keel.trip(%s, 'no_new', 'a trip', 'anna')", (scope,))


def test_at_coinbase_nothing_passes_the_socket_once_the_halt_file_is_there(fresh_ledger: Callable[[], str]) -> None:
    """The real client, whose budget lets an order wait after its last look in the pipeline: the socket looks once more."""
    dice = random.Random(SEED)  # noqa: S311 - replays by its seed
    failed: list[str] = []
    for _ in range(max(1, TRIPS // 20)):
        with pytest.MonkeyPatch.context() as environment:
            for name, value in LIMITS.items():
                environment.setenv(name, value)
            with rehearsed(fresh_ledger()) as home, at_work(home) as load_:
                load_.await_batches(1)
                time.sleep(dice.uniform(0, 10 * LATEST_SECONDS))  # a batch takes seconds here
                halt_file(home.settings).touch()
                there_at, there = time.monotonic(), datetime.now(UTC)
                load_.await_batches(2)
                listed = home.venue.exchange().orders(there)
                told = by_the_venue([load_], there_at)
        failed += told.problems
        if len(late := [order for order in listed if order.created_at > there]) > 1:
            failed.append(f"the venue made orders after the file was there: {late}")
        assert told.counts
        COUNTED[f"{HALT_FILE}, Coinbase", "cancel"] += 1
    WRONG.extend(failed)
    grid.write("trips", COUNTED, len(WRONG))
    assert failed == [], "\n".join(failed[:20])
