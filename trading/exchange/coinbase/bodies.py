"""A request as Coinbase takes it: the exact JSON text, sorted and without spaces, so that its hash is one for ever."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from trading.errors import ConfigurationError
from trading.money import canonical, stamp
from trading.orders import OrderType, Request, Side, TimeInForce

CONFIGURATIONS = {
    (OrderType.MARKET, TimeInForce.IOC): "market_market_ioc",
    (OrderType.LIMIT, TimeInForce.IOC): "sor_limit_ioc",
    (OrderType.LIMIT, TimeInForce.GTC): "limit_limit_gtc",
    (OrderType.LIMIT, TimeInForce.GTD): "limit_limit_gtd",
    (OrderType.LIMIT, TimeInForce.FOK): "limit_limit_fok",
    (OrderType.STOP_LIMIT, TimeInForce.GTC): "stop_limit_stop_limit_gtc",
    (OrderType.STOP_LIMIT, TimeInForce.GTD): "stop_limit_stop_limit_gtd",
    (OrderType.BRACKET, TimeInForce.GTC): "trigger_bracket_gtc",
    (OrderType.BRACKET, TimeInForce.GTD): "trigger_bracket_gtd",
}
"""Always by base size: on the venue's grid, and a fill's size then is in base (a buy by quote size is neither)."""
# A stop follows the market: a buy waits for a rise, a sell for a fall.
_STOP_DIRECTION = {Side.BUY: "STOP_DIRECTION_STOP_UP", Side.SELL: "STOP_DIRECTION_STOP_DOWN"}


def create_body(client_order_id: UUID, request: Request) -> str:
    """The text that creates the order. Raises ConfigurationError for terms that Coinbase has no configuration for."""
    return canonical({"client_order_id": client_order_id, **_order(request)})


def preview_body(request: Request) -> str:
    return canonical(_order(request))


def cancel_body(exchange_order_ids: list[str]) -> str:
    return canonical({"order_ids": exchange_order_ids})


def edit_body(exchange_order_id: str, quantity: Decimal, limit_price: Decimal, stop_price: Decimal | None) -> str:
    stop = {} if stop_price is None else {"stop_price": stop_price}
    return canonical({"order_id": exchange_order_id, "size": quantity, "price": limit_price, **stop})


def _order(request: Request) -> dict[str, Any]:
    key = CONFIGURATIONS.get((request.type, request.time_in_force))
    if key is None:
        known = ", ".join(f"{type_} {time}" for type_, time in CONFIGURATIONS)
        raise ConfigurationError(
            f"coinbase: {request.product}: found {request.type} {request.time_in_force}, expected one of {known}"
        )
    return {
        "product_id": request.product,
        "side": request.side.upper(),
        "order_configuration": {key: _terms(request)},
    }


def _terms(request: Request) -> dict[str, Any]:
    terms: dict[str, Any] = {"base_size": request.quantity}
    if request.type is not OrderType.MARKET:
        terms["limit_price"] = _required(request, "limit_price")
    if request.type is OrderType.STOP_LIMIT:
        terms |= {"stop_price": _required(request, "stop_price"), "stop_direction": _STOP_DIRECTION[request.side]}
    if request.type is OrderType.BRACKET:  # its limit takes the profit, its stop ends the loss
        terms["stop_trigger_price"] = _required(request, "stop_price")
    if request.time_in_force is TimeInForce.GTD:
        terms["end_time"] = stamp(_required(request, "expires_at"))
    if request.type is OrderType.LIMIT and request.time_in_force in (TimeInForce.GTC, TimeInForce.GTD):
        terms["post_only"] = request.post_only
    elif request.post_only:
        raise ConfigurationError(
            f"coinbase: {request.product}: found post-only {request.type} {request.time_in_force}, expected a limit that rests"
        )
    return terms


def _required(request: Request, name: str) -> Any:
    value = getattr(request, name)
    if value is None:
        raise ConfigurationError(f"coinbase: {request.product}: {request.type} {request.time_in_force} needs {name}")
    return value
