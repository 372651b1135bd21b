"""The port to an exchange: one Protocol that paper and real venues speak alike.

Reads raise Unanswered and may be retried. A send has three outcomes: `Accepted`, `Rejected` (the venue's own structured
"no"), or OutcomeUnknown (anything else: time-out, lost connection, 5xx, unreadable reply). Which reply counts as which, and
how a doubt is resolved, is data: `OUTCOMES` and `RESOLUTIONS`, by what the venue does with a client id that it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from trading.errors import NotSent, OutcomeUnknown
from trading.market import Product
from trading.money import digest, storable
from trading.movements import Movement
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


class Duplicates(StrEnum):
    """What a venue does with a client order id that it has seen before."""

    REPLAYS = "replays"
    """Answers with the first order and makes no second one (Coinbase, paper): the same bytes may be sent again."""
    REFUSES = "refuses"
    """Refuses it, perhaps only while the first order is open (Binance): nothing is sent again, the refusal proves existence."""
    UNAWARE = "unaware"
    """Makes a second order: nothing is ever sent again."""


class Reply(StrEnum):
    """What came back from a send, as far as an adapter can tell."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """The venue's own structured "no" with a reason that is known."""
    UNAUTHORISED = "unauthorised"
    """400, 401 or 403 by the venue itself, read whole."""
    UNEXPLAINED = "unexplained"
    """A "no" whose reason is unknown or missing."""
    DUPLICATE = "duplicate"
    """The client id is known to the venue: an order of it exists."""
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    UNREADABLE = "unreadable"
    TIMED_OUT = "timed_out"
    DISCONNECTED = "disconnected"


class Outcome(StrEnum):
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"


_CERTAIN = {Reply.ACCEPTED: Outcome.CONFIRMED, Reply.REFUSED: Outcome.REFUSED, Reply.UNAUTHORISED: Outcome.REFUSED}
OUTCOMES: Mapping[tuple[Duplicates, Reply], Outcome] = {
    (venue, reply): _CERTAIN.get(reply, Outcome.IN_DOUBT) for venue in Duplicates for reply in Reply
}
"""What counts as what. A throttled create is in doubt everywhere: some venues count it after taking it."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a doubt ends at a class of venue. Always scanned first; times in seconds."""

    replays_max: int
    """Times that the same bytes are sent again, within the order's time to live and with the breaker closed."""
    scans_min: int
    """Complete scans without the order, before it counts as absent ..."""
    quiet_seconds_min: float
    """... and no sooner than this after the doubt began (or the venue's visibility lag, if that is longer)."""


RESOLUTIONS: Mapping[Duplicates, Resolution] = {
    Duplicates.REPLAYS: Resolution(replays_max=5, scans_min=3, quiet_seconds_min=120),
    Duplicates.REFUSES: Resolution(replays_max=0, scans_min=3, quiet_seconds_min=120),
    Duplicates.UNAWARE: Resolution(replays_max=0, scans_min=3, quiet_seconds_min=120),
}


def conclude(
    venue: Duplicates, reply: Reply, detail: str, *, accepted: Accepted | None = None, code: str = ""
) -> Accepted | Rejected:
    """The outcome of a send by the table. Raises OutcomeUnknown where it is in doubt: then only evidence settles it."""
    outcome = OUTCOMES[venue, reply]
    if outcome is Outcome.CONFIRMED and accepted is not None:
        return accepted
    if outcome is Outcome.REFUSED:
        return Rejected(code or reply.value, detail)
    raise OutcomeUnknown(f"{reply.value}: {detail}")


def check_bytes(body: str, sha256: str) -> None:
    """Raises NotSent unless the body has the hash under which it was approved."""
    if digest(body) != sha256:
        raise NotSent(f"found a body of SHA-256 {digest(body)}, expected {sha256}: nothing was sent")


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


TEXT_MAX = 400
"""Characters of an id or a word of a venue that are kept: an index holds no more."""


def readable(found: ExchangeOrder) -> ExchangeOrder:
    """The order with its texts as a database can hold them: a stranger may have written them."""
    told = {name: getattr(found, name) for name in ("exchange_order_id", "client_order_id", "product", "raw_status")}
    kept = {name: storable(text)[:TEXT_MAX] for name, text in told.items()}
    return found if kept == told else replace(found, **kept)


class Exchange(Protocol):
    """One account (portfolio) at one venue."""

    name: str
    duplicates: Duplicates
    visibility_lag_seconds: int
    """How long an accepted order may stay hidden from lists: "not found" proves nothing before it. 0: lists never lag."""
    send_batch: int
    """Orders marked as sending by one commit: more than one only where a send takes far less than the send deadline."""
    takes_stops: bool
    """Takes a stop without a limit; where not, a stop gets the limit of `trading.plan.collared`."""

    def body(self, client_order_id: UUID, request: Request) -> str:
        """The exact text that would be sent for a request: pure, stored and hashed before it is sent."""

    def submit(self, body: str, sha256: str) -> Accepted | Rejected:
        """Sends exactly these bytes, once; `sha256` is the hash under which they were approved.

        Raises OutcomeUnknown when the answer does not settle it, NotSent, before a byte has left, for bytes of another hash.
        """

    def cancel(self, exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
        """Asks to cancel; id -> reason for those that the venue refused to cancel. Raises OutcomeUnknown."""

    def orders(self, since: datetime) -> list[ExchangeOrder]:
        """Every order created at or after `since`, all statuses, all pages, and every open one of any age."""

    def fills(self, since: datetime) -> list[Fill]:
        """Every fill traded at or after `since`, all pages, oldest first; adjustments are entries of their own."""

    def look_up(self, exchange_order_ids: Sequence[str], since: datetime) -> tuple[list[ExchangeOrder], list[Fill]]:
        """What the venue has of orders that it has just accepted, and what they traded, as far as it tells yet.

        In as few calls as it takes; others of that time may be among them. `since` is before any of them.
        """

    def movements(self, since: datetime) -> list[Movement]:
        """Deposits, withdrawals, conversions and income since then that the venue tells of, oldest first.

        Not among them: what `Desk.fund` put in as a plan's capital.
        """

    def balances(self) -> dict[str, Balance]:
        """Asset -> balance, all pages; an asset that the account never held is missing."""

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        """The venue's rules of the named products."""

    def fee_tier(self) -> FeeTier:
        """The account's fees now."""
