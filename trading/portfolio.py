"""What a plan holds, and what it is worth: the view of the books that decisions are made on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from trading.market import Quote
from trading.money import ZERO

DOUBTS_MAX = 2
"""Orders in doubt that gate a whole portfolio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Sum of a product's lots. Quantity in base units, cost in quote; `held` is the part reserved by live sell orders."""

    product: str
    quantity: Decimal
    cost: Decimal
    held: Decimal = ZERO

    @property
    def free(self) -> Decimal:
        """What a new exit may sell."""
        return self.quantity - self.held

    @property
    def average_price(self) -> Decimal:
        return self.cost / self.quantity if self.quantity else ZERO


class Bought(NamedTuple):
    """An entry that was sent lately, at its limit price or, without one, at the mid that it was decided on."""

    quantity: Decimal
    price: Decimal
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What was sent of one product lately, by market time and counted at the send, and what may still trade."""

    hour_orders: int = 0
    day_orders: int = 0
    live_orders: int = 0
    entries: int = 0
    """Buys since the last sale, or since a person resumed the product."""
    resting_sale: Decimal | None = None
    """Lowest limit price of a live sale of our own, of whatever plan of the portfolio."""
    bought: tuple[Bought, ...] = ()
    """The buys of the last hour that were not refused, oldest first."""


NOTHING_RECENT = Recent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """One plan's share of a portfolio: cash in the cash asset, positions by product. Amounts are in the cash asset."""

    book: str
    plan: str
    cash_asset: str
    cash: Decimal
    """Posted at the venue, holds included."""
    positions: Mapping[str, Position] = field(default_factory=dict)
    realised: Decimal = ZERO
    fees: Decimal = ZERO

    def value(self, product: str, quotes: Mapping[str, Quote]) -> Decimal | None:
        """A position at the mid, in quote; zero when flat, None when it has no quote (never guessed)."""
        position = self.positions.get(product)
        if position is None or not position.quantity:
            return ZERO
        quote = quotes.get(product)
        return None if quote is None else position.quantity * quote.mid

    def equity(self, quotes: Mapping[str, Quote]) -> Decimal | None:
        """Cash plus positions at the mid; None when a held product has no quote."""
        total = self.cash
        for product in self.positions:
            value = self.value(product, quotes)
            if value is None:
                return None
            total += value
        return total

    def unrealised(self, quotes: Mapping[str, Quote]) -> Decimal | None:
        """Positions at the mid minus their cost; None when a held product has no quote."""
        equity = self.equity(quotes)
        if equity is None:
            return None
        return equity - self.cash - sum((position.cost for position in self.positions.values()), ZERO)

    @property
    def open_positions(self) -> int:
        return sum(1 for position in self.positions.values() if position.quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio(Holdings):
    """The holdings with all that a decision looks at: what is reserved, in doubt or frozen, and the day's running figures.

    Live and in-doubt orders count as used: `cash_held` and `working` hold them.
    """

    cash_held: Decimal = ZERO
    """Reserved by live buy orders, fees included."""
    cash_missing: Decimal = ZERO
    """What left the account beyond any plan's share, and nobody has allotted yet: every plan goes without it."""
    working: Mapping[str, Decimal] = field(default_factory=dict)
    """Product -> notional of live buy orders (in-doubt ones included)."""
    doubts: frozenset[str] = frozenset()
    """Products with an order in doubt, of whatever plan: they take no new risk."""
    doubtful_orders: int = 0
    """Orders in doubt in the whole portfolio: two of them, and no product takes new risk."""
    frozen: frozenset[str] = frozenset()
    """Assets with an open break: their products take no new risk."""
    peak_equity: Decimal = ZERO
    day_start_equity: Decimal | None = None
    """Equity at the first mark of the (UTC) day; None before it is known."""
    day_volume: Decimal = ZERO
    """Notional sent today, counted at the send."""
    hour_volume: Decimal = ZERO
    """Notional sent within the last hour of market time."""
    minute_orders: int = 0
    """Orders of the whole portfolio, all plans, sent within the last minute of market time."""
    recent: Mapping[str, Recent] = field(default_factory=dict)
    """Product -> what was sent of it lately; nothing for a product that is missing."""

    @property
    def cash_free(self) -> Decimal:
        return self.cash - self.cash_held - self.cash_missing

    def is_doubted(self, product: str) -> bool:
        """May the product take no new risk, because an order is in doubt: its own, or two of the portfolio?"""
        return product in self.doubts or self.doubtful_orders >= DOUBTS_MAX
