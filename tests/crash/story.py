"""One story of the fault suite: a desk over a venue dies at a failpoint, is opened anew, and must come right.

A story is named by (venue class, replies, points): the same name is the same story. It decides on two slots; the deaths come
wherever the points fall; then two cycles run undisturbed, and everything is compared. The venue is that of the place: here
the scripted one, in `coinbase` the simulated Coinbase.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.builders.plans import NOON, plan
from tests.builders.venues import QuietMarket
from tests.crash.exchange import CLASSES, Wire
from tests.crash.failpoints import Crash, Failpoints
from trading import cycle as cycles
from trading.desk import Desk
from trading.errors import Unanswered
from trading.exchange.port import Exchange
from trading.money import dec
from trading.orders import Mode
from trading.plan import Plan
from trading.quality import QualityGate
from trading.store.books import Books
from trading.store.candles import CandleStore
from trading.store.database import Sessions, connect
from trading.store.journal import Author, Journal
from trading.store.roles import Role
from trading.store.verify import prove
from trading.strategies import create

PRICES = {"BTC-USD": "50000", "ETH-USD": "2000"}
LIVELY = {
    "strategy": {"name": "deployments.bench.cycle:EveryOther"},
    "allocation": {"weight": "0.08", "no_trade_band": "0.001"},
    "limits": {"max_daily_volume_usd": "100000"},
    "costs": {"taker_fee": "0.002", "maker_fee": "0.002", "slippage": "0.001"},
    "breaker": {"max_consecutive_errors": 100, "max_error_rate": "1"},
}
REPLIES = ("ack", "refuse", "drop", "500", "garbage", "slow", "hide:3", "lost", "throttle", "unauthorised", "terms")
QUIET_SECONDS = 150
"""Wall time between two cycles: longer than the quiet time after which absence may be proved."""
_names = itertools.count(1)

Fund = Callable[[str, Decimal, str], None]


@dataclass(frozen=True)
class Story:
    venue: int
    """Which of the venue classes: 0 replays by client id, 1 refuses duplicates, 2 knows nothing."""
    replies: tuple[str, ...] = ()
    points: tuple[tuple[int, ...], ...] = ()
    """For each process in turn: the number of the failpoint at which it dies."""
    batch: int = 1
    refused_reads: int = 0
    fill_lag_seconds: int = 0
    """How much later than their orders fills are told, where the venue can be told so."""


@dataclass
class Told:
    """What came of a story."""

    problems: list[str] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    points: int = 0
    """Failpoints that the first process passed."""

    @property
    def died_at(self) -> str:
        """Where the first process died, as a column of the grid."""
        if not self.deaths:
            return "no death"
        _, _, point = self.deaths[0].partition(" ")
        return point.partition(" ")[0] or "a question without an answer"


@dataclass
class Place:
    """Where stories happen: one ledger, one venue. Each story has a portfolio and an account of its own."""

    url: str
    book: str = ""
    at: datetime = NOON
    slots: int = 0
    """Slots of the story that were begun."""
    passed_seconds: float = 0.0
    """Wall time that went by without anybody waiting for it."""
    ahead_of_venue: timedelta = timedelta()
    """How much our clock is ahead of the venue's, whose time `at` is."""
    ahead_of_ledger: timedelta = timedelta()
    """How much our clock is ahead of that of Postgres."""

    def renew(self) -> None:
        self.book, self.at, self.slots, self.passed_seconds = f"p{os.getpid()}-{next(_names)}", NOON, 0, 0.0

    @property
    def market_at(self) -> datetime:
        """What we take the time for."""
        return self.at + self.ahead_of_venue

    def wall(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.passed_seconds) + self.ahead_of_ledger

    def wait(self, seconds: float) -> None:
        self.passed_seconds += seconds

    def pause(self, seconds: float) -> None:
        """What the desk does between two looks."""
        self.wait(seconds)

    def next_slot(self) -> None:
        self.at += timedelta(hours=1)

    def market(self) -> QuietMarket:
        return QuietMarket(PRICES, self.market_at)

    # ---- the venue

    @contextmanager
    def exchange(self, story: Story, market: QuietMarket) -> Iterator[tuple[Exchange, Fund]]:
        """A fresh connection to the story's account, and what pays the capital into it, once."""
        raise NotImplementedError

    def disturb(self, story: Story) -> None:
        """Plans the venue's replies."""
        raise NotImplementedError

    def calm(self) -> None:
        """Undisturbed from here on."""
        raise NotImplementedError

    def oracle(self) -> dict[str, Any]:
        """What the venue really has of the story's account, hidden or not."""
        raise NotImplementedError


@dataclass
class ScriptedPlace(Place):
    port: int = 0

    @contextmanager
    def exchange(self, story: Story, market: QuietMarket) -> Iterator[tuple[Exchange, Fund]]:
        wire = Wire(self.port, self.book)
        exchange = CLASSES[story.venue](wire, lambda: self.at, market.products)
        exchange.send_batch = story.batch
        exchange.open(PRICES)
        try:
            yield exchange, exchange.fund
        finally:
            wire.close()

    def disturb(self, story: Story) -> None:
        self._ask("plan", script=list(story.replies))
        if story.refused_reads:
            self._ask("fail_reads", count=story.refused_reads)

    def calm(self) -> None:
        self._ask("fail_reads", count=0)
        self._ask("plan", script=[])

    def oracle(self) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("oracle")
        return found

    def _ask(self, op: str, **arguments: object) -> Any:
        wire = Wire(self.port, self.book)
        try:
            return wire.ask(op, **arguments)
        finally:
            wire.close()


def story_plan(portfolio: str) -> Plan:
    return plan(**LIVELY).model_copy(update={"portfolio": portfolio})


@contextmanager
def opened(place: Place, story: Story, points: Failpoints) -> Iterator[Desk]:
    """A desk as a fresh process would have it. Its connections are cut at the end, whatever they were in."""
    made = story_plan(place.book)
    market = place.market()
    with place.exchange(story, market) as (exchange, fund), Sessions(place.url) as sessions:
        desk = Desk(
            plan=made, mode=Mode.PAPER, strategy=create(made.strategy), source=market, exchange=exchange,
            journal=Journal(sessions, lambda: Author("crash")), books=Books(sessions[Role.DECIDE]),
            candles=CandleStore(sessions[Role.DECIDE], market.name), gate=QualityGate(), wall=place.wall,
            monotonic=lambda: 0.0, pause=place.pause, fund=fund,
        )  # fmt: skip
        yield points.around(desk)


def tell(place: Place, story: Story) -> Told:
    """Plays the story and compares; the problems are empty when all came right."""
    told = Told()
    try:
        _play(place, story, told)
    except Exception as error:  # noqa: BLE001 - whatever a run raises that it should not is what is looked for
        told.problems.append(f"{type(error).__name__}: {error}")
    return told


def _play(place: Place, story: Story, told: Told) -> None:
    place.renew()
    place.disturb(story)
    for number, at in enumerate([*story.points, ()]):
        points = Failpoints(at)
        try:
            with opened(place, story, points) as desk:
                _two_slots(place, desk)
        except Crash as death:
            told.deaths.append(str(death))
        except Unanswered as error:  # a read failed for good: the run fails, as it should
            told.deaths.append(error.code)
        if number == 0:
            told.points = len(points.passed)
    place.calm()
    for _ in range(2):
        place.next_slot()
        place.wait(QUIET_SECONDS)
        with opened(place, story, Failpoints()) as desk:
            cycles.run(desk)
    told.problems += compared(place, story, place.oracle())


def _two_slots(place: Place, desk: Desk) -> None:
    cycles.run(desk)
    if not place.slots:
        place.slots += 1
        place.next_slot()
        desk.source.at = place.market_at  # type: ignore[attr-defined]
        cycles.run(desk)


def compared(place: Place, story: Story, oracle: dict[str, Any], *, still_open: bool = False) -> Iterator[str]:
    """Everything that is wrong: an order twice or lost, a fill twice or lost, books that differ, an invariant that fails.

    `still_open`: an order that rests is no problem.
    """
    book, told_otherwise = f"{Mode.PAPER}:{place.book}", any(order["other_terms"] for order in oracle["orders"])
    with connect(place.url) as connection, connection.transaction():
        heads = dict(
            connection.execute("select client_order_id::text, state from keel.order_head where book = %s", (book,)).fetchall()
        )
        fills = {row[0] for row in connection.execute("select entry_id from keel.fill where book = %s", (book,))}
        balances = dict(
            connection.execute(
                "select asset, sum(posted) from keel.account where book = %s and kind = 'venue' group by 1", (book,)
            )
        )
        breaks = connection.execute(
            "select class, subject, ours, theirs from keel.recon_break where book = %s and resolved_at is null", (book,)
        ).fetchall()
        decisions = connection.execute(
            "select slot, product, leg, count(*) from keel.intent where book = %s group by 1, 2, 3 having count(*) > 1", (book,)
        ).fetchall()
        if not heads:
            yield "the ledger has no order: this story tests nothing"
        explained = {"balances_equal_the_venue"} if told_otherwise else set()  # by the open break, until a person has looked
        broken = [check for check in prove(connection).checks if not check.ok and check.name not in explained]
        yield from (f"invariant {check.name}: {check.found}" for check in broken)
    orders = Counter(order["client_order_id"] for order in oracle["orders"])
    yield from (f"order {id_} is {count} times at the venue" for id_, count in orders.items() if count > 1)
    yield from (f"decision {decision} has several orders" for decision in decisions)
    yield from (f"the ledger does not know order {id_}" for id_ in orders if id_ not in heads)
    for id_, state in heads.items():
        if state in ("staged", "sending") or (state == "open" and not still_open) or (state == "in_doubt" and not told_otherwise):
            yield f"order {id_} is still {state}"
        if state == "filled" and id_ not in orders:
            yield f"order {id_} is {state} and not at the venue"
        if state in ("absent", "rejected", "abandoned") and id_ in orders:
            yield f"order {id_} is {state} and at the venue"
    if story.venue:
        yield from (f"order {id_} was sent {count} times" for id_, count in oracle["received"].items() if count > 1)
    if told_otherwise:
        if not any(found[0] == "order_terms" for found in breaks):
            yield "the venue has other terms than we meant, and no break says so"
        return
    theirs = {asset: dec(amount) for asset, amount in oracle["balances"].items()}
    for asset in sorted(theirs.keys() | balances.keys()):
        if theirs.get(asset, 0) != balances.get(asset, 0):
            yield f"{asset}: the ledger has {balances.get(asset)}, the venue {theirs.get(asset)}"
    entries = {fill["entry_id"] for fill in oracle["fills"]}
    if fills != entries:
        yield f"fills missing {sorted(entries - fills)}, too many {sorted(fills - entries)}"
    yield from (f"break {found}" for found in breaks)
