"""From signals to requests: target weights, a no-trade band, the profile's limits, and the product's increments.

Exits come first and are never held up: not by a gate, a doubt, a frozen asset or a limit; one over the order limit is
sliced. Entries come after, strongest signal first, each within what the ones before it have left; one that could never
be exited again is not made. Everything that was cut says so (`Clip`). Same inputs, same requests in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

from trading.market import Candles, Market, Product, Quote, interval_seconds
from trading.money import ONE, ZERO, ceil_to, dec, floor_to, text
from trading.orders import OrderType, Request, Side, TimeInForce
from trading.plan import Plan, order_price
from trading.portfolio import Portfolio, Position
from trading.risk.lanes import buying_power, day_volumes
from trading.risk.scaling import Scale, scales
from trading.strategies import Strategy, explain

LEGS_MAX = 20  # slices of one exit in one slot: a larger holding is sold over several slots
SMALLEST_QUANTITY = Decimal("1e-18")


class Clip(NamedTuple):
    """What was cut or left out: the limit's code, the product, what was wanted and what was allowed."""

    code: str
    product: str
    observed: str
    limit: str

    def __str__(self) -> str:
        return f"{self.product}: {self.code}: observed {self.observed}, limit {self.limit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What we would like to trade: requests (exits first), everything that was cut, and the weights wanted."""

    requests: tuple[Request, ...] = ()
    clips: tuple[Clip, ...] = ()
    targets: Mapping[str, Decimal] = field(default_factory=dict)
    """Product -> target share of equity, before limits; products without an opinion are missing."""


class _Move(NamedTuple):
    """One product's wanted change."""

    product: str
    rules: Product
    quote: Quote
    signal: float
    current: Decimal | None
    """Share of equity held and being bought; None when equity is unknown (then only full exits are made)."""
    target: Decimal


@dataclass(slots=True, kw_only=True)
class _Sizing:
    """What sizing works on, and what it has cut so far."""

    plan: Plan
    market: Market
    portfolio: Portfolio
    equity: Decimal | None
    size_factor: Decimal
    scales: tuple[Scale, ...]
    clips: list[Clip] = field(default_factory=list)

    @property
    def scale(self) -> Decimal:
        """Of the weight that an entry aims at."""
        return math.prod((scale.factor for scale in self.scales), start=ONE)

    def clip(self, code: str, product: str, observed: str, limit: str) -> None:
        self.clips.append(Clip(code, product, observed, limit))


class _Room:
    """What the limits leave; each entry takes its part."""

    def __init__(self, sizing: _Sizing, equity: Decimal, exits: Iterable[Request]) -> None:
        plan, portfolio, market = sizing.plan, sizing.portfolio, sizing.market
        self.equity = equity
        sold = sum((exit_.quantity * order_price(exit_, market.quotes[exit_.product]) for exit_ in exits), ZERO)
        self.volume = plan.limits.max_daily_volume_usd - portfolio.day_volume - sold
        hourly = plan.controls.max_hourly_share * plan.limits.max_daily_volume_usd
        self.hour_volume = hourly - portfolio.hour_volume - sold
        self.traded = dict(zip(market.candles.products, day_volumes(market.candles).tolist(), strict=True))
        self.cash = (buying_power(market, portfolio) - plan.allocation.cash_reserve * equity) / plan.costs.outlay
        self.active = {id_ for id_, position in portfolio.positions.items() if position.quantity}
        self.active |= {id_ for id_, notional in portfolio.working.items() if notional}
        exposure = sum((_worth(id_, market, portfolio) or ZERO for id_ in self.active), ZERO)
        self.exposure = plan.checks.max_leverage * equity - exposure

    def take(self, product: str, notional: Decimal) -> None:
        self.volume -= notional
        self.hour_volume -= notional
        self.cash -= notional
        self.exposure -= notional
        self.active.add(product)


def allocate(
    plan: Plan,
    signals: Mapping[str, float],
    market: Market,
    portfolio: Portfolio,
    *,
    size_factor: Decimal = ONE,
    strategy: Strategy | None = None,
) -> Proposal:
    """Requests that move the portfolio towards the signals' weights, within the plan's limits.

    A signal of 1 wants `plan.allocation.weight` of equity, zero or less wants none (spot is long-only); NaN or a
    missing signal is no opinion and asks for nothing. `size_factor` scales entries (half-open breaker). The
    strategy explains its signal in each request's reason, and only there. When a holding cannot be valued, only full
    exits are made.
    """
    equity = portfolio.equity(market.quotes)
    opinions = {id_: float(signals[id_]) for id_ in plan.products if id_ in signals and not math.isnan(signals[id_])}
    targets = {id_: plan.allocation.weight * dec(min(max(signal, 0.0), 1.0)) for id_, signal in opinions.items()}
    wanted = {id_: min(target, plan.limits.max_position_size) for id_, target in targets.items()}
    sizing = _Sizing(plan=plan, market=market, portfolio=portfolio, equity=equity, size_factor=size_factor,
                     scales=scales(plan, market, portfolio, wanted))  # fmt: skip
    moves = [move for id_, target in targets.items() if (move := _move(id_, opinions[id_], target, sizing)) is not None]
    exits = [request for move in moves if _is_exit(move, plan) for request in _exit(move, sizing)]
    entries = sorted((move for move in moves if _is_entry(move, sizing)), key=lambda move: -move.signal)
    requests = [*exits, *_entries(entries, exits, sizing)]
    if strategy is not None:
        requests = _explained(requests, strategy, market.candles)
    return Proposal(requests=tuple(requests), clips=tuple(sizing.clips), targets=targets)


def _worth(product: str, market: Market, portfolio: Portfolio) -> Decimal | None:
    """Of the holding and of live buys, in the cash asset; None without a quote."""
    value = portfolio.value(product, market.quotes)
    return None if value is None else value + portfolio.working.get(product, ZERO)


def _move(id_: str, signal: float, target: Decimal, sizing: _Sizing) -> _Move | None:
    """The wanted change of a product, or None when there is nothing to change or no price to change it at."""
    held = sizing.portfolio.positions.get(id_)
    if not target and (held is None or not held.quantity):
        return None
    rules, quote = sizing.market.products.get(id_), sizing.market.quotes.get(id_)
    if rules is None or quote is None or quote.bid <= 0:
        sizing.clip("price_known", id_, "no product rules" if rules is None else "no quote", "bid and ask")
        return None
    largest = sizing.plan.limits.max_position_size
    if target > largest:
        sizing.clip("position_size", id_, text(target), text(largest))
    worth = _worth(id_, sizing.market, sizing.portfolio)
    is_valued = worth is not None and sizing.equity is not None and sizing.equity > 0
    current = worth / sizing.equity if is_valued else None  # type: ignore[operator]  # both are known here
    return _Move(id_, rules, quote, signal, current, min(target, largest))


def _is_exit(move: _Move, plan: Plan) -> bool:
    if not move.target:
        return True
    return move.current is not None and move.current - move.target >= _band(plan)


def _is_entry(move: _Move, sizing: _Sizing) -> bool:
    return bool(move.target) and (move.current is None or move.target * sizing.scale - move.current >= _band(sizing.plan))


def _band(plan: Plan) -> Decimal:
    # A band of zero still needs a difference to trade.
    return max(plan.allocation.no_trade_band, SMALLEST_QUANTITY)


# Exits ---------------------------------------------------------------------------------------------------------------


def _exit(move: _Move, sizing: _Sizing) -> list[Request]:
    position = sizing.portfolio.positions.get(move.product)
    if position is None:
        return []
    if not move.rules.tradable:
        sizing.clip("product_tradable", move.product, "not tradable", "tradable")
        return []
    quantity = _exit_quantity(move, position, sizing)
    if not quantity or not _is_sellable(quantity, move):
        if position.free > 0:
            sizing.clip("dust", move.product, text(position.free), f"{text(_smallest_exit(move))} can be sold")
        return []
    slices = _slices(quantity, move, sizing.plan)
    if len(slices) > 1:
        observed = f"{_money(quantity * move.quote.bid)} in {len(slices)} legs"
        sizing.clip("sliced", move.product, observed, _money(sizing.plan.limits.max_order_size_usd))
    if (sold := sum(slices, ZERO)) < quantity:
        sizing.clip("legs", move.product, text(quantity), f"{text(sold)} in {LEGS_MAX} legs, the rest in later slots")
    reason = _reason(move)
    return [_sell(move, sizing.plan, part, leg, reason) for leg, part in enumerate(slices)]


def _exit_quantity(move: _Move, position: Position, sizing: _Sizing) -> Decimal:
    """All that is free for a full exit; else what the target leaves over, and all of it when the rest would be dust."""
    step = move.rules.base_increment
    whole = floor_to(position.free, step)
    if not move.target or sizing.equity is None or move.current is None:
        return whole
    part = min(floor_to((move.current - move.target) * sizing.equity / move.quote.bid, step), whole)
    return part if _is_sellable(position.quantity - part, move, sizing.plan) else whole


def _slices(quantity: Decimal, move: _Move, plan: Plan) -> list[Decimal]:
    """Equal slices within the order limit and the venue's largest size: no small rest that could not be sold."""
    step = move.rules.base_increment
    price = ceil_to(move.quote.ask, move.rules.price_increment) if move.rules.post_only else move.quote.bid
    largest = floor_to(min(plan.limits.max_order_size_usd / price, move.rules.base_max_size), step)
    # Where the venue takes only more than the limit, slices are as small as it takes: a guard never blocks an exit.
    smallest = move.rules.smallest_sale(move.quote.bid)
    largest = max(largest, smallest)
    count = int(min(ceil_to(quantity / largest, ONE), floor_to(quantity / smallest, ONE)))
    if count > LEGS_MAX:
        return [largest] * LEGS_MAX
    each = floor_to(quantity / count, step)
    rest = quantity - each * count
    return [each + step if leg < rest / step else each for leg in range(count)]


def _sell(move: _Move, plan: Plan, quantity: Decimal, leg: int, reason: str) -> Request:
    """At market, also where the plan enters by limits: an exit that rests is no exit. The venue may say otherwise."""
    plain = Request(product=move.product, side=Side.SELL, quantity=quantity, leg=leg, reason=reason)
    if not move.rules.limit_only and not move.rules.post_only:
        return plain
    step = move.rules.price_increment
    if move.rules.post_only:
        return _limit(plain, ceil_to(move.quote.ask, step), plan, move.quote, post_only=True)
    return _limit(plain, ceil_to(move.quote.bid * (ONE - plan.checks.price_band / 2), step), plan, move.quote)


def _smallest_exit(move: _Move, plan: Plan | None = None) -> Decimal:
    """The quantity that the venue would take as a sale now; with a plan, also after slippage and fees."""
    return move.rules.smallest_sale(move.quote.bid * (ONE if plan is None else plan.costs.proceeds))


def _is_sellable(quantity: Decimal, move: _Move, plan: Plan | None = None) -> bool:
    return quantity >= _smallest_exit(move, plan)


# Entries -------------------------------------------------------------------------------------------------------------


def _entries(moves: list[_Move], exits: list[Request], sizing: _Sizing) -> list[Request]:
    if sizing.equity is None or sizing.equity <= 0:
        for move in moves:
            sizing.clip("equity_known", move.product, "unknown or zero", "positive")
        return []
    room = _Room(sizing, sizing.equity, exits)
    made = (_entry(move, sizing, room) for move in moves)
    return [request for request in made if request is not None]


def _entry(move: _Move, sizing: _Sizing, room: _Room) -> Request | None:
    plan, held = sizing.plan, sizing.portfolio.positions.get(move.product)
    barred = _barred(move.product, sizing, room)
    if barred is not None:
        sizing.clips.append(barred)
        return None
    wanted = (move.target * sizing.scale - (move.current or ZERO)) * room.equity * sizing.size_factor
    sizing.clips += [Clip(code, move.product, observed, limit) for code, factor, observed, limit in sizing.scales if factor < ONE]
    price = _entry_price(move, plan)
    notional = _clipped(wanted, move, sizing, room)
    quantity = floor_to(min(notional / price, move.rules.base_max_size), move.rules.base_increment)
    small = _too_small(quantity, price, held.quantity if held else ZERO, move, plan)
    if small is not None:
        sizing.clips.append(small)
        return None
    room.take(move.product, quantity * price)
    return _buy(move, plan, quantity, price, _reason(move))


def _barred(product: str, sizing: _Sizing, room: _Room) -> Clip | None:
    """Why the product takes no new risk now, or None."""
    market, portfolio, most = sizing.market, sizing.portfolio, sizing.plan.limits.max_open_positions
    if product in market.gated:
        return Clip("product_gated", product, market.gated[product], "no failed expectation")
    if portfolio.is_doubted(product):
        return Clip("in_doubt", product, "an order in doubt", "none")
    if frozen := portfolio.frozen.intersection(product.split("-")):
        return Clip("asset_frozen", product, ", ".join(sorted(frozen)), "no open break")
    if not market.products[product].tradable:
        return Clip("product_tradable", product, "not tradable", "tradable")
    if product not in room.active and len(room.active) >= most:
        return Clip("open_positions", product, str(len(room.active) + 1), str(most))
    return None


def _clipped(wanted: Decimal, move: _Move, sizing: _Sizing, room: _Room) -> Decimal:
    """The wanted notional, cut to every limit in turn; each limit that cuts says so."""
    limits = sizing.plan.limits
    caps = (
        ("order_size_max", limits.max_order_size_usd),
        ("position_size", (limits.max_position_size - (move.current or ZERO)) * room.equity),
        ("daily_volume", room.volume),
        ("hourly_volume", room.hour_volume),
        ("volume_share", sizing.plan.controls.max_volume_share * dec(room.traded.get(move.product, 0.0)) * move.quote.mid),
        ("balance", room.cash),
        ("leverage", room.exposure),
    )
    notional = wanted
    for code, cap in caps:
        if notional > max(cap, ZERO):
            sizing.clip(code, move.product, _money(notional), _money(max(cap, ZERO)))
            notional = max(cap, ZERO)
    return notional


def _too_small(quantity: Decimal, price: Decimal, held: Decimal, move: _Move, plan: Plan) -> Clip | None:
    """Never enter what you cannot exit: the order and what is then held must both be over the minima."""
    least = max(plan.orders.min_notional, move.rules.min_notional)
    if quantity * price < least:
        return Clip("order_size_min", move.product, _money(quantity * price), _money(least))
    if quantity < move.rules.base_min_size:
        return Clip("venue_size_min", move.product, text(quantity), text(move.rules.base_min_size))
    if not _is_sellable(held + quantity, move, plan):
        return Clip("exitable", move.product, text(held + quantity), text(_smallest_exit(move, plan)))
    return None


def _entry_price(move: _Move, plan: Plan) -> Decimal:
    """What an entry is valued at: the ask for market orders, the limit price for limit orders (rounded down)."""
    if plan.orders.type == "market" and not move.rules.limit_only and not move.rules.post_only:
        return move.quote.ask
    passive = floor_to(move.quote.mid * (ONE - plan.orders.limit_offset), move.rules.price_increment)
    return min(passive, move.quote.bid) if passive > 0 else move.quote.bid


def _buy(move: _Move, plan: Plan, quantity: Decimal, price: Decimal, reason: str) -> Request:
    plain = Request(product=move.product, side=Side.BUY, quantity=quantity, reason=reason)
    if plan.orders.type == "market" and not move.rules.limit_only and not move.rules.post_only:
        return plain
    return _limit(plain, price, plan, move.quote, post_only=move.rules.post_only)


def _limit(request: Request, price: Decimal, plan: Plan, quote: Quote, *, post_only: bool = False) -> Request:
    """Good until the next candle closes: by then there is a newer opinion."""
    return Request(
        product=request.product,
        side=request.side,
        quantity=request.quantity,
        type=OrderType.LIMIT,
        limit_price=price,
        time_in_force=TimeInForce.GTD,
        post_only=post_only,
        expires_at=quote.at + timedelta(seconds=interval_seconds(plan.interval)),
        leg=request.leg,
        reason=request.reason,
    )


# Words ---------------------------------------------------------------------------------------------------------------


def _reason(move: _Move) -> str:
    current = "?" if move.current is None else f"{move.current:.2f}"
    return f"signal {move.signal:.2f}, weight {current} → {move.target:.2f}"


def _explained(requests: list[Request], strategy: Strategy, candles: Candles) -> list[Request]:
    """Each reason with the strategy's words before it: `sma 12/48 crossed up: signal 1.00, weight 0.00 → 0.20`."""
    words = explain(strategy, candles, list(dict.fromkeys(request.product for request in requests)))
    return [replace(request, reason=f"{words[request.product]}: {request.reason}") for request in requests]


def _money(value: Decimal) -> str:
    return text(round(value, 2))
