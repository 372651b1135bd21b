"""Racing schedulers, floods of late runs, and a ledger put back from an old backup: one order per decision."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from multiprocessing.synchronize import Barrier

import psycopg
import pytest

from config.desk import assembled
from config.postgres import EmbeddedPostgres
from tests.builders.plans import LIVELY, NOON, plan
from tests.builders.venues import QuickExchange, QuietMarket, quick_desk
from tests.crash import grid
from trading import cycle as cycles
from trading import hand
from trading.breaks import KINDS
from trading.desk import Desk
from trading.orders import Request, Side
from trading.reconcile import reconcile
from trading.resolution import resolve
from trading.store.database import connect
from trading.store.verify import verify

SLOTS = int(os.environ.get("KEEL_RACE_SLOTS", "20"))
LATE = int(os.environ.get("KEEL_LATE_RUNS", "60"))
PRICES = {"BTC-USD": "50000", "ETH-USD": "2000"}
FORK = multiprocessing.get_context("fork")
COUNTED: Counter[tuple[str, str]] = Counter()
"""Slots by fault and what was made of them; each test adds its own and writes the table anew."""


def racer(url: str, barrier: Barrier, slots: int, late: float) -> None:
    """One scheduler: takes every slot at the same moment as the others, by cron or (every third one) by hand."""
    market = QuietMarket(PRICES)
    with assembled(plan(**LIVELY), source=market, url=url) as desk:
        for number in range(slots):
            market.at = NOON + timedelta(hours=number, seconds=5 + late)
            barrier.wait(120)
            cycles.run(desk, None if number % 3 == 2 else NOON + timedelta(hours=number))


@pytest.mark.parametrize("racers", [2, 4])
def test_schedulers_that_race_trade_each_slot_once(database_url: str, racers: int) -> None:
    with assembled(plan(**LIVELY), source=QuietMarket(PRICES, NOON - timedelta(minutes=30)), url=database_url) as desk:
        cycles.run(desk)  # opens the books
    barrier = FORK.Barrier(racers)
    processes = [FORK.Process(target=racer, args=(database_url, barrier, SLOTS, number)) for number in range(racers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(250)
    assert [process.exitcode for process in processes] == [0] * racers
    with connect(database_url) as owner:
        (made, ids, decisions) = owner.execute(
            """select (select count(*) from paper.orders), (select count(distinct client_order_id) from paper.orders),
                      (select count(distinct (slot, product, leg)) from keel.intent)"""
        ).fetchone() or (0, 0, 0)
        assert made == ids == decisions
        assert int(str(made)) >= SLOTS / 2
        slots = owner.execute("select count(*) from keel.cycle where state = 'done'").fetchone()
        assert slots == (SLOTS + 1,)
    assert [check for check in verify(database_url).checks if not check.ok] == []
    COUNTED[f"{racers} schedulers race", "slots"] = SLOTS
    COUNTED[f"{racers} schedulers race", "orders"] = int(str(made))
    grid.write("races", COUNTED, 0)


def test_a_flood_of_late_runs_trades_nothing_and_each_is_written_down(database_url: str) -> None:
    market = QuietMarket(PRICES)
    with assembled(plan(**LIVELY), source=market, url=database_url) as desk:
        cycles.run(desk)
        market.at = NOON + timedelta(hours=LATE + 2)
        for number in range(1, LATE + 1):
            assert cycles.run(desk, NOON + timedelta(hours=number)).summary["outcome"] in ("skipped", "repeated")
    with connect(database_url) as owner:
        assert owner.execute(
            "select count(*) from keel.intent where decided_at > %s", (NOON + timedelta(hours=1),)
        ).fetchone() == (0,)
        rows = owner.execute(
            "select count(*), count(*) filter (where reason <> '') from keel.cycle where state = 'skipped'"
        ).fetchone()
        assert rows == (LATE, LATE)
    COUNTED["a flood of late runs", "slots"] = LATE
    grid.write("races", COUNTED, 0)


@pytest.fixture
def backup(postgres: EmbeddedPostgres, database_url: str) -> Iterator[tuple[str, str]]:
    """(ledger, name of a copy of it that `copy` makes)."""
    name = f"backup_{os.getpid()}"
    yield database_url, name
    with connect(postgres.url("postgres")) as admin:
        admin.execute(psycopg.sql.SQL("drop database if exists {} with (force)").format(psycopg.sql.Identifier(name)))


def test_a_restored_backup_sends_nothing_twice_and_waits_for_a_person(
    postgres: EmbeddedPostgres, backup: tuple[str, str]
) -> None:
    url, name = backup
    with quick_desk(url) as desk:
        market, exchange = desk.source, desk.exchange
        hand.place(desk, buy("BTC-USD"), "1")
        assert reconcile(desk).clean
    source = url.split("?")[0].rsplit("/", 1)[1]
    with connect(postgres.url("postgres")) as admin:
        admin.execute(psycopg.sql.SQL("create database {} template {}").format(*map(psycopg.sql.Identifier, (name, source))))
    with quick_desk(url) as desk:
        desk.source, desk.exchange = market, exchange
        hand.place(desk, buy("BTC-USD"), "2")
        hand.place(desk, buy("ETH-USD", "0.02"), "3")
    assert isinstance(exchange, QuickExchange)
    made = dict(exchange.placed)

    with quick_desk(postgres.url(name)) as desk:  # the ledger of before, the venue of now
        desk.source, desk.exchange = market, exchange
        assert hand.place(desk, buy("BTC-USD"), "2").code == "asset_frozen"
        assert exchange.placed == made, "nothing was sent"
        assert sorted(row["class"] for row in desk.books.open_breaks(desk.book)) == ["order_lost", "order_lost"]
        assert balances(desk) == {asset: held for asset, held in exchange.held.items() if held}
        for row in desk.books.open_breaks(desk.book):
            assert KINDS[row["class"]].severity == 1
            resolve(desk, row["id"], "of the hour that the backup lacks", adopt=True)
        held = desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).positions
        assert {product: position.quantity for product, position in held.items()} == {
            "BTC-USD": Decimal("0.002"), "ETH-USD": Decimal("0.02"),
        }  # fmt: skip
        assert reconcile(desk).clean
        market.at += timedelta(hours=2)  # type: ignore[attr-defined]  # the cool-down
        hand.resume(desk, None, "the books are whole")
        market.at += timedelta(days=2)  # type: ignore[attr-defined]
        hand.place(desk, buy("BTC-USD"), "2")
        assert exchange.placed == made, "the decision of that reference was made before"
        hand.place(desk, buy("BTC-USD"), "4")
        assert len(exchange.placed) == len(made) + 1
    assert [check for check in verify(postgres.url(name)).checks if not check.ok] == []


def buy(product: str, quantity: str = "0.001") -> Request:
    return Request(product=product, side=Side.BUY, quantity=Decimal(quantity))


def balances(desk: Desk) -> dict[str, Decimal]:
    return {asset: posted for asset, posted in desk.books.venue_balances(desk.book).items() if posted}
