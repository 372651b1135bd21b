"""The REST endpoints of the simulated venue, named like the SDK's methods: accounts, orders, portfolios."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from trading.money import ZERO, dec, text
from trading.simulator import shapes
from trading.simulator.calls import Call, HttpError, Route
from trading.simulator.judge import edit_refusal
from trading.simulator.market_data import MARKET_ROUTES
from trading.simulator.orders import SimFill, SimOrder, round16
from trading.simulator.shapes import Body
from trading.simulator.simulation import Simulation
from trading.simulator.terms import Refused, read_time

PREFIX = "/api/v3/brokerage"
_MOST_CANCELS = 100
_CLIENT_ID_LENGTH = 128


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
    reason = edit_refusal(sim.venue.floor, order, price, size)
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
    *MARKET_ROUTES,
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
