"""Orders, cancels and breaker moves by a person's hand: the same identity, checks, breaker, ledger and road to the wire.

A hand order's slot is `hand:REF`. One REF is one decision of the portfolio: asked again, it shows the order that it made
or the refusal that it got, and sends nothing. Only what was staged and provably never sent goes out at the second call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from trading import execution, settlement, watching
from trading.absorber import held_account
from trading.desk import Desk, day_start, evaluation_row, open_books, see_market
from trading.errors import Busy, ConfigurationError, OutcomeUnknown
from trading.market import Market, last_close
from trading.money import ZERO
from trading.orders import UNKNOWN_STATES, Order, Request, State
from trading.plan import collared
from trading.reconcile import Reconciliation, reconcile
from trading.risk import Approved, BreakerRow, Cause, Level, NotResumed, Refused, permits, strictest, validate
from trading.risk import resume as resumed
from trading.store.halting import tighten
from trading.store.journal import Change

LOCK_WAIT_SECONDS = 60.0
"""How long a person waits for a cycle of the same portfolio to end before the command gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOrder:
    """What came of an order by hand: the order as it stands, or why there is none."""

    slot: str
    order: Order | None = None
    code: str = ""
    """Of a refusal: the check that refused, `breaker_open`, `not_safe` (live trading), or `refused_before`."""
    message: str = ""
    repeated: bool = False
    """True if an earlier call with the same reference made the order."""
    reconciliation: Reconciliation | None = None


@contextmanager
def at_the_desk(desk: Desk) -> Iterator[None]:
    """The portfolio's lock around what a person does; a run that is at work is waited for. Raises Busy."""
    desk.journal.lock_portfolio(desk.book, LOCK_WAIT_SECONDS)
    try:
        desk.market_time = desk.market = None
        open_books(desk)
        yield
    finally:
        desk.journal.unlock_portfolio(desk.book)


def place(desk: Desk, request: Request, reference: str | None = None) -> HandOrder:
    """Sends one order by hand and settles it. `reference` names it; without one, the next free number does.

    Raises Busy, MarketUnavailable, Unanswered, Fenced. An outcome that is not known is an order in doubt, not an error.
    """
    with at_the_desk(desk):
        settlement.settle(desk)
        if watching.watch_safety(desk):
            settlement.settle(desk)  # cancels what the breaker that just opened wants gone
        slot = f"hand:{reference or desk.books.next_hand_reference(desk.book)}"
        found = _known(desk, slot)
        if found is not None and (found.order is None or found.order.state is not State.STAGED):
            return found
        market, _ = see_market(desk, last_close(desk.market_now(), desk.plan.interval), desk.market_now())
        wanted = request if found is None or found.order is None else found.order.intent.request
        rules = market.products.get(wanted.product)
        if rules is not None and not desk.exchange.takes_stops:
            wanted = collared(wanted, desk.plan, rules.price_increment)
        epoch = desk.books.epoch(desk.book) + 1
        judged = _judge(desk, slot, wanted, market, epoch)
        if isinstance(judged, HandOrder):
            return judged
        intents = execution.intents_of(desk, slot, [judged], market.quotes)
        orders = execution.stage(desk, intents, market.quotes)
        execution.send(desk, epoch, orders)
        compared = reconcile(desk)
        return HandOrder(slot=slot, order=desk.books.slot_orders(desk.book, slot)[0], reconciliation=compared)


def _known(desk: Desk, slot: str) -> HandOrder | None:
    """What an earlier call with this reference came to."""
    orders = desk.books.slot_orders(desk.book, slot)
    if orders:
        return HandOrder(slot=slot, order=orders[0], repeated=True)
    refusal = desk.books.refusal(desk.book, slot)
    if refusal is None:
        return None
    failed = [check["code"] for check in refusal["body"]["checks"] if not check["passed"]]
    message = f"{slot} was refused before ({', '.join(failed)}): a new decision needs a new reference"
    return HandOrder(slot=slot, code="refused_before", message=message, repeated=True)


def _judge(desk: Desk, slot: str, request: Request, market: Market, epoch: int) -> Approved | HandOrder:
    """The checks and the breaker, as for a cycle; stores the evaluation and takes the portfolio over in one commit."""
    now = desk.market_now()
    portfolio = desk.books.portfolio(desk.book, desk.plan.name, desk.plan.cash_asset, day_start(now), now)
    (judged,) = validate(desk.plan, [request], market, portfolio, now)
    change = Change()
    change.add("evaluations", **evaluation_row(desk, slot, judged))
    change.add("epochs", book=desk.book, epoch=epoch)
    desk.journal.record("hand.evaluate", change)
    if isinstance(judged, Refused):
        return HandOrder(slot=slot, code=judged.code, message=judged.message)
    scopes = [*desk.scopes, desk.product_scope(request.product)]
    verdict = strictest(desk.books.breakers(scopes), scopes)
    if not permits(verdict, request):
        return HandOrder(slot=slot, code="breaker_open", message=verdict.message)
    if reason := desk.forbids(request.side):
        return HandOrder(slot=slot, code="not_safe", message=reason)
    return judged


# --------------------------------------------------------------------------------------------------------- cancels


def cancel(desk: Desk, order_id: UUID, reason: str) -> Order:
    """Asks the exchange to cancel an order, settles, and returns the order as it stands then.

    A staged order is abandoned; a closed one is returned as it is. Raises ConfigurationError for an order of another
    portfolio, Busy, Unanswered.
    """
    with at_the_desk(desk):
        order = _own(desk, order_id)
        if order.state in UNKNOWN_STATES:  # else asked at once: a refusal, or the look that follows, tells what became of it
            settlement.settle(desk)
            order = _own(desk, order_id)
        if order.state is State.STAGED:
            _move(desk, order, "abandon", State.ABANDONED, reason)
        elif order.state in (State.OPEN, State.CANCELLING):
            _ask_to_cancel(desk, order, reason)
        settlement.settle(desk)
        return _own(desk, order_id)


def _ask_to_cancel(desk: Desk, order: Order, reason: str) -> None:
    """Written down before it is asked; an order whose cancel got lost is asked about again."""
    assert order.exchange_order_id is not None  # an open order has been acknowledged
    if order.state is State.OPEN:
        _move(desk, order, "cancel_sent", State.CANCELLING, reason)
    try:
        refused = desk.exchange.cancel([order.exchange_order_id])
    except OutcomeUnknown:
        return  # stays cancelling: settling sees what became of it
    settlement.settle(desk)  # an order that filled meanwhile refuses its cancel for that very reason
    now = _own(desk, order.id)
    if order.exchange_order_id in refused and now.state is State.CANCELLING:
        _move(desk, now, "cancel_refused", State.OPEN, f"the exchange refused: {refused[order.exchange_order_id]}")


def _own(desk: Desk, order_id: UUID) -> Order:
    order = desk.books.orders([order_id]).get(order_id)
    if order is None or order.intent.owner.book != desk.book:
        raise ConfigurationError(f"order {order_id}: found none in {desk.book}, expected an order of this portfolio")
    return order


def _move(desk: Desk, order: Order, event: str, to: State, note: str) -> None:
    change = Change()
    change.event(order.id, order.seq + 1, (order.state, event, to), evidence=note)
    if event == "abandon":
        change.hold(order.id, held_account(desk, order), ZERO)
    desk.journal.record(f"hand.{event}", change)


# ----------------------------------------------------------------------------------------------------- the breaker


def trip(desk: Desk, scope: str, level: Level, reason: str) -> BreakerRow:
    """Opens a breaker at a level; one that is open already only ever gets stricter. Raises ConfigurationError (scope)."""
    _breaker(desk, scope)  # only a scope that is there: a slip of the pen would halt nothing
    return tighten(desk.journal, scope, level, reason, desk.market_now(), actor=_actor(desk), cause=Cause.PERSON,
                   rules=desk.plan.breaker)  # fmt: skip


SWEEP_WAIT_SECONDS = 5.0


def sweep(desk: Desk) -> bool:
    """Settles at once, which cancels what an open breaker wants gone; False if a run has the portfolio: it does so at its end."""
    try:
        desk.journal.lock_portfolio(desk.book, SWEEP_WAIT_SECONDS)
    except Busy:
        return False
    try:
        settlement.settle(desk)
    finally:
        desk.journal.unlock_portfolio(desk.book)
    return True


def resume(
    desk: Desk, scopes: list[str] | None, reason: str, lift: Callable[[], object] = lambda: None
) -> list[BreakerRow | NotResumed]:
    """Leads open breakers into their test period on a person's word, or says why not; all of the plan's by default.

    Reconciles first: a breaker is left only with books that agree with the exchange and no open break. `lift` takes the halt
    file away, once nothing speaks against it: the breakers, which are open until after it, stop orders meanwhile.
    """
    with at_the_desk(desk):
        wanted = scopes or _plan_scopes(desk)
        for scope in wanted:
            _breaker(desk, scope)
        clean = reconcile(desk).clean and not desk.books.open_breaks(desk.book)
        rows = desk.books.breakers(wanted)  # as reconciling left them: it may have opened some
        candidates = rows if scopes else [row for row in rows if row.level is not None]
        found = [(row, _resumed(desk, row, reason, clean=clean)) for row in candidates]
        if clean and not any(isinstance(after, NotResumed) for _, after in found):
            lift()
        for row, after in found:
            if isinstance(after, BreakerRow):
                _store(desk, row, after)
        if any(isinstance(after, BreakerRow) for _, after in found):
            _count_anew(desk, reason)
        return [after for _, after in found]


def _resumed(desk: Desk, row: BreakerRow, reason: str, *, clean: bool) -> BreakerRow | NotResumed:
    return resumed(row, desk.plan.breaker, desk.market_now(), actor=_actor(desk), reason=reason, clean=clean)


def _store(desk: Desk, before: BreakerRow, after: BreakerRow) -> None:
    if after.generation == before.generation:
        return
    change = Change()
    change.breaker(after, before, actor=_actor(desk))
    desk.journal.record("breaker.resume", change)


def _count_anew(desk: Desk, reason: str) -> None:
    """What failed before a person looked is not counted against what comes after: else the next run would open it again."""
    change = Change()
    change.add("operations", book=desk.book, plan=desk.plan.name, kind="resume", ok=True, detail=reason)
    desk.journal.record("breaker.recount", change)


def _plan_scopes(desk: Desk) -> list[str]:
    return [*desk.scopes, *(desk.product_scope(product) for product in desk.plan.products)]


def _breaker(desk: Desk, scope: str) -> BreakerRow:
    rows = desk.books.breakers([scope])
    if not rows:
        known = ", ".join(row.scope for row in desk.books.breakers()) or "none: no plan has been opened yet"
        raise ConfigurationError(f"breaker scope: found {scope!r}, expected one of {known}")
    return rows[0]


def _actor(desk: Desk) -> str:
    return desk.journal.author().actor
