"""Requests, orders and fills: identity, life-cycle and the legal transitions, as data.

A request is an order we would like; approved, it becomes an intent (immutable, stored before anything is sent) with a
head that moves through the states below. Closed orders still accept fills: a late fill is money.

    staged ── send ──> sending ── ack ──> open ── fill ──> filled
      │                   │ │              │ └─ cancel_sent ─> cancelling ── cancelled ─> cancelled
      └ abandon           │ └ reject       └─ expire ─> expired
        > abandoned       └ doubt ─> in_doubt ── ack | reject | send (same bytes) | not_listed … prove_absent ─> absent
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from uuid import UUID

from trading.money import canonical, derived_id, digest, ledger_round, stamp

IDENTITY_VERSION = "v1"


class Mode(StrEnum):
    PAPER = "paper"
    REHEARSAL = "rehearsal"
    LIVE = "live"


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, −1 for a sell: the direction of the base asset."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    BRACKET = "bracket"
    """A sale of what is held at its limit (the profit) or, once its stop is reached, at the market (the loss)."""


class TimeInForce(StrEnum):
    IOC = "ioc"
    GTC = "gtc"
    GTD = "gtd"
    FOK = "fok"
    """Fills whole and at once, or not at all: limits only."""


class FillKind(StrEnum):
    """What an entry of the venue's list of fills says: a trade, or that an earlier entry was none or another one."""

    TRADE = "trade"
    REVERSAL = "reversal"
    """The entry of the same trade never happened."""
    CORRECTION = "correction"
    """Takes the place of the entry of the same trade; without one it is a trade."""
    SYNTHETIC = "synthetic"
    """Made by the venue without a trade: booked as one."""


class State(StrEnum):
    STAGED = "staged"
    SENDING = "sending"
    IN_DOUBT = "in_doubt"
    OPEN = "open"
    CANCELLING = "cancelling"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    ABANDONED = "abandoned"
    ABSENT = "absent"


LIVE_STATES = frozenset({State.STAGED, State.SENDING, State.IN_DOUBT, State.OPEN, State.CANCELLING})
"""States in which the order may still trade: its cash stays held and its notional counts as used."""

UNKNOWN_STATES = frozenset({State.SENDING, State.IN_DOUBT})
"""States in which bytes may have left and no answer is recorded."""

TRANSITIONS: frozenset[tuple[State, str, State]] = frozenset(
    {
        (State.STAGED, "send", State.SENDING),
        (State.STAGED, "abandon", State.ABANDONED),
        (State.SENDING, "send", State.SENDING),  # the same bytes under the same id, where the venue replays by id
        (State.SENDING, "ack", State.OPEN),
        (State.SENDING, "reject", State.REJECTED),
        (State.SENDING, "doubt", State.IN_DOUBT),
        (State.SENDING, "abandon", State.ABANDONED),  # only by the sender itself, which knows that no byte has left
        (State.IN_DOUBT, "send", State.SENDING),
        (State.IN_DOUBT, "ack", State.OPEN),
        (State.IN_DOUBT, "reject", State.REJECTED),
        (State.IN_DOUBT, "not_listed", State.IN_DOUBT),  # one complete scan without it: several of them prove absence
        (State.IN_DOUBT, "prove_absent", State.ABSENT),
        # The venue has an order that we took for dead: it is believed, and a severity-1 break says so.
        (State.ABSENT, "ack", State.OPEN),
        (State.ABANDONED, "ack", State.OPEN),
        (State.REJECTED, "ack", State.OPEN),
        (State.OPEN, "fill", State.OPEN),
        (State.OPEN, "fill", State.FILLED),
        (State.OPEN, "cancel_sent", State.CANCELLING),
        (State.OPEN, "cancelled", State.CANCELLED),
        (State.OPEN, "expire", State.EXPIRED),
        (State.OPEN, "reject", State.REJECTED),
        (State.CANCELLING, "fill", State.CANCELLING),
        (State.CANCELLING, "fill", State.FILLED),
        (State.CANCELLING, "cancelled", State.CANCELLED),
        (State.CANCELLING, "expire", State.EXPIRED),
        (State.CANCELLING, "cancel_refused", State.OPEN),
        (State.FILLED, "fill", State.FILLED),
        (State.CANCELLED, "fill", State.CANCELLED),
        (State.EXPIRED, "fill", State.EXPIRED),
        (State.REJECTED, "fill", State.REJECTED),
    }
    | {(state, "adjust", state) for state in (State.OPEN, State.CANCELLING, State.FILLED, State.CANCELLED, State.EXPIRED,
                                              State.REJECTED)}  # a fill was reversed or corrected
)  # fmt: skip

DEAD_STATES = frozenset({State.ABANDONED, State.REJECTED, State.ABSENT})
"""States of an order that never traded and never will, as far as we know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An order we would like. Quantity in base units; prices in quote per base."""

    product: str
    side: Side
    quantity: Decimal
    type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.IOC
    post_only: bool = False
    expires_at: datetime | None = None
    leg: int = 0
    """Numbers the orders of one product in one slot: the slices of a large exit are legs 0, 1, 2 ..."""
    protective: bool = False
    """True for an exit that only reduces a holding: entry guards never see it, integrity guards always do."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """On whose behalf an order is sent: everything in its identity that is not the request itself."""

    mode: Mode
    portfolio: str
    plan: str
    strategy: str
    slot: str

    @property
    def book(self) -> str:
        """`paper:main`: the portfolio with its mode; modes never share an account."""
        return f"{self.mode}:{self.portfolio}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An approved request with its identity and the exact bytes to send. Immutable, stored before the send."""

    client_order_id: UUID
    owner: Owner
    request: Request
    body: str
    decision_price: Decimal
    """Quote mid (or candle close) that the decision was made at: the base of slippage."""
    decided_at: datetime

    @property
    def body_sha256(self) -> str:
        return digest(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The head of an order: its intent and where it stands, the fold of its events."""

    intent: Intent
    state: State
    seq: int
    """Number of its last event."""
    exchange_order_id: str | None
    filled: Decimal
    reason: str
    updated_at: datetime

    @property
    def id(self) -> UUID:
        return self.intent.client_order_id

    @property
    def remaining(self) -> Decimal:
        return self.intent.request.quantity - self.filled


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution as the venue reported it, never rounded. `entry_id` is the venue's key: unique, also for corrections.

    A reversal or correction names by `trade_id` what it adjusts.
    """

    entry_id: str
    trade_id: str
    exchange_order_id: str
    client_order_id: UUID | None
    product: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: str
    """`maker`, `taker` or what the venue said."""
    traded_at: datetime
    kind: FillKind = FillKind.TRADE

    @property
    def notional(self) -> Decimal:
        """Quantity × price; rounded to the ledger's 18 decimals only where the product has more."""
        exact = self.quantity * self.price
        return exact if exact.as_tuple().exponent >= -18 else ledger_round(exact)  # type: ignore[operator]  # finite


def base_quantity(size_in_quote: Decimal, price: Decimal) -> Decimal:
    """Base units of a fill whose size the venue tells in quote (`size_in_quote`), at the ledger's 18 decimals."""
    return ledger_round(size_in_quote / price)


def slot_name(plan: str, close: datetime) -> str:
    """`plan@2026-11-24T10:00:00Z`: one decision time, the candle close."""
    return f"{plan}@{stamp(close)}"


def client_order_id(owner: Owner, product: str, leg: int) -> UUID:
    """The id of one decision: not in it are price, quantity, attempt, run, code version or time of day."""
    parts = (IDENTITY_VERSION, owner.mode, owner.portfolio, owner.strategy, product, owner.slot, str(leg))
    return derived_id(*parts)


def order_terms(id_: UUID, request: Request) -> str:
    """The canonical body of a request: what an exchange without a wire format of its own (paper) takes as bytes."""
    terms = {
        "client_order_id": id_,
        "product": request.product,
        "side": request.side,
        "type": request.type,
        "quantity": request.quantity,
        "limit_price": request.limit_price,
        "stop_price": request.stop_price,
        "time_in_force": request.time_in_force,
        "post_only": request.post_only,
        "expires_at": request.expires_at,
    }
    return canonical(terms)


def is_legal(moves: Iterable[tuple[State, str, State]]) -> bool:
    """True if each move is in the table and starts where the one before it ended."""
    steps = list(moves)
    joined = all(before[2] == after[0] for before, after in pairwise(steps))
    return joined and all(step in TRANSITIONS for step in steps)
