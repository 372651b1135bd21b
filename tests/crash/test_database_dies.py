"""The database dies, turns read-only, or is cut off at any answer, also that of a commit: nothing is lost, nothing twice.

The venue lives on, as a real one does; each time another desk is opened afterwards and finds out what happened.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import pytest

from config.postgres import EmbeddedPostgres, find_binaries
from tests.builders.venues import QuickExchange, QuietMarket, quick_desk
from tests.crash import grid
from trading import hand
from trading.desk import Desk
from trading.errors import KeelError, LedgerUnavailable
from trading.money import ZERO
from trading.orders import Request, Side, State
from trading.reconcile import reconcile
from trading.store.database import connect, migrate
from trading.store.verify import verify

DEATHS = int(os.environ.get("KEEL_DATABASE_DEATHS", "4"))
CUTS = int(os.environ.get("KEEL_CUTS", "30"))
ROOMY = {"capital": 100_000, "limits": {"max_daily_volume_usd": 10**6}}


class World:
    """A venue and a market that outlive every desk and every database connection."""

    def __init__(self) -> None:
        self.market = QuietMarket({"BTC-USD": "50000", "ETH-USD": "2000"})
        self.exchange = QuickExchange(self.market)
        self.references = 0

    @contextmanager
    def desk(self, url: str) -> Iterator[Desk]:
        with quick_desk(url, **ROOMY) as opened:
            opened.source, opened.exchange, opened.fund = self.market, self.exchange, self.fund
            yield opened

    def fund(self, asset: str, amount: Decimal, reference: str) -> None:
        """Once per reference, as the paper exchange does it."""
        if reference not in self.funded:
            self.funded.add(reference)
            self.exchange.fund(asset, amount, reference)

    funded: set[str] = set()  # noqa: RUF012 - made anew in the fixture

    def order(self, url: str) -> None:
        """One more decision. Its reference is used again until it has been made."""
        side = Side.SELL if self.exchange.held.get("BTC", ZERO) > Decimal("0.005") else Side.BUY
        with self.desk(url) as desk:
            hand.place(desk, Request(product="BTC-USD", side=side, quantity=Decimal("0.001")), f"r{self.references}")
        self.references += 1

    def check(self, url: str) -> None:
        """Two passes, as two later runs would do; then everything must be there, once."""
        with self.desk(url) as desk:
            for _ in range(2):
                found = reconcile(desk)
            assert found.clean, found
            ours = {asset: posted for asset, posted in desk.books.venue_balances(desk.book).items() if posted}
            assert ours == {asset: held for asset, held in self.exchange.held.items() if held}
            ids = [order.client_order_id for order in self.exchange.placed.values()]
            assert len(ids) == len(set(ids))
            known = desk.books.orders_told(desk.book, [], list(self.exchange.placed))
            assert {str(order.id) for order in known} == set(ids)
            # Staged and never sent is known for certain: it goes out when its decision is asked for again, or is abandoned.
            assert {order.state for order in desk.books.live_orders(desk.book)} <= {State.STAGED}
        assert [check for check in verify(url).checks if not check.ok] == []


def order_for_ever(world: World, url: str) -> None:
    while True:
        world.order(url)


@pytest.fixture
def world() -> World:
    made = World()
    made.funded = set()
    return made


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    named = os.environ.get("KEEL_PG_BIN")
    server = EmbeddedPostgres(
        tmp_path / "postgres", find_binaries(Path(named) if named else None), os.environ.get("KEEL_PG_USER")
    )
    server.start()
    server.create_database("ledger")
    migrate(server.url("ledger"))
    yield server
    server.stop()


def test_a_postgres_that_is_stopped_at_once_loses_and_doubles_nothing(own_postgres: EmbeddedPostgres, world: World) -> None:
    url, dice = own_postgres.url("ledger"), random.Random(20261124)  # noqa: S311 - replays by its seed
    world.order(url)
    for _ in range(DEATHS):
        postmaster = int((own_postgres.data / "postmaster.pid").read_text().split()[0])
        timer = threading.Timer(dice.uniform(0.0, 0.4), os.kill, (postmaster, signal.SIGQUIT))  # as `pg_ctl -m immediate`
        timer.start()
        with pytest.raises(KeelError):
            order_for_ever(world, url)
        timer.join()
        own_postgres.start()
        world.check(url)
    assert world.references > DEATHS
    grid.write("database deaths", Counter({("stopped at once", "at a random instant"): DEATHS}), 0)


def test_a_read_only_database_stops_a_run_before_anything_is_sent(database_url: str, world: World) -> None:
    world.order(database_url)
    sent = world.exchange.submitted
    name = database_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    with connect(database_url) as admin:
        admin.execute(f'alter database "{name}" set default_transaction_read_only = on'.encode())
    with pytest.raises(LedgerUnavailable, match="read-only"):
        world.order(database_url)
    assert world.exchange.submitted == sent
    with connect(database_url) as admin:
        admin.execute("set default_transaction_read_only = off")
        admin.execute(f'alter database "{name}" set default_transaction_read_only = off'.encode())
    world.order(database_url)
    world.check(database_url)


class Scissors:
    """A Unix socket in front of Postgres. At the n-th answer it cuts every connection: what was asked has been done, perhaps
    committed, and nobody hears of it.
    """

    def __init__(self, folder: Path, behind: str) -> None:
        self.behind = behind
        self.left = -1
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(folder / ".s.PGSQL.5432"))
        self.listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.behind)
            self.pairs.append((near, far))
            for source, target, counts in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, target, counts), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(65536):
                if counts and self.left >= 0:
                    self.left -= 1
                    if self.left < 0:
                        self.cut()
                        return
                target.sendall(data)
        except OSError:
            pass  # cut: the other side learns it from its own socket
        finally:
            _end(source, target)

    def cut(self) -> None:
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            _end(*pair)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):  # ended already
            end.shutdown(socket.SHUT_RDWR)  # wakes whoever waits on it; a close alone does not
        end.close()


def test_a_connection_that_is_cut_at_any_answer_loses_and_doubles_nothing(
    postgres: EmbeddedPostgres, database_url: str, world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world.order(database_url)
    folder = Path(tmp_path_factory.mktemp("cut"))
    scissors = Scissors(folder, str(postgres.socket / ".s.PGSQL.5432"))
    through = database_url.replace(quote(str(postgres.socket), safe=""), quote(str(folder), safe=""))
    assert through != database_url
    cut, at = 0, 0
    while at < 400 and cut < CUTS:
        scissors.left = at
        try:
            world.order(through)
        except KeelError:
            cut += 1
            world.check(database_url)
        else:
            break  # one whole order has fewer answers than that: every one of them was cut
        finally:
            scissors.left = -1
            scissors.cut()
        at += 1 if CUTS > 30 else 3
    assert cut > 10
    world.check(database_url)
    grid.write("cuts", Counter({("connections cut", "before an answer arrived"): cut}), 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file-system of 160 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"a small file-system cannot be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_halts_the_run_and_leaves_no_half_of_anything(small_disk: Path, world: World) -> None:
    binaries = find_binaries(Path(named) if (named := os.environ.get("KEEL_PG_BIN")) else None)
    server = EmbeddedPostgres(small_disk / "postgres", binaries, os.environ.get("KEEL_PG_USER"))
    server.start()
    try:
        server.create_database("ledger")
        url = server.url("ledger")
        migrate(url)
        world.order(url)
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):  # closing has nothing left to write
            while True:
                file.write(bytes(2**16))
        with pytest.raises(KeelError):
            order_for_ever(world, url)
        ballast.unlink()
        server.start()  # it may have stopped by itself
        world.check(url)
        world.order(url)
        world.check(url)
    finally:
        server.stop()
