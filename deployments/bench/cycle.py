"""`keel bench cycle`: what a trade cycle costs beside the same I/O written by hand, and under Prefect beside empty tasks.

ours    a whole cycle for N products, of which all N are traded: gate, ledger, chain, reconciliation and all
floor   one bulk price call, N order calls, N one-row commits, at the same venue over the same kind of connection; with
        Prefect also a flow of as many empty tasks

`--commit-delay 1000` lets every commit, the floor's too, wait so many microseconds more, as on a slower disk.
Both are warm: imports are done, connections are open, candles of the past are stored, the tables have statistics.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from config.prefect import api_url, client_settings, stack_environment
from deployments.bench import venue
from deployments.bench._still import BARE, ledger, timed
from deployments.stack.premises import choose_port
from trading import cycle as cycles
from trading.desk import Desk
from trading.market import Candles, Floats
from trading.orders import Mode
from trading.plan import Limits, Plan
from trading.quality import QualityGate
from trading.store.books import Books
from trading.store.candles import CandleStore
from trading.store.database import Connection, Sessions, connect
from trading.store.journal import Author, Journal
from trading.store.roles import Role

FIRST_SLOT = datetime(2026, 1, 5, tzinfo=UTC)
TASKS = 10
"""Of a cycle under Prefect: one for each step, and one that shows the page."""
_WARM = 12
"""Rounds that are not counted: driver and server prepare a statement after five uses, and plan it for good after five more."""


class EveryOther:
    """A strategy that wants every product at one slot and none at the next, so that each cycle trades all of them."""

    lookback = 2

    def signals(self, candles: Candles) -> Floats:
        import numpy as np

        wanted = int(candles.starts[-1]) // 3600 % 2
        return np.full(candles.close.shape, float(wanted))


def bench_plan(count: int) -> Plan:
    """Bounds wide enough that every product is traded at every slot: what is measured are the checks, not refusals."""
    wide = Decimal(10) ** 12
    limits = Limits(
        max_order_size_usd=wide, max_daily_volume_usd=wide, max_open_positions=10**6, max_daily_loss_usd=wide,
        max_position_size=Decimal(1), max_portfolio_volatility=Decimal(100),
    )  # fmt: skip
    return Plan.model_validate({
        "name": "bench", "portfolio": "bench", "products": tuple(f"P{number}-USD" for number in range(count)),
        "capital": Decimal(1000) * count, "limits": limits, "strategy": {"name": "bench"},
        "allocation": {"weight": Decimal("0.5") / count, "no_trade_band": Decimal("0.0001") / count},
        "costs": {"taker_fee": "0.001", "maker_fee": "0.001"},
        "controls": {
            "max_volume_share": 1, "max_hourly_share": 1, "max_orders_per_day": 10**6, "max_messages_per_minute": 10**6,
            "max_correlated_variance": 1, "max_flip_share": 1,
        },
        "breaker": {"max_open_positions": 10**6, "max_volatility": 100, "max_drawdown": 1, "max_daily_loss": 1},
    })  # fmt: skip


@contextmanager
def bench_desk(url: str, client: venue.Client, count: int) -> Iterator[Desk]:
    plan = bench_plan(count)
    prices = venue.Prices(client, count, FIRST_SLOT)
    with Sessions(url) as sessions:
        connection = sessions[Role.DECIDE]
        yield Desk(
            plan=plan, mode=Mode.PAPER, strategy=EveryOther(), source=prices,
            exchange=venue.Venue(client, prices),  # type: ignore[arg-type]  # its `duplicates` is the plain word
            journal=Journal(sessions, lambda: Author("bench")), books=Books(connection),
            candles=CandleStore(connection, prices.name), gate=QualityGate(), wall=lambda: datetime.now(UTC),
            monotonic=time.monotonic, pause=time.sleep,
            fund=lambda asset, amount, _: client.post("/deposit", f'{{"asset": "{asset}", "amount": "{amount}"}}'),
        )  # fmt: skip


def floor(client: venue.Client, connection: Connection, count: int, slot: datetime) -> None:
    """The same I/O by hand: one price call, and for each product one order call and one committed row."""
    newest = client.get("/prices", start=int(slot.timestamp()) - 3600, products=count)
    for row in newest:
        body = (
            f'{{"client_order_id": "{slot:%s}-{row[0]}", "product": "{row[0]}", "side": "buy", "type": "market", '
            f'"quantity": "0.5", "limit_price": null}}'
        )
        reply = client.post("/orders", body)
        connection.execute(
            BARE,
            (row[0], "buy", Decimal("0.5"), reply["exchange_order_id"]),
        )


def run(products: int = 10, *, bare: bool = False, rounds: int = 7, commit_delay: int = 0) -> dict[str, Any]:
    """Seconds of ours and of the floor (medians over rounds in turn) and their ratio, ours ÷ floor."""
    with ExitStack() as stack:
        if not bare:
            stack.enter_context(prefect_server())
        url = stack.enter_context(ledger(commit_delay))
        ours_address, floor_address = (stack.enter_context(venue.running()) for _ in range(2))
        _store_the_past(url, ours_address, products)
        desk = stack.enter_context(bench_desk(url, venue.Client(*ours_address), products))
        connection = stack.enter_context(connect(url))
        by_hand = venue.Client(*floor_address)
        ours: list[float] = []
        floors: list[float] = []
        if not bare:
            _empty_flow()
            import_module("flows.trade")  # growth is counted over the empty flow with the same imports
        desk.gate.warm()
        before = memory_mib("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        for number in range(1, _WARM + rounds + 1):
            if number == _WARM:
                connection.execute("vacuum analyze")  # Postgres does so by itself in a minute; here that is half a day of slots
            slot = FIRST_SLOT + timedelta(hours=number)
            desk.source.at = slot  # type: ignore[attr-defined]  # the bench's own clock
            floor_seconds = timed(lambda: floor(by_hand, connection, products, slot))  # noqa: B023 - called at once
            if bare:
                ours_seconds = timed(lambda: cycles.run(desk, slot))  # noqa: B023 - called at once
            else:
                ours_seconds = _inside_a_flow(desk, slot)
                floor_seconds += _empty_flow()
            if number > _WARM:
                ours.append(ours_seconds)
                floors.append(floor_seconds)
            _check(desk, products, number + 1)
            if number == 1:
                growth = memory_mib("VmHWM") - before  # of one cycle: a flow's process makes no second one
    middle, least = statistics.median(ours), statistics.median(floors)
    return {
        "name": f"cycle{' --bare' if bare else ''} --products {products}",
        "ours": middle, "floor": least, "ratio": middle / least, "unit": "seconds", "runs": rounds,
        "memory_growth_mib": growth,
    }  # fmt: skip


def _store_the_past(url: str, address: tuple[str, str], count: int) -> None:
    """The first cycle, which fetches the whole window, in a process of its own: its memory is not what is measured."""
    child = os.fork()
    if child == 0:
        with bench_desk(url, venue.Client(*address), count) as desk:
            cycles.run(desk, FIRST_SLOT)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the cycle that stores the past ended with status {status}")


def memory_mib(figure: str) -> float:
    """Resident memory of this process: `VmRSS` now, `VmHWM` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(figure)).split()[1]) / 1024


def _check(desk: Desk, products: int, cycles_run: int) -> None:
    """A bench that trades nothing measures nothing."""
    row = desk.books.connection.execute("select count(*) from keel.fill").fetchone()
    if row != (products * cycles_run,):
        raise RuntimeError(f"the bench traded {row} times in {cycles_run} cycles of {products} products")


# --------------------------------------------------------------------------------------------------- under Prefect


@contextmanager
def prefect_server() -> Iterator[None]:
    """A real Prefect server with the local stack's settings, for this process, until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder), choose_port(None)
        os.environ |= client_settings(home, port)  # before Prefect is imported: it reads them then
        log = (home / "server.log").open("w")
        command = [sys.executable, "-m", "prefect", "server", "start"]
        server = subprocess.Popen(command, env=stack_environment(home, port, os.environ), stdout=log, stderr=log)
        try:
            _await_health(server, f"{api_url(port)}/health")
            yield
        finally:
            server.terminate()
            server.wait(30)
            log.close()


def _await_health(server: subprocess.Popen[bytes], address: str, limit_seconds: float = 120) -> None:
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            with urlopen(address, timeout=2) as reply:  # noqa: S310 - our own server
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the Prefect server did not come up (exit status {server.poll()})")


def _inside_a_flow(desk: Desk, slot: datetime) -> float:
    from prefect import flow

    from flows.trade import cycle_as_tasks

    @flow(name="bench", persist_result=False)
    def body() -> float:
        return timed(lambda: cycle_as_tasks(desk, slot))

    return body()


def _empty_flow() -> float:
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    nothing = task(lambda: None, name="nothing", cache_policy=NO_CACHE, persist_result=False)

    @flow(name="bench-empty", persist_result=False)
    def body() -> float:
        return timed(lambda: [nothing() for _ in range(TASKS)])

    return body()
