"""Every stored decision is derived anew, byte for byte; what changed since is named, and what must not differ is a break."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from config.postgres import EmbeddedPostgres
from tests.builders.desks import replay_desk
from tests.builders.plans import LIVELY
from trading.cycle import run
from trading.desk import Desk
from trading.errors import ConfigurationError
from trading.proof import SAMPLE, Replayed, prove, replay
from trading.store.database import connect, migrate
from trading.store.decisions import Decisions, StoredDecision
from trading.store.journal import Change
from trading.store.reports import Scope

SLOTS = 30


@pytest.fixture(scope="module")
def traded(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Thirty slots of a plan that trades at each of them, with refusals: few orders a day are allowed."""
    postgres.create_database("keel_replay")
    url = postgres.url("keel_replay")
    migrate(url)
    few = {"controls": {"max_orders_per_day": 4}}
    with replay_desk(url, tmp_path_factory.mktemp("candles"), length=169 + SLOTS + 10, **(LIVELY | few)) as desk:
        for _ in range(SLOTS):
            run(desk)
        yield desk
    with connect(postgres.url("postgres")) as admin:
        admin.execute("drop database keel_replay with (force)")


@pytest.fixture
def stored(traded: Desk) -> list[StoredDecision]:
    return Decisions(traded.books.connection).newest(traded.book, traded.plan.name, 1000)


def test_every_decision_is_derived_anew_byte_for_byte(traded: Desk, stored: list[StoredDecision]) -> None:
    found = list(replay(traded.books.connection, stored))
    assert len(found) == SLOTS
    assert [one for one in found if not one.same] == []
    assert sum(one.requests for one in found) > SLOTS
    assert sum(one.refused for one in found) > 0
    assert {one.code_changed or one.data_changed for one in found} == {False}


def one_with_requests(stored: list[StoredDecision]) -> StoredDecision:
    return next(one for one in stored if len(one.evaluations) > 1)


def replayed(desk: Desk, stored: StoredDecision) -> Replayed:
    [found] = replay(desk.books.connection, [stored])
    return found


def test_another_signal_is_named_with_both_values(traded: Desk, stored: list[StoredDecision]) -> None:
    one = stored[-1]
    told = json.loads(one.decided)
    told["signals"]["BTC-USD"] = "0.25"
    found = replayed(traded, replace(one, decided=json.dumps(told)))
    assert found.unexplained
    assert [line.split(": stored 0.25, now ")[0] for line in found.differences] == ["signals.BTC-USD"]


def test_another_observation_of_a_check_is_named(traded: Desk, stored: list[StoredDecision]) -> None:
    one = one_with_requests(stored)
    rows: list[dict[str, Any]] = json.loads(json.dumps([row | {"body": row["body"]} for row in one.evaluations]))
    check = next(check for check in rows[0]["body"]["checks"] if check["code"] == "order_size_max")
    check["observed"] = "1"
    found = replayed(traded, replace(one, evaluations=rows))
    assert found.unexplained
    [line] = found.differences
    assert "checks.order_size_max.observed: stored 1, now " in line


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"code": "0" * 64}, "code"),
        ({"seen": "sha256"}, "data"),
    ],
    ids=["code", "data"],
)
def test_what_changed_since_explains_a_difference(
    traded: Desk, stored: list[StoredDecision], changes: dict[str, str], named: str
) -> None:
    one = stored[-1]
    if "seen" in changes:  # a candle came late: the hash is of what was there before
        told = json.loads(one.seen)
        told["candles"]["sha256"] = "0" * 64
        changes = {"seen": json.dumps(told)}
    found = replayed(traded, replace(one, **{"decided": "{}", **changes}))
    assert not found.same
    assert not found.unexplained
    assert f"({named} changed since)" in str(found)


def test_another_portfolio_leads_to_another_decision(traded: Desk, stored: list[StoredDecision]) -> None:
    one = one_with_requests(stored)
    told = json.loads(one.seen)
    told["portfolio"]["cash"] = "10"
    assert replayed(traded, replace(one, seen=json.dumps(told))).unexplained


def test_an_open_breaker_of_then_is_part_of_what_was_seen(traded: Desk, stored: list[StoredDecision]) -> None:
    told = json.loads(stored[-1].seen)
    assert [row["state"] for row in told["standing"]["rows"]] == ["closed"] * 4
    assert sorted(told["standing"]["scopes"]) == sorted(traded.scopes)


def test_what_this_code_cannot_read_is_an_error_of_ours(traded: Desk, stored: list[StoredDecision]) -> None:
    with pytest.raises(ConfigurationError, match="cannot read what was seen"):
        replayed(traded, replace(stored[-1], seen='{"candles":{}}'))


def test_a_slot_is_found_by_its_name(traded: Desk, stored: list[StoredDecision]) -> None:
    decisions = Decisions(traded.books.connection)
    assert decisions.of_slot("default", stored[3].slot_at, Scope()) == [stored[3]]
    assert decisions.of_slot("default", stored[3].slot_at, Scope(mode="live")) == []


def test_the_daily_sample_is_clean_and_what_differs_without_a_change_is_a_break(
    traded: Desk, stored: list[StoredDecision]
) -> None:
    sample = prove(traded)
    assert (sample.derived, sample.clean) == (SAMPLE, True)
    assert traded.books.open_breaks(traded.book) == []
    one = stored[-1]
    change = Change()
    names = ("book", "plan", "plan_sha", "code", "seen")
    change.add(
        "decisions", slot_at=one.slot_at + timedelta(minutes=1), decided="{}", **{name: getattr(one, name) for name in names}
    )
    traded.journal.record("evaluate", change)
    assert len(prove(traded, 3).differing) == 1
    [row] = traded.books.open_breaks(traded.book)
    assert (row["class"], row["severity"]) == ("replay", 1)
