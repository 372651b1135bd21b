"""The quality gate: each planted defect makes its expectation fail, gates its product, and leaves the others alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from great_expectations.validator.validation_graph import tqdm

from tests.builders.candles import SLOT, generated, rows, typed
from trading.errors import ConfigurationError, KeelError
from trading.market import COLUMNS, Candles
from trading.quality import QualityGate, QualityRules, Verdict
from trading.quality.suite import Suite
from trading.quality.verdict import Rule, course_rules, coverage_rules, shape_rules

HOUR = 3600
NEWEST = int(SLOT.timestamp()) - HOUR
BTC, ETH = "BTC-USD", "ETH-USD"
IDS = (BTC, ETH)
GATE = QualityGate()
NAMES = (
    "schema", "not_null", "on_grid", "not_ahead", "ohlc", "positive", "volume", "unique", "increasing",
    "unrevised", "jump", "wick", "gap", "flat", "volume_unit",
    "present", "fresh", "dense", "unrepeated",
)  # fmt: skip


def judge(
    fetched: pd.DataFrame, history: pd.DataFrame | Candles | None = None, *, now: datetime = SLOT, **changes: object
) -> Verdict:
    rules = replace(QualityRules(), **changes)  # type: ignore[arg-type]
    return GATE.judge(fetched, history, IDS, "1h", now, rules)


def failed(verdict: Verdict) -> set[str]:
    return {outcome.name for outcome in verdict.outcomes if not outcome.passed}


def market(length: int = 100) -> pd.DataFrame:
    return generated(11, IDS, length=length)


def of(frame: pd.DataFrame, product: str = BTC) -> pd.Series:
    return frame["product"] == product


def at(frame: pd.DataFrame, back: int, product: str = BTC) -> pd.Series:
    """The row of a product that starts `back` candles before the newest."""
    return of(frame, product) & (frame["start"] == NEWEST - back * HOUR)


def scale(frame: pd.DataFrame, where: pd.Series, factor: float, *names: str) -> pd.DataFrame:
    changed = frame.copy()
    changed.loc[where, list(names or ("open", "high", "low", "close"))] *= factor
    return changed


def put(frame: pd.DataFrame, where: pd.Series, **values: object) -> pd.DataFrame:
    changed = frame.copy()
    for name, value in values.items():
        if isinstance(value, str) or value is None:
            changed[name] = changed[name].astype(object)
        changed.loc[where, name] = value
    return changed


def twice(frame: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    return pd.concat([frame, frame[where]]).sort_values(["product", "start"], kind="stable", ignore_index=True)


def rival(frame: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    other = frame[where].assign(volume=1.0)
    return pd.concat([frame, other]).sort_values(["product", "start"], kind="stable", ignore_index=True)


def without(frame: pd.DataFrame, where: pd.Series) -> pd.DataFrame:
    return frame[~where].reset_index(drop=True)


def stale(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """The newest `count` candles repeat the close before them, with nothing traded."""
    newest = of(frame) & (frame["start"] > NEWEST - count * HOUR)
    close = frame.loc[at(frame, count), "close"].iloc[0]
    return put(frame, newest, open=close, high=close, low=close, close=close, volume=0.0)


def swapped_volume(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    newest = of(frame) & (frame["start"] > NEWEST - count * HOUR)
    changed = frame.copy()
    changed.loc[newest, "volume"] *= changed.loc[newest, "close"]
    return changed


def test_sound_candles_pass_every_expectation_and_are_all_stored() -> None:
    fetched = market()
    verdict = judge(fetched)
    assert tuple(outcome.name for outcome in verdict.outcomes) == NAMES
    assert failed(verdict) == set()
    assert verdict.passed
    pd.testing.assert_frame_equal(typed(verdict.clean), typed(fetched))


Plant = Callable[[pd.DataFrame], pd.DataFrame]
# defect -> the expectations that fail, and how many of the rows may still be stored less
DEFECTS: dict[str, tuple[Plant, set[str], int]] = {
    "a text where a number belongs": (lambda f: put(f, at(f, 5), high="n/a"), {"schema", "not_null"}, 1),
    "a boolean where a number belongs": (
        lambda f: put(f.astype({"volume": object}), at(f, 5), volume=np.bool_(1)), {"schema", "not_null"}, 1),
    "a start between two seconds": (
        lambda f: f.assign(start=f["start"] + np.where(at(f, 5), 0.5, 0)), {"schema", "not_null"}, 1),
    "a null price": (lambda f: put(f, at(f, 5), open=np.nan), {"not_null"}, 1),
    "an infinite price": (lambda f: put(f, at(f, 5), high=np.inf), {"not_null"}, 1),
    "a null volume": (lambda f: put(f, at(f, 5), volume=None), {"not_null"}, 1),
    "a start off the grid": (lambda f: put(f, at(f, 5), start=NEWEST - 5 * HOUR + 60), {"on_grid"}, 1),
    "a candle from the future": (
        lambda f: pd.concat([f, f[at(f, 0)].assign(start=NEWEST + 48 * HOUR)], ignore_index=True), {"not_ahead"}, 0),
    "a high below the close": (lambda f: scale(f, at(f, 5), 0.97, "high"), {"ohlc"}, 1),
    "a low above the open": (lambda f: scale(f, at(f, 5), 1.03, "low"), {"ohlc"}, 1),
    "prices of zero": (lambda f: put(f, at(f, 5), open=0.0, high=0.0, low=0.0, close=0.0), {"positive"}, 1),
    "a negative low": (lambda f: put(f, at(f, 5), low=-1.0), {"positive"}, 1),
    "a negative volume": (lambda f: put(f, at(f, 5), volume=-1e-9), {"volume"}, 1),
    "two candles for one start": (lambda f: rival(f, at(f, 5)), {"unique"}, 1),
    "starts in the wrong order": (
        lambda f: pd.concat([f[at(f, 5)], without(f, at(f, 5))], ignore_index=True), {"increasing"}, 0),
    "a close far away that comes back": (lambda f: scale(f, at(f, 5), 1.4), {"jump"}, 1),
    "a close at a third": (lambda f: scale(f, at(f, 5), 1 / 3), {"jump"}, 1),
    "a newest close far away, not confirmed yet": (lambda f: scale(f, at(f, 0), 0.7), {"jump", "fresh"}, 1),
    "a high at ten times": (lambda f: scale(f, at(f, 5), 10, "high"), {"wick"}, 1),
    "a low near zero": (lambda f: scale(f, at(f, 5), 0.001, "low"), {"wick"}, 1),
    "a hole of four candles": (
        lambda f: without(f, of(f) & f["start"].between(NEWEST - 8 * HOUR, NEWEST - 5 * HOUR)), {"gap", "dense"}, 0),
    "single candles missing all over": (
        lambda f: without(f, of(f) & (f["start"] // HOUR % 15 == 3)), {"dense"}, 0),
    "a feed that stands still": (lambda f: stale(f, 5), {"flat"}, 0),
    "volumes in quote units": (lambda f: swapped_volume(f, 3), {"volume_unit"}, 0),
    "no newest candle": (lambda f: without(f, at(f, 0)), {"fresh"}, 0),
    "a product that is not there": (lambda f: without(f, of(f)), {"present", "fresh"}, 0),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_named_gates_its_product_only_and_is_not_stored(defect: str) -> None:
    plant, expectations, unfit = DEFECTS[defect]
    fetched = plant(market())
    verdict = judge(fetched)
    assert failed(verdict) == expectations
    assert list(verdict.gated) == [BTC]
    assert all(name in verdict.gated[BTC] for name in expectations)
    sound = fetched[fetched["start"].apply(lambda start: start <= NEWEST and start % HOUR == 0)]
    expected = sound["product"].value_counts().get(ETH) + sound.loc[of(sound), "start"].nunique() - unfit
    assert len(verdict.clean) == expected + (1 if defect in ("a start off the grid", "a start between two seconds") else 0)


@pytest.mark.parametrize("missing", [*COLUMNS[1:]])
def test_a_missing_column_gates_every_product(missing: str) -> None:
    verdict = judge(market().drop(columns=missing))
    assert "schema" in failed(verdict)
    assert list(verdict.gated) == list(IDS)
    assert verdict.clean.empty


def test_without_a_product_column_every_product_is_missing() -> None:
    assert {"present", "fresh"} <= failed(judge(market().drop(columns="product")))


def test_no_rows_at_all_gate_every_product() -> None:
    for nothing in (market()[:0], pd.DataFrame(), pd.DataFrame(columns=list(COLUMNS))):
        verdict = judge(nothing)
        assert list(verdict.gated) == list(IDS)
        assert failed(verdict) == {"present", "fresh"}


def test_the_unfinished_candle_is_dropped_without_blame() -> None:
    fetched = pd.concat([market(), rows("60000 1", end=SLOT + timedelta(hours=1))[1:]], ignore_index=True)
    verdict = judge(fetched, now=SLOT + timedelta(minutes=20))
    assert failed(verdict) == set()
    assert verdict.unfinished == 1
    assert verdict.clean["start"].max() == NEWEST


def test_an_exact_duplicate_is_merged_and_noted_but_gates_nothing() -> None:
    fetched = twice(market(), at(market(), 5))
    verdict = judge(fetched)
    assert failed(verdict) == {"unrepeated"}
    assert verdict.gated == {}
    assert verdict.merged == 1
    assert len(verdict.clean) == len(fetched) - 1


def test_rows_of_a_product_that_nobody_asked_for_are_dropped_and_counted() -> None:
    verdict = judge(pd.concat([market(), rows("1 2", product="XYZ-USD")]))
    assert verdict.strangers == 2
    assert failed(verdict) == set()
    assert set(verdict.clean["product"]) == set(IDS)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_tolerable_hole_passes(count: int) -> None:
    fetched = market()
    hole = of(fetched) & fetched["start"].between(NEWEST - (5 + count - 1) * HOUR, NEWEST - 5 * HOUR)
    assert hole.sum() == count
    assert failed(judge(without(fetched, hole))) == set()


def test_a_short_pause_of_trading_passes() -> None:
    assert failed(judge(stale(market(), 4))) == set()


# --- against what is stored already


def split(frame: pd.DataFrame, newest: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """History and fetch: the newest candles are fetched."""
    new = frame["start"] > NEWEST - newest * HOUR
    return frame[~new].reset_index(drop=True), frame[new].reset_index(drop=True)


def matrix(history: pd.DataFrame, length: int = 120) -> Candles:
    return Candles.from_frame(history, "1h", IDS, end=SLOT, length=length)


@pytest.mark.parametrize("shape", [lambda history: history, matrix], ids=["rows", "matrix"])
def test_history_as_rows_or_as_a_matrix_gives_the_same_verdict(shape: Callable[[pd.DataFrame], object]) -> None:
    for fetched_whole in (
        market(),
        scale(market(), at(market(), 1), 1.4),
        stale(market(), 6),
        swapped_volume(market(), 3),
    ):
        history, fetched = split(fetched_whole, 2)
        verdict = judge(fetched, shape(history))  # type: ignore[arg-type]
        assert failed(verdict) == failed(judge(fetched, history))


def test_history_may_name_its_products_in_another_order_and_hold_others() -> None:
    history, fetched = split(market(), 1)
    more = pd.concat([history, rows("5 " * 50, product="AAA-USD")])
    other = Candles.from_frame(more, "1h", ("ETH-USD", "AAA-USD", "BTC-USD"), end=SLOT, length=99)
    verdict = judge(fetched, other)
    assert failed(verdict) == set()
    assert len(verdict.clean) == 2


def test_nothing_new_and_nothing_due_passes() -> None:
    verdict = judge(market()[:0], market())
    assert failed(verdict) == set()
    assert verdict.clean.empty


def test_what_is_stored_already_is_not_stored_again() -> None:
    history, _ = split(market(), 1)
    verdict = judge(market(), history)
    assert failed(verdict) == set()
    assert sorted(verdict.clean["product"]) == list(IDS)
    assert set(verdict.clean["start"]) == {NEWEST}


def test_a_stored_candle_that_the_source_now_tells_otherwise_gates_and_stays() -> None:
    history, _ = split(market(), 1)
    verdict = judge(scale(market(), at(market(), 3), 1.0001, "close"), history)
    assert failed(verdict) >= {"unrevised"}
    assert list(verdict.gated) == [BTC]
    assert NEWEST - 3 * HOUR not in set(verdict.clean["start"])


@pytest.mark.parametrize(("factor", "gates"), [(1.009, False), (1.011, True)])
def test_a_late_trade_may_change_a_stored_volume_a_little(factor: float, gates: bool) -> None:
    history, _ = split(market(), 1)
    verdict = judge(scale(market(), at(market(), 3), factor, "volume"), history)
    assert (failed(verdict) == {"unrevised"}) is gates


def test_a_jump_is_held_back_until_the_next_close_confirms_it() -> None:
    crashed = scale(market(), of(market()) & (market()["start"] >= NEWEST - HOUR), 0.75)
    history, fetched = split(crashed, 2)
    first = judge(fetched[fetched["start"] < NEWEST], history, now=SLOT - timedelta(hours=1))
    assert failed(first) == {"jump", "fresh"}
    assert BTC not in set(first.clean["product"])
    second = judge(fetched, history)
    assert failed(second) == set()
    assert of(second.clean).sum() == 2


def test_a_false_print_never_becomes_the_level_that_later_candles_are_held_against() -> None:
    history, fetched = split(scale(market(), at(market(), 1), 1.6), 2)
    verdict = judge(fetched, history)
    assert failed(verdict) == {"jump"}
    assert verdict.clean.loc[of(verdict.clean), "start"].to_list() == [NEWEST]
    assert verdict.outcome("jump").failures[0].count == 1


def test_a_fall_over_three_candles_is_a_fall() -> None:
    """Each of the three moves is beyond what is allowed; the close that stays confirms them all."""
    falling = generated(11, IDS, length=100, volatility=0.0005)
    for back, factor in ((3, 0.85), (2, 0.7), (1, 0.6), (0, 0.6)):
        falling = scale(falling, at(falling, back), factor)
    assert failed(judge(falling)) == set()
    unconfirmed = judge(without(falling, at(falling, 0)), now=SLOT - timedelta(hours=1))
    assert unconfirmed.outcome("jump").failures[0].count == 3


def test_a_still_run_ends_with_its_product() -> None:
    frame = stale(market(), 4)
    first = of(frame, ETH) & (frame["start"] < frame["start"].min() + 4 * HOUR)
    assert failed(judge(put(frame, first, open=5.0, high=5.0, low=5.0, close=5.0, volume=0.0))) <= {"jump"}


def test_what_is_usual_is_learnt_from_earlier_candles_only() -> None:
    """The same move passes in a wild product and is a jump in a quiet one, however wild it becomes later."""
    quiet = generated(11, (BTC,), length=100, volatility=0.0005)
    wild = generated(11, (BTC,), length=100, volatility=0.03)
    gate = lambda frame: failed(GATE.judge(frame, None, (BTC,), "1h", SLOT))  # noqa: E731
    assert gate(scale(quiet, at(quiet, 60), 1.2)) == {"jump"}
    assert gate(scale(wild, at(wild, 60), 1.2)) == set()
    both = pd.concat([quiet[:50], wild[50:]], ignore_index=True)
    level = quiet["close"].iloc[49] / wild["close"].iloc[49]
    both.loc[50:, ["open", "high", "low", "close"]] *= level
    assert "jump" in gate(scale(both, at(both, 60), 1.2))


def test_a_stale_run_that_began_in_the_history_is_counted_on() -> None:
    history, fetched = split(stale(market(), 6), 1)
    assert failed(judge(fetched, matrix(history))) == {"flat"}


def test_a_hole_between_history_and_fetch_is_seen() -> None:
    history, fetched = split(market(), 1)
    verdict = judge(fetched, without(history, of(history) & (history["start"] > NEWEST - 6 * HOUR)))
    assert "gap" in failed(verdict)
    assert verdict.outcome("gap").failures[0].found == 5


def test_a_long_history_does_not_hide_that_one_product_is_behind() -> None:
    history, fetched = split(market(), 1)
    verdict = judge(fetched[~of(fetched)], matrix(history))
    assert failed(verdict) == {"present", "fresh"}
    assert list(verdict.gated) == [BTC]


# --- the verdict itself


def test_the_document_lists_the_expectations_as_they_are() -> None:
    rules = QualityRules()
    written = (Path(__file__).parents[2] / "docs" / "data-quality.md").read_text(encoding="utf-8")
    lines = written.split("<!-- expectations: begin -->")[1].split("<!-- expectations: end -->")[0].strip().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    every = (*shape_rules(), *course_rules(rules), *coverage_rules(rules))
    assert [row[:2] for row in cells] == [[rule.name, rule.expected] for rule in every]
    fate = {row[0]: row[2] for row in cells}
    for rule in (*shape_rules(), *course_rules(rules)):
        assert ("is stored" in fate[rule.name]) is rule.stored, rule.name
    for rule in every:
        assert ("gates nothing" not in fate[rule.name]) is rule.gates, rule.name


def test_the_verdict_can_be_stored_and_read() -> None:
    verdict = judge(scale(market(), at(market(), 5), 1.4))
    told = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert told["passed"] is False
    assert told["rows"] == {"fetched": 200, "unfinished": 0, "merged": 0, "strangers": 0, "clean": 199}
    (jump,) = [each for each in told["expectations"] if each["name"] == "jump"]
    assert jump["failures"][0] | {"found": ""} == {"product": BTC, "count": 1, "start": NEWEST - 5 * HOUR, "found": ""}
    assert told["gated"][BTC].startswith("jump: 1 from 2024-12-31T18:00:00Z, found ")


def test_the_verdict_reads_well_in_markdown() -> None:
    text = judge(without(market(), at(market(), 0))).to_markdown()
    assert "18 of 19 expectations passed, 1 of 2 products gated" in text
    assert "| fresh | newest candle at most 0 behind | FAILED: BTC-USD |" in text
    assert "| BTC-USD | fresh: found 1, expected newest candle at most 0 behind |" in text
    assert "noted: BTC-USD" in judge(twice(market(), at(market(), 5))).to_markdown()


def test_an_expectation_that_cannot_be_evaluated_is_an_error_and_never_a_pass() -> None:
    broken = Suite("broken", [Rule(name="lost", fact="no_such_fact", expected="-", most=0)])
    with pytest.raises(KeelError, match="quality suite broken, expectation lost: not evaluated"):
        broken.failing({"another": np.zeros(1)})


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="least_history <= window"):
        QualityRules(window=10, least_history=11)


def test_tolerances_are_the_rules() -> None:
    hole = without(market(), of(market()) & market()["start"].between(NEWEST - 8 * HOUR, NEWEST - 5 * HOUR))
    assert failed(judge(hole, gap_most=4, missing_share_most=0.1)) == set()
    assert failed(judge(stale(market(), 4), flat_most=3)) == {"flat"}
    assert failed(judge(without(market(), at(market(), 0)), behind_most=1)) == set()


def test_a_fetch_of_a_thousand_products_is_one_verdict() -> None:
    ids = [f"P{place}-USD" for place in range(1000)]
    frame = generated(5, ids, length=30)
    verdict = GATE.judge(scale(frame, at(frame, 0, "P7-USD"), 3), None, ids, "1h", SLOT)
    assert list(verdict.gated) == ["P7-USD"]
    assert len(verdict.clean) == 29_999


def test_an_open_that_no_later_close_supports_is_caught_in_a_first_candle_too() -> None:
    """As in a recorded file: the first trade at 600,000, the rest of its hour at 175."""
    first = rows("175", product=ETH).assign(open=600_000.0, high=600_000.0)
    verdict = judge(pd.concat([rows("100"), first]))
    assert verdict.outcome("wick").failures[0].product == ETH
    assert list(verdict.clean["product"]) == [BTC]


def test_one_candle_of_a_new_product_is_judged_without_history() -> None:
    verdict = judge(pd.concat([rows("100"), rows("5", product=ETH)]))
    assert verdict.gated == {}
    assert len(verdict.clean) == 2


def test_verdicts_at_the_same_time_do_not_read_each_others_rows() -> None:
    """A run warms the gate up in a thread while its first fetch is judged."""
    good, bad = rows("100 101 102 103"), rows("100 101 102 103")
    bad.loc[3, "high"] = 1.0
    gate = QualityGate()
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda frame: gate.judge(frame, None, ("BTC-USD",), "1h", SLOT), [good, bad] * 8))
        pool.submit(gate.warm).result()
    assert [len(verdict.clean) for verdict in verdicts] == [4, 3] * 8


def test_a_process_that_is_killed_inside_the_gate_keeps_no_other_waiting() -> None:
    child = os.fork()
    if child == 0:
        tqdm.get_lock().acquire()  # as each judgement does for a moment
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert tqdm.get_lock().acquire(blocking=False)
    tqdm.get_lock().release()
