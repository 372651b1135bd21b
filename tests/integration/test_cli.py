"""The `keel` command as people and programs use it: real processes over a ledger that has traded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.postgres import APP, DATABASE, EmbeddedPostgres
from tests.builders.candles import write_generated
from tests.builders.desks import replay_desk
from tests.builders.plans import PLAN_FILE
from trading import cycle as cycles
from trading.store.database import connect

KEEL = Path(sys.executable).parent / "keel"
SLOTS = 50


@dataclass(frozen=True)
class Keel:
    """Runs `keel ...` with the settings of one ledger and market."""

    environment: dict[str, str]

    def __call__(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([str(KEEL), *arguments], env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"keel {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status).stdout)


def settings(home: Path, url: str, market: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KEEL_", "MAX_", "DATABASE_URL"))}
    return kept | {"KEEL_HOME": str(home), "DATABASE_URL": url, "KEEL_MARKET": market, "KEEL_PLANS": str(home / "plans")}


@pytest.fixture(scope="module")
def traded(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Keel:
    """A ledger after fifty slots; tests of this module only read it, or write what no other one looks at."""
    home = tmp_path_factory.mktemp("cli")
    (home / "plans").mkdir()
    (home / "plans" / "default.toml").write_text(PLAN_FILE)
    folder = write_generated(home / "candles", 5, length=169 + SLOTS + 20)
    postgres.create_database("cli")
    keel = Keel(settings(home, postgres.url("cli"), f"replay:{folder}"))
    keel("equity")  # migrates, and finds nothing yet
    strategy = {"name": "crossover", "parameters": {"fast": 3, "slow": 9}}
    with replay_desk(postgres.url("cli"), folder, strategy=strategy) as desk:
        for _ in range(SLOTS):
            cycles.run(desk)
    return keel


READING = (
    "orders", "fills", "positions", "pnl", "equity", "costs", "gains --year 2026", "breaker show", "breaks list", "verify",
    "replay default@SLOT", "watch --once --mode paper --portfolio main --plan default", "export beancount", "status",
)  # fmt: skip


@pytest.mark.parametrize("command", READING)
def test_a_reading_command_needs_no_more_than_the_login_that_the_stack_has(
    postgres: EmbeddedPostgres, traded: Keel, command: str
) -> None:
    """Other tests read as the cluster's owner, who may do everything: a command that forgot its role would pass there."""
    postgres.create_database(DATABASE)
    postgres.ensure_login(APP)
    slot = traded.json("orders")[0]["slot"].partition("@")[2]
    plain = Keel(traded.environment | {"DATABASE_URL": postgres.url("cli", APP)})
    plain(*command.replace("SLOT", slot).split())


KEYS = {
    "orders": {"client_order_id", "exchange_order_id", "mode", "plan", "slot", "product", "side", "type", "quantity", "price",
               "state", "filled", "reason"},
    "fills": {"entry_id", "client_order_id", "product", "side", "quantity", "price", "fee", "fee_asset", "traded_at"},
    "positions": {"product", "quantity", "cost", "price", "unrealised"},
    "breaks list": {"id", "class", "severity", "subject", "ours", "theirs", "resolved"},
    "breaker show": {"scope", "state", "level", "generation", "reason", "at"},
}  # fmt: skip


@pytest.mark.parametrize("command", ["orders", "fills", "breaker show"])
def test_lists_have_the_keys_that_programs_rely_on(traded: Keel, command: str) -> None:
    rows = traded.json(*command.split())
    assert rows
    for row in rows:
        assert row.keys() >= KEYS[command]


@pytest.mark.parametrize("command", ["positions", "breaks list"])
def test_lists_may_be_empty_but_are_lists(traded: Keel, command: str) -> None:
    rows = traded.json(*command.split())
    assert isinstance(rows, list)
    assert all(row.keys() >= KEYS[command] for row in rows)


def test_money_is_text(traded: Keel) -> None:
    equity = traded.json("equity")
    assert equity.keys() >= {"equity", "cash", "realised", "unrealised", "fees"}
    assert all(isinstance(equity[name], str) for name in ("equity", "cash", "realised", "fees"))
    assert all(isinstance(row["fee"], str) for row in traded.json("fills"))


@pytest.mark.parametrize("command", ["orders", "fills", "positions", "pnl", "equity", "breaker show", "breaks list", "status"])
def test_people_get_a_table(traded: Keel, command: str) -> None:
    shown = traded(*command.split())
    assert shown.stdout.strip()
    assert shown.stderr == ""


def test_an_order_is_explained_from_slot_to_postings(traded: Keel) -> None:
    filled = next(order for order in traded.json("orders") if order["state"] == "filled")
    said = traded("explain", filled["client_order_id"]).stdout
    for word in (filled["slot"], filled["product"], "crossover", "candles", "order_size_max", "venue", "trading", "filled"):
        assert word in said, word
    assert traded.json("explain", filled["client_order_id"])


def test_an_unknown_order_is_named(traded: Keel) -> None:
    assert "nonsense" in traded("explain", "nonsense", status=2).stderr


def test_the_books_prove_themselves(traded: Keel) -> None:
    proof = traded.json("verify")
    assert proof["ok"] is True
    assert {"name", "ok", "found"} <= proof["checks"][0].keys()


def test_a_planted_corruption_fails_the_proof(traded: Keel) -> None:
    url = traded.environment["DATABASE_URL"]
    with connect(url) as connection:
        connection.execute("alter table keel.lot_match disable trigger all")
        connection.execute("update keel.lot_match set cost = cost + 1 where line = 0")
        try:
            proof = traded.json("verify", status=1)
            assert [check["name"] for check in proof["checks"] if not check["ok"]]
        finally:
            connection.execute("update keel.lot_match set cost = cost - 1 where line = 0")
            connection.execute("alter table keel.lot_match enable trigger all")
            connection.execute("alter table keel.lot_match enable always trigger no_change")
            connection.execute("alter table keel.lot_match enable always trigger no_truncate")
    traded("verify")


def test_a_replay_goes_on_with_each_trade(traded: Keel) -> None:
    first, second = traded.json("trade"), traded.json("trade")
    assert first["outcome"] == second["outcome"] == "traded"
    assert first["next_slot"] == second["slot"]


def test_a_plan_that_is_not_there_is_a_configuration_error(traded: Keel) -> None:
    failed = traded("trade", "--plan", "nothing", status=2)
    assert failed.stderr.startswith("error[configuration]")
    assert "default" in failed.stderr


def test_a_bad_setting_is_named_and_starts_nothing(traded: Keel) -> None:
    failed = Keel(traded.environment | {"KEEL_TIMEOUT_SECONDS": "soon"})("trade", status=2)
    assert "KEEL_TIMEOUT_SECONDS" in failed.stderr


def test_another_market_is_refused(traded: Keel) -> None:
    failed = Keel(traded.environment | {"KEEL_MARKET": "synthetic"})("trade", status=2)
    assert "which it was created with" in failed.stderr


@pytest.fixture
def fresh(database_url: str, tmp_path: Path) -> Callable[..., Keel]:
    """A new ledger on the synthetic market, whose slots go by the clock."""
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "default.toml").write_text(PLAN_FILE)
    return lambda **more: Keel(settings(tmp_path, database_url, "synthetic") | more)


def test_a_slot_that_was_traded_says_so_and_when_the_next_one_is(fresh: Callable[..., Keel]) -> None:
    keel = fresh()
    keel("trade")
    again = keel("trade").stdout
    if "repeated" in again:  # unless the hour turned between the two
        assert "traded already" in again
        assert "next slot" in again


def test_a_hand_order_is_sent_once_per_reference(fresh: Callable[..., Keel]) -> None:
    keel = fresh()
    keel("order", "BUY", "BTC-USD", "0.001", "--ref", "A")
    keel("order", "BUY", "BTC-USD", "0.001", "--ref", "A")
    [order] = keel.json("orders")
    assert (order["slot"], order["state"], order["side"]) == ("hand:A", "filled", "buy")
    assert len(keel.json("fills")) == 1
    keel("verify")


def test_a_limit_order_rests_and_can_be_cancelled(fresh: Callable[..., Keel]) -> None:
    keel = fresh()
    [seen] = [
        row for row in keel.json("trade")["prices"] if row["product"] == "BTC-USD"
    ]  # the synthetic market goes by the clock
    below = f"{float(seen['bid']) * 0.97:.2f}"
    keel("order", "BUY", "BTC-USD", "0.0005", "--limit", below, "--tif", "gtc")  # the run may have spent most of an hour's volume
    [order] = [order for order in keel.json("orders") if order["type"] == "limit"]
    assert order["state"] == "open"
    keel("cancel", order["client_order_id"])
    assert [order["state"] for order in keel.json("orders") if order["type"] == "limit"] == ["cancelled"]
    keel("verify")


def test_fill_or_kill_fills_and_a_bracket_of_what_it_bought_rests(fresh: Callable[..., Keel]) -> None:
    keel = fresh()
    [seen] = [row for row in keel.json("trade")["prices"] if row["product"] == "BTC-USD"]
    above, below = (f"{float(seen['bid']) * factor:.2f}" for factor in (1.03, 0.9))
    keel("order", "BUY", "BTC-USD", "0.0003", "--limit", above, "--tif", "fok")
    keel("order", "SELL", "BTC-USD", "0.0003", "--limit", above, "--stop", below, "--bracket")
    states = {order["type"]: order["state"] for order in keel.json("orders") if order["slot"].startswith("hand:")}
    assert states == {"limit": "filled", "bracket": "open"}
    keel("verify")


def test_an_order_over_the_limits_is_refused_with_its_code(fresh: Callable[..., Keel]) -> None:
    refused = fresh()("order", "BUY", "BTC-USD", "1", status=1)
    assert "order_size_max" in refused.stdout + refused.stderr


def test_a_lost_answer_is_a_doubt_that_reconciling_resolves(fresh: Callable[..., Keel]) -> None:
    fresh(KEEL_PAPER_FAULT="accept_then_raise")("order", "BUY", "BTC-USD", "0.001", "--ref", "A")
    keel = fresh()
    keel("reconcile")
    [order] = keel.json("orders")
    assert order["state"] == "filled"
    assert len(keel.json("fills")) == 1


def test_a_tripped_breaker_lets_no_order_through_until_a_person_resumes(fresh: Callable[..., Keel]) -> None:
    keel = fresh()
    keel("trade")
    keel("breaker", "trip", "--reason", "drill")
    keel("order", "BUY", "BTC-USD", "0.001", status=1)
    states = {row["scope"]: row["state"] for row in keel.json("breaker", "show")}
    assert "open" in states.values()
    refused = keel("breaker", "resume", "--reason", "drill over", status=1)
    assert "cool" in refused.stdout + refused.stderr
    # the cycle before the trip may have bought: what the market of this hour was is not this test's
    assert not [order for order in keel.json("orders") if order["slot"].startswith("hand:")]
