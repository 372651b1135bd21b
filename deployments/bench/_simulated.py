"""The simulated Coinbase for benches: its process, the bare SDK, and our adapter on it without a budget."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.credentials import Secret
from config.credentials.keys import coinbase_key
from trading.exchange.coinbase import CoinbaseExchange, Pace
from trading.exchange.port import Accepted, Rejected
from trading.orders import Mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coinbase.rest import RESTClient

NO_BUDGET = Pace(private_per_second=10**6, public_per_second=10**6)


class TimedExchange(CoinbaseExchange):
    """The adapter; when the venue was last asked to cancel, and had last answered a send or cancel, by `time.perf_counter`."""

    asked_at = answered_at = 0.0

    def submit(self, body: str, sha256: str) -> Accepted | Rejected:
        outcome = super().submit(body, sha256)
        self.answered_at = time.perf_counter()
        return outcome

    def cancel(self, exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
        self.asked_at = time.perf_counter()
        refused = super().cancel(exchange_order_ids)
        self.answered_at = time.perf_counter()
        return refused


@dataclass(frozen=True, slots=True)
class Simulated:
    """A running venue, by the line that it printed."""

    line: Mapping[str, Any]

    def exchange(self) -> TimedExchange:
        parts = json.loads(Path(self.line["keys"]["trade"]).read_text())
        key = coinbase_key(Secret(parts["name"]), Secret(parts["privateKey"]), "bench")
        return TimedExchange(
            key, mode=Mode.REHEARSAL, host=self.line["host"], ca_file=Path(self.line["ca_file"]), pace=NO_BUDGET,
            monotonic=time.monotonic, sleep=time.sleep,
        )  # fmt: skip

    def move_away(self, milliseconds: int) -> None:
        import requests

        if milliseconds:
            fault: dict[str, Any] = {"kind": "delay", "endpoint": "*", "seconds": milliseconds / 1000, "count": 10**9}
            reply = requests.post(f"{self.line['url']}/sim/faults", json=fault, verify=self.line["ca_file"], timeout=10)
            reply.raise_for_status()

    def sdk(self) -> RESTClient:
        """The floor: the unmodified SDK."""
        from coinbase.rest import RESTClient

        client = RESTClient(key_file=self.line["keys"]["trade"], base_url=self.line["host"], timeout=10)
        client.session.verify = self.line["ca_file"]
        client.session.trust_env = False
        return client


@contextmanager
def simulated(away: int = 0, prices: str = "still") -> Iterator[Simulated]:
    """A venue with room for any order and no limit on calls; it answers `away` milliseconds later. `prices` as `keel simulator`
    takes them: by default they stand still.
    """
    with tempfile.TemporaryDirectory() as home:
        command = [
            sys.executable, "-m", "trading.simulator", "--home", home, "--prices", prices, "--private-rate", "0",
            "--public-rate", "0", "--balances", "USD=1000000000000",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                venue = Simulated(json.loads(process.stdout.readline()))  # type: ignore[union-attr]  # a pipe was asked for
                venue.move_away(away)
                yield venue
            finally:
                process.terminate()
