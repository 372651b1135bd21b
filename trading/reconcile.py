"""Reconcile: orders × fills × balances against the exchange. A difference becomes a break; no trade is ever invented.

Read so that a moment's difference is no false alarm: a difference counts only if a second look at both sides, after
settling once more, finds it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from trading.desk import Desk
from trading.money import ZERO, derived_id, stamp, text
from trading.orders import UNKNOWN_STATES
from trading.settlement import SCAN_OVERLAP, Settled, settle
from trading.store.journal import Change

LOOK_BACK = timedelta(days=2)
"""How far back the daily pass compares orders one by one. Balances compare everything that ever happened, every time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Ours and theirs do not agree. Severity 1 is the worst; `asset` is frozen until a person resolves the break."""

    kind: str
    severity: int
    subject: str
    ours: str
    theirs: str
    asset: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: ledger {self.ours}, exchange {self.theirs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What was compared and found."""

    orders: int
    fills: int
    balances: dict[str, str]
    """Asset -> amount, as the exchange holds it (available + hold)."""
    differences: tuple[Difference, ...]
    open_breaks: int
    """Breaks that are open after this pass, older ones included."""
    late_fills: int = 0
    """Fills that this pass booked."""

    @property
    def clean(self) -> bool:
        return not self.differences and not self.open_breaks

    def headline(self, book: str) -> str:
        """One line: `paper:main reconciled: clean (12 orders, 3 assets)`, or how many differences and open breaks."""
        if self.clean:
            return f"{book} reconciled: clean ({self.orders} orders, {len(self.balances)} assets)"
        return f"{book} reconciled: {len(self.differences)} differences, {self.open_breaks} open breaks"

    def to_dict(self) -> dict[str, Any]:
        return {
            "orders": self.orders,
            "fills": self.fills,
            "balances": self.balances,
            "differences": [str(difference) for difference in self.differences],
            "open_breaks": self.open_breaks,
            "late_fills": self.late_fills,
            "clean": self.clean,
        }


@dataclass(frozen=True, slots=True)
class _Look:
    orders: int
    fills: int
    balances: dict[str, Decimal]
    differences: tuple[Difference, ...]


def reconcile(desk: Desk, look_back: timedelta | None = None) -> Reconciliation:
    """Settles what is live, compares, and writes the result. Safe to run at any time, any number of times.

    Orders are compared one by one from `look_back` before now on; by default from the last clean pass on (a little
    earlier, for late fills). Raises Unanswered when the exchange cannot be asked.
    """
    since = desk.market_now() - look_back if look_back is not None else _since_last_clean(desk)
    settled = settle(desk)
    look = _look(desk, since)
    if look.differences:
        again = settle(desk)
        settled.fills += again.fills
        second = _look(desk, since)
        persistent = {(difference.kind, difference.subject) for difference in second.differences}
        kept = tuple(found for found in look.differences if (found.kind, found.subject) in persistent)
        look = _Look(second.orders, second.fills, second.balances, kept)
    return _write(desk, look, settled)


def _since_last_clean(desk: Desk) -> datetime:
    now = desk.market_now()
    clean_at = desk.books.last_clean_at(desk.book)
    return now - LOOK_BACK if clean_at is None else min(now, clean_at) - SCAN_OVERLAP


def _look(desk: Desk, since: datetime) -> _Look:
    theirs = desk.exchange.orders(since)
    ours = desk.books.fill_totals(desk.book, since)
    differences: list[Difference] = []
    for order in theirs:
        asset = order.product.split("-", 1)[0]
        booked = ours.get(order.exchange_order_id)
        if booked is None:
            # An order in doubt has no exchange id yet: it is ours, and settling resolves it.
            if not _is_unresolved(desk, order.client_order_id):
                terms = f"{order.side} {text(order.quantity)} {order.product}"
                differences.append(Difference(kind="foreign_order", severity=2, subject=order.exchange_order_id,
                                              ours="unknown", theirs=terms, asset=asset))  # fmt: skip
            continue
        for kind, mine, other in (("order_fills", booked[0], order.filled), ("order_fees", booked[1], order.fees)):
            if mine != other:
                differences.append(Difference(kind=kind, severity=2, subject=order.exchange_order_id, ours=text(mine),
                                              theirs=text(other), asset=asset))  # fmt: skip
    balances = {asset: balance.total for asset, balance in desk.exchange.balances().items()}
    ledger = desk.books.venue_balances(desk.book)
    for asset in sorted(balances.keys() | ledger.keys()):
        mine, other = ledger.get(asset, ZERO), balances.get(asset, ZERO)
        if mine != other:
            differences.append(Difference(kind="balance", severity=1, subject=asset, ours=text(mine), theirs=text(other),
                                          asset=asset))  # fmt: skip
    return _Look(len(theirs), sum(1 for quantity, _ in ours.values() if quantity), balances, tuple(differences))


def _is_unresolved(desk: Desk, client_order_id: str) -> bool:
    return any(str(order.id) == client_order_id and order.state in UNKNOWN_STATES for order in desk.books.live_orders(desk.book))


def _write(desk: Desk, look: _Look, settled: Settled) -> Reconciliation:
    change = Change()
    for found in look.differences:
        id_ = derived_id("break", desk.book, found.kind, found.subject, desk.wall().isoformat())
        change.add("breaks", id=id_, book=desk.book, severity=found.severity, subject=found.subject, asset=found.asset,
                   ours=found.ours, theirs=found.theirs, **{"class": found.kind})  # fmt: skip
    known = {(row["class"], row["subject"]) for row in desk.books.open_breaks(desk.book)}
    still_open = known | {(found.kind, found.subject) for found in look.differences}
    result = Reconciliation(
        orders=look.orders,
        fills=look.fills,
        balances={asset: text(amount) for asset, amount in sorted(look.balances.items())},
        differences=look.differences,
        open_breaks=len(still_open),
        late_fills=len(settled.fills),
    )
    body = result.to_dict() | {"market_at": stamp(desk.market_now())}
    change.add("reconciliations", book=desk.book, clean=result.clean, body=body)
    desk.journal.record("reconcile", change)
    return result
