"""Whatever a source sends, the gate answers, and what it lets through is sound."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.candles import SLOT, generated, typed
from trading.market import COLUMNS, FIELDS
from trading.quality import QualityGate
from trading.quality.course import trailing_median

HOUR = 3600
NEWEST = int(SLOT.timestamp()) - HOUR
IDS = ("BTC-USD", "ETH-USD")
GATE = QualityGate()
MARKET = generated(11, IDS, length=60)

numbers = st.one_of(
    st.sampled_from([0.0, -1.0, 1.0, 100.0, 1e-300, 1e300, float("nan"), float("inf"), float("-inf")]),
    st.floats(min_value=0.01, max_value=1e6),
)
anything = st.one_of(numbers, st.none(), st.text(max_size=3), st.booleans(), st.integers(-(2**70), 2**70))
starts = st.one_of(
    st.integers(-30, 5).map(lambda back: NEWEST + back * HOUR),
    st.integers(-(2**62), 2**62),
    st.floats(),
    st.none(),
    st.text(max_size=2),
)
products = st.one_of(st.sampled_from(IDS), st.text(max_size=4), st.none(), st.integers())
tables = st.lists(st.tuples(products, starts, *[anything] * 5), max_size=12)


def sound(clean: pd.DataFrame) -> bool:
    values = clean[list(FIELDS)].to_numpy(dtype=np.float64)
    opened, high, low, close, volume = values.T
    return bool(
        np.isfinite(values).all()
        and (values[:, :4] > 0).all()
        and (volume >= 0).all()
        and (high >= np.maximum(opened, close)).all()
        and (low <= np.minimum(opened, close)).all()
        and (clean["start"] % HOUR == 0).all()
        and (clean["start"] <= NEWEST).all()
        and clean["product"].isin(IDS).all()
        and not clean.duplicated(["product", "start"]).any()
        and tuple(clean.columns) == COLUMNS
    )


@settings(max_examples=100, deadline=None)
@given(table=tables, stored=st.booleans())
def test_any_rows_at_all_get_a_verdict_and_only_sound_ones_pass(table: list[tuple[object, ...]], stored: bool) -> None:
    fetched = pd.DataFrame(table, columns=list(COLUMNS), dtype=object).infer_objects()
    verdict = GATE.judge(fetched, MARKET[:-2] if stored else None, IDS, "1h", SLOT)
    assert sound(verdict.clean)
    assert json.dumps(verdict.to_dict(), allow_nan=False)
    assert verdict.to_markdown()


@settings(max_examples=60, deadline=None)
@given(
    place=st.integers(15, 59),
    field=st.sampled_from(COLUMNS[2:]),
    value=st.sampled_from([float("nan"), float("inf"), -1.0, 1e9]),
)
def test_damage_to_one_product_never_touches_another(place: int, field: str, value: float) -> None:
    damaged = MARKET.copy()
    damaged.loc[place, field] = value
    verdict = GATE.judge(damaged, None, IDS, "1h", SLOT)
    assert set(verdict.gated) <= {"BTC-USD"}
    eth = verdict.clean[verdict.clean["product"] == "ETH-USD"].reset_index(drop=True)
    pd.testing.assert_frame_equal(typed(eth), typed(MARKET[MARKET["product"] == "ETH-USD"]))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_equal_rows_and_of_products_does_not_matter(seed: int) -> None:
    """Products may come interleaved in any way: only the order within one product says anything."""
    order = np.random.default_rng(seed).permutation(len(MARKET))
    mixed = MARKET.iloc[order].sort_values("start", kind="stable")
    verdict = GATE.judge(mixed, None, IDS, "1h", SLOT)
    assert verdict.gated == {}
    pd.testing.assert_frame_equal(typed(verdict.clean), typed(MARKET))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    factors=st.dictionaries(st.integers(30, 58), st.sampled_from([0.2, 0.98, 1.02, 5.0]), max_size=6),
    cut=st.integers(31, 58),
)
def test_candle_by_candle_what_is_stored_is_what_one_whole_fetch_would_store(
    seed: int, factors: dict[int, float], cut: int
) -> None:
    """Storing up to `cut` first, then fetching the rest, loses and adds nothing: a jump held back is fetched again.

    Factors lie far from the allowed move, which a stored history without the false prints makes a little smaller.
    """
    whole = generated(seed, ("BTC-USD",), length=60)
    for place, factor in factors.items():
        whole.loc[place, ["open", "high", "low", "close"]] *= factor
    middle = SLOT - timedelta(hours=60 - cut)
    first = GATE.judge(whole[:cut], None, ("BTC-USD",), "1h", middle).clean
    since = int(first["start"].max()) + HOUR
    second = GATE.judge(whole[whole["start"] >= since], first, ("BTC-USD",), "1h", SLOT).clean
    at_once = GATE.judge(whole, None, ("BTC-USD",), "1h", SLOT).clean
    in_two = {*first["start"], *second["start"]}
    assert in_two == set(at_once["start"])


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    window=st.integers(2, 6),
    least=st.integers(1, 3),
    data=st.data(),
)
def test_a_trailing_median_sees_only_the_earlier_values_of_its_product(
    lengths: list[int], window: int, least: int, data: st.DataObject
) -> None:
    begins = np.concatenate([np.full(length, sum(lengths[:place])) for place, length in enumerate(lengths)])
    value = st.one_of(st.just(float("nan")), st.integers(-9, 9).map(float))
    values = np.array(data.draw(st.lists(value, min_size=len(begins), max_size=len(begins))))
    found = trailing_median(values, begins, np.arange(len(begins)), window, least)
    for place, first in enumerate(begins):
        earlier = values[max(first, place - window) : place]
        known = earlier[~np.isnan(earlier)]
        expected = np.median(known) if len(known) >= least else np.nan
        np.testing.assert_equal(found[place], expected)
