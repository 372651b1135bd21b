"""What the state of the market, the account and the order itself forbid: the venue's refusals beyond an order's own terms."""

from __future__ import annotations

from decimal import Decimal

from trading.simulator.book import other, within
from trading.simulator.floor import Floor
from trading.simulator.listing import Listing
from trading.simulator.orders import SimOrder
from trading.simulator.terms import Refused

_MOST_OPEN = 500
_ATTACHED_ALLOWED = {"trigger_bracket_gtc"}


def state_refusal(floor: Floor, order: SimOrder, product: Listing) -> Refused | None:
    """What the state of the market forbids."""
    book, terms = floor.books[product.book], order.terms
    best = book.best(other(order.side))
    if terms.type == "BRACKET" and not floor.settings.brackets:
        return Refused("BRACKET_ORDER_NOT_SUPPORTED")
    if product.auction_mode and not (terms.type == "LIMIT" and terms.rests):
        return Refused("PREVIEW_NOT_ALLOWED_BY_MARKET_STATE", f"{product.id} is in an auction")
    if terms.type == "MARKET" and best is None:
        return Refused("INVALID_NO_LIQUIDITY", f"{product.id} has no {other(order.side)} side")
    takes = terms.type == "LIMIT" and best is not None and within(order.side, best, terms.limit_price)
    if terms.post_only and takes:
        return Refused("INVALID_LIMIT_PRICE_POST_ONLY", "a post-only order would take")
    if sum(live.product == order.product for live in floor.live.values()) >= _MOST_OPEN:
        return Refused("COMMANDER_REJECTED_NEW_ORDER", f"{_MOST_OPEN} orders of {order.product} are open")
    return None


def unfunded(floor: Floor, order: SimOrder, product: Listing) -> Refused | None:
    asset = product.quote if order.side == "BUY" else product.base
    if order.terms.type == "MARKET" and order.side == "BUY":
        needed = order.terms.quote_size or floor.cost(order)
    elif order.terms.type == "MARKET":
        needed = order.left
    else:
        needed = floor.needed_hold(order)[1]
    if needed > floor.wallet.available(order.portfolio, asset):
        return Refused("INSUFFICIENT_FUND", "Insufficient balance in source account")
    return None


def edit_refusal(floor: Floor, order: SimOrder, price: Decimal, size: Decimal) -> str:  # noqa: PLR0911  # a table of reasons
    """Why the venue would not edit the order so; an omitted size is read as 0. Empty when it would."""
    product, terms = floor.products[order.product], order.terms
    if terms.key != "limit_limit_gtc":
        return "ONLY_LIMIT_ORDER_EDITS_SUPPORTED"
    if order.status != "OPEN":
        return "CANNOT_EDIT_ORDER_PENDING_CANCEL" if order.status == "CANCEL_QUEUED" else "ONLY_OPEN_ORDERS_CAN_BE_EDITED"
    if price <= 0 or price % product.price_increment:
        return "INVALID_EDITED_PRICE"
    if size <= 0 or size % product.base_increment:
        return "INVALID_EDITED_SIZE"
    if size <= order.filled_size:
        return "CANNOT_EDIT_TO_BELOW_FILLED_SIZE"
    if (price, size) == (terms.limit_price, terms.base_size):
        return "EDIT_REQUEST_EQUAL_TO_ORIGINAL_REQUEST"
    best = floor.books[product.book].best(other(order.side))
    if terms.post_only and best is not None and within(order.side, best, price):
        return "COMMANDER_REJECTED_EDIT_ORDER"
    asset, held = floor.needed_hold(order)
    per_unit = price * (1 + floor.settings.dearest_fee) if order.side == "BUY" else Decimal(1)
    more = (size - order.filled_size - order.decremented) * per_unit - held
    return "COMMANDER_REJECTED_EDIT_ORDER" if more > floor.wallet.available(order.portfolio, asset) else ""


def attached_refusal(order: SimOrder) -> Refused | None:
    if order.attached and not set(order.attached) <= _ATTACHED_ALLOWED:
        return Refused("UNSUPPORTED_ORDER_CONFIGURATION", "only trigger_bracket_gtc can be attached")
    return None
