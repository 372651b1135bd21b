"""The readings of the ledger, against trades whose every number was worked out by hand.

buy 0.001 BTC at 50,000, fee 1      cash 1000 − 50 − 1 = 949
sell 0.0005 at 50,500, fee 1        cash 949 + 25.25 − 1 = 973.25, realised 25.25 − 25 = 0.25
left: 0.0005 BTC that cost 25, marked at the newest stored close (about 50,000: the candles do not know the sale)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from config.postgres import EmbeddedPostgres
from tests.builders.plans import NOON, buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.errors import ConfigurationError, LedgerUnavailable
from trading.report import gather, to_html
from trading.risk import Level
from trading.store.database import connect, engine, migrate
from trading.store.reports import Reports, Scope
from trading.store.rows import plain

ALL = Scope()
DEFAULT = Scope(mode="paper", portfolio="main", plan="default")


@pytest.fixture(scope="module")
def reports(postgres: EmbeddedPostgres) -> Iterator[Reports]:
    postgres.create_database("keel_reports")
    url = postgres.url("keel_reports")
    migrate(url)
    with quick_desk(url) as desk:
        run(desk)
        later(desk, minutes=10)
        hand.place(desk, buy("BTC-USD", "0.001"))
        desk.source.prices["BTC-USD"] = "50500"
        later(desk, minutes=10)
        hand.place(desk, sell("BTC-USD", "0.0005"))
        hand.place(desk, buy("BTC-USD", "7"))
        hand.trip(desk, "strategy:paper:main:default", Level.NO_NEW, "a drill")
    bind = engine(url)
    yield Reports(bind)
    bind.dispose()
    with connect(postgres.url("postgres")) as admin:
        admin.execute("drop database keel_reports with (force)")


@pytest.fixture(scope="module")
def empty(postgres: EmbeddedPostgres) -> Iterator[Reports]:
    postgres.create_database("keel_reports_empty")
    migrate(postgres.url("keel_reports_empty"))
    bind = engine(postgres.url("keel_reports_empty"))
    yield Reports(bind)
    bind.dispose()
    with connect(postgres.url("postgres")) as admin:
        admin.execute("drop database keel_reports_empty with (force)")


def test_orders_come_in_the_order_they_were_made(reports: Reports) -> None:
    assert [(row.slot, row.side, row.state, row.filled) for row in reports.orders(ALL)] == [
        ("hand:1", "buy", "filled", Decimal("0.001")),
        ("hand:2", "sell", "filled", Decimal("0.0005")),
    ]


def test_fills_carry_what_slippage_is_measured_from(reports: Reports) -> None:
    assert [(fill.price, fill.fee, fill.fee_asset, fill.decision_price) for fill in reports.fills(ALL)] == [
        (Decimal(50000), Decimal(1), "USD", Decimal(50000)),
        (Decimal(50500), Decimal(1), "USD", Decimal(50500)),
    ]


def test_a_position_is_marked_at_the_newest_stored_close(reports: Reports) -> None:
    [row] = reports.positions(DEFAULT)
    assert (row.product, row.quantity, row.cost, row.priced_at) == ("BTC-USD", Decimal("0.0005"), Decimal(25), NOON)
    assert row.price == reports.marks(["BTC-USD"])["coinbase", "BTC-USD"][0]
    assert row.unrealised == row.quantity * row.price - 25


def test_equity_is_cash_and_holdings(reports: Reports) -> None:
    [row] = reports.equity(DEFAULT)
    [held] = reports.positions(DEFAULT)
    assert (row.capital, row.cash, row.realised, row.fees) == (Decimal(1000), Decimal("973.25"), Decimal("0.25"), Decimal(2))
    assert held.value is not None
    assert row.equity == Decimal("973.25") + held.value
    assert row.equity == row.capital + row.realised + (row.unrealised or 0) - row.fees


def test_results_are_told_by_day_and_product(reports: Reports) -> None:
    [row] = reports.pnl(ALL)
    assert (row.day, row.product, row.asset) == (date(2026, 11, 24), "BTC-USD", "USD")
    assert (row.realised, row.fees, row.net) == (Decimal("0.25"), Decimal(2), Decimal("-1.75"))


def test_a_closed_trade_says_what_it_cost_and_brought(reports: Reports) -> None:
    [trade] = reports.closed_trades(ALL)
    assert (trade.quantity, trade.cost, trade.proceeds) == (Decimal("0.0005"), Decimal(25), Decimal("25.25"))
    assert (trade.realised, trade.fees) == (Decimal("0.25"), Decimal(1))


def test_the_curve_holds_every_mark(reports: Reports) -> None:
    opening = NOON - timedelta(seconds=1)
    assert [(point.at, point.equity) for point in reports.equity_curve(ALL)] == [(opening, Decimal(1000)), (NOON, Decimal(1000))]


@pytest.mark.parametrize(
    ("scope", "orders"),
    [(ALL, 2), (DEFAULT, 2), (Scope(plan="other"), 0), (Scope(mode="live"), 0), (Scope(portfolio="mai"), 0)],
    ids=["everything", "the plan", "another plan", "another mode", "half a name"],
)
def test_a_scope_narrows(reports: Reports, scope: Scope, orders: int) -> None:
    assert len(reports.orders(scope)) == orders
    assert sum(reports.outcomes(scope).values()) == orders
    assert len(reports.fills(scope)) == orders
    assert bool(reports.positions(scope)) == bool(orders)
    assert bool(reports.cycles(scope)) == bool(orders)


def test_since_is_market_time(reports: Reports) -> None:
    assert [fill.side for fill in reports.fills(ALL, NOON + timedelta(minutes=15))] == ["sell"]


def test_an_order_is_found_by_either_id_and_by_how_it_begins(reports: Reports) -> None:
    first = reports.orders(ALL)[0]
    for name in (str(first.client_order_id), first.exchange_order_id, str(first.client_order_id)[:8]):
        assert name is not None
        assert reports.order(name) == first


@pytest.mark.parametrize("name", ["", "%", "_", "nonsense"])
def test_what_names_no_single_order_is_refused(reports: Reports, name: str) -> None:
    with pytest.raises(ConfigurationError, match="expected the id of one order"):
        reports.order(name)


def test_an_order_is_explained_to_the_last_posting(reports: Reports) -> None:
    order = reports.orders(ALL)[1]
    found = reports.explain(order)
    assert [event["event"] for event in found["events"]] == ["send", "ack", "fill"]
    assert {row["state"] for row in found["breaker"]} == {"closed"}
    assert found["evaluation"]["approved"] is True
    assert all(check["passed"] for check in found["evaluation"]["body"]["checks"])
    assert sum(row["amount"] for row in found["postings"] if row["asset"] == "USD") == 0
    assert [row.kind for row in found["audit"]] == ["order.stage", "order.send", "order.outcome", "reconcile"]
    assert {row.flow_run_id for row in found["audit"]} == {"flow-1"}
    assert found["terms"]["body_sha256"] in str(plain(found))
    json.dumps(plain(found))


def test_a_break_and_a_trip_are_on_record(reports: Reports) -> None:
    moves = [event for event in reports.breaker_events() if event.from_state]
    assert [(event.scope, event.to_state, event.actor) for event in moves] == [("strategy:paper:main:default", "open", "anna")]
    assert reports.breaks(ALL) == []


def test_the_report_of_the_plan_agrees_with_the_readings(reports: Reports) -> None:
    figures = gather(reports, "paper", "main", "default", days=30, written_at=datetime.now(UTC))
    [product] = figures.products
    assert figures.total == product.net  # everything that was won or lost came from its one product
    assert figures.outcomes == {"filled": 2}
    assert [event.reason for event in figures.breaker_events] == ["a drill"]
    assert figures.statistics["win_rate"] == 0.0  # 0.25 of gain, 1 of fee
    assert figures.statistics["slippage_mean"] == 0.0
    assert "BTC-USD" in to_html(figures)


def test_a_plan_without_books_has_no_report(empty: Reports) -> None:
    with pytest.raises(ConfigurationError, match="expected a plan that has run once"):
        gather(empty, "paper", "main", "default", days=30, written_at=NOON)


def test_a_ledger_without_anything_reads_empty(empty: Reports) -> None:
    readings = (empty.orders, empty.fills, empty.positions, empty.pnl, empty.equity, empty.equity_curve, empty.closed_trades)
    assert [reading(ALL) for reading in readings] == [[]] * len(readings)


def test_a_ledger_that_is_away_is_an_error_of_ours(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(LedgerUnavailable):
        Reports(engine(postgres.url("no_such_database"))).orders(ALL)
