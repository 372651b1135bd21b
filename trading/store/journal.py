"""The way into the ledger: what one transaction changes, and the few functions that change it.

A `Change` gathers rows by table; `Journal.record` writes them all, with their audit row, in one round trip and one
commit. Nothing else in the project writes to the schema `keel` (candles apart: they are facts of the market).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.errors import LockNotAvailable
from psycopg.pq import TransactionStatus

from trading.errors import Busy, NotAllowed
from trading.ledger import Account, Booking, Transaction
from trading.money import canonical, storable
from trading.movements import Movement
from trading.orders import Fill, Intent, Request, State
from trading.risk.breaker import BreakerRow
from trading.store.database import Connection, Sessions, translated
from trading.store.roles import Role

# Which role writes a kind of change. Decide: what we want. Execute: orders on their way. Reconcile: what the venue says.
# Human: what needs a person. That an automatic trip and a person's are the same kind is meant: to halt needs no authority.
ROLE_OF: Mapping[str, Role] = {
    **dict.fromkeys(("plan.open", "plan.change", "market", "evaluate", "order.stage", "breaker", "publish", "fail", "allot",
                     "anchor.failed", "alert.failed", "resume.request", "breaker.recount"), Role.DECIDE),
    **dict.fromkeys(("order.outcome", "hand.abandon", "hand.cancel_sent", "hand.cancel_refused",
                     "breaker.cancel"), Role.EXECUTE),
    **dict.fromkeys(("settle", "settle.adjust", "reconcile", "break.adopt", "anchor", "ramp.demote"), Role.RECONCILE),
    **dict.fromkeys(("hand.evaluate", "breaker.resume", "break.resolve", "announce", "live.arm", "live.disarm", "ramp.promote"),
                    Role.HUMAN),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes: a person or process, and Prefect's run ids where there are any. Stored with every audit row."""

    actor: str
    flow_run_id: str = ""
    task_run_id: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim. `outcome`: claimed or resumed (go on), done or skipped (somebody was here before)."""

    outcome: str
    epoch: int
    flow_run_id: str
    reason: str
    finished_at: datetime | None

    @property
    def ours(self) -> bool:
        return self.outcome in ("claimed", "resumed")


class Change:
    """Rows by table that are written together or not at all."""

    def __init__(self) -> None:
        self.tables: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.accounts: dict[UUID, Account] = {}

    def __bool__(self) -> bool:
        return any(self.tables.values())

    def add(self, table: str, **row: Any) -> None:
        self.tables[table].append(row)

    def account(self, account: Account) -> None:
        """An account that the change needs: opened with it unless it is there."""
        self.accounts[account.id] = account

    def intent(self, intent: Intent, *, plan_sha: str, send_before: datetime) -> None:
        owner = intent.owner
        self.add(
            "intents",
            client_order_id=intent.client_order_id,
            book=owner.book,
            plan=owner.plan,
            strategy=owner.strategy,
            slot=owner.slot,
            **request_row(intent.request),
            body=intent.body,
            body_sha256=intent.body_sha256,
            decision_price=intent.decision_price,
            decided_at=intent.decided_at,
            send_before=send_before,
            plan_sha=plan_sha,
        )

    def hold(self, client_order_id: UUID, account: Account, amount: Decimal) -> None:
        """Sets (not adds) what the order reserves in the account."""
        self.add("holds", client_order_id=client_order_id, account_id=account.id, amount=amount)

    def event(
        self, order_id: UUID, seq: int, move: tuple[State, str, State], *, evidence: str = "",
        exchange_order_id: str | None = None, filled: Decimal | None = None,
    ) -> None:  # fmt: skip
        """The next event of an order; what the evidence settled is written to its head."""
        before, event, after = move
        self.add("events", client_order_id=order_id, seq=seq, from_state=before, event=event, to_state=after,
                 evidence=evidence, exchange_order_id=exchange_order_id, filled=filled)  # fmt: skip

    def fill(self, fill: Fill, book: str, *, adjusts: str | None = None) -> None:
        """An entry of the venue's list of fills; `adjusts` is the entry whose place it takes. Without an order of ours its
        client order id is None.
        """
        names = ("entry_id", "trade_id", "exchange_order_id", "client_order_id", "product", "side", "quantity", "price",
                 "fee", "fee_asset", "liquidity", "traded_at", "kind")  # fmt: skip
        self.add("fills", book=book, adjusts=adjusts, **{name: getattr(fill, name) for name in names})

    def breaker(self, after: BreakerRow, before: BreakerRow | None, *, actor: str, violations: Sequence[object] = ()) -> None:
        """Moves a breaker on from where it was seen; None: it is new."""
        values = {name: getattr(after, name) for name in BreakerRow.__dataclass_fields__}
        came_from = None if before is None else before.state
        self.add("breakers", **values, from_state=came_from, actor=actor, violations=list(violations))

    def movement(self, movement: Movement, book: str, announcement: UUID | None) -> None:
        self.add("movements", book=book, announcement=announcement, **{
            name: getattr(movement, name)
            for name in ("entry_id", "kind", "asset", "amount", "to_asset", "to_amount", "happened_at", "note")
        })  # fmt: skip

    def transaction(self, entry: Transaction) -> UUID:
        """The transaction with its lines; returns its id."""
        id_ = entry.id
        self.add("transactions", id=id_, book=entry.book, kind=entry.kind, source_type=entry.source_type,
                 source_id=entry.source_id, effective_at=entry.effective_at, reverses=entry.reverses)  # fmt: skip
        for line, (account, amount) in enumerate(entry.postings):
            self.account(account)
            self.add("postings", txn_id=id_, line=line, account_id=account.id, asset=account.asset, amount=amount)
        return id_

    def booking(self, booking: Booking, book: str, plan: str, product: str) -> None:
        entry = booking.transaction
        txn_id = self.transaction(entry)
        for lot in booking.opened:
            self.add("lots", id=lot.id, book=book, plan=plan, product=product, txn_id=txn_id, quantity=lot.quantity,
                     cost=lot.cost, acquired_at=lot.acquired_at, origin=lot.origin, basis_known=lot.basis_known)  # fmt: skip
        for line, match in enumerate(booking.matches):
            self.add("matches", txn_id=txn_id, line=line, lot_id=match.lot, quantity=match.quantity, cost=match.cost,
                     proceeds=match.proceeds)  # fmt: skip


def account_row(account: Account) -> dict[str, Any]:
    return {"id": account.id, "name": account.name, **account._asdict()}


def request_row(request: Request) -> dict[str, Any]:
    names = ("product", "leg", "side", "type", "quantity", "limit_price", "stop_price", "time_in_force", "post_only",
             "expires_at", "protective", "reason")  # fmt: skip
    return {name: getattr(request, name) for name in names}


class Journal:
    """Writes to one ledger, each kind of change in the role that may. The portfolio's lock lives with the deciding session."""

    def __init__(self, sessions: Sessions, author: Callable[[], Author]) -> None:
        self.sessions = sessions
        self.author = author
        self._opened: set[UUID] = set()  # accounts that are known to be there: no account is ever removed

    @property
    def connection(self) -> Connection:
        """The session that decides: it holds the portfolio's lock, and may read everything."""
        return self.sessions[Role.DECIDE]

    def record(self, kind: str, change: Change) -> int:
        """Writes everything in `change` with one audit row; returns its number in the chain.

        Raises BooksRefused (a rule of the books), Stale (what it was based on has moved), Fenced, NotAllowed (a role may not
        write this), LedgerUnavailable.
        """
        role = ROLE_OF.get(kind)
        if role is None:
            raise NotAllowed(f"change {kind}: found no role that writes it, expected one of {', '.join(sorted(ROLE_OF))}")
        tables = {name: rows for name, rows in change.tables.items() if rows}
        if missing := change.accounts.keys() - self._opened:
            tables["accounts"] = [account_row(change.accounts[id_]) for id_ in change.accounts if id_ in missing]
        payload = canonical(tables)
        if "\\u0000" in payload or "\\ud" in payload:  # text from outside that no database can hold
            payload = canonical(storable(tables))
        who, session = self.author(), self.sessions[role]
        with translated():
            row = session.execute(
                "select keel.record(%s, %s, %s, %s, %s)", (kind, payload, who.actor, who.flow_run_id, who.task_run_id)
            ).fetchone()
        assert row is not None
        self._opened |= missing
        return int(str(row[0]))

    def lock_portfolio(self, book: str, wait_seconds: float) -> None:
        """Takes the portfolio for this connection: one run at a time. Raises Busy when another one keeps it."""
        with translated():
            taken = self.connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (book,)).fetchone()
            if taken == (True,):
                return
        try:  # waiting is done by Postgres, so a lock that is freed is taken at once
            with self.connection.transaction():
                self.connection.execute("select set_config('lock_timeout', %s, true)", (f"{int(wait_seconds * 1000)}ms",))
                self.connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (book,))
        except LockNotAvailable:
            raise Busy(f"portfolio {book}: another run is at work since more than {wait_seconds:g} s") from None

    def unlock_portfolio(self, book: str) -> None:
        """Gives the portfolio back. After an interrupt between a command and its answer the connection can say nothing more: then
        the lock goes with the connection, and what is told is the interrupt.
        """
        if self.connection.info.transaction_status is TransactionStatus.ACTIVE:
            return
        with translated():
            self.connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (book,))

    def claim_slot(
        self, book: str, plan: str, slot_at: datetime, market_at: datetime, plan_sha: str, policy: str, reason: str
    ) -> Claim:
        """Claims the slot for this run. `policy` is what a late run may do (run, reduce_only, skip), `reason` says why."""
        who = self.author()
        with translated():
            row = self.connection.execute(
                "select * from keel.claim_slot(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (book, plan, slot_at, market_at, plan_sha, policy, reason, who.actor, who.flow_run_id, who.task_run_id),
            ).fetchone()
        assert row is not None
        return Claim(*row)  # type: ignore[arg-type]

    def mark_sending(
        self, book: str, epoch: int, orders: Sequence[UUID], scopes: Sequence[str], *, replay: bool = False
    ) -> Mapping[UUID, str]:
        """Order -> `send` or why not (`breaker_open`, `too_late`: it was abandoned; or the state it was found in).

        `scopes` are the breaker rows that concern all of them; each order's product scope is looked up as well. With
        `replay` an order in doubt may go once more. Raises Fenced when a later run holds the portfolio.
        """
        who, session = self.author(), self.sessions[Role.EXECUTE]
        with translated():
            rows = session.execute(
                "select * from keel.mark_sending(%s, %s, %s, %s, %s, %s, %s, %s)",
                (book, epoch, list(orders), list(scopes), replay, who.actor, who.flow_run_id, who.task_run_id),
            ).fetchall()
        return {UUID(str(order)): str(verdict) for order, verdict in rows}
