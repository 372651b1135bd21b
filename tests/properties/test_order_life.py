"""Orders under every mishap that a venue and a network have, in any order: whatever happened, the books end equal to the venue.

A machine over the real ledger: its rules are what people, schedulers, networks and venues do; after every step the ledger
proves itself, and at the end two passes make it equal to the venue, with one order per decision.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from config.postgres import EmbeddedPostgres
from tests.builders.venues import QuickExchange, quick_desk
from tests.conftest import TEMPLATE
from trading import hand
from trading.desk import Desk
from trading.errors import ConfigurationError
from trading.exchange.port import Duplicates, ExchangeOrder, Status
from trading.lots import LotMethod
from trading.movements import Movement, MovementKind
from trading.orders import LIVE_STATES, OrderType, Request, Side, State, TimeInForce
from trading.reconcile import reconcile
from trading.resolution import FOREIGN, resolve
from trading.settlement import settle
from trading.store.database import connect
from trading.store.verify import verify

_numbers = itertools.count()
QUANTITIES = {"BTC-USD": Decimal("0.001"), "ETH-USD": Decimal("0.01")}
ROOMY = {"capital": 10_000, "limits": {"max_daily_volume_usd": 10**6}, "breaker": {"cool_down_minutes": 0}}
MOVES = (MovementKind.DEPOSIT, MovementKind.WITHDRAWAL, MovementKind.INCOME)
FAULTS = ("none", "loses", "loses and hides", "swallows", "swallows twice")


class OrderLife(RuleBasedStateMachine):
    fresh: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.opened = ExitStack()
        self.url = self.fresh()
        self.wall_offset = timedelta(0)

    @initialize(kind=st.sampled_from(Duplicates), lag=st.sampled_from([0, 120]), method=st.sampled_from(LotMethod))
    def open(self, kind: Duplicates, lag: int, method: LotMethod) -> None:
        self.desk: Desk = self.opened.enter_context(quick_desk(self.url, lots=method.value, **ROOMY))
        self.venue.duplicates = kind
        self.venue.visibility_lag_seconds = lag
        real = self.desk.wall
        self.desk.wall = lambda: real() + self.wall_offset
        hand.place(self.desk, Request(product="BTC-USD", side=Side.BUY, quantity=Decimal("0.002")), "first")

    @property
    def venue(self) -> QuickExchange:
        assert isinstance(self.desk.exchange, QuickExchange)
        return self.desk.exchange

    def listed(self) -> list[ExchangeOrder]:
        return [order for order in self.venue.placed.values() if order.status is Status.OPEN]

    # ---- what people and schedulers do

    @rule(
        product=st.sampled_from(sorted(QUANTITIES)),
        side=st.sampled_from(Side),
        rests=st.booleans(),
        fault=st.sampled_from(FAULTS),
    )
    def order(self, product: str, side: Side, *, rests: bool, fault: str) -> None:
        price = Decimal(self.venue.market.prices[product])
        limit = price * (Decimal("0.99") if side is Side.BUY else Decimal("1.01"))
        terms = {"type": OrderType.LIMIT, "limit_price": limit, "time_in_force": TimeInForce.GTC} if rests else {}
        self.venue.loses = int("loses" in fault)
        self.venue.swallows = {"swallows": 1, "swallows twice": 2}.get(fault, 0)
        self.venue.hides = self.venue.hides or "hides" in fault
        hand.place(self.desk, Request(product=product, side=side, quantity=QUANTITIES[product], **terms))  # type: ignore[arg-type]
        self.venue.loses = self.venue.swallows = 0

    @rule()
    def cancel(self) -> None:
        live = [order for order in self.desk.books.live_orders(self.desk.book) if order.state is State.OPEN]
        if live:
            hand.cancel(self.desk, live[0].id, "a change of mind")

    @rule(adopts=st.booleans())
    def person(self, *, adopts: bool) -> None:
        """Looks at every break, decides, and leads the breakers out: else the first mishap would end all trading."""
        reconcile(self.desk)
        for row in self.desk.books.open_breaks(self.desk.book):
            adopt = adopts and row["class"] in FOREIGN
            try:
                resolve(self.desk, row["id"], "seen", adopt=adopt)
            except ConfigurationError:  # the plan has not got what the order spent
                assert adopt
                resolve(self.desk, row["id"], "seen")
        hand.resume(self.desk, None, "seen")

    @rule()
    def settle(self) -> None:
        settle(self.desk)

    @rule()
    def reconcile(self) -> None:
        reconcile(self.desk)

    @rule()
    def wait(self) -> None:
        self.wall_offset += timedelta(seconds=130)

    # ---- what venues and networks do

    @rule()
    def hide(self) -> None:
        self.venue.hides = not self.venue.hides

    @precondition(lambda self: self.listed())
    @rule(part=st.sampled_from(["0.0003", "0.0005"]), cancels=st.booleans())
    def fill_a_resting_order(self, part: str, *, cancels: bool) -> None:
        order = self.listed()[0]
        if order.filled + Decimal(part) <= order.quantity:
            self.venue.trades(order, part, price=str(order.limit_price))
        if cancels:
            self.venue.cancel([order.exchange_order_id])

    @rule(side=st.sampled_from(Side))
    def stranger(self, side: Side) -> None:
        if side is Side.BUY or self.venue.held.get("ETH", 0) >= Decimal("0.0007"):  # a spot venue lends nothing
            self.venue.foreign("ETH-USD", side, "0.0007")

    @rule(
        kind=st.sampled_from(MOVES),
        asset=st.sampled_from(["USD", "ETH", "AIR"]),
    )
    def movement(self, kind: MovementKind, asset: str) -> None:
        if kind is MovementKind.WITHDRAWAL and self.venue.held.get(asset, 0) < Decimal("0.01"):
            return
        self.venue.move(Movement(entry_id=f"m{len(self.venue.moved)}", kind=kind, asset=asset, amount=Decimal("0.01"),
                                 happened_at=self.desk.market_now()))  # fmt: skip

    # ---- what must hold

    def teardown(self) -> None:
        if not hasattr(self, "desk"):
            return
        self.venue.hides = False
        for _ in range(3):  # one that sees, one whose wait is over, one that finds nothing new
            reconcile(self.desk)
            self.wall_offset += timedelta(seconds=130)
        ours = {asset: posted for asset, posted in self.desk.books.venue_balances(self.desk.book).items() if posted}
        assert ours == {asset: held for asset, held in self.venue.held.items() if held}
        sent = [order.client_order_id for order in self.venue.placed.values() if order.client_order_id != "not ours"]
        assert len(sent) == len(set(sent)), "one order per decision"
        known = {str(order.id): order for order in self.desk.books.orders_told(self.desk.book, [], list(self.venue.placed))}
        assert set(sent) == set(known), "none is lost"
        assert all(order.filled == self.venue.placed[order.exchange_order_id or ""].filled for order in known.values())
        assert not [order for order in self.desk.books.live_orders(self.desk.book)
                    if order.state in LIVE_STATES - {State.OPEN, State.IN_DOUBT}]  # fmt: skip
        self.opened.close()
        failed = [check for check in verify(self.url).checks if not check.ok]
        assert not failed


@pytest.fixture
def fresh_ledgers(postgres: EmbeddedPostgres) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def fresh() -> str:
        name = f"life_{os.getpid()}_{next(_numbers)}"
        with connect(postgres.url("postgres")) as admin:
            admin.execute(
                psycopg.sql.SQL("create database {} template {}").format(*map(psycopg.sql.Identifier, (name, TEMPLATE)))
            )
        made.append(name)
        return postgres.url(name)

    yield fresh
    with connect(postgres.url("postgres")) as admin:
        for name in made:
            admin.execute(psycopg.sql.SQL("drop database {} with (force)").format(psycopg.sql.Identifier(name)))


def test_whatever_happens_the_books_end_equal_to_the_venue(fresh_ledgers: Callable[[], str]) -> None:
    machine = type("Machine", (OrderLife,), {"fresh": staticmethod(fresh_ledgers)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("KEEL_LIFE_RUNS", "12")), stateful_step_count=20, deadline=None,
            suppress_health_check=list(HealthCheck), phases=(Phase.generate,),  # minutes to shrink
        ),
    )  # fmt: skip
