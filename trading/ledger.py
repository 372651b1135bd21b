"""Double entry and lots, pure: what a fill, a deposit or a withdrawal does to the books.

Signed postings to single-asset accounts; every transaction sums to zero in each asset. Each pair has trading accounts
that hold the other side of what was bought, so that at every moment

    balance of trading:<product>:<quote>  =  cost of the lots still held
    balance of trading:<product>:<base>   = −quantity of the lots still held

A worked example, buy 0.1 BTC at 60,000 with a fee of 15 USD, then sell 0.04 at 65,000 with a fee of 10:

    buy    venue:USD −6015   trading:USD +6000   fees:USD +15     venue:BTC +0.1    trading:BTC −0.1
    sell   venue:USD +2590   trading:USD −2400   fees:USD +10     income:USD −200   venue:BTC −0.04   trading:BTC +0.04

after which trading:USD = 3600 is the cost of the 0.06 BTC still held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from trading.errors import BooksRefused
from trading.money import ZERO, derived_id, ledger_round
from trading.orders import Fill, Side


class Account(NamedTuple):
    """One account: one asset of one plan in one portfolio. `kind` is venue, trading, fees, income, equity or suspense."""

    book: str
    """`paper:main`: mode and portfolio."""
    plan: str
    kind: str
    asset: str
    product: str = ""
    """The pair of a trading account, else empty."""

    @property
    def name(self) -> str:
        kind = f"{self.kind}:{self.product}" if self.product else self.kind
        return f"{self.book}:{self.plan}:{kind}:{self.asset}"

    @property
    def id(self) -> UUID:
        return _account_id(self)


@lru_cache(maxsize=65_536)
def _account_id(account: Account) -> UUID:
    """Derived once per process: every posting names its account."""
    return derived_id("account", account.name)


class Posting(NamedTuple):
    """One signed leg: plus (debit) is more of the asset in the account."""

    account: Account
    amount: Decimal


class Transaction(NamedTuple):
    """One balanced entry. `source` names what caused it; a second one of the same source and kind is refused."""

    kind: str
    source_type: str
    source_id: str
    effective_at: datetime
    postings: tuple[Posting, ...]

    @property
    def id(self) -> UUID:
        return derived_id("transaction", self.kind, self.source_type, self.source_id)


class Lot(NamedTuple):
    """A quantity bought, and its cost in quote: both are what is left of it."""

    id: UUID
    quantity: Decimal
    cost: Decimal
    acquired_at: datetime


class Match(NamedTuple):
    """A part of a lot given up: its quantity, the cost that went out with it and what it brought."""

    lot: UUID
    quantity: Decimal
    cost: Decimal
    proceeds: Decimal


@dataclass(frozen=True, slots=True)
class Booking:
    """What one fill changes: the transaction, the lot that it opened and the lots that it consumed."""

    transaction: Transaction
    opened: Lot | None
    matches: tuple[Match, ...]
    realised: Decimal
    """Proceeds minus cost given up, before fees; zero for a buy."""


class Lots:
    """The lots of one product, oldest first (FIFO). Mutable: it is the running state of a replay of fills."""

    __slots__ = ("cost", "lots", "quantity")

    def __init__(self, lots: Iterable[Lot] = ()) -> None:
        self.lots: deque[Lot] = deque(lots)
        self.quantity = sum((lot.quantity for lot in self.lots), ZERO)
        self.cost = sum((lot.cost for lot in self.lots), ZERO)

    def add(self, lot: Lot) -> None:
        self.lots.append(lot)
        self.quantity += lot.quantity
        self.cost += lot.cost

    def take(self, quantity: Decimal, proceeds: Decimal) -> list[Match]:
        """Gives up `quantity`, oldest lots first; an emptied lot gives its whole remaining cost, so nothing is lost
        to rounding. Proceeds are shared by quantity, the last match takes the remainder.

        Raises BooksRefused when less is held.
        """
        if quantity > self.quantity:
            raise BooksRefused(f"lots: {quantity} to give up, only {self.quantity} held")
        matches: list[Match] = []
        left, money_left = quantity, proceeds
        while left:
            lot = self.lots[0]
            part = min(left, lot.quantity)
            whole = part == lot.quantity
            cost = lot.cost if whole else ledger_round(lot.cost * part / lot.quantity)
            share = money_left if part == left else ledger_round(proceeds * part / quantity)
            matches.append(Match(lot.id, part, cost, share))
            if whole:
                self.lots.popleft()
            else:
                self.lots[0] = Lot(lot.id, lot.quantity - part, lot.cost - cost, lot.acquired_at)
            left -= part
            money_left -= share
            self.quantity -= part
            self.cost -= cost
        return matches


class _Pair(NamedTuple):
    """The accounts that a fill of one product moves; a fee charged in a third asset has two more of its own."""

    base: str
    quote: str
    venue_base: Account
    venue_quote: Account
    trading_base: Account
    trading_quote: Account
    fees: Account
    income: Account


@lru_cache(maxsize=65_536)
def _pair(book: str, plan: str, product: str) -> _Pair:
    """Made once per process: every fill names the same few accounts."""
    base, quote = product.split("-", 1)
    return _Pair(
        base=base,
        quote=quote,
        venue_base=Account(book, plan, "venue", base),
        venue_quote=Account(book, plan, "venue", quote),
        trading_base=Account(book, plan, "trading", base, product),
        trading_quote=Account(book, plan, "trading", quote, product),
        fees=Account(book, plan, "fees", quote, product),
        income=Account(book, plan, "income", quote, product),
    )


def book_fill(lots: Lots, fill: Fill, book: str, plan: str) -> Booking:
    """Books one fill and moves `lots`. The fee is its own posting, in whatever asset the venue charged it.

    A fee in the base asset is paid from the oldest lots at their cost. Raises BooksRefused when more is sold than held.
    """
    pair = _pair(book, plan, fill.product)
    quantity, notional = fill.quantity, fill.notional
    opened: Lot | None = None
    matches: list[Match] = []
    realised = ZERO
    if fill.side is Side.BUY:
        opened = Lot(derived_id("lot", fill.entry_id), quantity, notional, fill.traded_at)
        lots.add(opened)
        lines = {pair.venue_quote: -notional, pair.venue_base: quantity, pair.trading_base: -quantity,
                 pair.trading_quote: notional}  # fmt: skip
    else:
        matches = lots.take(quantity, notional)
        cost = _cost(matches)
        realised = notional - cost
        lines = {pair.venue_quote: notional, pair.venue_base: -quantity, pair.trading_base: quantity,
                 pair.trading_quote: -cost, pair.income: -realised}  # fmt: skip
    if fill.fee:
        matches += _book_fee(lots, fill, pair, lines)
    postings = tuple([Posting(account, amount) for account, amount in lines.items() if amount])
    transaction = Transaction("fill", "fill", fill.entry_id, fill.traded_at, postings)
    return Booking(transaction, opened, tuple(matches), realised)


def _book_fee(lots: Lots, fill: Fill, pair: _Pair, lines: dict[Account, Decimal]) -> list[Match]:
    """Adds the fee's lines; returns the parts of lots that paid a fee in the base asset."""
    fee, asset = fill.fee, fill.fee_asset
    if asset == pair.quote:
        lines[pair.venue_quote] -= fee
        lines[pair.fees] = fee
        return []
    if asset != pair.base:
        book, plan = pair.fees.book, pair.fees.plan
        lines[Account(book, plan, "venue", asset)] = -fee
        lines[Account(book, plan, "fees", asset, fill.product)] = fee
        return []
    paid = lots.take(fee, ZERO)
    cost = _cost(paid)
    lines[pair.venue_base] -= fee
    lines[pair.trading_base] += fee
    lines[pair.trading_quote] -= cost
    lines[pair.fees] = cost
    return paid


def _cost(matches: Iterable[Match]) -> Decimal:
    return sum((match.cost for match in matches), ZERO)


def opening(book: str, plan: str, asset: str, amount: Decimal, at: datetime) -> Transaction:
    """The plan's starting capital: cash at the venue against equity."""
    postings = (
        Posting(Account(book, plan, "venue", asset), amount),
        Posting(Account(book, plan, "equity", asset), -amount),
    )
    return Transaction("opening", "plan", f"{book}:{plan}", at, postings)


def unbalanced(transaction: Transaction) -> dict[str, Decimal]:
    """Asset -> sum of its postings, where that is not zero: empty for a legal transaction."""
    sums: dict[str, Decimal] = {}
    for account, amount in transaction.postings:
        sums[account.asset] = sums.get(account.asset, ZERO) + amount
    return {asset: total for asset, total in sums.items() if total}
