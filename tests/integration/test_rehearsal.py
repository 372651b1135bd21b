"""Rehearsals: the live code over the real SDK and sockets against the simulated Coinbase, checks, arming and shadow included.

Fifty slots with faults at every kind of call and runs killed with SIGKILL: at the end the books equal the venue's own truth to
the last unit, with one order per decision. And without faults, the real plan and its paper shadow decide the same.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from config.anchors import anchor_after, evidence
from config.clock import wall_clock
from config.desk import open_desk, open_shadow
from config.settings import PROJECT, Settings
from tasks.alerts import unsafe
from tests.builders.plans import LIVELY, plan
from tests.builders.simulator import Running, running
from trading import cycle as cycles
from trading import hand, rollout
from trading.desk import Desk, day_start
from trading.errors import ConfigurationError, KeelError
from trading.money import floor_to, text
from trading.orders import Mode, OrderType, Request, Side, State, TimeInForce
from trading.quality import QualityGate
from trading.reconcile import reconcile
from trading.resolution import resolve
from trading.risk import BreakerRow
from trading.shadow import divergence
from trading.store.journal import Author
from trading.store.standing import armed_until
from trading.store.verify import verify

SLOTS = int(os.environ.get("KEEL_REHEARSED_SLOTS", "50"))
PLAN = plan(
    **LIVELY
    | {"limits": {"max_daily_volume_usd": "1000000", "max_order_size_usd": "100"}, "ramp": {"steps": ["1000", "2000"], "days": 0}}
    | {"breaker": LIVELY["breaker"] | {"cool_down_minutes": 0}, "costs": {"taker_fee": "0.009", "maker_fee": "0.005"}}
)
NO_ANSWER = (
    "drop",
    "error_500",
    "html_502",
    "rate_limited",
    "accept_then_drop",
    "accept_then_500",
    "accept_then_502",
    "truncated_json",
)
READS = ("list_orders", "get_fills", "get_accounts", "get_best_bid_ask", "get_products")


@dataclass
class Rehearsal:
    """A simulator, a ledger and the time that passes at both."""

    venue: Running
    settings: Settings
    later: timedelta = field(default_factory=timedelta)

    def desk(self, **options: bool) -> AbstractContextManager[Desk]:
        return open_desk(PLAN, mode=Mode.REHEARSAL, settings=self.settings, author=lambda: Author("test"), **options)

    def run(self, scheduled_at: datetime | None = None) -> cycles.Cycle:
        with self.desk() as desk:
            self.put_off(desk)
            cycle = cycles.run(desk, scheduled_at)
            anchor_after(desk, self.settings)
            return cycle

    def put_off(self, desk: Desk) -> None:
        """Doubts wait for wall time, which a test does not have; a pause lets it pass."""
        desk.wall = lambda: wall_clock() + self.later
        desk.pause = self.passes

    def passes(self, seconds: float) -> None:
        self.later += timedelta(seconds=seconds)

    def next_hour(self) -> None:
        self.venue.control("clock", {"advance": 3600})
        self.passes(130)

    def run_with_shadow(self) -> tuple[cycles.Cycle, cycles.Cycle]:
        """The next slot, for real and on paper."""
        self.next_hour()
        cycle = self.run()
        with open_shadow(PLAN, Mode.REHEARSAL, settings=self.settings) as paper:
            return cycle, cycles.run(paper, cycle.slot_at)

    def bought(self) -> cycles.Cycle:
        """The run of the next slot that buys: the strategy buys at every other one."""
        for _ in range(2):
            self.next_hour()
            cycle = self.run()
            if any(fill.side is Side.BUY for fill in cycle.executed.fills):
                return cycle
        pytest.fail(f"nothing was bought: {cycle.summary}")

    def person(self, *, reason: str = "seen") -> bool:
        """Looks at every break, leads every breaker out, and arms: what a run may need after a mishap. True if all went."""
        with self.desk(by_person=True) as desk:
            self.put_off(desk)
            with hand.at_the_desk(desk):
                reconcile(desk)
            for row in desk.books.open_breaks(desk.book):
                resolve(desk, row["id"], reason)
            resumed = all(isinstance(row, BreakerRow) for row in hand.resume(desk, None, reason))
            rollout.arm(desk, timedelta(hours=24), reason)
            anchor_after(desk, self.settings)
            return resumed


@pytest.fixture
def rehearsal(database_url: str, tmp_path: Path) -> Iterator[Rehearsal]:
    QualityGate().warm()
    options = ("--prices", "synthetic", "--start", "2026-03-01T00:10:00Z", "--public-rate", "0")
    with running(tmp_path / "simulator", *options) as venue:
        yield Rehearsal(venue, Settings(home=tmp_path / "keel", database_url=database_url, simulator_home=tmp_path / "simulator"))


def held(oracle: dict[str, Any]) -> dict[str, Decimal]:
    """Asset -> what the venue's truth says the account holds."""
    (accounts,) = (assets for assets in oracle["balances"].values() if assets)
    return {asset: total for asset, row in accounts.items() if (total := Decimal(row["total"]))}


def test_a_new_rehearsal_sends_nothing_until_a_person_has_led_it_out(rehearsal: Rehearsal) -> None:
    cycle = rehearsal.run()
    assert {row["code"] for row in cycle.summary["refused"]} == {"not_safe"}
    assert rehearsal.venue.oracle["orders"] == []
    assert rehearsal.person()
    assert rehearsal.bought()


def test_what_the_checks_forbid_is_an_incident_and_nothing_is_one_when_they_pass(rehearsal: Rehearsal) -> None:
    with rehearsal.desk() as desk:
        cycles.run(desk)
        (incident,) = unsafe(desk)
    assert incident.title == "rehearsal:main may not trade: reconciled, anchor, breaker, arming"
    assert incident.key.startswith("unsafe:rehearsal:main:")
    assert rehearsal.person()
    rehearsal.next_hour()
    with rehearsal.desk() as desk:
        cycles.run(desk)
        assert unsafe(desk) == []


def test_the_end_of_the_arming_stops_new_risk_and_lets_exits_go(rehearsal: Rehearsal) -> None:
    rehearsal.run()
    assert rehearsal.person()
    rehearsal.bought()
    with rehearsal.desk(by_person=True) as desk:
        for _ in range(50):  # a whole day is allowed, to the microsecond
            rollout.arm(desk, timedelta(hours=24), "again")
        rollout.disarm(desk, "enough")
        assert armed_until(desk.books.connection, desk.book) is not None
    sides = Counter[Side]()
    for _ in range(3):
        rehearsal.next_hour()
        sides.update(fill.side for fill in rehearsal.run().executed.fills)
    assert sides[Side.SELL] > 0
    assert sides[Side.BUY] == 0


def test_without_faults_the_paper_shadow_decides_the_same_and_differs_only_in_its_fills(rehearsal: Rehearsal) -> None:
    rehearsal.run()
    assert rehearsal.person()
    for _ in range(6):
        cycle, shadow = rehearsal.run_with_shadow()
        assert shadow.signals == cycle.signals
    with rehearsal.desk() as desk:
        told = divergence(desk.books.connection, desk.book, desk.plan.name, cycle.market_at - timedelta(days=1))
    assert told.compared >= 6
    assert told.price != 0, "fills differ"
    assert [pair for pair in told.pairs if pair.signal != "both"] == []


def test_a_plan_is_promoted_with_cash_of_its_own_account_and_its_shadow_follows(rehearsal: Rehearsal) -> None:
    rehearsal.run()
    assert rehearsal.person()
    with pytest.raises(ConfigurationError, match="divergence: found 0 over 0 orders"), rehearsal.desk(by_person=True) as desk:
        rollout.promote(desk, "too early")
    for _ in range(2):
        rehearsal.run_with_shadow()
    with rehearsal.desk(by_person=True) as desk:
        rehearsal.put_off(desk)
        stands = rollout.promote(desk, "a good week")
        assert (stands.step, stands.capital) == (1, Decimal(2000))
    rehearsal.next_hour()
    cycle = rehearsal.run()
    assert not cycle.violations, "money that was given is no gain, and none is lost"
    assert Decimal(cycle.summary["equity"]["equity"]) > 1900
    with open_shadow(PLAN, Mode.REHEARSAL, settings=rehearsal.settings) as paper:
        assert paper.plan.capital == Decimal(2000)
        assert Decimal(cycles.run(paper, cycle.slot_at).summary["equity"]["equity"]) > 1900
    assert verify(str(rehearsal.settings.database_url), evidence(rehearsal.settings)).ok


def test_a_drawdown_takes_a_plan_one_step_back_and_its_cash_with_it(rehearsal: Rehearsal) -> None:
    rehearsal.run()
    assert rehearsal.person()
    for _ in range(2):
        rehearsal.run_with_shadow()
    with rehearsal.desk(by_person=True) as desk:
        rehearsal.put_off(desk)
        rollout.promote(desk, "a good week")
        assert rollout.demote_for_cause(desk) == "", "nothing went wrong yet"
    for _ in range(3):  # fees alone are a loss
        rehearsal.next_hour()
        rehearsal.run()
    strict = PLAN.model_copy(update={"ramp": PLAN.ramp.model_copy(update={"max_drawdown": Decimal("0.00001")})})
    with open_desk(strict, mode=Mode.REHEARSAL, settings=rehearsal.settings) as desk:
        rehearsal.put_off(desk)
        cause = rollout.demote_for_cause(desk)
        stands = rollout.ramp(desk)
        assert cause.startswith("drawdown: found 0.00")
        assert (stands.step, stands.capital, stands.reason) == (0, Decimal(1000), cause)
        assert rollout.demote_for_cause(desk) == "", "there is no step below the first"
        held = desk.books.portfolio(desk.book, desk.plan.name, "USD", day_start(desk.market_now()), desk.market_now())
        assert held.cash < 1000
    rehearsal.next_hour()
    cycle = rehearsal.run()
    assert not cycle.violations, "money that was taken is no loss"


def in_a_child(action: Callable[[], object], kill_after: float | None) -> int:
    """The child's wait status; with `kill_after`, it gets SIGKILL so many seconds after it began."""
    child = os.fork()
    if child == 0:
        if kill_after is not None:
            signal.setitimer(signal.ITIMER_REAL, kill_after)
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            action()
        except BaseException:  # noqa: BLE001 - the status tells; pytest's own teardown belongs to the parent
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return status


def test_fifty_slots_with_faults_and_kills_end_equal_to_the_venue(rehearsal: Rehearsal) -> None:
    rehearsal.run()
    assert rehearsal.person()
    chance = random.Random(20261124)  # noqa: S311 - repeatable
    ended = Counter[str]()
    for _ in range(SLOTS):
        rehearsal.next_hour()
        if chance.random() < 0.5:
            rehearsal.venue.fault(
                chance.choice(NO_ANSWER), "create_order", count=chance.choice((1, 1, 2)), skip=chance.choice((0, 1))
            )
        if chance.random() < 0.3:
            rehearsal.venue.fault(
                chance.choice(("drop", "error_500", "html_502")), chance.choice(READS), count=chance.choice((1, 3))
            )
        if chance.random() < 0.2:
            rehearsal.venue.fault("hide_order", "create_order", seconds=100)  # within the lag that the venue states
        kill_after = chance.uniform(0.05, 0.6) if chance.random() < 0.3 else None
        status = in_a_child(rehearsal.run, kill_after)
        ended["killed" if os.WIFSIGNALED(status) else "failed" if os.waitstatus_to_exitcode(status) else "done"] += 1
        if os.waitstatus_to_exitcode(status):
            continue
        with rehearsal.desk() as desk:
            needs_person = bool(desk.books.open_breaks(desk.book)) or any(row.level for row in desk.books.breakers(desk.scopes))
        if needs_person and chance.random() < 0.5:
            try:
                ended["resumed" if rehearsal.person() else "not resumed"] += 1
            except KeelError:
                ended["no answer for a person"] += 1
    rehearsal.venue.control("faults", method="DELETE")
    rehearsal.venue.control("clock", {"advance": 8000})  # what was hidden shows
    with rehearsal.desk() as desk:
        rehearsal.put_off(desk)
        for _ in range(4):
            with hand.at_the_desk(desk):
                reconcile(desk)
            rehearsal.passes(130)
        oracle = rehearsal.venue.oracle
        ours = {asset: posted for asset, posted in desk.books.venue_balances(desk.book).items() if posted}
        assert ours == held(oracle)
        sent = [row["client_order_id"] for row in oracle["orders"]]
        assert len(sent) == len(set(sent)), "one order per decision"
        known = {
            str(order.id): order for order in desk.books.orders_told(desk.book, [], [row["order_id"] for row in oracle["orders"]])
        }
        assert set(sent) == set(known), "none is lost"
        assert {id_: order.filled for id_, order in known.items()} == {
            row["client_order_id"]: Decimal(row["filled_size"]) for row in oracle["orders"]
        }
        assert not [order for order in desk.books.live_orders(desk.book) if order.state is not State.OPEN]
    assert verify(str(rehearsal.settings.database_url), evidence(rehearsal.settings)).ok
    assert ended["killed"] > SLOTS // 20, ended
    assert len(sent) > SLOTS // 2, ended


def test_a_fill_is_booked_while_nothing_runs_but_the_listener(rehearsal: Rehearsal) -> None:
    rehearsal.run()
    assert rehearsal.person()
    with rehearsal.desk(by_person=True) as desk:
        limit = floor_to(desk.exchange.quotes(["BTC-USD"], desk.market_now())["BTC-USD"].bid * Decimal("0.99"), Decimal("0.01"))
        terms = {"type": OrderType.LIMIT, "limit_price": limit, "time_in_force": TimeInForce.GTC}
        placed = hand.place(desk, Request(product="BTC-USD", side=Side.BUY, quantity=Decimal("0.0005"), **terms), "rests")  # type: ignore[arg-type]
        assert placed.order is not None, placed
        assert placed.order.state is State.OPEN
    environment = os.environ | {
        "KEEL_HOME": str(rehearsal.settings.home), "DATABASE_URL": str(rehearsal.settings.database_url),
        "KEEL_SIMULATOR_HOME": str(rehearsal.settings.simulator_home),
    }  # fmt: skip
    command = [sys.executable, "-c", "from deployments.cli import main; main()", "listen", "--mode", "rehearsal"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as listener:
        try:
            assert listener.stdout is not None
            assert "listening at wss://127.0.0.1" in listener.stdout.readline()
            rehearsal.venue.control("market", {"product_id": "BTC-USD", "price": str(limit * Decimal("0.98"))})
            rehearsal.venue.control("clock", {"advance": 60})
            booked = listener.stdout.readline()
        finally:
            listener.send_signal(signal.SIGINT)
            listener.communicate(timeout=60)  # what it says at its end needs a reader
    assert booked.startswith(f"booked: buy 0.0005 BTC-USD at {text(limit)}")
    assert listener.returncode == 0
    with rehearsal.desk() as desk:
        assert desk.books.orders([placed.order.id])[placed.order.id].state is State.FILLED
