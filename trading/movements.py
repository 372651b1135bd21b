"""Movements: what the venue does to the account without an order of ours, and how each is booked.

    deposit 500 USD              venue:USD +500      equity:USD −500
    withdrawal 500 USD           venue:USD −500      equity:USD +500
    deposit 0.1 BTC at 60,000    venue:BTC +0.1      trading:BTC −0.1     trading:USD +6000    equity:USD −6000    (a lot)
    withdrawal 0.1 BTC           venue:BTC −0.1      trading:BTC +0.1     trading:USD −cost    equity:USD +cost    (of lots)
    staking 0.01 ETH at 3,000    venue:ETH +0.01     trading:ETH −0.01    trading:USD +30      income:USD −30      (a lot)
    an airdrop of a coin that no plan trades:        venue:X +q           quarantine:X −q
    100 USD into 100 USDC        as a purchase of USDC-USD: a lot of 100 USDC at a cost of 100 USD

What nobody can value, and what no lot covers, stands in suspense until a person has looked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from trading.errors import BooksRefused
from trading.ledger import Account, Booking, Posting, Transaction
from trading.lots import Lot, Lots, Match
from trading.money import ZERO, derived_id, ledger_round


class MovementKind(StrEnum):
    """What moves money or coin without an order."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    CONVERSION = "conversion"
    INCOME = "income"
    """Airdrop, staking reward, interest, rebate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """What the venue did to the account without an order of ours. Amounts are positive; the kind gives the direction."""

    entry_id: str
    """The venue's key: booked once."""
    kind: MovementKind
    asset: str
    amount: Decimal
    happened_at: datetime
    to_asset: str | None = None
    """Of a conversion: what `asset` was turned into."""
    to_amount: Decimal | None = None
    note: str = ""


class Venue(NamedTuple):
    """Where a movement is booked: the share of which portfolio, and the asset that cost is counted in."""

    book: str
    plan: str
    cash_asset: str


def book_movement(lots: Lots, movement: Movement, at: Venue, *, price: Decimal | None, listed: bool) -> Booking:
    """Books a movement and moves `lots`, which are those of the coin against the cash asset.

    `price` values coin that arrives (cash per unit; None: nobody knows). `listed` is False for an asset that no plan trades.
    """
    entry = _Entry(movement, at)
    leaves = movement.kind is MovementKind.WITHDRAWAL
    if movement.kind is MovementKind.CONVERSION:
        return _convert(entry, lots)
    if movement.asset == at.cash_asset:
        entry.move("venue", at.cash_asset, -movement.amount if leaves else movement.amount)
        entry.move(_contra(movement), at.cash_asset, movement.amount if leaves else -movement.amount)
        return entry.booking()
    if leaves:
        return _withdraw(entry, lots) if listed or lots.quantity else _quarantine(entry, -movement.amount)
    if not listed and movement.kind is MovementKind.INCOME:
        return _quarantine(entry, movement.amount)
    return _arrive(entry, lots, price)


class _Entry:
    """The lines of one movement as they come together."""

    def __init__(self, movement: Movement, at: Venue) -> None:
        self.movement = movement
        self.at = at
        self.lines: dict[Account, Decimal] = {}
        self.lot_id = derived_id("lot", at.book, "movement", movement.entry_id)

    def move(self, kind: str, asset: str, amount: Decimal, product: str = "") -> None:
        account = Account(self.at.book, self.at.plan, kind, asset, product)
        self.lines[account] = self.lines.get(account, ZERO) + amount

    def trade(self, asset: str, quantity: Decimal, cost: Decimal) -> None:
        """The trading accounts of the coin against the cash asset: plus is coin bought at a cost, minus given up."""
        product = f"{asset}-{self.at.cash_asset}"
        self.move("trading", asset, -quantity, product)
        self.move("trading", self.at.cash_asset, cost, product)

    def booking(self, opened: tuple[Lot, ...] = (), matches: Sequence[Match] = (), uncovered: Decimal = ZERO) -> Booking:
        moved = self.movement
        postings = tuple(Posting(account, amount) for account, amount in self.lines.items() if amount)
        transaction = Transaction(moved.kind.value, "movement", moved.entry_id, moved.happened_at, postings)
        return Booking(transaction, opened, tuple(matches), ZERO, uncovered)


def _contra(movement: Movement) -> str:
    return "income" if movement.kind is MovementKind.INCOME else "equity"


def _arrive(entry: _Entry, lots: Lots, price: Decimal | None) -> Booking:
    moved, cash = entry.movement, entry.at.cash_asset
    entry.move("venue", moved.asset, moved.amount)
    if price is None:
        entry.move("suspense", moved.asset, -moved.amount)
        return entry.booking(uncovered=moved.amount)
    value = ledger_round(moved.amount * price)
    origin = "income" if moved.kind is MovementKind.INCOME else "deposit"
    lot, given_up = lots.open(Lot(entry.lot_id, moved.amount, value, moved.happened_at, origin, origin == "income"))
    entry.trade(moved.asset, moved.amount, value)
    entry.move(_contra(moved), cash, -value)
    return entry.booking((lot,), given_up)


def _withdraw(entry: _Entry, lots: Lots) -> Booking:
    moved, cash = entry.movement, entry.at.cash_asset
    covered = min(moved.amount, lots.quantity)
    matches = lots.take(covered, ZERO)
    cost = sum((match.cost for match in matches), ZERO)
    entry.move("venue", moved.asset, -moved.amount)
    entry.trade(moved.asset, -covered, -cost)
    entry.move("equity", cash, cost)
    if uncovered := moved.amount - covered:
        entry.move("suspense", moved.asset, uncovered)
    return entry.booking((), matches, uncovered)


def _quarantine(entry: _Entry, amount: Decimal) -> Booking:
    entry.move("venue", entry.movement.asset, amount)
    entry.move("quarantine", entry.movement.asset, -amount)
    return entry.booking()


def _convert(entry: _Entry, lots: Lots) -> Booking:
    """Cash into coin is a purchase, coin into cash a sale; between two coins, suspense has both sides."""
    moved, cash = entry.movement, entry.at.cash_asset
    to_asset, to_amount = moved.to_asset, moved.to_amount
    if to_asset is None or to_amount is None:
        raise BooksRefused(f"movement {moved.entry_id}: found {moved.asset} converted into nothing, expected asset and amount")
    entry.move("venue", moved.asset, -moved.amount)
    entry.move("venue", to_asset, to_amount)
    if moved.asset == cash:
        lot, given_up = lots.open(Lot(entry.lot_id, to_amount, moved.amount, moved.happened_at))
        entry.trade(to_asset, to_amount, moved.amount)
        return entry.booking((lot,), given_up)
    if to_asset != cash:
        entry.move("suspense", moved.asset, moved.amount)
        entry.move("suspense", to_asset, -to_amount)
        return entry.booking(uncovered=moved.amount)
    covered = min(moved.amount, lots.quantity)
    money = to_amount if covered == moved.amount else ledger_round(to_amount * covered / moved.amount)
    matches = lots.take(covered, money)
    cost = sum((match.cost for match in matches), ZERO)
    entry.trade(moved.asset, -covered, -cost)
    entry.move("income", cash, cost - money, f"{moved.asset}-{cash}")
    entry.move("suspense", moved.asset, moved.amount - covered)
    entry.move("suspense", cash, money - to_amount)
    return entry.booking((), matches, moved.amount - covered)
