"""A street for the paper exchange: a clock, one product's quote and the candles that have closed, moved on by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd

from tests.builders.candles import typed
from tests.builders.plans import NOON, product, quote
from trading.exchange.paper import PaperExchange
from trading.market import COLUMNS, Product, Quote
from trading.money import dec, utc
from trading.plan import Costs
from trading.store.database import connect
from trading.store.paper import PaperBooks

HOUR = timedelta(hours=1)
COSTS = Costs(
    spread=Decimal(0), slippage=dec("0.001"), maker_fee=dec("0.004"), taker_fee=dec("0.01"), participation=dec("0.1")
)  # fmt: skip


@dataclass(slots=True)
class Street:
    """BTC-USD at a time. `volume` is that of the candle before; `closed` are the candles since."""

    at: datetime = NOON
    rules: Product = field(default_factory=product)
    quote: Quote = field(default_factory=lambda: quote("BTC-USD", "100", "2"))
    volume: Decimal = Decimal(1000)
    closed: list[tuple[int, float, float, float, float, float]] = field(default_factory=list)
    """(start, open, high, low, close, volume)"""

    def hour(self, prices: str | None, volume: str = "1000") -> None:
        """Goes on to the next full hour; the candle from the last full one is `open high low close`, None for no candle.

        The quote follows the close, 2 USD wide.
        """
        start = int(self.at.timestamp()) // 3600 * 3600
        self.at = utc(start) + HOUR
        if prices is not None:
            opened, high, low, close = (float(word) for word in prices.split())
            self.closed.append((start, opened, high, low, close, float(volume)))
            self.volume = dec(volume)
            self.quote = quote("BTC-USD", prices.split()[3], "2", self.at)

    def candles_after(self, product_id: str, at: datetime) -> pd.DataFrame:
        """As a source answers: from the candle in which `at` lies, whether or not it began before."""
        begin = int(at.timestamp()) // 3600 * 3600
        rows = [(product_id, *candle) for candle in self.closed if candle[0] >= begin]
        return typed(pd.DataFrame(rows, columns=list(COLUMNS)))

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        return {id_: self.rules for id_ in ids if id_ == self.rules.id}


@contextmanager
def paper_exchange(
    url: str, street: Street, account: str = "paper:main", costs: Costs = COSTS, **funds: str
) -> Iterator[PaperExchange]:
    """The real exchange on a connection of its own, its account funded: `paper_exchange(url, street, USD="1000")`."""
    with connect(url, "keel paper exchange") as connection:
        exchange = on_street(PaperBooks(connection), street, account, costs)
        for asset, amount in funds.items():
            exchange.deposit(asset, dec(amount), f"opening {asset}")
        yield exchange


def on_street(books: PaperBooks, street: Street, account: str, costs: Costs = COSTS) -> PaperExchange:
    parts: dict[str, Any] = {
        "quote_of": lambda id_: street.quote if id_ == street.rules.id else None,
        "volume_of": lambda _: street.volume,
        "products_of": street.products,
        "clock": lambda: street.at,
        "candles_after": street.candles_after,
    }
    return PaperExchange(books, account=account, costs=costs, candle_seconds=3600, **parts)
