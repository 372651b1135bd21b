"""Settle orders: ask the exchange about every order that may still trade, believe only evidence, book what traded.

This is the first step of every cycle and also the whole of crash recovery: whatever an earlier run left half done is
settled here by the code that runs every time. What the venue says happened is always booked: late fills of closed orders,
reversals and corrections, orders that are not ours, money that came or went. What does not fit is a break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from trading import outside
from trading.amend import pairs, rebook
from trading.breaks import Difference, react, write_down
from trading.desk import Desk
from trading.exchange.port import RESOLUTIONS, ExchangeOrder, Status, readable
from trading.ledger import Account, book_fill
from trading.lots import Lots
from trading.money import ZERO, text
from trading.movements import Movement
from trading.orders import DEAD_STATES, LIVE_STATES, UNKNOWN_STATES, Fill, FillKind, Order, Side, State
from trading.store.journal import Change

SCAN_OVERLAP = timedelta(minutes=10)
"""Scans reach back further than the oldest live order: clocks differ, and late fills appear behind a cursor."""

_CLOSING = {
    Status.CANCELLED: ("cancelled", State.CANCELLED),
    Status.EXPIRED: ("expire", State.EXPIRED),
    Status.REJECTED: ("reject", State.REJECTED),
    Status.FILLED: ("cancelled", State.CANCELLED),  # closed by the venue short of what was ordered
}
LOOK_BACK = timedelta(days=2)
"""How far back a first look, and the daily one, compares orders one by one. Balances compare all that ever happened."""

_ADJUSTMENTS = frozenset({FillKind.REVERSAL, FillKind.CORRECTION})


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


@dataclass(frozen=True, slots=True)
class Scan:
    """What the venue says since a time, read whole: orders by the client id that they carry, fills, movements."""

    orders: Mapping[str, list[ExchangeOrder]]
    fills: list[Fill]
    movements: list[Movement]


def scan(desk: Desk, since: datetime) -> Scan:
    """Asks the venue. Raises Unanswered: a scan is whole or it is none."""
    orders: dict[str, list[ExchangeOrder]] = {}
    for found in map(readable, desk.exchange.orders(since)):
        orders.setdefault(found.client_order_id or found.exchange_order_id, []).append(found)
    return Scan(orders, desk.exchange.fills(since), desk.exchange.movements(since))


def settle(desk: Desk, since: datetime | None = None) -> Settled:
    """Settles every live order of the portfolio, of whatever plan, slot or run; safe to run at any time, any number of times.

    Looks at everything that happened at the venue from `since` on; by default as far back as live orders reach, and further
    only if the balances differ. Raises Unanswered when the exchange cannot be asked: then nothing is changed.
    """
    live = desk.books.live_orders(desk.book)
    sent = [order for order in live if order.state is not State.STAGED]
    if since is None and not sent and not _is_disturbed(desk):
        settled = _settle_staged(desk, live)
    else:
        window = min([since or last_look(desk), *(order.intent.decided_at - SCAN_OVERLAP for order in sent)])
        settled = _settle_all(desk, live, scan(desk, window))
    react(desk)
    return settled


def last_look(desk: Desk) -> datetime:
    """Everything before it was compared and found equal: market time of the last clean reconciliation, less an overlap."""
    now = desk.market_now()
    clean_at = desk.books.last_clean_at(desk.book)
    return now - LOOK_BACK if clean_at is None else min(now, clean_at) - SCAN_OVERLAP


def _is_disturbed(desk: Desk) -> bool:
    """Do the venue's balances differ from the ledger's? Then something happened that no live order explains."""
    theirs = {asset: balance.total for asset, balance in desk.exchange.balances().items() if balance.total}
    ours = {asset: posted for asset, posted in desk.books.venue_balances(desk.book).items() if posted}
    return theirs != ours


def _settle_staged(desk: Desk, staged: Sequence[Order]) -> Settled:
    if not staged:
        return Settled()
    absorber = Absorber(desk)
    absorber.load(staged)
    _abandon_late(absorber, staged)
    return absorber.write("settle")


def _settle_all(desk: Desk, live: Sequence[Order], seen: Scan) -> Settled:
    """Books what the scan tells: trades in one transaction, then each adjustment of an earlier fill in its own."""
    absorber = Absorber(desk)
    orders = _concerned(desk, live, seen)
    new = absorber.load(list(orders.values()), seen.fills)
    by_venue_id = {found.exchange_order_id: id_ for id_, listed in seen.orders.items() for found in listed}
    by_venue_id |= {order.exchange_order_id: str(id_) for id_, order in orders.items() if order.exchange_order_id}
    ours: dict[str, list[Fill]] = {}
    foreign: dict[str, list[Fill]] = {}
    adjustments: list[tuple[Order, Fill]] = []
    for exchange_id, fills in new.items():
        id_ = _uuid(by_venue_id.get(exchange_id, ""))
        order = orders.get(id_) if id_ is not None else None
        for fill in fills:
            if order is None:
                foreign.setdefault(exchange_id, []).append(fill)
            elif fill.kind in _ADJUSTMENTS:
                adjustments.append((order, fill))
            else:
                ours.setdefault(exchange_id, []).append(fill)
    _abandon_late(absorber, [order for order in live if order.state is State.STAGED])
    for id_, order in orders.items():
        if order.state is not State.STAGED:
            _settle_one(absorber, order, seen.orders.get(str(id_), []), ours)
    _book_outside(desk, absorber, seen, orders, foreign)
    settled = absorber.write("settle")
    for order, fill in adjustments:
        settled.join(_adjust(desk, order.id, fill))
    return settled


def _concerned(desk: Desk, live: Sequence[Order], seen: Scan) -> dict[UUID, Order]:
    """The live orders, and those of ours that the scan speaks of: a closed order may have traded, a dead one may live."""
    orders = {order.id: order for order in live}
    listed = [id_ for text_ in seen.orders if (id_ := _uuid(text_)) is not None and id_ not in orders]
    traded = list({fill.exchange_order_id for fill in seen.fills})
    for order in desk.books.orders_told(desk.book, listed, traded):
        orders.setdefault(order.id, order)
    return orders


def _uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None


def _abandon_late(absorber: Absorber, staged: Sequence[Order]) -> None:
    """Staged orders were never sent. One that may still be sent is left to the run of its slot."""
    deadlines = absorber.desk.books.send_before([order.id for order in staged]) if staged else {}
    for order in staged:
        if deadlines[order.id] < absorber.desk.wall():
            absorber.absorb(order, (), evidence=[("abandon", State.ABANDONED)], note="too_late")


def _book_outside(desk: Desk, absorber: Absorber, seen: Scan, orders: Mapping[UUID, Order], fills: dict[str, list[Fill]]) -> None:
    out = outside.Outside(absorber.change, absorber.found)
    strange = [found for id_, listed in seen.orders.items() if _uuid(id_) not in orders for found in listed]
    outside.book_foreign(desk, out, strange, fills)
    listed = {found.exchange_order_id for found in strange}
    older = desk.books.foreign_orders(desk.book, [id_ for id_ in fills if id_ not in listed])
    # A fill whose order nobody lists is left alone: it may be that of an order in doubt. The balances tell if it never comes.
    for fill in (fill for id_ in older for fill in fills[id_]):
        outside.book_foreign_fill(desk, absorber.change, fill)
    outside.book_movements(desk, out, seen.movements)


def by_order(fills: Iterable[Fill]) -> dict[str, list[Fill]]:
    found: dict[str, list[Fill]] = {}
    for fill in fills:
        found.setdefault(fill.exchange_order_id, []).append(fill)
    return found


def _settle_one(absorber: Absorber, order: Order, theirs: Sequence[ExchangeOrder], fills: Mapping[str, list[Fill]]) -> None:
    """One order of ours against what the venue lists under its id."""
    if not theirs:
        late = fills.get(order.exchange_order_id or "", [])
        if late:  # closed and out of the list, and yet a fill: money all the same
            dead = order.state in DEAD_STATES
            if dead:
                absorber.differs("order_revived", str(order.id), order.state, "a fill", late[0].product)
            absorber.absorb(order, late, evidence=[("ack", State.OPEN)] if dead else (), note="a late fill")
        elif order.state in LIVE_STATES:
            _not_found(absorber, order)
        return
    found = theirs[0]
    new = fills.get(found.exchange_order_id, [])
    if len(theirs) > 1 or not same_terms(order, found):
        if order.state in LIVE_STATES:
            disagree(absorber, order, theirs)
    elif order.state in DEAD_STATES:
        if found.status in (Status.OPEN, Status.FILLED) or found.filled or new:
            absorber.differs("order_revived", str(order.id), order.state, found.raw_status, found.product)
            believe(absorber, order, found, new, evidence=[("ack", State.OPEN)])
    elif order.state in LIVE_STATES:
        believe(absorber, order, found, new, evidence=[("ack", State.OPEN)] if order.state in UNKNOWN_STATES else ())
    elif new:
        absorber.absorb(order, new, note="a late fill")


def believe(
    absorber: Absorber, order: Order, found: ExchangeOrder, new: Sequence[Fill], *, evidence: Sequence[tuple[str, State]]
) -> None:
    """Takes over what the venue says of an order. Its end counts only once our fills sum to what the venue filled."""
    if found.status is Status.UNKNOWN:
        absorber.differs("unknown_status", str(order.id), order.state, found.raw_status, found.product)
    complete = order.filled + sum((fill.quantity for fill in new), ZERO) >= found.filled
    absorber.absorb(
        order,
        new,
        evidence=evidence,
        exchange_id=found.exchange_order_id,
        closing=_CLOSING.get(found.status) if complete else None,  # its last fills first: they may lag the status
        note="found at the exchange" if evidence else found.raw_status,
    )


def disagree(absorber: Absorber, order: Order, theirs: Sequence[ExchangeOrder]) -> None:
    """Our id with other terms, or twice: nothing is booked as ours until a person has looked."""
    kind = "order_twice" if len(theirs) > 1 else "order_terms"
    absorber.differs(kind, str(order.id), order.intent.body, "; ".join(_terms(found) for found in theirs), theirs[0].product)
    if order.state is State.SENDING:
        absorber.absorb(order, (), evidence=[("doubt", State.IN_DOUBT)], note="the exchange reports other terms")


def _not_found(absorber: Absorber, order: Order) -> None:
    """The exchange lists no such order. That proves absence only after its visibility lag and several complete scans."""
    desk = absorber.desk
    if order.state is State.SENDING:
        absorber.absorb(order, (), evidence=[("doubt", State.IN_DOUBT)], note="sent, no answer recorded, not listed")
    elif order.state is State.IN_DOUBT:
        if reason := _absence(desk, order):
            absorber.absorb(order, (), evidence=[("prove_absent", State.ABSENT)], note=reason)
        else:
            absorber.absorb(order, (), evidence=[("not_listed", State.IN_DOUBT)], note="not listed in a complete scan")
    else:
        absorber.differs("order_missing", str(order.id), order.state, "not listed", order.intent.request.product)


def _absence(desk: Desk, order: Order) -> str:
    """Why the order counts as absent, or empty: this scan is the last one of as many, over as long, as its venue asks for."""
    if not (lag := desk.exchange.visibility_lag_seconds):
        return "not listed, and lists of this exchange never lag"
    rule = RESOLUTIONS[desk.exchange.duplicates]
    since, scans = desk.books.doubt(order.id)
    wait = max(float(lag), rule.quiet_seconds_min)
    if scans + 1 < rule.scans_min or (desk.wall() - since).total_seconds() < wait:
        return ""
    return f"not listed in {scans + 1} complete scans over {wait:.0f} s"


def _adjust(desk: Desk, order_id: UUID, fill: Fill) -> Settled:
    """A reversal or correction: the fill that it names is reversed, and what followed is posted anew, in one transaction."""
    order = desk.books.orders([order_id])[order_id]
    owner = order.intent.owner
    absorber = Absorber(desk)
    absorber.load([order], [fill])
    original = desk.books.standing_fill(owner.book, fill.exchange_order_id, fill.trade_id)
    if original is None and fill.kind is FillKind.CORRECTION:
        absorber.absorb(order, [fill])
        return absorber.write("settle.adjust")
    if original is None:
        absorber.differs("adjustment_unmatched", fill.entry_id, "no such fill", describe(fill), fill.product)
        return absorber.write("settle.adjust")
    absorber.replace(order, original, fill)
    absorber.differs("adjusted_fill", original.entry_id, describe(original), f"{fill.kind} {describe(fill)}", fill.product)
    return absorber.write("settle.adjust")


def same_terms(order: Order, theirs: ExchangeOrder) -> bool:
    """Is what the exchange reports what we meant? Product, side, quantity and limit price."""
    request = order.intent.request
    return (
        theirs.product == request.product
        and theirs.side is request.side
        and theirs.quantity == request.quantity
        and (theirs.limit_price is None or request.limit_price is None or theirs.limit_price == request.limit_price)
    )


def _terms(found: ExchangeOrder) -> str:
    price = "at the market" if found.limit_price is None else f"at {text(found.limit_price)}"
    return f"{found.side} {text(found.quantity)} {found.product} {price}, {found.raw_status} ({found.exchange_order_id})"


def describe(fill: Fill) -> str:
    """`buy 0.1 BTC-USD at 60000, fee 15 USD`: for logs and summaries."""
    return f"{fill.side} {text(fill.quantity)} {fill.product} at {text(fill.price)}, fee {text(fill.fee)} {fill.fee_asset}"
