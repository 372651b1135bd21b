"""Every check of a request, as a table of small pure functions with stable codes.

A check answers (passed, observed, limit). Whom it binds is its guard:

    integrity   every order, protective exits too: what is sent must be well-formed and covered by a holding
    order       everything but protective exits: fat fingers
    entry       only orders that add risk: limits, prices, quality

Product checks look at the product alone and are run once per product and batch; order checks are run per request, on
the figures of that moment (`Proposed`), which stay with the outcome: run again on them, a check says the same. What a
check cannot know (no quote, no equity) it does not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from trading.market import Product, Quote
from trading.money import ONE, ZERO, text
from trading.orders import OrderType, Request, Side, TimeInForce
from trading.plan import Controls
from trading.portfolio import NOTHING_RECENT, Recent
from trading.risk.comovement import Together

# Looked up once: on Python 3.11 an enum member costs as much as the comparison itself, and these run per request.
_BUY, _MARKET, _IOC = Side.BUY, OrderType.MARKET, TimeInForce.IOC

NO_TIME = datetime.min.replace(tzinfo=UTC)
"""Where no time was given: nothing is in time then."""

MODERATE = Controls()

Value = Decimal | str | int | float | datetime | None
Finding = tuple[bool, Value, Value]


class Guard(Enum):
    INTEGRITY = "integrity"
    ORDER = "order"
    ENTRY = "entry"


class Like(NamedTuple):
    """What is as large and as dear as a buy that was sent just before."""

    quantity_low: Decimal
    quantity_high: Decimal
    price_low: Decimal
    price_high: Decimal
    at: datetime


@dataclass(slots=True, kw_only=True)
class Lane:
    """One product as the checks see it, the same for a whole batch."""

    id: str
    product: Product | None
    quote: Quote | None
    listed: bool
    gated: str = ""
    doubted: bool = False
    frozen: str = ""
    quote_age: Decimal | None = None
    """Seconds from the quote to now; negative when it claims to come from the future."""
    range_low: Decimal | None = None
    range_high: Decimal | None = None
    buy_price: Decimal | None = None
    sell_price: Decimal | None = None
    price_low: Decimal = ZERO
    """Lowest and highest stated price that is near enough to the mid."""
    price_high: Decimal = ZERO
    base_increment: Decimal = ONE
    price_increment: Decimal = ONE
    base_min_size: Decimal = ZERO
    base_max_size: Decimal = ZERO
    min_notional: Decimal = ZERO
    sliceable_from: Decimal = ZERO
    """The quantity that makes two of the venue's smallest sales: a sale of less cannot be sliced."""
    exitable_from: Decimal | None = None
    """The quantity whose sale surely brings the venue's smallest notional after slippage and fees."""
    candle_age: Decimal | None = None
    """Seconds from the close of its last candle to now."""
    mean_price: Decimal | None = None
    """Volume-weighted mean of its recent candles' typical prices."""
    day_notional: Decimal | None = None
    """What it traded within the last day of candles, at the mid."""
    second: Quote | None = None
    """Of an independent source, where there is one."""
    second_age: Decimal | None = None
    recent: Recent = NOTHING_RECENT
    """What was sent of it before this batch."""
    likes: tuple[Like, ...] = ()
    """Of this, what a further buy must not be like."""


@dataclass(slots=True, kw_only=True)
class Bounds:
    """A plan's limits, compiled once per batch. None or zero equity lets no entry pass."""

    order_size_max: Decimal
    order_size_min: Decimal
    position_value_max: Decimal
    """Largest worth of one product: the share limit times equity."""
    open_positions_max: int
    day_volume_max: Decimal
    exposure_max: Decimal
    """Largest worth of all products: the leverage limit times equity."""
    price_band: Decimal
    outlay: Decimal
    """Worst cash per notional of a buy: slippage and fee included."""
    equity: Decimal | None
    volatility: Decimal | None = ZERO
    volatility_max: Decimal = ZERO
    quote_age_max: Decimal = ZERO
    controls: Controls = MODERATE
    now: datetime = NO_TIME
    """Market time."""
    latest_end: datetime = NO_TIME
    """Of an order that states its end."""
    interval_seconds: int = 0
    hour_volume_max: Decimal = ZERO
    hour_volume_less: Decimal = ZERO
    """What of the day's volume, as it was before this batch, was not sent within the last hour; negative just after midnight."""
    minute_orders: int = 0
    """Of the portfolio, sent within the last minute, before this batch."""
    messages_max: int = 0
    """Orders a minute that leave a reserve for cancels."""
    planned_fee: Decimal = ZERO
    venue_fee: Decimal | None = None
    """What the venue takes now; None where it was not asked."""
    signals: Mapping[str, float] | None = None
    """The strategy's opinions that the batch rests on; None where it rests on none (by hand)."""
    turns: tuple[int, int] | None = None
    """How many of them turned with the last candle, among how many (`trading.risk.prices.turns`)."""
    correlated_max: float = 0.0


@dataclass(slots=True)
class Proposed:
    """A request on the table, with all that its checks see at that moment; nothing changes it afterwards."""

    request: Request
    lane: Lane
    bounds: Bounds
    notional: Decimal
    """NaN without a price: every comparison with it raises, and so refuses."""
    cash: Decimal
    """Free of holds and of what the batch has approved so far, as all that follows."""
    day_volume: Decimal
    exposure: Decimal
    open_positions: int
    quantity: Decimal
    """Held and approved to be bought of this product."""
    free: Decimal
    """Quantity that no live or approved sale has reserved."""
    value: Decimal
    """Worth of the holding, of live buys and of approved ones."""
    active: bool
    """Held, or being bought."""
    is_repeated: bool
    """An order of the same product and leg was approved before."""
    batch_orders: int
    """Approved in the batch so far."""
    orders: int
    """Of these, of this product: purchases, for nobody buys and sells a product in one slot."""
    together: Together
    """What a purchase meets in the other holdings; for entries only."""


class ProductCheck(NamedTuple):
    code: str
    guard: Guard
    test: Callable[[Lane, Bounds], Finding]
    says: str


class OrderCheck(NamedTuple):
    code: str
    guard: Guard
    test: Callable[[Proposed], Finding]
    says: str


# Product checks ------------------------------------------------------------------------------------------------------


def product_known(lane: Lane, _: Bounds) -> Finding:
    return lane.product is not None, lane.id, None


def product_tradable(lane: Lane, _: Bounds) -> Finding:
    return lane.product is not None and lane.product.tradable, lane.id, None


def price_known(lane: Lane, _: Bounds) -> Finding:
    quote = lane.quote
    if quote is None:
        return False, None, None
    return ZERO < quote.bid <= quote.ask, f"{text(quote.bid)}/{text(quote.ask)}", None


def product_in_plan(lane: Lane, _: Bounds) -> Finding:
    return lane.listed, lane.id, None


def not_gated(lane: Lane, _: Bounds) -> Finding:
    return not lane.gated, lane.gated or None, None


def not_in_doubt(lane: Lane, _: Bounds) -> Finding:
    return not lane.doubted, lane.id if lane.doubted else None, None


def not_frozen(lane: Lane, _: Bounds) -> Finding:
    return not lane.frozen, lane.frozen or None, None


def quote_fresh(lane: Lane, bounds: Bounds) -> Finding:
    """A quote from the future is as wrong as an old one."""
    age = lane.quote_age
    return age is not None and abs(age) <= bounds.quote_age_max, age, bounds.quote_age_max


def price_in_range(lane: Lane, _: Bounds) -> Finding:
    if lane.quote is None or lane.range_low is None or lane.range_high is None:
        return False, None, None
    mid = lane.quote.mid
    return lane.range_low <= mid <= lane.range_high, mid, f"{text(lane.range_low)}..{text(lane.range_high)}"


def equity_known(_: Lane, bounds: Bounds) -> Finding:
    return bounds.equity is not None and bounds.equity > ZERO, bounds.equity, ZERO


def volatility(_: Lane, bounds: Bounds) -> Finding:
    observed = bounds.volatility
    return observed is not None and observed <= bounds.volatility_max, observed, bounds.volatility_max


PRODUCT_CHECKS = (
    ProductCheck("product_known", Guard.INTEGRITY, product_known, "the venue's rules of the product are not known"),
    ProductCheck("product_tradable", Guard.INTEGRITY, product_tradable, "the venue takes no new orders in the product"),
    ProductCheck("price_known", Guard.ORDER, price_known, "no usable bid and ask"),
    ProductCheck("product_in_plan", Guard.ENTRY, product_in_plan, "the plan does not list the product"),
    ProductCheck("product_gated", Guard.ENTRY, not_gated, "its prices failed the quality gate"),
    ProductCheck("in_doubt", Guard.ENTRY, not_in_doubt, "an order in the product is in doubt"),
    ProductCheck("asset_frozen", Guard.ENTRY, not_frozen, "an open break freezes the asset"),
    ProductCheck("quote_stale", Guard.ENTRY, quote_fresh, "age of the quote in seconds"),
    ProductCheck("price_out_of_range", Guard.ENTRY, price_in_range, "mid against the recent range"),
    ProductCheck("equity_known", Guard.ENTRY, equity_known, "equity cannot be valued"),
    ProductCheck("portfolio_volatility", Guard.ENTRY, volatility, "annualised volatility of the holdings"),
)


# Order checks --------------------------------------------------------------------------------------------------------


def quantity(proposed: Proposed) -> Finding:
    value = proposed.request.quantity
    return type(value) is Decimal and value.is_finite() and value > ZERO, value, ZERO


def terms(proposed: Proposed) -> Finding:
    """Market orders state no price, limits a limit, stops a stop, a bracket of a holding both; GTD states its end.

    Only resting limits post only, only limits fill or kill.
    """
    request = proposed.request
    if request.type is not _MARKET:
        return _stated_terms_fit(request), request.type, None
    plain = request.limit_price is None and request.stop_price is None and request.expires_at is None
    return plain and not request.post_only and request.time_in_force is _IOC, request.type, None


def _stated_terms_fit(request: Request) -> bool:
    wants_limit = request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.BRACKET)
    wants_stop = request.type in (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.BRACKET)
    rests = request.time_in_force in (TimeInForce.GTC, TimeInForce.GTD)
    return (
        (request.limit_price is not None) == wants_limit
        and (request.stop_price is not None) == wants_stop
        and all(price.is_finite() and price > ZERO for price in stated_prices(request))
        and (request.expires_at is not None) == (request.time_in_force is TimeInForce.GTD)
        and (not request.post_only or (rests and request.type is OrderType.LIMIT))
        and (rests or request.type is OrderType.LIMIT)
        and (request.type is not OrderType.BRACKET or request.side is not _BUY)
    )


def order_type(proposed: Proposed) -> Finding:
    request, product = proposed.request, proposed.lane.product
    if product is None or product.post_only:
        return product is not None and request.post_only, request.type, "post_only"
    resting = not product.limit_only or request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    return resting, request.type, "limit" if product.limit_only else None


def quantity_increment(proposed: Proposed) -> Finding:
    increment = proposed.lane.base_increment
    return not proposed.request.quantity % increment, proposed.request.quantity, increment


def price_increment(proposed: Proposed) -> Finding:
    increment = proposed.lane.price_increment
    for price in stated_prices(proposed.request):
        if price % increment:
            return False, price, increment
    return True, None, increment


def venue_size_min(proposed: Proposed) -> Finding:
    limit = proposed.lane.base_min_size
    return proposed.request.quantity >= limit, proposed.request.quantity, limit


def venue_size_max(proposed: Proposed) -> Finding:
    limit = proposed.lane.base_max_size
    return proposed.request.quantity <= limit, proposed.request.quantity, limit


def holding(proposed: Proposed) -> Finding:
    """A sale is covered by what no live sell has reserved; a protective order is a sale."""
    request = proposed.request
    if request.side is _BUY:
        return not request.protective, "buy", "sell" if request.protective else None
    return request.quantity <= proposed.free, request.quantity, proposed.free


def duplicate(proposed: Proposed) -> Finding:
    """Product and leg make the identity of an order in its slot: a second one would be the same order again."""
    return not proposed.is_repeated, proposed.request.leg, None


def venue_notional_min(proposed: Proposed) -> Finding:
    limit = proposed.lane.min_notional
    return proposed.notional >= limit, proposed.notional, limit


def order_size_max(proposed: Proposed) -> Finding:
    """A sale that the venue would not take in two passes even if it is worth more: a guard never blocks an exit."""
    limit = proposed.bounds.order_size_max
    return proposed.notional <= limit or _is_unsliceable(proposed), proposed.notional, limit


def _is_unsliceable(proposed: Proposed) -> bool:
    return proposed.request.side is not _BUY and proposed.request.quantity < proposed.lane.sliceable_from


def price_band(proposed: Proposed) -> Finding:
    """A limit price is near the mid. A stop waits on its own side of the quote, and its limit is near the stop."""
    request, lane = proposed.request, proposed.lane
    if request.stop_price is not None:
        return _stop_band(request, request.stop_price, lane, proposed.bounds.price_band)
    price = request.limit_price
    if price is None:
        return True, None, None
    nearest = lane.price_low if price < lane.price_low else lane.price_high
    return lane.price_low <= price <= lane.price_high, price, nearest


def _stop_band(request: Request, stop: Decimal, lane: Lane, band: Decimal) -> Finding:
    if lane.quote is None:
        return False, stop, None
    touch = lane.quote.ask if request.side is _BUY else lane.quote.bid
    waits = stop > touch if request.side is _BUY else stop < touch
    if not waits or request.limit_price is None:
        return waits, stop, touch
    if request.type is OrderType.BRACKET:  # its limit waits on the other side: the further off, the better for us
        return request.limit_price > lane.quote.ask, request.limit_price, lane.quote.ask
    return abs(request.limit_price - stop) <= band * stop, request.limit_price, stop


def order_size_min(proposed: Proposed) -> Finding:
    limit = proposed.bounds.order_size_min
    return proposed.notional >= limit, proposed.notional, limit


def exitable(proposed: Proposed) -> Finding:
    """What would be held after this entry must be sellable: over the venue's minima after slippage and fees."""
    limit, after = proposed.lane.exitable_from, proposed.quantity + proposed.request.quantity
    return limit is not None and after >= limit, after, limit


def position_size(proposed: Proposed) -> Finding:
    after, limit = proposed.value + proposed.notional, proposed.bounds.position_value_max
    return after <= limit, after, limit


def open_positions(proposed: Proposed) -> Finding:
    after, limit = proposed.open_positions + (not proposed.active), proposed.bounds.open_positions_max
    # A product that is held already opens nothing: buying more of it stays possible when the count is over its limit.
    return proposed.active or after <= limit, after, limit


def balance(proposed: Proposed) -> Finding:
    needed, cash = proposed.notional * proposed.bounds.outlay, proposed.cash
    return needed <= cash, needed, cash


def leverage(proposed: Proposed) -> Finding:
    after, limit = proposed.exposure + proposed.notional, proposed.bounds.exposure_max
    return after <= limit, after, limit


def daily_volume(proposed: Proposed) -> Finding:
    after, limit = proposed.day_volume + proposed.notional, proposed.bounds.day_volume_max
    return after <= limit, after, limit


ORDER_CHECKS = (
    OrderCheck("quantity", Guard.INTEGRITY, quantity, "quantity is a positive Decimal"),
    OrderCheck("terms", Guard.INTEGRITY, terms, "type, prices and time in force belong together"),
    OrderCheck("order_type", Guard.INTEGRITY, order_type, "the venue takes only this type now"),
    OrderCheck("quantity_increment", Guard.INTEGRITY, quantity_increment, "quantity is a multiple of the increment"),
    OrderCheck("price_increment", Guard.INTEGRITY, price_increment, "prices are multiples of the increment"),
    OrderCheck("venue_size_min", Guard.INTEGRITY, venue_size_min, "the venue's smallest quantity"),
    OrderCheck("venue_size_max", Guard.INTEGRITY, venue_size_max, "the venue's largest quantity"),
    OrderCheck("holding", Guard.INTEGRITY, holding, "a sale is covered by the free holding"),
    OrderCheck("duplicate", Guard.INTEGRITY, duplicate, "one order per product and leg"),
    OrderCheck("venue_notional_min", Guard.ORDER, venue_notional_min, "the venue's smallest notional"),
    OrderCheck("order_size_max", Guard.ORDER, order_size_max, "notional of the order"),
    OrderCheck("price_band", Guard.ORDER, price_band, "stated price against the quote"),
    OrderCheck("order_size_min", Guard.ENTRY, order_size_min, "notional of the order"),
    OrderCheck("exitable", Guard.ENTRY, exitable, "quantity held after the order could be sold again"),
    OrderCheck("position_size", Guard.ENTRY, position_size, "worth of the position after the order"),
    OrderCheck("open_positions", Guard.ENTRY, open_positions, "products held after the order"),
    OrderCheck("balance", Guard.ENTRY, balance, "cash for the order with slippage and fees"),
    OrderCheck("leverage", Guard.ENTRY, leverage, "worth of all positions after the order"),
    OrderCheck("daily_volume", Guard.ENTRY, daily_volume, "notional sent today after the order"),
)


def stated_prices(request: Request) -> tuple[Decimal, ...]:
    """Limit and stop price, those that the request states."""
    if request.limit_price is None:
        return () if request.stop_price is None else (request.stop_price,)
    return (request.limit_price,) if request.stop_price is None else (request.limit_price, request.stop_price)
