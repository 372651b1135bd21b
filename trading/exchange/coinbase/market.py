"""Coinbase's public market data through the official SDK's REST client: no key is needed and none is read.

The SDK's own habits that matter here: it has no time-out unless given one, retries nothing, takes proxies and CA bundles
from the environment, and reads API keys from it at import. All four are set explicitly below.

Many at once: products and (where the venue fills them in) best bid and ask come for 200 products per call; candles and
books are one call per product, because the public interface has no other, so the rate budget bounds how many products an
interval can serve.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trading.errors import ConfigurationError, MarketUnavailable
from trading.exchange.coinbase.pace import RETRY_AFTER_MOST, SHOWN, RateBudget, told, worth_retrying
from trading.market import COLUMNS, Product, Quote, interval_seconds, last_close

if TYPE_CHECKING:
    from coinbase.rest import RESTClient

HOST = "api.coinbase.com"
GRANULARITIES = {
    "1m": "ONE_MINUTE", "5m": "FIVE_MINUTE", "15m": "FIFTEEN_MINUTE", "30m": "THIRTY_MINUTE", "1h": "ONE_HOUR",
    "2h": "TWO_HOUR", "4h": "FOUR_HOUR", "6h": "SIX_HOUR", "1d": "ONE_DAY",
}  # fmt: skip
# 350 candles are answered, 351 are refused with 400.
PAGE = 350
# Product ids of one call: keeps its address below 8 KiB, where proxies begin to refuse.
LISTING = 200
_ROOT = "/api/v3/brokerage"
_FORBIDDING = ("is_disabled", "trading_disabled", "cancel_only", "view_only", "auction_mode")


class CoinbaseMarket:
    """The live `MarketSource`. One per thread: the HTTP session inside is not thread-safe.

    `clock` gives the time, `monotonic` and `sleep` drive the rate budget. Reads are retried (`attempts` in all, within
    `patience_seconds`) on lost connections, 429, 5xx and unreadable replies; then MarketUnavailable says what was asked and
    what came back.
    """

    name = "coinbase"
    is_replay = False

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        base_url: str = HOST,
        ca_file: Path | None = None,
        timeout: tuple[float, float] = (3.05, 10.0),
        requests_per_second: float = 5.0,
        burst: int = 10,
        attempts: int = 4,
        patience_seconds: float = 30.0,
        backoff_seconds: float = 0.25,
    ) -> None:
        if ca_file is not None and not ca_file.is_file():
            raise ConfigurationError(f"coinbase: CA file {ca_file} is missing")
        if "/" in base_url:
            raise ConfigurationError(f"coinbase: base URL: found {base_url!r}, expected a host or host:port")
        self._clock = clock
        self._base_url, self._ca_file, self._timeout = base_url, ca_file, timeout
        self._budget = RateBudget(requests_per_second, burst, monotonic, sleep)
        self._attempts, self._patience, self._backoff = attempts, patience_seconds, backoff_seconds
        self._client: RESTClient | None = None
        self._listing_has_quotes = True

    def now(self) -> datetime:
        return self._clock()

    def next_slot(self, products: Sequence[str], interval: str, history: int, after: datetime | None) -> datetime | None:
        """The last candle close at the clock's time: a live market has no other."""
        del products, history, after
        return last_close(self._clock(), interval)

    def answers(self) -> bool:
        """Whether the venue answers one request, without retries, within the time-outs."""
        import requests  # noqa: PLC0415 - see _session

        try:
            self._session().get(f"{_ROOT}/time", public=True)
        except requests.RequestException:
            return False
        return True

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        """The venue's rules; `tradable` is False under any flag that forbids a new order, or a status that is not online."""
        return {entry["product_id"]: product_rules(entry) for entry in self._listing(ids)}

    def candles(self, since: Mapping[str, int], interval: str, until: datetime) -> pd.DataFrame:
        """Candles as the venue gave them, each page (newest first at the venue) put in order of time; values as floats.

        Missing, repeated and unfinished ones are the gate's business.

        Raises ConfigurationError for an interval that the venue does not know.
        """
        seconds = interval_seconds(interval)
        if interval not in GRANULARITIES:
            raise ConfigurationError(f"coinbase: interval {interval} has no granularity")
        rows = [row for product, first in since.items() for row in self._rows(product, first, interval, seconds, until)]
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        return frame.astype({"start": "int64"} | dict.fromkeys(COLUMNS[2:], "float64"))

    def quotes(self, ids: Sequence[str], at: datetime) -> dict[str, Quote]:
        """Best bid and ask: from the product listing where the venue fills them in, else one book call a product.

        `at` is the time of quotes from the listing, which carries none (the venue caches it for about a second); a book
        says its own. A product whose book is one-sided or crossed is missing.
        """
        found: dict[str, Quote] = {}
        if self._listing_has_quotes:
            listed = (_listed_quote(entry, at) for entry in self._listing(ids))
            found = {quote.product: quote for quote in listed if quote is not None}
            # Where the venue leaves them all empty, the extra call is not made again.
            self._listing_has_quotes = bool(found) or not ids
        for product in ids:
            if product not in found and (quote := self._book(product, at)) is not None:
                found[product] = quote
        return found

    def _listing(self, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        for first in range(0, len(ids), LISTING):
            some = list(ids[first : first + LISTING])
            reply = self._get("/market/products", "products", {"product_ids": some})
            yield from (entry for entry in _list(reply, "products", "/market/products") if entry.get("product_id") in some)

    def _rows(
        self, product: str, first: int, interval: str, seconds: int, until: datetime
    ) -> Iterator[tuple[str, int, float, float, float, float, float]]:
        path = f"/market/products/{product}/candles"
        end = int(np.ceil(until.timestamp()))
        for start in range(first, end, PAGE * seconds):
            last = min(start + (PAGE - 1) * seconds, end - 1)
            asked = {"start": start, "end": last, "granularity": GRANULARITIES[interval], "limit": PAGE}
            page = _list(self._get(path, product, asked), "candles", path)
            for begins, candle in sorted(((_epoch(candle, path), candle) for candle in page), key=lambda pair: pair[0]):
                if first <= begins < end:
                    yield (product, begins, *(_number(candle.get(name)) for name in COLUMNS[2:]))  # type: ignore[misc]

    def _book(self, product: str, at: datetime) -> Quote | None:
        path = "/market/product_book"
        book = self._get(path, product, {"product_id": product, "limit": 1}).get("pricebook")
        if not isinstance(book, dict):
            raise MarketUnavailable(f"coinbase: {product}: {path}: reply has no pricebook")
        bids, asks = (_levels(book.get(side), f"{product}: {path}: {side}") for side in ("bids", "asks"))
        if not bids or not asks or bids[0][0] >= asks[0][0]:
            return None
        return Quote(product=product, bid=bids[0][0], ask=asks[0][0], at=_time(book.get("time")) or at, bids=bids, asks=asks)

    def _get(self, path: str, what: str, params: dict[str, Any]) -> dict[str, Any]:
        """One read with retries. Raises MarketUnavailable naming what was asked, the path and the reply."""
        import requests  # noqa: PLC0415 - see _session
        import stamina  # noqa: PLC0415

        client = self._session()
        try:
            for attempt in stamina.retry_context(
                on=worth_retrying, attempts=self._attempts, timeout=self._patience, wait_initial=self._backoff,
                wait_max=RETRY_AFTER_MOST, wait_jitter=4 * self._backoff,
            ):  # fmt: skip
                with attempt:
                    self._budget.take()
                    reply = client.get(f"{_ROOT}{path}", params=dict(params), public=True)
        except requests.RequestException as error:
            raise MarketUnavailable(f"coinbase: {what}: GET {_ROOT}{path}: {told(error)}") from error
        if not isinstance(reply, dict):
            raise MarketUnavailable(f"coinbase: {what}: GET {_ROOT}{path}: found {str(reply)[:SHOWN]}, expected an object")
        return reply

    def _session(self) -> RESTClient:
        if self._client is None:
            from coinbase.rest import RESTClient  # noqa: PLC0415 - 0.4 s, and it reads keys from the environment

            # Errors are raised with their text; the SDK would print each of them to stderr as well.
            logging.getLogger("coinbase.RESTClient").setLevel(logging.CRITICAL)
            client = RESTClient(api_key=None, api_secret=None, base_url=self._base_url, timeout=self._timeout)
            client.session.trust_env = False  # no proxies or CA bundles from the environment
            client.session.verify = True if self._ca_file is None else str(self._ca_file)
            self._client = client
        return self._client


def _list(reply: dict[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    found = reply.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise MarketUnavailable(f"coinbase: {path}: found {str(reply)[:SHOWN]}, expected a list of objects under {key!r}")
    return found


def _epoch(candle: dict[str, Any], path: str) -> int:
    try:
        return int(candle["start"])
    except (KeyError, TypeError, ValueError):
        raise MarketUnavailable(f"coinbase: {path}: candle without a start: {str(candle)[:SHOWN]}") from None


def _number(value: object) -> float:
    """A candle's figure; NaN for what is none, so that the quality gate names the product instead of losing the fetch."""
    try:
        return float(value) if isinstance(value, str | int | float) else float("nan")
    except ValueError:
        return float("nan")


def _decimal(value: object, where: str) -> Decimal | None:
    """The exact number of a text; None for the venue's "" (absent). A JSON float has lost digits already and is refused."""
    if value in ("", None):
        return None
    try:
        number = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise MarketUnavailable(f"coinbase: {where}: found {value!r}, expected a number as text")
    return number


def _required(entry: dict[str, Any], key: str) -> Decimal:
    where = f"{entry['product_id']}: {key}"
    number = _decimal(entry.get(key), where)
    if number is None:
        raise MarketUnavailable(f"coinbase: {where} is absent")
    return number


def product_rules(entry: dict[str, Any]) -> Product:
    tradable = entry.get("status") == "online" and not any(entry.get(flag) for flag in _FORBIDDING)
    return Product(
        id=entry["product_id"],
        base=str(entry.get("base_currency_id") or entry["product_id"].partition("-")[0]),
        quote=str(entry.get("quote_currency_id") or entry["product_id"].partition("-")[2]),
        base_increment=_required(entry, "base_increment"),
        # `quote_increment` is the step of quote amounts; older replies have no price_increment and mean that one.
        price_increment=_decimal(entry.get("price_increment"), f"{entry['product_id']}: price_increment")
        or _required(entry, "quote_increment"),
        base_min_size=_required(entry, "base_min_size"),
        base_max_size=_required(entry, "base_max_size"),
        min_notional=_required(entry, "quote_min_size"),
        tradable=tradable,
        limit_only=bool(entry.get("limit_only")),
        post_only=bool(entry.get("post_only")),
    )


def _listed_quote(entry: dict[str, Any], at: datetime) -> Quote | None:
    product = entry["product_id"]
    bid = _decimal(entry.get("best_bid_price"), f"{product}: best_bid_price")
    ask = _decimal(entry.get("best_ask_price"), f"{product}: best_ask_price")
    if bid is None or ask is None or not 0 < bid < ask:
        return None
    return Quote(product=product, bid=bid, ask=ask, at=at)


def _levels(levels: object, where: str) -> tuple[tuple[Decimal, Decimal], ...]:
    if not isinstance(levels, list):
        raise MarketUnavailable(f"coinbase: {where}: found {str(levels)[:SHOWN]}, expected a list of levels")
    pairs = [(_decimal(level.get("price"), where), _decimal(level.get("size"), where)) for level in levels]
    return tuple((price, size) for price, size in pairs if price is not None and size is not None)


def _time(value: object) -> datetime | None:
    """An RFC 3339 time; the venue sends up to nanoseconds, of which microseconds are kept."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value))
    except ValueError:
        raise MarketUnavailable(f"coinbase: found time {value!r}, expected RFC 3339") from None
