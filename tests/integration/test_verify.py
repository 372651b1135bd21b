"""Each check of `keel verify` is planted one corruption, past every rule of the database, and must be the one that sees it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.postgres import EmbeddedPostgres
from tests.builders.plans import buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import claim_slot, run
from trading.errors import LedgerUnavailable
from trading.orders import OrderType, State, TimeInForce
from trading.store.anchoring import AnchorFile, anchor_head
from trading.store.database import Connection, connect, migrate
from trading.store.verify import Check, invariants, prove, verify

LIMIT = {"type": OrderType.LIMIT, "limit_price": Decimal(49000), "time_in_force": TimeInForce.GTC}

FIRST = "(select client_order_id from keel.intent where slot = 'hand:1')"
RESTING = "(select client_order_id from keel.intent where slot = 'hand:3')"
USD = "name = 'paper:main:default:venue:USD'"
TWO_TXNS = "(select txn_id from keel.posting join keel.txn t on t.id = txn_id where kind = 'fill' and account_id = (select id from keel.account where {}) order by txn_id limit 1 offset {})"  # noqa: E501 - one query


def told(**tables: int) -> str:
    """The chain tells of so many planted rows in each table: the row count is not what is looked at."""
    rows = ", ".join(f'"{name}": [{", ".join(["{}"] * count)}]' for name, count in tables.items())
    return f"select keel.audit_append('planted', '{{{rows}}}', '', '', '')"


def entry(source: str, amount: int, *, kind: str = "equity", reverses: str = "null") -> str:
    """A balanced transaction that takes so much USD out of the venue's account, into the account of that kind."""
    return f"""
        insert into keel.txn (id, book, kind, source_type, source_id, effective_at, reverses)
          select gen_random_uuid(), 'paper:main', 'adjust', 'test', '{source}', now(), {reverses};
        insert into keel.posting select t.id, row_number() over () - 1, a.id, 'USD',
            case a.kind when 'venue' then -({amount}) else {amount} end
          from keel.txn t, keel.account a where t.source_id = '{source}' and a.asset = 'USD' and a.kind in ('venue', '{kind}');
        update keel.account set posted = posted - ({amount}) where {USD};
        update keel.account set posted = posted + {amount} where asset = 'USD' and kind = '{kind}';
        {told(transactions=1, postings=2)}"""


TRIP = """
    insert into keel.breaker_event (scope, generation, from_state, to_state, level, reason, actor, violations, at) values
      ('global', 1, 'closed', 'open', 'no_new', '', 'anna', '[]', now()),
      ('global', 2, 'open', '{state}', null, '', 'anna', '[]', now());
    update keel.breaker set generation = 2, state = '{state}' where scope = 'global';"""
AS_IF_IN_A_CYCLE = """
    update keel.intent set slot = 'default@{0}' where slot = 'hand:1';
    update keel.evaluation set slot = 'default@{0}' where slot = 'hand:1'"""

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
        insert into keel.account (id, name, book, plan, kind, asset, product)
          select gen_random_uuid(), 'paper:main:default:suspense:USD', book, plan, 'suspense', 'USD', ''
          from keel.account where {USD};
        select keel.audit_append('planted', '{{"accounts": [{{"id": "x"}}]}}', '', '', '');
        {entry("x", 1, kind="suspense")}""",
    "lots_conserve_cost": "update keel.lot_match set cost = cost + 1, proceeds = proceeds + 1",
    "lots_equal_trading_accounts": "update keel.lot set cost = cost + 1, left_cost = left_cost + 1",
    "income_equals_matches": "update keel.lot_match set proceeds = proceeds + 1",
    "fills_posted_once": "update keel.txn set source_id = 'entry-1', kind = 'fill:2' where source_id = 'entry-0'",
    "transactions_have_a_source": "update keel.txn set source_id = 'nobody:default' where source_type = 'plan'",
    "reversals_are_exact": f"""
        {entry("x", 1)};
        {entry("y", -2, reverses="(select id from keel.txn where source_id = 'x')")}""",
    "balances_follow_from_raw_fills": """
        update keel.fill set fee = fee + 1 where entry_id = 'entry-0';
        update keel.venue_order v set fees = fees + 1 from keel.fill f
        where f.entry_id = 'entry-0' and f.exchange_order_id = v.exchange_order_id""",
    "nothing_crosses_portfolios": "update keel.account set book = 'live:main' where kind = 'fees'",
    "one_venue_order_per_order": f"""
        insert into keel.venue_order select book, 'second', client_order_id, ours, product, side, quantity, limit_price, status,
          raw_status, 0, 0, created_at, seen_at from keel.venue_order where client_order_id::uuid = {RESTING};
        select keel.audit_append('planted', '{{"venue_orders": [{{"book": "", "exchange_order_id": ""}}]}}', '', '', '')""",
    "venue_orders_are_ours": f"update keel.venue_order set client_order_id = 'x' where client_order_id::uuid = {RESTING}",
    "fills_equal_the_venue": f"update keel.venue_order set filled = filled * 2 where client_order_id::uuid = {FIRST}",
    "balances_equal_the_venue": "update keel.venue_balance set available = available + 1 where asset = 'USD'",
    "fills_add_up_to_orders": f"update keel.order_head set filled = filled / 2 where client_order_id = {FIRST}",
    "fills_within_limits": f"update keel.intent set limit_price = 1 where client_order_id = {FIRST}",
    "order_is_fold_of_events": f"update keel.order_head set state = 'cancelled' where client_order_id = {FIRST}",
    "events_are_continuous": f"""
        update keel.order_event set from_state = 'in_doubt' where client_order_id = {FIRST} and event = 'ack'""",
    "moves_are_legal": f"update keel.order_event set event = 'blessed' where client_order_id = {FIRST} and event = 'ack'",
    "bodies_match_their_hash": f"update keel.intent set body = body || ' ' where client_order_id = {FIRST}",
    "sends_under_a_breaker_that_let_them": f"""
        update keel.order_event set generations = replace(generations, 'global=0', 'global=99')
        where client_order_id = {FIRST} and event = 'send'""",
    "sends_locked_every_scope": f"""
        update keel.order_event set generations = replace(generations, 'global=0 ', '')
        where client_order_id = {FIRST} and event = 'send'""",
    "traded_products_have_a_breaker": "delete from keel.breaker where scope = 'product:paper:main:BTC-USD'",
    "sends_under_a_known_epoch": f"update keel.order_event set epoch = 99 where client_order_id = {FIRST} and event = 'send'",
    "nothing_sent_too_late": f"""
        update keel.intent set send_before = created_at - interval '1 hour' where client_order_id = {FIRST}""",
    "doubts_have_a_break": "update keel.order_head set updated_at = now() - interval '1 hour' where state = 'cancelling'",
    "doubts_keep_their_hold": f"""
        update keel.order_event set event = 'doubt', to_state = 'in_doubt' where client_order_id = {RESTING} and event = 'ack';
        update keel.order_head set state = 'in_doubt' where client_order_id = {RESTING};
        update keel.account set held = held - (select amount from keel.hold where client_order_id = {RESTING}) where {USD};
        update keel.hold set amount = 0 where client_order_id = {RESTING}""",
    "one_intent_per_decision": """
        alter table keel.intent drop constraint intent_book_strategy_product_slot_leg_key;
        update keel.intent set slot = 'hand:1' where slot = 'hand:2'""",
    "dead_orders_are_never_sent": f"""
        insert into keel.transition values ('abandoned', 'send', 'sending'), ('sending', 'fill', 'filled');
        update keel.order_event e set event = 'send', from_state = 'abandoned', to_state = 'sending',
          (epoch, generations) = (select epoch, generations from keel.order_event
                                  where client_order_id = e.client_order_id and seq = 1)
        where client_order_id = {FIRST} and seq = 2;
        update keel.order_event set event = 'abandon', to_state = 'abandoned' where client_order_id = {FIRST} and seq = 1;
        update keel.order_event set from_state = 'sending' where client_order_id = {FIRST} and seq = 3""",
    "late_runs_keep_their_policy": f"""
        {AS_IF_IN_A_CYCLE.format("2026-11-24T12:00:00Z")};
        update keel.cycle set policy = 'skip'""",
    "orders_have_an_approval": "update keel.evaluation set approved = false where slot = 'hand:1'",
    "configurations_match_their_hash": "update keel.config_version set body = body || ' '",
    "configurations_precede_their_orders": "update keel.config_version set at = now() + interval '1 day'",
    "orders_were_limited": """
        update keel.config_version set body = jsonb_set(body::jsonb, '{limits,max_order_size_usd}', 'null')::text
        where kind = 'plan';
        update keel.config_version set sha256 = encode(sha256(convert_to(body, 'UTF8')), 'hex');
        update keel.intent set plan_sha = (select sha256 from keel.config_version where kind = 'plan');
        update keel.cycle set plan_sha = (select sha256 from keel.config_version where kind = 'plan')""",
    "nothing_rests_under_a_breaker_that_cancels": """
        insert into keel.breaker_event (scope, generation, from_state, to_state, level, reason, actor, violations, at) values
          ('global', 1, 'closed', 'open', 'cancel', '', 'anna', '[]', now());
        update keel.breaker set generation = 1, state = 'open', level = 'cancel', moved_at = now() - interval '31 seconds'
          where scope = 'global';"""
    + told(breakers=1),
    "breaker_is_its_last_event": "update keel.breaker set state = 'half_open' where scope = 'global'",
    "only_a_person_resumes": TRIP.format(state="closed") + told(breakers=2),
    "resumes_are_by_a_human_role": TRIP.format(state="half_open")
    + r"""
        select keel.audit_append('planted', '{"breakers": [{}, {"from_state": "open", "state": "half_open"}]}', '', '', '');
        update keel.audit set version = 2, role = 'keel_execute' where seq = (select seq from keel.audit_head);
        update keel.audit set hash = sha256(prev || convert_to(concat_ws(e'\n', version, seq, at, actor, role, kind, flow_run_id,
          task_run_id, payload), 'UTF8')) where seq = (select seq from keel.audit_head);
        update keel.audit_head h set hash = a.hash from keel.audit a where a.seq = h.seq""",
    "cycles_of_orders_exist": AS_IF_IN_A_CYCLE.format("2020-01-01T00:00:00Z"),
    "cycles_end": "update keel.cycle set state = 'claimed' where slot_at = (select min(slot_at) from keel.cycle)",
    "every_slot_has_a_row": """
        update keel.cycle set slot_at = slot_at - interval '2 hours' where slot_at = (select min(slot_at) from keel.cycle)""",
    "slots_lie_on_the_grid": "update keel.cycle set slot_at = slot_at + interval '1 minute'",
    "anchored_heads_are_in_the_chain": "update keel.anchor set hash = sha256('x')",
    "audit_tells_every_row": """
        insert into keel.operation (book, plan, kind, ok) values ('paper:main', 'default', 'nobody told', true)""",
}

CHAIN = {
    "a row taken out": "delete from keel.audit where seq = 3",
    "the last row taken out": "delete from keel.audit where seq = (select max(seq) from keel.audit)",
    "another version": "update keel.audit set version = 1 where seq = 2",
    "another actor": "update keel.audit set actor = 'somebody else' where seq = 2",
    "a row rehashed without the rows after it": r"""
        update keel.audit set payload = '{}', hash = sha256(prev || convert_to(concat_ws(e'\n', version, seq, at, actor, role,
          kind, flow_run_id, task_run_id, '{}'), 'UTF8')) where seq = 2""",
    "a head of its own": "update keel.audit_head set seq = seq + 1",
}


@pytest.fixture(scope="module")
def ledger(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ledger with a bit of everything: a buy, a sale, resting orders, a cancel on its way, a refusal and a cycle."""
    postgres.create_database("keel_verify")
    url = postgres.url("keel_verify")
    migrate(url)
    with quick_desk(url) as desk:
        run(desk)
        later(desk, hours=1)
        run(desk)
        anchor_head(desk.journal, AnchorFile(tmp_path_factory.mktemp("anchors") / "anchors.jsonl"),
                    Ed25519PrivateKey.generate(), desk.wall())  # fmt: skip
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
    """A connection past every role, trigger and check of the tables; all that it does is undone."""
    with connect(ledger) as connection, connection.transaction(force_rollback=True):
        for (name,) in connection.execute("select tablename from pg_tables where schemaname = 'keel'").fetchall():
            connection.execute(f"alter table keel.{name} disable trigger all")
        checks = connection.execute(
            """select conrelid::regclass::text, conname from pg_constraint
               where contype = 'c' and connamespace = 'keel'::regnamespace and conrelid <> 0"""
        ).fetchall()
        for table, name in checks:
            connection.execute(f'alter table {table} drop constraint "{name}"')
        connection.execute(
            "create or replace function keel.changes_of(p_role text) returns text[] language sql as $$ select '{any}'::text[] $$"
        )
        yield connection


def broken(connection: Connection) -> set[str]:
    return {check.name for check in prove(connection).checks if not check.ok}


def test_an_honest_ledger_passes_every_check(ledger: str) -> None:
    found = verify(ledger)
    assert not [check for check in found.checks if not check.ok]
    assert len({check.name for check in found.checks}) == len(found.checks)


@pytest.mark.parametrize("names", CORRUPTIONS)
def test_a_planted_corruption_is_seen_by_its_own_check_alone(corrupted: Connection, names: str) -> None:
    corrupted.execute(CORRUPTIONS[names])
    assert broken(corrupted) == set(names.split())


@pytest.mark.parametrize("what", CHAIN)
def test_the_chain_breaks_at(corrupted: Connection, what: str) -> None:
    corrupted.execute(CHAIN[what])
    assert broken(corrupted) - {"audit_tells_every_row"} == {"audit_chain"}  # a row that is gone tells of nothing


def test_every_check_has_its_corruption() -> None:
    planted = {name for names in CORRUPTIONS for name in names.split()}
    assert planted == {"audit_chain", *invariants()}


def test_slots_that_nobody_claimed_are_written_down_by_the_next_claim(database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        later(desk, hours=4)
        run(desk)
        rows = desk.books.connection.execute(
            "select to_char(slot_at, 'HH24:MI'), state, reason from keel.cycle order by slot_at"
        ).fetchall()
    missed = "missed: no run claimed it"
    assert rows == [("12:00", "done", ""), *[(f"{hour}:00", "skipped", missed) for hour in (13, 14, 15)], ("16:00", "done", "")]
    assert not broken_in(database_url)


def test_the_slot_of_a_dead_run_has_failed_once_a_later_one_is_claimed(database_url: str) -> None:
    with quick_desk(database_url) as desk:
        claim_slot(desk)
        desk.journal.unlock_portfolio(desk.book)
        later(desk, hours=1)
        run(desk)
        rows = desk.books.connection.execute("select state, reason from keel.cycle order by slot_at").fetchall()
    assert rows == [("failed", "its run died"), ("done", "")]
    assert not broken_in(database_url)


def broken_in(url: str) -> list[Check]:
    return [check for check in verify(url).checks if not check.ok]


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
