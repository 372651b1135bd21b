"""A loopback HTTPS server that speaks the shapes of Coinbase's public market data, and can be told to misbehave once."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme

Reply = tuple[int, Mapping[str, str], bytes]
Query = Mapping[str, list[str]]

SECONDS = {"ONE_MINUTE": 60, "FIFTEEN_MINUTE": 900, "ONE_HOUR": 3600, "FOUR_HOUR": 14400, "ONE_DAY": 86400}


def ok(body: object) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def product(id_: str, **changes: object) -> dict[str, Any]:
    """One entry of the product listing, with the keys and empty strings of the live venue."""
    base, quote = id_.split("-")
    return {
        "product_id": id_, "price": "68923.67", "base_increment": "0.00000001", "quote_increment": "0.01",
        "quote_min_size": "1", "quote_max_size": "150000000", "base_min_size": "0.00000001", "base_max_size": "3400",
        "is_disabled": False, "status": "online", "cancel_only": False, "limit_only": False, "post_only": False,
        "trading_disabled": False, "auction_mode": False, "view_only": False, "product_type": "SPOT",
        "quote_currency_id": quote, "base_currency_id": base, "price_increment": "0.01",
        "best_bid_price": "", "best_ask_price": "", "mid_market_price": "", "alias": "",
    } | changes  # fmt: skip


def candle(start: int, close: str = "100.5") -> dict[str, str]:
    return {"start": str(start), "low": "99.5", "high": "101", "open": "100", "close": close, "volume": "3.25"}


@dataclass
class Venue:
    """What the server knows, what it was asked, and the replies that it gives first instead of the truth."""

    products: dict[str, dict[str, Any]] = field(default_factory=dict)
    book: dict[str, tuple[str, str]] = field(default_factory=dict)
    candles: Callable[[str, int, int, int], list[dict[str, str]]] = lambda _product, start, end, step: [
        candle(at) for at in range(-(-start // step) * step, end + 1, step)
    ][::-1]
    faults: list[Reply | Callable[[socket.socket], None]] = field(default_factory=list)
    asked: list[tuple[str, Query]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """Of each request, as it arrived."""
    host: str = ""
    ca_file: Path = Path()

    def answer(self, path: str, query: Query) -> Reply:
        match path.removeprefix("/api/v3/brokerage").strip("/").split("/"):
            case ["time"]:
                return ok({"iso": "2026-11-22T10:00:00Z", "epochSeconds": "1795341600", "epochMillis": "1795341600123"})
            case ["market", "products"]:
                some = [self.products[id_] for id_ in query["product_ids"] if id_ in self.products]
                return ok({"products": some, "num_products": len(some)})
            case ["market", "product_book"]:
                return self._book(query["product_id"][0])
            case ["market", "products", id_, "candles"]:
                return self._candles(id_, query)
        return 404, {}, b'{"error":"NOT_FOUND"}'

    def _book(self, id_: str) -> Reply:
        bid, ask = self.book[id_]
        sides = {name: [{"price": price, "size": "0.5"}] if price else [] for name, price in (("bids", bid), ("asks", ask))}
        return ok({"pricebook": {"product_id": id_, **sides, "time": "2026-04-07T14:30:03.123456789Z"}})

    def _candles(self, id_: str, query: Query) -> Reply:
        start, end, step = int(query["start"][0]), int(query["end"][0]), SECONDS[query["granularity"][0]]
        if (end - start) // step + 1 > 350:
            return (
                400,
                {},
                b'{"error":"INVALID_ARGUMENT","message":"number of candles requested should be less than 350"}',
            )
        return ok({"candles": self.candles(id_, start, end, step)})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that a fault (or a client that trusts nobody) broke are what these tests are about."""


@contextmanager
def coinbase_server(folder: Path) -> Iterator[Venue]:
    """The venue on a free loopback port, its certificate signed by a CA whose file is in `folder`."""
    venue = Venue()
    authority = trustme.CA()
    venue.ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(venue.ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = _Server(("127.0.0.1", 0), _handler(venue))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    venue.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield venue
    finally:
        server.shutdown()
        server.server_close()


def _handler(venue: Venue) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            venue.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))  # the SDK sends one with GET
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            venue.asked.append((parts.path, query))
            fault = venue.faults.pop(0) if venue.faults else None
            if callable(fault):
                self.close_connection = True
                fault(self.connection)
                return
            status, headers, body = fault or venue.answer(parts.path, query)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # the server's own spelling

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
