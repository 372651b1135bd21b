"""Evidence about orders becomes one change of the ledger: events in sequence, bookings, holds, breaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from trading.amend import pairs, rebook
from trading.breaks import Difference, write_down
from trading.desk import Desk
from trading.ledger import Account, book_fill
from trading.lots import Lots
from trading.money import ZERO, text
from trading.orders import LIVE_STATES, Fill, FillKind, Order, Side, State
from trading.store.journal import Change


@dataclass(slots=True)
class Settled:
    """What a settlement found: fills that were new, and where each order stands after it."""

    fills: list[Fill] = field(default_factory=list)
    states: dict[UUID, State] = field(default_factory=dict)
    breaks: list[str] = field(default_factory=list)

    @property
    def in_doubt(self) -> int:
        return sum(1 for state in self.states.values() if state is State.IN_DOUBT)

    def join(self, other: Settled) -> None:
        """Adds what a later settlement found."""
        self.fills += other.fills
        self.states |= other.states
        self.breaks += other.breaks


class Absorber:
    """Turns evidence about orders into one `Change`: events in sequence, bookings, holds, breaks. One per transaction."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.change = Change()
        self.settled = Settled()
        self.found: list[Difference] = []
        self._lots: dict[tuple[str, str], Lots] = {}
        self._holds: dict[UUID, Decimal] = {}

    def load(self, orders: Sequence[Order], reported: Sequence[Fill] = ()) -> Mapping[str, list[Fill]]:
        """Reads the lots and holds of the orders, in one round trip.

        Returns exchange order id -> those of the reported fills that are not in the books yet, in their order.
        """
        unique = {fill.entry_id: fill for fill in reported}
        keys = {(order.intent.owner.plan, order.intent.request.product) for order in orders}
        keys |= {(plan, pair) for plan, product in keys for fill in unique.values() if fill.product == product
                 for pair in pairs(fill)}  # fmt: skip
        ids = [order.id for order in orders]
        self._lots, self._holds, known = self.desk.books.settling(self.desk.book, self.desk.lot_method, keys, ids, list(unique))
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

    def replace(self, order: Order, original: Fill, fill: Fill) -> None:
        """Takes a fill back, or puts the corrected one in its place; later fills are posted anew on the lots that result."""
        owner, product = order.intent.owner, fill.product
        corrected = fill if fill.kind is FillKind.CORRECTION else None
        history = self.desk.books.bookings_since(owner.book, owner.plan, original.entry_id, corrected)
        fills = {one.entry_id: one for one in (*(posted.fill for posted in history), fill)}
        keys = {(owner.plan, pair) for one in fills.values() for pair in pairs(one)}
        lots, _, _ = self.desk.books.settling(owner.book, self.desk.lot_method, keys)
        others = {pair: held for (_, pair), held in lots.items() if pair != product}
        self.change.fill(fill, owner.book, adjusts=original.entry_id)
        for booking in rebook(lots[owner.plan, product], history, owner.book, owner.plan, corrected, others):
            caused_by = fills.get(booking.transaction.source_id, fill)
            self.change.booking(booking, owner.book, owner.plan, caused_by.product)
            self._tell_uncovered(caused_by, booking.uncovered)
        filled = order.filled - original.quantity + (corrected.quantity if corrected else ZERO)
        self.change.event(order.id, order.seq + 1, (order.state, "adjust", order.state), evidence=fill.entry_id, filled=filled)
        self.settled.fills.append(fill)
        self.settled.states[order.id] = order.state

    def _book(self, order: Order, fill: Fill) -> Decimal:
        """Books a fill to the order's plan; returns what it took of the order's hold."""
        owner = order.intent.owner
        paid_from = self._lots.get((owner.plan, f"{fill.fee_asset}-{fill.product.split('-', 1)[1]}"))
        booking = book_fill(self._lots[owner.plan, fill.product], fill, owner.book, owner.plan, paid_from)
        self.change.fill(fill, owner.book)
        self.change.booking(booking, owner.book, owner.plan, fill.product)
        self._tell_uncovered(fill, booking.uncovered)
        if fill.kind is FillKind.SYNTHETIC:
            self.differs("synthetic_fill", fill.entry_id, "no trade", describe(fill), fill.product)
        self.settled.fills.append(fill)
        if fill.side is Side.SELL:
            return fill.quantity
        quote = fill.product.split("-", 1)[1]
        return fill.notional + (fill.fee if fill.fee_asset == quote else ZERO)

    def _tell_uncovered(self, fill: Fill, quantity: Decimal) -> None:
        base, quote = fill.product.split("-", 1)
        for asset in (base, quote) if quantity else ():  # both stand in suspense
            self.found.append(Difference(kind="uncovered", subject=f"{fill.entry_id} {asset}", ours="lots of less",
                                         theirs=f"{text(quantity)} {base} more", asset=asset))  # fmt: skip

    def _settle_hold(self, order: Order, state: State, used: Decimal) -> None:
        held = self._holds.get(order.id, ZERO)
        left = ZERO if state not in LIVE_STATES else max(held - used, ZERO)
        if left != held:
            self._holds[order.id] = left
            self.change.hold(order.id, held_account(self.desk, order), left)

    def differs(self, kind: str, subject: str, ours: str, theirs: str, product: str) -> None:
        """A break of the product's base asset, written with the rest of the change."""
        self.found.append(Difference(kind=kind, subject=subject, ours=ours, theirs=theirs, asset=product.split("-", 1)[0]))

    def write(self, kind: str) -> Settled:
        write_down(self.desk, self.change, self.found)
        self.settled.breaks += [str(one) for one in self.found]
        if self.change:
            self.desk.journal.record(kind, self.change)
        return self.settled


def held_account(desk: Desk, order: Order) -> Account:
    """Where an order's hold lies: the quote account of a buy, the base account of a sell, of the order's own plan."""
    base, quote = order.intent.request.product.split("-", 1)
    owner = order.intent.owner
    return desk.account(quote if order.intent.request.side is Side.BUY else base)._replace(plan=owner.plan)


def by_order(fills: Iterable[Fill]) -> dict[str, list[Fill]]:
    found: dict[str, list[Fill]] = {}
    for fill in fills:
        found.setdefault(fill.exchange_order_id, []).append(fill)
    return found


def describe(fill: Fill) -> str:
    """`buy 0.1 BTC-USD at 60000, fee 15 USD`: for logs and summaries."""
    return f"{fill.side} {text(fill.quantity)} {fill.product} at {text(fill.price)}, fee {text(fill.fee)} {fill.fee_asset}"
