"""How the paper exchange fills: pure rules, the pessimistic choice wherever a candle leaves one.

At once     a market order, and the marketable part of a limit order, takes the touch (or walks the book where one is
            known), each price worsened by the slippage; never more than the participation share of a candle's volume.
            What we took before against the same quote is gone: slices of one exit do not all get the best price.
Later       what rests is held against each later candle. A limit order fills only when the price went through it, at
            its limit, never better. A stop fills at the worse of its stop and the candle's open, plus slippage. A stop
            limit that triggers trades from the next candle on, at its limit and the taker's fee. A bracket is a stop and
            a limit: of a candle that reaches both, the stop counts.
At all      fill or kill: what does not fill whole at once is cancelled whole.
Rounding    increments bind prices and quantities. Fees are exact to 18 decimals, beyond that rounded up, against us;
            notionals beyond 18 decimals are rounded half to even, as the ledger does (`Fill.notional`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from trading.market import Product, Quote
from trading.money import LEDGER_UNIT, ONE, ZERO, ceil_to, floor_to, ledger_round
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
        return ledger_round(self.quantity * self.price)


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
    if quote is None:
        return Refusal("INVALID_NO_LIQUIDITY", f"{request.product} has no quote")
    unpriced = request.type in (OrderType.MARKET, OrderType.STOP, OrderType.BRACKET)
    takes = unpriced or is_marketable(request, quote)
    if not rules.tradable or (rules.limit_only and unpriced) or (rules.post_only and takes):
        return Refusal("UNTRADABLE_PRODUCT", f"{request.product} does not take this order now")
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
    needs_limit = request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.BRACKET)
    needs_stop = request.type in (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.BRACKET)
    if needs_limit != (request.limit_price is not None) or needs_stop != (request.stop_price is not None):
        return Refusal("INVALID_REQUEST", f"a {request.type} order with limit {request.limit_price}, stop {request.stop_price}")
    if request.time_in_force is TimeInForce.GTD and (request.expires_at is None or request.expires_at <= quote.at):
        return Refusal("PREVIEW_INVALID_END_TIME", f"a GTD order that ends at {request.expires_at}, now {quote.at}")
    if request.time_in_force is TimeInForce.FOK and request.type is not OrderType.LIMIT:
        return Refusal("FOK_ONLY_ALLOWED_ON_LIMIT_ORDERS", f"a {request.type} order that fills or is killed")
    if request.time_in_force is TimeInForce.FOK and request.post_only:
        return Refusal("POST_ONLY_NOT_ALLOWED_WITH_FOK", "a post-only order rests, this one does not")
    if request.post_only and (request.type is not OrderType.LIMIT or is_marketable(request, quote)):
        return Refusal("INVALID_LIMIT_PRICE_POST_ONLY", "a post-only order would take")
    return _stop_refusal(request, quote)


def _stop_refusal(request: Request, quote: Quote) -> Refusal | None:
    if request.type is OrderType.BRACKET:
        assert request.stop_price is not None
        assert request.limit_price is not None
        apart = request.side is Side.SELL and request.stop_price < quote.bid and quote.ask < request.limit_price
        told = f"stop {request.stop_price}, limit {request.limit_price}: the market must lie between them"
        return None if apart else Refusal("INVALID_BRACKET_PRICES", told)
    if request.stop_price is not None:
        buys, limit = request.side is Side.BUY, request.limit_price
        if limit is not None and (limit < request.stop_price if buys else limit > request.stop_price):
            word = "ABOVE" if buys else "BELOW"
            return Refusal(f"PREVIEW_STOP_PRICE_{word}_LIMIT_PRICE", f"stop {request.stop_price}, limit {limit}")
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


_WAITING = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.BRACKET})


def match_now(request: Request, rules: Product, quote: Quote, costs: Costs, volume: Decimal, taken: Decimal = ZERO) -> Matched:
    """What fills at once, and what becomes of the rest: it rests if it may, else it is cancelled.

    `volume` is the last candle's, in base; `taken` is what we took of this side since this very quote.
    """
    executions: tuple[Execution, ...] = ()
    if is_marketable(request, quote):
        most = floor_to(min(request.quantity, costs.participation * volume - taken), rules.base_increment)
        executions = tuple(_take(request, rules, quote, costs, most, taken))
    left = request.quantity - sum((part.quantity for part in executions), ZERO)
    if left and request.time_in_force is TimeInForce.FOK:
        return Matched((), "cancelled")
    waits = request.type in _WAITING or (request.type is OrderType.LIMIT and request.time_in_force is not TimeInForce.IOC)
    return Matched(executions, "filled" if not left else "open" if waits else "cancelled")


def _take(request: Request, rules: Product, quote: Quote, costs: Costs, most: Decimal, taken: Decimal) -> Sequence[Execution]:
    buys, limit = request.side is Side.BUY, request.limit_price
    touch = quote.ask if buys else quote.bid
    parts: list[Execution] = []
    left, gone = most, taken
    for level, shown in (quote.asks if buys else quote.bids) or ((touch, most + taken),):
        if left <= 0 or (limit is not None and (level > limit if buys else level < limit)):
            break
        here = min(gone, shown)
        gone -= here
        quantity = floor_to(min(left, shown - here), rules.base_increment)
        if quantity <= 0:
            continue
        price = _worsened(request.side, level, rules, costs)
        if limit is not None:  # slippage never takes an order through its own limit
            price = min(price, limit) if buys else max(price, limit)
        parts.append(_execution(quantity, price, costs.taker_fee, "taker"))
        left -= quantity
    return parts


def _worsened(side: Side, price: Decimal, rules: Product, costs: Costs) -> Decimal:
    """The price with slippage against us, on the next increment against us."""
    if side is Side.BUY:
        return ceil_to(price * (ONE + costs.slippage), rules.price_increment)
    return max(floor_to(price * (ONE - costs.slippage), rules.price_increment), rules.price_increment)


def _execution(quantity: Decimal, price: Decimal, rate: Decimal, liquidity: str) -> Execution:
    """Fees are exact up to 18 decimals, beyond that rounded up: against us."""
    return Execution(quantity, price, ceil_to(quantity * price * rate, LEDGER_UNIT), liquidity)


def hold_of(request: Request, left: Decimal, costs: Costs) -> Decimal:
    """What resting `left` keeps from other use: the coin of a sell; of a buy price × quantity × (1 + taker fee), rounded up.

    A gap through a buy stop has no bound, so its hold is twice that; what it does not cover is not filled.
    """
    if request.side is Side.SELL:
        return left
    price = request.limit_price or request.stop_price or ZERO
    room = 2 if request.type is OrderType.STOP else 1
    return ceil_to(left * price * room * (ONE + costs.taker_fee), LEDGER_UNIT)


def match_bar(
    request: Request, left: Decimal, hold: Decimal, bar: Bar, rules: Product, costs: Costs, *, triggered: bool
) -> Matched:
    """What one later candle does to the rest of an order. `hold` is what is set aside for it: no fill takes more."""
    # Expiry before a fill: the candle does not tell which came first, and a fill that we count on may not have been.
    if has_expired(request, bar.close_at):
        return Matched((), "expired", triggered)
    most = floor_to(min(left, costs.participation * bar.volume), rules.base_increment)
    if request.type in (OrderType.STOP, OrderType.STOP_LIMIT) and not triggered:
        if not _reaches(request, bar):
            return Matched((), "open")
        if request.type is OrderType.STOP:
            return _stop_out(request, most, left, hold, bar, rules, costs)
        # A stop limit only triggers here: whether its limit came before its stop or after, the candle does not tell, and
        # not to be filled is the worse for us. It may trade from the next candle on.
        return Matched((), "open", triggered=True)
    if request.type is OrderType.BRACKET and _reaches(request, bar):
        return _stop_out(request, most, left, hold, bar, rules, costs)
    return _at_limit(request, most, left, hold, bar, rules, costs, triggered=triggered)


def has_expired(request: Request, at: datetime) -> bool:
    return request.time_in_force is TimeInForce.GTD and request.expires_at is not None and request.expires_at <= at


def _reaches(request: Request, bar: Bar) -> bool:
    stop = request.stop_price
    return stop is not None and (bar.high >= stop if request.side is Side.BUY else bar.low <= stop)


def _at_limit(
    request: Request, most: Decimal, left: Decimal, hold: Decimal, bar: Bar, rules: Product, costs: Costs, *, triggered: bool
) -> Matched:
    """Touching is not enough: others queue before us. The candle must go through the limit; it fills there, never better."""
    limit = request.limit_price
    if limit is None or not (bar.low < limit if request.side is Side.BUY else bar.high > limit):
        return Matched((), "open", triggered)
    # A triggered stop limit may have met the book at once: the candle does not tell, the taker's fee is the worse for us.
    takes = request.type is OrderType.STOP_LIMIT
    rate, liquidity = (costs.taker_fee, "taker") if takes else (costs.maker_fee, "maker")
    quantity = _covered(request, most, hold, limit, rate, rules)
    parts = (_from_hold(request, quantity, limit, (rate, liquidity), hold),) if quantity > 0 else ()
    return Matched(parts, "filled" if quantity == left else "open", triggered)


def _stop_out(request: Request, most: Decimal, left: Decimal, hold: Decimal, bar: Bar, rules: Product, costs: Costs) -> Matched:
    """A stop becomes a market order at the worse of its stop and the open (a gap); what does not fill is cancelled."""
    stop = request.stop_price
    assert stop is not None
    worst = max(stop, bar.open) if request.side is Side.BUY else min(stop, bar.open)
    price = _worsened(request.side, worst, rules, costs)
    quantity = _covered(request, most, hold, price, costs.taker_fee, rules)
    parts = (_from_hold(request, quantity, price, (costs.taker_fee, "taker"), hold),) if quantity > 0 else ()
    return Matched(parts, "filled" if quantity == left else "cancelled", triggered=True)


def _covered(request: Request, most: Decimal, hold: Decimal, price: Decimal, rate: Decimal, rules: Product) -> Decimal:
    """As much of `most` as the hold pays for, fee included; a sell's hold is the coin itself."""
    return most if request.side is Side.SELL else min(most, floor_to(hold / (price * (ONE + rate)), rules.base_increment))


def _from_hold(request: Request, quantity: Decimal, price: Decimal, as_: tuple[Decimal, str], hold: Decimal) -> Execution:
    """A fill that is paid out of a hold: the last 1e-18 of a rounded fee is let go where the hold does not have it."""
    part = _execution(quantity, price, *as_)
    return part if request.side is Side.SELL else replace(part, fee=min(part.fee, hold - part.notional))
