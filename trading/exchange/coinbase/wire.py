"""What Coinbase tells of an account, read into our words. Unknown keys are ignored, an unknown status is kept raw.

Whatever cannot be read without guessing raises Unanswered with the row: books that miss a row must not look complete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar
from uuid import UUID

from trading.errors import Unanswered
from trading.exchange.coinbase.pace import SHOWN
from trading.exchange.port import Balance, ExchangeOrder, FeeTier, Status
from trading.market import Quote
from trading.money import ZERO
from trading.orders import Fill, FillKind, Side, base_quantity

Row = Mapping[str, Any]
_Absent = TypeVar("_Absent")

STATUSES = {
    "PENDING": Status.OPEN, "OPEN": Status.OPEN, "QUEUED": Status.OPEN, "CANCEL_QUEUED": Status.OPEN,
    "EDIT_QUEUED": Status.OPEN, "FILLED": Status.FILLED, "CANCELLED": Status.CANCELLED, "EXPIRED": Status.EXPIRED,
    "FAILED": Status.REJECTED,
}  # fmt: skip
"""A cancel that waits is an order that still trades."""

KINDS = {
    "FILL": FillKind.TRADE, "REVERSAL": FillKind.REVERSAL, "CORRECTION": FillKind.CORRECTION,
    "SYNTHETIC": FillKind.SYNTHETIC,
}  # fmt: skip


def rows(body: Row, name: str) -> list[Row]:
    """The list of objects under `name`. Raises Unanswered when there is none."""
    found = body.get(name)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise Unanswered(f"coinbase: found {_shown(body)}, expected a list of objects under {name!r}")
    return found


def nested(body: Row, name: str) -> Row:
    found = body.get(name)
    if not isinstance(found, dict):
        raise Unanswered(f"coinbase: found {_shown(body)}, expected an object under {name!r}")
    return found


def flag(body: Row, name: str) -> bool:
    found = body.get(name)
    if not isinstance(found, bool):
        raise Unanswered(f"coinbase: {name}: found {found!r}, expected true or false")
    return found


def exchange_order(row: Row) -> ExchangeOrder:
    """An order of the venue's list; its quantity in base units, also of one that was sized in quote."""
    filled, terms = number(row, "filled_size", ZERO), _terms(row)
    limit_price = number(terms, "limit_price", None)
    raw = str(row.get("status") or "")
    return ExchangeOrder(
        exchange_order_id=_text(row, "order_id"),
        client_order_id=str(row.get("client_order_id") or ""),
        product=_text(row, "product_id"),
        side=_side(row),
        quantity=_quantity(terms, limit_price, filled),
        limit_price=limit_price,
        status=STATUSES.get(raw, Status.UNKNOWN),
        raw_status=raw,
        filled=filled,
        fees=number(row, "total_fees", ZERO),
        created_at=_required_time(row, "created_time"),
    )


def _terms(row: Row) -> Row:
    """The terms within the one configuration; empty when the venue left it out, as it has been seen to do."""
    configuration = row.get("order_configuration")
    every = list(configuration.values()) if isinstance(configuration, dict) else []
    return next((terms for terms in every if isinstance(terms, dict)), {})


def _quantity(terms: Row, limit_price: Decimal | None, filled: Decimal) -> Decimal:
    base, quote = number(terms, "base_size", None), number(terms, "quote_size", None)
    if base is not None:
        return base
    # Not an order of ours, which are all by base size: what it may buy is known by a limit, else by what it bought.
    return base_quantity(quote, limit_price) if quote is not None and limit_price else filled


def fill(row: Row, client_order_id: str) -> Fill:
    """An entry of the venue's list of fills; the venue does not tell the client id, so it is handed in."""
    kind = KINDS.get(str(row.get("trade_type") or "FILL"))
    if kind is None:
        raise Unanswered(f"coinbase: trade_type: found {_shown(row)}, expected one of {', '.join(KINDS)}")
    product, price, size = _text(row, "product_id"), number(row, "price", None), number(row, "size", None)
    if price is None or size is None:
        raise Unanswered(f"coinbase: found a fill without price or size: {_shown(row)}")
    return Fill(
        entry_id=_text(row, "entry_id"),
        trade_id=_text(row, "trade_id"),
        exchange_order_id=_text(row, "order_id"),
        client_order_id=as_uuid(client_order_id),
        product=product,
        side=_side(row),
        # By `size_in_quote` the size is money: read as base, 2.64 USD of ETH would be booked as 2.64 ETH.
        quantity=base_quantity(size, price) if row.get("size_in_quote") is True else size,
        price=price,
        fee=number(row, "commission", ZERO),
        fee_asset=product.rpartition("-")[2],
        liquidity=str(row.get("liquidity_indicator") or "").lower(),
        traded_at=_required_time(row, "trade_time"),
        kind=kind,
    )


def as_uuid(text: str) -> UUID | None:
    """The id, if the text is one in the spelling that we send."""
    try:
        id_ = UUID(text)
    except ValueError:
        return None
    return id_ if str(id_) == text else None


def balance(row: Row) -> tuple[str, Balance]:
    """An account's currency and what is in it."""
    parts = [number(nested(row, name), "value", None) for name in ("available_balance", "hold")]
    available, hold = parts
    if available is None or hold is None:
        raise Unanswered(f"coinbase: found an account without a figure: {_shown(row)}")
    return _text(row, "currency"), Balance(available, hold)


def fee_tier(body: Row) -> FeeTier:
    tier = nested(body, "fee_tier")
    maker, taker = (number(tier, f"{side}_fee_rate", None) for side in ("maker", "taker"))
    if maker is None or taker is None:
        raise Unanswered(f"coinbase: found {_shown(tier)}, expected maker_fee_rate and taker_fee_rate")
    return FeeTier(maker, taker)


def quote(row: Row, at: datetime) -> Quote | None:
    """Best bid and ask; None where a side is empty or they cross. `at` counts where the venue tells no time."""
    bids, asks = (
        tuple((number(level, "price", ZERO), number(level, "size", ZERO)) for level in rows(row, side))
        for side in ("bids", "asks")
    )
    if not bids or not asks or not ZERO < bids[0][0] < asks[0][0]:
        return None
    when = time(row.get("time")) or at
    return Quote(product=_text(row, "product_id"), bid=bids[0][0], ask=asks[0][0], at=when, bids=bids, asks=asks)


def time(value: object) -> datetime | None:
    """An RFC 3339 time in UTC, its nanoseconds cut to microseconds; None for "" or nothing."""
    if value in ("", None):
        return None
    try:
        at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(value)))
    except ValueError:
        raise Unanswered(f"coinbase: found time {value!r}, expected RFC 3339") from None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _required_time(row: Row, name: str) -> datetime:
    at = time(row.get(name))
    if at is None:
        raise Unanswered(f"coinbase: {name} is absent in {_shown(row)}")
    return at


def _side(row: Row) -> Side:
    try:
        return Side(str(row.get("side")).lower())
    except ValueError:
        raise Unanswered(f"coinbase: side: found {_shown(row)}, expected BUY or SELL") from None


def _text(row: Row, name: str) -> str:
    found = row.get(name)
    if not isinstance(found, str) or not found:
        raise Unanswered(f"coinbase: {name}: found {_shown(row)}, expected a text")
    return found


def number(row: Row, name: str, absent: _Absent) -> Decimal | _Absent:
    """The exact number under `name`; `absent` for the venue's "". JSON's numbers arrive as Decimals too, none as a float."""
    value = row.get(name)
    if value in ("", None):
        return absent
    try:
        found = Decimal(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else None
    except InvalidOperation:
        found = None
    if found is None or not found.is_finite():
        raise Unanswered(f"coinbase: {name}: found {value!r}, expected a number")
    return found


def _shown(row: Row) -> str:
    return str(dict(row))[:SHOWN]
