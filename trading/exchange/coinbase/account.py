"""One account at Coinbase Advanced Trade as an `Exchange`: sends in exact bytes, reads whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import UUID

from trading.errors import ConfigurationError, MarketUnavailable, NotSent, Unanswered
from trading.exchange.coinbase import amending, wire
from trading.exchange.coinbase.amending import CANCELS, Preview
from trading.exchange.coinbase.bodies import create_body
from trading.exchange.coinbase.connection import HOST, Connection, Pace, SigningKey, check_host
from trading.exchange.coinbase.market import LISTING, product_rules
from trading.exchange.coinbase.replies import Answer, classify, read_object
from trading.exchange.coinbase.words import UNSUPPORTED
from trading.exchange.port import (
    Accepted,
    Balance,
    Duplicates,
    ExchangeOrder,
    FeeTier,
    Rejected,
    Reply,
    Status,
    conclude,
)
from trading.market import Product, Quote
from trading.money import ZERO
from trading.movements import Movement
from trading.orders import Fill, Mode, Request

_ACCOUNTS, _ORDERS, _FILLS = 250, 1000, 250  # rows asked for per page; the venue may give fewer
# More pages than an account of ours can have: a venue that never ends a list has not answered.
_PAGES_MOST = 1000
# Fills are listed by the time of their entry, which is near the trade's and may lie a little before or long after it.
_ENTRY_BEFORE_TRADE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPermissions:
    """What the key may do, and in which portfolio. One that can transfer must not trade for us."""

    can_view: bool
    can_trade: bool
    can_transfer: bool
    portfolio: str


class CoinbaseExchange:
    """The account that `key` belongs to. One per thread. Refuses a host that `mode` may not talk to.

    With a `view_key` everything is read by that one, and `key` signs what trades alone. Without a `key` nothing is sent.

    A client id that was used before is answered with the first order's id and success, whatever the new terms were:
    only `orders` tells the terms that the venue has, and they are compared before an order is believed.
    """

    name = "coinbase"
    duplicates = Duplicates.REPLAYS
    visibility_lag_seconds = 120
    send_batch = 1
    takes_stops = False

    def __init__(
        self,
        key: SigningKey | None,
        *,
        mode: Mode,
        view_key: SigningKey | None = None,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        host: str = HOST,
        ca_file: Path | None = None,
        timeout: tuple[float, float] = (3.05, 10.0),
        pace: Pace | None = None,
    ) -> None:
        check_host(host, mode)
        reads_with = view_key or key
        if reads_with is None:
            raise ConfigurationError("coinbase: found neither a key that trades nor one that views, expected one at least")

        def connection(signed_by: SigningKey) -> Connection:
            return Connection(
                signed_by, host=host, ca_file=ca_file, timeout=timeout, pace=pace or Pace(), monotonic=monotonic, sleep=sleep
            )

        self._connection = connection(reads_with)
        self._trading = None if key is None else self._connection if view_key is None else connection(key)
        self._client_ids: dict[str, str] = {}

    # ---- sends

    def obey(self, halted: Callable[[], str]) -> None:
        """From now on nothing but cancels leaves while `halted` says why: `submit` raises Halted then."""
        if self._trading is not None:
            self._trading.obey(halted)

    @property
    def _sends(self) -> Connection:
        if self._trading is None:
            raise NotSent("coinbase: found no key that trades, expected one: this process may only look")
        return self._trading

    def body(self, client_order_id: UUID, request: Request) -> str:
        return create_body(client_order_id, request)

    def submit(self, body: str, sha256: str) -> Accepted | Rejected:
        """Sends exactly these bytes, once. `sha256` is held against the bytes of the request that is ready to leave.

        Raises OutcomeUnknown when the answer does not settle it, NotSent, before a byte has left, for a body that does not
        have this hash on the wire.
        """
        client_order_id = _client_id(body)
        self._sends.may_trade_next()
        answer = self._post(body, sha256, client_order_id)
        outcome = conclude(self.duplicates, answer.reply, answer.detail, accepted=answer.accepted, code=answer.code)
        if isinstance(outcome, Accepted):
            self._client_ids[outcome.exchange_order_id] = client_order_id
        return outcome

    def _post(self, body: str, sha256: str, client_order_id: str) -> Answer:
        try:
            return classify(*self._sends.send("/orders", body, sha256), client_order_id)
        except (OSError, HTTPException) as error:  # what requests raises is an OSError
            return Answer(reply=_broken(error), detail=f"{type(error).__name__}: {error}")

    def cancel(self, exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
        """Asks to cancel, 100 at a time; id -> the venue's reason for those that it refused. Raises OutcomeUnknown.

        Cancelling is asynchronous: an order that is not refused may still fill until a read shows it cancelled.
        """
        return amending.cancel(self._sends, exchange_order_ids)

    def edit(self, exchange_order_id: str, *, quantity: Decimal, limit_price: Decimal, stop_price: Decimal | None = None) -> str:
        """Asks for new terms of an open GTC limit; the venue's reason when it refuses, else empty. Raises OutcomeUnknown.

        Nothing of the pipeline calls it: a stored intent never changes, so an edited order would not have its terms any
        more, which is a break. A cancel and a new order is what the ledger can tell.
        """
        return amending.edit(self._sends, exchange_order_id, quantity=quantity, limit_price=limit_price, stop_price=stop_price)

    def preview(self, request: Request) -> Preview:
        """What the venue would do with the request now; nothing is placed. Raises Unanswered."""
        return amending.preview(self._connection, request)

    def takes(self, request: Request) -> bool:
        """Would the venue take this kind of order on this product? Asked by a preview: pages and replies disagree on brackets.

        Money or prices that do not do are no matter here. Raises Unanswered.
        """
        return not UNSUPPORTED & {word.removeprefix("PREVIEW_") for word in self.preview(request).refused}

    # ---- reads

    def orders(self, since: datetime) -> list[ExchangeOrder]:
        """Newest first. Two scans: dates hide older open orders from the first, and the second lists nothing else."""
        found = {}
        for asked in ({"start_date": _moment(since)}, {"order_status": "OPEN"}):
            for row in self._pages("/orders/historical/batch", "orders", asked | {"limit": _ORDERS}):
                order = wire.exchange_order(row)
                found[order.exchange_order_id] = order
        self._client_ids |= {id_: order.client_order_id for id_, order in found.items()}
        return list(found.values())

    def order(self, exchange_order_id: str) -> ExchangeOrder | None:
        """One order as the venue has it; None when it shows none of that id, which proves nothing soon after a create."""
        for row in self._pages("/orders/historical/batch", "orders", {"order_ids": [exchange_order_id], "limit": 1}):
            if row.get("order_id") == exchange_order_id:
                return wire.exchange_order(row)
        return None

    def fills(self, since: datetime) -> list[Fill]:
        """Oldest first, one for each entry id. The venue says the order's id only; its client id is looked up."""
        asked = {"start_sequence_timestamp": _moment(since - _ENTRY_BEFORE_TRADE), "limit": _FILLS}
        return [fill for fill in self._read_fills(self._fill_pages(asked)) if fill.traded_at >= since]

    def _read_fills(self, rows: Iterable[wire.Row]) -> list[Fill]:
        listed = {str(row.get("entry_id") or number): row for number, row in enumerate(rows)}
        self._learn({str(row.get("order_id")) for row in listed.values()})
        read = [wire.fill(row, self._client_ids.get(str(row.get("order_id")), "")) for row in reversed(listed.values())]
        return sorted(read, key=lambda fill: fill.traded_at)

    def look_up(self, exchange_order_ids: Sequence[str], since: datetime) -> tuple[list[ExchangeOrder], list[Fill]]:
        """One call for orders that rest, two for those that traded; a scan of all lists is four."""
        del since
        orders = [wire.exchange_order(row) for row in self._named(exchange_order_ids)]
        self._client_ids |= {order.exchange_order_id: order.client_order_id for order in orders}
        traded = [order.exchange_order_id for order in orders if order.filled or order.status is not Status.OPEN]
        rows = [row for some in _hundreds(traded) for row in self._fill_pages({"order_ids": some, "limit": _FILLS})]
        return orders, self._read_fills(rows)

    def _learn(self, order_ids: set[str]) -> None:
        for row in self._named(sorted(order_ids - self._client_ids.keys())):
            self._client_ids[str(row.get("order_id"))] = str(row.get("client_order_id") or "")

    def _named(self, exchange_order_ids: Sequence[str]) -> Iterator[wire.Row]:
        for some in _hundreds(exchange_order_ids):
            yield from self._pages("/orders/historical/batch", "orders", {"order_ids": some, "limit": _ORDERS})

    def movements(self, since: datetime) -> list[Movement]:
        """None: Advanced Trade has no list of deposits, withdrawals, conversions or rewards.

        (`/api/v3/brokerage` moves funds between portfolios and makes a conversion, but lists neither; Coinbase App's
        `/v2` transactions are another API with another key scope.) They show as a balance that differs: a break, which a
        person explains.
        """
        del since
        return []

    def balances(self) -> dict[str, Balance]:
        found: dict[str, Balance] = {}
        accounts = {_account_key(row): row for row in self._pages("/accounts", "accounts", {"limit": _ACCOUNTS})}
        for asset, part in map(wire.balance, accounts.values()):
            known = found.get(asset, Balance(ZERO, ZERO))  # an asset may have several accounts
            found[asset] = Balance(known.available + part.available, known.hold + part.hold)
        return found

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        """The venue's rules and flags as they are now: never kept, because they are what forbids an order."""
        found: dict[str, Product] = {}
        for first in range(0, len(ids), LISTING):
            some = list(ids[first : first + LISTING])
            asked = {"product_ids": some, "get_tradability_status": "true"}
            try:
                for row in wire.rows(self._connection.read("/products", asked), "products"):
                    if row.get("product_id") in some:
                        found[row["product_id"]] = product_rules(dict(row))
            except MarketUnavailable as error:
                raise Unanswered(str(error)) from error
        return found

    def quotes(self, ids: Sequence[str], at: datetime) -> dict[str, Quote]:
        """Best bid and ask; a product whose book is one-sided, crossed or untold is missing. `at` as in `wire.quote`."""
        body = self._connection.read("/best_bid_ask", {"product_ids": list(ids)})
        told = (wire.quote(row, at) for row in wire.rows(body, "pricebooks"))
        return {quote.product: quote for quote in told if quote is not None}

    def fee_tier(self) -> FeeTier:
        return wire.fee_tier(self._connection.read("/transaction_summary", {"product_type": "SPOT"}))

    def permissions(self) -> KeyPermissions:
        """Of the key that trades, where there is one."""
        return _permissions((self._trading or self._connection).read("/key_permissions"))

    def view_permissions(self) -> KeyPermissions:
        """Of the key that reads."""
        return _permissions(self._connection.read("/key_permissions"))

    def venue_time(self) -> datetime:
        """The venue's clock, in whole seconds or finer: signatures are refused when ours differs by much."""
        at = wire.time(self._connection.read("/time", public=True).get("iso"))
        if at is None:
            raise Unanswered("coinbase: GET /time: the reply has no time")
        return at

    # ---- pages

    def _pages(self, path: str, name: str, asked: Mapping[str, Any]) -> Iterator[wire.Row]:
        """Rows of all pages. A page without rows or a cursor that comes again, while more is promised, is no answer."""
        seen: set[str] = set()
        cursor = ""
        while len(seen) < _PAGES_MOST:
            body = self._connection.read(path, {**asked, "cursor": cursor} if cursor else asked)
            page = wire.rows(body, name)
            yield from page
            if not wire.flag(body, "has_next"):
                return
            cursor = str(body.get("cursor") or "")
            if not page or not cursor or cursor in seen:
                break
            seen.add(cursor)
        raise Unanswered(f"coinbase: {path}: found more promised after {len(seen) + 1} pages, expected it to follow")

    def _fill_pages(self, asked: Mapping[str, Any]) -> Iterator[wire.Row]:
        """Rows of all pages of fills, which have no `has_next`: an empty page ends them, or a cursor that is empty or old."""
        path, seen, cursor = "/orders/historical/fills", {""}, ""
        while len(seen) <= _PAGES_MOST:
            body = self._connection.read(path, {**asked, "cursor": cursor} if cursor else asked)
            page = wire.rows(body, "fills")
            yield from page
            cursor = str(body.get("cursor") or "")
            if not page or cursor in seen:
                return
            seen.add(cursor)
        raise Unanswered(f"coinbase: {path}: found no end after {_PAGES_MOST} pages")


def _permissions(body: Mapping[str, Any]) -> KeyPermissions:
    may = {name: wire.flag(body, name) for name in ("can_view", "can_trade", "can_transfer")}
    return KeyPermissions(**may, portfolio=str(body.get("portfolio_uuid") or ""))


def _hundreds(ids: Sequence[str]) -> Iterator[list[str]]:
    """As many as one call takes."""
    for first in range(0, len(ids), CANCELS):
        yield list(ids[first : first + CANCELS])


def _account_key(row: wire.Row) -> str:
    """What an account is told apart by: pages that shift under us may tell one twice."""
    return str(row.get("uuid") or row.get("currency"))


def _client_id(body: str) -> str:
    told = (read_object(body.encode()) or {}).get("client_order_id")
    if not isinstance(told, str) or not told:
        raise NotSent("coinbase: found a body without client_order_id, expected the text that `body` made")
    return told


def _broken(error: Exception) -> Reply:
    """Which way the call broke. A connect that timed out counts as any other: evidence is cheap."""
    import requests  # noqa: PLC0415 - the command line starts without it

    if isinstance(error, requests.Timeout | TimeoutError):
        return Reply.TIMED_OUT
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return Reply.UNREADABLE
    return Reply.DISCONNECTED


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
