"""The cycle as it runs: real ledger, real paper exchange, generated candles; after each story the books are checked."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.builders.desks import replay_desk
from trading import cycle as cycles
from trading.desk import Desk
from trading.errors import ConfigurationError, OutcomeUnknown
from trading.money import ZERO
from trading.orders import Side, State
from trading.outside import PLAN
from trading.reconcile import reconcile
from trading.resolution import resolve
from trading.risk.breaker import BreakerState
from trading.store.database import connect


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    with replay_desk(database_url, tmp_path / "candles") as opened:
        yield opened
        check_books(opened)


def check_books(desk: Desk) -> None:
    """What must hold after every story: the ledger equals the exchange, and lots equal the trading accounts."""
    assert reconcile(desk).differences == ()
    rows = desk.books.connection.execute("select asset, sum(amount) from keel.posting group by asset having sum(amount) <> 0")
    assert rows.fetchall() == []
    held = desk.books.connection.execute("""
        select a.product, a.posted from keel.account a where a.kind = 'trading' and a.asset = split_part(a.product, '-', 1)
        and a.posted <> -coalesce(
          (select sum(left_quantity) from keel.lot l where l.product = a.product and l.plan = a.plan), 0)""")
    assert held.fetchall() == []


def trade_until(desk: Desk, side: Side, most: int = 120) -> cycles.Cycle:
    """Runs cycles until one has sent an order of that side."""
    for _ in range(most):
        cycle = cycles.run(desk)
        orders = desk.books.orders(cycle.executed.states).values()
        if any(order.intent.request.side is side for order in orders):
            return cycle
    raise AssertionError(f"no {side} in {most} cycles")


def test_a_replay_goes_one_slot_further_with_each_cycle(desk: Desk) -> None:
    first, second = cycles.run(desk), cycles.run(desk)
    assert first.slot_at is not None
    assert second.slot_at == first.slot_at + timedelta(hours=1)
    assert first.summary["outcome"] == second.summary["outcome"] == "traded"


def test_thirty_slots_trade_and_the_equity_is_what_the_fills_say(desk: Desk) -> None:
    for _ in range(30):
        last = cycles.run(desk)
    rows = desk.books.connection.execute("select product, side, quantity, price, fee from keel.fill").fetchall()
    assert rows, "thirty slots of these candles trade"
    cash, held = Decimal(1000), {}
    for product, side, quantity, price, fee in rows:  # a second way of counting, from the raw fills alone
        sign = Decimal(1 if side == "buy" else -1)
        cash -= sign * quantity * price + fee
        held[product] = held.get(product, ZERO) + sign * quantity
    assert last.market is not None
    equity = cash + sum((quantity * last.market.quotes[product].mid for product, quantity in held.items()), ZERO)
    assert last.summary["equity"]["cash"] == str(cash.normalize().__format__("f"))
    assert Decimal(last.summary["equity"]["equity"]) == equity


def test_a_replay_ends_and_says_so(database_url: str, tmp_path: Path) -> None:
    with replay_desk(database_url, tmp_path, length=180) as desk:
        slots = 180 - desk.history + 1
        outcomes = [cycles.run(desk).summary["outcome"] for _ in range(slots + 2)]
    assert outcomes == ["traded"] * slots + ["ended"] * 2


def test_a_buy_is_explained_filled_and_booked(desk: Desk) -> None:
    cycle = trade_until(desk, Side.BUY)
    [order] = desk.books.orders(cycle.executed.states).values()
    assert order.state is State.FILLED
    assert order.intent.request.reason
    assert cycle.summary["orders"][0]["state"] == "filled"
    assert cycle.summary["positions"]


def test_a_slot_run_twice_trades_once(desk: Desk) -> None:
    cycle = trade_until(desk, Side.BUY)
    assert cycle.claim is not None
    again = desk.journal.claim_slot(
        desk.book,
        desk.plan.name,
        cycle.slot_at,
        cycle.market_at,
        desk.plan.sha256,
        "run",
        "",
    )
    assert again.outcome == "done"


def test_an_accepted_order_whose_answer_is_lost_is_in_doubt_and_found_in_the_same_run(desk: Desk) -> None:
    def lose(_: str) -> None:
        raise OutcomeUnknown("the answer was lost")

    desk.exchange.after_commit = lose  # type: ignore[attr-defined]
    cycle = trade_until(desk, Side.BUY)
    # The scan that follows a doubt found the order at the exchange, so it is adopted and booked: it was sent once.
    assert set(cycle.executed.states.values()) == {State.FILLED}
    events = desk.books.connection.execute("select event from keel.order_event order by client_order_id, seq").fetchall()
    assert [event for (event,) in events][:4] == ["send", "doubt", "ack", "fill"]


def kill(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(url: str, folder: Path, plant: Callable[[Desk], None]) -> None:
    """Runs cycles in a process of its own until what `plant` planted kills it."""
    with replay_desk(url, folder) as desk:
        cycles.run(desk)  # writes the candles and opens the books
    child = os.fork()
    if child == 0:
        with replay_desk(url, folder) as desk:
            plant(desk)
            for _ in range(120):
                cycles.run(desk)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_run_killed_after_the_venue_accepted_leaves_one_order_that_the_next_run_books(
    database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "candles"
    run_until_killed(database_url, folder, lambda desk: setattr(desk.exchange, "after_commit", kill))
    with replay_desk(database_url, folder) as desk, connect(database_url) as owner:
        [left] = desk.books.live_orders(desk.book)
        assert left.state is State.SENDING
        resumed = cycles.run(desk)
        settled = desk.books.orders([left.id])[left.id]
        assert settled.state is State.FILLED
        assert resumed.claim is not None
        assert resumed.claim.outcome == "resumed"
        count = owner.execute("select count(*) from paper.orders").fetchone()
        ours = desk.books.connection.execute(
            "select count(*) from keel.order_head where exchange_order_id is not null"
        ).fetchone()
        assert count == ours
        check_books(desk)


def test_a_run_killed_between_stage_and_send_is_taken_over_and_its_order_is_sent(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "candles"
    run_until_killed(database_url, folder, lambda desk: setattr(desk.journal, "mark_sending", kill))
    with replay_desk(database_url, folder) as desk:
        [left] = desk.books.live_orders(desk.book)
        assert left.state is State.STAGED
        cycles.run(desk)
        assert desk.books.orders([left.id])[left.id].state is State.FILLED
        check_books(desk)


def test_a_planted_difference_becomes_a_break_and_freezes_the_asset(desk: Desk, database_url: str) -> None:
    trade_until(desk, Side.BUY)
    product = next(iter(desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).positions))
    asset = product.split("-")[0]
    plant = "update paper.balance set available = available + %s where asset = %s"
    with connect(database_url) as owner:
        owner.execute(plant, (Decimal("0.5"), asset))
    found = reconcile(desk)
    assert [(difference.kind, difference.subject) for difference in found.differences] == [("balance", asset)]
    assert asset in desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).frozen
    # The ledger says what the venue says, against suspense; the open break says why, and a person ends it.
    assert desk.books.suspense(desk.book, asset) == [(PLAN, Decimal("-0.5"))]
    again = reconcile(desk)
    assert (again.differences, again.open_breaks, again.clean) == ((), 1, False)
    (row,) = desk.books.open_breaks(desk.book)
    resolve(desk, row["id"], "a gift of the exchange")
    assert reconcile(desk).clean
    assert desk.books.suspense(desk.book, asset) == []


def test_an_open_breaker_lets_no_entry_through_and_says_why(desk: Desk, database_url: str) -> None:
    trade_until(desk, Side.BUY)
    scope = f"strategy:{desk.book}:default"
    # Losses beyond the day's limit: the price falls by a third at once.
    with connect(database_url) as owner:
        owner.execute(
            "insert into keel.equity select book, plan, at + interval '1 second', equity * 2, cash, unrealised, realised, fees "
            "from keel.equity order by at desc limit 1"
        )
    cycle = cycles.run(desk)
    assert {violation.code for violation in cycle.violations} >= {"drawdown"}
    assert desk.books.breakers([scope])[0].state is BreakerState.OPEN
    assert not any(order.intent.request.side is Side.BUY for order in desk.books.orders(cycle.executed.states).values())


def test_a_gated_product_takes_no_new_risk_while_the_other_trades(database_url: str, tmp_path: Path) -> None:
    with replay_desk(database_url, tmp_path) as desk:
        original = desk.source.candles

        def broken(since, interval, until):  # noqa: ANN001, ANN202
            rows = original(since, interval, until)
            rows.loc[rows["product"] == "BTC-USD", "high"] = 0.01
            return rows

        desk.source.candles = broken  # type: ignore[method-assign]
        for _ in range(60):
            cycle = cycles.run(desk)
            assert cycle.market is not None
            assert "BTC-USD" in cycle.market.gated
        products = {row[0] for row in desk.books.connection.execute("select product from keel.intent").fetchall()}
        assert products == {"ETH-USD"}
        check_books(desk)


def test_a_portfolio_refuses_another_market(database_url: str, tmp_path: Path) -> None:
    with replay_desk(database_url, tmp_path / "one") as desk:
        cycles.run(desk)
    with pytest.raises(ConfigurationError, match="expected replay:"), replay_desk(database_url, tmp_path / "two"):
        pass


def test_the_candles_of_a_slot_are_reproducible_by_hash(desk: Desk) -> None:
    cycle = cycles.run(desk)
    assert cycle.slot_at is not None
    again = desk.candles.load(desk.plan.products, "1h", cycle.slot_at, desk.history)
    stored = desk.books.connection.execute("select candles_sha from keel.cycle").fetchone()
    assert stored == (again.digest(),)
