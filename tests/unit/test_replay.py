"""A replay reads recorded files as they lie and has a clock of its own."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from tests.builders.candles import SLOT, generated, rows, typed, write_generated, write_replay
from trading.errors import ConfigurationError, KeelError
from trading.feeds.replay import Replay

SPREAD = Decimal("0.0004")
HOUR = timedelta(hours=1)


def replay(path: Path, *frames: pd.DataFrame, spread: Decimal = SPREAD, interval: str = "1h") -> Replay:
    write_replay(path, pd.concat(frames), interval=interval)
    return Replay(path, spread)


def test_candles_are_given_as_recorded_from_since_to_before_until(tmp_path: Path) -> None:
    recorded = generated(3, length=10)
    source = replay(tmp_path, recorded)
    since = int((SLOT - 4 * HOUR).timestamp())
    found = source.candles({"BTC-USD": since, "ETH-USD": 0}, "1h", SLOT - HOUR)
    wanted = recorded[(recorded["start"] < (SLOT - HOUR).timestamp())]
    wanted = wanted[(wanted["product"] == "ETH-USD") | (wanted["start"] >= since)]
    pd.testing.assert_frame_equal(typed(found), typed(wanted))


def test_disorder_duplicates_and_nonsense_are_not_repaired(tmp_path: Path) -> None:
    recorded = pd.concat([rows("1 2 3").iloc[[2, 0, 0, 1]], rows("-5", end=SLOT - 3 * HOUR)])
    found = replay(tmp_path, recorded).candles({"BTC-USD": 0}, "1h", SLOT)
    assert found["close"].to_list() == [3, 1, 1, 2, -5]


def test_a_candle_at_the_slot_is_not_visible(tmp_path: Path) -> None:
    source = replay(tmp_path, rows("1 2 3"))
    assert source.candles({"BTC-USD": 0}, "1h", SLOT - 2 * HOUR)["close"].to_list() == [1]


def test_no_rows_is_an_empty_frame_with_the_columns(tmp_path: Path) -> None:
    found = replay(tmp_path, rows("1 2 3")).candles({"BTC-USD": int(SLOT.timestamp())}, "1h", SLOT)
    assert list(found.columns) == list(rows("1").columns)
    assert found.empty


@pytest.mark.parametrize(
    ("close", "spread", "bid", "ask"),
    [
        ("100", "0.01", "99.5", "100.5"),
        ("100.01", "0.0004", "99.98", "100.04"),  # outwards to the cent
        ("0.1234", "0.0004", "0.1233", "0.1235"),
        ("60000.1", "0", "60000.1", "60000.1"),
    ],
)
def test_a_quote_is_the_last_close_and_half_the_spread_on_each_side(
    tmp_path: Path, close: str, spread: str, bid: str, ask: str
) -> None:
    source = replay(tmp_path, rows(f"{float(close) * 2} {close}"), spread=Decimal(spread))
    quote = source.quotes(["BTC-USD"], SLOT)["BTC-USD"]
    assert (quote.bid, quote.ask, quote.at) == (Decimal(bid), Decimal(ask), SLOT)


def test_a_quote_knows_nothing_that_closes_later_and_tells_its_age(tmp_path: Path) -> None:
    source = replay(tmp_path, rows("10 20 - 40"))
    assert source.quotes(["BTC-USD"], SLOT - timedelta(seconds=1))["BTC-USD"].at == SLOT - 2 * HOUR
    assert source.quotes(["BTC-USD"], SLOT - timedelta(seconds=1))["BTC-USD"].mid == 20
    assert source.quotes(["BTC-USD", "NO-USD"], SLOT - 4 * HOUR) == {}


def test_a_quote_comes_from_the_interval_that_closed_last(tmp_path: Path) -> None:
    write_replay(tmp_path, rows("10 20"))
    source = replay(tmp_path, rows("11 12 13", interval="15m", end=SLOT - HOUR / 2), interval="15m")
    assert source.quotes(["BTC-USD"], SLOT - HOUR / 2)["BTC-USD"].mid == 13
    assert source.quotes(["BTC-USD"], SLOT)["BTC-USD"].mid == 20


@pytest.mark.parametrize(
    ("closes", "increment"),
    [
        ("60000.12 59000", "0.01"),
        ("60000 59000", "0.01"),
        ("0.5 2", "0.01"),
        ("1.2345 1.2", "0.01"),
        ("0.5 1.2345", "0.0001"),
        ("0.00001234", "1e-8"),
    ],
)
def test_the_price_increment_is_what_the_prices_show(tmp_path: Path, closes: str, increment: str) -> None:
    found = replay(tmp_path, rows(closes)).products(["BTC-USD", "NO-USD"])
    assert list(found) == ["BTC-USD"]
    assert found["BTC-USD"].price_increment == Decimal(increment)
    assert (found["BTC-USD"].base, found["BTC-USD"].quote, found["BTC-USD"].tradable) == ("BTC", "USD", True)


def test_slots_run_from_the_first_with_history_for_all_to_the_last_of_any(tmp_path: Path) -> None:
    source = replay(tmp_path, rows("1 2 3 4 5 6"), rows("1 2 3 - - -", product="ETH-USD"))
    both, slots, after = ["BTC-USD", "ETH-USD"], [], None
    while (after := source.next_slot(both, "1h", 2, after)) is not None:
        slots.append(after)
    assert slots == [SLOT - 4 * HOUR, SLOT - 3 * HOUR, SLOT - 2 * HOUR, SLOT - HOUR, SLOT]


def test_the_first_slot_waits_for_the_product_that_began_last(tmp_path: Path) -> None:
    source = replay(tmp_path, rows("1 2 3 4 5 6"), rows("- - - 1 2 3", product="ETH-USD"))
    assert source.next_slot(["BTC-USD", "ETH-USD"], "1h", 2, None) == SLOT - HOUR
    assert source.next_slot(["BTC-USD"], "1h", 2, None) == SLOT - 4 * HOUR


def test_a_slot_is_given_for_a_missing_candle_too(tmp_path: Path) -> None:
    source = replay(tmp_path, rows("1 2 - 4"))
    assert source.next_slot(["BTC-USD"], "1h", 1, SLOT - 2 * HOUR) == SLOT - HOUR


def test_a_product_with_too_little_history_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="BTC-USD has 3 candles of 1h, expected at least 4"):
        replay(tmp_path, rows("1 2 3")).next_slot(["BTC-USD"], "1h", 4, None)


def test_a_missing_file_names_path_product_interval_and_what_is_there(tmp_path: Path) -> None:
    source = Replay(write_generated(tmp_path, 1, length=3), SPREAD)
    with pytest.raises(
        ConfigurationError, match=r"coinbase/BTC-USD/5m.parquet is missing: BTC-USD was recorded in 1h, not in 5m"
    ):
        source.candles({"BTC-USD": 0}, "5m", SLOT)
    with pytest.raises(ConfigurationError, match="SOL-USD was not recorded at coinbase, which has BTC-USD, ETH-USD"):
        source.candles({"SOL-USD": 0}, "1h", SLOT)
    with pytest.raises(ConfigurationError, match="found '7m', expected one of"):
        source.candles({"BTC-USD": 0}, "7m", SLOT)


def test_a_path_that_is_not_one_venue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a folder"):
        Replay(tmp_path / "nowhere", SPREAD)
    with pytest.raises(ConfigurationError, match=r"holds 0 venue folders \(none\)"):
        Replay(tmp_path, SPREAD)
    write_replay(tmp_path, rows("1"), venue="kraken")
    write_replay(tmp_path, rows("1"), venue="coinbase")
    with pytest.raises(ConfigurationError, match=r"holds 2 venue folders \(coinbase, kraken\)"):
        Replay(tmp_path, SPREAD)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rows("1").to_csv, "cannot be read"),
        (lambda file: rows("1").drop(columns="volume").to_parquet(file), "expected rows with start, open"),
        (rows("1")[:0].to_parquet, "found 0 rows"),
        (lambda file: rows("1").astype({"start": "float64"}).to_parquet(file), "start is float64, expected int64"),
    ],
    ids=["garbage", "no volume", "no rows", "float start"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: object, message: str) -> None:
    source = replay(tmp_path, rows("1 2"))
    damage(tmp_path / "coinbase" / "BTC-USD" / "1h.parquet")  # type: ignore[operator]
    with pytest.raises(ConfigurationError, match=message) as raised:
        source.candles({"BTC-USD": 0}, "1h", SLOT)
    assert "BTC-USD/1h.parquet" in str(raised.value)


def test_it_has_no_wall_clock(tmp_path: Path) -> None:
    with pytest.raises(KeelError, match="no clock"):
        replay(tmp_path, rows("1")).now()


def test_its_name_is_its_path(tmp_path: Path) -> None:
    source = replay(tmp_path, rows("1"))
    assert source.name == f"replay:{tmp_path}"
    assert source.is_replay


def test_starts_off_the_grid_do_not_move_the_slots(tmp_path: Path) -> None:
    source = replay(tmp_path, rows("1 2 3").assign(start=lambda frame: frame["start"] + 60))
    assert source.next_slot(["BTC-USD"], "1h", 1, None) == SLOT - HOUR
