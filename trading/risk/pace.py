"""Controls of pace, likeness and impact: how much, how often, and into what. Order checks, all of them entry guards.

What was sent before comes from the ledger (`Recent`, by market time); what this batch has approved so far is on top of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from trading.money import ONE, ZERO
from trading.portfolio import Bought
from trading.risk.checks import Finding, Like, Proposed
from trading.risk.comovement import share_after

ENTRIES_SHARE = Decimal("0.7")
"""Of the messages a minute: the rest is a reserve, so that a cancel always finds room."""
LIKE_QUANTITY, LIKE_PRICE = Decimal("0.01"), Decimal("0.001")
"""Nearer than this in both is the same order again."""


def volume_share(proposed: Proposed) -> Finding:
    """Notional against what the product traded in the last day."""
    traded = proposed.lane.day_notional
    if traded is None:
        return False, proposed.notional, None
    limit = proposed.bounds.controls.max_volume_share * traded
    return proposed.notional <= limit, proposed.notional, limit


def impact(proposed: Proposed) -> Finding:
    """Mean price that the order would pay if it took the book as it was seen, over the best ask.

    A limit takes no level above it. An order that the seen levels do not fill has more impact than can be known.
    """
    controls, quote = proposed.bounds.controls, proposed.lane.quote
    limit = controls.max_impact
    if quote is None or not quote.asks:
        return quote is not None and not controls.book_required, "no book", limit
    request = proposed.request
    if request.quantity <= quote.asks[0][1]:
        return True, ZERO, limit
    taken, paid = _taken(quote.asks, request.quantity, request.limit_price)
    if taken < request.quantity and request.limit_price is None:
        return False, "more than the book", limit
    observed = paid / taken / quote.asks[0][0] - ONE if taken > ZERO else ZERO
    return ZERO <= observed <= limit, observed, limit


def _taken(levels: tuple[tuple[Decimal, Decimal], ...], quantity: Decimal, most: Decimal | None) -> tuple[Decimal, Decimal]:
    """(quantity, notional) that the levels give, the best first, at no price above `most`."""
    left, paid = quantity, ZERO
    for price, offered in levels:
        if most is not None and price > most:
            break
        part = min(left, offered)
        left, paid = left - part, paid + part * price
    return quantity - left, paid


def hourly_volume(proposed: Proposed) -> Finding:
    bounds = proposed.bounds
    after, limit = proposed.day_volume - bounds.hour_volume_less + proposed.notional, bounds.hour_volume_max
    return after <= limit, after, limit


def entries_in_slot(proposed: Proposed) -> Finding:
    after, limit = proposed.orders + 1, proposed.bounds.controls.max_entries_per_slot
    return after <= limit, after, limit


def orders_in_hour(proposed: Proposed) -> Finding:
    after = proposed.lane.recent.hour_orders + proposed.orders + 1
    limit = proposed.bounds.controls.max_orders_per_hour
    return after <= limit, after, limit


def orders_in_day(proposed: Proposed) -> Finding:
    after = proposed.lane.recent.day_orders + proposed.orders + 1
    limit = proposed.bounds.controls.max_orders_per_day
    return after <= limit, after, limit


def live_orders(proposed: Proposed) -> Finding:
    after = proposed.lane.recent.live_orders + proposed.orders + 1
    limit = proposed.bounds.controls.max_live_orders
    return after <= limit, after, limit


def messages(proposed: Proposed) -> Finding:
    """Orders of the whole portfolio within a minute; exits and cancels are counted by nobody's limit but the venue's."""
    after, limit = proposed.bounds.minute_orders + proposed.batch_orders + 1, proposed.bounds.messages_max
    return after <= limit, after, limit


def repeated_entries(proposed: Proposed) -> Finding:
    """Entries of the product in a row, without a sale in between: then it waits for a person."""
    after = proposed.lane.recent.entries + proposed.orders + 1
    limit = proposed.bounds.controls.max_repeated_entries
    return after <= limit, after, limit


def unlike(proposed: Proposed) -> Finding:
    """No buy of the product was as large and as dear within the time: that would be the same decision made twice."""
    if not proposed.lane.likes:
        return True, None, None
    request = proposed.request
    for low, high, price_low, price_high, at in proposed.lane.likes:
        if low <= request.quantity <= high and price_low <= _stated(proposed) <= price_high:
            return False, at, None
    return True, None, None


def _stated(proposed: Proposed) -> Decimal:
    """Its limit or, without one, the mid; NaN without a quote, which no comparison passes."""
    quote, limit = proposed.lane.quote, proposed.request.limit_price
    if limit is not None:
        return limit
    return Decimal("NaN") if quote is None else quote.mid


def likes(bought: Iterable[Bought], now: datetime, seconds: int) -> tuple[Like, ...]:
    """What a further buy must not be like: within `LIKE_QUANTITY` and `LIKE_PRICE` of one that was sent within the time."""
    since = now - timedelta(seconds=seconds)
    return tuple(
        Like(
            quantity * (ONE - LIKE_QUANTITY), quantity * (ONE + LIKE_QUANTITY),
            price * (ONE - LIKE_PRICE), price * (ONE + LIKE_PRICE), at,
        )
        for quantity, price, at in bought
        if at > since
    )  # fmt: skip


def no_self_trade(proposed: Proposed) -> Finding:
    """The purchase would not reach a resting sale of our own."""
    resting, quote = proposed.lane.recent.resting_sale, proposed.lane.quote
    if resting is None:
        return True, None, None
    if quote is None:
        return False, None, resting
    stated = proposed.request.limit_price
    reaches = quote.ask if stated is None else stated
    return reaches < resting, reaches, resting


def order_life(proposed: Proposed) -> Finding:
    """An order that states its end is not over yet, and does not outlive the judgement that it was made on."""
    ends, bounds = proposed.request.expires_at, proposed.bounds
    return ends is None or bounds.now < ends <= bounds.latest_end, ends, bounds.latest_end


def correlated(proposed: Proposed) -> Finding:
    """Share of the variance that comes from holdings moving together, after the order: see `trading.risk.comovement`."""
    limit = proposed.bounds.correlated_max
    share = share_after(proposed.together, float(proposed.notional))
    return share <= limit, share, limit
