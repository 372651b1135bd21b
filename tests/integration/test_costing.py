"""What orders cost, read from a ledger: against trades worked out by hand, and against the raw rows of a long replay."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from tests.builders.desks import replay_desk
from tests.builders.plans import LIVELY, buy
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.costs import PARTS, summed
from trading.cycle import run
from trading.money import ZERO
from trading.orders import OrderType, TimeInForce
from trading.store.costing import order_costs
from trading.store.database import engine
from trading.store.reports import Reports, Scope

ALL = Scope()


def test_an_order_by_hand_costs_its_fee_and_the_spread(database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        later(desk, minutes=10)
        hand.place(desk, buy("BTC-USD", "0.001"))
    [row] = order_costs(Reports(engine(database_url)), ALL)
    assert row.costs is not None
    assert (row.decision_price, row.arrival_mid, row.average_price) == (Decimal(50000),) * 3
    assert [getattr(row.costs, part) for part in PARTS] == [ZERO, ZERO, ZERO, Decimal(1), ZERO]
    assert row.costs.basis_points() == 200  # 1 of fee on 50


def test_what_the_venue_refused_costs_what_was_missed(database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        desk.exchange.refuses = "NO"
        later(desk, minutes=10)
        hand.place(desk, buy("BTC-USD", "0.001"))  # at 12:10: decided anew at 13:00, by a close that is not there yet
        [unknown] = order_costs(Reports(engine(database_url)), ALL)
        assert unknown.costs is None
        desk.exchange.refuses = None
        desk.source.prices["BTC-USD"] = "50500"
        later(desk, minutes=50)
        run(desk)
    [row] = [row for row in order_costs(Reports(engine(database_url)), ALL) if row.state == "rejected"]
    assert row.costs is not None
    assert row.costs.shortfall == row.costs.opportunity
    assert 0 < row.costs.opportunity < 1  # the close after it is about 50,500


def test_an_order_that_may_still_trade_is_not_told_yet(database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        later(desk, minutes=10)
        price = Decimal(49900)
        hand.place(desk, buy("BTC-USD", "0.001", type=OrderType.LIMIT, limit_price=price, time_in_force=TimeInForce.GTC))
    assert order_costs(Reports(engine(database_url)), ALL) == []


def test_a_long_replay_costs_what_its_raw_rows_say(database_url: str, tmp_path: Path) -> None:
    with replay_desk(database_url, tmp_path, **LIVELY) as desk:
        for _ in range(12):
            run(desk)
        fills = desk.books.connection.execute(
            """select i.client_order_id, i.side, i.quantity, i.decision_price, f.quantity, f.price, f.fee
               from keel.fill f join keel.intent i using (client_order_id)"""
        ).fetchall()
    rows = {row.client_order_id: row for row in order_costs(Reports(engine(database_url)), ALL)}
    assert len(rows) == len(fills) > 10
    half = desk.plan.costs.spread / 2
    for id_, side, quantity, mid, filled, price, fee in fills:
        row = rows[id_]
        sign = 1 if side == "buy" else -1
        assert row.costs is not None
        assert filled == quantity
        assert row.costs.fees == fee
        assert row.costs.delay == sign * filled * (mid - row.decision_price)
        assert abs(row.costs.spread - filled * mid * half) <= filled * Decimal("0.02")  # bid and ask stand on the price increment
        assert row.costs.shortfall == sign * filled * (price - row.decision_price) + fee
    [total] = summed(rows.values())
    assert total.costs.shortfall == sum((row.costs.shortfall for row in rows.values() if row.costs), ZERO)
    assert {one.group for one in summed(rows.values(), "side")} == {"buy", "sell"}
