"""What is asked about an order beside its create: a cancel, an edit, a preview. Sent once, read strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http.client import HTTPException
from typing import Any

from trading.errors import OutcomeUnknown, Unanswered
from trading.exchange.coinbase import wire
from trading.exchange.coinbase.bodies import cancel_body, edit_body, preview_body
from trading.exchange.coinbase.connection import Connection
from trading.exchange.coinbase.pace import SHOWN
from trading.exchange.coinbase.replies import read_object, says_nothing
from trading.money import ZERO, digest
from trading.orders import Request

CANCELS = 100  # order ids that one batch_cancel takes
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What the venue says it would do with an order; nothing was placed. Amounts in quote."""

    refused: tuple[str, ...]
    """The venue's reasons against it; empty when it would take the order."""
    warnings: tuple[str, ...]
    total: Decimal
    commission: Decimal


def cancel(connection: Connection, exchange_order_ids: Sequence[str]) -> dict[str, str]:
    """Id -> the venue's reason for those orders that it refused to cancel; 100 ids a call. Raises OutcomeUnknown."""
    refused: dict[str, str] = {}
    for first in range(0, len(exchange_order_ids), CANCELS):
        refused |= _cancel(connection, list(exchange_order_ids[first : first + CANCELS]))
    return refused


def _cancel(connection: Connection, ids: list[str]) -> dict[str, str]:
    what = f"cancel of {len(ids)} orders"
    told = _asked(connection, "/orders/batch_cancel", cancel_body(ids), what, cancels=True)
    try:
        results = {str(row.get("order_id")): row for row in wire.rows(told, "results")}
    except Unanswered as error:
        raise OutcomeUnknown(f"coinbase: {what}: {error}") from error
    if missing := [id_ for id_ in ids if id_ not in results]:
        raise OutcomeUnknown(f"coinbase: {what}: no result for {', '.join(missing)}: {str(told)[:SHOWN]}")
    return {id_: str(results[id_].get("failure_reason") or "no reason") for id_ in ids if results[id_].get("success") is not True}


def edit(
    connection: Connection, exchange_order_id: str, *, quantity: Decimal, limit_price: Decimal, stop_price: Decimal | None
) -> str:
    """The venue's reason for not editing the order; empty when it took the edit. Raises OutcomeUnknown.

    Both quantity and price are always sent: one that is left out would be read as 0.
    """
    told = _asked(connection, "/orders/edit", edit_body(exchange_order_id, quantity, limit_price, stop_price), "edit")
    if told.get("success") is True:
        return ""
    if told.get("success") is not False:
        raise OutcomeUnknown(f"coinbase: edit of {exchange_order_id}: found {str(told)[:SHOWN]}, expected success true or false")
    return next(_reasons(told.get("errors")), "no reason")


def preview(connection: Connection, request: Request) -> Preview:
    """What the venue would do with the request now. Raises Unanswered; may be asked again, because nothing is placed."""
    try:
        told = _asked(connection, "/orders/preview", preview_body(request), "preview")
        refused = tuple(_reasons(told.get("errs")))
        amounts = {name: wire.number(told, name, ZERO) for name in ("order_total", "commission_total")}
    except OutcomeUnknown as error:
        raise Unanswered(str(error)) from error
    if not isinstance(told.get("errs"), list):
        raise Unanswered(f"coinbase: preview: found {str(told)[:SHOWN]}, expected a list under 'errs'")
    return Preview(
        refused=refused, warnings=tuple(_reasons(told.get("warning"))), total=amounts["order_total"],
        commission=amounts["commission_total"],
    )  # fmt: skip


def _reasons(errors: object) -> Any:
    """Words that say something, out of a list (documented) or an object (recorded), of texts or of fields."""
    for entry in errors if isinstance(errors, list) else [errors]:
        words = entry.values() if isinstance(entry, Mapping) else [entry]
        yield from (word for word in words if isinstance(word, str) and word and not says_nothing(word))


def _asked(connection: Connection, path: str, body: str, what: str, *, cancels: bool = False) -> dict[str, Any]:
    """The object in the reply to exactly these bytes, sent once. Raises OutcomeUnknown when there is none."""
    connection.may_trade_next(cancels=cancels)
    try:
        status, content = connection.send(path, body, digest(body))
    except (OSError, HTTPException) as error:
        raise OutcomeUnknown(f"coinbase: {what}: {type(error).__name__}: {error}") from error
    told = read_object(content)
    if status != _OK or told is None:
        raise OutcomeUnknown(f"coinbase: {what}: status {status}, reply {content[:SHOWN].decode(errors='replace')!r}")
    return told
