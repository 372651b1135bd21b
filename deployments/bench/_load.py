"""A load of orders for whoever stops one: batch after batch, judged, staged and sent by the real code in a process of its own.

Each batch buys and sells every product, sells some of it as a protective exit, and leaves a purchase to rest. It was decided
before whatever stops it: it looks at no breaker on its way, so that only the road to the wire is left to stop an order.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from trading.desk import Desk, day_start, evaluation_row, open_books, see_market
from trading.errors import Halted, KeelError, LedgerUnavailable, NotSent
from trading.exchange.port import Accepted, Rejected
from trading.execution import intents_of, send, stage
from trading.market import Market, last_close
from trading.money import ceil_to, floor_to
from trading.orders import OrderType, Request, Side, TimeInForce
from trading.risk import Approved, Refused, validate
from trading.store.journal import Change

NOTIONAL = Decimal(8)
"""Of one order, in the cash asset; purchases that fill are twice as large, so that there is always something to sell."""
BELOW_MARKET = Decimal("0.97")
"""Of the bid: where purchases rest."""
PAUSE_SECONDS = 0.1
"""Between two tries of a load whose ledger is away."""
LOCK_SECONDS = 60.0
FORK = multiprocessing.get_context("fork")

_PLAN = """
name = "{name}"
portfolio = "{name}"
products = [{products}]
capital = 100000
profile = "aggressive"
[strategy]
name = "deployments.bench.cycle:EveryOther"
[ramp]
steps = [100000]
[controls]
max_volume_share = 1
max_hourly_share = 1
max_orders_per_hour = 1000000
max_orders_per_day = 1000000
max_messages_per_minute = 1000000
max_repeated_entries = 1000000
max_live_orders = 1000000
max_entries_per_slot = 1000000
max_correlated_variance = 1
duplicate_seconds = 0
max_mean_slippage = 0
[breaker]
cool_down_minutes = 0
"""
"""Bounds that no batch reaches; the first run that looks at the plan's slippage trips it, and a batch never looks."""
LIMITS = {"MAX_DAILY_VOLUME_USD": "1000000000"}


def plan_file(name: str, products: Sequence[str]) -> str:
    """The text of a plan to load, in a portfolio of its own of the same name."""
    return _PLAN.format(name=name, products=", ".join(f'"{id_}"' for id_ in products))


class Line(NamedTuple):
    """What the load's process did, with the time of `time.monotonic`, which all processes of a machine share."""

    at: float
    kind: Literal["looked", "passed", "arrived", "batch"]
    """Began to look for a halt; was let through by it; an order reached the venue; a batch ended."""
    side: str = ""
    """Of an order that arrived."""


@dataclass(frozen=True, slots=True)
class Load:
    """A running load, by the file that it writes as it goes."""

    process: ForkProcess
    file: Path

    def lines(self) -> list[Line]:
        """What it wrote so far; a last line that is not whole is left out."""
        whole = self.file.read_text().rpartition("\n")[0].splitlines()
        return [Line(float(at), kind, side) for at, kind, side in (line.split(" ") for line in whole)]  # type: ignore[arg-type]

    def arrived(self) -> list[Line]:
        return [line for line in self.lines() if line.kind == "arrived"]

    def await_batches(self, count: int, limit_seconds: float = 60) -> None:
        """Returns once so many more batches have ended. Raises RuntimeError for a load that died or takes too long."""
        wanted = self._batches() + count
        end = time.monotonic() + limit_seconds
        while (ended := self._batches()) < wanted:
            if not self.process.is_alive() or time.monotonic() > end:
                said = self._error.read_text() if self._error.exists() else f"none within {limit_seconds:g} s"
                raise RuntimeError(f"the load ended {ended} batches, expected {wanted}: {said}")
            time.sleep(0.005)

    @property
    def _error(self) -> Path:
        return _error_of(self.file)

    def _batches(self) -> int:
        return self.file.read_bytes().count(b" batch ")


@contextmanager
def loading(opens: Callable[[], AbstractContextManager[Desk]], file: Path, send_batch: int | None = None) -> Iterator[Load]:
    """A load at the desk that `opens` makes, forked from this process, until the end of the block: it is killed there.

    `send_batch`: how many orders are marked in one transaction, if not as many as the venue's adapter says.
    """
    file.touch()
    process = FORK.Process(target=_run, args=(opens, file, send_batch))
    process.start()
    try:
        yield Load(process, file)
    finally:
        process.kill()
        process.join()


def _run(opens: Callable[[], AbstractContextManager[Desk]], file: Path, send_batch: int | None) -> None:
    """Sends until it is ended; where the ledger goes away it tries again and again, as later runs would."""
    with file.open("a", buffering=1) as out:  # line by line: what it says is read while it runs
        while True:
            try:
                _send_all(opens, out.write, send_batch)
            except LedgerUnavailable:
                time.sleep(PAUSE_SECONDS)
            except Exception as error:
                _error_of(file).write_text(f"{type(error).__name__}: {error}")
                raise


def _send_all(
    opens: Callable[[], AbstractContextManager[Desk]], write: Callable[[str], object], send_batch: int | None
) -> NoReturn:
    with opens() as desk:
        _watch(desk, write)
        if send_batch is not None:
            desk.exchange.send_batch = send_batch
        market = prepared(desk)
        for number in itertools.count():
            send_one_batch(desk, market, f"{os.getpid()}-{time.monotonic_ns()}-{number}")
            write(f"{time.monotonic()} batch \n")
    raise AssertionError("a load has no end")


def _error_of(file: Path) -> Path:
    return file.with_suffix(".error")


def _watch(desk: Desk, write: Callable[[str], object]) -> None:
    """Writes down each look for a halt and each order that got to the venue: at the socket, where there is one."""
    halted, submit = desk.halted, desk.exchange.submit

    def look() -> str:
        began = time.monotonic()
        reason = halted()
        write(f"{began} looked \n")
        if not reason:
            write(f"{began} passed \n")
        return reason

    def submitted(body: str, sha256: str) -> Accepted | Rejected:
        try:
            outcome = submit(body, sha256)
        except (Halted, NotSent):
            raise
        except KeelError:
            arrived(body)  # for all that anybody knows
            raise
        arrived(body)
        return outcome

    def arrived(body: str) -> None:
        side = Side.BUY if '"side":"buy"' in body.lower() else Side.SELL
        write(f"{time.monotonic()} arrived {side}\n")

    desk.halted = look
    desk.exchange.submit = submitted  # type: ignore[method-assign]
    obey = getattr(desk.exchange, "obey", None)
    if obey is not None:
        obey(look)


def prepared(desk: Desk) -> Market:
    """The market that all batches of this desk are decided on; the plan's books are open, and it holds some of everything."""
    with _alone(desk):
        open_books(desk)
        desk.check_safety()
        now = desk.market_now()
        market, _ = see_market(desk, last_close(now, desk.plan.interval), now)
    return market


def send_one_batch(desk: Desk, market: Market, reference: str) -> int:
    """Judges, stages and sends a batch as an order by hand is, but for the look at the breakers; how many were approved.

    Raises RuntimeError when no purchase was: a load that adds no risk proves nothing.
    """
    slot, now = f"hand:load-{reference}", desk.market_now()
    with _alone(desk):
        desk.market = market
        epoch = desk.books.epoch(desk.book) + 1
        portfolio = desk.books.portfolio(desk.book, desk.plan.name, desk.plan.cash_asset, day_start(now), now)
        judged = validate(desk.plan, wanted(market), market, portfolio, now)
        change = Change()
        for one in judged:
            change.add("evaluations", **evaluation_row(desk, slot, one))
        change.add("epochs", book=desk.book, epoch=epoch)
        desk.journal.record("hand.evaluate", change)
        approved = [one for one in judged if isinstance(one, Approved)]
        if not any(one.request.side is Side.BUY for one in approved):
            raise RuntimeError(f"the load found {_refusal(judged)}, expected an approved purchase")
        send(desk, epoch, stage(desk, intents_of(desk, slot, approved, market.quotes), market.quotes))
    return len(approved)


def _refusal(judged: Sequence[Approved | Refused]) -> str:
    return next((one.message for one in judged if isinstance(one, Refused)), "nothing wanted")


def wanted(market: Market) -> Iterator[Request]:
    """What a batch asks for: of each product a purchase, a sale and a protective exit; of the first one a purchase that rests."""
    for number, (id_, quote) in enumerate(market.quotes.items()):
        rules = market.products[id_]
        lot = ceil_to(NOTIONAL / quote.bid, rules.base_increment)
        yield Request(product=id_, side=Side.BUY, quantity=2 * lot)
        yield Request(product=id_, side=Side.SELL, quantity=lot, leg=1)
        yield Request(product=id_, side=Side.SELL, quantity=lot, leg=2, protective=True)
        if number == 0:
            price = floor_to(quote.bid * BELOW_MARKET, rules.price_increment)
            yield Request(product=id_, side=Side.BUY, quantity=lot, leg=3, type=OrderType.LIMIT, limit_price=price,
                          time_in_force=TimeInForce.GTC)  # fmt: skip


@contextmanager
def _alone(desk: Desk) -> Iterator[None]:
    """The portfolio's lock, as every run and every order by hand takes it: between two batches somebody else may work."""
    desk.journal.lock_portfolio(desk.book, LOCK_SECONDS)
    try:
        yield
    finally:
        desk.journal.unlock_portfolio(desk.book)
