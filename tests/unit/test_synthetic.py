"""The synthetic market: the same for everyone, forever bounded, never mistaken for a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from trading.feeds.synthetic import DAY, Synthetic
from trading.market import last_close
from trading.quality import QualityGate

NOW = datetime(2026, 11, 24, 10, 20, 7, tzinfo=UTC)
HOUR = 3600
IDS = ("BTC-USD", "ETH-USD", "ABC-EUR")


def candles(seed: int = 7, hours: int = 300, ids: Sequence[str] = IDS, interval: str = "1h", now: datetime = NOW) -> pd.DataFrame:
    since = int(now.timestamp()) - hours * HOUR
    return Synthetic(seed, lambda: now).candles(dict.fromkeys(ids, since), interval, now)


def test_another_process_at_another_time_sees_the_same_history() -> None:
    code = (
        "from tests.unit.test_synthetic import candles, NOW; from datetime import timedelta;"
        "frame = candles(now=NOW + timedelta(days=3), hours=600);"
        "print(frame[frame['product'] == 'ABC-EUR'].set_index('start')['close'].to_json(double_precision=15))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    other = json.loads(ran.stdout)
    ours = candles(ids=("ABC-EUR",)).set_index("start")["close"]
    assert [other[str(start)] for start in ours.index] == ours.to_list()


def test_a_product_does_not_depend_on_which_others_are_asked_for() -> None:
    alone = candles(ids=("ETH-USD",))
    together = candles()
    pd.testing.assert_frame_equal(alone, together[together["product"] == "ETH-USD"].reset_index(drop=True))


def test_seed_and_product_each_make_another_market() -> None:
    ours = candles().groupby("product")["close"].apply(list)
    assert ours["BTC-USD"] != candles(seed=8).groupby("product")["close"].apply(list)["BTC-USD"]
    assert len({tuple(np.diff(np.log(closes)).round(9)) for closes in ours}) == len(IDS)


def test_only_closed_candles_are_given_each_beginning_where_the_last_ended() -> None:
    frame = candles(ids=("BTC-USD",), hours=48)
    assert frame["start"].iloc[-1] == last_close(NOW, "1h").timestamp() - HOUR
    assert (np.diff(frame["start"]) == HOUR).all()
    assert frame["open"].to_list()[1:] == frame["close"].to_list()[:-1]


def test_coarse_candles_agree_with_fine_ones() -> None:
    fine, coarse = candles(interval="15m", ids=("BTC-USD",)), candles(interval="1h", ids=("BTC-USD",))
    closes = fine.assign(hour=fine["start"] // HOUR * HOUR).groupby("hour")["close"].last()
    assert closes[coarse["start"]].to_list() == coarse["close"].to_list()


def test_a_quote_at_a_close_straddles_that_close() -> None:
    at = last_close(NOW, "1h")
    frame = candles(now=at).groupby("product")["close"].last()
    quotes = Synthetic(7, lambda: at, Decimal("0.0004")).quotes(IDS, at)
    for product in IDS:
        quote, close = quotes[product], Decimal(repr(float(frame[product])))
        assert quote.bid < close < quote.ask
        assert quote.ask / quote.bid == pytest.approx(Decimal("1.0004"), abs=Decimal("0.002"))
        assert quote.at == at


@pytest.mark.parametrize("interval", ["1m", "15m", "1h", "4h", "1d"])
def test_the_gate_finds_nothing_wrong_with_it(interval: str) -> None:
    frame = candles(interval=interval, hours={"1m": 20, "15m": 500}.get(interval, 24 * 365))
    verdict = QualityGate().judge(frame, None, IDS, interval, NOW)
    assert verdict.gated == {}
    assert len(verdict.clean) == len(frame) > 300


def test_prices_stay_within_fixed_bounds_for_a_century() -> None:
    times = np.arange(0, 36_500 * DAY, 7 * HOUR, dtype=np.float64)
    for row in Synthetic(3, lambda: NOW).prices(IDS, times):
        assert row.max() / row.min() < 12
        assert row.min() > 0


def test_regimes_switch_between_calm_and_crash() -> None:
    frame = candles(ids=("BTC-USD",), hours=24 * 365)
    moves = np.log(frame["close"]).diff().groupby(frame["start"] // DAY).std()
    assert moves.quantile(0.99) > 4 * moves.quantile(0.1)
    assert np.log(frame["close"]).diff().std() == pytest.approx(0.005, rel=0.4)


def test_volumes_are_never_zero_and_products_move_together() -> None:
    frame = candles(hours=2000)
    assert (frame["volume"] > 0).all()
    moves = np.log(frame.pivot_table(index="start", columns="product", values="close")).diff().corr().to_numpy()
    assert 0.2 < moves[0, 1] < 0.8


def test_it_names_itself_and_follows_the_clock() -> None:
    source = Synthetic(7, lambda: NOW)
    assert (source.name, source.is_replay, source.now()) == ("synthetic", False, NOW)
    assert source.next_slot(IDS, "1h", 300, None) == NOW.replace(minute=0, second=0)


def test_nothing_due_is_an_empty_frame() -> None:
    source = Synthetic(7, lambda: NOW)
    assert source.candles({"BTC-USD": int(NOW.timestamp())}, "1h", NOW).empty
    assert source.candles({"BTC-USD": 0}, "1h", NOW - timedelta(days=30_000)).empty
    assert source.quotes([], NOW) == {}
