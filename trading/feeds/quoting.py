"""A quote made from a single price, and product rules where no venue states them: shared by replay and synthetic."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from trading.market import Product, Quote
from trading.money import ONE, ceil_to, dec, floor_to


def quote_around(product: str, price: float, *, spread: Decimal, increment: Decimal, at: datetime) -> Quote | None:
    """Bid and ask half of `spread` (a ratio) below and above `price`, on the increment's grid; None where no bid is left.

    Rounded outwards, bid down and ask up: a fill at the quote is never better than the price allowed.
    """
    mid = dec(float(price), f"price of {product}")
    bid = floor_to(mid * (ONE - spread / 2), increment)
    ask = ceil_to(mid * (ONE + spread / 2), increment)
    return Quote(product=product, bid=bid, ask=ask, at=at) if bid > 0 else None


def assumed_product(product: str, price_increment: Decimal) -> Product:
    """Rules as liquid spot products have them: base in steps of 1e-8, at least 1 of quote an order."""
    base, _, quote = product.partition("-")
    return Product(
        id=product, base=base, quote=quote, base_increment=Decimal("1e-8"), price_increment=price_increment,
        base_min_size=Decimal("1e-8"), base_max_size=Decimal(1_000_000_000), min_notional=ONE,
    )  # fmt: skip
