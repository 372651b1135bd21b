"""What a person sets before live trading, made for a test: switches, limits, and two keys that no venue knows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from config.credentials.places import PLAIN, SECRETS
from tests.builders.keys import made_key
from tests.builders.venues import QuickExchange, QuietMarket
from trading.desk import Desk
from trading.exchange.coinbase import KeyPermissions

LIMITS = {
    "MAX_ORDER_SIZE_USD": "50",
    "MAX_DAILY_VOLUME_USD": "200",
    "MAX_OPEN_POSITIONS": "2",
    "MAX_DAILY_LOSS_USD": "20",
    "MAX_POSITION_SIZE": "0.5",
    "MAX_PORTFOLIO_VOLATILITY": "0.6",
}
SWITCHES = {"PAPER_TRADING": "false", "LIVE_TRADING_ENABLED": "true", "ENVIRONMENT": "production"}


def keys() -> dict[str, str]:
    """A key that trades and one that only views."""
    trade, view = made_key(), made_key()
    return {
        "COINBASE_API_KEY": trade.name.reveal(), "COINBASE_PRIVATE_KEY": trade.private.reveal(),
        "COINBASE_VIEW_API_KEY": view.name.reveal(), "COINBASE_VIEW_PRIVATE_KEY": view.private.reveal(),
    }  # fmt: skip


def all_set() -> dict[str, str]:
    """Everything that the settings have to say before live trading is safe."""
    return SWITCHES | LIMITS | keys()


def only(patch: pytest.MonkeyPatch, home: Path, **settings: str) -> None:
    """Makes these the only settings of this process that speak of real orders, with `home` for its state."""
    for name in (*PLAIN, *SECRETS):
        patch.delenv(name, raising=False)
    given = {"KEEL_HOME": str(home), "KEEL_CREDENTIALS_FILE": str(home / ".env.coinbase")} | settings
    for name, value in given.items():
        patch.setenv(name, value)


class FakeVenue(QuickExchange):
    """A venue in memory that also answers what the checks of live trading ask."""

    def permissions(self) -> KeyPermissions:
        return KeyPermissions(can_view=True, can_trade=True, can_transfer=False, portfolio="main")

    def view_permissions(self) -> KeyPermissions:
        return KeyPermissions(can_view=True, can_trade=False, can_transfer=False, portfolio="main")

    def venue_time(self) -> datetime:
        return datetime.now(UTC)


def at_a_fake_venue(desk: Desk, dollars: str = "10000") -> FakeVenue:
    """Puts a venue in memory in the place of Coinbase, with that much in its account; it counts what it is sent."""
    market = QuietMarket({"BTC-USD": "50000", "ETH-USD": "2000"}, desk.wall())
    venue = FakeVenue(market)
    venue.name = market.name
    venue.fund("USD", Decimal(dollars), "the account")
    desk.exchange, desk.source = venue, market
    return venue
