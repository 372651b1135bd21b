"""Requests on the wire: signature, budget and faults around each endpoint of the API."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from trading.errors import ConfigurationError
from trading.simulator.calls import Call, HttpError, Route
from trading.simulator.faults import HTML, Fault, Faults
from trading.simulator.keys import Key, verified
from trading.simulator.simulation import Simulation

Answer = Callable[[Request], Awaitable[Response]]

_OPEN: dict[tuple[str, int], asyncio.Transport] = {}
"""Open connections by the client's address: what a fault cuts."""


class Wire(H11Protocol):
    """HTTP/1.1 whose connections can be cut from within a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if self.client is not None:
            _OPEN[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            _OPEN.pop(self.client, None)
        super().connection_lost(exc)


class Cut(Response):
    """Cuts the connection: without a word, or after the first half of an answer."""

    def __init__(self, whole: bytes = b"") -> None:
        super().__init__()
        self.whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if self.whole:
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self.whole)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self.whole[: len(self.whole) // 2], "more_body": True})
            _OPEN[tuple(scope["client"])].close()  # what was written still goes out
        else:
            cut(scope)


def cut(scope: MutableMapping[str, Any]) -> None:
    """Ends the connection of a request or WebSocket at once, without a goodbye."""
    transport = _OPEN.pop(tuple(scope["client"]), None)
    if transport is not None:
        transport.abort()


class Budget:
    """A token bucket: `per_second` calls a second and as many at once; 0 is no limit."""

    def __init__(self, per_second: float) -> None:
        self.per_second, self.tokens, self.at = per_second, per_second, 0.0

    def take(self, now: float) -> bool:
        if not self.per_second:
            return True
        self.tokens = min(self.per_second, self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit": f"{self.per_second:g}",
            "x-ratelimit-remaining": str(int(self.tokens)),
            "x-ratelimit-reset": "1",
        }


@dataclass(slots=True, kw_only=True)
class Door:
    """Everything that stands between a request and the venue."""

    sim: Simulation
    keys: Mapping[str, Key]
    hosts: set[str] = field(default_factory=set)
    """The names and ports that a signature may be bound to."""
    faults: Faults = field(default_factory=Faults)
    private: Budget = field(default_factory=lambda: Budget(30))
    public: Budget = field(default_factory=lambda: Budget(10))
    limit_headers: bool = False
    """Whether every answer tells the budget; the live venue's public answers do not."""

    def endpoint(self, route: Route) -> Answer:
        async def answer(request: Request) -> Response:
            try:
                response = await self._answer(route, request)
            except HttpError as error:
                response = json_response(error.body, error.status)
            except ConfigurationError as error:
                response = json_response(HttpError(400, "INVALID_ARGUMENT", str(error)).body, 400)
            if self.limit_headers and not isinstance(response, Cut):
                response.headers.update(self._budget(route).headers())
            return response

        return answer

    def _budget(self, route: Route) -> Budget:
        return self.public if route.needs == "public" else self.private

    async def _answer(self, route: Route, request: Request) -> Response:
        body = await request.body()
        key = self._key(route, request)
        if route.needs != "public" and key is None:
            return Response("Unauthorized\n", 401, media_type="text/plain")
        if key is not None and not getattr(key, f"can_{route.needs}", True):
            raise HttpError(403, "PERMISSION_DENIED", "Missing required scopes")
        if not self._budget(route).take(asyncio.get_running_loop().time()):
            return too_many({})
        call = _call(route, request, key, body)
        return await self._with_faults(route, call)

    def _key(self, route: Route, request: Request) -> Key | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer":
            return None
        uris = {f"{route.method} {host}{request.url.path}" for host in self.hosts}
        return verified(token, self.keys, self.sim.clock.signing(), uris)

    async def _with_faults(self, route: Route, call: Call) -> Response:
        taken = self.faults.take(route.name)
        delays = [fault for fault in taken if fault.kind == "delay"]
        await _sleep([fault for fault in delays if fault.details.get("before")])
        other = next((fault for fault in taken if fault.kind not in ("delay", "hide_order")), None)
        early = self._early(route, call, other) if other is not None else None
        if early is None:
            done = route.answer(self.sim, _with_extra(call, taken))
            await _sleep([fault for fault in delays if not fault.details.get("before")])
            early = _late(other, done) if other is not None else None
            early = early or json_response(done)
        return early

    def _early(self, route: Route, call: Call, fault: Fault) -> Response | None:
        """The answer of a fault that keeps the request from the venue; None when it does not."""
        makers: dict[str, Callable[[], Response]] = {
            "drop": Cut,
            "error_500": lambda: json_response({"error": "INTERNAL", "error_details": "", "message": "internal"}, 500),
            "html_502": lambda: Response(HTML, 502, media_type="text/html"),
            "rate_limited": lambda: too_many(fault.details),
            "unauthorized": lambda: Response("Unauthorized\n", 401, media_type="text/plain"),
            "forbidden": lambda: json_response(HttpError(403, "PERMISSION_DENIED", "Missing required scopes").body, 403),
            "not_found": lambda: json_response(HttpError(404, "NOT_FOUND", "not found").body, 404),
        }
        if fault.kind not in makers:
            return None
        if route.name == "create_order":
            self.sim.do("note_received", {"body": dict(call.body), "sha256": call.sha256})
        return makers[fault.kind]()


def _with_extra(call: Call, taken: list[Fault]) -> Call:
    """What faults change about the command itself: it is written down with it, so that a restart knows it too."""
    extra: dict[str, Any] = {}
    for fault in taken:
        if fault.kind == "hide_order":
            extra["hidden_seconds"] = float(fault.details.get("seconds", 10))
        if fault.kind == "refuse":
            extra["refuse"] = str(fault.details.get("reason", "UNKNOWN_FAILURE_REASON"))
    return Call(key=call.key, path=call.path, query=call.query, body=call.body, sha256=call.sha256, extra=extra)


def _late(fault: Fault, done: dict[str, Any]) -> Response | None:  # noqa: PLR0911  # one answer each
    """The answer of a fault that strikes when the venue has acted; None for one that does not change the answer."""
    whole = _text(done).encode()
    match fault.kind:
        case "accept_then_kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "accept_then_drop":
            return Cut()
        case "half_closed":
            return Cut(whole)
        case "accept_then_500":
            return json_response({"error": "INTERNAL", "error_details": "", "message": "internal"}, 500)
        case "accept_then_502":
            return Response(HTML, 502, media_type="text/html")
        case "accept_then_429":
            return too_many(fault.details)
        case "truncated_json":
            return Response(whole[: len(whole) // 2], media_type="application/json")
        case "null_configuration":
            return json_response(done | {"order_configuration": None})
    return None


async def _sleep(delays: list[Fault]) -> None:
    seconds = sum(float(fault.details.get("seconds", 1)) for fault in delays)
    if seconds:
        await asyncio.sleep(seconds)


def _call(route: Route, request: Request, key: Key | None, body: bytes) -> Call:
    try:
        parsed = json.loads(body) if body else {}
    except ValueError:
        raise HttpError(400, "INVALID_ARGUMENT", "the body is not JSON") from None
    if not isinstance(parsed, dict):
        raise HttpError(400, "INVALID_ARGUMENT", "the body is not an object")
    del route
    query = {name: request.query_params.getlist(name) for name in request.query_params}
    return Call(key=key, path=request.path_params, query=query, body=parsed, sha256=sha256(body).hexdigest())


def _text(body: object) -> str:
    """Without spaces, as the venue writes it: the SDK looks for `"error_details":"Missing required scopes"`."""
    return json.dumps(body, separators=(",", ":"))


def json_response(body: object, status: int = 200) -> Response:
    return Response(_text(body), status, media_type="application/json")


def too_many(details: Mapping[str, Any]) -> Response:
    """429, with or without headers, as JSON or as text: the venue has been seen to do each."""
    headers = Budget(30).headers() | {"x-ratelimit-remaining": "0", "retry-after": "1"} if details.get("headers") else {}
    if details.get("text"):
        return Response("Too many requests", 429, headers, media_type="text/plain")
    body = {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}
    return Response(_text(body), 429, headers, media_type="application/json")
