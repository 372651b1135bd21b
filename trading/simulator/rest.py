"""The REST endpoints of the simulated venue, named like the SDK's methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trading.money import ZERO, dec, text
from trading.simulator import shapes
from trading.simulator.keys import Key
from trading.simulator.listing import Listing
from trading.simulator.orders import SimFill, SimOrder, round16
from trading.simulator.shapes import Body
from trading.simulator.simulation import Simulation
from trading.simulator.tape import DAY, Bar
from trading.simulator.terms import Refused, read_time

PREFIX = "/api/v3/brokerage"
GRANULARITIES = {
    "ONE_MINUTE": 60, "FIVE_MINUTE": 300, "FIFTEEN_MINUTE": 900, "THIRTY_MINUTE": 1800, "ONE_HOUR": 3600, "TWO_HOUR": 7200,
    "FOUR_HOUR": 14400, "SIX_HOUR": 21600, "ONE_DAY": 86400, "ONE_WEEK": 604800,
}  # fmt: skip
_MOST_CANDLES = 350
_MOST_CANCELS = 100
_CLIENT_ID_LENGTH = 128


class HttpError(Exception):
    """An answer other than 200, with the venue's error body."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": error, "error_details": message, "message": message}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: who, with which parts of the path, query values (repeated keys) and body."""

    key: Key | None
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: Mapping[str, Any]
    sha256: str = ""
    extra: Mapping[str, Any] | None = None
    """What a fault adds to the command."""

    def one(self, name: str, default: str = "") -> str:
        values = self.query.get(name) or [default]
        return values[0]

    def many(self, name: str) -> list[str]:
        """All values of a repeated key; an empty list asks for everything."""
        return [value for value in self.query.get(name, []) if value]

    def count(self, default: int, most: int) -> int:
        """`limit`, silently capped as at the venue. Raises HttpError 400 for anything but a number."""
        asked = self.one("limit", str(default)) or str(default)
        if not asked.isdigit():
            raise HttpError(400, "INVALID_ARGUMENT", f"limit {asked!r} is not a number")
        return min(int(asked) or default, most)

    @property
    def portfolio(self) -> str:
        assert self.key is not None
        return self.key.portfolio


Endpoint = Callable[[Simulation, Call], Body]


@dataclass(frozen=True, slots=True)
class Route:
    """Where an endpoint is, and what a key needs for it: nothing (`public`), `view` or `trade`."""

    name: str
    method: str
    path: str
    answer: Endpoint
    needs: str = "view"


def _listing(sim: Simulation, product: str) -> Listing:
    found = sim.venue.products.get(product)
    if found is None:
        raise HttpError(404, "NOT_FOUND", f"Product {product} not supported")
    return found


def _traded(sim: Simulation, product: str) -> Listing:
    found = _listing(sim, product)
    if found.book not in sim.venue.floor.last:
        raise HttpError(404, "NOT_FOUND", f"Product {product} has not traded yet")
    return found


def _time(sim: Simulation, call: Call) -> Body:
    del call
    return shapes.time_body(sim.clock.signing())


# Market data


def day_bar(sim: Simulation, listing: Listing, now: datetime) -> Bar | None:
    """The last 24 whole hours as one candle."""
    hours = sim.venue.tape.bars(listing.book, int(now.timestamp()) - DAY, int(now.timestamp()), 3600)
    if not hours:
        return None
    high, low = max(bar.high for bar in hours), min(bar.low for bar in hours)
    return Bar(hours[0].start, hours[0].open, high, low, hours[-1].close, sum((bar.volume for bar in hours), ZERO))


def _product_body(sim: Simulation, listing: Listing, now: datetime) -> Body:
    return shapes.product_body(listing, sim.venue.floor, day_bar(sim, listing, now))


def _products(sim: Simulation, call: Call) -> Body:
    asked, now = call.many("product_ids"), sim.now()
    found = [listing for id_, listing in sim.venue.products.items() if not asked or id_ in asked]
    offset = int(call.one("offset", "0") or 0)
    page = found[offset : offset + call.count(1000, 1000)]
    return {"products": [_product_body(sim, listing, now) for listing in page], "num_products": len(found)}


def _product(sim: Simulation, call: Call) -> Body:
    return _product_body(sim, _listing(sim, call.path["product_id"]), sim.now())


def _candles(sim: Simulation, call: Call) -> Body:
    listing, now = _listing(sim, call.path["product_id"]), sim.now()
    seconds = GRANULARITIES.get(call.one("granularity"))
    if seconds is None or not call.one("start").isdigit() or not call.one("end").isdigit():
        raise HttpError(400, "INVALID_ARGUMENT", "start, end (unix seconds) and granularity are required")
    start, end = int(call.one("start")), int(call.one("end"))
    if (end - start) // seconds + 1 > _MOST_CANDLES + 1 or (end - start) // seconds > _MOST_CANDLES:
        raise HttpError(400, "INVALID_ARGUMENT", "number of candles requested should be less than 350")
    bars = sim.venue.tape.bars(listing.book, start, min(end + 1, int(now.timestamp()) + 1), seconds)
    newest_first = bars[::-1][: call.count(_MOST_CANDLES, _MOST_CANDLES)]
    return {"candles": [shapes.candle_body(bar) for bar in newest_first]}


def _trades(sim: Simulation, call: Call) -> Body:
    listing, now = _traded(sim, call.path["product_id"]), sim.now()
    floor = sim.venue.floor
    bid, ask = floor.books[listing.book].best("BUY"), floor.books[listing.book].best("SELL")
    trades = market_trades(sim, listing, now, call.count(100, 100))
    return {"trades": trades, "best_bid": text(bid) if bid else "", "best_ask": text(ask) if ask else ""}


def market_trades(sim: Simulation, listing: Listing, now: datetime, most: int) -> list[Body]:
    """The newest trades of the tape's last hour, newest first; the side is the maker's."""
    end = int(now.timestamp())
    points = [point for point in sim.venue.tape.points(end - 3600, end) if point.product == listing.book]
    return [
        {
            "trade_id": str(point.at), "product_id": listing.id, "price": text(point.price), "size": "0.001",
            "time": shapes.time_text(datetime.fromtimestamp(point.at, now.tzinfo)), "side": ("BUY", "SELL")[point.at // 15 % 2],
            "bid": "", "ask": "", "exchange": "coinbase",
        }
        for point in points[::-1][:most]
    ]  # fmt: skip


def _product_book(sim: Simulation, call: Call) -> Body:
    now = sim.now()
    listing = _traded(sim, call.one("product_id"))
    return shapes.product_book_body(listing, sim.venue.floor, call.count(1000, 1000), now)


def _best_bid_ask(sim: Simulation, call: Call) -> Body:
    now, asked = sim.now(), call.many("product_ids")
    some = [listing for id_, listing in sim.venue.products.items() if not asked or id_ in asked]
    return {"pricebooks": [shapes.book_body(listing, sim.venue.floor, 1, now) for listing in some]}


# Accounts


def _accounts(sim: Simulation, call: Call) -> Body:
    now = sim.now()
    held = sorted(sim.venue.balances(call.portfolio).items())
    place, most = int(call.one("cursor", "0") or 0), call.count(49, 250)
    page = [shapes.account_body(call.portfolio, asset, *amounts, now) for asset, amounts in held[place : place + most]]
    more = place + most < len(held)
    return {"accounts": page, "has_next": more, "cursor": str(place + most) if more else "", "size": len(page)}


def _account(sim: Simulation, call: Call) -> Body:
    now = sim.now()
    for asset, amounts in sim.venue.balances(call.portfolio).items():
        if shapes.account_id(call.portfolio, asset) == call.path["account_uuid"]:
            return {"account": shapes.account_body(call.portfolio, asset, *amounts, now)}
    raise HttpError(404, "NOT_FOUND", "account not found")


def _fees(sim: Simulation, call: Call) -> Body:
    sim.now()
    return shapes.fees_body(sim.venue, call.portfolio)


def _permissions(sim: Simulation, call: Call) -> Body:
    key = call.key
    assert key is not None
    grants = {"can_view": key.can_view, "can_trade": key.can_trade, "can_transfer": key.can_transfer}
    return {**grants, "portfolio_uuid": key.portfolio, "portfolio_type": sim.venue.portfolios[key.portfolio]["type"]}


# Orders


def _create(sim: Simulation, call: Call) -> Body:
    client_id = call.body.get("client_order_id")
    if not isinstance(client_id, str) or not 0 < len(client_id) <= _CLIENT_ID_LENGTH:
        raise HttpError(400, "INVALID_ARGUMENT", f"client_order_id of 1 to {_CLIENT_ID_LENGTH} characters is required")
    command = {"body": dict(call.body), "portfolio": call.portfolio, "sha256": call.sha256, **(call.extra or {})}
    return sim.do("create", command)


def _preview(sim: Simulation, call: Call) -> Body:
    sim.now()
    made = sim.venue.preview(call.body, call.portfolio)
    floor = sim.venue.floor
    if isinstance(made, Refused):
        reason = made.reason if made.reason.startswith("PREVIEW_") else f"PREVIEW_{made.reason}"
        return _preview_body([reason], {})
    listing, rate = sim.venue.products[made.product], sim.venue.settings.taker_fee
    price = made.terms.limit_price or floor.last[listing.book]
    value = made.terms.quote_size / (1 + rate) if made.terms.quote_size else made.left * price
    bid, ask = floor.books[listing.book].best("BUY"), floor.books[listing.book].best("SELL")
    figures = {
        "commission_total": text(round16(value * rate)), "quote_size": text(round16(value)),
        "order_total": text(round16(value * (1 + rate if made.side == "BUY" else 1 - rate))),
        "base_size": text(round16(value / price)), "best_bid": text(bid or ZERO), "best_ask": text(ask or ZERO),
        "preview_id": made.order_id,
    }  # fmt: skip
    return _preview_body([], figures)


def _preview_body(errors: list[str], figures: Mapping[str, str]) -> Body:
    names = ("order_total", "commission_total", "quote_size", "base_size", "best_bid", "best_ask", "preview_id")
    empty = dict.fromkeys(names, "") | {"slippage": "0", "order_margin_total": "0", "leverage": ""}
    return {**empty, **figures, "errs": errors, "warning": [], "is_max": False}


def _cancel(sim: Simulation, call: Call) -> Body:
    ids = call.body.get("order_ids")
    if not isinstance(ids, list) or not 0 < len(ids) <= _MOST_CANCELS:
        raise HttpError(400, "INVALID_ARGUMENT", f"order_ids: from 1 to {_MOST_CANCELS} are allowed")
    return sim.do("cancel", {"order_ids": ids, "portfolio": call.portfolio})


def _edit(sim: Simulation, call: Call) -> Body:
    return sim.do("edit", {"body": dict(call.body), "portfolio": call.portfolio})


def _preview_edit(sim: Simulation, call: Call) -> Body:
    sim.now()
    order = _own_order(sim, call, str(call.body.get("order_id")))
    price, size = (dec(call.body.get(name) or "0", name) for name in ("price", "size"))
    reason = sim.venue.edit_refusal(order, price, size)
    return {"errors": [{"edit_failure_reason": reason}] if reason else [], "order_total": text(price * size)}


def _own_order(sim: Simulation, call: Call, order_id: str) -> SimOrder:
    order = sim.venue.orders.get(order_id)
    if order is None or order.portfolio != call.portfolio or order.visible_at > sim.venue.now:
        raise HttpError(404, "NOT_FOUND", "order with this orderID was not found")
    return order


def _order(sim: Simulation, call: Call) -> Body:
    sim.now()
    return {"order": shapes.order_body(_own_order(sim, call, call.path["order_id"]))}


def _orders(sim: Simulation, call: Call) -> Body:
    """Newest first. The last page carries a cursor too: only `has_next` tells whether there is more."""
    now, statuses = sim.now(), call.many("order_status")
    if "OPEN" in statuses and len(statuses) > 1:
        raise HttpError(400, "INVALID_ARGUMENT", "OPEN cannot be combined with other order statuses")
    asked = _OrderFilter(call, statuses)
    found = [order for order in reversed(sim.venue.orders.values()) if asked.takes(order, call.portfolio, now)]
    place, most = int(call.one("cursor", "0") or 0), call.count(1000, 1000)
    page = found[place : place + most]
    return {
        "orders": [shapes.order_body(order) for order in page], "sequence": "0", "has_next": place + most < len(found),
        "cursor": str(place + len(page)) if page else "",
    }  # fmt: skip


class _OrderFilter:
    """List Orders' filters; dates do not apply to a list of OPEN orders."""

    def __init__(self, call: Call, statuses: list[str]) -> None:
        filters = {
            "order_status": "status", "product_ids": "product", "order_ids": "order_id", "order_types": "type",
            "time_in_forces": "time_in_force", "order_side": "side",
        }  # fmt: skip
        self.wanted = {field: set(call.many(name)) for name, field in filters.items() if call.many(name)}
        dated = statuses != ["OPEN"]
        self.start = _when(call.one("start_date")) if dated else None
        self.end = _when(call.one("end_date")) if dated else None

    def takes(self, order: SimOrder, portfolio: str, now: datetime) -> bool:
        if order.portfolio != portfolio or order.visible_at > now:
            return False
        if (self.start and order.created < self.start) or (self.end and order.created >= self.end):
            return False
        return all(self._value(order, field) in values for field, values in self.wanted.items())

    def _value(self, order: SimOrder, field: str) -> str:
        return str(getattr(order.terms if field in ("type", "time_in_force") else order, field))


def _when(value: str) -> datetime | None:
    try:
        return read_time(value) if value else None
    except ValueError:
        raise HttpError(400, "INVALID_ARGUMENT", f"{value!r} is not a time") from None


def _fills(sim: Simulation, call: Call) -> Body:
    """Newest first; there is no `has_next`, and the last page carries a cursor to an empty one."""
    now = sim.now()
    start, end = _when(call.one("start_sequence_timestamp")), _when(call.one("end_sequence_timestamp"))
    orders, products, trades = (set(call.many(name)) for name in ("order_ids", "product_ids", "trade_ids"))

    def wanted(fill: SimFill) -> bool:
        seen = fill.visible_at <= now and sim.venue.orders[fill.order_id].visible_at <= now
        mine = fill.portfolio == call.portfolio and (not orders or fill.order_id in orders)
        named = (not products or fill.product in products) and (not trades or fill.trade_id in trades)
        return seen and mine and named and not (start and fill.visible_at < start) and not (end and fill.visible_at >= end)

    found = [fill for fill in reversed(sim.venue.floor.fills) if wanted(fill)]
    place, most = int(call.one("cursor", "0") or 0), call.count(100, 1000)
    page = found[place : place + most]
    return {"fills": [shapes.fill_body(fill) for fill in page], "cursor": str(place + len(page)) if page else ""}


# Portfolios


def _portfolios(sim: Simulation, call: Call) -> Body:
    type_ = call.one("portfolio_type")
    listed = [one for one in sim.venue.portfolios.values() if not one["deleted"] and type_ in ("", one["type"])]
    return {"portfolios": listed}


def _known_portfolio(sim: Simulation, uuid: str) -> str:
    if uuid not in sim.venue.portfolios or sim.venue.portfolios[uuid]["deleted"]:
        raise HttpError(404, "NOT_FOUND", "portfolio not found")
    return uuid


def _breakdown(sim: Simulation, call: Call) -> Body:
    sim.now()
    return shapes.breakdown_body(sim.venue, _known_portfolio(sim, call.path["portfolio_uuid"]))


def _create_portfolio(sim: Simulation, call: Call) -> Body:
    return sim.do("portfolio", {"name": str(call.body.get("name", ""))})


def _rename_portfolio(sim: Simulation, call: Call) -> Body:
    return sim.do("rename", {"uuid": _known_portfolio(sim, call.path["portfolio_uuid"]), "name": str(call.body.get("name"))})


def _delete_portfolio(sim: Simulation, call: Call) -> Body:
    uuid = _known_portfolio(sim, call.path["portfolio_uuid"])
    if any(total for total, _ in sim.venue.balances(uuid).values()) or sim.venue.portfolios[uuid]["type"] == "DEFAULT":
        raise HttpError(400, "INVALID_ARGUMENT", "only an empty portfolio that is not the default one can be deleted")
    return sim.do("delete", {"uuid": uuid})


def _move_funds(sim: Simulation, call: Call) -> Body:
    sim.now()
    funds = call.body.get("funds") or {}
    source, target = (_known_portfolio(sim, str(call.body.get(f"{end}_portfolio_uuid"))) for end in ("source", "target"))
    amount, currency = dec(funds.get("value") or "0", "funds"), str(funds.get("currency"))
    if not ZERO < amount <= sim.venue.floor.wallet.available(source, currency):
        raise HttpError(400, "INVALID_ARGUMENT", f"{text(amount)} {currency} is not available")
    return sim.do("move", {"source": source, "target": target, "amount": text(amount), "currency": currency})


ROUTES = (
    Route("get_unix_time", "GET", "/time", _time, "public"),
    Route("get_public_products", "GET", "/market/products", _products, "public"),
    Route("get_public_product", "GET", "/market/products/{product_id}", _product, "public"),
    Route("get_public_candles", "GET", "/market/products/{product_id}/candles", _candles, "public"),
    Route("get_public_market_trades", "GET", "/market/products/{product_id}/ticker", _trades, "public"),
    Route("get_public_product_book", "GET", "/market/product_book", _product_book, "public"),
    Route("get_products", "GET", "/products", _products),
    Route("get_product", "GET", "/products/{product_id}", _product),
    Route("get_candles", "GET", "/products/{product_id}/candles", _candles),
    Route("get_market_trades", "GET", "/products/{product_id}/ticker", _trades),
    Route("get_product_book", "GET", "/product_book", _product_book),
    Route("get_best_bid_ask", "GET", "/best_bid_ask", _best_bid_ask),
    Route("get_accounts", "GET", "/accounts", _accounts),
    Route("get_account", "GET", "/accounts/{account_uuid}", _account),
    Route("create_order", "POST", "/orders", _create, "trade"),
    Route("preview_order", "POST", "/orders/preview", _preview),
    Route("cancel_orders", "POST", "/orders/batch_cancel", _cancel, "trade"),
    Route("edit_order", "POST", "/orders/edit", _edit, "trade"),
    Route("preview_edit_order", "POST", "/orders/edit_preview", _preview_edit),
    Route("list_orders", "GET", "/orders/historical/batch", _orders),
    Route("get_fills", "GET", "/orders/historical/fills", _fills),
    Route("get_order", "GET", "/orders/historical/{order_id}", _order),
    Route("get_transaction_summary", "GET", "/transaction_summary", _fees),
    Route("get_api_key_permissions", "GET", "/key_permissions", _permissions),
    Route("get_portfolios", "GET", "/portfolios", _portfolios),
    Route("create_portfolio", "POST", "/portfolios", _create_portfolio, "trade"),
    Route("move_portfolio_funds", "POST", "/portfolios/move_funds", _move_funds, "transfer"),
    Route("get_portfolio_breakdown", "GET", "/portfolios/{portfolio_uuid}", _breakdown),
    Route("edit_portfolio", "PUT", "/portfolios/{portfolio_uuid}", _rename_portfolio, "trade"),
    Route("delete_portfolio", "DELETE", "/portfolios/{portfolio_uuid}", _delete_portfolio, "trade"),
)
ENDPOINTS = frozenset(route.name for route in ROUTES)
