"""A scripted venue as a process of its own: JSON lines over a loopback socket, matching that is trivial on purpose.

Market orders fill at once at a scripted price, limit orders rest until they are told to trade. Every change is appended to a
journal before it is answered, so killing the venue loses nothing. One process serves many accounts that know nothing of each
other: each run of the fault suite opens its own. `python -m tests.crash.venue JOURNAL PORT_FILE`; the client is `exchange.py`.

A submit takes the next word of the account's script (none left: `ack`):

    ack        takes the order and says so          refuse        its structured "no"
    drop       takes it, then cuts the connection   500           takes it, then answers 500
    garbage    takes it, answers no JSON            slow          takes it, answers after the client has given up
    hide:N     takes it, cuts, and leaves it out of the next N order lists
    lost       cuts the connection without it       throttle      answers 429 without it
    terms      takes half of the quantity           unauthorised  answers 401 without it
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

FEE = Decimal("0.0012345678901234")
"""Ratio of the notional; each fee is told with 16 decimals."""
FEE_UNIT = Decimal("1e-16")
SLOW_SECONDS = 0.6
PAGE = 2

Row = dict[str, Any]


@dataclass
class Account:
    """One account: what it was sent (the oracle's evidence), and what came of it."""

    duplicates: str = "replays"
    prices: dict[str, str] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    received: Counter[str] = field(default_factory=Counter)
    orders: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    movements: list[Row] = field(default_factory=list)
    funded: dict[str, list[str]] = field(default_factory=dict)
    hidden: dict[str, int] = field(default_factory=dict)
    """Exchange order id -> lists that it is still left out of, with all that it did."""
    outages: int = 0
    """Reads that are not answered."""
    reads: int = 0

    # ---- what changes the account: each takes the arguments of one journal line

    def open(self, *, duplicates: str, prices: dict[str, str]) -> None:
        self.duplicates, self.prices = duplicates, self.prices | prices

    def plan(self, *, script: list[str]) -> None:
        self.script = list(script)

    def fail_reads(self, *, count: int) -> None:
        self.outages = count

    def fund(self, *, asset: str, amount: str, reference: str) -> None:
        self.funded.setdefault(reference, [asset, amount])

    def submit(self, *, body: Row, at: str) -> tuple[str, Row]:
        """(how the reply goes wrong, the reply)."""
        id_ = body["client_order_id"]
        self.received[id_] += 1
        word, _, times = (self.script.pop(0) if self.script else "ack").partition(":")
        first = next((order for order in self.orders if order["client_order_id"] == id_), None)
        if first is not None and self.duplicates != "unaware":
            return word, {"order": first} if self.duplicates == "replays" else {"code": "DUPLICATE_CLIENT_ORDER_ID"}
        if word in ("lost", "refuse", "throttle", "unauthorised"):
            return word, {"code": "INSUFFICIENT_FUND"}
        order = self._take(body, at, halved=word == "terms")
        if word == "hide":
            self.hidden[order["exchange_order_id"]] = int(times)
        return word, {"order": order}

    def _take(self, body: Row, at: str, *, halved: bool) -> Row:
        quantity = Decimal(body["quantity"]) / (2 if halved else 1)
        order = {
            "exchange_order_id": f"X{len(self.orders) + 1}", "client_order_id": body["client_order_id"],
            "product": body["product"], "side": body["side"], "quantity": f"{quantity:f}",
            "limit_price": body["limit_price"], "status": "open",
            "filled": "0", "fees": "0", "at": at, "other_terms": halved,
        }  # fmt: skip
        self.orders.append(order)
        if body["type"] == "market":
            half = Decimal(f"{quantity / 2:.8f}")  # two fills of one time: the edge of a page falls between them
            for part in (half, quantity - half):
                self.trade(order=order["exchange_order_id"], quantity=f"{part:f}", price=self.prices[body["product"]], at=at)
        return order

    def trade(self, *, order: str, quantity: str, price: str, at: str, fee: str | None = None, in_quote: bool = False) -> Row:
        """A fill of an order, of whatever state: a cancel that comes too late changes nothing."""
        found = self._order(order)
        with localcontext(prec=60):
            notional = Decimal(quantity) * Decimal(price)
            charged = (notional * FEE).quantize(FEE_UNIT) if fee is None else Decimal(fee)
        entry = f"{order}-E{len(self.fills) + 1}"
        return self._fill(
            found, Decimal(quantity), Decimal(price), charged, at, entry=entry, trade=f"T{entry}", in_quote=in_quote
        )

    def adjust(self, *, entry: str, kind: str, at: str, price: str | None = None) -> Row:
        """Takes a fill back (`reversal`), or says that its price was another one (`correction`)."""
        fill = next(fill for fill in self.fills if fill["entry_id"] == entry)
        order, quantity = self._order(fill["exchange_order_id"]), Decimal(fill["quantity"])
        fill["standing"] = False
        self._sum_up(order)
        return self._fill(
            order, quantity, Decimal(price or fill["price"]), Decimal(fill["fee"]), at, entry=f"{entry}-{kind}",
            trade=fill["trade_id"], kind=kind,
        )  # fmt: skip

    def _fill(
        self, order: Row, quantity: Decimal, price: Decimal, fee: Decimal, at: str, *, entry: str, trade: str = "",
        kind: str = "trade", in_quote: bool = False,
    ) -> Row:  # fmt: skip
        fill = {
            "entry_id": entry, "trade_id": trade or f"T{entry}", "exchange_order_id": order["exchange_order_id"],
            "client_order_id": order["client_order_id"], "product": order["product"], "side": order["side"],
            "quantity": f"{quantity:f}", "size": f"{quantity * price:f}" if in_quote else f"{quantity:f}", "in_quote": in_quote,
            "price": f"{price:f}", "fee": f"{fee:f}", "at": at, "kind": kind, "standing": kind != "reversal",
        }  # fmt: skip
        self.fills.append(fill)
        self._sum_up(order)
        return fill

    def _sum_up(self, order: Row) -> None:
        standing = [fill for fill in self.fills if fill["standing"] and fill["exchange_order_id"] == order["exchange_order_id"]]
        filled = sum((Decimal(fill["quantity"]) for fill in standing), Decimal(0))
        order["filled"] = f"{filled:f}"
        order["fees"] = f"{sum((Decimal(fill['fee']) for fill in standing), Decimal(0)):f}"
        if order["status"] == "open" and filled == Decimal(order["quantity"]):
            order["status"] = "filled"

    def cancel(self, *, orders: list[str], race: bool = False) -> Row:
        """`race`: the order trades in full while its cancel is on the way."""
        refused = {}
        for id_ in orders:
            order = self._order(id_)
            if race and order["status"] == "open":
                rest = Decimal(order["quantity"]) - Decimal(order["filled"])
                self.trade(order=id_, quantity=f"{rest:f}", price=order["limit_price"], at=order["at"])
            if order["status"] == "open":
                order["status"] = "cancelled"
            elif order["status"] != "cancelled":
                refused[id_] = "CANNOT_CANCEL_FILLED_ORDER"
        return {"refused": refused}

    def strange(self, *, body: Row, at: str) -> Row:
        """An order that somebody else made in this account."""
        return self._take(body, at, halved=False)

    def move(self, *, movement: Row) -> None:
        self.movements.append(movement)

    def look(self) -> None:
        """One list of orders was asked for."""
        self.hidden = {id_: left - 1 for id_, left in self.hidden.items() if left > 1}

    # ---- what is told of it

    def shown_orders(self) -> list[Row]:
        return [order for order in self.orders if order["exchange_order_id"] not in self.hidden]

    def shown_fills(self) -> list[Row]:
        return [fill for fill in self.fills if fill["exchange_order_id"] not in self.hidden]

    def balances(self, fills: list[Row]) -> dict[str, str]:
        sums: dict[str, Decimal] = {}

        def add(asset: str, amount: Decimal) -> None:
            sums[asset] = sums.get(asset, Decimal(0)) + amount

        with localcontext(prec=60):
            for asset, amount in self.funded.values():
                add(asset, Decimal(amount))
            for fill in fills:
                if not fill["standing"]:
                    continue
                base, quote = fill["product"].split("-")
                sign = 1 if fill["side"] == "buy" else -1
                add(base, sign * Decimal(fill["quantity"]))
                add(quote, -sign * Decimal(fill["quantity"]) * Decimal(fill["price"]) - Decimal(fill["fee"]))
            for moved in self.movements:
                add(moved["asset"], Decimal(moved["amount"]) * (-1 if moved["kind"] == "withdrawal" else 1))
        return {asset: f"{amount:f}" for asset, amount in sums.items()}

    def oracle(self) -> Row:
        """Everything, hidden or not."""
        return {
            "received": dict(self.received), "orders": self.orders, "fills": self.fills, "balances": self.balances(self.fills),
            "reads": self.reads,
        }  # fmt: skip

    def _order(self, id_: str) -> Row:
        return next(order for order in self.orders if order["exchange_order_id"] == id_)


CHANGES = frozenset({"open", "plan", "fail_reads", "fund", "submit", "trade", "adjust", "cancel", "strange", "move", "look"})


class Exchange:
    """All accounts, and the journal that they are made from."""

    def __init__(self, journal: Path) -> None:
        self.accounts: dict[str, Account] = {}
        self.lock = threading.Lock()
        if journal.exists():
            for line in journal.read_text().splitlines():
                self._apply(json.loads(line))
        self.journal = journal.open("a")

    def _apply(self, asked: Row) -> Any:
        account = self.accounts.setdefault(asked["account"], Account())
        return getattr(account, asked["op"])(**asked["with"])

    def answer(self, asked: Row) -> tuple[str, Any]:
        """(how the reply goes wrong, the reply)."""
        with self.lock:
            if asked["op"] in CHANGES:
                self.journal.write(json.dumps(asked) + "\n")
                self.journal.flush()  # it is the process that dies, not the machine
                found = self._apply(asked)
                return found if asked["op"] == "submit" else ("ack", found)
            account = self.accounts[asked["account"]]
            if asked["op"] == "oracle":
                return "ack", account.oracle()
            account.reads += 1
            if account.outages:
                account.outages -= 1
                return "lost", None
            return "ack", self._read(account, asked["op"], **asked["with"])

    def _read(self, account: Account, what: str, since: str = "", page: int = 0) -> Any:
        if what == "orders":
            return [order for order in account.shown_orders() if order["at"] >= since or order["status"] == "open"]
        if what == "fills":
            fills = [fill for fill in account.shown_fills() if fill["at"] >= since]
            fills.sort(key=lambda fill: fill["at"], reverse=True)  # the newest page first, as venues do
            start = max(page * PAGE - 1, 0)  # the last one of a page is the first one of the next
            return {"fills": fills[start : (page + 1) * PAGE], "more": (page + 1) * PAGE < len(fills)}
        if what == "movements":
            return [moved for moved in account.movements if moved["happened_at"] >= since]
        return account.balances(account.shown_fills())


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            word, reply = self.server.exchange.answer(json.loads(line))  # type: ignore[attr-defined]
            if word in ("drop", "hide", "lost"):
                return
            self.wfile.write(_BYTES.get(word, _plain)(reply))


def _plain(reply: Any) -> bytes:
    return json.dumps({"status": 200, "reply": reply}).encode() + b"\n"


def _slow(reply: Any) -> bytes:
    threading.Event().wait(SLOW_SECONDS)
    return _plain(reply)


_BYTES: dict[str, Callable[[Any], bytes]] = {
    "500": lambda _: b'{"status": 500, "reply": null}\n',
    "garbage": lambda _: b"<html>502 Bad Gateway</html>\n",
    "throttle": lambda _: b'{"status": 429, "reply": null}\n',
    "unauthorised": lambda reply: json.dumps({"status": 401, "reply": reply}).encode() + b"\n",
    "slow": _slow,
}


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 200


def serve(journal: str, port_file: str) -> None:
    place = Path(port_file)
    port = int(place.read_text()) if place.exists() else 0  # started again, it comes back where it was
    with Server(("127.0.0.1", port), Handler) as server:
        server.exchange = Exchange(Path(journal))  # type: ignore[attr-defined]
        draft = place.with_suffix(".new")
        draft.write_text(str(server.server_address[1]))
        draft.rename(place)
        server.serve_forever()


if __name__ == "__main__":
    serve(*sys.argv[1:])
