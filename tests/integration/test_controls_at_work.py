"""The controls in the pipeline: what the ledger and the venue say reaches them, and what they do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from config.desk import open_desk
from config.settings import Settings
from tests.builders.candles import write_generated
from tests.builders.plans import NOON, buy, plan, quote
from tests.builders.venues import QuickExchange, QuietMarket, later, quick_desk
from trading import cycle as cycles
from trading import hand, watching
from trading.desk import Desk, cash_at_venue, see_market
from trading.errors import MarketUnavailable
from trading.exchange.port import Balance, FeeTier
from trading.market import Quote
from trading.orders import Mode, OrderType, TimeInForce
from trading.risk import BreakerRow, BreakerState, Level, Validator


class Elsewhere(QuietMarket):
    """A second source with a price of its own, which may be away."""

    mid: str | None = "50000"

    def quotes(self, ids: Sequence[str], at: datetime) -> dict[str, Quote]:
        if self.mid is None:
            raise MarketUnavailable("away")
        return {id_: quote(id_, self.mid, at=at) for id_ in ids if id_ == "BTC-USD"}


class Account(QuickExchange):
    """An exchange that says what is in our account there, and what trading costs it."""

    def __init__(self, cash: Balance) -> None:
        super().__init__(QuietMarket({"BTC-USD": "50000", "ETH-USD": "2000"}))
        self.cash = cash

    def balances(self) -> dict[str, Balance]:
        return {"USD": self.cash}

    def fee_tier(self) -> FeeTier:
        return FeeTier(Decimal("0.004"), Decimal("0.006"))


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    controls = {"max_repeated_entries": 2, "max_live_orders": 9}
    with quick_desk(database_url, breaker={"cool_down_minutes": 0}, controls=controls) as opened:
        yield opened


def test_a_product_that_is_entered_too_often_waits_for_a_person(desk: Desk) -> None:
    for _ in range(2):
        assert hand.place(desk, buy(quantity="0.0005")).order is not None
    third = hand.place(desk, buy(quantity="0.0005"))
    assert third.code == "repeated_entries"
    market, _ = see_market(desk, NOON, NOON)
    portfolio = desk.books.portfolio(desk.book, desk.plan.name, "USD", NOON, NOON)
    validator = Validator(desk.plan, market, portfolio, NOON)
    validator.validate(buy(quantity="0.0005"))
    watching.hold_products(desk, validator.refused)
    scope = desk.product_scope("BTC-USD")
    (row,) = desk.books.breakers([scope])
    assert (row.state, row.level) == (BreakerState.OPEN, Level.REDUCE_ONLY)
    assert row.reason == "repeated_entries: entries in a row, until a person resumes the product: observed 3, limit 2"
    (resumed,) = hand.resume(desk, [scope], "it is meant to build up")
    assert isinstance(resumed, BreakerRow)
    later(desk, minutes=1)
    assert hand.place(desk, buy(quantity="0.0005")).order is not None


def test_a_second_source_is_compared_and_one_that_is_away_says_nothing(desk: Desk) -> None:
    desk.second = elsewhere = Elsewhere({"BTC-USD": "50000"})
    elsewhere.mid = "51000"
    assert hand.place(desk, buy()).code == "second_source"
    elsewhere.mid = None
    assert hand.place(desk, buy()).order is not None


def test_a_real_venue_is_asked_for_its_fee_and_for_the_cash_that_no_hold_of_ours_needs(desk: Desk) -> None:
    resting = buy(quantity="0.001", type=OrderType.LIMIT, limit_price=Decimal(49000), time_in_force=TimeInForce.GTC)
    assert hand.place(desk, resting).order is not None
    held = desk.books.held(desk.book, "USD")
    assert held > 49
    market, _ = see_market(desk, NOON, NOON)
    assert (market.taker_fee, market.cash_at_venue) == (None, None), "paper: the account is ours"
    for hold, free in ((Decimal(0), 500 - held), (held, Decimal(500)), (held * 2, Decimal(500))):
        desk.exchange = Account(Balance(available=Decimal(500), hold=hold))
        assert cash_at_venue(desk) == free
    desk.mode = Mode.REHEARSAL
    market, _ = see_market(desk, NOON, NOON)
    assert (market.taker_fee, market.cash_at_venue) == (Decimal("0.006"), Decimal(500)), "no hold in the rehearsal's own book"


@pytest.mark.parametrize(("seed", "bought"), [(11, 2), (12, 0)], ids=["it agrees", "it does not"])
def test_the_second_market_of_the_settings_is_asked_before_risk_is_added(
    tmp_path: Path, database_url: str, seed: int, bought: int
) -> None:
    first, second = write_generated(tmp_path / "first", 11), write_generated(tmp_path / "second", seed)
    settings = Settings(
        home=tmp_path, database_url=database_url, market=f"replay:{first}", second_market=f"replay:{second}"
    )  # fmt: skip
    wants = plan(strategy={"name": "deployments.bench.cycle:EveryOther"}, controls={"second_source_required": True})
    with open_desk(wants, settings=settings) as desk:
        wanted = next(cycle for cycle in iter(lambda: cycles.run(desk), None) if cycle.approved or cycle.refused)
    assert len(wanted.executed.states) == bought
    assert {refused.code for refused in wanted.refused} == (set() if bought else {"second_source"})
