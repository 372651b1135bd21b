"""The products of the simulated venue: increments, minima, flags, and which book an alias trades in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from decimal import Decimal

from trading.errors import ConfigurationError

FLAGS = ("is_disabled", "cancel_only", "limit_only", "post_only", "trading_disabled", "auction_mode", "view_only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One product. `book` is the product whose order book it trades in: BTC-USDC is an alias of BTC-USD."""

    id: str
    base: str
    quote: str
    book: str
    base_increment: Decimal = Decimal("0.00000001")
    quote_increment: Decimal = Decimal("0.01")
    price_increment: Decimal = Decimal("0.01")
    base_min_size: Decimal = Decimal("0.00000001")
    base_max_size: Decimal = Decimal(3400)
    quote_min_size: Decimal = Decimal(1)
    quote_max_size: Decimal = Decimal(150000000)
    protection: Decimal = Decimal("0.03")
    """Price protection: the farthest that an order takes from the mid, as a ratio. 2 % for BTC and ETH, else 3 %."""
    is_disabled: bool = False
    cancel_only: bool = False
    limit_only: bool = False
    post_only: bool = False
    trading_disabled: bool = False
    auction_mode: bool = False
    view_only: bool = False

    @property
    def takes_orders(self) -> bool:
        return not (self.is_disabled or self.cancel_only or self.trading_disabled or self.view_only)

    def changed(self, changes: dict[str, object]) -> Listing:
        """With other flags or limits; raises ConfigurationError for a name that is none of them."""
        types = {field.name: field.type for field in fields(self)}
        wrong = [name for name in changes if types.get(name) not in ("bool", "Decimal")]
        if wrong:
            raise ConfigurationError([f"product {self.id}: {name} is neither a flag nor a limit" for name in wrong])
        read = {name: bool(value) if types[name] == "bool" else Decimal(str(value)) for name, value in changes.items()}
        return replace(self, **read)  # type: ignore[arg-type]  # each by its field's type


def listing(product: str, price_increment: Decimal = Decimal("0.01")) -> Listing:
    base, _, quote = product.partition("-")
    protection = Decimal("0.02") if base in ("BTC", "ETH") else Decimal("0.03")
    largest = Decimal(3400) if base == "BTC" else Decimal(50000000)
    return Listing(
        id=product, base=base, quote=quote, book=product, price_increment=price_increment, protection=protection,
        base_max_size=largest,
    )  # fmt: skip


def listings(increments: Iterable[tuple[str, Decimal]]) -> dict[str, Listing]:
    """The products with a book, and for each in USD its alias in USDC: one book, settled in what the order names."""
    made: dict[str, Listing] = {}
    for product, increment in increments:
        made[product] = listing(product, increment)
    for product in [product for product in made if product.endswith("-USD") and f"{product}C" not in made]:
        made[f"{product}C"] = replace(made[product], id=f"{product}C", quote="USDC")
    return made
