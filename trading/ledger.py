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

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from trading.lots import Lot, Lots, Match
from trading.money import ZERO, derived_id, ledger_round
from trading.orders import Fill, Side

OUTSIDE = "(outside)"
"""The share of a portfolio that is no plan's: a name that no plan can have."""


class Account(NamedTuple):
    """One account: one asset of one plan in one portfolio.

    `kind` is venue, trading, fees, income, equity, suspense (not explained yet) or quarantine (coin that nobody trades).
    """

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
    """One balanced entry. `source` names what caused it; a second one of the portfolio, source and kind is refused."""

    kind: str
    source_type: str
    source_id: str
    effective_at: datetime
    postings: tuple[Posting, ...]
    reverses: UUID | None = None
    """The transaction whose exact negative this is."""

    @property
    def book(self) -> str:
        """The portfolio that it belongs to: all of its accounts are of one."""
        return self.postings[0].account.book

    @property
    def id(self) -> UUID:
        return derived_id("transaction", self.book, self.kind, self.source_type, self.source_id)


class Booking(NamedTuple):
    """What one event changes: the transaction, the lots that it opened and the parts of lots that it gave up."""

    transaction: Transaction
    opened: tuple[Lot, ...]
    matches: tuple[Match, ...]
    realised: Decimal = ZERO
    """Proceeds minus cost given up, before fees; zero for a buy."""
    uncovered: Decimal = ZERO
    """Base units that left without a lot to take them from: they stand in suspense, and are a break."""


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
    suspense_base: Account
    suspense_quote: Account


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
        suspense_base=Account(book, plan, "suspense", base),
        suspense_quote=Account(book, plan, "suspense", quote),
    )


def book_fill(lots: Lots, fill: Fill, book: str, plan: str, fee_lots: Lots | None = None, kind: str = "fill") -> Booking:
    """Books one fill and moves `lots`. The fee is its own posting, in whatever asset the venue charged it.

    A fee in the base asset is paid from the lots at their cost, one in a third asset from `fee_lots`, where the plan holds such.
    What the venue says is always booked: the part of a sale that no lot covers goes to suspense. `kind` tells a later posting
    of the same fill from the first one.
    """
    pair = _pair(book, plan, fill.product)
    quantity, notional = fill.quantity, fill.notional
    opened: list[Lot] = []
    matches: list[Match] = []
    realised = uncovered = ZERO
    if fill.side is Side.BUY:
        rebate = -fill.fee if fill.fee < 0 and fill.fee_asset == pair.base else ZERO  # coin for nothing: it joins what was bought
        lot, matches = lots.open(Lot(_lot_id(fill, book, kind), quantity + rebate, notional, fill.traded_at))
        opened.append(lot)
        lines = {pair.venue_quote: -notional, pair.venue_base: quantity, pair.trading_base: -quantity,
                 pair.trading_quote: notional}  # fmt: skip
    else:
        covered, money = quantity, notional
        if quantity > lots.quantity:
            covered = lots.quantity
            uncovered = quantity - covered
            money = ledger_round(notional * covered / quantity)
        matches = lots.take(covered, money)
        cost = _cost(matches)
        realised = money - cost
        lines = {pair.venue_quote: notional, pair.venue_base: -quantity, pair.trading_base: covered,
                 pair.trading_quote: -cost, pair.income: -realised}  # fmt: skip
        if uncovered:
            lines[pair.suspense_base] = uncovered
            lines[pair.suspense_quote] = money - notional
    if fill.fee:
        uncovered += _book_fee(_Fee(fill, kind, pair, lots, fee_lots), lines, opened, matches)
    postings = tuple([Posting(account, amount) for account, amount in lines.items() if amount])
    transaction = Transaction(kind, "fill", fill.entry_id, fill.traded_at, postings)
    return Booking(transaction, tuple(opened), tuple(matches), realised, uncovered)


def _lot_id(fill: Fill, book: str, kind: str) -> UUID:
    """A fill opens one lot at most: what it bought, or the coin that a sale was rebated."""
    return derived_id("lot", book, kind, fill.entry_id)


class _Fee(NamedTuple):
    fill: Fill
    kind: str
    pair: _Pair
    lots: Lots
    third: Lots | None


def _book_fee(fee: _Fee, lines: dict[Account, Decimal], opened: list[Lot], matches: list[Match]) -> Decimal:
    """Adds the fee's lines, lots and matches; returns the base units that no lot covered. A negative fee is a rebate."""
    pair, amount, asset = fee.pair, fee.fill.fee, fee.fill.fee_asset
    if asset == pair.quote:
        lines[pair.venue_quote] -= amount
        lines[pair.fees] = amount
        return ZERO
    if asset != pair.base:
        _book_third_asset_fee(fee, lines, matches)
        return ZERO
    lines[pair.venue_base] -= amount
    if amount < 0:  # coin that cost nothing
        if fee.fill.side is Side.SELL:
            lot, given_up = fee.lots.open(Lot(_lot_id(fee.fill, pair.fees.book, fee.kind), -amount, ZERO, fee.fill.traded_at))
            opened.append(lot)
            matches += given_up
        lines[pair.trading_base] += amount
        return ZERO
    covered = min(amount, fee.lots.quantity)
    paid = fee.lots.take(covered, ZERO)
    matches += paid
    cost = _cost(paid)
    lines[pair.trading_base] += covered
    lines[pair.trading_quote] -= cost
    lines[pair.fees] = cost
    if uncovered := amount - covered:
        lines[pair.suspense_base] = lines.get(pair.suspense_base, ZERO) + uncovered
    return uncovered


def _book_third_asset_fee(fee: _Fee, lines: dict[Account, Decimal], matches: list[Match]) -> None:
    """From the plan's lots of that asset at their cost, as far as there are any; the rest only out of the account."""
    pair, amount, asset = fee.pair, fee.fill.fee, fee.fill.fee_asset
    book, plan = pair.fees.book, pair.fees.plan
    covered = min(amount, fee.third.quantity) if fee.third is not None and amount > 0 else ZERO
    lines[Account(book, plan, "venue", asset)] = -amount
    if covered and fee.third is not None:
        paid = fee.third.take(covered, ZERO)
        matches += paid
        cost = _cost(paid)
        own = f"{asset}-{pair.quote}"
        lines[Account(book, plan, "trading", asset, own)] = covered
        lines[Account(book, plan, "trading", pair.quote, own)] = -cost
        lines[pair.fees] = cost
    lines[Account(book, plan, "fees", asset, fee.fill.product)] = amount - covered


def _cost(matches: Iterable[Match]) -> Decimal:
    return sum((match.cost for match in matches), ZERO)


def opening(book: str, plan: str, asset: str, amount: Decimal, at: datetime) -> Transaction:
    """The plan's starting capital: cash at the venue against equity."""
    postings = (
        Posting(Account(book, plan, "venue", asset), amount),
        Posting(Account(book, plan, "equity", asset), -amount),
    )
    return Transaction("opening", "plan", f"{book}:{plan}", at, postings)


def stock(book: str, held: Mapping[str, Decimal], at: datetime) -> Transaction:
    """What an account at a real venue held (asset -> amount) when its portfolio was opened: no plan's, until it is shared out."""
    lines = (
        Posting(Account(book, OUTSIDE, kind, asset), sign * amount)
        for asset, amount in sorted(held.items())
        if amount
        for kind, sign in (("venue", 1), ("equity", -1))
    )
    return Transaction("stock", "portfolio", book, at, tuple(lines))


def share(own: Account, amount: Decimal) -> tuple[Posting, ...]:
    """Gives cash that no plan owns to the plan of the account; a negative amount takes it back."""
    other = own._replace(plan=OUTSIDE)
    return (
        Posting(own, amount),
        Posting(own._replace(kind="equity"), -amount),
        Posting(other, -amount),
        Posting(other._replace(kind="equity"), amount),
    )


def unbalanced(transaction: Transaction) -> dict[str, Decimal]:
    """Asset -> sum of its postings, where that is not zero: empty for a legal transaction."""
    sums: dict[str, Decimal] = {}
    for account, amount in transaction.postings:
        sums[account.asset] = sums.get(account.asset, ZERO) + amount
    return {asset: total for asset, total in sums.items() if total}
