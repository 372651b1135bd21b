"""A simulated Coinbase for tests: in memory by hand, or as the real process over TLS."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests
from coinbase.rest import RESTClient

from config.credentials import Secret
from config.credentials.keys import coinbase_key
from trading.exchange.coinbase import CoinbaseExchange, Pace
from trading.orders import Mode
from trading.simulator.tape import Still
from trading.simulator.venue import MAIN_PORTFOLIO, Venue

PROJECT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
PRICES = {"BTC-USD": Decimal(60000), "ETH-USD": Decimal(2500)}
HURRY = Pace(private_per_second=10000, public_per_second=10000, attempts=2, patience_seconds=5, backoff_seconds=0)
BALANCES = {"USD": Decimal(100000), "USDC": Decimal(1000), "BTC": Decimal(2), "ETH": Decimal(10)}


def venue(at: datetime = NOON) -> Venue:
    """A venue whose prices stand still: bids from 59997 down and asks from 60003 up, around 0.3 BTC a level."""
    return Venue(Still(PRICES), 1, BALANCES, at)


def place(on: Venue, client_id: str, side: str, key: str, product: str = "BTC-USD", **terms: Any) -> dict[str, Any]:
    body = {"client_order_id": client_id, "product_id": product, "side": side, "order_configuration": {key: terms}}
    return on.apply("create", {"body": body, "portfolio": MAIN_PORTFOLIO})


def reason(reply: Mapping[str, Any]) -> str:
    """The refusal's reason as a careful client reads it: the first of the three fields that says something."""
    if reply["success"]:
        return ""
    fields = reply["error_response"]
    names = ("new_order_failure_reason", "preview_failure_reason", "error")
    return next((fields[name] for name in names if not fields[name].startswith("UNKNOWN")), "UNKNOWN")


@dataclass
class Running:
    """A simulator's process, and what it printed when it was ready."""

    process: subprocess.Popen[str]
    line: dict[str, Any]

    @property
    def host(self) -> str:
        return str(self.line["host"])

    def secret(self, key: str = "trade") -> dict[str, str]:
        """Name and private key, as in the SDK's key file."""
        return dict(json.loads(Path(self.line["keys"][key]).read_text()))

    def client(self, key: str = "trade", timeout: float = 10) -> RESTClient:
        """The unmodified SDK on this server."""
        made = RESTClient(key_file=self.line["keys"][key], base_url=self.host, timeout=timeout)
        made.session.verify = self.line["ca_file"]
        made.session.trust_env = False
        return made

    def exchange(self, key: str = "trade", **changes: Any) -> CoinbaseExchange:
        """Our adapter on this server, as in a rehearsal; `key` is one that the server made."""
        parts = self.secret(key)
        signing = coinbase_key(Secret(parts["name"]), Secret(parts["privateKey"]), key)
        options = {"host": self.host, "ca_file": Path(self.line["ca_file"]), "pace": HURRY} | changes
        return CoinbaseExchange(signing, mode=Mode.REHEARSAL, monotonic=time.monotonic, sleep=time.sleep, **options)

    def control(self, path: str, body: object = None, method: str = "POST") -> Any:
        """A reply of `/sim/PATH`; an answer other than 200 is an error."""
        url = f"{self.line['url']}/sim/{path}"
        reply = requests.request(method, url, json=body, verify=self.line["ca_file"], timeout=10)
        reply.raise_for_status()
        return reply.json()

    def fault(self, kind: str, endpoint: str = "create_order", **details: object) -> None:
        self.control("faults", {"kind": kind, "endpoint": endpoint, **details})

    @property
    def oracle(self) -> Any:
        return self.control("oracle", method="GET")


@contextmanager
def running(home: Path, *options: str) -> Iterator[Running]:
    """`python -m trading.simulator` in `home`, on a free port, with prices that stand still unless `options` say other."""
    prices = () if "--prices" in options else ("--prices", "still")
    command = [sys.executable, "-m", "trading.simulator", "--home", str(home), "--private-rate", "0", *prices, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        try:
            assert process.stdout is not None
            yield Running(process, json.loads(process.stdout.readline()))
        finally:
            process.kill()
