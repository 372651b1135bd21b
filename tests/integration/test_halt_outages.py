"""Every way to stop against every outage: what works in which cell, with real processes.

| way          | worker dead          | Prefect down | Postgres down                                |
|--------------|----------------------|--------------|----------------------------------------------|
| halt file    | works                | works        | works                                        |
| `keel halt`  | works                | works        | file, and the venue's own list               |
| SQL          | works                | works        | cannot                                       |
| `breaker/halt` in the UI | waits for a worker | cannot | cannot                                      |

The ledger's side of a cell is told here, without any Prefect: each of these processes runs as if worker and server were dead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from config.desk import open_desk
from config.settings import PROJECT
from tests.builders.plans import PLAN_FILE, buy, sell, submit
from tests.builders.simulator import Running, running
from trading import hand
from trading.cycle import run
from trading.exchange.port import Accepted, Status
from trading.orders import OrderType, Request, Side, State, TimeInForce
from trading.store.database import connect
from trading.store.verify import verify

KEEL = Path(sys.executable).parent / "keel"
NOWHERE = "postgresql://nobody@127.0.0.1:1/keel"


@dataclass(frozen=True)
class Keel:
    environment: dict[str, str]

    def __call__(self, *arguments: str, status: int | None = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(KEEL), *arguments], env=self.environment | more, capture_output=True, text=True, check=False, timeout=120
        )
        said = f"keel {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert status is None or done.returncode == status, said
        return done

    def json(self, *arguments: str, status: int = 0, **more: str) -> Any:
        return json.loads(self(*arguments, "--json", status=status, **more).stdout)

    def steps(self, *, status: int, **more: str) -> dict[str, dict[str, Any]]:
        return {step["step"]: step for step in self.json("halt", "a drill", status=status, **more)}


@pytest.fixture
def keel(database_url: str, tmp_path: Path) -> Keel:
    """A ledger on the synthetic market whose plan has a purchase resting at the paper exchange."""
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "default.toml").write_text(PLAN_FILE)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEEL_", "MAX_", "DATABASE_URL"))}
    plans = str(tmp_path / "plans")
    named = {"KEEL_HOME": str(tmp_path), "DATABASE_URL": database_url, "KEEL_MARKET": "synthetic", "KEEL_PLANS": plans}
    with pytest.MonkeyPatch.context() as environment:  # in this process: a command takes seconds to start
        for name, value in named.items():
            environment.setenv(name, value)
        with open_desk() as desk:
            bid = run(desk).market.quotes["BTC-USD"].bid  # type: ignore[union-attr]
            request = buy(quantity="0.0004", type=OrderType.LIMIT, limit_price=round(bid * Decimal("0.97"), 2),
                          time_in_force=TimeInForce.GTC)  # fmt: skip
            placed = hand.place(desk, request).order
    assert placed is not None
    assert placed.state is State.OPEN
    return Keel(kept | named)


def states(keel: Keel) -> list[str]:
    with connect(keel.environment["DATABASE_URL"]) as connection:
        return [str(row[0]) for row in connection.execute("select state from keel.orders where type = 'limit'")]


def standing(keel: Keel) -> tuple[object, ...] | None:
    with connect(keel.environment["DATABASE_URL"]) as connection:
        return connection.execute("select state, level from keel.breaker where scope = 'global'").fetchone()


def test_the_command_writes_the_file_opens_the_breaker_and_cancels_what_adds_risk(keel: Keel, tmp_path: Path) -> None:
    steps = keel.steps(status=0)
    assert (steps["halt file"]["ok"], steps["breaker"]["ok"], steps["books of paper:main"]["ok"]) == (True, True, True)
    assert "a drill" in (tmp_path / "HALT").read_text()
    assert standing(keel) == ("open", "cancel")
    assert states(keel) == ["cancelled"]
    refused = keel("order", "BUY", "BTC-USD", "0.0002", status=1)
    assert "breaker_open" in refused.stderr
    keel("verify")


LOOKS = """
import sys
from pathlib import Path

file = Path(sys.argv.pop())

class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "config.stopping":
            print("the file is there" if file.exists() else "no file yet", file=sys.stderr)

sys.meta_path.insert(0, Look())
from deployments.cli import main
main()
"""


def test_the_command_writes_the_file_before_it_imports_what_it_needs_for_the_rest(keel: Keel, tmp_path: Path) -> None:
    """Those imports take seconds on a machine at work, and no order may leave meanwhile."""
    command = [sys.executable, "-c", LOOKS, "halt", "a drill", str(tmp_path / "HALT")]
    done = subprocess.run(command, env=keel.environment, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120)
    assert "the file is there" in done.stderr, done.stderr
    assert "a drill" in (tmp_path / "HALT").read_text()


def test_with_postgres_down_the_command_still_stops_every_order_and_says_what_it_could_not_do(keel: Keel, tmp_path: Path) -> None:
    steps = keel.steps(status=1, DATABASE_URL=NOWHERE)
    assert (steps["halt file"]["ok"], steps["breaker"]["ok"]) == (True, False)
    assert "down" in steps["breaker"]["said"]
    refused = keel("order", "BUY", "BTC-USD", "0.0002", status=1)  # Postgres is back; the file alone tells
    assert "breaker_open" in refused.stderr
    assert states(keel) == ["cancelled"]
    assert (tmp_path / "HALT").exists()


def test_a_file_that_anybody_touches_stops_orders_and_cancels_at_the_next_run(keel: Keel, tmp_path: Path) -> None:
    (tmp_path / "HALT").touch()
    keel("reconcile", status=None)
    assert states(keel) == ["cancelled"]
    refused = keel("order", "BUY", "BTC-USD", "0.0002", status=1)  # a sale might find nothing to sell, by the hour's signal
    assert "breaker_open" in refused.stderr or "not_safe" in refused.stderr


def test_sql_opens_a_breaker_that_every_later_send_obeys(keel: Keel, database_url: str) -> None:
    """The runbook's statement, by a login that may only trip."""
    with connect(database_url) as connection:
        connection.execute("set role keel_decide")
        connection.execute("select keel.trip('global', 'cancel', 'by SQL', 'anna')")
        assert connection.execute("select keel.trip('global', 'no_new', 'weaker', 'anna')").fetchone() == (None,)
    refused = keel("order", "BUY", "BTC-USD", "0.0002", status=1)
    assert "breaker_open" in refused.stderr
    assert states(keel) == ["cancelled"]
    assert verify(keel.environment["DATABASE_URL"]).ok


def test_the_file_goes_by_a_resume_and_only_when_the_cool_down_is_over(keel: Keel, tmp_path: Path) -> None:
    keel.steps(status=0)
    refused = keel("resume", "--reason", "at once", status=1)
    assert "cooling_down" in refused.stderr
    assert (tmp_path / "HALT").exists()
    keel("order", "BUY", "BTC-USD", "0.0002", status=1)


def test_a_resume_without_a_cool_down_takes_the_file_away_and_orders_pass_again(keel: Keel, tmp_path: Path) -> None:
    with (tmp_path / "plans" / "default.toml").open("a") as plan:
        plan.write("[breaker]\ncool_down_minutes = 0\n")
    (tmp_path / "HALT").touch()
    keel("resume", "--reason", "a drill, over")
    assert not (tmp_path / "HALT").exists()
    assert standing(keel) == ("half_open", None)
    keel("order", "BUY", "BTC-USD", "0.0002")


# --------------------------------------------------------------------------------------- a real venue, and no ledger


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "simulator", "--public-rate", "0") as started:
        yield started


def limit(side: Side, price: int) -> Request:
    make = buy if side is Side.BUY else sell
    return make(quantity="0.001", type=OrderType.LIMIT, limit_price=Decimal(price), time_in_force=TimeInForce.GTC)


def test_with_postgres_down_a_real_venue_is_cleared_by_its_own_list(simulator: Running, tmp_path: Path) -> None:
    exchange = simulator.exchange()
    for request in (limit(Side.BUY, 50000), limit(Side.BUY, 51000), limit(Side.SELL, 70000)):
        assert isinstance(submit(exchange, exchange.body(uuid4(), request)), Accepted)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEEL_", "MAX_", "DATABASE_URL"))}
    steps = Keel(kept | {"KEEL_HOME": str(tmp_path), "DATABASE_URL": NOWHERE}).steps(status=1)
    assert steps["rehearsal orders"]["ok"], steps
    assert "2 cancelled, 0 left" in steps["rehearsal orders"]["said"]
    open_ = [order.side for order in exchange.orders(datetime.now(UTC)) if order.status is Status.OPEN]
    assert open_ == [Side.SELL]
