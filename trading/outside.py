"""What happens at the venue without an order of ours: foreign orders, and movements of money and coin.

It is booked as the venue says, to a share of the portfolio that no plan owns, so that the ledger equals the venue; and it is
a break wherever nobody announced it. Nothing of it is ever taken for a plan's own until a person says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from trading.breaks import Difference
from trading.desk import Desk
from trading.exchange.port import ExchangeOrder
from trading.ledger import OUTSIDE, Account, Booking, Posting, Transaction
from trading.lots import Lots
from trading.market import interval_seconds, last_close
from trading.money import text
from trading.movements import Movement, MovementKind, Venue, book_movement
from trading.orders import Fill, client_order_id, slot_name
from trading.store.journal import Change

PLAN = OUTSIDE
LEGS_MAX = 8
HAND_MAX = 200
"""How many slices and numbered hand orders are tried, to tell a lost order of ours from a foreign one."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Change and differences that booking the outside comes to."""

    change: Change
    found: list[Difference]


def book_foreign(desk: Desk, out: Outside, orders: Sequence[ExchangeOrder], fills: Mapping[str, Sequence[Fill]]) -> None:
    """Writes foreign orders down and books their new fills; each unknown order is a break, once."""
    known = desk.books.foreign_orders(desk.book, [order.exchange_order_id for order in orders])
    for order in orders:
        is_new = order.exchange_order_id not in known
        if is_new or known[order.exchange_order_id] != order.filled:
            out.change.add("venue_orders", **venue_order_row(desk, order, ours=False))
        if is_new:
            kind = "order_lost" if _is_lost(desk, order) else "foreign_order"
            terms = f"{order.side} {text(order.quantity)} {order.product} ({order.client_order_id})"
            out.found.append(
                Difference(kind=kind, subject=order.exchange_order_id, ours="unknown", theirs=terms, asset=_base(order.product))
            )
        for fill in fills.get(order.exchange_order_id, ()):
            book_foreign_fill(desk, out.change, fill)


def book_foreign_fill(desk: Desk, change: Change, fill: Fill) -> None:
    """A fill without an order of ours: the account moves against equity, and no lot is made of it."""
    change.fill(replace(fill, client_order_id=None), desk.book)
    change.transaction(foreign_entry(fill, desk.book))


def foreign_entry(fill: Fill, book: str) -> Transaction:
    """The fill as the venue tells it, against equity in each asset; its fee is its own posting.

    A foreign buy of 0.1 BTC at 60,000 with a fee of 15 USD: venue:BTC +0.1, equity:BTC −0.1, venue:USD −6015,
    equity:USD +6000, fees:USD +15, all of the share that is no plan's.
    """
    base, quote = fill.product.split("-", 1)
    sign = fill.side.sign
    lines: dict[Account, Any] = {}

    def move(kind: str, asset: str, amount: Any) -> None:
        account = Account(book, PLAN, kind, asset)
        lines[account] = lines.get(account, 0) + amount

    move("venue", base, sign * fill.quantity)
    move("equity", base, -sign * fill.quantity)
    move("venue", quote, -sign * fill.notional)
    move("equity", quote, sign * fill.notional)
    move("venue", fill.fee_asset, -fill.fee)
    move("fees", fill.fee_asset, fill.fee)
    postings = tuple(Posting(account, amount) for account, amount in lines.items() if amount)
    return Transaction("foreign", "fill", fill.entry_id, fill.traded_at, postings)


def book_movements(desk: Desk, out: Outside, movements: Iterable[Movement]) -> None:
    """Books what moved without an order; what nobody announced, or nobody can value, is a break."""
    new = desk.books.unknown_movements(desk.book, list(movements))
    if not new:
        return
    announced = desk.books.announcements(desk.book)
    listed = {asset for product in desk.plan.products for asset in product.split("-", 1)}
    products = {movement: _pair_of(movement, desk.plan.cash_asset) for movement in new}
    lots, _, _ = desk.books.settling(desk.book, desk.lot_method, {(PLAN, product) for product in products.values()})
    for movement in new:
        announcement = _announcement(announced, movement)
        out.change.movement(movement, desk.book, announcement)
        product = products[movement]
        booking = _movement_booking(desk, movement, product, lots[PLAN, product], listed=movement.asset in listed)
        out.change.booking(booking, desk.book, PLAN, product)
        if booking.uncovered:
            out.found.append(Difference(kind="uncovered", subject=movement.entry_id, ours="no lot, or no price",
                                        theirs=f"{text(booking.uncovered)} {movement.asset}", asset=movement.asset))  # fmt: skip
        kind = _break_of(movement, desk.plan.cash_asset, announced=announcement is not None, listed=movement.asset in listed)
        if kind is not None:
            told = f"{movement.kind} {text(movement.amount)} {movement.asset} {movement.note}".strip()
            out.found.append(
                Difference(kind=kind, subject=movement.entry_id, ours="not announced", theirs=told, asset=movement.asset)
            )


def _pair_of(movement: Movement, cash: str) -> str:
    """The pair whose lots a movement moves: its asset against the cash asset, or a conversion's own pair."""
    return f"{movement.asset if movement.asset != cash else movement.to_asset or cash}-{cash}"


def _movement_booking(desk: Desk, movement: Movement, product: str, lots: Lots, *, listed: bool) -> Booking:
    quote = desk.quote(product) if product in desk.plan.products else None
    price = None if quote is None else quote.mid
    return book_movement(lots, movement, Venue(desk.book, PLAN, desk.plan.cash_asset), price=price, listed=listed)


def _announcement(announced: list[dict[str, Any]], movement: Movement) -> UUID | None:
    """The announcement that foretold it; each is used up by one movement."""
    for row in announced:
        if (row["kind"], row["asset"], row["amount"]) == (movement.kind, movement.asset, movement.amount):
            announced.remove(row)
            return UUID(str(row["id"]))
    return None


def _break_of(movement: Movement, cash_asset: str, *, announced: bool, listed: bool) -> str | None:
    if movement.kind is MovementKind.WITHDRAWAL:
        return None if announced else "withdrawal"
    if movement.kind is MovementKind.CONVERSION:
        return None if announced else "conversion"
    if movement.kind is MovementKind.INCOME:
        return None if listed else "income"
    return None if movement.asset == cash_asset else "deposit"


def _is_lost(desk: Desk, order: ExchangeOrder) -> bool:
    """Is the order's id one that this plan derives, for a slot around its time or a numbered order by hand?

    Then the ledger has forgotten a decision of its own: it was restored from an old backup.
    """
    close = last_close(order.created_at, desk.plan.interval)
    step = timedelta(seconds=interval_seconds(desk.plan.interval))
    slots = [slot_name(desk.plan.name, close + step * number) for number in (0, -1, 1, -2)]
    slots += [f"hand:{number}" for number in range(1, HAND_MAX)]
    return any(
        str(client_order_id(desk.owner(slot), order.product, leg)) == order.client_order_id
        for slot in slots
        for leg in range(LEGS_MAX if not slot.startswith("hand:") else 1)
    )


def venue_order_row(desk: Desk, order: ExchangeOrder, *, ours: bool) -> dict[str, Any]:
    """The row of a `Change` that keeps what the venue says of an order."""
    return {
        "book": desk.book, "exchange_order_id": order.exchange_order_id, "client_order_id": order.client_order_id, "ours": ours,
        "product": order.product, "side": order.side, "quantity": order.quantity, "limit_price": order.limit_price,
        "status": order.status, "raw_status": order.raw_status, "filled": order.filled, "fees": order.fees,
        "created_at": order.created_at,
    }  # fmt: skip


def _base(product: str) -> str:
    return product.split("-", 1)[0]
