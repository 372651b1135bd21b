"""Each check of `keel verify` is planted one corruption, past every rule of the database, and must be the one that sees it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest

from config.postgres import EmbeddedPostgres
from tests.builders.plans import buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.errors import LedgerUnavailable
from trading.orders import OrderType, State, TimeInForce
from trading.store.database import Connection, connect, migrate
from trading.store.verify import invariants, prove, verify

LIMIT = {"type": OrderType.LIMIT, "limit_price": Decimal(49000), "time_in_force": TimeInForce.GTC}

FIRST = "(select client_order_id from keel.intent where slot = 'hand:1')"
RESTING = "(select client_order_id from keel.intent where slot = 'hand:3')"
USD = "name = 'paper:main:default:venue:USD'"
TWO_TXNS = "(select txn_id from keel.posting join keel.txn t on t.id = txn_id where kind = 'fill' and account_id = (select id from keel.account where {}) order by txn_id limit 1 offset {})"  # noqa: E501 - one query

CORRUPTIONS = {
    "audit_chain": "update keel.audit set payload = payload || ' ' where seq = 2",
    "transactions_balance": f"""
        update keel.posting set amount = amount + 1
        where txn_id = {TWO_TXNS.format(USD, 0)} and account_id = (select id from keel.account where {USD});
        update keel.posting set amount = amount - 1
        where txn_id = {TWO_TXNS.format(USD, 1)} and account_id = (select id from keel.account where {USD})""",
    "ledger_sums_to_zero balances_equal_postings": f"update keel.account set posted = posted - 1 where {USD}",
    "balances_equal_postings": f"""
        update keel.account set posted = posted - 1 where {USD};
        update keel.account set posted = posted + 1 where name = 'paper:main:default:equity:USD'""",
    "holds_add_up": f"update keel.account set held = held + 1 where {USD}",
    "closed_orders_hold_nothing": f"""
        update keel.hold set amount = 1 where client_order_id = {FIRST};
        update keel.account set held = held + 1 where {USD}""",
    "no_overdraft": f"""
        update keel.hold set amount = amount + 1000000 where client_order_id = {RESTING};
        update keel.account set held = held + 1000000 where {USD}""",
    "suspense_is_explained": f"""
        insert into keel.account (id, name, book, plan, kind, asset, product, posted)
          select gen_random_uuid(), 'paper:main:default:suspense:USD', book, plan, 'suspense', 'USD', '', 1
          from keel.account where {USD};
        insert into keel.txn values (gen_random_uuid(), 'adjust', 'test', 'x', now());
        insert into keel.posting select t.id, row_number() over () - 1, a.id, 'USD', case a.kind when 'venue' then -1 else 1 end
          from keel.txn t, keel.account a where t.kind = 'adjust' and (a.{USD} or a.kind = 'suspense');
        update keel.account set posted = posted - 1 where {USD}""",
    "lots_conserve_cost": "update keel.lot_match set cost = cost + 1, proceeds = proceeds + 1",
    "lots_equal_trading_accounts": "update keel.lot set cost = cost + 1, left_cost = left_cost + 1",
    "income_equals_matches": "update keel.lot_match set proceeds = proceeds + 1",
    "fills_posted_once": "update keel.txn set source_type = 'other' where source_id = 'entry-0'",
    "fills_add_up_to_orders": f"update keel.order_head set filled = filled / 2 where client_order_id = {FIRST}",
    "fills_within_limits": f"update keel.intent set limit_price = 1 where client_order_id = {FIRST}",
    "order_is_fold_of_events": f"update keel.order_head set state = 'cancelled' where client_order_id = {FIRST}",
    "events_are_continuous": f"""
        update keel.order_event set from_state = 'in_doubt' where client_order_id = {FIRST} and event = 'ack'""",
    "moves_are_legal": f"update keel.order_event set event = 'blessed' where client_order_id = {FIRST} and event = 'ack'",
    "bodies_match_their_hash": f"update keel.intent set body = body || ' ' where client_order_id = {FIRST}",
    "sends_under_a_breaker_that_let_them": f"""
        update keel.order_event set generations = 'global=99' where client_order_id = {FIRST} and event = 'send'""",
    "sends_under_a_known_epoch": f"update keel.order_event set epoch = 99 where client_order_id = {FIRST} and event = 'send'",
    "nothing_sent_too_late": f"""
        update keel.intent set send_before = created_at - interval '1 hour' where client_order_id = {FIRST}""",
    "doubts_have_a_break": "update keel.order_head set updated_at = now() - interval '1 hour' where state = 'cancelling'",
    "orders_have_an_approval": "update keel.evaluation set approved = false where slot = 'hand:1'",
    "configurations_match_their_hash": "update keel.config_version set body = body || ' '",
    "breaker_is_its_last_event": "update keel.breaker set state = 'half_open' where scope = 'global'",
    "only_a_person_resumes": """
        insert into keel.breaker_event values
          ('global', 1, 'closed', 'open', 'no_new', '', 'anna', '[]', now()),
          ('global', 2, 'open', 'closed', null, '', 'anna', '[]', now());
        update keel.breaker set generation = 2 where scope = 'global'""",
    "cycles_of_orders_exist": """
        update keel.intent set slot = 'default@2020-01-01T00:00:00Z' where slot = 'hand:1';
        update keel.evaluation set slot = 'default@2020-01-01T00:00:00Z' where slot = 'hand:1'""",
}

CHAIN = {
    "a row taken out": "delete from keel.audit where seq = 3",
    "the last row taken out": "delete from keel.audit where seq = (select max(seq) from keel.audit)",
    "another version": "update keel.audit set version = 2 where seq = 2",
    "another actor": "update keel.audit set actor = 'somebody else' where seq = 2",
    "a row rehashed without the rows after it": r"""
        update keel.audit set payload = '{}', hash = sha256(prev || convert_to(concat_ws(e'\n', version, seq, at, actor, kind,
          flow_run_id, task_run_id, '{}'), 'UTF8')) where seq = 2""",
    "a head of its own": "update keel.audit_head set seq = seq + 1",
}


@pytest.fixture(scope="module")
def ledger(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A ledger with a bit of everything: a buy, a sale, resting orders, a cancel on its way, a refusal and a cycle."""
    postgres.create_database("keel_verify")
    url = postgres.url("keel_verify")
    migrate(url)
    with quick_desk(url) as desk:
        run(desk)
        hand.place(desk, buy("BTC-USD", "0.001"))
        desk.source.prices["BTC-USD"] = "50500"
        hand.place(desk, sell("BTC-USD", "0.0005"))
        hand.place(desk, buy("BTC-USD", "0.001", **LIMIT))
        hanging = hand.place(desk, buy("BTC-USD", "0.0015", **LIMIT)).order
        assert hanging is not None
        hand._move(desk, hanging, "cancel_sent", State.CANCELLING, "by hand")
        assert hand.place(desk, buy("BTC-USD", "7")).code == "order_size_max"
    yield url
    with connect(postgres.url("postgres")) as admin:
        admin.execute("drop database keel_verify with (force)")


@pytest.fixture
def corrupted(ledger: str) -> Iterator[Connection]:
    """A connection past every trigger and check of the tables; all that it does is undone."""
    with connect(ledger) as connection, connection.transaction(force_rollback=True):
        for (name,) in connection.execute("select tablename from pg_tables where schemaname = 'keel'").fetchall():
            connection.execute(f"alter table keel.{name} disable trigger all")
        checks = connection.execute(
            """select conrelid::regclass::text, conname from pg_constraint
               where contype = 'c' and connamespace = 'keel'::regnamespace and conrelid <> 0"""
        ).fetchall()
        for table, name in checks:
            connection.execute(f'alter table {table} drop constraint "{name}"')
        yield connection


def broken(connection: Connection) -> set[str]:
    return {check.name for check in prove(connection).checks if not check.ok}


def test_an_honest_ledger_passes_every_check(ledger: str) -> None:
    found = verify(ledger)
    assert found.ok, found.to_dict()
    assert len({check.name for check in found.checks}) == len(found.checks)


@pytest.mark.parametrize("names", CORRUPTIONS)
def test_a_planted_corruption_is_seen_by_its_own_check_alone(corrupted: Connection, names: str) -> None:
    corrupted.execute(CORRUPTIONS[names])
    assert broken(corrupted) == set(names.split())


@pytest.mark.parametrize("what", CHAIN)
def test_the_chain_breaks_at(corrupted: Connection, what: str) -> None:
    corrupted.execute(CHAIN[what])
    assert broken(corrupted) == {"audit_chain"}


def test_every_check_has_its_corruption() -> None:
    planted = {name for names in CORRUPTIONS for name in names.split()}
    assert planted == {"audit_chain", *invariants()}


def test_slots_that_nobody_looked_at_are_named_but_break_nothing(database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        later(desk, hours=4)
        run(desk)
    found = verify(database_url)
    (slots,) = [check for check in found.checks if check.name == "slots_without_a_row"]
    assert found.ok
    assert slots.found == ("paper:main default: 3 slots have no row between 2026-11-24T12:00:00Z and 2026-11-24T16:00:00Z",)


def test_a_long_list_of_exceptions_is_cut_and_counted(corrupted: Connection) -> None:
    corrupted.execute("insert into keel.fill select book, 'copy-' || n, trade_id, exchange_order_id, client_order_id, product,"
                      " side, quantity, price, fee, fee_asset, liquidity, traded_at from keel.fill, generate_series(1, 30) n"
                      " where entry_id = 'entry-0'")  # fmt: skip
    (check,) = [check for check in prove(corrupted).checks if check.name == "fills_posted_once"]
    assert check.found[-1] == "... and 10 more"


def test_a_ledger_that_is_away_is_an_error_of_ours(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(LedgerUnavailable):
        verify(postgres.url("no_such_database"))


def test_planting_past_the_rules_needs_a_superuser(ledger: str) -> None:
    with connect(ledger) as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute(CORRUPTIONS["audit_chain"])
