"""The gate on defects that real recorded data holds; docs/data-quality.md prints what this measures, and this checks it.

Run it after a change of the gate: on a difference it shows the table as it is now.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trading.market import interval_seconds
from trading.money import stamp, utc
from trading.quality import QualityGate, Verdict

pytestmark = pytest.mark.skipif(
    "KEEL_RECORDED" not in os.environ, reason="KEEL_RECORDED is not set: it names the folder of recorded market data"
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "data-quality.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
HOUR = 3600
GATE = QualityGate()
Row = tuple[str, str, str, str]


def load(collection: str, product: str, interval: str = "1h") -> pd.DataFrame:
    folder = Path(os.environ["KEEL_RECORDED"]) / "data" / "candles" / collection
    frame = pd.read_parquet(next(folder.glob(f"*/{product}/{interval}.parquet")))
    frame.insert(0, "product", product)
    return frame


def epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def between(frame: pd.DataFrame, first: str, last: str) -> pd.DataFrame:
    return frame[frame["start"].between(epoch(first), epoch(last))].reset_index(drop=True)


def at_once(frame: pd.DataFrame, interval: str = "1h") -> Verdict:
    """One fetch of everything, as after a long pause, judged when the last candle has closed."""
    end = int(frame["start"].max()) + interval_seconds(interval)
    return GATE.judge(frame, None, tuple(frame["product"].unique()), interval, utc(end))


def cycle_by_cycle(frame: pd.DataFrame, first: str, last: str, interval: str = "1h") -> dict[str, dict[str, str]]:
    """Slot -> gated products, over hourly cycles that fetch what is new and store what passes; 72 h of history first."""
    products = tuple(frame["product"].unique())
    seconds = interval_seconds(interval)
    before = frame[frame["start"].between(epoch(first) - 72 * seconds, epoch(first) - 2 * seconds)]
    stored = GATE.judge(before, None, products, interval, utc(epoch(first) - seconds)).clean
    gated: dict[str, dict[str, str]] = {}
    for slot in range(epoch(first), epoch(last) + 1, seconds):
        newest = frame["product"].map(stored.groupby("product")["start"].max())
        fetched = frame[(frame["start"] > newest) & (frame["start"] < slot)]
        verdict = GATE.judge(fetched, stored, products, interval, utc(slot))
        stored = pd.concat([stored, verdict.clean]).groupby("product").tail(100)
        gated[stamp(utc(slot))] = dict(verdict.gated)
    return gated


def count(verdict: Verdict, name: str) -> int:
    return sum(failure.count for failure in verdict.outcome(name).failures)


def failed(verdict: Verdict) -> list[str]:
    return [outcome.name for outcome in verdict.outcomes if not outcome.passed]


def lost(frame: pd.DataFrame, verdict: Verdict) -> int:
    return frame[["product", "start"]].drop_duplicates().shape[0] - len(verdict.clean)


def seam() -> Row:
    frame = between(load("cdd-coinbase-hourly", "BTC-USD"), "2017-09-18", "2017-11-14")
    verdict = at_once(frame)
    assert failed(verdict) == ["gap", "unrepeated"]
    return (
        "Time-zone seam: hours left out in September, 5 hours twice in November",
        "cdd-coinbase-hourly BTC-USD",
        f"gap: the hole of {verdict.outcome('gap').failures[0].found:.0f} h; unrepeated: {verdict.merged} duplicates merged",
        "the hole of 1 h in November lies within the tolerance",
    )


def hidden_seam() -> Row:
    frame = between(load("cdd-coinbase-hourly", "LTC-USD"), "2017-09-18", "2017-11-14")
    shifted = between(frame, "2017-09-22T20:00", "2017-11-12T03:00")
    verdict = at_once(frame)
    assert failed(verdict) == ["increasing"]
    return (
        "The same seam in a file without the hole: candles 4 to 5 h early",
        "cdd-coinbase-hourly LTC-USD",
        f"increasing: {count(verdict, 'increasing')} back-steps where it ends",
        f"{len(shifted)} candles carry the wrong hour and look sound; only a second product or venue shows it",
    )


def swapped_volume() -> Row:
    frame = load("cdd-bitstamp-hourly", "BTC-USD")
    flagged = count(at_once(frame), "volume_unit")
    cycles = cycle_by_cycle(frame, "2019-03-03T01:00", "2019-03-05T00:00")
    gated = [slot for slot, products in cycles.items() if "volume_unit" in products.get("BTC-USD", "")]
    assert gated[0] == "2019-03-03T03:00:00Z"
    return (
        "Volume in quote units for years, three changes of unit",
        "cdd-bitstamp-hourly BTC-USD",
        f"volume_unit: all three, {flagged} candles; cycle by cycle the first gates {len(gated)} cycles from the second on",
        "some 20,000 candles are in the wrong unit: once half the window is, it is the usual one",
    )


def swapped_from_the_start() -> Row:
    products = ("EOS-USD", "ETC-USD", "LINK-USD", "REP-USD", "XLM-USD", "XRP-USD")
    assert all(count(at_once(load("cdd-coinbase-daily", product, "1d"), "1d"), "volume_unit") == 0 for product in products)
    rows = sum(len(load("cdd-coinbase-daily", product, "1d")) for product in products)
    return (
        "Volume in quote units from the first candle on",
        "cdd-coinbase-daily, 6 products",
        "nothing",
        f"all {rows} candles: nothing to compare with, and below a price of about 200 no change of unit shows either",
    )


def stale_feed() -> Row:
    products = ("BCH-USD", "BTC-USD", "ETH-USD", "LTC-USD", "XMR-USD", "XRP-USD")
    frame = pd.concat([load("cdd-kraken-hourly", product) for product in products], ignore_index=True)
    frame = between(frame, "2020-10-20", "2020-11-05")
    cycles = cycle_by_cycle(frame, "2020-10-26T02:00", "2020-11-04T00:00")
    gated = {product: sum("flat" in gates.get(product, "") for gates in cycles.values()) for product in products}
    assert len(cycles) == 215
    assert set(gated.values()) == {211}
    assert not any("flat" in why for gates in list(cycles.values())[:4] for why in gates.values())
    return (
        "A feed that stands still for 215 h",
        "cdd-kraken-hourly, 6 products",
        f"flat: {gated['BTC-USD']} of {len(cycles)} cycles of every product, from the fifth still candle on",
        "the first 4 candles pass as a pause of trading; the still candles are stored",
    )


def first_trade() -> Row:
    frame = between(load("cdd-kraken-hourly", "BCH-USD"), "2017-08-01", "2017-08-10")
    verdict = at_once(frame)
    assert verdict.outcome("wick").failures[0].start == epoch("2017-08-01T16:00")
    assert frame["open"].iloc[0] == 600_000
    assert verdict.clean["high"].max() < 1000
    return ("An open of 600,000 before a close of 175", "cdd-kraken-hourly BCH-USD", "wick: not stored", "-")


def low_near_zero() -> Row:
    frame = between(load("cdd-kraken-hourly", "XMR-USD"), "2018-01-08", "2018-01-20")
    verdict = at_once(frame)
    low = frame.loc[frame["low"].idxmin()]
    assert low["low"] == 0.01
    assert int(low["start"]) not in set(verdict.clean["start"])
    return ("A low of 0.01 at a price of 360", "cdd-kraken-hourly XMR-USD", "wick: not stored", "-")


def false_prints() -> Row:
    frame = load("coinbase-sandbox-1m", "BTC-USD", "1m").drop_duplicates().sort_values("start", ignore_index=True)
    truth = load("binance-1h", "BTC-USDT").set_index("start")
    hour = frame["start"] // HOUR * HOUR
    over = np.maximum(
        frame["high"] / truth["high"].reindex(hour).to_numpy(), truth["low"].reindex(hour).to_numpy() / frame["low"]
    )
    stored = frame["start"].isin(at_once(frame, "1m").clean["start"])
    found = {ratio: (int((over > ratio).sum()), int(((over > ratio) & ~stored).sum())) for ratio in (1.02, 1.05, 1.10)}
    assert found[1.10][0] == found[1.10][1]
    caught = ", ".join(f"{hit} of {all_} beyond {ratio - 1:.0%}" for ratio, (all_, hit) in reversed(found.items()))
    return (
        "False prints against another venue's range of the hour",
        "coinbase-sandbox-1m BTC-USD",
        f"jump and wick: {caught}",
        "small ones, and those that last: a level that the next minute confirms is a level; only a second venue shows it",
    )


def disorder() -> Row:
    frame = load("coinbase-sandbox-1m", "BTC-USD", "1m")
    verdict = at_once(frame, "1m")
    assert {"increasing", "unrepeated"} <= set(failed(verdict))
    return (
        "Pages newest first in mixed order, their edges twice",
        "coinbase-sandbox-1m BTC-USD",
        f"increasing: {count(verdict, 'increasing'):,} back-steps; unrepeated: {verdict.merged} duplicates merged",
        "-",
    )


def partial_candle() -> Row:
    frame = load("cdd-coinbase-hourly", "BTC-USD")[-100:]
    newest = int(frame["start"].iloc[-1])
    assert frame["volume"].iloc[-1] == 0
    verdict = GATE.judge(frame, None, ("BTC-USD",), "1h", utc(newest + 60))
    assert failed(verdict) == []
    assert (verdict.unfinished, verdict.clean["start"].max()) == (1, newest - HOUR)
    return ("The newest candle, written while it was open", "cdd-coinbase-hourly BTC-USD", "dropped as unfinished", "-")


def sound_data() -> Row:
    files = [(product, interval) for product in ("ADA-USD", "BTC-USD", "ETH-USD", "SOL-USD") for interval in ("15m", "1h")]
    frames = {file: load("coinbase-modern", *file) for file in files}
    verdicts = {file: at_once(frame, file[1]) for file, frame in frames.items()}
    gaps = sum(count(verdict, "gap") for verdict in verdicts.values())
    missed = sum(lost(frames[file], verdict) for file, verdict in verdicts.items())
    assert {name for verdict in verdicts.values() for name in failed(verdict)} <= {"gap", "jump", "wick"}
    return (
        "Nothing: 2024 and 2025 as they were",
        "coinbase-modern, 8 files",
        f"gap: {gaps} candles after the venue's outages of 4 and more candles",
        f"{missed} of {sum(map(len, frames.values())):,} sound candles held back",
    )


def real_turmoil() -> Row:
    products = ("BNB-USDT", "BTC-USDT", "ETH-USDT", "SOL-USDT", "XRP-USDT")
    frames = {product: load("binance-1h", product) for product in products}
    missed = {product: lost(frame, at_once(frame)) for product, frame in frames.items()}
    named = ", ".join(f"{product} {number}" for product, number in missed.items() if number) or "none"
    return (
        "Nothing: the crashes of 2021 and 2022",
        "binance-1h, 5 products",
        "gap: the venue's outages",
        f"sound candles held back of {sum(map(len, frames.values())):,}: {named}",
    )


MEASUREMENTS = (
    seam, hidden_seam, disorder, swapped_volume, swapped_from_the_start, stale_feed, first_trade, low_near_zero, false_prints,
    partial_candle, sound_data, real_turmoil,
)  # fmt: skip


def table(rows: Sequence[Row]) -> list[str]:
    head = ["| Defect | Recorded in | What the gate says | What it cannot see |", "|---|---|---|---|"]
    return head + [f"| {' | '.join(row)} |" for row in rows]


def test_the_document_says_what_the_gate_finds_in_real_data() -> None:
    measured = table([measure() for measure in MEASUREMENTS])
    written = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip().splitlines()
    assert written == measured, "docs/data-quality.md should say:\n" + "\n".join(measured)
