"""Amending the books: a reversal is the exact negative of what was booked, and what followed is posted anew.

Nothing that was booked is changed. Taking back a fill in the middle of a history reverses, newest first, everything that moved
lots after it, then the fill itself, and posts the rest again in order on the lots that result: the books are then those that
would have been without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from trading.errors import BooksRefused
from trading.ledger import Booking, Posting, Transaction, book_fill
from trading.lots import Lot, Lots, Match, lots_by
from trading.money import ZERO
from trading.orders import Fill


class Posted(NamedTuple):
    """A booking as it stands in the ledger, with the fill that caused it and the lots that its matches speak of."""

    booking: Booking
    fill: Fill
    taken_from: tuple[Lot, ...]
    """As they were opened: quantity and cost in full."""
    paid_from: frozenset[UUID] = frozenset()
    """Those of them that are lots of the fee asset's pair, not of the fill's own."""


def pairs(fill: Fill) -> frozenset[str]:
    """The products whose lots a fill may move: its own, and that of a fee in a third asset."""
    base, quote = fill.product.split("-", 1)
    own = frozenset({fill.product})
    return own if fill.fee_asset in (base, quote) else own | {f"{fill.fee_asset}-{quote}"}


def affected(fills: Iterable[Fill], corrected: Fill | None = None) -> list[Fill]:
    """Those of a plan's fills that the first one (or what takes its place) has an effect on, through lots: all that must be
    posted anew with it.

    Where fees are paid in BNB, a purchase of BNB has an effect on every later fill that such a fee was charged for.
    """
    touched = frozenset() if corrected is None else pairs(corrected)
    found: list[Fill] = []
    for fill in fills:
        if not found or touched & pairs(fill):
            touched |= pairs(fill)
            found.append(fill)
    return found


def reversal(transaction: Transaction) -> Transaction:
    """The exact negative; a transaction is reversed at most once."""
    postings = tuple(Posting(account, -amount) for account, amount in transaction.postings)
    source = str(transaction.id)
    return Transaction("reversal", "transaction", source, transaction.effective_at, postings, reverses=transaction.id)


def undo(posted: Booking) -> Booking:
    """The reversal of a booking: what it took is given back, what it opened is given up whole."""
    given_back = [Match(match.lot, -match.quantity, -match.cost, -match.proceeds) for match in posted.matches]
    given_up = [Match(lot.id, lot.quantity, lot.cost, ZERO) for lot in posted.opened]
    return Booking(reversal(posted.transaction), (), (*given_back, *given_up), -posted.realised)


def rebook(
    lots: Lots, history: Sequence[Posted], book: str, plan: str, corrected: Fill | None = None,
    others: Mapping[str, Lots] = MappingProxyType({}),
) -> list[Booking]:  # fmt: skip
    """Takes the first of `history` back, or puts `corrected` in its place, and posts the rest anew.

    `history` is every standing booking of `affected` fills, from that fill on, oldest first; `lots` are what is held of its
    product after it, `others` by product what is held of the other `pairs` in it. All are moved along. Returns the bookings to
    write, in order; one whose `uncovered` is not zero is a break, as with any other. Raises BooksRefused when there is a gap.
    """
    held = {history[0].fill.product: lots, **others}
    before = _lots_before(held, history)
    again = {product: lots_by(held[product].method, sorted(left.values(), key=_age)) for product, left in before.items()}

    def post(fill: Fill, kind: str) -> Booking:
        fee_lots = [again[product] for product in pairs(fill) - {fill.product} if product in again]
        return book_fill(again[fill.product], fill, book, plan, fee_lots[0] if fee_lots else None, kind)

    bookings = [undo(posted.booking) for posted in reversed(history)]
    if corrected is not None:
        bookings.append(post(corrected, "fill"))
    bookings += [post(posted.fill, _next_kind(posted.booking.transaction.kind)) for posted in history[1:]]
    for product, moved in held.items():
        moved.become(again[product])
    return bookings


def _age(lot: Lot) -> tuple[datetime, UUID]:
    return lot.acquired_at, lot.id


def _lots_before(held: Mapping[str, Lots], history: Sequence[Posted]) -> dict[str, dict[UUID, Lot]]:
    """Product -> the lots as they were before the history, by going back through it from what is held now."""
    before = {product: {lot.id: Lot(*lot) for lot in lots.lots} for product, lots in held.items()}
    for posted in reversed(history):
        own = before.get(posted.fill.product)
        other = next((before[product] for product in pairs(posted.fill) - {posted.fill.product} if product in before), None)
        if own is None or (other is None and posted.paid_from):
            moved = ", ".join(sorted(pairs(posted.fill)))
            raise BooksRefused(f"fill {posted.fill.entry_id}: it moved lots of {moved}, found those of {', '.join(before)}")
        known = {lot.id: lot for lot in posted.taken_from}
        for match in posted.booking.matches:
            side = other if other is not None and match.lot in posted.paid_from else own
            left = side.get(match.lot, known[match.lot]._replace(quantity=ZERO, cost=ZERO))
            side[match.lot] = left._replace(quantity=left.quantity + match.quantity, cost=left.cost + match.cost)
        for lot in posted.booking.opened:
            left = own.pop(lot.id, lot._replace(quantity=ZERO, cost=ZERO))
            if (left.quantity, left.cost) != (lot.quantity, lot.cost):
                raise BooksRefused(f"lot {lot.id}: {left.quantity} left of {lot.quantity}, expected all: the history has a gap")
    return before


def _next_kind(kind: str) -> str:
    """`fill`, `fill:2`, `fill:3` ...: the how-manieth posting of a fill."""
    return f"fill:{int(kind.partition(':')[2] or 1) + 1}"
