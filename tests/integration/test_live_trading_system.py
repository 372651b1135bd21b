"""What a user of the system relies on, walked through once; also a smoke test of an installation, by itself:

    python tests/integration/test_live_trading_system.py

prints a line for each check and ends with status 0 or 1. It trades on paper only, in a state folder of its own.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from config.credentials import get_credentials_manager
from config.desk import open_desk
from config.postgres import embedded, ledger_url
from config.settings import Settings
from tests.builders import real_money
from tests.builders.plans import MODERATE, plan
from trading import hand
from trading.errors import ConfigurationError
from trading.exchange.coinbase import CoinbaseRestClient
from trading.orders import Mode
from trading.plan import Plan
from trading.risk import CircuitBreaker, CircuitBreakerConfig, Level, OrderValidator
from trading.store.database import engine
from trading.store.reports import Reports, Scope
from trading.store.verify import verify


@dataclass(frozen=True)
class System:
    """An installation with a portfolio of its own for one check."""

    settings: Settings
    plan: Plan
    patch: pytest.MonkeyPatch

    @property
    def client(self) -> CoinbaseRestClient:
        return CoinbaseRestClient(self.plan, settings=self.settings)

    @property
    def url(self) -> str:
        return ledger_url(self.settings)

    @contextmanager
    def reports(self) -> Iterator[Reports]:
        bind = engine(self.url)
        try:
            yield Reports(bind)
        finally:
            bind.dispose()

    def sets(self, **settings: str) -> None:
        real_money.only(self.patch, self.settings.home, **settings)


def system_for(check: str, settings: Settings, patch: pytest.MonkeyPatch) -> System:
    limits = MODERATE | {"max_order_size_usd": "200", "max_position_size": "0.9", "max_daily_volume_usd": "2000"}
    real_money.only(patch, settings.home)
    return System(settings, plan(portfolio=check.removeprefix("test_").replace("_", "-")[:32], limits=limits), patch)


@pytest.fixture
def system(request: pytest.FixtureRequest, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    settings = Settings(home=tmp_path / "keel", database_url=database_url, market="synthetic")
    return system_for(request.node.name, settings, monkeypatch)


# --------------------------------------------------------------------------------------------------- safe defaults


def test_without_a_setting_everything_is_on_paper(system: System) -> None:
    assert get_credentials_manager().is_paper_trading() is True
    assert system.client.mode == "paper"


def test_one_switch_alone_makes_nothing_live(system: System) -> None:
    for name, value in real_money.SWITCHES.items():
        system.sets(**{name: value})
        assert get_credentials_manager().is_paper_trading() is True
        assert system.client.mode == "paper"


def test_live_without_keys_does_not_open(system: System) -> None:
    live = CoinbaseRestClient(system.plan, mode="live", settings=system.settings)
    with pytest.raises(ConfigurationError, match="found neither a key that trades nor one that views"):
        live.create_market_order(product_id="BTC-USD", side="BUY", size=0.001)


# ----------------------------------------------------------------------------------------------------- credentials


def test_missing_credentials_name_what_is_missing_and_where_it_was_looked_for(system: System) -> None:
    del system
    with pytest.raises(
        ConfigurationError, match=r"COINBASE_API_KEY and COINBASE_PRIVATE_KEY: found nowhere, looked in environment"
    ):
        get_credentials_manager().get_coinbase_credentials()


def test_found_credentials_show_themselves_to_nobody(system: System) -> None:
    given = real_money.keys()
    system.sets(**given)
    key = get_credentials_manager().get_coinbase_credentials()
    assert key.proves_itself()
    secret = given["COINBASE_PRIVATE_KEY"]
    forms = [secret, secret.splitlines()[1], b64encode(secret.encode()).decode()]
    assert not [form for form in forms if form in f"{key!r} {key} {key.private!r} {key.private}"]


# --------------------------------------------------------------------------------------------- limits and safety


def test_limits_come_with_their_source(system: System) -> None:
    system.sets(MAX_ORDER_SIZE_USD="50")
    limits = get_credentials_manager().get_risk_limits()
    assert limits["MAX_ORDER_SIZE_USD"].value == 50
    assert "environment" in limits["MAX_ORDER_SIZE_USD"].source
    assert limits["MAX_DAILY_LOSS_USD"].source == "profile moderate"


def test_safety_validation_warns_once_for_each_failed_condition(system: System) -> None:
    is_safe, warnings = get_credentials_manager().validate_live_trading_safety()
    assert is_safe is False
    for named in (*real_money.SWITCHES, *real_money.LIMITS, "COINBASE_API_KEY", "COINBASE_VIEW_API_KEY"):
        assert len([warning for warning in warnings if warning.startswith(named)]) == 1, named
    system.sets(**real_money.all_set())
    assert get_credentials_manager().validate_live_trading_safety() == (True, [])


# ------------------------------------------------------------------------------------------------ orders on paper


def test_a_market_order_fills_and_is_paid_for(system: System) -> None:
    client = system.client
    before = client.get_account_balance("USD")
    order = client.create_market_order(product_id="BTC-USD", side="BUY", size=0.001)
    assert (order.status, order.filled_size) == ("filled", Decimal("0.001"))
    assert client.get_account_balance("BTC") == Decimal("0.001")
    paid = before - client.get_account_balance("USD")
    assert paid > client.get_current_price("BTC-USD") * Decimal("0.00099"), "price and fee"


def test_a_limit_order_rests_until_it_is_cancelled(system: System) -> None:
    client = system.client
    price = round(client.get_current_price("BTC-USD") * Decimal("0.98"), 2)
    order = client.create_limit_order(product_id="BTC-USD", side="BUY", size=0.001, price=price)
    assert client.get_order(order.order_id).status == "open"
    assert client.cancel_order(order.order_id) is True
    assert client.get_order(order.order_id).status == "cancelled"
    assert client.get_account_balance("USD") == system.plan.capital


def test_a_stop_order_rests_below_the_market(system: System) -> None:
    client = system.client
    client.create_market_order(product_id="BTC-USD", side="BUY", size=0.001)
    stop = round(client.get_current_price("BTC-USD") * Decimal("0.97"), 2)
    order = client.create_stop_order(product_id="BTC-USD", side="SELL", size=0.001, stop_price=stop)
    assert (order.status, order.stop_price) == ("open", stop)
    assert client.cancel_order(order.order_id) is True


def test_an_order_lives_from_staged_to_filled_and_a_position_from_bought_to_sold(system: System) -> None:
    client, scope = system.client, Scope(mode="paper", portfolio=system.plan.portfolio)
    bought = client.create_market_order(product_id="BTC-USD", side="BUY", size=0.001)
    with system.reports() as ledger:
        told = ledger.explain(ledger.order(bought.order_id))
        assert [event["event"] for event in told["events"]] == ["send", "ack", "fill"]
        (held,) = ledger.positions(scope)
        assert (held.product, held.quantity) == ("BTC-USD", Decimal("0.001"))
    client.create_market_order(product_id="BTC-USD", side="SELL", size=0.001)
    with system.reports() as ledger:
        assert [row for row in ledger.positions(scope) if row.quantity] == []
        (trade,) = ledger.closed_trades(scope)
        assert trade.quantity == Decimal("0.001")
    assert client.get_account_balance("BTC") == 0


def test_the_same_decision_is_never_sent_twice(system: System) -> None:
    client = system.client
    first = client.create_market_order("BTC-USD", "BUY", 0.001, reference="once")
    assert client.create_market_order("BTC-USD", "BUY", 0.001, reference="once").order_id == first.order_id
    assert client.get_account_balance("BTC") == Decimal("0.001")


# ----------------------------------------------------------------------------------- the validator, the breaker


def test_an_order_over_a_limit_is_refused_by_client_and_validator_alike(system: System) -> None:
    refused = system.client.create_market_order(product_id="BTC-USD", side="BUY", size=1)
    response = OrderValidator(max_order_size_usd=200).validate_order("BTC-USD", "buy", 1, current_price=50000)
    assert (refused.status, response.allowed) == ("refused", False)
    assert refused.reason.startswith("order_size_max: ")
    assert response.messages[0].startswith("order_size_max: ")


def test_a_loss_over_the_limit_opens_the_breaker(system: System) -> None:
    del system
    breaker = CircuitBreaker(CircuitBreakerConfig(max_daily_loss_pct=0.05))
    assert breaker.check_and_update(portfolio_value=100000, daily_pnl=-6000) is False
    assert breaker.state == "open"
    assert [entry.code for entry in breaker.get_violation_history()] == ["daily_loss"]


def test_an_open_breaker_in_the_ledger_stops_every_order(system: System) -> None:
    client = system.client
    client.create_market_order("BTC-USD", "BUY", 0.001)
    with open_desk(system.plan, mode=Mode.PAPER, settings=system.settings, by_person=True) as desk:
        hand.trip(desk, f"portfolio:{desk.book}", Level.NO_NEW, "a drill")
    assert client.create_market_order("BTC-USD", "SELL", 0.001).reason.startswith("breaker_open: ")


# ------------------------------------------------------------------------------------------------------- the audit


def test_every_order_is_on_the_chain_and_the_books_prove_themselves(system: System) -> None:
    order = system.client.create_market_order(product_id="BTC-USD", side="BUY", size=0.001)
    with system.reports() as ledger:
        told = ledger.explain(ledger.order(order.order_id))
    assert told["audit"], "rows of the chain name it"
    assert told["postings"], "its fill is booked"
    found = verify(system.url)
    assert found.ok, [check for check in found.checks if not check.ok]


# -------------------------------------------------------------------------------------------------- by itself


def main() -> int:
    """Runs every check over an embedded ledger in a folder that is removed afterwards."""
    checks: list[Callable[[System], None]] = [check for name, check in globals().items() if name.startswith("test_")]
    with tempfile.TemporaryDirectory(prefix="keel-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        settings = Settings(home=Path(folder) / "keel", market="synthetic")
        try:
            failed = sum(not _holds(check, settings) for check in checks)
        finally:
            embedded(settings).stop()
    _say(f"{len(checks) - failed} of {len(checks)} checks hold.")
    return 1 if failed else 0


def _holds(check: Callable[[System], None], settings: Settings) -> bool:
    said = check.__name__.removeprefix("test_").replace("_", " ")
    with pytest.MonkeyPatch.context() as patch:
        try:
            check(system_for(check.__name__, settings, patch))
        except Exception as error:  # noqa: BLE001 - the line says what it was, and the next check goes on
            at = traceback.extract_tb(error.__traceback__)[-1]
            _say(f"FAILED  {said}: {type(error).__name__}: {str(error) or at.line} ({Path(at.filename).name}:{at.lineno})")
            return False
    _say(f"ok      {said}")
    return True


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
