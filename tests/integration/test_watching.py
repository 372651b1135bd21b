"""What the ledger tells the breaker: each sign counted from real rows, and a cycle that opens what it asks for, with evidence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from config.settings import load
from config.vitals import code_version, configuration
from tasks.vitals import watch_machine
from tests.builders.plans import NOON, buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.desk import Desk
from trading.errors import BooksRefused
from trading.orders import Request
from trading.risk import BreakerRow, BreakerState, Cause, Level
from trading.store.database import connect
from trading.store.halting import tighten
from trading.store.heartbeats import beat
from trading.store.journal import Change
from trading.store.signs import Told, told
from trading.store.verify import verify

STRATEGY = "strategy:paper:main:default"


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with quick_desk(database_url, breaker={"cool_down_minutes": 0}) as opened:
        run(opened)
        yield opened
    assert verify(database_url).ok


def signs(desk: Desk) -> Told:
    return told(desk.books.connection, desk.book, desk.plan.name, desk.market_now())


def place(desk: Desk, request: Request) -> None:
    """By hand, an hour later each time: what is sent within one is bounded."""
    later(desk, hours=1)
    done = hand.place(desk, request)
    assert done.order is not None, done


def standing(desk: Desk, scope: str) -> BreakerRow:
    (row,) = desk.books.breakers([scope])
    return row


def test_a_quiet_ledger_shows_nothing(desk: Desk) -> None:
    found = signs(desk)
    assert found._replace(week_start_equity=None) == Told(None, Decimal(0), None, Decimal(0), Decimal(0), None, Decimal(0))
    assert found.week_start_equity == desk.plan.capital


def test_a_week_is_measured_from_the_newest_mark_that_is_seven_days_old(desk: Desk) -> None:
    change = Change()
    for days, equity in ((10, 900), (8, 950), (6, 800)):
        change.add("equity", book=desk.book, plan=desk.plan.name, at=NOON - timedelta(days=days), equity=equity, cash=equity,
                   unrealised=0, realised=0, fees=0)  # fmt: skip
    desk.journal.record("publish", change)
    assert signs(desk).week_start_equity == 950


def test_exits_that_lost_are_counted_back_to_the_last_that_did_not(desk: Desk) -> None:
    market = desk.source.prices  # type: ignore[attr-defined]
    for price, losing in (("49500", 1), ("49000", 2), ("52000", 0), ("48900", 1)):
        market["BTC-USD"] = "50000"
        place(desk, buy(quantity="0.001"))
        market["BTC-USD"] = price
        place(desk, sell(quantity="0.001"))
        assert signs(desk).losing_exits == losing


def test_a_resume_begins_the_count_of_results_anew(desk: Desk) -> None:
    market = desk.source.prices  # type: ignore[attr-defined]
    place(desk, buy(quantity="0.001"))
    market["BTC-USD"] = "49500"
    place(desk, sell(quantity="0.001"))
    assert signs(desk).losing_exits == 1
    hand.trip(desk, STRATEGY, Level.NO_NEW, "a drill")
    later(desk, hours=1)
    hand.resume(desk, [STRATEGY], "over")
    assert signs(desk).losing_exits == 0


def test_rejects_are_counted_for_ten_minutes(desk: Desk, database_url: str) -> None:
    desk.exchange.refuses = "INSUFFICIENT_FUND"  # type: ignore[attr-defined]
    for quantity in ("0.001", "0.0012"):
        place(desk, buy(quantity=quantity))
    assert signs(desk).rejects == 2
    with connect(database_url) as owner:
        owner.execute("alter table keel.order_event disable trigger all")
        owner.execute("update keel.order_event set at = at - interval '10 minutes 1 second'")
        owner.execute("alter table keel.order_event enable always trigger no_change")
    assert signs(desk).rejects == 0


def test_failed_reads_are_counted_and_other_failures_are_not(desk: Desk) -> None:
    change = Change()
    for detail in ("Unanswered: GET /orders", "MarketUnavailable: no candles", "ZeroDivisionError: ours"):
        change.add("operations", book=desk.book, plan=desk.plan.name, kind="cycle", ok=False, detail=detail)
    desk.journal.record("fail", change)
    assert signs(desk).read_failures == 2


def test_a_doubt_is_counted_and_has_an_age(desk: Desk) -> None:
    desk.exchange.visibility_lag_seconds = 120
    desk.exchange.swallows = 9  # type: ignore[attr-defined]
    place(desk, buy())
    found = signs(desk)
    assert found.doubts == 1
    assert found.doubt_age_seconds is not None
    assert found.doubt_age_seconds >= 0


def test_a_cycle_opens_what_its_signs_ask_for_with_the_evidence(desk: Desk) -> None:
    change = Change()
    for _ in range(5):
        change.add("operations", book=desk.book, plan="another", kind="cycle", ok=False, detail="Unanswered: GET /orders")
    desk.journal.record("fail", change)
    later(desk, hours=1)
    cycle = run(desk)
    row = standing(desk, "venue:quick")
    assert (row.state, row.level, row.cause) == (BreakerState.OPEN, Level.NO_NEW, Cause.DOUBT)
    assert row.reason == "read_failures: observed 5, limit 5"
    assert [violation.code for violation in cycle.violations] == ["read_failures"]
    event = desk.books.connection.execute(
        "select violations from keel.breaker_event where scope = 'venue:quick' order by generation desc limit 1"
    ).fetchone()
    assert event == ([{"code": "read_failures", "observed": "5", "limit": "5", "level": "no_new"}],)


def test_four_failed_reads_open_nothing(desk: Desk) -> None:
    change = Change()
    for _ in range(4):
        change.add("operations", book=desk.book, plan="another", kind="cycle", ok=False, detail="Unanswered: GET /orders")
    desk.journal.record("fail", change)
    later(desk, hours=1)
    assert run(desk).violations == []
    assert standing(desk, "venue:quick").state is BreakerState.CLOSED


def fail_runs(desk: Desk, count: int) -> None:
    """So many runs end at their last step: prices came, and perhaps an order went."""
    journal = desk.journal.record

    def record(kind: str, change: Change) -> int:
        if kind == "publish":
            raise BooksRefused("the ledger refused a change: a drill")
        return journal(kind, change)

    desk.journal.record = record  # type: ignore[method-assign]
    for _ in range(count):
        later(desk, hours=1)
        with pytest.raises(BooksRefused, match="a drill"):
            run(desk)
    desk.journal.record = journal  # type: ignore[method-assign]


@pytest.mark.parametrize(("failed", "state"), [(4, BreakerState.CLOSED), (5, BreakerState.OPEN)])
def test_runs_that_fail_one_after_the_other_open_the_plans_breaker(desk: Desk, failed: int, state: BreakerState) -> None:
    fail_runs(desk, failed)
    later(desk, hours=1)
    codes = [violation.code for violation in run(desk).violations]
    row = standing(desk, STRATEGY)
    assert (row.state, codes) == (state, ["consecutive_errors"] if failed == 5 else [])
    if state is BreakerState.OPEN:
        assert (row.level, row.reason) == (Level.NO_NEW, "consecutive_errors: observed 5, limit 5")


def test_an_order_that_was_taken_does_not_end_the_count_of_failed_runs_and_a_run_that_went_through_does(desk: Desk) -> None:
    for _ in range(3):
        fail_runs(desk, 1)
        place(desk, buy(quantity="0.0005"))
    assert desk.books.errors(desk.book, desk.plan.name)[0] == 3
    run(desk)
    assert desk.books.errors(desk.book, desk.plan.name)[0] == 0


def test_a_resume_begins_the_count_of_errors_anew(desk: Desk) -> None:
    fail_runs(desk, 5)
    later(desk, hours=1)
    run(desk)
    fail_runs(desk, 5)
    (resumed,) = hand.resume(desk, [STRATEGY], "looked at it")
    assert isinstance(resumed, BreakerRow)
    assert desk.books.errors(desk.book, desk.plan.name) == (0, 0, 0)
    later(desk, hours=1)
    assert run(desk).violations == []
    assert standing(desk, STRATEGY).state is BreakerState.HALF_OPEN


def test_a_trip_by_a_watch_is_told_apart_from_a_persons(desk: Desk) -> None:
    row = tighten(desk.journal, "global", Level.CANCEL, "x", NOON, actor="test", cause=Cause.LOSS, evidence=[{"code": "x"}])
    assert (row.cause, row.opened_by) == (Cause.LOSS, "test")


def test_slippage_is_the_mean_of_ten_fills_positive_when_it_cost_us(desk: Desk) -> None:
    market, submit = desk.source.prices, desk.exchange.submit  # type: ignore[attr-defined]

    def slipping(body: str, sha256: str) -> object:
        against = Decimal("0.998") if '"sell"' in body else Decimal("1.002")
        market["BTC-USD"] = str(Decimal(market["BTC-USD"]) * against)
        return submit(body, sha256)

    desk.exchange.submit = slipping  # type: ignore[method-assign,assignment]
    for make in (buy, sell) * 5:
        assert signs(desk).mean_slippage is None
        market["BTC-USD"] = "50000"
        place(desk, make(quantity="0.001"))
    slippage = signs(desk).mean_slippage
    assert slippage is not None
    assert round(slippage, 6) == Decimal("0.002")


@pytest.mark.parametrize(("version", "state"), [(None, BreakerState.CLOSED), ("another", BreakerState.OPEN)])
def test_a_run_with_real_orders_stops_beside_another_version_of_the_code(
    desk: Desk, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, state: BreakerState
) -> None:
    monkeypatch.setenv("KEEL_HOME", str(tmp_path))
    beat(database_url, "stack", version or code_version(), configuration(load()))
    found = watch_machine(desk)
    assert standing(desk, "global").state is state
    assert [violation.code for violation in found] == (["code_versions"] if version else [])
