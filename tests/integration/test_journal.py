"""The ledger's own rules, in a real Postgres: what it takes, and what it refuses whoever asks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from trading.errors import BooksRefused, Busy, Fenced, Stale
from trading.ledger import OUTSIDE, Account, Posting, Transaction, book_fill, opening
from trading.lots import LotMethod, Lots
from trading.money import canonical, derived_id, digest
from trading.orders import Fill, Intent, Mode, Owner, Request, Side, State, client_order_id, order_terms, slot_name
from trading.plan import BreakerRules
from trading.risk.breaker import Level, closed, open_breaker
from trading.store.books import Books
from trading.store.database import Sessions, connect, engine
from trading.store.journal import Author, Change, Journal
from trading.store.reports import Reports

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOOK, PLAN, PLAN_BODY = "paper:main", "default", '{"name":"default"}'
PLAN_SHA = digest(PLAN_BODY)
SCOPES = ["global", f"portfolio:{BOOK}"]
CASH = Account(BOOK, PLAN, "venue", "USD")
OWNER = Owner(mode=Mode.PAPER, portfolio="main", plan=PLAN, strategy="crossover", slot=slot_name(PLAN, NOON))


class Ledger:
    """A ledger with 1,000 USD of capital and closed breakers, and shorthand to write to it."""

    def __init__(self, url: str) -> None:
        self.connection = connect(url)
        self.journal = Journal(Sessions(url), lambda: Author("test", "flow-1", "task-1"))
        self.books = Books(self.connection)
        change = Change()
        change.add("configuration", sha256=PLAN_SHA, kind="plan", body=PLAN_BODY)
        change.add("portfolios", book=BOOK, mode="paper", name="main", source="synthetic", cash_asset="USD", lot_method="fifo")
        change.transaction(opening(BOOK, PLAN, "USD", Decimal(1000), NOON))
        for scope in (*SCOPES, f"product:{BOOK}:BTC-USD"):
            change.breaker(closed(scope, NOON), None, actor="test")
        self.journal.record("plan.open", change)
        self.epoch = self.journal.claim_slot(BOOK, PLAN, NOON, NOON, PLAN_SHA, "run", "").epoch

    def stage(self, leg: int = 0, hold: str = "100", send_before: datetime | None = None, **terms: object) -> UUID:
        request = Request(**({"product": "BTC-USD", "side": Side.BUY, "quantity": Decimal("0.001"), "leg": leg} | terms))
        id_ = client_order_id(OWNER, request.product, leg)
        intent = Intent(client_order_id=id_, owner=OWNER, request=request, body=order_terms(id_, request),
                        decision_price=Decimal(60000), decided_at=NOON)  # fmt: skip
        change = Change()
        change.intent(intent, plan_sha=PLAN_SHA, send_before=send_before or datetime.now(UTC) + timedelta(minutes=1))
        account = CASH if request.side is Side.BUY else Account(BOOK, PLAN, "venue", "BTC")
        change.account(account)
        change.hold(id_, account, Decimal(hold))
        self.journal.record("order.stage", change)
        return id_

    def trip(self, scope: str, level: Level) -> None:
        before = self.books.breakers([scope])[0]
        after = open_breaker(before, BreakerRules(), NOON, level=level, reason="test", actor="test")
        change = Change()
        change.breaker(after, before, actor="test")
        self.journal.record("breaker", change)

    def one(self, query: str, *values: object) -> object:
        row = self.connection.execute(query, values).fetchone()
        return row[0] if row else None


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    opened = Ledger(database_url)
    yield opened
    opened.connection.close()


def buy_fill(quantity: str = "0.001", price: str = "60000", fee: str = "0.72") -> Fill:
    return Fill(entry_id="e1", trade_id="t1", exchange_order_id="x1", client_order_id=None, product="BTC-USD", side=Side.BUY,
                quantity=Decimal(quantity), price=Decimal(price), fee=Decimal(fee), fee_asset="USD", liquidity="taker",
                traded_at=NOON)  # fmt: skip


def booked(order: UUID, fill: Fill) -> Change:
    change = Change()
    for seq, move in enumerate([(State.SENDING, "ack", State.OPEN), (State.OPEN, "fill", State.FILLED)], start=2):
        change.event(order, seq, move, exchange_order_id="x1", filled=fill.quantity)
    change.fill(replace(fill, client_order_id=order), BOOK)
    change.booking(book_fill(Lots(), fill, BOOK, PLAN), BOOK, PLAN, "BTC-USD")
    change.hold(order, CASH, Decimal(0))
    return change


def test_an_order_goes_from_stage_to_filled_and_the_books_follow(ledger: Ledger) -> None:
    order = ledger.stage()
    assert ledger.books.portfolio(BOOK, PLAN, "USD", NOON).cash_free == 900
    assert ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES) == {order: "send"}
    ledger.journal.record("order.outcome", booked(order, buy_fill()))
    portfolio = ledger.books.portfolio(BOOK, PLAN, "USD", NOON)
    assert portfolio.cash == portfolio.cash_free == Decimal("939.28")
    assert portfolio.positions["BTC-USD"].cost == 60
    assert portfolio.fees == Decimal("0.72")
    head = ledger.books.orders([order])[order]
    assert (head.state, head.seq, head.filled, head.exchange_order_id) == (State.FILLED, 3, Decimal("0.001"), "x1")


def reservations(ledger: Ledger, *amounts: tuple[UUID, str]) -> None:
    change = Change()
    for order, amount in amounts:
        change.hold(order, CASH, Decimal(amount))
    ledger.journal.record("order.stage", change)


def test_orders_that_fit_one_by_one_reserve_nothing_where_they_do_not_fit_together(ledger: Ledger) -> None:
    one, other = ledger.stage(0), ledger.stage(1)
    with pytest.raises(BooksRefused, match=r"overdraft on .*: 1000 posted, 1100 would be held"):
        reservations(ledger, (one, "600"), (other, "500"))
    assert ledger.books.portfolio(BOOK, PLAN, "USD", NOON).cash_free == 800


def test_what_one_order_gives_back_another_may_reserve_in_the_same_change(ledger: Ledger) -> None:
    one, other = ledger.stage(0, hold="900"), ledger.stage(1)
    reservations(ledger, (one, "50"), (other, "950"))
    assert ledger.books.portfolio(BOOK, PLAN, "USD", NOON).cash_free == 0


def test_of_one_order_the_last_reservation_of_a_change_counts(ledger: Ledger) -> None:
    order = ledger.stage()
    reservations(ledger, (order, "300"), (order, "200"))
    assert ledger.books.portfolio(BOOK, PLAN, "USD", NOON).cash_free == 800


def test_an_account_that_is_not_there_reserves_nothing(ledger: Ledger) -> None:
    order, change = ledger.stage(), Change()
    change.hold(order, Account(BOOK, PLAN, "venue", "ETH"), Decimal(1))
    with pytest.raises(Stale, match="there is no account"):
        ledger.journal.record("order.stage", change)
    assert ledger.books.portfolio(BOOK, PLAN, "USD", NOON).cash_free == 900


def test_two_sales_of_one_change_take_from_the_same_lot(ledger: Ledger) -> None:
    orders = [ledger.stage(), ledger.stage(1, hold="0", side=Side.SELL), ledger.stage(2, hold="0", side=Side.SELL)]
    ledger.journal.mark_sending(BOOK, ledger.epoch, orders, SCOPES)
    ledger.journal.record("order.outcome", booked(orders[0], buy_fill()))
    (lots,) = ledger.books.settling(BOOK, LotMethod.FIFO, {(PLAN, "BTC-USD")})[0].values()
    change = Change()
    for number, (order, quantity) in enumerate(zip(orders[1:], ("0.0004", "0.0005"), strict=True)):
        sold = replace(buy_fill(quantity, fee="0.1"), entry_id=f"s{number}", trade_id=f"s{number}", side=Side.SELL,
                       exchange_order_id=f"y{number}", client_order_id=order)  # fmt: skip
        change.fill(sold, BOOK)
        change.booking(book_fill(lots, sold, BOOK, PLAN), BOOK, PLAN, "BTC-USD")
    ledger.journal.record("settle", change)
    position = ledger.books.holdings(BOOK, PLAN, "USD").positions["BTC-USD"]
    assert (position.quantity, position.cost) == (Decimal("0.0001"), Decimal(6))


@pytest.mark.parametrize(
    ("said", "stored"),
    [("größer", "größer"), ("a\u0000b", "a\ufffdb"), ("half \ud800", "half \ufffd"), ("\\u0000", "\\u0000"), ("😀", "😀")],
)
def test_text_from_outside_is_stored_as_it_is_or_as_a_database_can_hold_it(ledger: Ledger, said: str, stored: str) -> None:
    change = Change()
    change.add("operations", book=BOOK, plan=PLAN, kind="send", ok=False, detail=said)
    ledger.journal.record("fail", change)
    assert ledger.one("select detail from keel.operation order by id desc limit 1") == stored
    assert stored in str(
        ledger.one("select payload::jsonb -> 'operations' -> 0 ->> 'detail' from keel.audit order by seq desc limit 1")
    )


def test_of_a_book_the_share_that_is_no_plans_is_told_last(ledger: Ledger, database_url: str) -> None:
    change = Change()
    change.transaction(opening(BOOK, OUTSIDE, "USD", Decimal(1), NOON))
    ledger.journal.record("settle", change)
    assert Reports(engine(database_url)).plans() == [(BOOK, PLAN), (BOOK, OUTSIDE)]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_and_nothing_is_written(ledger: Ledger, number: float) -> None:
    change, before = Change(), ledger.one("select seq from keel.audit_head")
    change.add("verdicts", book=BOOK, plan=PLAN, slot_at=NOON, passed=True, body={"found": number})
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.journal.record("market", change)
    assert ledger.one("select seq from keel.audit_head") == before


def test_an_interrupt_between_a_command_and_its_answer_is_told_as_such_and_the_lock_goes_with_the_connection(
    ledger: Ledger, database_url: str
) -> None:
    ledger.journal.lock_portfolio(BOOK, 1)

    def interrupted() -> None:
        try:
            ledger.journal.connection.pgconn.send_query(b"select 1")
            raise KeyboardInterrupt
        finally:
            ledger.journal.unlock_portfolio(BOOK)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    ledger.journal.sessions.close()
    with Sessions(database_url) as later:
        Journal(later, lambda: Author("test")).lock_portfolio(BOOK, 5)


def test_an_open_breaker_that_committed_first_wins_and_frees_the_hold(ledger: Ledger) -> None:
    order = ledger.stage()
    ledger.trip("global", Level.REDUCE_ONLY)
    assert ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES) == {order: "breaker_open"}
    assert ledger.books.orders([order])[order].state is State.ABANDONED
    assert ledger.books.portfolio(BOOK, PLAN, "USD", NOON).cash_free == 1000


@pytest.mark.parametrize(
    ("level", "terms", "verdict"),
    [
        (Level.REDUCE_ONLY, {"side": Side.SELL}, "send"),
        (Level.NO_NEW, {"side": Side.SELL}, "breaker_open"),
        (Level.NO_NEW, {"side": Side.SELL, "protective": True}, "send"),
        (Level.CANCEL, {"side": Side.SELL, "protective": True}, "send"),
        (Level.CANCEL, {"side": Side.BUY}, "breaker_open"),
    ],
)
def test_what_an_open_breaker_lets_through_depends_on_its_level(
    ledger: Ledger, level: Level, terms: dict[str, object], verdict: str
) -> None:
    held = terms["side"] is Side.SELL
    order = ledger.stage(hold="0" if held else "10", **terms)
    ledger.trip(f"product:{BOOK}:BTC-USD", level)
    assert ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES) == {order: verdict}


def test_a_missing_breaker_row_is_an_open_breaker(ledger: Ledger) -> None:
    order = ledger.stage()
    assert ledger.journal.mark_sending(BOOK, ledger.epoch, [order], [*SCOPES, "venue:unheard"]) == {order: "breaker_open"}


def test_a_product_without_a_row_is_an_open_breaker(ledger: Ledger) -> None:
    order = ledger.stage(product="ETH-USD")
    assert ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES) == {order: "breaker_open"}


def test_a_run_that_was_overtaken_is_fenced(ledger: Ledger) -> None:
    order = ledger.stage()
    ledger.journal.claim_slot(BOOK, PLAN, NOON + timedelta(hours=1), NOON, PLAN_SHA, "run", "")
    with pytest.raises(Fenced, match="fenced"):
        ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES)
    assert ledger.books.orders([order])[order].state is State.STAGED


def test_an_order_past_its_time_to_live_is_abandoned(ledger: Ledger) -> None:
    order = ledger.stage(send_before=datetime.now(UTC) - timedelta(seconds=1))
    assert ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES) == {order: "too_late"}


def test_an_order_is_marked_once(ledger: Ledger) -> None:
    order = ledger.stage()
    ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES)
    assert ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES) == {order: "sending"}


def test_holds_cannot_exceed_what_is_there(ledger: Ledger) -> None:
    ledger.stage(hold="900")
    with pytest.raises(BooksRefused, match="overdraft"):
        ledger.stage(leg=1, hold="100.01")
    ledger.stage(leg=1, hold="100")


def test_one_decision_is_one_order(ledger: Ledger) -> None:
    ledger.stage()
    with pytest.raises(BooksRefused, match="duplicate key"):
        ledger.stage(quantity=Decimal("0.002"))


def test_a_fill_is_booked_once(ledger: Ledger) -> None:
    order = ledger.stage()
    ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES)
    change = booked(order, buy_fill())
    ledger.journal.record("order.outcome", change)
    for table in ("events", "holds"):
        del change.tables[table]
    with pytest.raises(BooksRefused, match="duplicate key"):
        ledger.journal.record("order.outcome", change)


def test_an_illegal_move_cannot_be_committed(ledger: Ledger) -> None:
    order, change = ledger.stage(), Change()
    change.event(order, 1, (State.STAGED, "fill", State.FILLED))
    with pytest.raises(BooksRefused, match="foreign key"):
        ledger.journal.record("order.outcome", change)


def test_a_head_moves_only_from_where_it_stands(ledger: Ledger) -> None:
    order, change = ledger.stage(), Change()
    change.event(order, 1, (State.SENDING, "ack", State.OPEN))
    with pytest.raises(Stale):
        ledger.journal.record("order.outcome", change)


def test_an_unbalanced_transaction_dies_at_the_commit(ledger: Ledger) -> None:
    change = Change()
    fees = Account(BOOK, PLAN, "fees", "USD")
    postings = (Posting(CASH, Decimal(1)), Posting(fees, Decimal("-0.999999999999999999")))
    change.transaction(Transaction("test", "test", "1", NOON, postings))
    with pytest.raises(BooksRefused, match="does not balance"):
        ledger.journal.record("settle", change)


def test_two_assets_balance_each_for_itself(ledger: Ledger) -> None:
    change = Change()
    postings = (Posting(CASH, Decimal(1)), Posting(Account(BOOK, PLAN, "venue", "BTC"), Decimal(-1)))
    change.transaction(Transaction("test", "test", "1", NOON, postings))
    with pytest.raises(BooksRefused, match="does not balance"):
        ledger.journal.record("settle", change)


def test_a_line_in_the_wrong_asset_cannot_exist(ledger: Ledger) -> None:
    change = Change()
    entry = Transaction("test", "test", "1", NOON, (Posting(CASH, Decimal(1)), Posting(CASH, Decimal(-1))))
    change.transaction(entry)
    change.tables["postings"][0]["asset"] = change.tables["postings"][1]["asset"] = "BTC"
    with pytest.raises(BooksRefused, match="foreign key"):
        ledger.journal.record("settle", change)


@pytest.mark.parametrize("amount", ["NaN", "1e-19", "1e20", "Infinity"])
def test_no_amount_is_rounded_and_none_is_no_number(ledger: Ledger, amount: str) -> None:
    change = Change()
    change.add("operations", book=BOOK, plan=PLAN, kind="x", ok=True, detail="")
    change.transaction(opening(BOOK, "other", "USD", Decimal(1), NOON))
    change.tables["postings"][0]["amount"] = amount
    with pytest.raises(BooksRefused):
        ledger.journal.record("settle", change)
    assert ledger.one("select count(*) from keel.operation") == 0


def test_no_line_joins_a_committed_transaction(ledger: Ledger) -> None:
    change = Change()
    entry = opening(BOOK, PLAN, "USD", Decimal(1000), NOON)
    for line, account in enumerate([CASH, Account(BOOK, PLAN, "equity", "USD")], start=2):
        change.account(account)
        change.add("postings", txn_id=entry.id, line=line, account_id=account.id, asset="USD", amount=Decimal((-1) ** line))
    with pytest.raises(BooksRefused, match="committed transaction"):
        ledger.journal.record("settle", change)


@pytest.mark.parametrize(
    "statement",
    [
        "update keel.posting set amount = amount * 2",
        "delete from keel.audit",
        "truncate keel.fill cascade",
        "update keel.intent set body = body",
        "delete from keel.order_event",
        "set session_replication_role = replica; delete from keel.posting",
    ],
)
def test_what_is_written_stays_written(ledger: Ledger, statement: str) -> None:
    order = ledger.stage()
    ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES)
    with pytest.raises(psycopg.errors.Error, match="append-only"):
        ledger.connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "insert into keel.order_head (client_order_id, book) values (gen_random_uuid(), 'paper:main')",
        "insert into keel.order_event values (gen_random_uuid(), 1, 'staged', 'send', 'sending')",
        "insert into keel.posting select gen_random_uuid(), 0, id, asset, 1 from keel.account limit 1",
        "insert into keel.lot_match select id, 0, gen_random_uuid(), 1, 1, 1 from keel.txn limit 1",
        "insert into keel.hold select client_order_id, gen_random_uuid(), 1 from keel.intent where leg = 7",
    ],
)
def test_no_row_stands_without_what_it_belongs_to(ledger: Ledger, statement: str) -> None:
    order = ledger.stage(leg=7)
    ledger.connection.execute("delete from keel.hold where client_order_id = %s", (order,))
    with pytest.raises(psycopg.errors.Error, match=r"foreign key|not of this transaction|committed transaction"):
        ledger.connection.execute(statement)


def test_a_trip_from_an_old_generation_is_stale(ledger: Ledger) -> None:
    before = ledger.books.breakers(["global"])[0]
    after = open_breaker(before, BreakerRules(), NOON, level=Level.NO_NEW, reason="x", actor="test")
    ledger.trip("global", Level.REDUCE_ONLY)
    change = Change()
    change.breaker(after, before, actor="test")
    with pytest.raises(Stale, match="moved on"):
        ledger.journal.record("breaker", change)


def test_the_chain_is_what_it_says_it_is(ledger: Ledger) -> None:
    order = ledger.stage()
    ledger.journal.mark_sending(BOOK, ledger.epoch, [order], SCOPES)
    previous = hashlib.sha256(b"keel").digest()
    rows = ledger.connection.execute(
        "select seq, version, at, actor, kind, flow_run_id, task_run_id, payload, prev, hash, role from keel.audit order by seq"
    ).fetchall()
    assert [row[4] for row in rows] == ["plan.open", "cycle.claimed", "order.stage", "order.send"]
    assert [row[10] for row in rows] == ["keel_decide", "keel_decide", "keel_decide", "keel_execute"]
    for number, (seq, version, at, actor, kind, flow, task, payload, prev, link, role) in enumerate(rows, start=1):
        text = "\n".join(map(str, (version, seq, at, actor, role, kind, flow, task, payload)))
        assert (seq, bytes(prev)) == (number, previous)
        assert hashlib.sha256(previous + text.encode()).digest() == bytes(link)
        assert (actor, flow, task) == ("test", "flow-1", "task-1")
        previous = bytes(link)


def test_a_refused_change_leaves_no_trace_in_the_chain(ledger: Ledger) -> None:
    before = ledger.one("select count(*) from keel.audit")
    with pytest.raises(BooksRefused):
        ledger.stage(hold="100000")
    assert ledger.one("select count(*) from keel.audit") == before
    assert ledger.one("select count(*) from keel.intent") == 0


def test_a_slot_is_claimed_once_and_taken_over_when_it_was_left(ledger: Ledger) -> None:
    again = ledger.journal.claim_slot(BOOK, PLAN, NOON, NOON, PLAN_SHA, "run", "")
    assert (again.outcome, again.epoch) == ("resumed", ledger.epoch + 1)
    change = Change()
    change.add("cycles", book=BOOK, plan=PLAN, slot_at=NOON, epoch=again.epoch, state="done")
    ledger.journal.record("publish", change)
    assert ledger.journal.claim_slot(BOOK, PLAN, NOON, NOON, PLAN_SHA, "run", "").outcome == "done"


def test_a_run_that_lost_its_slot_cannot_end_it(ledger: Ledger) -> None:
    ledger.journal.claim_slot(BOOK, PLAN, NOON, NOON, PLAN_SHA, "run", "")
    change = Change()
    change.add("cycles", book=BOOK, plan=PLAN, slot_at=NOON, epoch=ledger.epoch, state="done")
    with pytest.raises(Fenced, match="taken over"):
        ledger.journal.record("publish", change)


def test_a_portfolio_belongs_to_one_connection_at_a_time(ledger: Ledger, database_url: str) -> None:
    other = Journal(Sessions(database_url), lambda: Author("other"))
    ledger.journal.lock_portfolio(BOOK, 0)
    with pytest.raises(Busy, match="at work"):
        other.lock_portfolio(BOOK, 0.05)
    ledger.journal.sessions.close()  # as when the process dies
    other.lock_portfolio(BOOK, 5)
    other.sessions.close()


def test_ids_and_bodies_do_not_depend_on_anything_but_the_decision() -> None:
    assert str(client_order_id(OWNER, "BTC-USD", 0)) == str(derived_id(
        "v1", "paper", "main", "crossover", "BTC-USD", "default@2026-01-01T12:00:00Z", "0"))  # fmt: skip
    assert canonical({"b": Decimal("0.10"), "a": NOON}) == '{"a":"2026-01-01T12:00:00+00:00","b":"0.1"}'
