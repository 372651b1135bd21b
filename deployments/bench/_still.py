"""What the benches of orders and positions share: a database of their own, a market that stands still, the bare floor."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from config.desk import assembled
from config.postgres import EmbeddedPostgres, find_binaries
from trading.desk import Desk, open_books
from trading.exchange.port import Exchange
from trading.market import COLUMNS, Candles, Market, MarketSource, Product, Quote
from trading.plan import Limits, Plan
from trading.store.database import Connection, connect, migrate

START = datetime(2026, 1, 5, tzinfo=UTC)
PRODUCTS = tuple(f"P{number}-USD" for number in range(10))
PRICE = Decimal("50000.01")
CAPITAL = Decimal(10) ** 12
PRICES = ("open", "high", "low", "close")
BARE = "insert into bare (product, side, quantity, reply) values (%s, %s, %s, %s)"


class Still:
    """A market source whose prices never move; its products are known, its candles were fetched before."""

    name = "still"
    is_replay = True

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        unit = Decimal("1e-8")
        return {
            id_: Product(id=id_, base=id_.split("-")[0], quote="USD", base_increment=unit, price_increment=Decimal("0.01"),
                         base_min_size=unit, base_max_size=CAPITAL, min_notional=Decimal(1))
            for id_ in ids
        }  # fmt: skip

    def candles(self, since: Mapping[str, int], interval: str, until: datetime) -> pd.DataFrame:
        del since, interval, until
        return pd.DataFrame(columns=list(COLUMNS))

    def quotes(self, ids: Sequence[str], at: datetime) -> dict[str, Quote]:
        return {id_: Quote(product=id_, bid=PRICE, ask=PRICE + Decimal("0.01"), at=at) for id_ in ids}

    def now(self) -> datetime:
        return START

    def next_slot(self, products: Sequence[str], interval: str, history: int, after: datetime | None) -> datetime | None:
        del products, interval, history, after
        return START


def see(desk: Desk, at: datetime, products: tuple[str, ...] = PRODUCTS) -> Market:
    """Moves the desk's market time to `at`: the same quotes, an hour of ample volume."""
    shape = (1, len(products))
    price, volume = np.full(shape, float(PRICE)), np.full(shape, 1e9)
    starts = np.array([int(at.timestamp()) - 3600])
    desk.market_time = at
    desk.market = market = Market(
        at=at, products=desk.source.products(products), quotes=desk.source.quotes(products, at),
        candles=Candles(interval="1h", products=products, starts=starts, volume=volume, **dict.fromkeys(PRICES, price)),
    )  # fmt: skip
    return market


@contextmanager
def ledger(commit_delay: int = 0) -> Iterator[str]:
    """URL of a migrated ledger in a Postgres of its own, gone at the end of the block; beside it the table `bare`.

    Every commit waits `commit_delay` microseconds before it is flushed (Postgres's setting of that name): a slower disk.
    """
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres", find_binaries(None), os.environ.get("KEEL_PG_USER"))
        server.start()
        try:
            server.create_database("bench")
            url = server.url("bench")
            migrate(url)
            with connect(url) as connection:
                connection.execute("alter system set commit_siblings = 0")  # the delay holds for a lone writer too
                connection.execute(f"alter system set commit_delay = {commit_delay:d}".encode())
                connection.execute("select pg_reload_conf()")
                connection.execute(
                    "create table bare (id bigserial primary key, product text, side text, quantity numeric, reply text)"
                )
            yield url
        finally:
            server.stop()


@contextmanager
def still_desk(
    url: str, products: tuple[str, ...] = PRODUCTS, exchange: Exchange | None = None, source: MarketSource | None = None
) -> Iterator[Desk]:
    """The real desk (journal, books, paper exchange) over the still market, its books opened, its slot claimed by nobody.

    With another `exchange` the capital is on that account already.
    """
    wide = CAPITAL
    limits = Limits(
        max_order_size_usd=wide, max_daily_volume_usd=wide, max_open_positions=10**6, max_daily_loss_usd=wide,
        max_position_size=Decimal(1), max_portfolio_volatility=Decimal(100),
    )  # fmt: skip
    plan = Plan.model_validate({
        "name": "bench", "portfolio": "bench", "products": products, "capital": CAPITAL, "limits": limits,
        "strategy": {"name": "crossover"},
    })  # fmt: skip
    with assembled(plan, source=source or Still(), url=url) as desk:
        if exchange is not None:
            desk.exchange, desk.fund = exchange, lambda *_: None
        see(desk, desk.source.now())
        open_books(desk)
        yield desk


def bare_commits(connection: Connection, count: int) -> float:
    """Seconds that `count` one-row inserts take, each committed by itself."""
    return timed(lambda: [connection.execute(BARE, ("P0-USD", "buy", Decimal("0.001"), "reply")) for _ in range(count)])


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def slot_times() -> Iterator[datetime]:
    """Market times an hour apart: scans look back minutes, so that no slot sees the fills of another."""
    at = START
    while True:
        at += timedelta(hours=1)
        yield at
