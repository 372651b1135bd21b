"""The truth about a simulated venue, for tests: no lag, nothing hidden, no page."""

from __future__ import annotations

from typing import Any

from trading.money import ZERO
from trading.simulator.floor import Floor
from trading.simulator.orders import SimFill
from trading.simulator.shapes import order_body
from trading.simulator.simulation import Simulation
from trading.simulator.wallet import FEES


def truth(sim: Simulation) -> dict[str, Any]:
    """Every order, fill, balance and fee, and the SHA-256 of each create body by client id, in the order of arrival."""
    now, venue = sim.now(), sim.venue
    floor = venue.floor
    return {
        "now": now,
        "orders": [order_body(order) | {"visible_at": order.visible_at} for order in venue.orders.values()],
        "fills": [_fill(fill) for fill in floor.fills],
        "balances": {uuid: _balances(floor, uuid) for uuid in venue.portfolios},
        "fees": {asset: floor.wallet.totals[FEES, asset] for asset in floor.wallet.assets(FEES)},
        "received": {client_id: len(bodies) for client_id, bodies in venue.received.items()},
        "bodies": venue.received,
        "orders_by_client_id": venue.by_client_id,
        "refused": venue.refused,
        "prices": floor.last,
    }


def _balances(floor: Floor, portfolio: str) -> dict[str, Any]:
    wallet = floor.wallet
    return {
        asset: {
            "total": wallet.totals[portfolio, asset],
            "hold": wallet.holds.get((portfolio, asset), ZERO),
            "available": wallet.available(portfolio, asset),
        }
        for asset in wallet.assets(portfolio)
    }


def _fill(fill: SimFill) -> dict[str, Any]:
    """Base quantity always in base, whatever the API calls the size of a fill."""
    names = ("entry_id", "trade_id", "order_id", "product", "side", "quantity", "price", "value", "fee", "liquidity")
    return {name: getattr(fill, name) for name in names} | {"at": fill.at, "visible_at": fill.visible_at}
