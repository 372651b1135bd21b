"""Settle orders: ask the exchange about every order that may still trade, believe only evidence, book what traded.

This is the first step of every cycle and also the whole of crash recovery: whatever an earlier run left half done is
settled here by the code that runs every time. What the venue says happened is always booked: late fills of closed orders,
reversals and corrections, orders that are not ours, money that came or went. What does not fit is a break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from trading import outside
from trading.absorber import Absorber, Settled, describe
from trading.breaks import react
from trading.desk import Desk
from trading.exchange.port import RESOLUTIONS, ExchangeOrder, Status, readable
from trading.exchange.pulling import LOOKS_MAX, PAUSE_SECONDS
from trading.money import ZERO, text
from trading.movements import Movement
from trading.orders import DEAD_STATES, LIVE_STATES, UNKNOWN_STATES, Fill, FillKind, Order, State
from trading.resting import RESTING_STATES, ask_to_cancel, unwanted
from trading.safety import needs_checks

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


@dataclass(frozen=True, slots=True)
class Scan:
    """What the venue says since a time, read whole: orders by the client id that they carry, fills, movements."""

    orders: Mapping[str, list[ExchangeOrder]]
    fills: list[Fill]
    movements: list[Movement]


def scan(desk: Desk, since: datetime) -> Scan:
    """Asks the venue. Raises Unanswered: a scan is whole or it is none."""
    since = within(desk, since)
    return Scan(by_client_id(desk.exchange.orders(since)), desk.exchange.fills(since), desk.exchange.movements(since))


def by_client_id(listed: Iterable[ExchangeOrder]) -> dict[str, list[ExchangeOrder]]:
    """Orders by the client id that they carry, or else by the venue's; their texts as a database can hold them."""
    orders: dict[str, list[ExchangeOrder]] = {}
    for found in map(readable, listed):
        orders.setdefault(found.client_order_id or found.exchange_order_id, []).append(found)
    return orders


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
    if not RESTING_STATES.isdisjoint(settled.states.values()):
        settled.join(_cancel_unwanted(desk))
    return settled


def _cancel_unwanted(desk: Desk) -> Settled:
    """Cancels what rests against the word of an open breaker, and looks until the venue shows that it is gone.

    What still rests after the last look is a break.
    """
    settled = Settled()
    for look in range(LOOKS_MAX):
        orders = unwanted(desk)
        if not orders:
            return settled
        if look and desk.exchange.visibility_lag_seconds:
            desk.pause(PAUSE_SECONDS)
        ask_to_cancel(desk, orders, "a breaker is open at level cancel")
        since = min([last_look(desk), *(order.intent.decided_at - SCAN_OVERLAP for order in orders)])
        settled.join(_settle_all(desk, desk.books.live_orders(desk.book), scan(desk, since)))
    absorber = Absorber(desk)
    for order in unwanted(desk):
        absorber.differs("still_resting", str(order.id), "to be cancelled", order.state, order.intent.request.product)
    settled.join(absorber.write("settle"))
    react(desk)
    return settled


def last_look(desk: Desk) -> datetime:
    """Everything before it was compared and found equal: market time of the last clean reconciliation, less an overlap."""
    now = desk.market_now()
    clean_at = desk.books.last_clean_at(desk.book)
    return now - LOOK_BACK if clean_at is None else min(now, clean_at) - SCAN_OVERLAP


def within(desk: Desk, since: datetime) -> datetime:
    """The time, or that of the stock-taking if it is later: what traded before is in the balances that were found then."""
    opened_at = desk.books.opened_at(desk.book) if needs_checks(desk.mode) else None
    return since if opened_at is None else max(since, opened_at)


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
    elif not may_lag(desk, order):
        absorber.differs("order_missing", str(order.id), order.state, "not listed", order.intent.request.product)


def may_lag(desk: Desk, order: Order) -> bool:
    """Did the order move so lately that its venue's lists need not tell of that yet?"""
    return desk.wall() - order.updated_at < timedelta(seconds=desk.exchange.visibility_lag_seconds)


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
