"""What every market source must do, run against each of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from tests.builders.candles import generated, write_replay
from tests.builders.coinbase_server import candle, coinbase_server, product
from trading.errors import ConfigurationError
from trading.exchange.coinbase import CoinbaseMarket
from trading.feeds.replay import Replay
from trading.feeds.synthetic import Synthetic
from trading.market import COLUMNS, MarketSource
from trading.quality import QualityGate

SLOT = datetime(2026, 4, 7, 14, tzinfo=UTC)
NOW = SLOT + timedelta(seconds=5)
HOUR = 3600
IDS = ("BTC-USD", "ETH-USD")


def moving_candle(start: int) -> dict[str, str]:
    """A candle whose price depends on its hour, so that a feed of them is not stale."""
    price = 100 + start // HOUR % 7
    return candle(start, str(price)) | {"open": str(price), "high": str(price + 1), "low": str(price - 1)}


@pytest.fixture(params=["coinbase", "replay", "synthetic"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MarketSource]:
    if request.param == "replay":
        yield Replay(write_replay(tmp_path, generated(5, IDS, length=500, end=SLOT)), Decimal("0.0004"))
    elif request.param == "synthetic":
        yield Synthetic(5, lambda: NOW)
    else:
        with coinbase_server(tmp_path) as venue:
            venue.products = {name: product(name) for name in IDS}
            venue.book = dict.fromkeys(IDS, ("100.1", "100.2"))
            venue.candles = lambda _id, start, end, step: [moving_candle(at) for at in range(start, end + 1, step)][::-1]
            yield CoinbaseMarket(
                clock=lambda: NOW,
                monotonic=lambda: 0.0,
                sleep=lambda _: None,
                base_url=venue.host,
                ca_file=venue.ca_file,
            )


def since(hours: int) -> dict[str, int]:
    return dict.fromkeys(IDS, int(SLOT.timestamp()) - hours * HOUR)


def test_it_satisfies_the_protocol_and_says_what_it_is(source: MarketSource) -> None:
    assert source.name.split(":")[0] in ("coinbase", "replay", "synthetic")
    assert source.is_replay is source.name.startswith("replay:")


def test_candles_have_the_columns_and_lie_within_what_was_asked(source: MarketSource) -> None:
    found = source.candles(since(400), "1h", SLOT)
    assert tuple(found.columns) == COLUMNS
    assert found["start"].between(int(SLOT.timestamp()) - 400 * HOUR, int(SLOT.timestamp()) - HOUR).all()
    assert found.groupby("product").size().to_dict() == dict.fromkeys(IDS, 400)


def test_each_product_has_its_own_since(source: MarketSource) -> None:
    slot = int(SLOT.timestamp())
    found = source.candles({"BTC-USD": slot - 3 * HOUR, "ETH-USD": slot - HOUR}, "1h", SLOT)
    assert found.groupby("product").size().to_dict() == {"BTC-USD": 3, "ETH-USD": 1}


def test_asked_twice_it_gives_the_same_candles(source: MarketSource) -> None:
    pd.testing.assert_frame_equal(source.candles(since(50), "1h", SLOT), source.candles(since(50), "1h", SLOT))


def test_nothing_due_gives_no_rows(source: MarketSource) -> None:
    assert source.candles(since(0), "1h", SLOT).empty
    assert source.candles({}, "1h", SLOT).empty


def test_an_unknown_interval_is_a_configuration_error(source: MarketSource) -> None:
    with pytest.raises(ConfigurationError, match="found '7m'"):
        source.candles(since(3), "7m", SLOT)


def test_products_have_rules_that_an_order_can_be_built_on(source: MarketSource) -> None:
    found = source.products(IDS)
    assert list(found) == list(IDS)
    for name, rules in found.items():
        assert f"{rules.base}-{rules.quote}" == name
        assert min(rules.base_increment, rules.price_increment, rules.base_min_size, rules.min_notional) > 0


def test_quotes_lie_on_the_price_increment_with_the_bid_below_the_ask(source: MarketSource) -> None:
    rules = source.products(IDS)
    for name, quote in source.quotes(IDS, SLOT).items():
        assert 0 < quote.bid < quote.ask
        assert quote.bid % rules[name].price_increment == quote.ask % rules[name].price_increment == 0
        assert quote.at.utcoffset() == timedelta(0)


def test_the_next_slot_is_a_candle_close(source: MarketSource) -> None:
    slot = source.next_slot(IDS, "1h", 300, SLOT - timedelta(hours=1))
    assert slot == SLOT


def test_what_a_sound_source_gives_passes_the_gate(source: MarketSource) -> None:
    verdict = QualityGate().judge(source.candles(since(100), "1h", SLOT), None, IDS, "1h", SLOT)
    assert verdict.gated == {}
    assert len(verdict.clean) == 200
