"""What failed once: each story by its name, and the rule that it taught. A story that fails anywhere is added here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests.builders.plans import buy
from tests.builders.venues import QuickExchange, quick_desk
from tests.crash.coinbase import CoinbasePlace, places
from tests.crash.story import Story, tell
from trading import hand
from trading.desk import Desk
from trading.money import dec
from trading.orders import OrderType, Request, Side, State, TimeInForce
from trading.reconcile import reconcile

pytestmark = pytest.mark.crash
AT_COINBASE = {
    "an order that was answered and is not listed yet": Story(0, ("hidden",), ((16,),), refused_reads=1),
    "fills that are listed after the second look": Story(
        0, ("html_502",), ((79,), (95,), (18,)), refused_reads=2, fill_lag_seconds=90
    ),
    "late fills of orders that followed several pauses": Story(
        0, ("refuse without a reason", "refuse without a reason", "accept_then_502"), ((66,), (28,)), fill_lag_seconds=90
    ),
    "a create that is still under way": Story(0, ("delayed before it acts",), ((20,),)),
}


@pytest.fixture(scope="module")
def coinbase(fresh_ledger: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoinbasePlace]:
    with closing(places(lambda: tmp_path_factory.mktemp("coinbase"), fresh_ledger, len(AT_COINBASE))) as made:
        yield next(made)


@pytest.mark.parametrize("story", AT_COINBASE.values(), ids=AT_COINBASE)
def test_a_story_over_coinbase_that_failed_once(coinbase: CoinbasePlace, story: Story) -> None:
    assert tell(coinbase, story).problems == []


# ------------------------------------------------------------------- what they taught: lists lag behind what was answered

LAG_SECONDS = 120
RESTING = Request(
    product="BTC-USD", side=Side.BUY, quantity=dec("0.001"), type=OrderType.LIMIT, limit_price=dec("49000"),
    time_in_force=TimeInForce.GTC,
)  # fmt: skip


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    """A desk whose venue shows what it did up to two minutes late."""
    with quick_desk(database_url) as opened:
        opened.exchange.visibility_lag_seconds = LAG_SECONDS  # type: ignore[misc]  # an instance's own
        yield opened


def wait(desk: Desk, seconds: float) -> None:
    desk.wall = lambda: datetime.now(UTC) + timedelta(seconds=seconds)


def classes(desk: Desk) -> set[str]:
    return {row["class"] for row in desk.books.open_breaks(desk.book)}


def quick(desk: Desk) -> QuickExchange:
    assert isinstance(desk.exchange, QuickExchange)
    return desk.exchange


def test_an_acknowledged_order_is_missing_only_when_its_venues_lists_no_longer_lag(desk: Desk) -> None:
    order = hand.place(desk, RESTING).order
    assert order is not None
    assert order.state is State.OPEN
    quick(desk).hides = True
    reconcile(desk)
    assert classes(desk) == set()
    wait(desk, LAG_SECONDS + 1)
    reconcile(desk)
    assert classes(desk) == {"order_missing"}


def test_a_balance_that_moved_before_its_fill_is_listed_is_a_doubt_and_later_a_break(desk: Desk) -> None:
    order = hand.place(desk, RESTING).order
    assert order is not None
    assert order.exchange_order_id is not None
    venue = quick(desk)
    venue.trades(venue.placed[order.exchange_order_id], "0.001")
    late = [venue.traded.pop()]
    found = reconcile(desk)
    assert (found.clean, found.doubts, classes(desk)) == (False, 1, set())
    wait(desk, LAG_SECONDS + 1)
    reconcile(desk)
    assert {"balance", "balance_fall"} <= classes(desk)
    venue.traded += late  # it comes after all: booked, and what was posted to suspense for it is left to a person
    reconcile(desk)
    assert desk.books.venue_balances(desk.book)["BTC"] == venue.held["BTC"]


def test_a_young_order_in_one_product_excuses_nothing_in_another(desk: Desk) -> None:
    hand.place(desk, buy("BTC-USD", "0.001"))
    quick(desk).held["ETH"] = dec(1)
    reconcile(desk)
    assert classes(desk) == {"balance"}
