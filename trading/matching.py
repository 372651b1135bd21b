"""How the paper exchange fills: pure rules, the pessimistic choice wherever a candle leaves one.

At once     a market order, and the marketable part of a limit order, takes the touch (or walks the book where one is
            known), each price worsened by the slippage; never more than the participation share of a candle's volume.
Later       what rests is held against each later candle. A limit order fills only when the price went through it, at
            its limit, never better. A stop fills at the worse of its stop and the candle's open, plus slippage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from trading.market import Product, Quote
from trading.money import LEDGER_UNIT, ONE, ZERO, ceil_to, floor_to
from trading.orders import OrderType, Request, Side, TimeInForce
from trading.plan import Costs


@dataclass(frozen=True, slots=True)
class Execution:
    """A part that fills: base quantity, price, fee in quote."""

    quantity: Decimal
    price: Decimal
    fee: Decimal
    liquidity: str

    @property
    def notional(self) -> Decimal:
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Matched:
    """What became of an order: its new executions and whether the rest is `open`, `filled`, `cancelled` or `expired`."""

    executions: tuple[Execution, ...]
    status: str
    triggered: bool = False

    @property
    def quantity(self) -> Decimal:
        return sum((part.quantity for part in self.executions), ZERO)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order is not taken, in Coinbase's word."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One later candle, in Decimal: what a resting order is held against."""

    close_at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal


def refusal(request: Request, rules: Product | None, quote: Quote | None) -> Refusal | None:
    """Why the venue would refuse the order whatever the account holds; None when it would take it."""
    if rules is None:
        return Refusal("INVALID_PRODUCT_ID", f"{request.product} is not traded here")
    if not rules.tradable or (rules.limit_only and request.type is OrderType.MARKET):
        return Refusal("UNTRADABLE_PRODUCT", f"{request.product} does not take this order now")
    if quote is None:
        return Refusal("INVALID_NO_LIQUIDITY", f"{request.product} has no quote")
    if request.quantity <= 0 or request.quantity % rules.base_increment:
        return Refusal("INVALID_SIZE_PRECISION", f"quantity {request.quantity}, increment {rules.base_increment}")
    for price in (request.limit_price, request.stop_price):
        if price is not None and (price <= 0 or price % rules.price_increment):
            return Refusal("INVALID_PRICE_PRECISION", f"price {price}, increment {rules.price_increment}")
    return _size_refusal(request, rules, quote) or _terms_refusal(request, quote)


def _size_refusal(request: Request, rules: Product, quote: Quote) -> Refusal | None:
    price = request.limit_price or request.stop_price or quote.mid
    if request.quantity < rules.base_min_size or request.quantity * price < rules.min_notional:
        least = f"at least {rules.base_min_size} {rules.base} and {rules.min_notional} {rules.quote}"
        return Refusal("PREVIEW_INVALID_BASE_SIZE_TOO_SMALL", f"quantity {request.quantity}, {least}")
    if request.quantity > rules.base_max_size:
        return Refusal("PREVIEW_INVALID_BASE_SIZE_TOO_LARGE", f"quantity {request.quantity}, at most {rules.base_max_size}")
    return None


def _terms_refusal(request: Request, quote: Quote) -> Refusal | None:
    needs_limit = request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    needs_stop = request.type in (OrderType.STOP, OrderType.STOP_LIMIT)
    if needs_limit != (request.limit_price is not None) or needs_stop != (request.stop_price is not None):
        return Refusal("INVALID_REQUEST", f"a {request.type} order with limit {request.limit_price}, stop {request.stop_price}")
    if request.time_in_force is TimeInForce.GTD and request.expires_at is None:
        return Refusal("PREVIEW_INVALID_END_TIME", "a GTD order without an end")
    if request.post_only and (request.type is not OrderType.LIMIT or is_marketable(request, quote)):
        return Refusal("INVALID_LIMIT_PRICE_POST_ONLY", "a post-only order would take")
    if request.stop_price is not None:
        reached = request.stop_price <= quote.ask if request.side is Side.BUY else request.stop_price >= quote.bid
        if reached:
            word = "BELOW" if request.side is Side.BUY else "ABOVE"
            return Refusal(f"PREVIEW_STOP_PRICE_{word}_LAST_TRADE_PRICE", f"stop {request.stop_price} is reached already")
    return None


def is_marketable(request: Request, quote: Quote) -> bool:
    """Would it take at once? Always for a market order, never for a stop that waits."""
    if request.type is OrderType.MARKET:
        return True
    if request.type is not OrderType.LIMIT or request.limit_price is None:
        return False
    return request.limit_price >= quote.ask if request.side is Side.BUY else request.limit_price <= quote.bid


def match_now(request: Request, rules: Product, quote: Quote, costs: Costs, volume: Decimal) -> Matched:
    """What fills at once, and what becomes of the rest: it rests if it may, else it is cancelled."""
    executions: tuple[Execution, ...] = ()
    if is_marketable(request, quote):
        most = floor_to(min(request.quantity, costs.participation * volume), rules.base_increment)
        executions = tuple(_take(request, rules, quote, costs, most))
    left = request.quantity - sum((part.quantity for part in executions), ZERO)
    waits = request.type in (OrderType.STOP, OrderType.STOP_LIMIT) or (
        request.type is OrderType.LIMIT and request.time_in_force is not TimeInForce.IOC
    )
    return Matched(executions, "filled" if not left else "open" if waits else "cancelled")


def _take(request: Request, rules: Product, quote: Quote, costs: Costs, most: Decimal) -> Sequence[Execution]:
    buys = request.side is Side.BUY
    levels = (quote.asks if buys else quote.bids) or ((quote.ask if buys else quote.bid, most),)
    taken: list[Execution] = []
    left = most
    for level, size in levels:
        if request.limit_price is not None and (level > request.limit_price if buys else level < request.limit_price):
            break
        part = floor_to(min(left, size), rules.base_increment)
        if part <= 0:
            continue
        price = _worsened(request.side, level, rules, costs)
        if request.limit_price is not None:  # slippage never takes an order through its own limit
            price = min(price, request.limit_price) if buys else max(price, request.limit_price)
        taken.append(_execution(part, price, costs.taker_fee, "taker"))
        left -= part
        if not left:
            break
    return taken


def _worsened(side: Side, price: Decimal, rules: Product, costs: Costs) -> Decimal:
    """The price with slippage against us, on the next increment against us."""
    if side is Side.BUY:
        return ceil_to(price * (ONE + costs.slippage), rules.price_increment)
    return max(floor_to(price * (ONE - costs.slippage), rules.price_increment), rules.price_increment)


def _execution(quantity: Decimal, price: Decimal, rate: Decimal, liquidity: str) -> Execution:
    """Fees are exact up to 18 decimals, beyond that rounded up: against us."""
    fee = quantity * price * rate
    exponent = fee.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -18:
        fee = fee.quantize(LEDGER_UNIT, rounding=ROUND_CEILING)
    return Execution(quantity, price, fee, liquidity)


def match_bar(request: Request, left: Decimal, bar: Bar, rules: Product, costs: Costs, *, triggered: bool) -> Matched:
    """What one later candle does to the rest of an order."""
    # Expiry before a fill: the candle does not tell which came first, and a fill that we count on may not have been.
    if request.expires_at is not None and request.time_in_force is TimeInForce.GTD and request.expires_at <= bar.close_at:
        return Matched((), "expired", triggered)
    most = floor_to(min(left, costs.participation * bar.volume), rules.base_increment)
    if request.type in (OrderType.STOP, OrderType.STOP_LIMIT) and not triggered:
        if not _reaches(request, bar):
            return Matched((), "open")
        if request.type is OrderType.STOP_LIMIT:
            return Matched((), "open", triggered=True)  # triggered in this candle, it may trade from the next one on
        return _stop_out(request, most, left, bar, rules, costs)
    limit = request.limit_price
    through = limit is not None and (bar.low < limit if request.side is Side.BUY else bar.high > limit)
    if not through or not most or limit is None:
        return Matched((), "open", triggered)
    part = _execution(most, limit, costs.maker_fee, "maker")  # touching is not enough, and never better than the limit
    return Matched((part,), "filled" if most == left else "open", triggered)


def _reaches(request: Request, bar: Bar) -> bool:
    stop = request.stop_price
    return stop is not None and (bar.high >= stop if request.side is Side.BUY else bar.low <= stop)


def _stop_out(request: Request, most: Decimal, left: Decimal, bar: Bar, rules: Product, costs: Costs) -> Matched:
    """A stop becomes a market order at the worse of its stop and the open (a gap); what the volume does not fill stays."""
    assert request.stop_price is not None
    worst = max(request.stop_price, bar.open) if request.side is Side.BUY else min(request.stop_price, bar.open)
    price = _worsened(request.side, worst, rules, costs)
    parts = (_execution(most, price, costs.taker_fee, "taker"),) if most else ()
    return Matched(parts, "filled" if most == left else "cancelled", triggered=True)
