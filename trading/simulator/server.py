"""The simulated Coinbase as a process: TLS on loopback, ready when it has printed where it is."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from trading.simulator.control import control
from trading.simulator.keys import load_keys, make_certificates, make_keys
from trading.simulator.rest import PREFIX, ROUTES
from trading.simulator.simulation import Opening, Simulation
from trading.simulator.sockets import Hub
from trading.simulator.wire import Budget, Door, Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to serve. `port` 0 is a free one; `keys` is the venue's list of keys, None for those made in the home."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 0
    keys: Path | None = None
    opening: Opening = field(default_factory=Opening)
    private_per_second: float = 30
    public_per_second: float = 10


def application(door: Door, hub: Hub) -> FastAPI:
    """The ASGI application: the API under its prefix, the control endpoints and the WebSocket beside it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for route in ROUTES:
        app.add_api_route(PREFIX + route.path, door.endpoint(route), methods=[route.method])
    app.include_router(control(door))
    for path in ("/", "/ws"):
        app.add_api_websocket_route(path, hub.serve)
    return app


READY = "ready.json"
"""The ready line, in the home as well: a rehearsal finds address, CA and keys there."""


def serve(options: Options, wall: Callable[[], datetime], ready: Callable[[dict[str, Any]], None]) -> None:
    """Serves until the process is told to stop; `ready` gets the one line that a client needs.

    Raises ConfigurationError when the home, the keys or the prices cannot be used.
    """
    simulation = Simulation(options.home, options.opening, wall)
    made = make_keys(options.home)
    authority, certificate = make_certificates(options.home, options.host, wall())
    door = Door(
        sim=simulation, keys=load_keys(options.keys or options.home / "keys.json"),
        private=Budget(options.private_per_second), public=Budget(options.public_per_second),
    )  # fmt: skip

    def announce(host: str) -> None:
        line = _ready_line(host, authority, made)
        (options.home / READY).write_text(json.dumps(line))
        ready(line)

    with suppress(KeyboardInterrupt):  # Ctrl-C is how it is stopped, and the server has ended in order by then
        asyncio.run(_run(door, options, certificate, announce))


def _ready_line(host: str, authority: Path, made: dict[str, Path]) -> dict[str, Any]:
    keys = {name: str(file.resolve()) for name, file in made.items()}
    return {
        "url": f"https://{host}", "host": host, "ws_url": f"wss://{host}", "ca_file": str(authority.resolve()),
        "key_file": keys["trade"], "keys": keys,
    }  # fmt: skip


async def _run(door: Door, options: Options, certificate: Path, ready: Callable[[str], None]) -> None:
    hub = Hub(door)
    config = uvicorn.Config(
        application(door, hub), host=options.host, port=options.port, http=Wire, ws="websockets-sansio", log_level="critical",
        lifespan="off", access_log=False, timeout_keep_alive=75, ssl_certfile=str(certificate),
        ssl_version=ssl.PROTOCOL_TLS_SERVER, server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started and not serving.done():  # noqa: ASYNC110  # uvicorn tells of its start by this flag alone
        await asyncio.sleep(0.01)
    if server.started:
        port = server.servers[0].sockets[0].getsockname()[1]
        door.hosts |= {f"{name}:{port}" for name in ("127.0.0.1", "localhost", options.host)}
        ready(f"{options.host}:{port}")
    pump = asyncio.ensure_future(hub.pump())
    await asyncio.wait([serving, pump], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    if pump.done():
        pump.result()  # a pump that broke ends the server, loudly
    pump.cancel()
    door.sim.log.close()


def print_ready(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201  # the one line of a process that others wait for
