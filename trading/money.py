"""Decimal money, UTC time and derived ids: the conventions that every other module relies on.

- Money, quantities and prices are Decimal from string to string; indicators and statistics are float.
- Times are timezone-aware datetimes in UTC; candle starts are epoch seconds.
- Ratios, not percent: 0.02 is 2 %.
- Postings are signed: plus (debit) is more of an asset. Quantities are positive; the side gives the direction.
- A quantity is rounded down, a buy's limit price down, a sell's limit price up: never more than we meant, never worse.
- Ids are derived from what they identify (`derived_id`), so that they survive restarts and restored backups.
"""

from __future__ import annotations

import decimal
import json
import re
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from trading.errors import ConfigurationError

# The ledger keeps numeric(38, 18); a product of two such numbers must not be rounded on the way.
PRECISION = 60
decimal.DefaultContext.prec = PRECISION  # for threads that start later
decimal.getcontext().prec = PRECISION

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

NAMESPACE = UUID("6b65656c-0000-5000-8000-000000000001")
ZERO = Decimal(0)
ONE = Decimal(1)
# A ledger entry has at most 18 decimals; only our own divisions (cost of a part of a lot) are rounded to it.
LEDGER_UNIT = Decimal("1e-18")

Number = Decimal | int | str | float


def dec(value: Number, what: str = "number") -> Decimal:
    """The exact Decimal of a number; a float is read by its shortest text (0.1 is 0.1).

    Raises ConfigurationError for anything that is not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str | float):
        raise ConfigurationError(f"{what}: found {value!r}, expected a number")
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except decimal.InvalidOperation:
        raise ConfigurationError(f"{what}: found {value!r}, expected a number") from None
    if not number.is_finite():
        raise ConfigurationError(f"{what}: found {value!r}, expected a finite number")
    return number


def floor_to(value: Decimal, increment: Decimal) -> Decimal:
    """The largest multiple of `increment` that is not above `value`."""
    return (value / increment).to_integral_value(rounding=ROUND_FLOOR) * increment


def ceil_to(value: Decimal, increment: Decimal) -> Decimal:
    """The smallest multiple of `increment` that is not below `value`."""
    return (value / increment).to_integral_value(rounding=ROUND_CEILING) * increment


def ledger_round(value: Decimal) -> Decimal:
    """`value` at the ledger's 18 decimals, half to even: for our own divisions, never for what a venue said."""
    return value.quantize(LEDGER_UNIT, rounding=ROUND_HALF_EVEN)


def text(value: Decimal) -> str:
    """Plain decimal text without exponent or trailing zeros: Decimal('1E+2') is '100', '0.500' is '0.5'."""
    plain = format(value, "f")
    return (plain.rstrip("0").rstrip(".") or "0") if "." in plain else plain


def utc(epoch_seconds: float) -> datetime:
    return datetime.fromtimestamp(epoch_seconds, UTC)


def stamp(at: datetime) -> str:
    """`2026-11-24T10:00:00Z`: the spelling of times in slots and messages (whole seconds)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_stamp(value: str) -> datetime:
    return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def derived_id(*parts: str) -> UUID:
    """The id of what the parts name: the same parts give the same id for ever."""
    return uuid5(NAMESPACE, "|".join(parts))


def storable(value: Any) -> Any:
    """The value with what no database can hold in a text (NUL, half a surrogate pair) replaced by U+FFFD, however deep."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, Decimals as plain strings, times as ISO 8601 UTC.

    Bodies and audit rows are hashed over this text, so a float is refused: its text differs by library.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_jsonable, allow_nan=False)


def _jsonable(value: Any) -> str:
    if isinstance(value, Decimal):
        return text(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no canonical text")


def digest(body: str) -> str:
    """SHA-256 of a text, in hex."""
    return sha256(body.encode()).hexdigest()
