"""The reply to a create, classified: by status and form of the body, and HTTP 200 by what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trading.exchange.coinbase.pace import SHOWN
from trading.exchange.coinbase.words import BY_STATUS, DUPLICATES, NO_BY_ERROR, REFUSALS, Form
from trading.exchange.port import Accepted, Reply

_OK, _SERVER_ERROR = 200, 500
_REASONS = ("error", "new_order_failure_reason", "preview_failure_reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A classified reply: what `conclude` takes."""

    reply: Reply
    detail: str
    accepted: Accepted | None = None
    code: str = ""


def read_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object, its numbers as Decimals; None for everything else."""
    try:
        read = json.loads(content.decode(), parse_float=Decimal)
    except (ValueError, RecursionError):  # also of bytes that are no UTF-8
        return None
    return read if isinstance(read, dict) else None


def classify(status: int, content: bytes, client_order_id: str) -> Answer:
    """What the venue's reply to our create of `client_order_id` is."""
    body = read_object(content)
    shown = f"status {status}, reply {content[:SHOWN].decode(errors='replace')!r}"
    if status == _OK and body is not None:
        return _by_content(body, client_order_id, shown)
    if status >= _SERVER_ERROR:
        return Answer(reply=Reply.SERVER_ERROR, detail=shown)
    reply = BY_STATUS.get((status, _form(content, body)), Reply.UNREADABLE)
    error = str((body or {}).get("error", "UNAUTHORIZED" if body is None else ""))
    if reply is Reply.UNAUTHORISED and error.upper() not in NO_BY_ERROR:
        reply = Reply.UNEXPLAINED
    return Answer(reply=reply, detail=shown, code=error.upper())


def _form(content: bytes, body: dict[str, Any] | None) -> Form:
    if body is not None:
        return Form.OBJECT
    # A gateway's refusal is no proof that the venue has not seen the request: only its own word counts.
    return Form.TEXT if content.strip() == b"Unauthorized" else Form.BROKEN


def _by_content(body: Mapping[str, Any], client_order_id: str, shown: str) -> Answer:
    if body.get("success") is True:
        return _accepted(body, client_order_id, shown)
    if body.get("success") is not False:
        return Answer(reply=Reply.UNREADABLE, detail=shown)
    told = _object(body.get("error_response"))
    reason = _reason(body, told)
    detail = str(told.get("message") or told.get("error_details") or "the venue gave no message")
    if reason in DUPLICATES:
        return Answer(reply=Reply.DUPLICATE, detail=detail, code=reason)
    if reason in REFUSALS:
        return Answer(reply=Reply.REFUSED, detail=detail, code=reason)
    return Answer(reply=Reply.UNEXPLAINED, detail=f"{reason or 'no reason'}: {detail}", code=reason)


def _accepted(body: Mapping[str, Any], client_order_id: str, shown: str) -> Answer:
    told = _object(body.get("success_response"))
    order_id = told.get("order_id") or body.get("order_id")  # replies until 2024 had it at the top as well
    if not isinstance(order_id, str) or not order_id:
        return Answer(reply=Reply.UNREADABLE, detail=f"success without an order id: {shown}")
    if told.get("client_order_id", client_order_id) != client_order_id:
        return Answer(reply=Reply.UNREADABLE, detail=f"expected the answer to {client_order_id}: {shown}")
    return Answer(reply=Reply.ACCEPTED, detail="", accepted=Accepted(order_id))


def _reason(body: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """The first field that says something: each of them has been seen to be the only one that does."""
    words = [*(told.get(name) for name in _REASONS), body.get("failure_reason")]
    return next((word for word in words if isinstance(word, str) and word and not says_nothing(word)), "")


def says_nothing(word: str) -> bool:
    """The venue's words for no reason at all."""
    return word.startswith("UNKNOWN_") or word == "UNKNOWN" or word.endswith("UNSPECIFIED")


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
