"""The daily reconciliation under a real Prefect server: it also derives the newest decisions anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.parameters import ReconcileParameters
from flows.reconcile import reconcile
from tests.builders.candles import write_generated
from tests.builders.desks import replay_desk
from trading.cycle import run
from trading.desk import Desk
from trading.store.decisions import Decisions
from trading.store.journal import Change

PLAN = """
name = "default"
products = ["BTC-USD", "ETH-USD"]
[strategy]
name = "crossover"
[strategy.parameters]
fast = 12
slow = 48
[controls]
duplicate_seconds = 0
"""


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> Iterator[Desk]:
    folder = write_generated(tmp_path / "candles", 3, length=180)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "default.toml").write_text(PLAN)
    for name, value in (("HOME", tmp_path), ("MARKET", f"replay:{folder}"), ("PLANS", tmp_path / "plans")):
        monkeypatch.setenv(f"KEEL_{name}", str(value))
    monkeypatch.setenv("DATABASE_URL", database_url.replace("+psycopg", ""))
    with prefect_test_harness(), replay_desk(database_url, folder) as opened:
        for _ in range(3):
            run(opened)
        yield opened


def test_a_decision_that_comes_out_otherwise_fails_the_day_and_is_a_break(desk: Desk) -> None:
    parameters = ReconcileParameters(plan="default")
    assert reconcile(parameters, return_state=True).is_completed()
    [one] = Decisions(desk.books.connection).newest(desk.book, "default", 1)
    change = Change()
    kept = {name: getattr(one, name) for name in ("book", "plan", "plan_sha", "code", "seen")}
    change.add("decisions", slot_at=one.slot_at + timedelta(minutes=1), decided="{}", **kept)
    desk.journal.record("evaluate", change)
    ended = reconcile(parameters, return_state=True)
    assert ended.is_failed()
    assert "1 decisions come out otherwise" in ended.message
    assert [row["class"] for row in desk.books.open_breaks(desk.book)] == ["replay"]
