"""The whole ledger as a beancount file: every transaction with its postings, and the balance of every account at the end.

Ours balance in each asset by itself, so no posting needs a price or a cost: what beancount adds up is what we added up. Its
dates have no time of day: the time stands in the transaction's metadata. https://beancount.github.io/docs/beancount_language_syntax.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from trading.ledger import OUTSIDE
from trading.money import text as plain
from trading.store.reports import Reports, Scope

ROOTS: Mapping[str, tuple[str, ...]] = {
    "venue": ("Assets", "Venue"),
    "trading": ("Equity", "Trading"),
    "fees": ("Expenses", "Fees"),
    "income": ("Income", "Trading"),
    "equity": ("Equity", "Capital"),
    "suspense": ("Equity", "Suspense"),
    "quarantine": ("Equity", "Quarantine"),
}
"""Our kinds of accounts in beancount's five."""
_WORDS = ("TRUE", "FALSE", "NULL")  # words of its grammar, and names of coins
_ACCOUNTS = "select name, book, plan, kind, asset, product, posted from keel.account x where {where} order by name"
_POSTINGS = """
  select t.id, t.kind, t.source_type, t.source_id, t.effective_at, t.posted_at, x.book, x.plan, x.kind as account_kind, x.asset,
         x.product, p.amount
  from keel.txn t join keel.posting p on p.txn_id = t.id join keel.account x on x.id = p.account_id
  where {where} order by t.effective_at, t.seq, p.line
"""


def beancount(ledger: Reports, scope: Scope) -> Iterator[str]:
    """The lines of the file. A transaction may move two plans' accounts: the plan of the scope is not asked.

    Read in one snapshot, a transaction at a time. Numbers are exact; beancount itself adds up to 28 digits.
    """
    by_book = Scope(mode=scope.mode, portfolio=scope.portfolio)
    where = by_book.where()
    with ledger.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        accounts = [dict(row) for row in _read(connection, _ACCOUNTS.format(where=where), by_book)]
        first, last = _days(connection)
        yield from _head(accounts, first)
        postings = _read(connection, _POSTINGS.format(where=where), by_book)
        for _, lines in groupby(postings, key=lambda row: row["id"]):
            yield from _transaction(list(lines))
        yield ""
        after = last + timedelta(days=1)
        for account in accounts:
            amount = f"{plain(account['posted'])} ~ 0 {commodity(account['asset'])}"
            yield f"{after} balance {account_name(account)}  {amount}"


def _read(connection: Connection, query: str, scope: Scope) -> Iterable[RowMapping]:
    return connection.execution_options(stream_results=True, yield_per=5000).execute(text(query), scope.values).mappings()


def _days(connection: Connection) -> tuple[date, date]:
    """The first and the last day that something was booked for; the same day in an empty ledger."""
    row = connection.execute(text("select min(effective_at), max(effective_at) from keel.txn")).one()
    first, last = (at or datetime(2020, 1, 1, tzinfo=UTC) for at in row)
    return _day(first), _day(last)


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


def _head(accounts: Iterable[Mapping[str, Any]], first: date) -> Iterator[str]:
    yield 'option "title" "Tradekeel"'
    yield ""
    for asset in sorted({account["asset"] for account in accounts}):
        yield f"{first} commodity {commodity(asset)}"
        yield f"  name: {_quoted(asset)}"
    yield ""
    for account in accounts:
        yield f"{first} open {account_name(account)} {commodity(account['asset'])}"
        yield f"  account: {_quoted(account['name'])}"


def _transaction(lines: Sequence[RowMapping]) -> Iterator[str]:
    head = lines[0]
    said = f"{head['kind']} of {head['source_type']} {head['source_id']}"
    yield ""
    yield f"{_day(head['effective_at'])} * {_quoted(said)}"
    yield f"  id: {_quoted(str(head['id']))}"
    for name in ("effective_at", "posted_at"):
        yield f"  {name}: {_quoted(head[name].astimezone(UTC).isoformat())}"
    for line in lines:
        name = account_name({**line, "kind": line["account_kind"]})
        yield f"  {name}  {plain(line['amount'])} {commodity(line['asset'])}"


def account_name(account: Mapping[str, Any]) -> str:
    """`Assets:Venue:Paper:Main:Default:BTC`, and with the product where the account has one. Two of ours are never one."""
    mode, _, portfolio = account["book"].partition(":")
    plan = "OUTSIDE" if account["plan"] == OUTSIDE else _component(account["plan"])
    product = [account["product"]] if account["product"] else []
    parts = (
        *ROOTS[account["kind"]],
        _component(mode),
        _component(portfolio),
        plan,
        *map(_escaped, product),
        _escaped(account["asset"]),
    )
    return ":".join(parts)


def _component(name: str) -> str:
    """Our names are lower case: what beancount does not know is escaped in upper case."""
    return re.sub("_", "-U-", name[:1].upper() + name[1:])


def _escaped(name: str) -> str:
    return re.sub("[^A-Z0-9-]", lambda found: f"-x{ord(found[0]):x}-", name)


def commodity(asset: str) -> str:
    """The asset's ticker; behind `X.` where beancount would not take it for one (1INCH, TRUE)."""
    if re.fullmatch("[A-Z][A-Z0-9]*", asset) and asset not in _WORDS:
        return asset
    return "X." + re.sub("[^A-Z0-9]", lambda found: f"_{ord(found[0]):X}_", asset).rstrip("_")


def _quoted(said: str) -> str:
    escaped = said.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
