"""The simulated Coinbase as the venue of stories: its own process, TLS, and our adapter over the real SDK.

Each story has a portfolio of its own with a key of its own. The venue's clock stands and is moved by the story, so that
what is hidden or late is so by the story's time; signatures go by the wall clock, as always there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from config.credentials import Secret
from config.credentials.keys import coinbase_key
from tests.builders.plans import NOON
from tests.builders.simulator import HURRY, Running, running
from tests.builders.venues import QuietMarket
from tests.crash.story import Fund, Place, Story
from trading.exchange.coinbase import CoinbaseExchange
from trading.exchange.port import Accepted, Exchange, Rejected
from trading.money import derived_id, text
from trading.orders import Mode
from trading.simulator.keys import make_keys

FEE = "0.0012345678901234"
"""Ratio of the notional; each fee is told with 16 decimals."""
TIMEOUT_SECONDS = (3.05, 0.4)
STORY_HOURS = 4
"""Four slots from one story to the next: each begins with a slot at which its strategy buys."""
SEED = 1

Faults = tuple[Mapping[str, Any], ...]


def _fault(kind: str, **details: object) -> Faults:
    return ({"kind": kind, **details},)


REPLIES: dict[str, Faults] = {
    "ack": (),
    "delayed": _fault("delay", seconds=0.6),
    "delayed before it acts": _fault("delay", seconds=0.6, before=True),
    "hidden, then dropped": (*_fault("hide_order", seconds=100), *_fault("accept_then_drop")),
    "hidden": _fault("hide_order", seconds=100),
    "refuse": _fault("refuse", reason="INSUFFICIENT_FUND"),
    "refuse without a reason": _fault("refuse"),
    "429 as text": _fault("rate_limited", text=True),
} | {
    kind: _fault(kind)
    for kind in (
        "accept_then_drop", "accept_then_500", "accept_then_502", "accept_then_429", "truncated_json", "half_closed",
        "null_configuration", "drop", "error_500", "html_502", "rate_limited", "unauthorized", "forbidden", "not_found",
    )
}  # fmt: skip
"""How the venue answers a create: the simulator's faults. Hidden for less than the venue's lists may lag."""
_BESIDE = ("delay", "hide_order")


@dataclass
class Coinbase:
    """The running simulator, and how many stories it has told."""

    server: Running
    keys: Path
    """The key file that every story's key is made from: one pair, a name for each portfolio."""
    stories: int = 0
    sent: int = 0
    """Creates that have left, of all stories."""

    def await_arrival(self) -> None:
        """Returns when no create is under way any more: the story's time may pass from here on."""
        limit = time.monotonic() + 30
        while sum(self.server.oracle["received"].values()) < self.sent:
            assert time.monotonic() < limit, "a create that was sent has not arrived within 30 s"
            time.sleep(0.02)

    def next_portfolio(self) -> str:
        """A portfolio that holds nothing, made in the order in which `known_keys` has named them."""
        self.stories += 1
        made = self.server.client().create_portfolio(name=f"story {self.stories}")
        assert made["portfolio"]["uuid"] == _portfolio(self.stories)
        return str(made["portfolio"]["uuid"])


def _portfolio(number: int) -> str:
    return str(derived_id("sim portfolio", str(SEED), str(number)))


def _key_name(number: int) -> str:
    return f"organizations/{derived_id('stories')}/apiKeys/{derived_id('story key', str(number))}"


@contextmanager
def simulated(home: Path, stories: int) -> Iterator[Coinbase]:
    """A venue with keys for so many stories."""
    trade = make_keys(home / "made")["trade"]
    pair = json.loads(trade.read_text())
    known = [pair | {"can_trade": True}] + [
        pair | {"name": _key_name(number), "portfolio": _portfolio(number), "can_view": True, "can_trade": True}
        for number in range(1, stories + 1)
    ]
    keys = home / "known.json"
    keys.write_text(json.dumps(known))
    options = ("--seed", str(SEED), "--public-rate", "0", "--balances", "", "--start", NOON.isoformat(), "--keys", str(keys))
    with running(home / "venue", *options) as server:
        server.line["keys"]["trade"] = str(trade)
        server.control("settings", {"taker_fee": FEE, "maker_fee": FEE})
        yield Coinbase(server, trade)


class CountedExchange(CoinbaseExchange):
    """Our adapter, and a count of what it has sent."""

    coinbase: Coinbase

    def submit(self, body: str, sha256: str) -> Accepted | Rejected:
        self.coinbase.sent += 1
        return super().submit(body, sha256)


@dataclass
class CoinbasePlace(Place):
    """One ledger and the simulated Coinbase, whose clock goes with the story."""

    coinbase: Coinbase = field(kw_only=True)
    portfolio: str = ""
    funded: set[str] = field(default_factory=set)
    source: QuietMarket | None = None

    def renew(self) -> None:
        super().renew()
        self.at = NOON + timedelta(hours=STORY_HOURS * self.coinbase.stories)
        self.portfolio = self.coinbase.next_portfolio()
        self._move_clock()

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """Only the venue's time: the ledger stamps by a clock of its own, and to it no lag of the venue has passed."""
        self.at += timedelta(seconds=seconds)
        self._move_clock()
        if self.source is not None:
            self.source.at = self.market_at

    def next_slot(self) -> None:
        self.coinbase.await_arrival()
        super().next_slot()
        self._move_clock()

    def _move_clock(self) -> None:
        self.coinbase.server.control("clock", {"at": self.at.isoformat()})

    def market(self) -> QuietMarket:
        self.source = super().market()
        return self.source

    # ---- the venue

    @contextmanager
    def exchange(self, story: Story, market: QuietMarket) -> Iterator[tuple[Exchange, Fund]]:
        del story, market
        server = self.coinbase.server
        name, private = _key_name(self.coinbase.stories), json.loads(self.coinbase.keys.read_text())["privateKey"]
        exchange = CountedExchange(
            coinbase_key(Secret(name), Secret(private), "story"), mode=Mode.REHEARSAL, host=server.host,
            ca_file=Path(server.line["ca_file"]), pace=HURRY, timeout=TIMEOUT_SECONDS, monotonic=time.monotonic, sleep=time.sleep,
        )  # fmt: skip
        exchange.coinbase = self.coinbase
        yield exchange, self._deposit

    def _deposit(self, asset: str, amount: Decimal, reference: str) -> None:
        if (key := f"{self.book} {reference}") not in self.funded:
            self.funded.add(key)
            deposit = {"portfolio": self.portfolio, "currency": asset, "amount": text(amount)}
            self.coinbase.server.control("deposit", deposit)

    def disturb(self, story: Story) -> None:
        self.coinbase.server.control("faults", list(planned(story)))
        self.coinbase.server.control("settings", {"fill_lag_seconds": story.fill_lag_seconds})

    def calm(self) -> None:
        self.coinbase.server.control("faults", method="DELETE")
        self.coinbase.server.control("settings", {"fill_lag_seconds": 0})

    def oracle(self) -> dict[str, Any]:
        """The truth about the story's portfolio, as `compared` reads it."""
        truth = self.coinbase.server.oracle
        orders = [order | {"other_terms": False} for order in truth["orders"] if order["retail_portfolio_id"] == self.portfolio]
        ids = {order["order_id"] for order in orders}
        known = {order["client_order_id"] for order in orders}
        return {
            "orders": orders,
            "fills": [fill for fill in truth["fills"] if fill["order_id"] in ids],
            "received": {id_: count for id_, count in truth["received"].items() if id_ in known},
            "balances": {asset: held["total"] for asset, held in truth["balances"][self.portfolio].items()},
        }


def planned(story: Story) -> Iterator[dict[str, Any]]:
    """The story's replies as faults: each reply's own concern the create of its place, those of `ack` none."""
    answered = 0
    """Creates before this one that no fault of another answer concerns: they count the skips of what follows."""
    for place, reply in enumerate(story.replies):
        faults = REPLIES[reply]
        for fault in faults:
            yield {"endpoint": "create_order", "skip": place if fault["kind"] in _BESIDE else answered, **fault}
        answered += all(fault["kind"] in _BESIDE for fault in faults)
    if story.refused_reads:
        yield {"kind": "error_500", "endpoint": "list_orders", "count": story.refused_reads}


def places(home: Callable[[], Path], fresh_ledger: Callable[[], str], stories: int) -> Generator[CoinbasePlace, None, None]:
    """Places without end, each for so many stories on a ledger and a venue of its own."""
    while True:
        with simulated(home(), stories) as coinbase:
            yield CoinbasePlace(fresh_ledger(), coinbase=coinbase)
