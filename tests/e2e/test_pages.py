"""The pages that a person opens, in a real headless Chromium: the Prefect UI of a running stack, and the report."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.desk import open_desk
from config.settings import Settings
from tests.builders.candles import write_generated
from trading import cycle as cycles

pytestmark = pytest.mark.e2e

KEEL = Path(sys.executable).parent / "keel"


@dataclass(frozen=True)
class Running:
    home: Path
    address: str
    printed: str

    @property
    def password(self) -> str:
        return (self.home / "auth").read_text().strip()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A stack on generated candles, after its first run of trade/paper and one of report/daily."""
    folder = tmp_path_factory.mktemp("pages")
    home, log = folder / "home", folder / "up.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KEEL_", "PREFECT_", "DATABASE_"))}
    environment |= {"KEEL_HOME": str(home), "KEEL_MARKET": f"replay:{write_generated(folder / 'candles', 3)}"}
    with open_desk(settings=Settings(home=home, market=environment["KEEL_MARKET"])) as desk:
        for _ in range(60):  # some history without the orchestrator, so that there is something to draw
            cycles.run(desk)
    with log.open("w") as out:
        stack = subprocess.Popen([str(KEEL), "up"], env=environment, stdout=out, stderr=out)
    try:
        await_text(log, "This run", stack)
        shell = f'. "{home}/env.sh" && prefect deployment run report/daily --watch'
        subprocess.run(["/bin/sh", "-c", shell], env=environment, check=True, capture_output=True, timeout=120)
        printed = log.read_text()
        found = re.search(r"http://127\.0\.0\.1:\d+", printed)
        assert found, printed
        yield Running(home, found.group(), printed)
    finally:
        stack.send_signal(signal.SIGINT)
        stack.wait(90)


def await_text(log: Path, text: str, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that keeps what went wrong: `.failures` and `.asked`, the hosts that it sent requests to."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.failures, opened.asked = [], set()
    opened.on("pageerror", lambda error: opened.failures.append(str(error)))
    opened.on("request", lambda request: opened.asked.add(re.sub(r"^(\w+://[^/]*).*", r"\1", request.url)))
    yield opened
    opened.close()


def log_in(page: Any, running: Running) -> None:
    page.goto(f"{running.address}/login")
    page.fill("input", running.password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard**")


def test_the_ui_asks_for_the_password_and_shows_the_run_its_summary_and_the_form(running: Running, page: Any) -> None:
    log_in(page, running)

    page.goto(f"{running.address}/runs")
    page.get_by_text("default@").first.wait_for()

    page.goto(f"{running.address}/deployments")
    for name in ("trade", "reconcile", "report"):
        page.get_by_text(name, exact=True).first.wait_for()

    run = re.search(r"/runs/flow-run/[0-9a-f-]+", running.printed)
    assert run
    page.goto(running.address + run.group())
    page.get_by_text("10 Task runs").wait_for()

    page.goto(f"{running.address}/artifacts/key/trade-default")
    page.get_by_text("traded:").first.wait_for()
    page.goto(f"{running.address}/artifacts/key/report-default")
    page.get_by_text("since the opening").first.wait_for()
    assert {asked for asked in page.asked if asked.startswith(("http", "ws"))} == {running.address}


def test_the_form_of_a_run_says_what_each_parameter_means(running: Running, page: Any) -> None:
    log_in(page, running)
    page.goto(f"{running.address}/deployments")
    link = page.locator('a[href*="/deployments/deployment/"]', has_text="paper").first
    page.goto(running.address + link.get_attribute("href") + "/run")
    told = page.get_by_text("Name of a plan in config/plans").first
    told.wait_for()
    assert told.is_visible()


def test_a_stranger_is_not_let_in(running: Running, page: Any) -> None:
    answer = page.request.post(f"{running.address}/api/flow_runs/filter", data={})
    assert answer.status == 401


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_draws_its_charts_and_asks_nobody(running: Running, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((running.home / "reports" / "default" / "latest.html").as_uri())
    page.get_by_text("Equity and drawdown").wait_for()
    page.wait_for_selector("svg .scatterlayer path")
    page.get_by_text("Max drawdown").first.wait_for()
    assert page.failures == []
    assert {asked for asked in page.asked if asked.startswith("http")} == set()
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
