"""What a test or a person may do to the simulated venue beside its API: `/sim/...`, on loopback, without a signature."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from trading.errors import ConfigurationError
from trading.simulator.oracle import truth
from trading.simulator.rest import ENDPOINTS
from trading.simulator.simulation import as_json
from trading.simulator.wire import Budget, Door

COMMANDS = {"clock": "clock", "settings": "settings", "market": "price", "products": "product", "deposit": "deposit"}
"""Path below /sim -> the command that it gives the venue; each is written down and survives a restart."""


def control(door: Door) -> APIRouter:
    """The router of `/sim`."""
    router = APIRouter(prefix="/sim")

    async def oracle() -> Response:
        return Response(as_json(truth(door.sim)), media_type="application/json")

    async def clock() -> Response:
        at = {"at": door.sim.clock.now(), "stands": door.sim.clock.stands_at is not None}
        return Response(as_json(at), media_type="application/json")

    async def list_faults() -> Response:
        return Response(as_json([fault.body() for fault in door.faults.waiting]), media_type="application/json")

    async def clear_faults() -> Response:
        door.faults.waiting.clear()
        return Response("[]", media_type="application/json")

    async def add_faults(request: Request) -> Response:
        asked = await request.json()
        made = [door.faults.add(one, ENDPOINTS) for one in (asked if isinstance(asked, list) else [asked])]
        return Response(as_json([fault.body() for fault in made]), media_type="application/json")

    async def budgets(request: Request) -> Response:
        asked = await request.json()
        door.private, door.public = (Budget(float(asked.get(name, 0))) for name in ("private", "public"))
        door.limit_headers = bool(asked.get("headers"))
        return Response("{}", media_type="application/json")

    router.add_api_route("/oracle", oracle, methods=["GET"])
    router.add_api_route("/clock", clock, methods=["GET"])
    router.add_api_route("/faults", list_faults, methods=["GET"])
    router.add_api_route("/faults", _checked(add_faults), methods=["POST"])
    router.add_api_route("/faults", clear_faults, methods=["DELETE"])
    router.add_api_route("/budgets", _checked(budgets), methods=["POST"])
    for path, command in COMMANDS.items():
        router.add_api_route(f"/{path}", _checked(_command(door, command)), methods=["POST"])
    return router


def _command(door: Door, name: str) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        asked: dict[str, Any] = await request.json()
        return Response(as_json(door.sim.do(name, asked)), media_type="application/json")

    return run


def _checked(run: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """400 with what was wrong, for a body that makes no sense."""

    async def checked(request: Request) -> Response:
        try:
            return await run(request)
        except (ConfigurationError, ValueError, KeyError, TypeError, AttributeError) as error:
            return Response(as_json({"error": str(error)}), 400, media_type="application/json")

    return checked
