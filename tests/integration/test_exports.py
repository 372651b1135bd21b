"""The ledger in other programs' hands: beancount's own check, balances and parquet's numbers are ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from beancount import loader
from beancount.core import data, realization

from config.postgres import EmbeddedPostgres
from tests.builders.plans import buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.movements import Movement, MovementKind
from trading.orders import FillKind, Side
from trading.reconcile import reconcile
from trading.store.beancount import account_name, beancount, commodity
from trading.store.database import connect, engine, migrate
from trading.store.parquet import TABLES, write_parquet
from trading.store.reports import Reports, Scope


@pytest.fixture(scope="module")
def ledger(postgres: EmbeddedPostgres) -> Iterator[Reports]:
    """Trades, a stranger's order, a staking reward, a withdrawal that nobody announced, a fill that was taken back."""
    postgres.create_database("keel_exports")
    url = postgres.url("keel_exports")
    migrate(url)
    with quick_desk(url, name="my_plan") as desk:
        exchange, at = desk.exchange, desk.source.at
        run(desk)
        later(desk, minutes=5)
        hand.place(desk, buy("BTC-USD", "0.001"), "A")
        desk.source.prices["BTC-USD"] = "50500"
        hand.place(desk, buy("BTC-USD", "0.0011"), "B")
        hand.place(desk, sell("BTC-USD", "0.0005"), "C")
        exchange.trades(next(iter(exchange.placed.values())), "0.001", kind=FillKind.REVERSAL, trade="t", price="50000")
        reconcile(desk)
        exchange.foreign("ETH-USD", Side.BUY, "0.01")
        for kind, asset, amount in ((MovementKind.INCOME, "1INCH", "0.25"), (MovementKind.WITHDRAWAL, "USD", "10")):
            exchange.move(Movement(
                entry_id=f"moved {asset}", kind=kind, asset=asset, amount=Decimal(amount), to_asset=None, to_amount=None,
                happened_at=at, note='said "so"',
            ))  # fmt: skip
        reconcile(desk)
    bind = engine(url)
    yield Reports(bind)
    bind.dispose()
    with connect(postgres.url("postgres")) as admin:
        admin.execute("drop database keel_exports with (force)")


def accounts(ledger: Reports) -> list[dict[str, object]]:
    return [dict(row) for row in ledger.mappings("select * from keel.account order by name")]


@pytest.fixture
def file(ledger: Reports, tmp_path: Path) -> Path:
    written = tmp_path / "keel.beancount"
    written.write_text("\n".join(beancount(ledger, Scope())) + "\n")
    return written


def test_bean_check_accepts_the_whole_ledger(file: Path) -> None:
    checked = subprocess.run([Path(sys.executable).parent / "bean-check", file], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_beancount_s_balances_are_ours(file: Path, ledger: Reports) -> None:
    entries, errors, _ = loader.load_file(str(file))
    assert errors == []
    tree = realization.realize(entries)
    ours = accounts(ledger)
    assert len(ours) > 10
    for account in ours:
        held = realization.get(tree, account_name(account)).balance
        units = {position.units.currency: position.units.number for position in held}
        assert units == ({commodity(str(account["asset"])): account["posted"]} if account["posted"] else {})


def test_every_transaction_and_posting_is_there(file: Path, ledger: Reports) -> None:
    entries, _, _ = loader.load_file(str(file))
    found = [entry for entry in entries if isinstance(entry, data.Transaction)]
    [row] = ledger.mappings("select (select count(*) from keel.txn) as txns, (select count(*) from keel.posting) as postings")
    assert len(found) == row["txns"]
    assert sum(len(entry.postings) for entry in found) == row["postings"]


def test_a_changed_number_is_found_by_bean_check(file: Path) -> None:
    text = file.read_text()
    line = next(line for line in text.splitlines() if " balance " in line and line.endswith(" USD") and " 0 ~" not in line)
    number = line.split()[3]
    file.write_text(text.replace(line, line.replace(number, f"{Decimal(number) + Decimal('1e-9'):f}")))
    _, errors, _ = loader.load_file(str(file))
    assert len(errors) == 1


def test_names_that_beancount_does_not_know_are_escaped_and_stay_apart() -> None:
    assert [commodity(asset) for asset in ("BTC", "S", "1INCH", "TRUE", "A-B")] == ["BTC", "S", "X.1INCH", "X.TRUE", "X.A_2D_B"]
    fields = {"book": "paper:main", "kind": "venue", "asset": "USD", "product": ""}
    names = [account_name({**fields, "plan": plan}) for plan in ("a_b", "a-u-b", "a-b", "outside", "(outside)")]
    assert len(set(names)) == 5
    assert names[0] == "Assets:Venue:Paper:Main:A-U-b:USD"


def test_parquet_holds_every_row_exactly(ledger: Reports, tmp_path: Path) -> None:
    counts = write_parquet(ledger, tmp_path / "out")
    assert counts.keys() == TABLES.keys()
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == sorted(TABLES)
    postings = pq.read_table(tmp_path / "out" / "postings.parquet").to_pylist()
    sums: dict[str, Decimal] = {}
    for row in postings:
        sums[row["account"]] = sums.get(row["account"], Decimal(0)) + row["amount"]
    assert sums == {account["name"]: account["posted"] for account in accounts(ledger) if account["name"] in sums}
    for name, rows in counts.items():
        assert pq.read_metadata(tmp_path / "out" / f"{name}.parquet").num_rows == rows


def test_an_empty_ledger_exports_too(database_url: str, tmp_path: Path) -> None:
    empty = Reports(engine(database_url))
    assert set(write_parquet(empty, tmp_path / "out").values()) == {0}
    (tmp_path / "empty.beancount").write_text("\n".join(beancount(empty, Scope())) + "\n")
    assert loader.load_file(str(tmp_path / "empty.beancount"))[1] == []
