"""Plans that share an account: each has its own money there, their sum is the account, and none spends another's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.postgres import EmbeddedPostgres
from tests.builders.plans import NOON, buy, sell
from tests.builders.venues import later, quick_desk
from trading import execution, hand
from trading.desk import Desk, open_books
from trading.errors import BooksRefused
from trading.ledger import OUTSIDE
from trading.money import ZERO
from trading.orders import Request
from trading.reconcile import reconcile
from trading.store.database import connect, engine, migrate
from trading.store.reports import Reports, Scope
from trading.store.verify import verify

PLANS = {"first": "600", "second": "300", "third": "100"}
CASH = sum(map(Decimal, PLANS.values()), ZERO)

orders = st.lists(
    st.tuples(st.sampled_from(sorted(PLANS)), st.sampled_from([buy, sell]), st.integers(1, 12)), min_size=1, max_size=6
)


@contextmanager
def desks(url: str) -> Iterator[dict[str, Desk]]:
    """Three desks at one venue, in one portfolio. The limits are wide: what stops a plan is its own money alone."""
    wide = {"max_order_size_usd": "100000", "max_daily_volume_usd": "1000000", "max_position_size": "1",
            "max_daily_loss_usd": "100000", "max_portfolio_volatility": "100"}  # fmt: skip
    controls = {"max_orders_per_hour": 1000, "max_orders_per_day": 10_000, "max_repeated_entries": 10_000}
    bounds = {"limits": wide, "checks": {"max_leverage": 1}, "controls": controls}
    with (
        quick_desk(url, name="first", capital=PLANS["first"], **bounds) as first,
        quick_desk(url, name="second", capital=PLANS["second"], **bounds) as second,
        quick_desk(url, name="third", capital=PLANS["third"], **bounds) as third,
    ):
        found = {"first": first, "second": second, "third": third}
        for desk in found.values():
            desk.source, desk.exchange, desk.fund = first.source, first.exchange, first.exchange.fund
            open_books(desk)
        yield found


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres) -> Iterator[dict[str, Desk]]:
    postgres.create_database("keel_sub_accounts")
    url = postgres.url("keel_sub_accounts")
    migrate(url)
    with desks(url) as found:
        yield found
    with connect(postgres.url("postgres")) as admin:
        admin.execute("drop database keel_sub_accounts with (force)")


def cash_by_fills(desk: Desk) -> Decimal:
    """What the plan must have left: its capital and what its own fills took and brought, counted from the raw rows."""
    query = """select coalesce(sum(case i.side when 'buy' then -1 else 1 end * f.quantity * f.price - f.fee), 0)
               from keel.fill f join keel.intent i using (client_order_id) where i.plan = %s"""
    row = desk.books.connection.execute(query, (desk.plan.name,)).fetchone()
    assert row is not None
    return desk.plan.capital + Decimal(str(row[0]))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders)
def test_the_sum_of_plans_is_the_account_and_each_spends_its_own_money(
    shared: dict[str, Desk], wanted: list[tuple[str, Callable[..., Request], int]]
) -> None:
    for name, side, thousandths in wanted:
        later(shared["first"], minutes=1)
        hand.place(shared[name], side("BTC-USD", f"{thousandths / 1000:.3f}"))
    desk = shared["first"]
    assert reconcile(desk).clean
    rows = desk.books.connection.execute(
        "select plan, asset, posted, held from keel.account where kind = 'venue' and plan <> %s", (OUTSIDE,)
    ).fetchall()
    sums: dict[str, Decimal] = {}
    for _, asset, posted, held in rows:
        assert posted >= held >= 0
        sums[str(asset)] = sums.get(str(asset), ZERO) + posted
    assert sums == {asset: balance.total for asset, balance in desk.exchange.balances().items() if asset in sums}
    for one in shared.values():
        portfolio = one.books.portfolio(one.book, one.plan.name, "USD", NOON)
        assert portfolio.cash == cash_by_fills(one)


def test_the_ledger_itself_refuses_to_hold_what_belongs_to_another_plan(database_url: str) -> None:
    with desks(database_url) as found:
        poor = found["third"]
        poor.market_time = NOON
        request = buy("BTC-USD", "0.01")  # 500 of the 1,000 in the account, of which 100 are the plan's
        quotes = poor.source.quotes(["BTC-USD"], NOON)
        intents = execution.intents_of(poor, "hand:1", [(request, None)], quotes)
        with pytest.raises(BooksRefused, match="overdraft on paper:main:third:venue"):
            execution.stage(poor, intents, quotes)
        assert poor.exchange.balances()["USD"].available == CASH
        assert "balance: " in hand.place(poor, request).message  # and the checks say so before


def test_equity_and_results_go_by_plan_and_add_up(database_url: str) -> None:
    with desks(database_url) as found:
        hand.place(found["first"], buy("BTC-USD", "0.005"))
        hand.place(found["second"], buy("BTC-USD", "0.002"))
        hand.place(found["second"], sell("BTC-USD", "0.001"))
    ledger = Reports(engine(database_url))
    rows = {row.plan: row for row in ledger.equity(Scope(mode="paper", portfolio="main"))}
    assert {plan: row.capital for plan, row in rows.items()} == {plan: Decimal(capital) for plan, capital in PLANS.items()}
    assert sum((row.cash for row in rows.values()), ZERO) == CASH - 250 - 100 + 50 - 3
    assert [row.quantity for row in ledger.positions(Scope(plan="second"))] == [Decimal("0.001")]
    assert rows["third"].cash == Decimal(100)
    assert verify(database_url).ok
