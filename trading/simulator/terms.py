"""What an order asks for: `order_configuration` read into terms, or the venue's reason why it is not taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from trading.errors import ConfigurationError
from trading.money import dec
from trading.simulator.book import Side
from trading.simulator.listing import Listing


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal with HTTP 200. Which of the three fields tells the reason differs by reason: see `fields`."""

    reason: str
    message: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """`error_response`: a preview's reason stands in `preview_failure_reason` only, others in `error` too."""
        preview = self.reason.startswith("PREVIEW_")
        named = {"INSUFFICIENT_FUND": "PREVIEW_INSUFFICIENT_FUND"}.get(self.reason, "UNKNOWN_PREVIEW_FAILURE_REASON")
        return {
            "error": "UNKNOWN_FAILURE_REASON" if preview else self.reason,
            "message": self.message,
            "error_details": "",
            "preview_failure_reason": self.reason if preview else named,
            "new_order_failure_reason": "UNKNOWN_FAILURE_REASON" if preview else self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One order's terms. Sizes in base or quote, never both; prices in quote per base."""

    key: str
    """The configuration's name on the wire, `limit_limit_gtc`."""
    type: str
    time_in_force: str
    base_size: Decimal | None = None
    quote_size: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    stop_up: bool = False
    post_only: bool = False
    end_time: datetime | None = None

    @property
    def rests(self) -> bool:
        return self.time_in_force.startswith("GOOD_UNTIL")


KINDS = {
    "market_market_ioc": ("MARKET", "IMMEDIATE_OR_CANCEL"),
    "sor_limit_ioc": ("LIMIT", "IMMEDIATE_OR_CANCEL"),
    "limit_limit_gtc": ("LIMIT", "GOOD_UNTIL_CANCELLED"),
    "limit_limit_gtd": ("LIMIT", "GOOD_UNTIL_DATE_TIME"),
    "limit_limit_fok": ("LIMIT", "FILL_OR_KILL"),
    "stop_limit_stop_limit_gtc": ("STOP_LIMIT", "GOOD_UNTIL_CANCELLED"),
    "stop_limit_stop_limit_gtd": ("STOP_LIMIT", "GOOD_UNTIL_DATE_TIME"),
    "trigger_bracket_gtc": ("BRACKET", "GOOD_UNTIL_CANCELLED"),
    "trigger_bracket_gtd": ("BRACKET", "GOOD_UNTIL_DATE_TIME"),
}
_UNSUPPORTED = Refused("UNSUPPORTED_ORDER_CONFIGURATION", "source is not enabled for trading")


def read_time(text: str) -> datetime:
    """An RFC 3339 time; nanoseconds are cut to microseconds. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def read_terms(configuration: Any, side: Side) -> Terms | Refused:
    """The terms as they stand, not yet judged against a product."""
    if not isinstance(configuration, Mapping) or len(configuration) != 1:
        return Refused("INVALID_REQUEST", "order_configuration must hold exactly one configuration")
    ((key, asked),) = configuration.items()
    if key not in KINDS or not isinstance(asked, Mapping):
        return _UNSUPPORTED
    type_, time_in_force = KINDS[key]
    try:
        terms = Terms(
            key=key, type=type_, time_in_force=time_in_force, base_size=_number(asked, "base_size"),
            quote_size=_number(asked, "quote_size"), limit_price=_number(asked, "limit_price"),
            stop_price=_number(asked, "stop_trigger_price" if type_ == "BRACKET" else "stop_price"),
            stop_up=_stop_up(asked, side, type_), post_only=bool(asked.get("post_only")),
            end_time=read_time(asked["end_time"]) if "end_time" in asked else None,
        )  # fmt: skip
    except (ConfigurationError, ValueError, TypeError) as error:
        return Refused("INVALID_REQUEST", str(error))
    return _complete(terms, side) or terms


def _stop_up(asked: Mapping[str, Any], side: Side, type_: str) -> bool:
    """A stop waits for a rise or a fall; a bracket's stop is the loss of the holding that it protects."""
    if type_ == "BRACKET":
        return side == "BUY"
    return bool(asked.get("stop_direction") == "STOP_DIRECTION_STOP_UP")


def _number(asked: Mapping[str, Any], name: str) -> Decimal | None:
    value = asked.get(name)
    return None if value in (None, "") else dec(value, name)


def _complete(terms: Terms, side: Side) -> Refused | None:  # noqa: PLR0911  # a table of reasons
    """Refuses terms in which something is missing or too much."""
    if (terms.base_size is None) == (terms.quote_size is None):
        return Refused("INVALID_REQUEST", "exactly one of base_size and quote_size is required")
    if terms.quote_size is not None and side == "SELL":
        message = "rpc error: code = InvalidArgument desc = Market sells must be parameterized in base currency"
        return Refused("UNKNOWN_FAILURE_REASON", message)
    if terms.quote_size is not None and terms.type == "BRACKET":
        return Refused("QUOTE_SIZE_NOT_ALLOWED_FOR_BRACKET")
    if terms.quote_size is not None and terms.type != "MARKET":
        return _UNSUPPORTED
    if (terms.limit_price is None) != (terms.type == "MARKET"):
        return Refused("INVALID_LIMIT_PRICE", "limit_price is required for a limit order")
    if (terms.stop_price is None) != (terms.type not in ("STOP_LIMIT", "BRACKET")):
        return Refused("PREVIEW_INVALID_STOP_PRICE", "a stop price is required for a stop order")
    if (terms.end_time is None) == (terms.time_in_force == "GOOD_UNTIL_DATE_TIME"):
        return Refused("PREVIEW_INVALID_END_TIME", "end_time is required for a GTD order")
    return None


def refusal(terms: Terms, side: Side, product: Listing, now: datetime, last: Decimal) -> Refused | None:
    """Why the venue does not take these terms on this product; `last` is the price of the last trade."""
    if not product.takes_orders:
        return Refused("ORDER_ENTRY_DISABLED" if product.cancel_only else "UNTRADABLE_PRODUCT", f"{product.id} is not trading")
    if product.limit_only and terms.type != "LIMIT":
        return Refused("UNSUPPORTED_ORDER_CONFIGURATION", f"{product.id} takes limit orders only")
    if product.post_only and not terms.post_only:
        return Refused("UNSUPPORTED_ORDER_CONFIGURATION", f"{product.id} takes post-only orders only")
    if terms.end_time is not None and terms.end_time <= now:
        return Refused("PREVIEW_INVALID_END_TIME", f"end_time {terms.end_time.isoformat()} has passed")
    return _off_grid(terms, product) or _out_of_size(terms, product, last) or _stop_refusal(terms, side, last)


def _off_grid(terms: Terms, product: Listing) -> Refused | None:
    """Precision is refused, never rounded."""
    for price in (terms.limit_price, terms.stop_price):
        if price is not None and price <= 0:
            return Refused("INVALID_LIMIT_PRICE", f"price {price} is not positive")
        if price is not None and price % product.price_increment:
            return Refused("INVALID_PRICE_PRECISION", f"price {price}, increment {product.price_increment}")
    if terms.base_size is not None and terms.base_size % product.base_increment:
        return Refused("INVALID_SIZE_PRECISION", f"base_size {terms.base_size}, increment {product.base_increment}")
    if terms.quote_size is not None and terms.quote_size % product.quote_increment:
        return Refused("PREVIEW_INVALID_QUOTE_SIZE_PRECISION", f"quote_size {terms.quote_size}")
    return None


def _out_of_size(terms: Terms, product: Listing, last: Decimal) -> Refused | None:
    if terms.quote_size is not None:
        if terms.quote_size < product.quote_min_size:
            return Refused("PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL", f"at least {product.quote_min_size} {product.quote}")
        if terms.quote_size > product.quote_max_size:
            return Refused("PREVIEW_INVALID_QUOTE_SIZE_TOO_LARGE", f"at most {product.quote_max_size} {product.quote}")
        return None
    assert terms.base_size is not None
    if terms.base_size < product.base_min_size or terms.base_size * (terms.limit_price or last) < product.quote_min_size:
        return Refused("PREVIEW_INVALID_BASE_SIZE_TOO_SMALL", f"at least {product.quote_min_size} {product.quote}")
    if terms.base_size > product.base_max_size:
        return Refused("PREVIEW_INVALID_BASE_SIZE_TOO_LARGE", f"at most {product.base_max_size} {product.base}")
    return None


def _stop_refusal(terms: Terms, side: Side, last: Decimal) -> Refused | None:  # noqa: PLR0911  # a table of reasons
    if terms.stop_price is None or terms.limit_price is None:
        return None
    if terms.type == "BRACKET":
        apart = terms.limit_price > last > terms.stop_price if side == "SELL" else terms.limit_price < last < terms.stop_price
        return None if apart else Refused("INVALID_BRACKET_PRICES", f"the last trade at {last} must lie between the two prices")
    if terms.stop_up and terms.stop_price <= last:
        return Refused("PREVIEW_STOP_PRICE_BELOW_LAST_TRADE_PRICE", f"stop {terms.stop_price}, last trade {last}")
    if not terms.stop_up and terms.stop_price >= last:
        return Refused("PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE", f"stop {terms.stop_price}, last trade {last}")
    if side == "BUY" and terms.stop_price > terms.limit_price:
        return Refused("PREVIEW_STOP_PRICE_ABOVE_LIMIT_PRICE", f"stop {terms.stop_price}, limit {terms.limit_price}")
    if side == "SELL" and terms.stop_price < terms.limit_price:
        return Refused("PREVIEW_STOP_PRICE_BELOW_LIMIT_PRICE", f"stop {terms.stop_price}, limit {terms.limit_price}")
    return None
