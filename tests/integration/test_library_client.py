"""The account's calls that people already write, as they write them: on paper, and in rehearsal over the real SDK."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from config.anchors import anchor_after
from config.desk import open_desk
from config.settings import Settings
from tests.builders import real_money
from tests.builders.plans import MODERATE, plan
from tests.builders.simulator import Running, running
from trading import hand, rollout
from trading.desk import Desk
from trading.errors import ConfigurationError, MarketUnavailable
from trading.exchange.coinbase import CoinbaseRestClient
from trading.market import COLUMNS
from trading.orders import Mode
from trading.reconcile import reconcile
from trading.risk import Level
from trading.store.verify import verify

PLAN = plan(
    limits=MODERATE | {"max_order_size_usd": "500", "max_position_size": "0.9", "max_daily_volume_usd": "5000"},
    costs={"taker_fee": "0.006", "maker_fee": "0.004", "slippage": "0.0005"},
    ramp={"steps": ["1000", "2000"], "days": 0},
)


def desks(settings: Settings, mode: Mode) -> Iterator[Desk]:
    with open_desk(PLAN, mode=mode, settings=settings, by_person=True) as desk:
        yield desk


# ---------------------------------------------------------------------------------------------------------- on paper


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Iterator[Settings]:
    """A made-up market over a ledger of the test's own; whatever a test does, the books prove themselves after it."""
    yield Settings(home=tmp_path / "keel", database_url=database_url, market="synthetic")
    found = verify(database_url)
    assert found.ok, [check for check in found.checks if not check.ok]


@pytest.fixture
def client(settings: Settings) -> CoinbaseRestClient:
    return CoinbaseRestClient(PLAN, settings=settings)


def test_without_switches_a_client_is_on_paper(client: CoinbaseRestClient) -> None:
    assert client.mode == "paper"
    assert client.get_account_balance("USD") == Decimal(1000)
    assert client.get_account_balance("BTC") == Decimal(0)


def test_the_price_is_the_mid_and_candles_are_a_frame_oldest_first(client: CoinbaseRestClient) -> None:
    assert client.get_current_price("BTC-USD") > 0
    candles = client.get_candles("BTC-USD", interval="1h", limit=24)
    assert list(candles.columns) == list(COLUMNS)
    assert candles["start"].diff().dropna().unique().tolist() == [3600]
    assert len(candles) == 24


def test_an_order_at_the_market_is_filled_and_shows_in_the_portfolio(client: CoinbaseRestClient) -> None:
    order = client.create_market_order(product_id="BTC-USD", side="BUY", size=0.001)
    assert (order.status, order.side, order.size, order.filled_size) == ("filled", "BUY", Decimal("0.001"), Decimal("0.001"))
    assert client.get_order(order.order_id) == client.get_order(order.exchange_order_id) == order
    portfolio = client.get_portfolio()
    assert portfolio.holdings["BTC"].available == Decimal("0.001")
    assert portfolio.holdings["USD"].value == client.get_account_balance("USD")
    assert portfolio.total_value is not None
    assert Decimal(990) < portfolio.total_value < Decimal(1000), "what it cost is gone"
    assert client.cancel_order(order.order_id) is False, "it has filled"


def test_a_limit_order_rests_holds_its_cash_and_gives_it_back(client: CoinbaseRestClient) -> None:
    price = round(client.get_current_price("BTC-USD") * Decimal("0.98"), 2)
    order = client.create_limit_order(product_id="BTC-USD", side="BUY", size=0.001, price=price)
    assert (order.status, order.price) == ("open", price)
    assert client.get_account_balance("USD") < Decimal(1000)
    assert client.cancel_order(order.order_id) is True
    assert client.get_order(order.order_id).status == "cancelled"
    assert client.get_account_balance("USD") == Decimal(1000)


def test_a_stop_order_rests_under_what_is_held(client: CoinbaseRestClient) -> None:
    client.create_market_order(product_id="BTC-USD", side="BUY", size=0.001)
    stop_price = round(client.get_current_price("BTC-USD") * Decimal("0.97"), 2)
    order = client.create_stop_order(product_id="BTC-USD", side="SELL", size="0.001", stop_price=stop_price)
    assert (order.status, order.stop_price) == ("open", stop_price)
    assert client.cancel_order(order.order_id)


def test_an_order_over_a_limit_is_refused_and_says_why(client: CoinbaseRestClient) -> None:
    order = client.create_market_order(product_id="BTC-USD", side="BUY", size=1)
    assert (order.status, order.order_id, order.filled_size) == ("refused", "", Decimal(0))
    assert order.reason.startswith("order_size_max: ")


def test_one_reference_is_one_decision(client: CoinbaseRestClient) -> None:
    first = client.create_market_order("BTC-USD", "BUY", "0.001", reference="morning")
    assert client.create_market_order("BTC-USD", "BUY", "0.002", reference="morning") == first
    assert client.get_account_balance("BTC") == Decimal("0.001")


def test_no_order_goes_around_the_halt_file(client: CoinbaseRestClient, settings: Settings) -> None:
    client.create_market_order("BTC-USD", "BUY", "0.001")
    (settings.home / "HALT").write_text("a drill")
    refused = client.create_market_order("BTC-USD", "SELL", "0.0005")
    assert (refused.status, "halted by" in refused.reason) == ("refused", True)
    assert client.get_account_balance("BTC") == Decimal("0.001")


def test_no_order_goes_around_an_open_breaker(client: CoinbaseRestClient, settings: Settings) -> None:
    client.create_market_order("BTC-USD", "BUY", "0.001")
    for desk in desks(settings, Mode.PAPER):
        hand.trip(desk, "global", Level.NO_NEW, "a drill")
    assert client.create_market_order("BTC-USD", "SELL", "0.0005").reason.startswith("breaker_open: ")
    assert client.get_account_balance("BTC") == Decimal("0.001")


def test_what_is_no_order_is_an_error_that_names_it(client: CoinbaseRestClient, settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="side: found 'hold', expected one of buy, sell"):
        client.create_market_order("BTC-USD", "hold", 1)
    with pytest.raises(ConfigurationError, match="size: found 'much', expected a number"):
        client.create_market_order("BTC-USD", "BUY", "much")
    with pytest.raises(ConfigurationError, match="mode: found 'real', expected one of paper, rehearsal, live"):
        CoinbaseRestClient(PLAN, mode="real", settings=settings)
    with pytest.raises(ConfigurationError, match="order 17: found none in paper:main"):
        client.get_order("17")


# ------------------------------------------------------------------------------------------------------------- live


def test_a_client_is_live_only_while_every_switch_says_so_and_the_portfolio_is_armed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "keel"
    real_money.only(monkeypatch, home, **real_money.all_set())
    settings = Settings(home=home, database_url=database_url, market="synthetic")
    for desk in desks(settings, Mode.LIVE):
        real_money.at_a_fake_venue(desk)
        with hand.at_the_desk(desk):
            assert CoinbaseRestClient(PLAN, settings=settings).mode == "paper", "nobody has armed it"
        rollout.arm(desk, timedelta(hours=1), "an hour")
    assert CoinbaseRestClient(PLAN, settings=settings).mode == "live"
    assert CoinbaseRestClient(PLAN.model_copy(update={"portfolio": "other"}), settings=settings).mode == "paper"
    for name, value in {"PAPER_TRADING": "true", "LIVE_TRADING_ENABLED": "false", "ENVIRONMENT": "staging"}.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            assert CoinbaseRestClient(PLAN, settings=settings).mode == "paper", name
    for desk in desks(settings, Mode.LIVE):
        rollout.disarm(desk, "enough")
    assert CoinbaseRestClient(PLAN, settings=settings).mode == "paper"


# ------------------------------------------------------------------------------------------------------ in rehearsal


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "simulator", "--prices", "synthetic", "--public-rate", "0") as started:
        yield started


@pytest.fixture
def rehearsal(venue: Running, database_url: str, tmp_path: Path) -> Settings:
    del venue
    return Settings(home=tmp_path / "keel", database_url=database_url, simulator_home=tmp_path / "simulator")


def let_go(settings: Settings) -> None:
    """A person's way to orders: books that agree, breakers led out, an arming, an anchor."""
    for desk in desks(settings, Mode.REHEARSAL):
        with hand.at_the_desk(desk):
            reconcile(desk)
        hand.resume(desk, None, "a rehearsal")
        rollout.arm(desk, timedelta(hours=1), "a rehearsal")
        anchor_after(desk, settings)


def test_a_client_in_rehearsal_sends_nothing_before_a_person_lets_it(rehearsal: Settings, venue: Running) -> None:
    client = CoinbaseRestClient(PLAN, mode="rehearsal", settings=rehearsal)
    assert client.get_account_balance("USD") == Decimal(100000)
    assert client.create_market_order("BTC-USD", "BUY", "0.001").status == "refused"
    assert venue.oracle["orders"] == []


def test_every_call_in_rehearsal_over_the_real_sdk(rehearsal: Settings, venue: Running) -> None:
    client = CoinbaseRestClient(PLAN, mode="rehearsal", settings=rehearsal)
    let_go(rehearsal)
    price = client.get_current_price("BTC-USD")
    assert len(client.get_candles("BTC-USD", limit=10)) == 10
    bought = client.create_market_order(product_id="BTC-USD", side="BUY", size=0.001)
    assert bought.status == "filled", bought.reason
    resting = client.create_limit_order(product_id="BTC-USD", side="BUY", size=0.001, price=round(price * Decimal("0.98"), 2))
    assert resting.status == "open", resting.reason
    stop = client.create_stop_order(product_id="BTC-USD", side="SELL", size=0.001, stop_price=round(price * Decimal("0.97"), 2))
    assert stop.status == "open", stop.reason
    assert stop.price is not None
    assert stop.stop_price is not None
    assert stop.price < stop.stop_price, "a stop on Coinbase is a stop-limit, with the plan's collar"
    assert client.cancel_order(resting.exchange_order_id)
    assert client.cancel_order(stop.order_id)
    assert client.get_order(stop.order_id).status == "cancelled"
    assert client.get_portfolio().holdings["BTC"].available == Decimal("1.001")
    at_the_venue = {row["client_order_id"]: row["status"] for row in venue.oracle["orders"]}
    assert at_the_venue == {bought.order_id: "FILLED", resting.order_id: "CANCELLED", stop.order_id: "CANCELLED"}
    with pytest.raises(MarketUnavailable, match="NONE-USD"):
        client.get_current_price("NONE-USD")
