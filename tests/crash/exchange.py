"""The scripted venue's client: the process, and an `Exchange` over its socket with the venue class as an attribute."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from config.settings import PROJECT
from tests.crash.venue import FEE
from trading.errors import OutcomeUnknown, Unanswered
from trading.exchange.port import (
    Accepted,
    Balance,
    Duplicates,
    ExchangeOrder,
    FeeTier,
    Rejected,
    Reply,
    Status,
    check_bytes,
    conclude,
)
from trading.market import Product
from trading.money import ZERO
from trading.movements import Movement, MovementKind
from trading.orders import Fill, FillKind, Request, Side, base_quantity, order_terms

TIMEOUT_SECONDS = 0.3
PATIENT_SECONDS = 60
"""For questions of the test's own: it must not tire before the machine does."""
_DISCONNECTED = (OSError, EOFError)


@dataclass
class VenueProcess:
    """The venue, killed and started again at will: its journal is all that it is."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return int((self.folder / "port").read_text())

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.crash.venue", str(self.folder / "journal"), str(self.folder / "port")]
        self.process = subprocess.Popen(command, cwd=PROJECT)
        limit = time.monotonic() + 30
        while not self._answers():
            assert self.process.poll() is None, "the venue died at its start"
            assert time.monotonic() < limit, "the venue did not start within 30 s"
            time.sleep(0.01)

    def _answers(self) -> bool:
        with suppress(OSError, ValueError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(folder: Path) -> Iterator[VenueProcess]:
    venue = VenueProcess(folder)
    venue.start()
    try:
        yield venue
    finally:
        venue.kill()


class GarbledError(ValueError):
    """The venue's answer is no JSON line."""


@dataclass
class Wire:
    """One connection to one account of the venue, opened again when it was lost."""

    port: int
    account: str
    timeout_seconds: float = TIMEOUT_SECONDS
    _socket: socket.socket | None = field(default=None, repr=False)
    _buffer: bytes = b""

    def call(self, op: str, **arguments: object) -> tuple[int, Any]:
        """(status, reply). Raises OSError or EOFError when none came, GarbledError when it cannot be read."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self.port), max(5, self.timeout_seconds))
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.settimeout(self.timeout_seconds)
            self._socket.sendall(json.dumps({"op": op, "account": self.account, "with": arguments}).encode() + b"\n")
            line = self._line(self._socket)
        except _DISCONNECTED:
            self.close()
            raise
        try:
            read = json.loads(line)
        except ValueError as error:
            raise GarbledError(line[:80].decode(errors="replace")) from error
        return int(read["status"]), read["reply"]

    def _line(self, source: socket.socket) -> bytes:
        while b"\n" not in self._buffer:
            part = source.recv(65536)
            if not part:
                raise EOFError("the venue cut the connection")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def ask(self, op: str, **arguments: object) -> Any:
        """The reply to a question of the test's own: it must come, however long the machine stands still."""
        hasty, self.timeout_seconds = self.timeout_seconds, PATIENT_SECONDS
        try:
            return self.call(op, **arguments)[1]
        finally:
            self.timeout_seconds = hasty

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""


class VenueExchange:
    """`trading.exchange.port.Exchange` over the wire. `visibility_lag_seconds` and the venue class differ by account."""

    name = "scripted"
    duplicates = Duplicates.REPLAYS
    visibility_lag_seconds = 1
    send_batch = 1
    takes_stops = True

    def __init__(
        self, wire: Wire, clock: Callable[[], datetime], products_of: Callable[[Sequence[str]], dict[str, Product]]
    ) -> None:
        self.wire = wire
        self.clock = clock
        self.products_of = products_of

    def open(self, prices: Mapping[str, str]) -> None:
        self.wire.ask("open", duplicates=self.duplicates.value, prices=dict(prices))

    def fund(self, asset: str, amount: Decimal, reference: str) -> None:
        self._read("fund", asset=asset, amount=str(amount), reference=reference)

    # ---- sends

    def body(self, client_order_id: UUID, request: Request) -> str:
        return order_terms(client_order_id, request)

    def submit(self, body: str, sha256: str) -> Accepted | Rejected:
        check_bytes(body, sha256)
        try:
            status, reply = self.wire.call("submit", body=json.loads(body), at=self._now())
        except TimeoutError as error:
            return conclude(self.duplicates, Reply.TIMED_OUT, str(error))
        except _DISCONNECTED as error:
            return conclude(self.duplicates, Reply.DISCONNECTED, str(error))
        except GarbledError as error:
            return conclude(self.duplicates, Reply.UNREADABLE, str(error))
        if status != 200:
            word = {401: Reply.UNAUTHORISED, 429: Reply.THROTTLED}.get(status, Reply.SERVER_ERROR)
            return conclude(self.duplicates, word, f"HTTP {status}")
        if "order" in reply:
            accepted = Accepted(reply["order"]["exchange_order_id"])
            return conclude(self.duplicates, Reply.ACCEPTED, "", accepted=accepted)
        word = Reply.DUPLICATE if reply["code"] == "DUPLICATE_CLIENT_ORDER_ID" else Reply.REFUSED
        return conclude(self.duplicates, word, "the venue says no", code=reply["code"])

    def cancel(self, exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
        try:
            refused: Mapping[str, str] = self.wire.call("cancel", orders=list(exchange_order_ids))[1]["refused"]
        except (*_DISCONNECTED, GarbledError) as error:
            raise OutcomeUnknown(f"the venue did not answer a cancel: {error}") from error
        return refused

    # ---- reads

    def orders(self, since: datetime) -> list[ExchangeOrder]:
        found = [_order(row) for row in self._read("orders", since=since.astimezone(UTC).isoformat())]
        self.wire.ask("look")
        return found

    def fills(self, since: datetime) -> list[Fill]:
        """All pages; an entry on the edge of two comes twice, as it does at venues that page by time."""
        rows: list[dict[str, Any]] = []
        more, page = True, 0
        while more:
            told = self._read("fills", since=since.astimezone(UTC).isoformat(), page=page)
            rows, more, page = rows + told["fills"], told["more"], page + 1
        return [_fill(row) for row in sorted(rows, key=lambda row: row["at"])]

    def look_up(self, exchange_order_ids: Sequence[str], since: datetime) -> tuple[list[ExchangeOrder], list[Fill]]:
        del exchange_order_ids
        return self.orders(since), self.fills(since)

    def movements(self, since: datetime) -> list[Movement]:
        return [
            Movement(
                entry_id=row["entry_id"], kind=MovementKind(row["kind"]), asset=row["asset"], amount=Decimal(row["amount"]),
                happened_at=datetime.fromisoformat(row["happened_at"]), note=row.get("note", ""),
            )
            for row in self._read("movements", since=since.astimezone(UTC).isoformat())
        ]  # fmt: skip

    def balances(self) -> dict[str, Balance]:
        return {asset: Balance(Decimal(amount), ZERO) for asset, amount in self._read("balances").items()}

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        return self.products_of(ids)

    def fee_tier(self) -> FeeTier:
        return FeeTier(FEE, FEE)

    def _read(self, op: str, **arguments: object) -> Any:
        try:
            return self.wire.call(op, **arguments)[1]
        except (*_DISCONNECTED, GarbledError) as error:
            raise Unanswered(f"the venue did not answer: {error}") from error

    def _now(self) -> str:
        return self.clock().astimezone(UTC).isoformat()


class RefusingExchange(VenueExchange):
    duplicates = Duplicates.REFUSES


class UnawareExchange(VenueExchange):
    duplicates = Duplicates.UNAWARE


CLASSES = (VenueExchange, RefusingExchange, UnawareExchange)


def _order(row: Mapping[str, Any]) -> ExchangeOrder:
    known = {status.value for status in Status}
    return ExchangeOrder(
        exchange_order_id=row["exchange_order_id"], client_order_id=row["client_order_id"], product=row["product"],
        side=Side(row["side"]), quantity=Decimal(row["quantity"]),
        limit_price=None if row["limit_price"] is None else Decimal(row["limit_price"]),
        status=Status(row["status"]) if row["status"] in known else Status.UNKNOWN, raw_status=row["status"],
        filled=Decimal(row["filled"]), fees=Decimal(row["fees"]), created_at=datetime.fromisoformat(row["at"]),
    )  # fmt: skip


def _fill(row: Mapping[str, Any]) -> Fill:
    price, size = Decimal(row["price"]), Decimal(row["size"])
    return Fill(
        entry_id=row["entry_id"], trade_id=row["trade_id"], exchange_order_id=row["exchange_order_id"],
        client_order_id=UUID(row["client_order_id"]), product=row["product"], side=Side(row["side"]),
        quantity=base_quantity(size, price) if row["in_quote"] else size, price=price, fee=Decimal(row["fee"]),
        fee_asset=row["product"].split("-")[1], liquidity="taker", traded_at=datetime.fromisoformat(row["at"]),
        kind=FillKind(row["kind"]),
    )  # fmt: skip
