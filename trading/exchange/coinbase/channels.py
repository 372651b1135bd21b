"""What a WebSocket connection to Coinbase says, read message by message: pure, no socket here.

Orders on the user channel are cumulative states and no fills: they say that there is something to ask about, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading.errors import Unanswered
from trading.exchange.coinbase import wire
from trading.exchange.coinbase.pace import SHOWN
from trading.exchange.coinbase.replies import read_object
from trading.money import ZERO, canonical

HEARTBEATS, USER, TICKER = "heartbeats", "user", "ticker"
CHANNELS = (HEARTBEATS, USER, TICKER)


@dataclass(frozen=True, slots=True)
class Beat:
    """The venue is there, and so is the connection."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Every channel that the connection carries now."""

    channels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Orders:
    """Orders, by the venue's ids, of which something has changed or which are open."""

    ids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The last trade and the best prices of a product; 0 where a side is empty."""

    product: str
    price: Decimal
    bid: Decimal
    ask: Decimal
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Missed:
    """Messages were lost or came out of order: what they said is to be asked for."""

    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Nothing more can be believed of this connection."""

    reason: str


Heard = Beat | Subscribed | Orders | Tick | Missed | Broken


def subscription(channel: str, products: Sequence[str], token: str) -> str:
    return canonical({"type": "subscribe", "channel": channel, "product_ids": list(products), "jwt": token})


class Reader:
    """Reads one connection's messages in the order in which they come. Numbers run per connection, over all channels."""

    def __init__(self) -> None:
        self._next: int | None = None

    def read(self, text: str | bytes) -> list[Heard]:
        """What the message says, a loss before it first. A message that came before says nothing new and is read all the same."""
        body = read_object(text.encode() if isinstance(text, str) else text)
        if body is None:
            return [Broken(f"found {text[:SHOWN]!r}, expected a JSON object")]
        if body.get("type") == "error":
            return [Broken(f"the venue says: {str(body.get('message'))[:SHOWN]}")]
        heard: list[Heard] = list(self._counted(body.get("sequence_num")))
        read = _READ.get(str(body.get("channel")))
        try:
            return heard + (read(body) if read is not None else [])
        except Unanswered as error:  # our reading does not fit: what it was about is to be asked for
            return [*heard, Missed(str(error))]

    def _counted(self, number: Any) -> list[Missed]:
        if not isinstance(number, int) or isinstance(number, bool):
            return [Missed(f"found sequence_num {number!r}, expected a number")]
        expected, self._next = self._next, max(number + 1, self._next or 0)
        if expected is None or number <= expected:  # a smaller one was told again, or is late and was missed before
            return []
        return [Missed(f"found message {number}, expected {expected}")]


def _beat(body: Mapping[str, Any]) -> list[Heard]:
    del body
    return [Beat()]


def _subscribed(body: Mapping[str, Any]) -> list[Heard]:
    carried = [wire.nested(event, "subscriptions").keys() for event in wire.rows(body, "events")]
    return [Subscribed(frozenset().union(*carried))]


def _orders(body: Mapping[str, Any]) -> list[Heard]:
    rows = [row for event in wire.rows(body, "events") for row in wire.rows(event, "orders")]
    return [Orders(frozenset(str(row.get("order_id") or "") for row in rows))] if rows else []


def _ticks(body: Mapping[str, Any]) -> list[Heard]:
    at = wire.time(body.get("timestamp"))
    return [
        Tick(
            product=str(row.get("product_id")), price=wire.number(row, "price", ZERO), bid=wire.number(row, "best_bid", ZERO),
            ask=wire.number(row, "best_ask", ZERO), at=at,
        )
        for event in wire.rows(body, "events") for row in wire.rows(event, "tickers")
    ]  # fmt: skip


_READ = {HEARTBEATS: _beat, "subscriptions": _subscribed, USER: _orders, TICKER: _ticks}
