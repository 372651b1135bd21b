"""What the entry guards are told about the past: counts, volumes and likenesses of a plan, as the ledger has them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.builders.plans import NOON, buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.desk import Desk, day_start
from trading.orders import OrderType, Request, State, TimeInForce
from trading.portfolio import Portfolio, Recent
from trading.risk import BreakerRow, Level


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with quick_desk(database_url, breaker={"cool_down_minutes": 0}) as opened:
        yield opened


def told(desk: Desk, minutes: int = 0) -> Portfolio:
    """The portfolio as it is seen so many minutes after noon."""
    now = NOON + timedelta(minutes=minutes)
    return desk.books.portfolio(desk.book, desk.plan.name, "USD", day_start(now), now)


def recent(desk: Desk, product: str = "BTC-USD", minutes: int = 0) -> Recent:
    return told(desk, minutes).recent[product]


def resting(quantity: str = "0.001", price: str = "51000", **changes: object) -> Request:
    return sell(quantity=quantity, type=OrderType.LIMIT, limit_price=Decimal(price), time_in_force=TimeInForce.GTC, **changes)


def test_a_plan_that_has_sent_nothing_has_nothing_behind_it(desk: Desk) -> None:
    with hand.at_the_desk(desk):
        portfolio = told(desk)
    assert (portfolio.recent, portfolio.hour_volume, portfolio.minute_orders) == ({}, Decimal(0), 0)


def test_orders_count_for_their_minute_hour_and_day_and_their_notional_for_the_hour(desk: Desk) -> None:
    for order in (buy(), buy("ETH-USD", "0.01"), sell()):
        assert hand.place(desk, order).order is not None
    portfolio = told(desk)
    assert portfolio.minute_orders == 3
    assert portfolio.hour_volume == portfolio.day_volume == Decimal(120)
    assert [portfolio.recent[id_].hour_orders for id_ in ("BTC-USD", "ETH-USD")] == [2, 1]
    later_on = told(desk, minutes=60)
    assert (later_on.minute_orders, later_on.hour_volume, later_on.day_volume) == (0, Decimal(0), Decimal(120))
    assert (later_on.recent["BTC-USD"].hour_orders, later_on.recent["BTC-USD"].day_orders) == (0, 2)
    assert told(desk, minutes=24 * 60).recent["ETH-USD"] == Recent(entries=1), "yesterday: only that it is held"


def test_entries_are_counted_until_a_sale_or_a_persons_resume(desk: Desk) -> None:
    hand.place(desk, buy())
    hand.place(desk, buy(quantity="0.0011"))
    assert recent(desk).entries == 2
    hand.trip(desk, desk.product_scope("BTC-USD"), Level.NO_NEW, "six entries in a row")
    (row,) = hand.resume(desk, [desk.product_scope("BTC-USD")], "looked at them")
    assert isinstance(row, BreakerRow), row
    assert recent(desk).entries == 0
    later(desk, minutes=1)
    hand.place(desk, buy(quantity="0.0012"))
    assert recent(desk, minutes=1).entries == 1
    later(desk, minutes=1)
    hand.place(desk, sell())
    assert recent(desk, minutes=2).entries == 0


def test_a_like_buy_is_told_with_its_price_and_time_for_an_hour(desk: Desk) -> None:
    hand.place(desk, buy())
    (bought,) = recent(desk).bought
    assert (bought.quantity, bought.price, bought.at) == (Decimal("0.001"), Decimal(50000), NOON)
    assert recent(desk, minutes=60).bought == ()


def test_our_own_resting_sale_is_told_with_its_lowest_price(desk: Desk) -> None:
    hand.place(desk, buy(quantity="0.002"))
    for price in ("52000", "51000"):
        order = hand.place(desk, resting(price=price)).order
        assert order is not None
        assert order.state is State.OPEN
    assert (recent(desk).resting_sale, recent(desk).live_orders) == (Decimal(51000), 2)
