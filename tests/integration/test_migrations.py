"""The schema goes up and down over ledgers that hold something, is copied first, and a copy can be put back."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import pytest

from config.anchors import anchor_after, evidence
from config.postgres import EmbeddedPostgres
from config.settings import Settings
from config.snapshots import latest, ready, restore, snapshot, step_down
from tests.builders.plans import buy
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.errors import BooksRefused, ConfigurationError, LedgerUnavailable
from trading.store.database import HEAD, connect, downgrade, ensure_schema, migrate, revision
from trading.store.journal import Author, Change
from trading.store.migrations.versions.v0002_what_the_venue_says import RULES
from trading.store.migrations.versions.v0003_the_rules_anew import RULES_SHA256
from trading.store.verify import verify

PLANTED_AT_0001 = """
    select keel.record('plan.open', '{
      "configuration": [{"sha256": "' || encode(sha256('{}'), 'hex') || '", "kind": "plan", "body": "{}"}],
      "portfolios": [{"book": "paper:old", "mode": "paper", "name": "old", "source": "coinbase", "cash_asset": "USD",
                      "lot_method": "fifo"}],
      "operations": [{"book": "paper:old", "plan": "default", "kind": "fetch", "ok": true, "detail": ""}]}', 'anna', '', '')"""


@pytest.fixture
def filled(database_url: str) -> str:
    """A ledger after two cycles and an order."""
    with quick_desk(database_url) as desk:
        run(desk)
        hand.place(desk, buy("BTC-USD", "0.001"))
        later(desk, hours=1)
        run(desk)
    return database_url


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def empty(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without a schema."""
    postgres.create_database("keel_unmigrated")
    yield postgres.url("keel_unmigrated")
    with connect(postgres.url("postgres")) as admin:
        admin.execute("drop database keel_unmigrated with (force)")


def rows(url: str) -> dict[str, int]:
    """Table of `keel` -> how many rows it holds."""
    with connect(url) as connection:
        names = [str(name) for (name,) in connection.execute("select tablename from pg_tables where schemaname = 'keel'")]
        return {name: int(str(connection.execute(f"select count(*) from keel.{name}").fetchall()[0][0])) for name in names}


def at(url: str) -> str | None:
    with connect(url) as connection:
        return revision(connection)


def test_an_empty_ledger_goes_up_and_down_at_every_revision(empty: str) -> None:
    for to in ("0001", "0002", HEAD):
        migrate(empty, to)
        assert at(empty) == to
    for to in ("0002", "0001"):
        downgrade(empty, to)
        assert at(empty) == to
    migrate(empty)
    downgrade(empty, "base")
    assert at(empty) is None


def test_a_filled_ledger_of_the_first_revision_goes_up_and_down_without_losing_a_row(empty: str, settings: Settings) -> None:
    migrate(empty, "0001")
    with connect(empty) as connection:
        connection.execute(PLANTED_AT_0001)
    before = rows(empty)
    ready(empty, settings)
    after = rows(empty)
    assert at(empty) == HEAD
    assert {name: after[name] for name in before if name != "transition"} == {
        name: count for name, count in before.items() if name != "transition"
    }
    assert not [check for check in verify(empty).checks if not check.ok]
    step_down(empty, settings, "0001")
    assert rows(empty) == before
    ready(empty, settings)
    assert at(empty) == HEAD


def test_a_ledger_of_the_second_revision_gets_the_rules_of_today(filled: str, settings: Settings) -> None:
    downgrade(filled, "0002")
    with connect(filled) as connection:  # as it was released: two readings of the clock, and a day was a microsecond too long
        connection.execute("""create or replace function keel.apply_armings(p jsonb) returns int language plpgsql as $$ begin
          insert into keel.arming (id, book, armed_by, reason, armed_at, expires_at)
          select id, book, armed_by, reason, clock_timestamp(), clock_timestamp() + make_interval(secs => seconds)
          from jsonb_to_recordset(p) as x (id uuid, book text, armed_by text, reason text, seconds float); return 1; end $$""")
    before = rows(filled)
    ready(filled, settings)
    assert (at(filled), rows(filled)) == (HEAD, before)
    with quick_desk(filled) as desk:
        change = Change()
        change.add("armings", id=uuid4(), book=desk.book, armed_by="anna", reason="a day", seconds=24 * 3600)
        desk.journal.record("live.arm", change)
    assert not [check for check in verify(filled).checks if not check.ok]


def test_the_rules_are_those_of_the_newest_revision() -> None:
    texts = "".join((files("trading.store").joinpath(*path)).read_text() for path in RULES)
    assert sha256(texts.encode()).hexdigest() == RULES_SHA256, "a rule was changed: add a migration that loads the rules anew"


def test_a_snapshot_is_taken_before_an_upgrade_of_a_ledger_that_holds_something(empty: str, settings: Settings) -> None:
    ready(empty, settings)
    assert latest(settings) is None
    downgrade(empty, "0001")
    with connect(empty) as connection:
        connection.execute(PLANTED_AT_0001)
    ready(empty, settings)
    taken = latest(settings)
    assert taken is not None
    assert taken.stat().st_mode & 0o777 == 0o600
    ready(empty, settings)
    assert latest(settings) == taken


def test_no_upgrade_happens_when_the_snapshot_fails(empty: str) -> None:
    migrate(empty, "0001")
    with connect(empty) as connection:
        connection.execute(PLANTED_AT_0001)

    def full() -> None:
        raise LedgerUnavailable("no space left")

    with pytest.raises(LedgerUnavailable, match="no space"):
        ensure_schema(empty, before_upgrade=full)
    assert at(empty) == "0001"


def test_a_downgrade_that_would_lose_rows_is_refused_and_names_them(filled: str, settings: Settings) -> None:
    with quick_desk(filled) as desk:
        assert anchor_after(desk, settings) is not None
    before = rows(filled)
    with pytest.raises(BooksRefused, match="anchors"):
        step_down(filled, settings, "0001")
    assert at(filled) == HEAD
    assert rows(filled) == before
    with pytest.raises(ConfigurationError, match="0099"):
        downgrade(filled, "0099")


def test_the_first_revision_is_not_taken_down_over_an_audit_trail(empty: str) -> None:
    migrate(empty, "0001")
    with connect(empty) as connection:
        connection.execute(PLANTED_AT_0001)
    with pytest.raises(BooksRefused, match="audit"):
        downgrade(empty, "base")
    assert at(empty) == "0001"


def test_a_restored_snapshot_is_the_ledger_of_that_time_with_trading_held(filled: str, settings: Settings) -> None:
    with quick_desk(filled) as desk:
        anchor_after(desk, settings)
    before = rows(filled)
    copy = snapshot(filled, settings)
    with quick_desk(filled) as desk:
        later(desk, hours=2)
        run(desk)
        anchor_after(desk, settings)

    outside = evidence(settings)
    done = restore(filled, settings, copy, lambda: Author("anna"))

    assert done.same_history
    assert done.lost["cycle.claimed"] == 1
    now = rows(filled)
    assert {name: now[name] - count for name, count in before.items() if now[name] != count} == {"audit": 1, "breaker_event": 1}
    proof = verify(filled)
    assert not [check for check in proof.checks if not check.ok]
    held = {check.name for check in verify(filled, outside).checks if not check.ok}
    assert held == {"anchors"}  # an old copy was put back, and whoever kept the anchors sees it
    assert done.anchors is not None
    assert evidence(settings) is None
    with quick_desk(filled) as desk:
        (row,) = desk.books.breakers(["portfolio:paper:main"])
    assert (row.state, row.level, row.opened_by) == ("open", "no_new", "anna")
    assert row.reason.startswith("restored from a snapshot")
    assert rows(filled.replace(filled.rsplit("/", 1)[1].split("?", maxsplit=1)[0], done.kept))["audit"] > now["audit"]


def test_nothing_is_replaced_by_a_bad_snapshot_or_while_somebody_uses_the_ledger(filled: str, settings: Settings) -> None:
    copy, before = snapshot(filled, settings), rows(filled)
    with connect(filled, "a cycle"), pytest.raises(LedgerUnavailable, match="a cycle"):
        restore(filled, settings, copy, lambda: Author("anna"))
    cut = copy.with_name("cut.dump")
    cut.write_bytes(copy.read_bytes()[:-2000])
    with pytest.raises(LedgerUnavailable, match="pg_restore"):
        restore(filled, settings, cut, lambda: Author("anna"))
    assert rows(filled) == before
