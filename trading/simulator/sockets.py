"""The WebSocket side of the simulated venue: subscriptions, sequence numbers, heartbeats, and faults among the messages."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import datetime
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from trading.simulator import channels
from trading.simulator.faults import Fault
from trading.simulator.keys import Key, verified
from trading.simulator.shapes import USER_ID
from trading.simulator.wire import Door, cut

_SNAPSHOT_BATCH = 50
_PATIENCE_SECONDS = 5
_PUMP_SECONDS = 0.05


class Hub:
    """All connections, and the pump that brings them what happens."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.connections: set[Connection] = set()
        self.silent_until = 0.0
        self.counter = 0

    async def serve(self, socket: WebSocket) -> None:
        """One connection from its opening to its end."""
        await socket.accept()
        connection = Connection(self, socket)
        try:
            await connection.listen()
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client has gone, or a fault has closed the connection under it
        finally:
            self.connections.discard(connection)

    async def pump(self) -> None:
        """Runs as long as the server: changes at once, feeds at their pace, heartbeats every second."""
        loop, beat = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(_PUMP_SECONDS)
            if not self.connections:
                self.door.sim.venue.floor.changed.clear()
                continue
            now, at = self.door.sim.now(), loop.time()
            await self._faults(at)
            changed = list(self.door.sim.venue.floor.changed)
            self.door.sim.venue.floor.changed.clear()
            beats = at >= beat
            if beats:
                beat, self.counter = at + 1, self.counter + 1
            for connection in list(self.connections):
                with suppress(WebSocketDisconnect, RuntimeError):
                    await connection.tell(changed, now, at, beats=beats)

    async def _faults(self, at: float) -> None:
        silence = self.door.faults.take_socket("ws_silence", "*")
        if silence is not None:
            self.silent_until = at + float(silence.details.get("seconds", 10))
        closing = self.door.faults.take_socket("ws_close", "*")
        if closing is not None:
            for connection in list(self.connections):
                await connection.close(closing)


class Connection:
    """One client: its subscriptions, its sequence numbers, and what it was last told."""

    def __init__(self, hub: Hub, socket: WebSocket) -> None:
        self.hub, self.socket = hub, socket
        self.subscriptions: dict[str, set[str]] = {}
        self.key: Key | None = None
        self._sequence = 0
        self._late: str | None = None
        self._told: dict[tuple[str, str], Any] = {}
        self._next: dict[tuple[str, str], float] = {}

    async def listen(self) -> None:
        """Takes subscriptions; who asks for nothing within five seconds is disconnected."""
        try:
            first = await asyncio.wait_for(self.socket.receive_text(), _PATIENCE_SECONDS)
        except TimeoutError:
            await self.socket.close(1008)
            return
        self.hub.connections.add(self)
        await self._handle(first)
        while True:
            await self._handle(await self.socket.receive_text())

    async def close(self, fault: Fault) -> None:
        self.hub.connections.discard(self)
        if fault.details.get("abort"):
            cut(self.socket.scope)
        else:
            await self.socket.close(int(fault.details.get("code", 1000)))

    async def _handle(self, text: str) -> None:
        try:
            asked = json.loads(text)
            kind, channel = asked["type"], asked["channel"]
        except (ValueError, KeyError, TypeError):
            await self._error("malformed message")
            return
        products = [str(product) for product in asked.get("product_ids") or []]
        problem = self._problem(kind, channel, products, asked.get("jwt"))
        if problem:
            await self._error(problem)
        elif kind == "unsubscribe":
            await self._unsubscribe(channel, set(products))
        else:
            await self._subscribe(channel, products)

    def _problem(self, kind: str, channel: str, products: list[str], token: str | None) -> str:
        door = self.hub.door
        if kind not in ("subscribe", "unsubscribe"):
            return f"unknown message type {kind}"
        if channel not in channels.CHANNELS:
            return f"unknown channel {channel}"
        key = verified(token, door.keys, door.sim.clock.signing(), None) if token else None
        if (token or channel in channels.NEEDS_KEY) and (key is None or not key.can_view):
            return "authentication failure"
        self.key = key or self.key
        unknown = [product for product in products if product not in door.sim.venue.products]
        return f"unknown product {', '.join(unknown)}" if unknown else ""

    async def _error(self, message: str) -> None:
        await self.socket.send_text(json.dumps({"type": "error", "message": message}))

    async def _unsubscribe(self, channel: str, products: set[str]) -> None:
        left = self.subscriptions.pop(channel, set()) - products
        if products and left:
            self.subscriptions[channel] = left
        self._told = {told: value for told, value in self._told.items() if told[0] != channel or told[1] in left}
        await self._acknowledge()

    async def _subscribe(self, channel: str, products: list[str]) -> None:
        self.subscriptions.setdefault(channel, set()).update(products)
        await self._acknowledge()
        if channel == "user":
            await self._user_snapshot()

    async def _acknowledge(self) -> None:
        special = {"heartbeats": ["heartbeats"], "user": [USER_ID], "futures_balance_summary": [USER_ID]}
        listed = {channel: special.get(channel) or sorted(products) for channel, products in self.subscriptions.items()}
        await self._send("subscriptions", [{"subscriptions": listed}], self.hub.door.sim.now())

    async def _user_snapshot(self) -> None:
        """Open orders in batches of fifty; an empty batch when there are none."""
        sim = self.hub.door.sim
        now = sim.now()
        mine = [order for order in sim.venue.floor.live.values() if self._sees(order.order_id, now)]
        for place in range(0, max(len(mine), 1), _SNAPSHOT_BATCH):
            await self._send("user", [channels.user_event("snapshot", mine[place : place + _SNAPSHOT_BATCH])], now)

    def _sees(self, order_id: str, now: datetime) -> bool:
        order = self.hub.door.sim.venue.orders[order_id]
        products = self.subscriptions.get("user", set())
        mine = self.key is not None and order.portfolio == self.key.portfolio
        return mine and order.visible_at <= now and (not products or order.product in products)

    async def tell(self, changed: list[str], now: datetime, at: float, *, beats: bool) -> None:
        """What has changed since the last time."""
        if at < self.hub.silent_until:
            return
        if beats and "heartbeats" in self.subscriptions:
            moment = f"{now:%Y-%m-%d %H:%M:%S.%f}000 +0000 UTC m=+{at:.9f}"
            await self._send("heartbeats", [{"current_time": moment, "heartbeat_counter": self.hub.counter}], now)
        if "user" in self.subscriptions:
            orders = self.hub.door.sim.venue.orders
            for order_id in changed:
                if self._sees(order_id, now):
                    await self._send("user", [channels.user_event("update", [orders[order_id]])], now)
        for channel, (feed, every) in channels.FEEDS.items():
            for product in sorted(self.subscriptions.get(channel, ())):
                if self._due(channel, product, at, every):
                    listing = self.hub.door.sim.venue.products[product]
                    await self._tell_feed(channel, product, feed(self.hub.door.sim, listing, now), now)
        for product in sorted(self.subscriptions.get("level2", ())):
            await self._tell_levels(product, now)

    def _due(self, channel: str, product: str, at: float, every: float) -> bool:
        if at < self._next.get((channel, product), 0.0):
            return False
        self._next[channel, product] = at + every
        return True

    async def _tell_feed(self, channel: str, product: str, body: dict[str, Any], now: datetime) -> None:
        told = self._told.get((channel, product))
        if body == told:
            return
        self._told[channel, product] = body
        await self._send(channel, [{"type": "snapshot" if told is None else "update", **body}], now)

    async def _tell_levels(self, product: str, now: datetime) -> None:
        listing = self.hub.door.sim.venue.products[product]
        told, levels = self._told.get(("level2", product)), channels.levels(self.hub.door.sim, listing)
        updates = channels.level_updates(told or {}, levels, now)
        if updates:
            self._told["level2", product] = levels
            kind = "snapshot" if told is None else "update"
            await self._send("l2_data", [{"type": kind, "product_id": listing.book, "updates": updates}], now)

    async def _send(self, channel: str, events: list[dict[str, Any]], now: datetime) -> None:
        """Numbers run per connection over all channels, acknowledgements included."""
        stamp = f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z"
        message = {"channel": channel, "client_id": "", "timestamp": stamp, "sequence_num": self._sequence, "events": events}
        self._sequence += 1
        text, faults = json.dumps(message), self.hub.door.faults
        if faults.take_socket("ws_drop", channel):
            return
        if self._late is None and faults.take_socket("ws_out_of_order", channel):
            self._late = text
            return
        copies = 2 if faults.take_socket("ws_duplicate", channel) else 1
        late, self._late = self._late, None
        for one in [text] * copies + ([late] if late else []):
            await self.socket.send_text(one)
