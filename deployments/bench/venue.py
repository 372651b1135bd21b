"""A loopback venue for benches: HTTPS, one bulk price call, one call per order, everything filled at once.

It is as plain as a venue can be, so that what is measured is ours. Runs as a process of its own:
`python -m deployments.bench.venue CERTIFICATE KEY PORT_FILE`.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

FEE = Decimal("0.001")
LEVEL = 100.0


# ------------------------------------------------------------------------------------------------------ the server


class Account:
    """What the venue knows: cash, holdings, orders and fills, all in memory."""

    def __init__(self) -> None:
        self.balances: dict[str, Decimal] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.fills: dict[str, dict[str, Any]] = {}
        """Both by the order's id at the venue, oldest first."""
        self.placed: dict[str, str] = {}
        """Client id -> id at the venue."""
        self.now = 0.0
        """The close of the newest candle that was asked for: the venue's clock."""

    def submit(self, order: dict[str, Any]) -> dict[str, Any]:
        known = self.placed.get(order["client_order_id"])
        if known is not None:
            return self.orders[known]
        price, quantity = Decimal(str(LEVEL)), Decimal(order["quantity"])
        sign = 1 if order["side"] == "buy" else -1
        fee = quantity * price * FEE
        base, quote = order["product"].split("-")
        self.balances[quote] = self.balances.get(quote, Decimal(0)) - sign * quantity * price - fee
        self.balances[base] = self.balances.get(base, Decimal(0)) + sign * quantity
        number = len(self.orders) + 1
        placed = order | {"exchange_order_id": f"x{number}", "fees": str(fee), "at": self.now}
        self.placed[order["client_order_id"]] = f"x{number}"
        self.orders[f"x{number}"] = placed
        fill = {name: placed[name] for name in ("exchange_order_id", "client_order_id", "product", "side", "quantity")}
        self.fills[f"x{number}"] = fill | {"entry_id": f"e{number}", "price": str(price), "fee": str(fee), "at": self.now}
        return placed


def application(account: Account) -> Any:
    """The venue's routes. The newest candle of every product is flat at `LEVEL`, so that equity stays what it was."""

    def answer(method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> object:
        since = float(query.get("since", ["0"])[0])
        if (method, path) == ("POST", "/orders"):
            return account.submit(json.loads(body))
        if (method, path) == ("POST", "/deposit"):
            deposit = json.loads(body)
            account.balances[deposit["asset"]] = account.balances.get(deposit["asset"], Decimal(0)) + Decimal(deposit["amount"])
            return {}
        if path == "/prices":
            start, count = int(query["start"][0]), int(query["products"][0])
            account.now = start + 3600.0
            candle = [start, LEVEL, LEVEL * 1.01, LEVEL * 0.99, LEVEL, 1e6]
            return [[f"P{number}-USD", *candle] for number in range(count)]
        if path in ("/orders", "/fills"):
            listed = account.orders if path == "/orders" else account.fills
            if "ids" in query:
                return [listed[id_] for id_ in query["ids"][0].split(",") if id_ in listed]
            return [row for row in listed.values() if row["at"] >= since]
        return {asset: str(amount) for asset, amount in account.balances.items()}

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        reply = json.dumps(answer(scope["method"], scope["path"], parse_qs(scope["query_string"].decode()), body)).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(reply)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": reply})

    return app


def serve(certificate: str, key: str, port_file: str) -> None:
    import uvicorn

    # Named TCP: asyncio turns Nagle's delay off only then, and each small reply would wait 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    Path(port_file).write_text(str(listener.getsockname()[1]))
    settings = uvicorn.Config(
        application(Account()), ssl_certfile=certificate, ssl_keyfile=key, log_level="error", lifespan="off"
    )
    uvicorn.Server(settings).run(sockets=[listener])


@contextmanager
def running() -> Iterator[tuple[str, str]]:
    """(address, CA file) of a venue that runs until the end of the block."""
    import trustme

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(place / "ca.pem")
        issued.cert_chain_pems[0].write_to_path(place / "cert.pem")
        issued.private_key_pem.write_to_path(place / "key.pem")
        port_file = place / "port"
        command = [
            sys.executable,
            "-m",
            "deployments.bench.venue",
            *(str(place / name) for name in ("cert.pem", "key.pem", "port")),
        ]
        process = subprocess.Popen(command)
        try:
            _await_port(process, port_file, place / "ca.pem")
            yield f"https://127.0.0.1:{port_file.read_text()}", str(place / "ca.pem")
        finally:
            process.kill()  # it keeps nothing, and would wait for open connections
            process.wait()


def _await_port(process: subprocess.Popen[bytes], port_file: Path, authority: Path, limit_seconds: float = 30) -> None:
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end and process.poll() is None:
        if port_file.exists() and (port := port_file.read_text()):
            try:
                context = ssl.create_default_context(cafile=str(authority))
                with context.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), 5), server_hostname="127.0.0.1"):
                    return
            except OSError:
                time.sleep(0.02)  # it listens, but does not answer yet
        else:
            time.sleep(0.02)
    raise RuntimeError(f"the bench venue did not start (exit status {process.poll()})")


# ------------------------------------------------------------------------------------------------------ the client


class Client:
    """The plain calls, over one kept-alive TLS connection: what the floor makes by hand and the adapters below wrap."""

    def __init__(self, address: str, authority: str) -> None:
        import requests

        self.address = address
        self.session = requests.Session()
        self.session.verify = authority
        self.session.trust_env = False

    def get(self, path: str, **query: Any) -> Any:
        return self.session.get(f"{self.address}{path}", params=query, timeout=60).json()

    def post(self, path: str, body: str) -> Any:
        return self.session.post(f"{self.address}{path}", data=body.encode(), timeout=60).json()


class Prices:
    """A `MarketSource` of the venue: one call fetches the newest candle of every product, and its quote."""

    name = "bench"
    is_replay = False

    def __init__(self, client: Client, count: int, now: datetime) -> None:
        self.client = client
        self.count = count
        self.listed = {f"P{number}-USD" for number in range(count)}
        self.at = now

    def now(self) -> datetime:
        return self.at

    def next_slot(self, products: Sequence[str], interval: str, history: int, after: datetime | None) -> datetime:
        del products, interval, history, after
        return self.at

    def products(self, ids: Sequence[str]) -> dict[str, Any]:
        from trading.market import Product

        tick, cent = Decimal("1e-8"), Decimal("0.01")
        return {
            id_: Product(id=id_, base=id_.split("-")[0], quote="USD", base_increment=tick, price_increment=cent,
                         base_min_size=tick, base_max_size=Decimal(10**9), min_notional=Decimal(1))
            for id_ in ids if id_ in self.listed
        }  # fmt: skip

    def candles(self, since: Mapping[str, int], interval: str, until: datetime) -> Any:
        """The newest candle by the bulk call; a first fetch is laid out here, because it is no part of what is timed."""
        import numpy as np
        import pandas as pd

        from trading.market import COLUMNS, interval_seconds

        step, stop = interval_seconds(interval), int(until.timestamp())
        newest = self.client.get("/prices", start=stop - step, products=self.count)
        rows = pd.DataFrame(newest, columns=list(COLUMNS))
        begin = min(since.values())
        if begin >= stop - step:
            return rows
        starts = np.arange(begin, stop - step, step)
        early = pd.concat([rows.assign(start=start) for start in starts.tolist()])
        wiggle = 1 + 0.001 * np.sin(early["start"].to_numpy() / step)
        for name in ("open", "close"):
            early[name] *= wiggle
        return pd.concat([early, rows], ignore_index=True)

    def quotes(self, ids: Sequence[str], at: datetime) -> dict[str, Any]:
        from trading.market import Quote

        bid, ask = Decimal("99.99"), Decimal("100.01")
        return {id_: Quote(product=id_, bid=bid, ask=ask, at=at) for id_ in ids}


class Venue:
    """An `Exchange` of the venue. The times of its orders and fills are market times."""

    name = "bench"
    duplicates = "replays"  # `Duplicates.REPLAYS`: the port is imported only by those who trade
    visibility_lag_seconds = 0
    send_batch = 100
    takes_stops = True

    def __init__(self, client: Client, prices: Prices) -> None:
        self.client = client
        self.prices = prices

    def body(self, client_order_id: UUID, request: Any) -> str:
        from trading.orders import order_terms

        return order_terms(client_order_id, request)

    def submit(self, body: str, sha256: str) -> Any:
        from trading.errors import OutcomeUnknown
        from trading.exchange.port import Accepted, check_bytes

        check_bytes(body, sha256)
        with _otherwise(OutcomeUnknown):
            return Accepted(self.client.post("/orders", body)["exchange_order_id"])

    def cancel(self, exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
        return dict.fromkeys(exchange_order_ids, "filled already")

    def orders(self, since: datetime) -> list[Any]:
        return self._orders(since=since.timestamp())

    def _orders(self, **asked: object) -> list[Any]:
        from trading.exchange.port import ExchangeOrder, Status
        from trading.orders import Side

        return [
            ExchangeOrder(
                exchange_order_id=row["exchange_order_id"], client_order_id=row["client_order_id"], product=row["product"],
                side=Side(row["side"]), quantity=Decimal(row["quantity"]), limit_price=None, status=Status.FILLED,
                raw_status="filled", filled=Decimal(row["quantity"]), fees=Decimal(row["fees"]),
                created_at=datetime.fromtimestamp(row["at"], UTC),
            ) for row in self._read("/orders", **asked)
        ]  # fmt: skip

    def fills(self, since: datetime) -> list[Any]:
        return self._fills(since=since.timestamp())

    def _fills(self, **asked: object) -> list[Any]:
        from trading.orders import Fill, Side

        return [
            Fill(
                entry_id=row["entry_id"], trade_id=row["entry_id"], exchange_order_id=row["exchange_order_id"],
                client_order_id=UUID(row["client_order_id"]), product=row["product"], side=Side(row["side"]),
                quantity=Decimal(row["quantity"]), price=Decimal(row["price"]), fee=Decimal(row["fee"]), fee_asset="USD",
                liquidity="taker", traded_at=datetime.fromtimestamp(row["at"], UTC),
            ) for row in self._read("/fills", **asked)
        ]  # fmt: skip

    def look_up(self, exchange_order_ids: Sequence[str], since: datetime) -> tuple[list[Any], list[Any]]:
        del since
        ids = ",".join(exchange_order_ids)
        return self._orders(ids=ids), self._fills(ids=ids)

    def movements(self, since: datetime) -> list[Any]:
        del since
        return []

    def balances(self) -> dict[str, Any]:
        from trading.exchange.port import Balance

        return {asset: Balance(Decimal(amount), Decimal(0)) for asset, amount in self._read("/balances").items()}

    def _read(self, path: str, **query: object) -> Any:
        from trading.errors import Unanswered

        with _otherwise(Unanswered):
            return self.client.get(path, **query)

    def products(self, ids: Sequence[str]) -> dict[str, Any]:
        return self.prices.products(ids)

    def fee_tier(self) -> Any:
        from trading.exchange.port import FeeTier

        return FeeTier(FEE, FEE)


@contextmanager
def _otherwise(kind: type[Exception]) -> Iterator[None]:
    """Raises `kind` when no answer, or an unreadable one, came: every error of the HTTP client is an OSError."""
    try:
        yield
    except OSError as error:
        raise kind(f"the bench venue did not answer: {error}") from error


if __name__ == "__main__":
    serve(*sys.argv[1:])
