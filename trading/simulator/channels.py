"""What the WebSocket channels tell: snapshots and updates as events, per channel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading.money import ONE, ZERO, text
from trading.simulator import shapes
from trading.simulator.listing import Listing
from trading.simulator.market_data import day_bar, market_trades
from trading.simulator.orders import SimOrder, round16
from trading.simulator.shapes import Body
from trading.simulator.simulation import Simulation

Levels = dict[tuple[str, Decimal], Decimal]
_FIVE_MINUTES = 300
_NEVER = "0001-01-01T00:00:00Z"


def ticker(sim: Simulation, listing: Listing, now: datetime, *, batch: bool) -> Body:
    """One ticker; a batch has no bid and ask."""
    floor, day = sim.venue.floor, day_bar(sim, listing, now)
    price = floor.last[listing.book]
    figures: dict[str, Decimal] = {
        "price": price, "volume_24_h": day.volume if day else ZERO, "low_24_h": day.low if day else price,
        "high_24_h": day.high if day else price, "low_52_w": day.low if day else price, "high_52_w": day.high if day else price,
        "price_percent_chg_24_h": round16((price / day.open - ONE) * 100) if day else ZERO,
    }  # fmt: skip
    if not batch:
        for side, name in (("BUY", "bid"), ("SELL", "ask")):
            level = next(iter(floor.books[listing.book].levels(side, 1)), (ZERO, ZERO))  # type: ignore[arg-type]  # a side
            figures |= {f"best_{name}": level[0], f"best_{name}_quantity": level[1]}
    return {"type": "ticker", "product_id": listing.book} | {name: text(value) for name, value in figures.items()}


def levels(sim: Simulation, listing: Listing) -> Levels:
    book = sim.venue.floor.books[listing.book]
    bids = {("bid", price): size for price, size in book.levels("BUY")}
    return bids | {("offer", price): size for price, size in book.levels("SELL")}


def level_updates(before: Levels, after: Levels, now: datetime) -> list[Body]:
    """The levels that differ, with their absolute quantity; a level that is gone has quantity 0."""
    changed = {key: after.get(key, ZERO) for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return [
        {"side": side, "event_time": shapes.time_text(now), "price_level": text(price), "new_quantity": text(quantity)}
        for (side, price), quantity in sorted(changed.items())
    ]


def trades(sim: Simulation, listing: Listing, now: datetime, most: int) -> list[Body]:
    names = ("trade_id", "product_id", "price", "size", "time", "side")
    found = market_trades(sim, listing, now, most)
    return [{name: trade[name] for name in names} | {"product_id": listing.book} for trade in found]


def candle(sim: Simulation, listing: Listing, now: datetime) -> list[Body]:
    start = int(now.timestamp()) // _FIVE_MINUTES * _FIVE_MINUTES
    bars = sim.venue.tape.bars(listing.book, start, start + 1, _FIVE_MINUTES)
    return [shapes.candle_body(bar) | {"product_id": listing.book} for bar in bars]


def user_order(order: SimOrder) -> Body:
    """An order's cumulative state, as the user channel tells it; there are no single fills here."""
    terms, whole = order.terms, shapes.order_body(order)
    types = {"LIMIT": "Limit", "MARKET": "Market", "STOP_LIMIT": "Stop Limit", "BRACKET": "Bracket"}
    copied = (
        "order_id", "client_order_id", "total_fees", "filled_value", "number_of_fills", "status", "product_id",
        "time_in_force", "completion_percentage", "outstanding_hold_amount", "total_value_after_fees", "trigger_status",
        "product_type", "retail_portfolio_id",
    )  # fmt: skip
    leaves = ZERO if order.done or terms.quote_size is not None else order.left
    return {name: whole[name] for name in copied} | {
        "cumulative_quantity": text(order.filled_size), "leaves_quantity": text(leaves),
        "avg_price": whole["average_filled_price"],
        "creation_time": whole["created_time"], "order_side": order.side, "order_type": types[terms.type],
        "limit_price": text(terms.limit_price) if terms.limit_price is not None else "",
        "stop_price": text(terms.stop_price) if terms.stop_price is not None else "", "cancel_reason": order.cancel_message,
        "reject_Reason": "", "post_only": str(terms.post_only).lower(), "risk_managed_by": "UNKNOWN_RISK_MANAGEMENT_TYPE",
        "contract_expiry_type": "UNKNOWN_CONTRACT_EXPIRY_TYPE", "start_time": _NEVER,
        "end_time": shapes.time_text(terms.end_time) if terms.end_time else _NEVER,
    }  # fmt: skip


def user_event(kind: str, orders: list[SimOrder]) -> Body:
    none: dict[str, list[Any]] = {"perpetual_futures_positions": [], "expiring_futures_positions": []}
    return {"type": kind, "orders": [user_order(order) for order in orders], "positions": none}


def _tickers(sim: Simulation, listing: Listing, now: datetime) -> Body:
    return {"tickers": [ticker(sim, listing, now, batch=False)]}


def _batch(sim: Simulation, listing: Listing, now: datetime) -> Body:
    return {"tickers": [ticker(sim, listing, now, batch=True)]}


def _trades(sim: Simulation, listing: Listing, now: datetime) -> Body:
    return {"trades": trades(sim, listing, now, 10)}


def _candles(sim: Simulation, listing: Listing, now: datetime) -> Body:
    return {"candles": candle(sim, listing, now)}


def _status(sim: Simulation, listing: Listing, now: datetime) -> Body:
    return {"products": [shapes.product_body(listing, sim.venue.floor, day_bar(sim, listing, now))]}


FEEDS: dict[str, tuple[Callable[[Simulation, Listing, datetime], Body], float]] = {
    "ticker": (_tickers, 0.25), "ticker_batch": (_batch, 5), "market_trades": (_trades, 0.25), "candles": (_candles, 1),
    "status": (_status, 5),
}  # fmt: skip
"""Channel -> what it tells of a product, and how often it looks whether that has changed, in seconds."""
CHANNELS = frozenset(FEEDS) | {"level2", "user", "heartbeats", "futures_balance_summary"}
NEEDS_KEY = frozenset({"user", "futures_balance_summary"})
