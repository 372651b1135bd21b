"""Reconcile: orders × fills × balances against the exchange. A difference becomes a break; no trade is ever invented.

Read so that a moment's difference is no false alarm: a difference counts only if a second look at both sides, after
settling once more, finds it again, and if no order explains it that moved so lately that the venue's lists may lag.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from trading import outside
from trading.absorber import Settled
from trading.breaks import Difference, react, write_down
from trading.desk import Desk
from trading.exchange.port import Balance, ExchangeOrder, readable
from trading.ledger import Account, Posting, Transaction
from trading.money import ZERO, stamp, text
from trading.orders import UNKNOWN_STATES, Order
from trading.settlement import last_look, may_lag, settle, within
from trading.store.journal import Change

CONFIRM_SECONDS = 30.0
"""Between the two looks at a venue whose lists lag: what only one of them shows is a moment's difference."""


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
    doubts: int = 0
    """Orders that nobody has an answer to yet: what they may have moved is no difference, and not clean either."""
    late_fills: int = 0
    """Fills that this pass booked."""

    @property
    def clean(self) -> bool:
        return not self.differences and not self.open_breaks and not self.doubts

    def headline(self, book: str) -> str:
        """One line: `paper:main reconciled: clean (12 orders, 3 assets)`, or how many differences and open breaks."""
        if self.clean:
            return f"{book} reconciled: clean ({self.orders} orders, {len(self.balances)} assets)"
        doubts = f", {self.doubts} orders in doubt" if self.doubts else ""
        return f"{book} reconciled: {len(self.differences)} differences, {self.open_breaks} open breaks{doubts}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "orders": self.orders,
            "fills": self.fills,
            "balances": self.balances,
            "differences": [str(difference) for difference in self.differences],
            "open_breaks": self.open_breaks,
            "late_fills": self.late_fills,
            "doubts": self.doubts,
            "clean": self.clean,
        }


def reconcile(desk: Desk, look_back: timedelta | None = None) -> Reconciliation:
    """Settles what is live, compares, and writes the result. Safe to run at any time, any number of times.

    Orders are compared one by one from `look_back` before now on; by default from the last clean pass on (a little
    earlier, for late fills). A balance that still differs is posted to suspense, so that the ledger says what the venue
    says and the open break says why. Raises Unanswered when the exchange cannot be asked.
    """
    since = within(desk, desk.market_now() - look_back if look_back is not None else last_look(desk))
    settled, look = _settled_look(desk, since)
    if look.differences:
        if desk.exchange.visibility_lag_seconds:
            desk.pause(CONFIRM_SECONDS)
        settled.join(settle(desk, since))
        second = _look(desk, since)
        persistent = {(difference.kind, difference.subject) for difference in second.differences}
        kept = tuple(found for found in look.differences if (found.kind, found.subject) in persistent)
        look = _excused(desk, replace(second, differences=kept))
    result = _write(desk, look, settled)
    if look.differences:
        react(desk)
    return result


def _settled_look(desk: Desk, since: datetime) -> tuple[Settled, _Look]:
    """A look with all settled before it. Where nothing is live the look itself tells whether there is anything to settle."""
    if not desk.books.live_orders(desk.book):
        react(desk)
        look = _look(desk, since)
        if not look.differences:
            return Settled(), look
    return settle(desk), _look(desk, since)


@dataclass(frozen=True, slots=True)
class _Look:
    orders: tuple[ExchangeOrder, ...]
    strange: frozenset[str]
    """Exchange ids that are known not to be ours."""
    fills: int
    balances: dict[str, Balance]
    differences: tuple[Difference, ...]
    gaps: dict[str, Decimal]
    """Asset -> what the venue has more (less: negative) than the ledger."""
    doubts: int


def _look(desk: Desk, since: datetime) -> _Look:
    theirs = [readable(order) for order in desk.exchange.orders(since)]
    ours = desk.books.fill_totals(desk.book, [order.exchange_order_id for order in theirs])
    unknown = [order.exchange_order_id for order in theirs if order.exchange_order_id not in ours]
    strange = frozenset(desk.books.foreign_orders(desk.book, unknown)) if unknown else frozenset()
    unresolved = _unresolved(desk)
    unsettled = {asset for order in unresolved.values() for asset in order.intent.request.product.split("-", 1)}
    differences: list[Difference] = []
    for order in theirs:
        asset = order.product.split("-", 1)[0]
        booked = ours.get(order.exchange_order_id)
        if booked is None:
            # An order in doubt has no exchange id yet: it is ours, and settling resolves it.
            if order.client_order_id not in unresolved and order.exchange_order_id not in strange:
                terms = f"{order.side} {text(order.quantity)} {order.product}"
                differences.append(
                    Difference(kind="foreign_order", subject=order.exchange_order_id, ours="unknown", theirs=terms, asset=asset)
                )
            continue
        for kind, mine, other in (("order_fills", booked[0], order.filled), ("order_fees", booked[1], order.fees)):
            if mine != other:
                differences.append(
                    Difference(kind=kind, subject=order.exchange_order_id, ours=text(mine), theirs=text(other), asset=asset)
                )
    balances = desk.exchange.balances()
    ledger = desk.books.venue_balances(desk.book)
    gaps: dict[str, Decimal] = {}
    for asset in sorted(balances.keys() | ledger.keys()):
        mine, other = ledger.get(asset, ZERO), balances[asset].total if asset in balances else ZERO
        if mine != other and asset not in unsettled:
            gaps[asset] = other - mine
            kind = "balance" if other > mine else "balance_fall"
            differences.append(Difference(kind=kind, subject=asset, ours=text(mine), theirs=text(other), asset=asset))
    booked_orders = sum(1 for quantity, _ in ours.values() if quantity)
    return _Look(tuple(theirs), strange, booked_orders, balances, tuple(differences), gaps, len(unresolved))


def _unresolved(desk: Desk) -> dict[str, Order]:
    """Client id -> order that nobody has an answer to yet."""
    return {str(order.id): order for order in desk.books.live_orders(desk.book) if order.state in UNKNOWN_STATES}


def _excused(desk: Desk, look: _Look) -> _Look:
    """Without what live orders may explain whose fills the venue need not list yet: these count as doubts instead."""
    young = [order for order in desk.books.live_orders(desk.book) if may_lag(desk, order)]
    subjects = {asset for order in young for asset in order.intent.request.product.split("-", 1)}
    subjects |= {order.exchange_order_id for order in young if order.exchange_order_id}
    left = tuple(found for found in look.differences if found.subject not in subjects)
    return look if len(left) == len(look.differences) else replace(look, differences=left, doubts=look.doubts + len(young))


def _write(desk: Desk, look: _Look, settled: Settled) -> Reconciliation:
    change = Change()
    write_down(desk, change, look.differences)
    _explain_by_suspense(desk, change, look)
    for order in look.orders:
        ours = order.exchange_order_id not in look.strange
        change.add("venue_orders", **outside.venue_order_row(desk, order, ours=ours))
    for asset, balance in look.balances.items():
        change.add("venue_balances", book=desk.book, asset=asset, available=balance.available, hold=balance.hold)
    known = {(row["class"], row["subject"]) for row in desk.books.open_breaks(desk.book)}
    still_open = known | {(found.kind, found.subject) for found in look.differences}
    result = Reconciliation(
        orders=len(look.orders),
        fills=look.fills,
        balances={asset: text(balance.total) for asset, balance in sorted(look.balances.items())},
        differences=look.differences,
        open_breaks=len(still_open),
        late_fills=len(settled.fills),
        doubts=look.doubts,
    )
    body = result.to_dict() | {"market_at": stamp(desk.market_now())}
    change.add("reconciliations", book=desk.book, clean=result.clean, body=body)
    desk.journal.record("reconcile", change)
    return result


def _explain_by_suspense(desk: Desk, change: Change, look: _Look) -> None:
    """Posts each balance that two looks found different against suspense; no trade is invented to make numbers meet."""
    kept = {found.subject for found in look.differences if found.kind in ("balance", "balance_fall")}
    gaps = [(asset, gap) for asset, gap in look.gaps.items() if asset in kept]
    if not gaps:
        return
    at = desk.market_now()
    lines = [
        Posting(Account(desk.book, outside.PLAN, kind, asset), amount)
        for asset, gap in gaps
        for kind, amount in (("venue", gap), ("suspense", -gap))
    ]
    source = f"{desk.book}@{desk.wall().isoformat()}"
    change.transaction(Transaction("suspense", "reconciliation", source, at, tuple(lines)))
