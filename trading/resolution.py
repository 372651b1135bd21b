"""What a person decides about the books: resolve a break, announce a movement, allot capital to a plan.

Each is a row with an actor and a reason, and each correction is a new transaction: nothing that was booked is changed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from trading import outside, settlement
from trading.absorber import Absorber
from trading.amend import reversal
from trading.desk import Desk
from trading.errors import ConfigurationError
from trading.hand import at_the_desk
from trading.ledger import Account, Posting, Transaction, book_fill, share
from trading.money import ZERO, derived_id, text
from trading.orders import State
from trading.store.journal import Change

FOREIGN = ("order_lost", "foreign_order")


def resolve(desk: Desk, break_id: UUID, reason: str, *, adopt: bool = False) -> None:
    """Closes a break by a person's word, which unfreezes its asset; if the difference is still there, it opens again.

    What the break left in suspense is written off against equity. `adopt` takes the venue's side: a foreign or lost order
    becomes the plan's own, and our id with other terms is believed. Raises ConfigurationError when there is nothing to adopt.
    """
    with at_the_desk(desk):
        rows = [row for row in desk.books.open_breaks(desk.book) if row["id"] == break_id]
        if not rows:
            raise ConfigurationError(f"break {break_id}: found none that is open in {desk.book} (`keel breaks list --all`)")
        row, change = rows[0], Change()
        if adopt and row["class"] in FOREIGN:
            _adopt_order(desk, change, row["subject"])
        elif adopt and row["class"] == "order_terms":
            _believe(desk, UUID(row["subject"]))
        elif adopt:
            known = ", ".join((*FOREIGN, "order_terms"))
            raise ConfigurationError(f"break {break_id}: found class {row['class']}, expected one of {known} to adopt")
        _write_off(desk, change, row)
        actor = desk.journal.author().actor
        change.add("resolutions", id=break_id, resolution=f"adopted: {reason}" if adopt else reason, resolved_by=actor)
        desk.journal.record("break.resolve", change)


def _adopt_order(desk: Desk, change: Change, exchange_order_id: str) -> None:
    """Reverses what the order's fills moved outside of the plans, and books them to the desk's plan, lots and all.

    Raises ConfigurationError where the plan has not got what the order spent: then it cannot have been the plan's.
    """
    fills = desk.books.standing_fills(desk.book, exchange_order_id)
    pairs = {(desk.plan.name, fill.product) for fill in fills}
    lots, _, _ = desk.books.settling(desk.book, desk.lot_method, pairs)
    spent: dict[str, Decimal] = {}
    for fill in fills:
        change.transaction(reversal(outside.foreign_entry(fill, desk.book)))
        booking = book_fill(lots[desk.plan.name, fill.product], fill, desk.book, desk.plan.name)
        change.booking(booking, desk.book, desk.plan.name, fill.product)
        for account, amount in booking.transaction.postings:
            if account.kind == "venue":
                spent[account.asset] = spent.get(account.asset, ZERO) - amount
    for asset, amount in spent.items():
        if amount > (free := desk.books.free_cash(desk.book, asset).get(desk.plan.name, ZERO)):
            raise ConfigurationError(
                f"order {exchange_order_id}: found {text(free)} {asset} of plan {desk.plan.name} to adopt it with, expected"
                f" {text(amount)}; resolve it without adopting, or allot first"
            )


def _believe(desk: Desk, order_id: UUID) -> None:
    """Takes the venue's terms of our id for true: acknowledged as it is, its fills booked."""
    order = desk.books.orders([order_id])[order_id]
    seen = settlement.scan(desk, settlement.last_look(desk))
    theirs = seen.orders.get(str(order_id), [])
    if len(theirs) != 1:
        raise ConfigurationError(f"order {order_id}: found {len(theirs)} of that id at the exchange, expected one to adopt")
    absorber = Absorber(desk)
    fills = absorber.load([order], [fill for fill in seen.fills if fill.exchange_order_id == theirs[0].exchange_order_id])
    evidence = [("ack", State.OPEN)] if order.state is State.IN_DOUBT else []
    settlement.believe(absorber, order, theirs[0], fills.get(theirs[0].exchange_order_id, []), evidence=evidence)
    absorber.write("break.adopt")


def _write_off(desk: Desk, change: Change, row: dict[str, Any]) -> None:
    """What lies in suspense of the break's asset goes to equity, unless another open break still explains it."""
    others = [other for other in desk.books.open_breaks(desk.book) if other["asset"] == row["asset"] and other["id"] != row["id"]]
    if others or not row["asset"]:
        return
    lines = [
        Posting(account, amount)
        for plan, posted in desk.books.suspense(desk.book, row["asset"])
        for account, amount in (
            (Account(desk.book, plan, "suspense", row["asset"]), -posted),
            (Account(desk.book, plan, "equity", row["asset"]), posted),
        )
    ]
    if lines:
        change.transaction(Transaction("write_off", "break", str(row["id"]), desk.market_now(), tuple(lines)))


def announce(desk: Desk, kind: str, asset: str, amount: Decimal, reason: str) -> UUID:
    """Says beforehand that money or coin will move; the movement that fits it then opens no breaker. Returns its id."""
    actor = desk.journal.author().actor
    id_ = derived_id("announcement", desk.book, kind, asset, text(amount), desk.wall().isoformat())
    change = Change()
    change.add("announcements", id=id_, book=desk.book, kind=kind, asset=asset, amount=amount, reason=reason, announced_by=actor)
    desk.journal.record("announce", change)
    return id_


def allot(desk: Desk, amount: Decimal) -> None:
    """Gives the plan cash that no plan owns (a deposit), or takes it back with a negative amount (before a withdrawal).

    Raises ConfigurationError when it is not there.
    """
    with at_the_desk(desk):
        asset = desk.plan.cash_asset
        free = desk.books.free_cash(desk.book, asset)
        giver = outside.PLAN if amount > 0 else desk.plan.name
        if abs(amount) > free.get(giver, ZERO):
            there = text(free.get(giver, ZERO))
            raise ConfigurationError(f"allot: found {there} {asset} free in {giver}, expected {text(abs(amount))}")
        change = Change()
        change.transaction(Transaction("allotment", "hand", f"{desk.book}:{desk.plan.name}@{desk.wall().isoformat()}",
                                       desk.market_now(), share(desk.account(asset), amount)))  # fmt: skip
        desk.journal.record("allot", change)
