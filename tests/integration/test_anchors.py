"""Anchors see what a chain cannot: a history that was written anew, cut, or put back from an old copy."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import sql
from sqlalchemy import make_url

from config.anchors import anchor_after, anchor_file, evidence, signing_key, write_anchor
from config.postgres import EmbeddedPostgres
from config.settings import Settings
from tests.builders.plans import buy
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.anchors import Anchor, read_lines, sign, signed_by
from trading.cycle import run
from trading.errors import AnchorFailed, ConfigurationError
from trading.store.anchoring import AnchorFile, Evidence, anchor_age, anchor_head
from trading.store.database import Connection, connect
from trading.store.verify import prove, verify

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()
RECHAINED = r"""
do $$ declare r record; before bytea; begin
  select hash into before from keel.audit where seq < {0} order by seq desc limit 1;
  for r in select * from keel.audit where seq >= {0} order by seq loop
    update keel.audit set prev = before, hash = sha256(before || convert_to(concat_ws(e'\n', version, seq, at, actor,
      case when version > 1 then role end, kind, flow_run_id, task_run_id, payload), 'UTF8'))
    where seq = r.seq returning hash into before;
  end loop;
  update keel.audit_head set hash = before, seq = (select max(seq) from keel.audit);
end $$"""
"""Everything from a row on, recomputed: what somebody can do who may write to the tables."""

SHIFTED = """
    alter table keel.audit drop constraint audit_pkey cascade;
    update keel.audit set seq = seq + 1 where seq >= 4;
    insert into keel.audit select 4, version, at, actor, kind, flow_run_id, task_run_id, '{}', prev, sha256('x'), role
      from keel.audit where seq = 3;"""
TAMPERED = {
    "a row edited": ("update keel.audit set payload = payload || ' ' where seq = 4", True),
    "a row deleted": ("delete from keel.audit where seq = 4", True),
    "two rows exchanged": (
        """alter table keel.audit drop constraint audit_pkey cascade;
           update keel.audit set seq = 9 - seq where seq in (4, 5)""",
        True,
    ),
    "a row inserted": (SHIFTED, True),
    "rewritten and recomputed": (
        "update keel.audit set actor = 'somebody else' where seq = 4;" + RECHAINED.format(4),
        False,
    ),
    "a row inserted and all recomputed": (SHIFTED + RECHAINED.format(4), False),
    "the tail cut and the head moved": ("delete from keel.audit where seq > 4;" + RECHAINED.format(4), False),
}
"""What was done -> (how, whether the chain alone shows it)."""


@pytest.fixture
def anchored(database_url: str, tmp_path: Path) -> tuple[str, Evidence]:
    """A ledger with a few rows after its last anchor, and the anchors."""
    file = AnchorFile(tmp_path / "anchors.jsonl")
    with quick_desk(database_url) as desk:
        run(desk)
        anchor_head(desk.journal, file, KEY, NOW)
        later(desk, hours=1)
        run(desk)
        anchor_head(desk.journal, file, KEY, NOW + timedelta(hours=1))
        hand.place(desk, buy("BTC-USD", "0.001"))
    return database_url, Evidence(file.read(), [KEY.public_key()])


def verdicts(connection: Connection, outside: Evidence | None) -> dict[str, bool]:
    return {check.name: check.ok for check in prove(connection, outside).checks}


def past_the_rules(connection: Connection) -> None:
    for table in ("audit", "audit_head", "anchor"):
        connection.execute(f"alter table keel.{table} disable trigger all")


def test_an_honest_ledger_holds_every_anchor(anchored: tuple[str, Evidence]) -> None:
    url, outside = anchored
    assert len(outside.lines.anchors) == 2
    assert not [check for check in verify(url, outside).checks if not check.ok]


@pytest.mark.parametrize("what", TAMPERED)
def test_anchors_show_a_history_that_was(anchored: tuple[str, Evidence], what: str) -> None:
    url, outside = anchored
    how, chain_shows_it = TAMPERED[what]
    with connect(url) as connection, connection.transaction(force_rollback=True):
        past_the_rules(connection)
        connection.execute(how)
        chain = verdicts(connection, None)
        found = verdicts(connection, outside)
    assert chain["audit_chain"] is not chain_shows_it  # recomputed, it is not found without anchors
    assert not (found["audit_chain"] and found["anchors"])


def test_an_old_copy_that_was_put_back_lacks_what_was_anchored_since(
    database_url: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    file = AnchorFile(tmp_path / "anchors.jsonl")
    with quick_desk(database_url) as desk:
        run(desk)
    with connect(postgres.url("postgres")) as admin:
        name = sql.Identifier(str(make_url(database_url).database))
        admin.execute(sql.SQL("create database keel_old_copy template {}").format(name))
    with quick_desk(database_url) as desk:
        later(desk, hours=1)
        run(desk)
        anchor_head(desk.journal, file, KEY, NOW)
    with connect(postgres.url("keel_old_copy")) as connection, connection.transaction():
        found = verdicts(connection, Evidence(file.read(), [KEY.public_key()]))
    assert found["audit_chain"]
    assert not found["anchors"]


def test_an_anchor_of_another_key_or_another_row_is_none() -> None:
    anchor = sign(KEY, 7, b"\1" * 32, NOW)
    assert signed_by(anchor, [KEY.public_key()])
    assert not signed_by(anchor, [Ed25519PrivateKey.generate().public_key()])
    for change in ({"seq": 8}, {"hash": "00"}, {"at": NOW + timedelta(seconds=1)}, {"signature": "AAAA"}, {"signature": "é"}):
        assert not signed_by(replace(anchor, **change), [KEY.public_key()])


def test_an_anchor_survives_its_line() -> None:
    anchor = sign(KEY, 7, b"\1" * 32, NOW)
    assert read_lines(anchor.line() + "\n").anchors == (anchor,)


def test_a_torn_line_loses_its_anchor_and_nothing_else(tmp_path: Path) -> None:
    first, second = (sign(KEY, seq, b"\1" * 32, NOW) for seq in (7, 8))
    file = AnchorFile(tmp_path / "anchors.jsonl")
    file.append(first)
    with file.path.open("a") as torn:
        torn.write(second.line()[:40])
    file.append(second)
    found = file.read()
    assert found.anchors == (first, second)
    assert len(found.torn) == 1
    assert not found.unreadable


def test_a_whole_line_that_is_no_anchor_is_an_exception(anchored: tuple[str, Evidence]) -> None:
    url, outside = anchored
    with connect(url) as connection, connection.transaction():
        found = verdicts(connection, replace(outside, lines=read_lines('{"seq": 1}\n')))
    assert not found["anchors"]


def test_the_age_is_that_of_the_newest_anchor_that_the_chain_holds(anchored: tuple[str, Evidence]) -> None:
    url, outside = anchored
    invented = Anchor(seq=1, hash="00", at=NOW + timedelta(hours=9), key_id="x", signature="x")
    lines = replace(outside.lines, anchors=(*outside.lines.anchors, invented))
    with connect(url) as connection:
        assert anchor_age(connection, replace(outside, lines=lines), NOW + timedelta(hours=2)) == timedelta(hours=1)
        assert anchor_age(connection, replace(outside, keys=[]), NOW) is None


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    made = signing_key(settings).public_key()
    assert signing_key(settings).public_key() == made
    assert (tmp_path / "anchor.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "anchor.key").write_text("no key")
    with pytest.raises(ConfigurationError, match=r"anchor\.key"):
        signing_key(settings)


def test_a_failed_anchor_ends_no_run_and_is_an_operation_that_failed(database_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", anchors=Path("/dev/full"))
    with quick_desk(database_url) as desk:
        run(desk)
        with pytest.raises(AnchorFailed, match=os.strerror(errno.ENOSPC)):
            write_anchor(desk.journal, settings)
        assert anchor_after(desk, settings) is None
        failed = desk.books.connection.execute("select kind, detail from keel.operation where not ok").fetchall()
    assert [kind for kind, _ in failed] == ["anchor"]
    assert not [check for check in verify(database_url).checks if not check.ok]


def test_no_anchor_is_ever_changed_in_the_ledger(database_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with quick_desk(database_url) as desk:
        run(desk)
        assert anchor_after(desk, settings) is not None
    assert len(anchor_file(settings).read().anchors) == 1
    assert verify(database_url, evidence(settings)).ok
    with connect(database_url) as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute("delete from keel.anchor")


@pytest.mark.parametrize("text", ["", '{"at":"2026-11-24T17:39:03Z","hash":"4a1f'])
def test_a_copy_without_one_whole_anchor_proves_nothing_and_is_refused(tmp_path: Path, text: str) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_text(text)
    with pytest.raises(ConfigurationError, match="found not one whole anchor"):
        evidence(Settings(home=tmp_path), copy)
