"""The simulated venue: what it does with a command at a time. The same commands at the same times give the same venue.

That is how it survives being killed: `simulation` writes each command down before it is carried out and answered, and a
venue that starts again carries them all out once more.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from trading.errors import ConfigurationError
from trading.money import ZERO, dec, derived_id, floor_to, utc
from trading.simulator.book import Side, other
from trading.simulator.floor import Floor
from trading.simulator.judge import attached_refusal, edit_refusal, state_refusal, unfunded
from trading.simulator.listing import Listing, listings
from trading.simulator.orders import Settings, SimOrder
from trading.simulator.tape import Point, Tape
from trading.simulator.terms import Refused, Terms, read_terms, refusal
from trading.simulator.wallet import OUTSIDE

MAIN_PORTFOLIO = "11111111-1111-5111-8111-111111111111"

Payload = Mapping[str, Any]
Reply = dict[str, Any]


class Venue:
    """Orders, balances, fills and products of one user, at one time that only goes forward."""

    def __init__(self, tape: Tape, seed: int, balances: Mapping[str, Decimal], at: datetime) -> None:
        self.tape = tape
        self.seed = seed
        self.now = at
        self.pinned: set[str] = set()
        self.floor = Floor(listings(tape.increments()), Settings())
        self.portfolios: dict[str, dict[str, Any]] = {MAIN_PORTFOLIO: _portfolio("Default", MAIN_PORTFOLIO, "DEFAULT")}
        self.received: dict[str, list[str]] = {}
        """Client id -> SHA-256 of every create body that arrived with it, whatever became of it."""
        self.refused: list[dict[str, str]] = []
        self.by_client_id: dict[str, str] = {}
        self.balance_log: deque[tuple[datetime, dict[tuple[str, str], tuple[Decimal, Decimal]]]] = deque(maxlen=2000)
        self._timed: list[tuple[datetime, int, str, str]] = []
        self._count = 0
        for asset, amount in balances.items():
            self.floor.wallet.move(asset, amount, OUTSIDE, MAIN_PORTFOLIO)
        for product in self.floor.books:
            self._catch_up(product)
        self._note_balances()

    @property
    def products(self) -> dict[str, Listing]:
        return self.floor.products

    @property
    def settings(self) -> Settings:
        return self.floor.settings

    @property
    def orders(self) -> dict[str, SimOrder]:
        return self.floor.orders

    # Time

    def advance(self, to: datetime) -> None:
        """Everything that happens until `to`, in its order: prices move, orders fill, expire and are cancelled."""
        if to <= self.now:
            return
        watched = {self.products[order.product].book for order in self.floor.live.values()} - self.pinned
        if watched:
            for point in self.tape.points(int(self.now.timestamp()), int(to.timestamp())):
                if point.product in watched:
                    self._run_timed(utc(point.at))
                    self.now = max(self.now, utc(point.at))
                    self.floor.quote(point, self.now)
                    self._attach_children()
        self._run_timed(to)
        self.now = to
        for product in self.floor.books:
            self._catch_up(product)
        self._check()

    def _catch_up(self, product: str) -> None:
        """To the tape's newest point: where nothing of ours waits, those in between change nothing."""
        point = self.tape.last(product, int(self.now.timestamp()))
        known = self.floor.points.get(product)
        if point is not None and product not in self.pinned and (known is None or point.at > known.at):
            self.floor.quote(point, self.now)

    def _run_timed(self, until: datetime) -> None:
        while self._timed and self._timed[0][0] <= until:
            at, _, status, order_id = heapq.heappop(self._timed)
            self.now = max(self.now, at)
            self.floor.end(self.orders[order_id], status, self.now)
            self._attach_children()

    def _at(self, at: datetime, status: str, order_id: str) -> None:
        self._count += 1
        heapq.heappush(self._timed, (at, self._count, status, order_id))

    # Commands

    def apply(self, name: str, payload: Payload) -> Reply:
        """Carries a command out; what it answers is the body for the wire. Raises ConfigurationError for a senseless one."""
        commands: dict[str, Callable[[Payload], Reply]] = {
            "create": self._create, "cancel": self._cancel, "edit": self._edit, "note_received": self._note_received,
            "settings": self._set, "price": self._price, "product": self._product, "deposit": self._deposit,
            "portfolio": self._portfolio, "rename": self._rename, "delete": self._delete, "move": self._move,
        }  # fmt: skip
        if name not in commands:
            raise ConfigurationError(f"command {name!r}: expected one of {', '.join(commands)}")
        reply = commands[name](payload)
        self._attach_children()
        self._check()
        return reply

    def _check(self) -> None:
        self.floor.wallet.check(dict(self.floor.holds()))
        self._note_balances()

    def _note_received(self, payload: Payload) -> Reply:
        """A create that a fault kept from the venue did arrive all the same."""
        body = payload["body"]
        self.received.setdefault(str(body.get("client_order_id", "")), []).append(_digest(payload))
        return {}

    def _create(self, payload: Payload) -> Reply:
        body = payload["body"]
        client_id = str(body.get("client_order_id", ""))
        self._note_received(payload)
        if client_id in self.by_client_id:
            # The venue's own trap: it says success and echoes the new terms, but the id is the first order's.
            return _success(self.by_client_id[client_id], body)
        made = self._judge(body, payload) if not payload.get("refuse") else Refused(str(payload["refuse"]), "refused by scenario")
        if isinstance(made, Refused):
            self.refused.append({"client_order_id": client_id, "reason": made.reason, "message": made.message})
            return {
                "success": False,
                "error_response": made.fields,
                "order_configuration": body.get("order_configuration"),
            }
        self.by_client_id[client_id] = made.order_id
        self._accept(made)
        return _success(made.order_id, body, made.attached_order_id)

    def preview(self, body: Payload, portfolio: str) -> SimOrder | Refused:
        """The order as it would be taken now, or why not. Nothing changes."""
        return self._judge(body, {"portfolio": portfolio})

    def _judge(self, body: Payload, payload: Payload) -> SimOrder | Refused:
        side, product = body.get("side"), self.products.get(str(body.get("product_id")))
        if side not in ("BUY", "SELL"):
            return Refused("INVALID_SIDE", f"side {side!r}")
        if product is None:
            return Refused("INVALID_PRODUCT_ID", f"Product {body.get('product_id')} not supported")
        terms = read_terms(body.get("order_configuration"), side)
        if isinstance(terms, Refused):
            return terms
        if product.book not in self.floor.last:
            return Refused("INVALID_NO_LIQUIDITY", f"{product.id} has not traded yet")
        order = self._order(body, payload, side, terms)
        return (
            refusal(terms, side, product, self.now, self.floor.last[product.book])
            or state_refusal(self.floor, order, product)
            or unfunded(self.floor, order, product)
            or attached_refusal(order)
            or order
        )

    def _order(self, body: Payload, payload: Payload, side: Side, terms: Terms) -> SimOrder:
        hidden = payload.get("hidden_seconds", self.settings.hidden_seconds)
        attached = body.get("attached_order_configuration")
        order_id = str(derived_id("sim order", str(self.seed), str(len(self.orders))))
        return SimOrder(
            order_id=order_id, client_order_id=str(body.get("client_order_id", "")), product=str(body["product_id"]),
            portfolio=payload["portfolio"], side=side, terms=terms, configuration=body["order_configuration"],
            created=self.now, updated=self.now, visible_at=self.now + timedelta(seconds=float(hidden)), attached=attached,
            attached_order_id=str(derived_id("sim attached", order_id)) if attached else "",
        )  # fmt: skip

    def _accept(self, order: SimOrder) -> None:
        self.orders[order.order_id] = self.floor.live[order.order_id] = order
        self.floor.rehold(order)
        if order.terms.end_time is not None:
            self._at(order.terms.end_time, "EXPIRED", order.order_id)
        self.floor.enter(order, self.now)

    def _attach_children(self) -> None:
        """A parent that is done and has traded sets its bracket to work, over what it has traded."""
        while self.floor.ended_parents:
            parent = self.floor.ended_parents.pop(0)
            if parent.filled_size:
                self._attach(parent)

    def _attach(self, parent: SimOrder) -> None:
        side = other(parent.side)
        size = parent.filled_size
        configuration = {key: {**asked, "base_size": str(size)} for key, asked in (parent.attached or {}).items()}
        terms = read_terms(configuration, side)
        if isinstance(terms, Refused):
            return
        child = SimOrder(
            order_id=parent.attached_order_id, client_order_id=str(derived_id("sim attached client", parent.order_id)),
            product=parent.product, portfolio=parent.portfolio, side=side, terms=terms, configuration=configuration,
            created=self.now, updated=self.now, visible_at=self.now, originating_order_id=parent.order_id,
        )  # fmt: skip
        self._accept(child)

    def _cancel(self, payload: Payload) -> Reply:
        asked = [str(id_) for id_ in payload["order_ids"]]
        return {"results": [self._cancel_one(id_, payload["portfolio"]) for id_ in asked]}

    def _cancel_one(self, order_id: str, portfolio: str) -> Reply:
        order = self.orders.get(order_id)
        reason = ""
        if order is None or order.portfolio != portfolio or order.visible_at > self.now:
            reason = "UNKNOWN_CANCEL_ORDER"
        elif order.status == "FILLED":
            reason = "ORDER_IS_FULLY_FILLED"
        elif order.done:
            reason = "INVALID_CANCEL_REQUEST"
        elif order.status == "CANCEL_QUEUED":
            reason = "DUPLICATE_CANCEL_REQUEST"
        elif self.settings.cancel_lag_seconds:
            order.status = "CANCEL_QUEUED"
            self.floor.changed.append(order_id)
            self._at(self.now + timedelta(seconds=float(self.settings.cancel_lag_seconds)), "CANCELLED", order_id)
        else:
            order.cancel_message = "User requested cancel"
            self.floor.end(order, "CANCELLED", self.now)
        return {"success": not reason, "failure_reason": reason or "UNKNOWN_CANCEL_FAILURE_REASON", "order_id": order_id}

    def _edit(self, payload: Payload) -> Reply:
        body = payload["body"]
        order = self.orders.get(str(body.get("order_id")))
        if order is None or order.portfolio != payload["portfolio"]:
            return self._edited("ORDER_NOT_FOUND")
        price, size = dec(body.get("price") or "0", "price"), dec(body.get("size") or "0", "size")
        reason = edit_refusal(self.floor, order, price, size)
        if reason:
            return self._edited(reason)
        self._replace(order, price, size)
        return self._edited("")

    def _edited(self, reason: str) -> Reply:
        named = {
            "edit_failure_reason": reason or "UNKNOWN_EDIT_ORDER_FAILURE_REASON",
            "preview_failure_reason": "UNKNOWN_PREVIEW_FAILURE_REASON",
        }
        errors: object = named if self.settings.edit_errors == "object" else [named] if reason else []
        return {"success": not reason, "errors": errors}

    def _replace(self, order: SimOrder, price: Decimal, size: Decimal) -> None:
        """New terms at the end of the queue; the history keeps the last five."""
        self.floor.books[self.products[order.product].book].remove(order.order_id)
        stamp = self.now.isoformat().replace("+00:00", "Z")
        order.edits = [*order.edits, {"price": str(price), "size": str(size), "replace_accept_timestamp": stamp}][-5:]
        order.terms = replace(order.terms, limit_price=price, base_size=size)
        asked = dict(order.configuration[order.terms.key]) | {"limit_price": str(price), "base_size": str(size)}
        order.configuration = {order.terms.key: asked}
        self.floor.rehold(order)
        self.floor.enter(order, self.now)

    def _set(self, payload: Payload) -> Reply:
        if self.floor.live and {"maker_fee", "taker_fee"} & set(payload):
            raise ConfigurationError("fees change only while no order is open: open ones hold their fee already")
        self.floor.settings = self.settings.changed(payload)
        return {}

    def _price(self, payload: Payload) -> Reply:
        """Pins a book at a price until it is released with a price of null: the tape moves it no more."""
        product = self.products.get(str(payload["product_id"]))
        if product is None:
            raise ConfigurationError(f"product {payload['product_id']!r} is not listed")
        if payload.get("price") is None:
            self.pinned.discard(product.book)
            return {}
        price = floor_to(dec(payload["price"], "price"), product.price_increment)
        if price <= 0:
            raise ConfigurationError(f"price: found {payload['price']!r}, expected at least {product.price_increment}")
        self.pinned.add(product.book)
        self.floor.quote(Point(int(self.now.timestamp()), product.book, price), self.now)
        return {}

    def _product(self, payload: Payload) -> Reply:
        product = self.products.get(str(payload["product_id"]))
        if product is None:
            raise ConfigurationError(f"product {payload['product_id']!r} is not listed")
        changes = {name: value for name, value in payload.items() if name != "product_id"}
        self.products[product.id] = product.changed(changes)
        return {}

    def _deposit(self, payload: Payload) -> Reply:
        """From outside, or with a negative amount back to it."""
        portfolio, currency = payload.get("portfolio", MAIN_PORTFOLIO), str(payload["currency"])
        amount = dec(payload["amount"], "amount")
        if portfolio not in self.portfolios or -amount > self.floor.wallet.available(portfolio, currency):
            raise ConfigurationError(f"deposit: {amount} {currency} to {portfolio!r}: it does not exist or has not that much")
        self.floor.wallet.move(currency, amount, OUTSIDE, portfolio)
        return {}

    def _portfolio(self, payload: Payload) -> Reply:
        uuid = str(derived_id("sim portfolio", str(self.seed), str(len(self.portfolios))))
        self.portfolios[uuid] = _portfolio(str(payload["name"]), uuid, "CONSUMER")
        return {"portfolio": self.portfolios[uuid]}

    def _rename(self, payload: Payload) -> Reply:
        portfolio = self.portfolios[payload["uuid"]]
        portfolio["name"] = str(payload["name"])
        return {"portfolio": portfolio}

    def _delete(self, payload: Payload) -> Reply:
        self.portfolios[payload["uuid"]]["deleted"] = True
        return {}

    def _move(self, payload: Payload) -> Reply:
        self.floor.wallet.move(payload["currency"], dec(payload["amount"], "amount"), payload["source"], payload["target"])
        return {"source_portfolio_uuid": payload["source"], "target_portfolio_uuid": payload["target"]}

    # Balances

    def _note_balances(self) -> None:
        wallet = self.floor.wallet
        amounts = {key: (total, wallet.holds.get(key, ZERO)) for key, total in wallet.totals.items()}
        state = {key: both for key, both in amounts.items() if key[0] in self.portfolios}
        if not self.balance_log or self.balance_log[-1][1] != state:
            self.balance_log.append((self.now, state))

    def balances(self, portfolio: str) -> dict[str, tuple[Decimal, Decimal]]:
        """Asset -> (total, hold) as the API shows it: `balance_lag_seconds` late."""
        seen = self.now - timedelta(seconds=float(self.settings.balance_lag_seconds))
        states = [state for at, state in self.balance_log if at <= seen] or [self.balance_log[0][1]]
        return {asset: amounts for (owner, asset), amounts in states[-1].items() if owner == portfolio}


def _portfolio(name: str, uuid: str, type_: str) -> dict[str, Any]:
    return {"name": name, "uuid": uuid, "type": type_, "deleted": False}


def _digest(payload: Payload) -> str:
    return str(payload.get("sha256") or sha256(repr(payload["body"]).encode()).hexdigest())


def _success(order_id: str, body: Payload, attached_order_id: str = "") -> Reply:
    return {
        "success": True,
        "success_response": {
            "order_id": order_id, "product_id": body.get("product_id"), "side": body.get("side"),
            "client_order_id": body.get("client_order_id"), "attached_order_id": attached_order_id,
        },
        "order_configuration": body.get("order_configuration"),
    }  # fmt: skip
