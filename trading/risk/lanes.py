"""What the checks are made on: each product of a batch (`Lane`), and the plan's limits compiled for the batch (`Bounds`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np

from trading.market import Candles, Floats, Market, Product, Quote, age, interval_seconds
from trading.money import ONE, ZERO, dec, utc
from trading.plan import Plan
from trading.portfolio import NOTHING_RECENT, Portfolio
from trading.risk.breaker import portfolio_risk, position_shares
from trading.risk.checks import Bounds, Lane
from trading.risk.pace import ENTRIES_SHARE, likes
from trading.risk.prices import turns

HOUR_SECONDS, DAY_SECONDS = 3600, 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """What the strategy says now and said one candle earlier: product -> signal, without those that it has no opinion of."""

    now: Mapping[str, float]
    before: Mapping[str, float] | None = None


class Lanes:
    """Makes the lane of each product that a batch asks for. `now` is market time."""

    def __init__(self, plan: Plan, market: Market, portfolio: Portfolio, now: datetime) -> None:
        self._plan, self._market, self._portfolio, self._now = plan, market, portfolio, now
        self._listed = frozenset(plan.products)
        self._past = _past(market.candles, plan)

    def lane(self, product: str) -> Lane:
        market, portfolio, plan = self._market, self._portfolio, self._plan
        rules, quote = market.products.get(product), market.quotes.get(product)
        lane = Lane(id=product, product=rules, quote=quote, listed=product in self._listed)
        lane.gated = market.gated.get(product, "")
        lane.doubted = portfolio.is_doubted(product)
        lane.frozen = ", ".join(sorted(portfolio.frozen.intersection(product.split("-"))))
        lane.recent = portfolio.recent.get(product, NOTHING_RECENT)
        lane.likes = likes(lane.recent.bought, self._now, plan.controls.duplicate_seconds)
        lane.second = market.second.get(product)
        lane.second_age = None if lane.second is None else _seconds(age(lane.second, self._now))
        if rules is not None:
            _bind_rules(lane, rules)
        if quote is not None:
            _bind_quote(lane, quote, plan, self._now)
        if product in self._past:
            _bind_past(lane, self._past[product], plan, self._now)
        return lane


def bounds_of(plan: Plan, market: Market, portfolio: Portfolio, now: datetime, opinions: Opinions | None) -> Bounds:
    limits, equity = plan.limits, portfolio.equity(market.quotes)
    worth = max(equity or ZERO, ZERO)
    return Bounds(
        order_size_max=limits.max_order_size_usd,
        order_size_min=plan.orders.min_notional,
        position_value_max=limits.max_position_size * worth,
        open_positions_max=limits.max_open_positions,
        day_volume_max=limits.max_daily_volume_usd,
        exposure_max=plan.checks.max_leverage * worth,
        price_band=plan.checks.price_band,
        outlay=plan.costs.outlay,
        equity=equity,
        volatility=portfolio_risk(position_shares(portfolio, market, worth), market) if worth else None,
        volatility_max=limits.max_portfolio_volatility,
        quote_age_max=Decimal(plan.checks.quote_age_seconds),
        controls=plan.controls,
        now=now,
        latest_end=now + timedelta(seconds=plan.controls.order_life_seconds),
        interval_seconds=interval_seconds(plan.interval),
        hour_volume_max=plan.controls.max_hourly_share * limits.max_daily_volume_usd,
        hour_volume_less=portfolio.day_volume - portfolio.hour_volume,
        minute_orders=portfolio.minute_orders,
        messages_max=int(ENTRIES_SHARE * plan.controls.max_messages_per_minute),
        correlated_max=float(plan.controls.max_correlated_variance),
        planned_fee=plan.costs.taker_fee,
        venue_fee=market.taker_fee,
        signals=None if opinions is None else opinions.now,
        turns=None if opinions is None or opinions.before is None else turns(opinions.now, opinions.before),
    )


def buying_power(market: Market, portfolio: Portfolio) -> Decimal:
    """What the ledger has free or what the venue says is free, the smaller of the two."""
    told = market.cash_at_venue
    return portfolio.cash_free if told is None else min(portfolio.cash_free, told)


def _bind_rules(lane: Lane, rules: Product) -> None:
    lane.base_increment, lane.price_increment = rules.base_increment, rules.price_increment
    lane.base_min_size, lane.base_max_size = rules.base_min_size, rules.base_max_size
    lane.min_notional = rules.min_notional


def _bind_quote(lane: Lane, quote: Quote, plan: Plan, now: datetime) -> None:
    lane.quote_age = _seconds(age(quote, now))
    lane.buy_price, lane.sell_price = quote.ask, quote.bid
    lane.price_low = quote.mid * (ONE - plan.checks.price_band)
    lane.price_high = quote.mid * (ONE + plan.checks.price_band)
    if lane.product is not None and lane.base_increment > ZERO and quote.bid > ZERO:
        lane.sliceable_from = 2 * lane.product.smallest_sale(quote.bid)
        lane.exitable_from = lane.product.smallest_sale(quote.bid * plan.costs.proceeds)


# The past -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Past:
    """A product's candles in a few figures; NaN where it has none."""

    low: float
    high: float
    mean: float
    volume: float
    closed: float
    """When its last candle closed, in epoch seconds."""


def _past(candles: Candles, plan: Plan) -> dict[str, _Past]:
    if not len(candles.starts):
        return {}
    seconds = interval_seconds(candles.interval)
    span = plan.checks.range_candles
    recent = max(math.ceil(HOUR_SECONDS / seconds), math.ceil(plan.controls.candle_age_intervals))
    # fmin and fmax pass over NaN: a gap inside the window does not hide the rest of it.
    low, high = np.fmin.reduce(candles.low[-span:], axis=0), np.fmax.reduce(candles.high[-span:], axis=0)
    volume = day_volumes(candles)
    known = ~np.isnan(candles.close)
    newest = len(candles.starts) - 1 - known[::-1].argmax(axis=0)
    closed = np.where(known.any(axis=0), candles.starts[newest] + float(seconds), np.nan)
    columns = zip(*(part.tolist() for part in (low, high, _mean(candles, recent), volume, closed)), strict=True)
    return {product: _Past(*figures) for product, figures in zip(candles.products, columns, strict=True)}


def day_volumes(candles: Candles) -> Floats:
    """Base units of each product that the candles of the last day traded; a candle that is missing traded nothing."""
    rows = max(1, DAY_SECONDS // interval_seconds(candles.interval))
    volumes: Floats = np.nansum(candles.volume[-rows:], axis=0)
    return volumes


def _mean(candles: Candles, rows: int) -> Floats:
    """Volume-weighted mean of the typical prices, (high + low + close) ÷ 3, of the last rows; NaN where nothing traded."""
    typical = (candles.high[-rows:] + candles.low[-rows:] + candles.close[-rows:]) / 3.0
    volume = np.where(np.isnan(typical), 0.0, candles.volume[-rows:])
    total = volume.sum(axis=0)
    return np.where(total > 0.0, np.nansum(typical * volume, axis=0) / np.where(total > 0.0, total, 1.0), np.nan)


def _bind_past(lane: Lane, past: _Past, plan: Plan, now: datetime) -> None:
    band = plan.checks.range_band
    if math.isfinite(past.low) and math.isfinite(past.high):
        lane.range_low, lane.range_high = dec(past.low) * (ONE - band), dec(past.high) * (ONE + band)
    if math.isfinite(past.mean):
        lane.mean_price = dec(past.mean)
    if math.isfinite(past.closed):
        lane.candle_age = _seconds(now - utc(past.closed))
        if lane.quote is not None and math.isfinite(past.volume):
            lane.day_notional = dec(past.volume) * lane.quote.mid


def _seconds(delta: timedelta) -> Decimal:
    return Decimal(str(delta.total_seconds()))
