"""Amending the books: a reversal is the exact negative of what was booked, and what followed is posted anew.

Nothing that was booked is changed. Taking back a fill in the middle of a history reverses, newest first, everything that moved
lots after it, then the fill itself, and posts the rest again in order on the lots that result: the books are then those that
would have been without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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


def rebook(lots: Lots, history: Sequence[Posted], book: str, plan: str, corrected: Fill | None = None) -> list[Booking]:
    """Takes the first of `history` back, or puts `corrected` in its place, and posts the rest anew.

    `history` is every standing booking of the product from that fill on, oldest first; `lots` are what is held after it, and
    are moved along. Returns the bookings to write, in order.
    """
    before = _lots_before(lots, history)
    bookings = [undo(posted.booking) for posted in reversed(history)]
    again = lots_by(lots.method, sorted(before.values(), key=lambda lot: (lot.acquired_at, lot.id)))
    if corrected is not None:
        bookings.append(book_fill(again, corrected, book, plan))
    bookings += [
        book_fill(again, posted.fill, book, plan, kind=_next_kind(posted.booking.transaction.kind)) for posted in history[1:]
    ]
    lots.lots, lots.quantity, lots.cost = again.lots, again.quantity, again.cost
    return bookings


def _lots_before(lots: Lots, history: Sequence[Posted]) -> Mapping[object, Lot]:
    held: dict[object, Lot] = {lot.id: Lot(*lot) for lot in lots.lots}
    for posted in reversed(history):
        known = {lot.id: lot for lot in posted.taken_from}
        for match in posted.booking.matches:
            whole = known[match.lot]
            left = held.get(match.lot, whole._replace(quantity=ZERO, cost=ZERO))
            held[match.lot] = left._replace(quantity=left.quantity + match.quantity, cost=left.cost + match.cost)
        for lot in posted.booking.opened:
            left = held.pop(lot.id, lot)
            if left.quantity != lot.quantity:
                raise BooksRefused(f"lot {lot.id}: {left.quantity} left of {lot.quantity}, expected all: the history has a gap")
    return held


def _next_kind(kind: str) -> str:
    """`fill`, `fill:2`, `fill:3` ...: the how-manieth posting of a fill."""
    return f"fill:{int(kind.partition(':')[2] or 1) + 1}"
