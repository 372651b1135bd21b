"""Plans, portfolios, quotes and products for tests, in the words of the trade; every default is one that trades."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from trading.exchange.port import Accepted, Exchange, Rejected
from trading.market import Candles, Market, Product, Quote, interval_seconds
from trading.money import dec, digest
from trading.orders import Request, Side
from trading.plan import Limits, Plan
from trading.portfolio import Portfolio, Position

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MODERATE: dict[str, Any] = {
    "max_order_size_usd": "100",
    "max_daily_volume_usd": "500",
    "max_open_positions": 3,
    "max_daily_loss_usd": "100",
    "max_position_size": "0.25",
    "max_portfolio_volatility": "0.40",
}


LIVELY: dict[str, Any] = {
    "strategy": {"name": "deployments.bench.cycle:EveryOther"},
    "allocation": {"weight": "0.05", "no_trade_band": "0.001"},
    "limits": {"max_daily_volume_usd": "1000000"},
    "costs": {"taker_fee": "0.0001", "maker_fee": "0.0001", "slippage": "0.0001"},
    "breaker": {"max_consecutive_errors": 10**6, "max_error_rate": 1, "max_losing_exits": 10**6},
}
"""A plan that trades at every slot, and that no mishap of a test stops."""


PLAN_FILE = """
name = "default"
products = ["BTC-USD", "ETH-USD"]
[strategy]
name = "crossover"
[strategy.parameters]
fast = 3
slow = 9
"""
"""A plan as people write it, for commands that read one."""


def plan(**changes: Any) -> Plan:
    """A moderate plan on BTC-USD and ETH-USD. Nested parts are given as dicts; `limits` changes single limits.

    Tests repeat an order within minutes and mean it: the control that takes the second for a slip is off unless it is set.
    """
    limits = Limits.model_validate(MODERATE | changes.pop("limits", {}))
    controls = {"duplicate_seconds": 0} | changes.pop("controls", {})
    fields = {
        "name": "default",
        "products": ("BTC-USD", "ETH-USD"),
        "strategy": {"name": "crossover", "parameters": {"fast": 12, "slow": 48}},
    }
    return Plan.model_validate(fields | changes | {"limits": limits, "controls": controls})


def product(id_: str = "BTC-USD", **changes: Any) -> Product:
    base, quote_asset = id_.split("-")
    fields: dict[str, Any] = {
        "id": id_,
        "base": base,
        "quote": quote_asset,
        "base_increment": Decimal("0.00000001"),
        "price_increment": Decimal("0.01"),
        "base_min_size": Decimal("0.00000001"),
        "base_max_size": Decimal(3400),
        "min_notional": Decimal(1),
    }
    return Product(**fields | changes)


def quote(product_id: str = "BTC-USD", mid: str = "50000", spread: str = "0", at: datetime = NOON) -> Quote:
    """Bid and ask around `mid`, `spread` apart (both in quote)."""
    half = dec(spread) / 2
    return Quote(product=product_id, bid=dec(mid) - half, ask=dec(mid) + half, at=at)


def position(product_id: str = "BTC-USD", quantity: str = "0.001", price: str = "50000", held: str = "0") -> Position:
    return Position(product=product_id, quantity=dec(quantity), cost=dec(quantity) * dec(price), held=dec(held))


def portfolio(cash: str = "1000", *positions: Position, **changes: Any) -> Portfolio:
    fields: dict[str, Any] = {
        "book": "paper:main",
        "plan": "default",
        "cash_asset": "USD",
        "cash": dec(cash),
        "positions": {held.product: held for held in positions},
        "day_start_equity": Decimal(1000),
        "peak_equity": Decimal(1000),
    }
    return Portfolio(**fields | changes)


def flat_candles(prices: Mapping[str, str], rows: int = 200, interval: str = "1h", end: datetime = NOON) -> Candles:
    """Candles that hardly move around the given prices and close at `end`: a quiet market, with 1,000,000 in quote a candle."""
    seconds = interval_seconds(interval)
    starts = np.arange(rows, dtype=np.int64) * seconds + int(end.timestamp()) - rows * seconds
    close = np.array([float(price) for price in prices.values()]) * (1 + 0.0005 * (-1.0) ** np.arange(rows))[:, np.newaxis]
    return Candles(
        interval=interval, products=tuple(prices), starts=starts,
        open=close, high=close * 1.001, low=close * 0.999, close=close, volume=1e6 / close,
    )  # fmt: skip


def market(prices: Mapping[str, str] | None = None, **changes: Any) -> Market:
    """A quiet market with every product quoted; `changes` replace whole fields (quotes, gated, candles, products)."""
    prices = {"BTC-USD": "50000", "ETH-USD": "2000"} if prices is None else prices
    fields: dict[str, Any] = {
        "at": NOON,
        "products": {id_: product(id_) for id_ in prices},
        "candles": flat_candles(prices),
        "quotes": {id_: quote(id_, mid) for id_, mid in prices.items()},
    }
    return Market(**fields | changes)


def submit(exchange: Exchange, body: str) -> Accepted | Rejected:
    """Sends bytes under their own hash."""
    return exchange.submit(body, digest(body))


def buy(product_id: str = "BTC-USD", quantity: str = "0.001", **changes: Any) -> Request:
    return Request(product=product_id, side=Side.BUY, quantity=dec(quantity), **changes)


def sell(product_id: str = "BTC-USD", quantity: str = "0.001", **changes: Any) -> Request:
    return Request(product=product_id, side=Side.SELL, quantity=dec(quantity), **changes)
