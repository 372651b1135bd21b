"""Execute: stage approved requests, then send them. Persist, then act; nothing here is ever retried.

Stage commits the intents with their exact bytes and their holds. Then, batch by batch: mark as sending (the transaction
that locks the fencing epoch and the breaker rows), send those bytes, and record what came of it. A process that dies at
any point leaves orders that `settlement.settle` resolves by asking the exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TypeVar

from trading.absorber import Absorber, Settled
from trading.breaks import react
from trading.desk import Desk
from trading.errors import BooksRefused, Halted, NotSent, OutcomeUnknown, Unanswered
from trading.exchange.port import RESOLUTIONS, Accepted, ExchangeOrder, Rejected
from trading.ledger import Account
from trading.market import Quote
from trading.money import LEDGER_UNIT, ceil_to
from trading.orders import Fill, FillKind, Intent, Order, Side, State, client_order_id
from trading.plan import order_price
from trading.risk import Approved
from trading.settlement import by_client_id, disagree, last_look, same_terms, settle, within
from trading.store.journal import Change

_Item = TypeVar("_Item")
_Since = Callable[[], datetime]
"""How far back a look at the venue must reach; asked only when there is one."""

SEND_DEADLINE_SECONDS = 2.0
"""Between the commit that marks orders as sending and the first byte of each: a process that slept longer sends nothing."""
REPLAY_PAUSE_SECONDS = 0.25
"""Before the second replay of an order in doubt; doubled before each further one."""
STAGE_BATCH = 250
"""Orders staged by one commit: bounds the size of a transaction, not how many may be sent."""


def intents_of(desk: Desk, slot: str, approved: Sequence[Approved], quotes: Mapping[str, Quote]) -> list[Intent]:
    """The approved requests with their derived ids and the exact bodies that will be sent."""
    owner, now = desk.owner(slot), desk.market_now()
    intents = []
    for request, _ in approved:
        id_ = client_order_id(owner, request.product, request.leg)
        body = desk.exchange.body(id_, request)
        price = quotes[request.product].mid
        intents.append(Intent(client_order_id=id_, owner=owner, request=request, body=body, decision_price=price, decided_at=now))
    return intents


def stage(desk: Desk, intents: Sequence[Intent], quotes: Mapping[str, Quote]) -> list[Order]:
    """Commits intents with their holds, and returns what is to be sent: new ones, and stored ones that are still staged.

    An id that is stored already keeps its stored intent, whatever this run would have wanted: one decision, one order. So does
    one that the venue knows from before a restored backup.
    Raises BooksRefused when a hold would overdraw an account.
    """
    try:
        return _stage_new(desk, intents, quotes)
    except BooksRefused:  # mostly an id that is there already: a run before this one died between stage and send
        ids = [intent.client_order_id for intent in intents]
        stored, forgotten = desk.books.orders(ids), desk.books.forgotten(desk.book, ids)
        if not stored and not forgotten:
            raise
    ready = [order for order in stored.values() if order.state is State.STAGED]
    decided = stored.keys() | forgotten
    return ready + _stage_new(desk, [intent for intent in intents if intent.client_order_id not in decided], quotes)


def left_staged(desk: Desk, slot: str) -> list[Order]:
    """What an earlier run of this slot staged and never sent: approved then, it is sent now if it is still in time."""
    live = desk.books.live_orders(desk.book)
    return [order for order in live if order.state is State.STAGED and order.intent.owner.slot == slot]


def _stage_new(desk: Desk, new: Sequence[Intent], quotes: Mapping[str, Quote]) -> list[Order]:
    ready: list[Order] = []
    plan_sha = desk.plan.sha256
    send_before = desk.wall() + timedelta(seconds=desk.plan.orders.time_to_live_seconds)
    for batch in _batches(new, STAGE_BATCH):
        change = Change()
        for intent in batch:
            change.intent(intent, plan_sha=plan_sha, send_before=send_before)
            account, amount = _hold(desk, intent, quotes)
            change.account(account)
            change.hold(intent.client_order_id, account, amount)
        desk.journal.record("order.stage", change)
        ready += [_staged(intent, send_before) for intent in batch]
    return ready


def _hold(desk: Desk, intent: Intent, quotes: Mapping[str, Quote]) -> tuple[Account, Decimal]:
    request = intent.request
    base, quote = request.product.split("-", 1)
    if request.side is Side.SELL:
        return desk.account(base), request.quantity
    price = order_price(request, quotes[request.product])
    outlay = price * request.quantity * desk.plan.costs.outlay
    return desk.account(quote), ceil_to(outlay, LEDGER_UNIT)  # up: never less than the fills may take


def send(desk: Desk, epoch: int, orders: Sequence[Order]) -> Settled:
    """Sends staged orders and records every outcome: confirmed, refused by the venue, or in doubt.

    Raises Fenced when a later run holds the portfolio: then nothing of that batch was sent.
    """
    total = Settled()
    since = cache(lambda: within(desk, last_look(desk)))  # an order that the venue replays may be older than this run
    for batch in _batches(orders, max(1, desk.exchange.send_batch)):
        total.join(_send_batch(desk, epoch, batch, since=since))
    if total.in_doubt:
        total.join(_resolve_doubts(desk, epoch, since))
    return total


def _resolve_doubts(desk: Desk, epoch: int, since: _Since) -> Settled:
    """Scans for orders in doubt; where the venue replays by client id, sends those of the plan that it does not list once more.

    The same bytes under the same id, within their time to live and while every breaker is closed; else the scans of later
    runs decide.
    """
    total = Settled()
    for attempt in range(RESOLUTIONS[desk.exchange.duplicates].replays_max):
        if attempt:
            desk.pause(REPLAY_PAUSE_SECONDS * 2**attempt)
        try:
            total.join(settle(desk))
        except Unanswered:
            break  # the venue tells nothing now: reconciliation and later runs ask again
        live = desk.books.live_orders(desk.book)
        doubts = [order for order in live if order.state is State.IN_DOUBT and order.intent.owner.plan == desk.plan.name]
        if not doubts:
            break
        again = _send_batch(desk, epoch, doubts, since=since, replay=True)
        if not again.states:
            break  # none may go any more: too late, or a breaker that is not closed
        total.join(again)
    return total


def _send_batch(desk: Desk, epoch: int, batch: Sequence[Order], *, since: _Since, replay: bool = False) -> Settled:
    deadline = desk.monotonic() + SEND_DEADLINE_SECONDS  # from before the mark: a sleep may begin inside of it
    verdicts = desk.journal.mark_sending(desk.book, epoch, [order.id for order in batch], desk.scopes, replay=replay)
    absorber = Absorber(desk)
    sent: list[tuple[Order, Accepted]] = []
    settled: list[tuple[Order, str, State, str]] = []
    for order in batch:
        if verdicts[order.id] != "send":
            if not replay:
                absorber.settled.states[order.id] = State.ABANDONED
            continue
        outcome = _submit(absorber, order, deadline)
        if replay and not isinstance(outcome, Accepted):  # bytes left before: no "no" of today is about those
            outcome = "doubt", State.IN_DOUBT, f"sent again: {outcome[2]}"
        if isinstance(outcome, Accepted):
            sent.append((order, outcome))
        else:
            settled.append((order, *outcome))
    reported, listed = _reported(desk, [accepted for _, accepted in sent], since)
    fills = absorber.load([order for order in batch if verdicts[order.id] == "send"], reported)
    for order, accepted in sent:
        id_, theirs = accepted.exchange_order_id, listed.get(str(order.id), [])
        if len(theirs) > 1 or any(not same_terms(order, found) for found in theirs):
            disagree(absorber, _as_sending(order), theirs)  # the id was used before: what it answers with is not our order
        else:
            absorber.absorb(_as_sending(order), fills.get(id_, ()), evidence=[("ack", State.OPEN)], exchange_id=id_)
    for order, event, state, note in settled:
        absorber.absorb(_as_sending(order), (), evidence=[(event, state)], note=note)
    _count_operations(desk, absorber, len(sent), settled)
    written = absorber.write("order.outcome")
    if written.breaks:
        react(desk)  # before the next batch is marked
    return written


def _reported(desk: Desk, accepted: Sequence[Accepted], since: _Since) -> tuple[list[Fill], Mapping[str, list[ExchangeOrder]]]:
    """What the orders traded: as the answers told it, or one look at the venue where an answer did not.

    The look also shows the terms that the venue has under each id: one that replays answers with its first order, whatever
    it is sent.
    """
    told = [answer.fills for answer in accepted if answer.fills is not None]
    if len(told) < len(accepted):
        orders, fills = desk.exchange.look_up([answer.exchange_order_id for answer in accepted], since())
        return [fill for fill in fills if fill.kind is FillKind.TRADE], by_client_id(orders)
    return [fill for fills in told for fill in fills], {}


def _submit(absorber: Absorber, order: Order, deadline: float) -> Accepted | tuple[str, State, str]:
    """Sends one order's stored bytes. Whatever is not a clear answer is a doubt: bytes may have left.

    Unless the exchange's own last look stopped them: then the order is dead, and a break says why.
    """
    desk, intent = absorber.desk, order.intent
    if reason := _too_late_or_unsafe(desk, order, deadline):
        return "abandon", State.ABANDONED, reason
    try:
        outcome = desk.exchange.submit(intent.body, intent.body_sha256)
    except (Halted, NotSent) as error:
        if isinstance(error, NotSent):
            absorber.differs("not_sent", str(order.id), intent.body_sha256, str(error), intent.request.product)
        return "abandon", State.ABANDONED, f"not sent: {error}"
    except OutcomeUnknown as error:
        return "doubt", State.IN_DOUBT, str(error)
    except Exception as error:  # noqa: BLE001 - also an error inside a driver comes after bytes may have left
        return "doubt", State.IN_DOUBT, f"{type(error).__name__}: {error}"
    if isinstance(outcome, Rejected):
        return "reject", State.REJECTED, f"{outcome.code}: {outcome.message}"
    return outcome


def _too_late_or_unsafe(desk: Desk, order: Order, deadline: float) -> str:
    """Why the order may not go any more; empty when it may."""
    if desk.monotonic() > deadline:
        return "the send deadline passed before the first byte"
    reason = desk.forbids(order.intent.request.side)
    return f"not safe: {reason}" if reason else ""


def _count_operations(desk: Desk, absorber: Absorber, accepted: int, others: Sequence[tuple[Order, str, State, str]]) -> None:
    """One operation per outcome: what the breaker's error counts are taken over."""
    for _ in range(accepted):
        absorber.change.add("operations", book=desk.book, plan=desk.plan.name, kind="send", ok=True, detail="")
    for order, event, _, note in others:
        absorber.change.add("operations", book=desk.book, plan=desk.plan.name, kind="send", ok=False,
                            detail=f"{event} {order.id}: {note}")  # fmt: skip


def _staged(intent: Intent, at: datetime) -> Order:
    return Order(intent=intent, state=State.STAGED, seq=0, exchange_order_id=None, filled=Decimal(0), reason="", updated_at=at)


def _as_sending(order: Order) -> Order:
    """The head as `mark_sending` committed it."""
    return Order(
        intent=order.intent, state=State.SENDING, seq=order.seq + 1, exchange_order_id=None, filled=order.filled,
        reason="", updated_at=order.updated_at,
    )  # fmt: skip


def _batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
