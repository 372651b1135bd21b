"""`keel bench halt`: how soon the command `keel halt` stops a load at the simulated Coinbase, in real processes, from its start.

last order     the load's last order reaches the venue: promised within 5 s
resting gone   the venue lists no open purchase any more, asked by the bench itself: promised within 30 s

With the ledger up, and with its Postgres stopped under the load: then nothing can be sent, and what rests is cancelled by the
venue's own list. The load is a rehearsal, armed, within the client's own rate budget: a process that sends batch after batch.
Each figure is the worst of its runs. There is no floor beside it: what is measured is a promise.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from config.anchors import anchor_after
from config.desk import open_desk
from config.postgres import embedded, person_url
from config.settings import PROJECT, Settings
from deployments.bench._load import LIMITS, Load, loading, plan_file
from deployments.bench._simulated import Simulated, simulated
from trading import hand, rollout
from trading.exchange.port import Exchange, Status
from trading.orders import Mode, Side
from trading.quality import QualityGate
from trading.reconcile import reconcile

PROMISED_SECONDS = {"last_order": 5, "resting_gone": 30}
PLAN = "bench"
PRODUCTS = ("BTC-USD", "ETH-USD", "SOL-USD")
COMMAND = [sys.executable, "-c", "from deployments.cli import main; main()", "halt", "bench"]
QUIET_SECONDS = 3.0
"""After the command: an order that still came would come within."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """One halt: seconds from the start of the command."""

    last_order: float
    """Not positive where no order arrived after the start."""
    resting_gone: float
    command: float
    orders: int
    """That had arrived before it."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A home with a plan that may trade at a simulated Coinbase."""

    settings: Settings
    venue: Simulated

    @property
    def environment(self) -> dict[str, str]:
        """Of every process of this home."""
        settings = self.settings
        named = {"KEEL_HOME": settings.home, "KEEL_PLANS": settings.plans, "KEEL_SIMULATOR_HOME": settings.simulator_home}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEEL_", "DATABASE_URL"))}
        return kept | LIMITS | {name: str(value) for name, value in named.items()}


def run(runs: int = 3) -> dict[str, Any]:
    """Seconds to the last order and until no purchase rests, with the ledger and without it; `kept` when all are as promised."""
    with_ledger = [one_halt(ledger=True) for _ in range(runs)]
    without = [one_halt(ledger=False) for _ in range(runs)]
    figures = {
        f"{figure}{suffix}": max(0.0, *(getattr(one, figure) for one in found))
        for suffix, found in (("", with_ledger), ("_without_ledger", without))
        for figure in PROMISED_SECONDS
    }
    return {
        "name": "halt", "ours": figures["last_order"], "floor": None, "ratio": None,
        "unit": "seconds from the start of the command to the load's last order", "runs": runs, **figures,
        "command": statistics.median(one.command for one in with_ledger),
        "command_without_ledger": statistics.median(one.command for one in without),
        "orders_before": min(one.orders for one in (*with_ledger, *without)),
        "kept": all(seconds < PROMISED_SECONDS[name.removesuffix("_without_ledger")] for name, seconds in figures.items()),
    }  # fmt: skip


def one_halt(*, ledger: bool) -> Stopped:
    """A load is halted, with its ledger or after that was stopped."""
    with rehearsed() as home, at_work(home) as load:
        exchange = home.venue.exchange()
        load.await_batches(2)
        if not ledger:
            embedded(home.settings).stop()
        if not _rests(exchange):
            raise RuntimeError("the bench found no purchase resting at the venue, expected some")
        return _halted(home, load, exchange)


def _halted(home: Rehearsed, load: Load, exchange: Exchange) -> Stopped:
    began = time.monotonic()
    gone: float | None = None
    process = subprocess.Popen(COMMAND, env=home.environment, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    ended: float | None = None
    while ended is None or time.monotonic() < ended + QUIET_SECONDS:
        if _rests(exchange):
            gone = None
        elif gone is None:
            gone = time.monotonic()
        if ended is None and process.poll() is not None:
            ended = time.monotonic()
    if gone is None:
        raise RuntimeError(f"the bench found purchases resting after the halt, expected none:\n{process.communicate()[0]}")
    arrived = [line.at for line in load.arrived()]
    return Stopped(max(arrived) - began, gone - began, ended - began, sum(at < began for at in arrived))


def _rests(exchange: Exchange) -> bool:
    """Is there an order at the venue that may still add risk?"""
    listed = exchange.orders(datetime.now(UTC))
    return any(order.status in (Status.OPEN, Status.UNKNOWN) and order.side is Side.BUY for order in listed)


@contextmanager
def rehearsed(url: str | None = None) -> Iterator[Rehearsed]:
    """A fresh home, ledger and venue, with everything done that a person does before a rehearsal trades.

    The ledger is at `url`, which is empty; None: the home's own embedded one.
    """
    QualityGate().warm()
    os.environ |= LIMITS  # a plan's limits are read from there
    with simulated(prices="synthetic") as venue, tempfile.TemporaryDirectory() as folder:
        plans = Path(folder) / "plans"
        plans.mkdir()
        (plans / f"{PLAN}.toml").write_text(plan_file(PLAN, PRODUCTS))
        home = Settings(home=Path(folder) / "home", plans=plans, simulator_home=Path(venue.line["ca_file"]).parent)
        settings = home.model_copy(update={"database_url": url, "human_database_url": None, "halt_file": None})
        try:
            lead_out(settings)
            yield Rehearsed(settings, venue)
        finally:
            if url is None:
                embedded(settings).stop()


def lead_out(settings: Settings) -> None:
    with open_desk(PLAN, mode=Mode.REHEARSAL, settings=settings, by_person=True) as desk:
        with hand.at_the_desk(desk):
            reconcile(desk)
        hand.resume(desk, None, "bench")
        rollout.arm(desk, timedelta(hours=1), "bench")
        anchor_after(desk, settings)


@contextmanager
def at_work(home: Rehearsed) -> Iterator[Load]:
    """The load. It has the address of its ledger: whoever has none starts the embedded one."""
    known = home.settings.model_copy(update={"database_url": person_url(home.settings)})
    file = home.settings.home / "load"
    with loading(lambda: open_desk(PLAN, mode=Mode.REHEARSAL, settings=known), file) as load:
        yield load
