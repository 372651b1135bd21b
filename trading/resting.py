"""Level cancel: which of our resting orders an open breaker wants gone, and asking the exchange to cancel them.

Persisted, then asked: a process that dies in between leaves an order that is `cancelling`, which the next settlement finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from trading.desk import Desk
from trading.errors import OutcomeUnknown
from trading.orders import Order, State
from trading.risk import BreakerRow, cancels
from trading.store.journal import Change

RESTING_STATES = frozenset({State.OPEN, State.CANCELLING})


def unwanted(desk: Desk) -> list[Order]:
    """Orders of the portfolio, of whatever plan, that rest in the scope of a breaker that cancels them."""
    resting = [order for order in desk.books.live_orders(desk.book) if order.state in RESTING_STATES]
    if not resting:
        return []
    rows = {row.scope: row for row in desk.books.breakers()}
    return [order for order in resting if _is_unwanted(desk, order, rows)]


def _is_unwanted(desk: Desk, order: Order, rows: dict[str, BreakerRow]) -> bool:
    request = order.intent.request
    scopes = [*desk.scopes_of(order.intent.owner.plan), desk.product_scope(request.product)]
    return any(cancels(rows[scope], request.side) for scope in scopes if scope in rows)


def ask_to_cancel(desk: Desk, orders: Sequence[Order], reason: str) -> None:
    """Asks; what became of it is for a look at the venue to say: an answer that is lost, or a refusal, settles nothing."""
    change = Change()
    for order in orders:
        if order.state is State.OPEN:
            change.event(order.id, order.seq + 1, (State.OPEN, "cancel_sent", State.CANCELLING), evidence=reason)
    if change:
        desk.journal.record("breaker.cancel", change)
    with suppress(OutcomeUnknown):
        desk.exchange.cancel([order.exchange_order_id for order in orders if order.exchange_order_id is not None])
