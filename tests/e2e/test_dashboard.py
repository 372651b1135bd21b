"""The dashboard in a real headless Chromium: a fill arrives, a lost database is said, nothing leaves the machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.postgres import EmbeddedPostgres
from config.settings import PROJECT
from tests.builders.plans import buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.desk import Desk
from trading.store.database import connect

pytestmark = pytest.mark.e2e
pytest.importorskip("streamlit", reason="the extra `dashboard` is not installed")

KEEL = Path(sys.executable).parent / "keel"
PICTURES = PROJECT / "build" / "dashboard"
VIEWS = {"Live trades": "Fills", "Positions": "Positions", "Portfolio": "Equity and drawdown", "Risk": "Concentration",
         "Health": "Data", "Why": "Audit rows"}  # fmt: skip
"""View -> a heading near its end."""
WAIT_MS = 60_000


@dataclass(frozen=True)
class Served:
    address: str
    desk: Desk
    database: str


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Served]:
    """`keel dashboard` over books with a round trip in them."""
    with quick_desk(database_url) as desk, socket.socket() as probe:
        run(desk)
        trade(desk)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        with dashboard(database_url, tmp_path, port):
            yield Served(f"http://127.0.0.1:{port}", desk, re.sub(r".*/([\w]+)\?.*", r"\1", database_url))


def trade(desk: Desk) -> None:
    later(desk, minutes=10)
    hand.place(desk, buy("BTC-USD", "0.001"))
    desk.source.prices["BTC-USD"] = "50500"  # type: ignore[attr-defined]  # the quiet market
    later(desk, minutes=10)
    hand.place(desk, sell("BTC-USD", "0.0005"))


class dashboard:  # noqa: N801 - read as a verb: with dashboard(...)
    """The process, until the end of the block; ended as by Ctrl-C."""

    def __init__(self, url: str, folder: Path, port: int) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEEL_", "PREFECT_", "DATABASE_"))}
        self.environment = kept | {"KEEL_HOME": str(folder / "home"), "DATABASE_URL": url}
        self.log, self.port = folder / "dashboard.log", port

    def __enter__(self) -> None:
        with self.log.open("w") as out:
            self.process = subprocess.Popen([str(KEEL), "dashboard", "--port", str(self.port)], env=self.environment, stdout=out,
                                            stderr=out, start_new_session=True)  # fmt: skip
        end = time.monotonic() + 90
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)

    def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.port}/_stcore/health", trust_env=False).is_success
        return False

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(30)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that keeps what went wrong: `.failures` and `.asked`, the hosts that it sent requests to."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(WAIT_MS)
    opened.failures, opened.asked = [], set()
    opened.on("pageerror", lambda error: opened.failures.append(str(error)))
    opened.on("request", lambda request: opened.asked.add(re.sub(r"^\w+://([^/]*).*", r"\1", request.url)))
    opened.on("websocket", lambda socket_: opened.asked.add(re.sub(r"^\w+://([^/]*).*", r"\1", socket_.url)))
    yield opened
    opened.close()


def picture(page: Any, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def look_at(page: Any, view: str) -> None:
    """Opens the view and waits until all of it is there."""
    page.get_by_role("radio", name=view, exact=True).click()
    page.get_by_role("heading", name=VIEWS[view], exact=True).wait_for()
    page.wait_for_function("!document.querySelector('[data-stale=true]')")
    if view == "Portfolio":
        page.locator(".js-plotly-plot svg .scatterlayer path").first.wait_for(state="attached")


@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_is_readable_and_asks_nobody(served: Served, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1800})
    page.goto(served.address)
    page.get_by_text("PAPER", exact=True).wait_for()
    for view in VIEWS:
        look_at(page, view)
        assert page.locator('[data-testid="stException"], [data-testid="stAlertContentError"]').count() == 0
        picture(page, f"{view.lower().replace(' ', '-')}-{width}")
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, view
    assert page.failures == []
    assert page.asked == {served.address.removeprefix("http://")}


def test_a_fill_appears_by_itself(served: Served, page: Any) -> None:
    page.goto(served.address)
    page.locator("canvas td", has_text="0.0005").first.wait_for(state="attached")
    later(served.desk, minutes=10)
    placed = hand.place(served.desk, buy("BTC-USD", "0.0012"))
    committed = time.monotonic()
    page.locator("canvas td", has_text="0.0012").first.wait_for(state="attached")
    seconds = time.monotonic() - committed
    assert placed.order is not None
    assert placed.order.filled == Decimal("0.0012")
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / "fill-seconds.txt").write_text(f"{seconds:.2f} s from the commit of a fill to its row on the screen\n")


def test_a_lost_database_is_said_and_nothing_old_is_left(served: Served, page: Any, postgres: EmbeddedPostgres) -> None:
    page.goto(served.address)
    page.locator('[data-testid="stMetricValue"]').first.wait_for()
    with connect(postgres.url("postgres")) as admin:
        admin.execute(f"alter database {served.database} with allow_connections false")
        admin.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{served.database}'")
        page.get_by_text("LEDGER LOST").first.wait_for()
        page.locator('[data-testid="stMetricValue"]').first.wait_for(state="detached")
        picture(page, "lost")
        admin.execute(f"alter database {served.database} with allow_connections true")
    page.locator('[data-testid="stMetricValue"]').first.wait_for()
    assert page.get_by_text("LEDGER LOST").count() == 0
