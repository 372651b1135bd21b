"""`keel costs`, `gains`, `export` and `replay` as people and programs use them, over one ledger that has traded."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from config.postgres import EmbeddedPostgres
from tests.builders.candles import write_generated
from tests.builders.desks import replay_desk
from tests.builders.plans import LIVELY, buy
from trading import hand
from trading.cycle import run
from trading.money import ZERO
from trading.store.database import migrate

BIN = Path(sys.executable).parent
Keel = Callable[..., str]


@pytest.fixture(scope="module")
def keel(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Keel:
    home = tmp_path_factory.mktemp("evidence")
    postgres.create_database("evidence")
    url = postgres.url("evidence")
    migrate(url)
    folder = write_generated(home / "candles", 5, length=190)
    with replay_desk(url, folder, **LIVELY) as desk:
        for _ in range(8):
            run(desk)
        hand.place(desk, buy("BTC-USD", "0.0001"), "A")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEEL_", "MAX_", "DATABASE_URL"))}
    environment = kept | {"KEEL_HOME": str(home), "DATABASE_URL": url}

    def keel(*arguments: str, status: int = 0) -> str:
        done = subprocess.run([BIN / "keel", *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"keel {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if status == 0 else done.stderr

    return keel


def test_costs_by_any_group_sum_to_the_total(keel: Keel) -> None:
    told = json.loads(keel("costs", "--json"))
    [total] = told["total"]
    assert len(told["orders"]) == total["orders"] > 5
    for by in ("product", "side", "type", "hour"):
        groups = json.loads(keel("costs", "--by", by, "--json"))["groups"]
        assert sum((Decimal(group["shortfall"]) for group in groups), ZERO) == Decimal(total["shortfall"])
    assert "impact" in keel("costs")
    assert "expected one of product" in keel("costs", "--by", "weather", status=2)


def test_gains_are_told_as_table_csv_and_json(keel: Keel) -> None:
    year = json.loads(keel("fills", "--json"))[0]["traded_at"][:4]
    told = json.loads(keel("gains", "--year", year, "--json"))
    rows = list(csv.DictReader(io.StringIO(keel("gains", "--year", year, "--csv"))))
    assert len(rows) == len(told["gains"]) > 0
    assert sum((Decimal(row["gain"]) for row in rows), ZERO) == Decimal(told["sums"][0]["gain"])
    assert rows[0].keys() >= {"acquired", "disposed", "quantity", "proceeds", "cost", "fees", "gain", "held_days"}
    assert "In all" in keel("gains", "--year", year)
    assert keel("gains", "--year", "1999").startswith("No sales in 1999")


def test_the_beancount_file_is_written_and_checked(keel: Keel, tmp_path: Path) -> None:
    keel("export", "beancount", "--out", str(tmp_path / "ledger.beancount"))
    checked = subprocess.run([BIN / "bean-check", tmp_path / "ledger.beancount"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert keel("export", "beancount") == (tmp_path / "ledger.beancount").read_text()


def test_parquet_files_are_written(keel: Keel, tmp_path: Path) -> None:
    assert "postings.parquet" in keel("export", "parquet", "--out", str(tmp_path / "out"))
    assert (tmp_path / "out" / "orders.parquet").exists()


def test_a_decision_is_replayed_by_order_and_by_slot(keel: Keel) -> None:
    order = json.loads(keel("orders", "--json"))[0]
    said = keel("replay", order["client_order_id"])
    assert said == keel("replay", order["slot"])
    assert f"{order['slot']}: the same, " in said
    assert json.loads(keel("replay", order["slot"], "--json"))[0]["differences"] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("default@2020-01-01T00:00:00Z", "found no decision"),
        ("default@noon", "is no slot"),
        ("nonsense", "expected the id of one order"),
    ],
)
def test_what_was_not_decided_cannot_be_replayed(keel: Keel, name: str, said: str) -> None:
    assert said in keel("replay", name, status=2)


def test_an_order_by_hand_is_derived_from_nothing(keel: Keel) -> None:
    order = json.loads(keel("orders", "--json"))[-1]
    assert "placed by hand" in keel("replay", order["client_order_id"], status=2)
