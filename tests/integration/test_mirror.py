"""The mirror in Supabase: every change arrives, once in effect, in order, and outages delay nothing but the mirror."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest

from config.postgres import EmbeddedPostgres
from tests.builders.plans import buy, sell
from tests.builders.postgrest import KEY, Supabase, apply, supabase
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.dashboard import DashboardReporter, NotTold
from trading.dashboard.mirror import TABLES, catch_up
from trading.desk import Desk
from trading.errors import ConfigurationError
from trading.incidents import incidents
from trading.risk import Level
from trading.store.database import connect
from trading.store.mirroring import SUPABASE, Lag, lag, told_to
from trading.store.reports import Reports


@pytest.fixture
def project(postgres: EmbeddedPostgres) -> Iterator[Supabase]:
    postgres.create_database("supabase")
    with supabase(postgres.url("supabase")) as made:
        yield made
    with connect(postgres.url("postgres")) as admin:
        admin.execute("drop database supabase with (force)")


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with quick_desk(database_url) as desk:
        run(desk)
        yield desk


def trade(desk: Desk) -> None:
    later(desk, minutes=10)
    hand.place(desk, buy("BTC-USD", "0.001"))
    hand.place(desk, sell("BTC-USD", "0.0005"))


def mirror(url: str, reports: Reports, project: Supabase) -> int:
    async def told() -> int:
        async with DashboardReporter(project.address, KEY) as reporter:
            return await catch_up(url, reports, reporter)

    return asyncio.run(told())


def behind_by(reports: Reports) -> Lag | None:
    with reports.driver() as connection:
        return lag(connection, SUPABASE)


def test_what_was_traded_stands_in_the_mirror(desk: Desk, reports: Reports, project: Supabase, database_url: str) -> None:
    trade(desk)
    hand.trip(desk, "strategy:paper:main:default", Level.NO_NEW, "a drill")
    mirror(database_url, reports, project)
    assert [(row["side"], row["state"]) for row in sorted(project.rows("orders"), key=lambda row: row["slot"])] == [
        ("buy", "filled"), ("sell", "filled"),
    ]  # fmt: skip
    assert {Decimal(str(row["quantity"])) for row in project.rows("fills")} == {Decimal("0.001"), Decimal("0.0005")}
    [position] = project.rows("positions")
    assert (position["state"], Decimal(str(position["quantity"]))) == ("open", Decimal("0.0005"))
    assert [row["equity"] for row in project.rows("pnl")] == [1000, 1000]
    [risk] = project.rows("risk_metrics")
    assert (risk["open_positions"], risk["drawdown"], risk["plan"]) == (0, 0, "default")
    assert [row["reason"] for row in project.rows("breaker_events") if row["state"] == "open"] == ["a drill"]
    steps = {(row["from_state"], row["to_state"]) for row in project.rows("order_events")}
    assert {("staged", "sending"), ("open", "filled")} <= steps


def test_a_position_that_was_sold_is_closed(desk: Desk, reports: Reports, project: Supabase, database_url: str) -> None:
    later(desk, minutes=10)
    hand.place(desk, buy("BTC-USD", "0.001"))
    mirror(database_url, reports, project)
    hand.place(desk, sell("BTC-USD", "0.001"))
    mirror(database_url, reports, project)
    assert [(row["state"], row["quantity"]) for row in project.rows("positions")] == [("closed", 0)]


def test_an_outage_delays_no_trade_and_loses_nothing(desk: Desk, reports: Reports, project: Supabase, database_url: str) -> None:
    mirror(database_url, reports, project)
    project.is_down = True
    trade(desk)
    with pytest.raises(NotTold, match="503"):
        mirror(database_url, reports, project)
    behind = behind_by(reports)
    assert behind is not None
    assert behind.records > 0
    assert behind.seconds > 0
    project.is_down = False
    assert mirror(database_url, reports, project) == behind.records
    assert behind_by(reports) == Lag(0, 0)
    assert len(project.rows("fills")) == 2


def test_an_answer_that_is_lost_is_told_again_and_changes_nothing(
    desk: Desk, reports: Reports, project: Supabase, database_url: str
) -> None:
    trade(desk)
    project.loses_answers = 1
    with pytest.raises(NotTold):
        mirror(database_url, reports, project)
    assert told_to(reports, SUPABASE) == 0
    mirror(database_url, reports, project)
    once = {table: project.rows(table) for table in TABLES}
    with connect(database_url) as connection:
        connection.execute("delete from keel.mirror")  # as after a restore of an older backup
    mirror(database_url, reports, project)
    assert {table: project.rows(table) for table in TABLES} == once


def test_an_older_row_does_not_replace_a_newer_one(project: Supabase) -> None:
    async def told() -> None:
        async with DashboardReporter(project.address, KEY) as reporter:
            for seq, state in ((7, "open"), (5, "closed")):
                await reporter.tell("breaker_events", [{
                    "key": "global:1", "scope": "global", "generation": 1, "state": state, "level": None, "reason": "",
                    "seq": seq, "recorded_at": "2026-11-24T12:00:00Z",
                }])  # fmt: skip

    asyncio.run(told())
    assert [(row["seq"], row["state"]) for row in project.rows("breaker_events")] == [(7, "open")]


def test_a_mirror_that_stays_behind_is_an_incident(desk: Desk, reports: Reports, project: Supabase, database_url: str) -> None:
    mirror(database_url, reports, project)
    trade(desk)
    with connect(database_url) as connection:
        assert incidents(connection) == []
        connection.execute("alter table keel.audit disable trigger all")
        connection.execute("update keel.audit set at = '2026-01-01T00:00:00.000000Z'")
        [found] = incidents(connection)
    assert (found.key, found.severity.word) == ("mirror:supabase", "warning")


def test_a_second_look_has_nothing_to_tell(desk: Desk, reports: Reports, project: Supabase, database_url: str) -> None:
    trade(desk)
    assert mirror(database_url, reports, project) > 0
    taken = list(project.requests)
    assert mirror(database_url, reports, project) == 0
    assert project.requests == taken


def test_programs_may_report_by_themselves(project: Supabase) -> None:
    async def told() -> None:
        async with DashboardReporter(project.address, KEY) as reporter:
            for _ in range(2):
                await reporter.report_order_placed(
                    order_id="a", symbol="BTC-USD", side="BUY", quantity=0.1, order_type="market", price=None
                )
            await reporter.report_order_filled(order_id="a", symbol="BTC-USD", side="BUY", quantity="0.1", price=50000)
            await reporter.report_position_opened(position_id="p", symbol="BTC-USD", side="long", quantity=1, entry_price=2)
            await reporter.report_position_closed(
                position_id="p", symbol="BTC-USD", side="long", quantity=1, entry_price=2, exit_price=3, pnl=1
            )
            await reporter.report_pnl(at="2026-11-24T12:00:00Z", realised=1, unrealised=0)
            await reporter.report_risk_metrics(at="2026-11-24T12:00:00Z", drawdown=0.02)
            await reporter.report_circuit_breaker(at="2026-11-24T12:00:00Z", state="open", reason="a drill")

    asyncio.run(told())
    assert [row["kind"] for row in project.rows("reports")] == [
        "circuit_breaker", "order_filled", "order_placed", "pnl", "position_closed", "position_opened", "risk_metrics",
    ]  # fmt: skip
    assert project.rows("reports")[2]["body"]["quantity"] == "0.1"


def test_a_wrong_key_is_said_without_the_key(project: Supabase) -> None:
    reporter = DashboardReporter(project.address, "not-the-key")
    with pytest.raises(NotTold, match="401") as refused:
        asyncio.run(reporter.report_circuit_breaker(at="now", state="open"))
    assert "not-the-key" not in f"{refused.value} {reporter!r}"


@pytest.mark.parametrize("address", ["http://project.supabase.co", "ftp://127.0.0.1", "project.supabase.co"])
def test_the_key_never_leaves_in_the_clear(address: str) -> None:
    with pytest.raises(ConfigurationError, match="expected https"):
        DashboardReporter(address, KEY)


def test_only_who_is_logged_in_reads_and_only_the_service_writes(project: Supabase) -> None:
    with connect(project.database) as connection:
        apply(connection)  # again: nothing is lost, nothing fails
        connection.execute("set role anon")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from public.orders")
        connection.execute("set role authenticated")
        connection.execute("select * from public.orders")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from public.orders")
