"""The port to an exchange: one Protocol that paper and real venues speak alike.

Reads raise Unanswered and may be retried. A send has three outcomes: `Accepted`, `Rejected` (the venue's own structured
"no"), or OutcomeUnknown (anything else: time-out, lost connection, 5xx, unreadable reply); the last is never retried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from trading.market import Product
from trading.orders import Fill, Request, Side


@dataclass(frozen=True, slots=True)
class Accepted:
    """The venue has the order under `exchange_order_id`."""

    exchange_order_id: str
    fills: tuple[Fill, ...] | None = field(default=None, compare=False)
    """What it traded at once, where the answer tells all of it; None where that must be asked by `Exchange.fills`."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The venue refused the order and will never trade it. `code` is the venue's own word."""

    code: str
    message: str


class Status(StrEnum):
    """An order's status at the venue, in our words; `UNKNOWN` keeps the raw word and gates the product."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeOrder:
    """An order as the venue tells it: compared with the intent before it is believed."""

    exchange_order_id: str
    client_order_id: str
    """As the venue stored it; not ours when it is not the text of a UUID that we derived."""
    product: str
    side: Side
    quantity: Decimal
    limit_price: Decimal | None
    status: Status
    raw_status: str
    filled: Decimal
    fees: Decimal
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Balance:
    """An asset at the venue: what can be used and what live orders hold. Their sum is what the ledger must equal."""

    available: Decimal
    hold: Decimal

    @property
    def total(self) -> Decimal:
        return self.available + self.hold


@dataclass(frozen=True, slots=True)
class FeeTier:
    """Ratios of notional."""

    maker: Decimal
    taker: Decimal


class Exchange(Protocol):
    """One account (portfolio) at one venue."""

    name: str
    replays_by_client_id: bool
    """True where sending the same bytes again returns the first order instead of a second one."""
    visibility_lag_seconds: int
    """How long an accepted order may stay hidden from lists: "not found" proves nothing before it."""
    send_batch: int
    """Orders marked as sending by one commit: more than one only where a send takes far less than the send deadline."""

    def body(self, client_order_id: UUID, request: Request) -> str:
        """The exact text that would be sent for a request: pure, stored and hashed before it is sent."""

    def submit(self, body: str) -> Accepted | Rejected:
        """Sends exactly these bytes, once. Raises OutcomeUnknown when the answer does not settle it."""

    def cancel(self, exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
        """Asks to cancel; id -> reason for those that the venue refused to cancel. Raises OutcomeUnknown."""

    def orders(self, since: datetime) -> list[ExchangeOrder]:
        """Every order created at or after `since`, all statuses, all pages, and every open one of any age."""

    def fills(self, since: datetime) -> list[Fill]:
        """Every fill traded at or after `since`, all pages, oldest first."""

    def balances(self) -> dict[str, Balance]:
        """Asset -> balance, all pages; an asset that the account never held is missing."""

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        """The venue's rules of the named products."""

    def fee_tier(self) -> FeeTier:
        """The account's fees now."""
