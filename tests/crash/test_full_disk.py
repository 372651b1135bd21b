"""A full disk under what is only told, and under the anchors: orders and books stay right, and the next run goes on.

The full disk under the ledger itself is in `test_database_dies.py`.
"""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.anchors import anchor_after, anchor_file, evidence
from config.settings import Settings
from tests.builders.candles import write_generated
from tests.builders.plans import LIVELY
from tests.builders.venues import later, quick_desk
from tests.crash.children import in_a_child
from trading import cycle as cycles
from trading.store.database import connect
from trading.store.verify import verify

pytestmark = pytest.mark.crash
KEEL = Path(sys.executable).parent / "keel"
FULL = Path("/dev/full")
"""Takes nothing: every write to it is one to a full disk."""


@dataclass(frozen=True)
class Keel:
    """`keel trade` over one ledger, a slot further each time."""

    environment: dict[str, str]
    url: str

    def trade(self, output: Path) -> int:
        with output.open("ab") as out:
            return subprocess.run([KEEL, "trade"], env=self.environment, stdout=out, stderr=out, check=False).returncode

    def slots(self) -> list[tuple[str, bool]]:
        """(state, whether its summary is kept) of each slot so far."""
        with connect(self.url) as owner:
            rows = owner.execute("select state, summary is not null from keel.cycle order by slot_at").fetchall()
        return [(str(state), bool(told)) for state, told in rows]

    def check(self) -> None:
        with connect(self.url) as owner:
            assert owner.execute("select * from keel.recon_break").fetchall() == []
            unclean = owner.execute("select count(*) from keel.reconciliation where not clean").fetchone()
        assert unclean == (0,)
        assert [found for found in verify(self.url).checks if not found.ok] == []


@pytest.fixture
def keel(database_url: str, tmp_path: Path) -> Keel:
    market = f"replay:{write_generated(tmp_path / 'candles', 5)}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEEL_", "MAX_", "DATABASE_URL"))}
    settings = {"KEEL_HOME": str(tmp_path / "home"), "DATABASE_URL": database_url, "KEEL_MARKET": market}
    return Keel(kept | settings, database_url)


def test_a_command_that_can_print_nothing_has_traded_all_the_same_and_says_so_by_its_status(keel: Keel, tmp_path: Path) -> None:
    assert keel.trade(tmp_path / "said") == 0
    assert keel.trade(FULL) not in (0, 2)
    assert keel.trade(tmp_path / "said") == 0
    assert keel.slots() == [("done", True)] * 3
    keel.check()


def test_a_run_whose_log_stream_is_full_trades_and_reconciles_as_ever(database_url: str) -> None:
    def logged_to_nowhere() -> None:
        stream = FULL.open("w")
        os.dup2(stream.fileno(), 2)  # where `logging` complains about a stream that it cannot write to
        logging.basicConfig(stream=stream, level=logging.DEBUG, force=True)
        with quick_desk(database_url, **LIVELY) as desk:
            for _ in range(3):
                logging.getLogger("trading").error("a line that fits nowhere")
                cycles.run(desk)
                later(desk, hours=1)

    assert in_a_child(logged_to_nowhere) == 0
    with connect(database_url) as owner:
        assert owner.execute("select count(*) from keel.cycle where state = 'done'").fetchone() == (3,)
        assert owner.execute("select count(*) from keel.reconciliation where not clean").fetchone() == (0,)
    assert [found for found in verify(database_url).checks if not found.ok] == []


@pytest.mark.parametrize(
    ("room", "whole"), [(lambda line: line // 2, 2), (lambda line: line - 1, 3)], ids=["torn in the middle", "without its end"]
)
def test_a_disk_that_fills_up_within_an_anchor_spoils_that_line_at_most(
    database_url: str, tmp_path: Path, room: Callable[[int], int], whole: int
) -> None:
    settings = Settings(home=tmp_path / "home")
    with quick_desk(database_url, **LIVELY) as desk:
        cycles.run(desk)
        first = anchor_after(desk, settings)
        assert first is not None
        later(desk, hours=1)

    size = anchor_file(settings).path.stat().st_size

    def filled_up() -> None:
        with quick_desk(database_url, **LIVELY) as desk:
            later(desk, hours=1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + room(size), resource.RLIM_INFINITY))
            cycles.run(desk)
            assert anchor_after(desk, settings) is None

    assert in_a_child(filled_up) == 0
    assert anchor_file(settings).path.stat().st_size == size + room(size)
    with quick_desk(database_url, **LIVELY) as desk:
        later(desk, hours=2)
        cycles.run(desk)
        assert anchor_after(desk, settings) is not None
        failed = desk.books.connection.execute("select kind from keel.operation where not ok").fetchall()
    assert failed == [("anchor",)]
    lines = anchor_file(settings).read()
    assert (len(lines.anchors), len(lines.unreadable)) == (whole, 0)
    assert verify(database_url, evidence(settings)).ok
