"""Controls of prices, books and signals: what an entry may not be built on. Product checks, run once per product and batch.

A second price source, an order book, the venue's fee and a strategy's signal are not always there. Without them the check says
so and passes, unless the plan requires one; what is there must be sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from trading.money import ONE, ZERO, dec, text
from trading.risk.checks import Bounds, Finding, Lane

PEG_LOW, PEG_HIGH = Decimal("0.995"), Decimal("1.005")
DOLLARS = frozenset({"USD", "USDC", "USDT", "PYUSD", "DAI", "GUSD", "USDP"})
"""What is worth a dollar or is in trouble: a pair of two of them trades near one."""
FLIPS_AMONG_MIN = 5
"""Products with an opinion, from which on it counts how many turn at once: of two, both do every other week."""


def spread(lane: Lane, bounds: Bounds) -> Finding:
    """(ask - bid) ÷ mid."""
    limit = bounds.controls.max_spread
    if lane.quote is None or lane.quote.mid <= ZERO:
        return False, None, limit
    observed = (lane.quote.ask - lane.quote.bid) / lane.quote.mid
    return ZERO <= observed <= limit, observed, limit


def candle_fresh(lane: Lane, bounds: Bounds) -> Finding:
    """Seconds since the product's last candle closed."""
    limit = bounds.controls.candle_age_intervals * bounds.interval_seconds
    return lane.candle_age is not None and ZERO <= lane.candle_age <= limit, lane.candle_age, limit


def near_mean(lane: Lane, bounds: Bounds) -> Finding:
    """Mid against the volume-weighted mean of the recent candles' typical prices, (high + low + close) ÷ 3."""
    limit = bounds.controls.vwap_band
    if lane.quote is None or lane.mean_price is None or lane.mean_price <= ZERO:
        return False, None, limit
    observed = abs(lane.quote.mid / lane.mean_price - ONE)
    return observed <= limit, observed, limit


def second_source(lane: Lane, bounds: Bounds) -> Finding:
    """Our mid against an independent one, of the same moment."""
    limit, second = bounds.controls.max_second_deviation, lane.second
    if second is None:
        return not bounds.controls.second_source_required, "no second source", limit
    if lane.second_age is None or abs(lane.second_age) > bounds.controls.second_age_seconds:
        return False, f"{lane.second_age} s old", limit
    if lane.quote is None or not ZERO < second.bid <= second.ask:
        return False, f"{text(second.bid)}/{text(second.ask)}", limit
    observed = abs(lane.quote.mid / second.mid - ONE)
    return observed <= limit, observed, limit


def peg(lane: Lane, _: Bounds) -> Finding:
    """A pair of two dollars trades near one."""
    limit = f"{PEG_LOW}..{PEG_HIGH}"
    if not DOLLARS.issuperset(lane.id.split("-")):
        return True, None, limit
    mid = None if lane.quote is None else lane.quote.mid
    return mid is not None and PEG_LOW <= mid <= PEG_HIGH, mid, limit


def fee(_: Lane, bounds: Bounds) -> Finding:
    """What the venue takes now over what the plan reckons with."""
    limit, told = bounds.controls.max_fee_ratio, bounds.venue_fee
    if told is None:
        return True, "no fee told", limit
    if bounds.planned_fee <= ZERO:
        return told <= ZERO, told, ZERO
    observed = told / bounds.planned_fee
    return observed <= limit, observed, limit


def signal(lane: Lane, bounds: Bounds) -> Finding:
    """A strategy's order rests on an opinion of its: finite, from -1 to 1. An order by hand rests on none."""
    limit = "-1..1"
    if bounds.signals is None:
        return True, "no model", limit
    opinion = bounds.signals.get(lane.id)
    return opinion is not None and -1.0 <= opinion <= 1.0, None if opinion is None else str(opinion), limit


def turned(_: Lane, bounds: Bounds) -> Finding:
    """Share of all products whose signal went from wanted to unwanted, or back, with the last candle."""
    limit = bounds.controls.max_flip_share
    if bounds.turns is None:
        return True, "no model", limit
    count, among = bounds.turns
    if among < FLIPS_AMONG_MIN:
        return True, f"{among} products", limit
    observed = dec(count) / among
    return observed <= limit, observed, limit


def turns(now: Mapping[str, float], before: Mapping[str, float]) -> tuple[int, int]:
    """How many signals went from wanted to unwanted or back, among how many that there were at both candles."""
    both = [id_ for id_ in now if id_ in before]
    return sum((now[id_] > 0.0) is not (before[id_] > 0.0) for id_ in both), len(both)
