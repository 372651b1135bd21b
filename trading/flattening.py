"""Flatten: a person's command to sell what a plan holds, in slices, each with a limit. Nothing ever does this by itself.

The orders are protective exits by hand: they pass open breakers (their point), and meet every integrity guard and the halt
file. A market that falls faster than the collar leaves a rest: that is said, and the person decides anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trading import hand
from trading.desk import Desk
from trading.errors import MarketUnavailable
from trading.money import ONE, ZERO, ceil_to, floor_to
from trading.orders import OrderType, Request, Side, TimeInForce

SLICES_MAX = 50
"""For one product: a position that needs more is sold by several commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flattened:
    """What came of one product."""

    product: str
    sold: Decimal
    left: Decimal
    said: str
    """Why something is left; empty when nothing is."""


def flatten(desk: Desk, reason: str, products: list[str] | None = None) -> list[Flattened]:
    """Sells the plan's positions (all by default) and returns what came of each. Raises Busy, MarketUnavailable, Unanswered."""
    with hand.at_the_desk(desk):
        held = [product for product, quantity in _held(desk).items() if quantity]
    return [_flatten_one(desk, product, reason) for product in held if products is None or product in products]


def _held(desk: Desk) -> dict[str, Decimal]:
    held = desk.books.holdings(desk.book, desk.plan.name, desk.plan.cash_asset)
    return {product: position.quantity for product, position in held.positions.items()}


def _flatten_one(desk: Desk, product: str, reason: str) -> Flattened:
    sold, said = ZERO, f"not done after {SLICES_MAX} slices"
    _free(desk, product, reason)
    for _ in range(SLICES_MAX):
        request = _slice(desk, product, reason)
        if request is None:
            said = ""
            break
        done = hand.place(desk, request)
        if done.order is None:
            said = f"{done.code}: {done.message}"
            break
        sold += done.order.filled
        if not done.order.filled:
            said = f"the order {done.order.id} is {done.order.state} and sold nothing: {done.order.reason}"
            break
    left = _held(desk).get(product, ZERO)
    return Flattened(product=product, sold=sold, left=left, said=said or ("less than the smallest order" if left else ""))


def _free(desk: Desk, product: str, reason: str) -> None:
    """Cancels the plan's orders that rest in the product: a sale among them holds what is to be sold."""
    for order in desk.books.live_orders(desk.book):
        if order.intent.request.product == product and order.intent.owner.plan == desk.plan.name:
            hand.cancel(desk, order.id, f"flatten: {reason}")


def _slice(desk: Desk, product: str, reason: str) -> Request | None:
    """The next order: no more than one order may be worth, at worst so far under the bid; None when nothing sellable is left."""
    quantity = _held(desk).get(product, ZERO)
    rules, quote = desk.exchange.products([product])[product], desk.quote(product)
    if quote is None:
        raise MarketUnavailable(f"{product}: no quote to take a limit from")
    most = desk.plan.limits.max_order_size_usd / quote.bid
    wanted = floor_to(min(quantity, most), rules.base_increment)
    if wanted <= 0 or wanted < rules.base_min_size:
        return None
    limit = ceil_to(quote.bid * (ONE - desk.plan.orders.stop_collar), rules.price_increment)
    return Request(
        product=product, side=Side.SELL, quantity=wanted, type=OrderType.LIMIT, limit_price=limit,
        time_in_force=TimeInForce.IOC, protective=True, reason=f"flatten: {reason}",
    )  # fmt: skip
