"""The hourly proof under a real Prefect server: a broken check halts everything, and says which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.verify import verify as proof
from tests.builders.venues import quick_desk
from trading.cycle import run
from trading.risk import Level
from trading.store.database import connect
from trading.store.halting import halt
from trading.store.verify import verify


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> Iterator[None]:
    monkeypatch.setenv("KEEL_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database_url.replace("+psycopg", ""))
    with prefect_test_harness():
        yield


@pytest.mark.usefixtures("server")
def test_the_hourly_proof_completes_on_an_honest_ledger_and_halts_on_a_broken_one(database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        assert proof(return_state=True).message.startswith("all ")
        with connect(database_url) as owner:
            owner.execute("alter table keel.account disable trigger all")
            owner.execute("update keel.account set posted = posted + 1 where kind = 'venue'")
        ended = proof(return_state=True)
        (row,) = desk.books.breakers(["global"])
    assert ended.is_failed()
    assert "balances_equal_postings" in ended.message
    assert (row.state, row.level) == ("open", "cancel")
    assert row.reason == "verify: ledger_sums_to_zero, balances_equal_postings"


def test_a_halt_only_ever_makes_a_breaker_stricter(database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        now = desk.wall()
        for level, stands in ((Level.NO_NEW, "no_new"), (Level.CANCEL, "cancel"), (Level.REDUCE_ONLY, "cancel")):
            assert halt(desk.journal, "global", level, "a test", now).level == stands
        assert halt(desk.journal, "portfolio:paper:other", Level.NO_NEW, "no such row yet", now).state == "open"
    assert verify(database_url).ok
