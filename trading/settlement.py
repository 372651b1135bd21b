"""Settle orders: ask the exchange about every order that may still trade, believe only evidence, book what traded.

This is the first step of every cycle and also the whole of crash recovery: whatever an earlier run left half done is
settled here by the code that runs every time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from trading.desk import Desk
from trading.exchange.port import ExchangeOrder, Status
from trading.ledger import Account, Lots, book_fill
from trading.money import ZERO, derived_id, text
from trading.orders import LIVE_STATES, Fill, Order, Side, State
from trading.store.journal import Change

SCAN_OVERLAP = timedelta(minutes=10)
"""Scans reach back further than the oldest live order: clocks differ, and late fills appear behind a cursor."""
ABSENCE_SECONDS_MIN = 120
"""No order of a real venue counts as absent earlier than this after the doubt began, whatever lag the venue claims."""

_CLOSING = {
    Status.CANCELLED: ("cancelled", State.CANCELLED),
    Status.EXPIRED: ("expire", State.EXPIRED),
    Status.REJECTED: ("reject", State.REJECTED),
}


@dataclass(slots=True)
class Settled:
    """What a settlement found: fills that were new, and where each order stands after it."""

    fills: list[Fill] = field(default_factory=list)
    states: dict[UUID, State] = field(default_factory=dict)
    breaks: list[str] = field(default_factory=list)

    @property
    def in_doubt(self) -> int:
        return sum(1 for state in self.states.values() if state is State.IN_DOUBT)


class Absorber:
    """Turns evidence about orders into one `Change`: events in sequence, bookings, holds. One per transaction."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.change = Change()
        self.settled = Settled()
        self._lots: dict[tuple[str, str], Lots] = {}
        self._holds: dict[UUID, Decimal] = {}

    def load(self, orders: Sequence[Order], reported: Sequence[Fill] = ()) -> Mapping[str, list[Fill]]:
        """Reads the lots and holds of the orders, in one round trip.

        Returns exchange order id -> those of the reported fills that are not in the books yet, in their order.
        """
        unique = {fill.entry_id: fill for fill in reported}
        products = {(order.intent.owner.plan, order.intent.request.product) for order in orders}
        ids = [order.id for order in orders]
        self._lots, self._holds, known = self.desk.books.settling(self.desk.book, products, ids, list(unique))
        return by_order(fill for entry, fill in unique.items() if entry not in known)

    def absorb(
        self, order: Order, fills: Sequence[Fill], *, evidence: Iterable[tuple[str, State]] = (), exchange_id: str | None = None,
        closing: tuple[str, State] | None = None, note: str = "",
    ) -> State:  # fmt: skip
        """Applies, in order: events by evidence (ack, reject, doubt ...), fills, and the closing event.

        Returns the state after it. A fill of a closed order keeps its state: a late fill is money.
        """
        state, seq, filled = order.state, order.seq, order.filled

        def move(event: str, to: State, **details: Any) -> None:
            nonlocal state, seq
            seq += 1
            self.change.event(order.id, seq, (state, event, to), **details)
            state = to

        for event, to in evidence:
            move(event, to, evidence=note, exchange_order_id=exchange_id)
        used = ZERO
        for fill in fills:
            filled += fill.quantity
            whole = filled >= order.intent.request.quantity and state in (State.OPEN, State.CANCELLING)
            move("fill", State.FILLED if whole else state, evidence=fill.entry_id, filled=filled)
            used += self._book(order, fill)
        if closing is not None and state in (State.OPEN, State.CANCELLING):
            move(*closing, evidence=note)
        self._settle_hold(order, state, used)
        self.settled.states[order.id] = state
        return state

    def _book(self, order: Order, fill: Fill) -> Decimal:
        """Books a fill to the order's plan; returns what it took of the order's hold."""
        owner = order.intent.owner
        booking = book_fill(self._lots[owner.plan, fill.product], fill, owner.book, owner.plan)
        self.change.fill(fill, owner.book)
        self.change.booking(booking, owner.book, owner.plan, fill.product)
        self.settled.fills.append(fill)
        if fill.side is Side.SELL:
            return fill.quantity
        quote = fill.product.split("-", 1)[1]
        return fill.notional + (fill.fee if fill.fee_asset == quote else ZERO)

    def _settle_hold(self, order: Order, state: State, used: Decimal) -> None:
        held = self._holds.get(order.id, ZERO)
        left = ZERO if state not in LIVE_STATES else max(held - used, ZERO)
        if left != held:
            self._holds[order.id] = left
            self.change.hold(order.id, held_account(self.desk, order), left)

    def open_break(self, kind: str, severity: int, subject: str, ours: str, theirs: str, asset: str = "") -> None:
        """Writes down a difference; one that is open already stays as it is."""
        id_ = derived_id("break", self.desk.book, kind, subject, self.desk.wall().isoformat())
        self.change.add("breaks", id=id_, book=self.desk.book, severity=severity, subject=subject, asset=asset, ours=ours,
                        theirs=theirs, **{"class": kind})  # fmt: skip
        self.settled.breaks.append(f"{kind} {subject}: ours {ours}, theirs {theirs}")

    def write(self, kind: str) -> Settled:
        if self.change:
            self.desk.journal.record(kind, self.change)
        return self.settled


def held_account(desk: Desk, order: Order) -> Account:
    """Where an order's hold lies: the quote account of a buy, the base account of a sell, of the order's own plan."""
    base, quote = order.intent.request.product.split("-", 1)
    owner = order.intent.owner
    return desk.account(quote if order.intent.request.side is Side.BUY else base)._replace(plan=owner.plan)


def settle(desk: Desk) -> Settled:
    """Settles every live order of the portfolio, of whatever plan, slot or run; safe to run at any time, any number of times.

    Raises Unanswered when the exchange cannot be asked: then nothing is changed.
    """
    live = desk.books.live_orders(desk.book)
    if not live:
        return Settled()
    absorber = Absorber(desk)
    absorber.load(live)
    _abandon_late(absorber, [order for order in live if order.state is State.STAGED])
    sent = [order for order in live if order.state is not State.STAGED]
    if sent:
        since = min(order.intent.decided_at for order in sent) - SCAN_OVERLAP
        theirs: dict[str, list[ExchangeOrder]] = {}
        for found in desk.exchange.orders(since):
            theirs.setdefault(found.client_order_id, []).append(found)
        fills = fills_by_order(desk, since)
        for order in sent:
            _settle_one(absorber, order, theirs.get(str(order.id), []), fills)
    return absorber.write("settle")


def _abandon_late(absorber: Absorber, staged: Sequence[Order]) -> None:
    """Staged orders were never sent. One that may still be sent is left to the run of its slot."""
    deadlines = absorber.desk.books.send_before([order.id for order in staged]) if staged else {}
    for order in staged:
        if deadlines[order.id] < absorber.desk.wall():
            absorber.absorb(order, (), evidence=[("abandon", State.ABANDONED)], note="too_late")


def fills_by_order(desk: Desk, since: datetime) -> Mapping[str, list[Fill]]:
    """Exchange order id -> its fills since then that are not in the books yet, oldest first."""
    reported = desk.exchange.fills(since)
    unique = list({fill.entry_id: fill for fill in reported}.values())
    return by_order(desk.books.unknown_entries(desk.book, unique))


def by_order(fills: Iterable[Fill]) -> dict[str, list[Fill]]:
    found: dict[str, list[Fill]] = {}
    for fill in fills:
        found.setdefault(fill.exchange_order_id, []).append(fill)
    return found


def _settle_one(absorber: Absorber, order: Order, theirs: Sequence[ExchangeOrder], fills: Mapping[str, list[Fill]]) -> None:
    if not theirs:
        _not_found(absorber, order)
        return
    found = theirs[0]
    if len(theirs) > 1 or not same_terms(order, found):
        absorber.open_break("order_terms", 1, str(order.id), order.intent.body, repr(theirs), found.product.split("-")[0])
        if order.state is State.SENDING:
            absorber.absorb(order, (), evidence=[("doubt", State.IN_DOUBT)], note="the exchange reports other terms")
        return
    unknown = order.state in (State.SENDING, State.IN_DOUBT)
    new = fills.get(found.exchange_order_id, [])
    complete = order.filled + sum((fill.quantity for fill in new), ZERO) >= found.filled
    absorber.absorb(
        order,
        new,
        evidence=[("ack", State.OPEN)] if unknown else (),
        exchange_id=found.exchange_order_id,
        closing=_CLOSING.get(found.status) if complete else None,  # its last fills first: they may lag the status
        note=found.raw_status if not unknown else "found at the exchange",
    )


def _not_found(absorber: Absorber, order: Order) -> None:
    """The exchange lists no such order. That proves absence only after its visibility lag, counted from the doubt."""
    desk = absorber.desk
    if order.state is State.SENDING:
        absorber.absorb(order, (), evidence=[("doubt", State.IN_DOUBT)], note="sent, no answer recorded, not listed")
    elif order.state is State.IN_DOUBT:
        lag = desk.exchange.visibility_lag_seconds
        wait = max(lag, ABSENCE_SECONDS_MIN) if lag else 0
        if (desk.wall() - order.updated_at).total_seconds() >= wait:
            absorber.absorb(order, (), evidence=[("prove_absent", State.ABSENT)], note=f"not listed for {wait} s")
    else:
        absorber.open_break("order_missing", 1, str(order.id), order.state, "not listed",
                            order.intent.request.product.split("-")[0])  # fmt: skip


def same_terms(order: Order, theirs: ExchangeOrder) -> bool:
    """Is what the exchange reports what we meant? Product, side, quantity and limit price."""
    request = order.intent.request
    return (
        theirs.product == request.product
        and theirs.side is request.side
        and theirs.quantity == request.quantity
        and (theirs.limit_price is None or request.limit_price is None or theirs.limit_price == request.limit_price)
    )


def describe(fill: Fill) -> str:
    """`buy 0.1 BTC-USD at 60000, fee 15 USD`: for logs and summaries."""
    return f"{fill.side} {text(fill.quantity)} {fill.product} at {text(fill.price)}, fee {text(fill.fee)} {fill.fee_asset}"
