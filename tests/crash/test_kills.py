"""Runs of the pipeline killed with SIGKILL at random instants and at each of its commits, also twice in a row, and put to sleep.

The process is real, forked from a warm parent that holds no connection; the venue is the paper exchange, which commits on
its own connection before it answers. A killed process takes nothing with it that the next run does not find.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from config.desk import assembled
from tests.builders.plans import LIVELY, NOON, plan
from tests.builders.venues import QuietMarket
from tests.crash import grid
from tests.crash.children import in_a_child
from trading import cycle as cycles
from trading.desk import Desk
from trading.quality import QualityGate
from trading.store.database import connect
from trading.store.verify import verify

KILLS = int(os.environ.get("KEEL_KILLS", "30"))
PRICES = {"BTC-USD": "50000", "ETH-USD": "2000"}


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """The slow imports once, in the parent: every child forks with them."""
    QualityGate().warm()


def run_slot(url: str, number: int, plant: Callable[[Desk], None] | None = None) -> None:
    market = QuietMarket(PRICES, NOON + timedelta(hours=number, seconds=5))
    with assembled(plan(**LIVELY), source=market, url=url) as desk:
        if plant is not None:
            plant(desk)
        cycles.run(desk)


def dies_at(nth: int) -> Callable[[Desk], None]:
    """Plants death before or after the n-th write of the ledger or send to the venue: even numbers before, odd ones after."""

    def plant(desk: Desk) -> None:
        count = iter(range(10**6))

        def deadly(call: Callable[..., object]) -> Callable[..., object]:
            def wrapped(*args: object, **named: object) -> object:
                if next(count) == nth:
                    os.kill(os.getpid(), signal.SIGKILL)
                answer = call(*args, **named)
                if next(count) == nth:
                    os.kill(os.getpid(), signal.SIGKILL)
                return answer

            return wrapped

        journal = desk.journal
        for name in ("record", "claim_slot", "mark_sending"):
            setattr(journal, name, deadly(getattr(journal, name)))
        for name in ("submit", "orders", "fills", "balances"):
            setattr(desk.exchange, name, deadly(getattr(desk.exchange, name)))

    return plant


def check(url: str, slots: int) -> None:
    """Ledger and exchange tell the same: every order once, every fill once, every balance equal."""
    with connect(url) as owner:
        row = owner.execute(
            """select (select count(*) from paper.orders), (select count(distinct client_order_id) from paper.orders),
                      (select count(*) from keel.order_head where exchange_order_id is not null),
                      (select count(*) from paper.fill), (select count(*) from keel.fill),
                      (select count(*) from keel.cycle where state = 'done')"""
        ).fetchone()
        assert row is not None
        made, ids, known, their_fills, our_fills, done = (int(str(value)) for value in row)
        assert made == ids == known
        assert their_fills == our_fills
        assert done == slots
        held = owner.execute(
            """select asset, sum(posted) from keel.account where kind = 'venue' group by asset having sum(posted) <> 0
               except select asset, available + hold from paper.balance"""
        ).fetchall()
        assert held == []
        unknown = "select count(*) from keel.order_head where state in ('sending', 'in_doubt', 'cancelling')"
        assert owner.execute(unknown).fetchone() == (0,)
        assert owner.execute("select class, subject, ours, theirs from keel.recon_break").fetchall() == []
    assert [found for found in verify(url).checks if not found.ok] == []


def test_a_run_killed_before_or_after_any_of_its_writes_is_finished_by_the_next_one(database_url: str) -> None:
    run_slot(database_url, 0)
    slot, killed = 1, 0
    for nth in range(10**6):
        if in_a_child(lambda: run_slot(database_url, slot, dies_at(nth))) == 0:  # noqa: B023 - run at once
            slot += 1
            break  # a whole run has fewer writes than that
        killed += 1
        if nth % 3 == 0:  # dead again, in the middle of the repair
            in_a_child(lambda: run_slot(database_url, slot, dies_at(nth // 2)))  # noqa: B023
        run_slot(database_url, slot)
        slot += 1
        if killed >= KILLS * 4:
            break
    assert killed > 15
    check(database_url, slot)
    grid.write("kills at writes", Counter({("SIGKILL", "before or after a write or a question"): killed}), 0)


def test_a_run_killed_at_a_random_instant_is_finished_by_the_next_one(database_url: str) -> None:
    dice = random.Random(7)  # noqa: S311 - replays by its seed
    run_slot(database_url, 0)
    began = time.monotonic()
    assert in_a_child(lambda: run_slot(database_url, 1)) == 0
    whole = time.monotonic() - began
    died = 0
    for slot in range(2, KILLS + 2):
        died += in_a_child(lambda: run_slot(database_url, slot), dice.uniform(0, whole)) != 0  # noqa: B023
        run_slot(database_url, slot)
    assert died > KILLS / 2
    check(database_url, KILLS + 2)
    grid.write("kills at random", Counter({("SIGKILL", "at a random instant"): died}), 0)


def test_a_run_that_slept_through_its_deadline_sends_nothing_when_it_wakes(database_url: str) -> None:
    """Stopped between the mark and the first byte; another run settles meanwhile, then the sleeper goes on."""
    run_slot(database_url, 0)
    read, write = os.pipe()

    def asleep(desk: Desk) -> None:
        mark = desk.journal.mark_sending

        def marks(*args: object, **named: object) -> object:
            verdicts = mark(*args, **named)  # type: ignore[arg-type]
            os.write(write, b".")
            os.kill(os.getpid(), signal.SIGSTOP)  # longer than the send deadline
            return verdicts

        desk.journal.mark_sending = marks  # type: ignore[assignment,method-assign]

    child = os.fork()
    if child == 0:
        try:
            run_slot(database_url, 1, asleep)
        finally:
            os._exit(0)
    os.read(read, 1)
    os.waitpid(child, os.WUNTRACED)
    with connect(database_url) as owner:
        before = owner.execute("select count(*) from paper.orders").fetchone()
        time.sleep(2.1)  # the send deadline is two seconds of the sleeper's own clock
        os.kill(child, signal.SIGCONT)
        os.waitpid(child, 0)
        assert owner.execute("select count(*) from paper.orders").fetchone() == before
        assert owner.execute("select count(*) from keel.order_event where event = 'abandon'").fetchone() != (0,)
    run_slot(database_url, 2)
    assert [found for found in verify(database_url).checks if not found.ok] == []
