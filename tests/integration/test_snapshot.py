"""The one reading of the books that every screen shows, against trades whose every number is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from deployments.cli import app
from deployments.cli.watch import draw
from deployments.dashboard import tables
from tests.builders.plans import NOON, buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.dashboard import Snapshot, desks, take
from trading.desk import Desk
from trading.report import gather
from trading.report.markdown import results
from trading.risk import Level
from trading.store.reports import Reports, Scope

DEFAULT = Scope(mode="paper", portfolio="main", plan="default")


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with quick_desk(database_url) as desk:
        run(desk)
        yield desk


def taken(reports: Reports, minutes: int = 30) -> Snapshot:
    found = take(reports, DEFAULT, NOON + timedelta(minutes=minutes))
    assert found is not None
    return found


def trade(desk: Desk) -> None:
    """Buys 0.001 BTC at 50,000 and sells half of it at 50,500: 25 at cost are left."""
    later(desk, minutes=10)
    hand.place(desk, buy("BTC-USD", "0.001"))
    desk.source.prices["BTC-USD"] = "50500"
    later(desk, minutes=10)
    hand.place(desk, sell("BTC-USD", "0.0005"))


def test_no_books_no_snapshot(reports: Reports) -> None:
    assert take(reports, DEFAULT, NOON) is None
    assert desks(reports) == []


def test_the_plans_that_have_books_are_named(desk: Desk, reports: Reports) -> None:
    assert desk.book == "paper:main"
    assert desks(reports) == [DEFAULT]


def test_what_happened_last_comes_first(desk: Desk, reports: Reports) -> None:
    trade(desk)
    seen = taken(reports)
    assert [(order.side, order.state) for order in seen.orders] == [("sell", "filled"), ("buy", "filled")]
    assert [fill.side for fill in seen.fills] == ["sell", "buy"]
    assert seen.outcomes == {"filled": 2}
    assert seen.doubts == 0


def test_its_figures_are_those_of_the_report(desk: Desk, reports: Reports) -> None:
    trade(desk)
    seen, told = taken(reports), gather(reports, "paper", "main", "default", days=30, written_at=NOON)
    assert (seen.equity, list(seen.positions), seen.total) == (told.now, list(told.positions), told.total)
    assert seen.outcomes == told.outcomes


def test_results_since_the_opening_add_up_to_those_of_the_days(desk: Desk, reports: Reports) -> None:
    trade(desk)
    [day] = reports.pnl(DEFAULT)
    assert taken(reports).results == {"BTC-USD": (day.realised, day.fees)} == {"BTC-USD": (Decimal("0.25"), Decimal(2))}


def test_limits_are_used_as_far_as_the_books_say(desk: Desk, reports: Reports) -> None:
    trade(desk)
    seen = taken(reports)
    assert seen.risk is not None
    uses = {use.code: use for use in seen.risk.limits}
    assert uses["day_volume"].observed == Decimal("75.25")
    assert uses["open_positions"].observed == 1
    [held] = seen.positions
    assert seen.equity.equity is not None
    assert held.value is not None
    assert uses["position_share"].observed == held.value / seen.equity.equity
    assert uses["position_share"].share == uses["position_share"].observed / desk.plan.breaker.max_position_share
    assert uses["daily_loss_usd"].observed == 1000 - seen.equity.equity


def test_only_breakers_that_bind_the_plan_are_shown(desk: Desk, reports: Reports) -> None:
    hand.trip(desk, "strategy:paper:main:default", Level.NO_NEW, "a drill")
    [open_one] = taken(reports).halted
    assert (open_one.scope, open_one.level, open_one.reason) == ("strategy:paper:main:default", "no_new", "a drill")


def test_dashboard_report_and_command_line_say_the_same(
    desk: Desk, reports: Reports, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> None:
    trade(desk)
    monkeypatch.setenv("KEEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATABASE_URL", database_url)
    seen, told = taken(reports), gather(reports, "paper", "main", "default", days=30, written_at=NOON)
    printed = json.loads(CliRunner().invoke(app, ["equity", "--json"]).output)
    screen = StringIO()
    Console(file=screen, width=200).print(draw(seen))
    shown = dict(results(told))
    for name in ("equity", "cash", "realised", "unrealised", "fees"):
        amount = Decimal(printed[name])
        assert amount == getattr(seen.equity, name)
        for said in (shown[name.capitalize()], screen.getvalue()):
            assert f"{amount:,.2f}" in said, (name, said)
    [row] = json.loads(CliRunner().invoke(app, ["positions", "--json"]).output)
    [held] = tables.positions(seen)
    assert (held["quantity"], held["price"], held["unrealised"]) == (
        row["quantity"],
        row["price"],
        round(float(row["unrealised"]), 2),
    )


def test_the_terminal_prints_the_books_once_where_that_is_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> None:
    trade(desk)
    monkeypatch.setenv("KEEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATABASE_URL", database_url)
    found = CliRunner().invoke(app, ["watch", "--once"])
    assert found.exit_code == 0, found.output
    for said in ("PAPER", "paper:main / default", "BTC-USD", "open_positions"):
        assert said in found.output
