"""What an order can go through, to the books: doubts of each class of venue, late fills, adjustments, strangers, movements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import cast

import pytest

from tests.builders.venues import QuickExchange, later, quick_desk
from trading import cycle as cycles
from trading import hand, outside
from trading.desk import Desk, see_market
from trading.errors import BooksRefused, ConfigurationError, OutcomeUnknown
from trading.exchange.port import OUTCOMES, Duplicates, Outcome, Rejected, Reply, conclude
from trading.execution import intents_of, send, stage
from trading.lots import LotMethod
from trading.movements import Movement, MovementKind
from trading.orders import FillKind, OrderType, Request, Side, State, TimeInForce
from trading.reconcile import reconcile
from trading.resolution import allot, announce, resolve
from trading.risk import Approved
from trading.risk.breaker import BreakerState, Level
from trading.risk.validator import Evaluation
from trading.settlement import settle
from trading.store.database import connect, downgrade
from trading.store.verify import Check, verify

UNIT = Decimal("0.001")
NOT_JUDGED = cast("Evaluation", None)


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with quick_desk(database_url) as opened:
        yield opened
        assert not unproved(database_url)


def unproved(url: str) -> list[Check]:
    return [check for check in verify(url).checks if not check.ok]


def venue(desk: Desk) -> QuickExchange:
    assert isinstance(desk.exchange, QuickExchange)
    return desk.exchange


def buy(**terms: object) -> Request:
    return Request(**{"product": "BTC-USD", "side": Side.BUY, "quantity": UNIT} | terms)  # type: ignore[arg-type]


def sell() -> Request:
    return Request(product="BTC-USD", side=Side.SELL, quantity=UNIT)


def resting() -> Request:
    return buy(type=OrderType.LIMIT, limit_price=Decimal(49000), time_in_force=TimeInForce.GTC)


def order_of(made: hand.HandOrder):  # noqa: ANN201 - an Order
    assert made.order is not None, made
    return made.order


def balances(desk: Desk) -> dict[str, Decimal]:
    return {asset: posted for asset, posted in desk.books.venue_balances(desk.book).items() if posted}


def theirs(desk: Desk) -> dict[str, Decimal]:
    return {asset: balance.total for asset, balance in desk.exchange.balances().items() if balance.total}


def classes(desk: Desk) -> list[str]:
    return [row["class"] for row in desk.books.open_breaks(desk.book)]


def breaker(desk: Desk, scope: str) -> tuple[BreakerState, Level | None]:
    (row,) = desk.books.breakers([scope])
    return row.state, row.level


# ------------------------------------------------------------------------------------------------- outcomes of a send


@pytest.mark.parametrize("kind", Duplicates)
def test_only_an_answer_settles_a_send_and_only_the_venues_own_no_refuses(kind: Duplicates) -> None:
    certain = {Reply.ACCEPTED: Outcome.CONFIRMED, Reply.REFUSED: Outcome.REFUSED, Reply.UNAUTHORISED: Outcome.REFUSED}
    for reply in Reply:
        assert OUTCOMES[kind, reply] is certain.get(reply, Outcome.IN_DOUBT)


def test_a_reply_is_concluded_by_the_table() -> None:
    assert conclude(Duplicates.REPLAYS, Reply.REFUSED, "no", code="X") == Rejected("X", "no")
    with pytest.raises(OutcomeUnknown, match="throttled: 429"):
        conclude(Duplicates.REFUSES, Reply.THROTTLED, "429")
    with pytest.raises(OutcomeUnknown):  # accepted, and no id to be read
        conclude(Duplicates.REPLAYS, Reply.ACCEPTED, "{}")


# ------------------------------------------------------------------------------------------------------------- doubts


def test_an_order_that_was_taken_is_found_by_its_id_and_not_sent_again(desk: Desk) -> None:
    venue(desk).visibility_lag_seconds = 120
    venue(desk).loses = 1
    assert order_of(hand.place(desk, buy())).state is State.FILLED
    assert venue(desk).submitted == 1


def test_a_venue_that_replays_gets_the_same_bytes_again_while_the_order_lives(desk: Desk) -> None:
    venue(desk).visibility_lag_seconds = 120
    venue(desk).swallows = 2
    order = order_of(hand.place(desk, buy()))
    assert (order.state, venue(desk).submitted) == (State.FILLED, 3)
    assert len(venue(desk).placed) == 1
    events = desk.books.connection.execute(
        "select event from keel.order_event where client_order_id = %s order by seq", (order.id,)
    ).fetchall()
    assert [event for (event,) in events] == [
        "send", "doubt", "not_listed", "send", "doubt", "not_listed", "send", "ack", "fill",
    ]  # fmt: skip


def test_a_hidden_order_is_replayed_and_never_made_twice(desk: Desk) -> None:
    venue(desk).visibility_lag_seconds = 120
    venue(desk).loses, venue(desk).hides = 1, True
    assert order_of(hand.place(desk, buy())).state is State.FILLED
    assert (venue(desk).submitted, len(venue(desk).placed)) == (2, 1)
    venue(desk).hides = False
    assert reconcile(desk).clean


@pytest.mark.parametrize("kind", [Duplicates.REFUSES, Duplicates.UNAWARE])
def test_other_venues_are_never_sent_anything_again(desk: Desk, kind: Duplicates) -> None:
    venue(desk).duplicates = kind
    venue(desk).visibility_lag_seconds = 120
    venue(desk).swallows = 1
    assert order_of(hand.place(desk, buy())).state is State.IN_DOUBT
    assert venue(desk).submitted == 1


def test_absence_takes_several_complete_scans_and_the_quiet_time(desk: Desk) -> None:
    venue(desk).duplicates = Duplicates.UNAWARE
    venue(desk).visibility_lag_seconds = 120
    venue(desk).swallows = 1
    order = order_of(hand.place(desk, buy()))
    now = desk.wall
    for _ in range(5):
        settle(desk)
    assert desk.books.orders([order.id])[order.id].state is State.IN_DOUBT, "scans alone prove nothing before the time"
    desk.wall = lambda: now() + timedelta(seconds=121)
    settle(desk)
    assert desk.books.orders([order.id])[order.id].state is State.ABSENT
    assert not desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).cash_held


def test_an_open_breaker_forbids_the_replay(desk: Desk) -> None:
    venue(desk).visibility_lag_seconds = 120
    venue(desk).swallows = 99
    order = order_of(hand.place(desk, resting()))
    assert order.state is State.IN_DOUBT
    sent = venue(desk).submitted
    hand.trip(desk, "global", Level.REDUCE_ONLY, "a look")
    verdict = desk.journal.mark_sending(desk.book, desk.books.epoch(desk.book), [order.id], desk.scopes, replay=True)
    assert verdict == {order.id: "in_doubt"}
    assert venue(desk).submitted == sent


def test_while_in_doubt_cash_stays_held_and_two_doubts_gate_the_portfolio(desk: Desk) -> None:
    venue(desk).duplicates = Duplicates.UNAWARE
    venue(desk).visibility_lag_seconds = 120
    venue(desk).swallows = 2
    hand.place(desk, buy())
    held = desk.books.portfolio(desk.book, "default", "USD", desk.market_now())
    assert held.cash_held > 50
    assert held.is_doubted("BTC-USD")
    assert not held.is_doubted("ETH-USD")
    hand.place(desk, Request(product="ETH-USD", side=Side.BUY, quantity=Decimal("0.01")))
    gated = desk.books.portfolio(desk.book, "default", "USD", desk.market_now())
    assert gated.is_doubted("SOL-USD")
    assert hand.place(desk, Request(product="ETH-USD", side=Side.BUY, quantity=Decimal("0.01"))).code == "in_doubt"


def test_an_order_that_turns_up_after_it_was_given_up_is_believed_and_stops_new_risk(desk: Desk) -> None:
    venue(desk).duplicates = Duplicates.UNAWARE
    venue(desk).loses, venue(desk).hides = 1, True  # lists never lag here, it claims: absent at once
    order = order_of(hand.place(desk, buy()))
    assert order.state is State.ABSENT
    assert breaker(desk, "global") == (BreakerState.OPEN, Level.CANCEL)  # money is gone, and no order says why
    venue(desk).hides = False
    reconcile(desk)
    reconcile(desk)
    assert desk.books.orders([order.id])[order.id].state is State.FILLED
    assert "order_revived" in classes(desk)
    assert not any(desk.books.suspense(desk.book, asset) for asset in ("BTC", "USD")), "found, it explains what was missing"
    assert breaker(desk, f"portfolio:{desk.book}") == (BreakerState.OPEN, Level.NO_NEW)
    assert balances(desk) == theirs(desk)


def test_two_portfolios_whose_venues_use_the_same_ids_each_have_their_own_books(database_url: str) -> None:
    """Two venues number their fills alike: entry-0 here is not entry-0 there."""
    for portfolio in ("main", "other"):
        with quick_desk(database_url, portfolio=portfolio) as opened:
            hand.place(opened, buy(), "A")
            hand.place(opened, sell(), "B")
            assert reconcile(opened).clean
            assert balances(opened) == theirs(opened)
    assert not unproved(database_url)


def test_bytes_that_are_not_the_approved_ones_are_not_sent_and_stop_everything(desk: Desk, database_url: str) -> None:
    venue(desk).tampers = True
    order = order_of(hand.place(desk, buy()))
    assert (order.state, venue(desk).submitted, venue(desk).placed) == (State.ABANDONED, 0, {})
    [row] = desk.books.open_breaks(desk.book)
    assert (row["class"], row["severity"], row["subject"]) == ("not_sent", 1, str(order.id))
    assert breaker(desk, "global") == (BreakerState.OPEN, Level.CANCEL)
    assert desk.books.venue_balances(desk.book) == theirs(desk)
    venue(desk).tampers = False
    assert hand.place(desk, buy()).order is None
    assert venue(desk).submitted == 0
    with connect(database_url) as connection:
        told = connection.execute("select payload from keel.audit where kind = 'order.outcome'").fetchall()
    assert any("nothing was sent" in payload for (payload,) in told)


def test_after_bytes_that_were_not_sent_the_next_order_does_not_even_get_to_the_exchange(database_url: str) -> None:
    with quick_desk(database_url) as desk:
        venue(desk).tampers = True
        with hand.at_the_desk(desk):
            market, _ = see_market(desk, desk.market_now(), desk.market_now())
            approved = [Approved(request, NOT_JUDGED) for request in (buy(), buy(product="ETH-USD"))]
            orders = stage(desk, intents_of(desk, "hand:two", approved, market.quotes), market.quotes)
            settled = send(desk, desk.books.epoch(desk.book), orders)
        assert [settled.states[order.id] for order in orders] == [State.ABANDONED] * 2
        assert classes(desk) == ["not_sent"], "the breaker stopped the second one"


def test_a_second_sending_that_is_stopped_leaves_the_order_in_doubt(desk: Desk) -> None:
    venue(desk).visibility_lag_seconds = 120
    venue(desk).swallows = 1
    submit = venue(desk).submit

    def tampers_with_the_second(body: str, sha256: str) -> object:
        venue(desk).tampers = venue(desk).submitted > 0
        return submit(body, sha256)

    venue(desk).submit = tampers_with_the_second  # type: ignore[method-assign,assignment]
    assert order_of(hand.place(desk, buy())).state is State.IN_DOUBT
    assert (venue(desk).submitted, classes(desk)) == (1, ["not_sent"])


def test_a_no_to_the_second_sending_says_nothing_of_the_first(desk: Desk) -> None:
    venue(desk).visibility_lag_seconds = 120
    venue(desk).loses, venue(desk).hides = 1, True
    submit = venue(desk).submit

    def refuses_the_second(body: str, sha256: str) -> object:
        if venue(desk).submitted:
            venue(desk).submitted += 1
            return Rejected("UNAUTHORISED", "the key was revoked meanwhile")
        return submit(body, sha256)

    venue(desk).submit = refuses_the_second  # type: ignore[method-assign,assignment]
    order = order_of(hand.place(desk, buy()))
    assert order.state is State.IN_DOUBT
    venue(desk).hides = False
    reconcile(desk)
    assert desk.books.orders([order.id])[order.id].state is State.FILLED


@pytest.mark.parametrize(
    "terms",
    [
        {"type": OrderType.LIMIT, "limit_price": Decimal(51000), "time_in_force": TimeInForce.FOK},
        {
            "type": OrderType.BRACKET,
            "limit_price": Decimal(60000),
            "stop_price": Decimal(45000),
            "time_in_force": TimeInForce.GTC,
        },
    ],
    ids=["fill or kill", "bracket"],
)
def test_the_ledger_keeps_every_kind_of_order_and_an_older_schema_does_not_drop_it(
    desk: Desk, database_url: str, terms: dict[str, object]
) -> None:
    hand.place(desk, buy())
    kind = sell() if terms["type"] is OrderType.BRACKET else buy()
    wanted = replace(kind, **terms)  # type: ignore[arg-type]
    order = order_of(hand.place(desk, wanted))
    assert replace(desk.books.orders([order.id])[order.id].intent.request, reason="", protective=False) == wanted
    with pytest.raises(BooksRefused, match="orders of newer kinds"):
        downgrade(database_url, "0001")


def test_a_stop_gets_the_plans_collar_where_the_venue_wants_a_limit(desk: Desk) -> None:
    venue(desk).takes_stops = False
    stop = buy(type=OrderType.STOP, stop_price=Decimal(52000), time_in_force=TimeInForce.GTC)
    sent = order_of(hand.place(desk, stop))
    assert (sent.state, sent.intent.request.type) == (State.OPEN, OrderType.STOP_LIMIT)
    assert sent.intent.request.limit_price == Decimal(53040)
    venue(desk).takes_stops = True
    assert order_of(hand.place(desk, stop)).intent.request.type is OrderType.STOP


# --------------------------------------------------------------------------------------------- late fills, adjustments


def test_a_fill_after_the_cancel_is_money(desk: Desk) -> None:
    order = order_of(hand.place(desk, resting()))
    assert hand.cancel(desk, order.id, "changed my mind").state is State.CANCELLED
    listed = next(iter(venue(desk).placed.values()))
    venue(desk).trades(listed, "0.0004", price="49000")
    assert reconcile(desk).clean
    after = desk.books.orders([order.id])[order.id]
    assert (after.state, after.filled) == (State.CANCELLED, Decimal("0.0004"))
    assert balances(desk) == theirs(desk)


def test_an_order_ends_only_when_its_fills_sum_to_what_the_venue_filled(desk: Desk) -> None:
    order = order_of(hand.place(desk, resting()))
    listed = next(iter(venue(desk).placed.values()))
    held_back = venue(desk).trades(listed, "0.0004", price="49000")
    venue(desk).traded.remove(held_back)  # the list of fills lags behind
    venue(desk).cancel([listed.exchange_order_id])
    settle(desk)
    assert desk.books.orders([order.id])[order.id].state is State.OPEN
    venue(desk).traded.append(held_back)
    settle(desk)
    after = desk.books.orders([order.id])[order.id]
    assert (after.state, after.filled) == (State.CANCELLED, Decimal("0.0004"))


@pytest.mark.parametrize("kind", [FillKind.REVERSAL, FillKind.CORRECTION])
@pytest.mark.parametrize("method", LotMethod)
def test_an_adjusted_fill_is_taken_back_and_what_followed_is_posted_anew(
    database_url: str, kind: FillKind, method: LotMethod
) -> None:
    with quick_desk(database_url, lots=method.value) as desk:
        first = order_of(hand.place(desk, buy(), "A"))
        hand.place(desk, buy(), "B")
        hand.place(desk, sell(), "C")
        listed = venue(desk).placed[first.exchange_order_id or ""]
        if kind is FillKind.CORRECTION:  # the venue takes the old one out of the account by itself
            venue(desk)._move("BTC", -UNIT)
            venue(desk)._move("USD", UNIT * 50000)
        venue(desk).trades(listed, str(UNIT) if kind is FillKind.REVERSAL else "0.0007", kind=kind, trade="t")
        reconcile(desk)
        assert balances(desk) == theirs(desk)
        assert "adjusted_fill" in classes(desk)
        assert desk.books.orders([first.id])[first.id].filled == (0 if kind is FillKind.REVERSAL else Decimal("0.0007"))
        held = desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).positions.get("BTC-USD")
        assert (held.quantity if held else 0) == theirs(desk).get("BTC", 0)
        assert not unproved(database_url)


def test_an_adjustment_of_nothing_is_a_break_and_books_nothing(desk: Desk) -> None:
    hand.place(desk, resting())
    listed = next(iter(venue(desk).placed.values()))
    fill = venue(desk).trades(listed, "0.0004", kind=FillKind.REVERSAL, trade="never seen")
    venue(desk)._move("BTC", fill.quantity)  # it took nothing from the account either
    venue(desk)._move("USD", -fill.notional)
    venue(desk).placed[listed.exchange_order_id] = listed
    settle(desk)
    assert classes(desk) == ["adjustment_unmatched"]


# -------------------------------------------------------------------------------------------- strangers and movements


def test_a_foreign_order_is_booked_outside_of_every_plan_and_reduces_to_exits(desk: Desk) -> None:
    hand.place(desk, buy(), "A")
    venue(desk).foreign("BTC-USD", Side.SELL, "0.0004")
    assert not reconcile(desk).clean
    assert balances(desk) == theirs(desk)
    assert classes(desk) == ["foreign_order"]
    assert breaker(desk, desk.product_scope("BTC-USD")) == (BreakerState.OPEN, Level.REDUCE_ONLY)
    held = desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).positions["BTC-USD"]
    assert held.quantity == UNIT, "no plan's lots are sold by a stranger"
    (row,) = desk.books.open_breaks(desk.book)
    resolve(desk, row["id"], "my own sale in the app", adopt=True)
    held = desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).positions["BTC-USD"]
    assert held.quantity == Decimal("0.0006")
    assert reconcile(desk).clean


@pytest.mark.parametrize(("side", "quantity", "lacks"), [(Side.SELL, "0.0007", "0 ETH"), (Side.BUY, "9", "949 USD")])
def test_a_plan_adopts_no_order_that_spent_what_it_has_not_got(desk: Desk, side: Side, quantity: str, lacks: str) -> None:
    hand.place(desk, buy(), "A")
    moved(desk, MovementKind.INCOME, "ETH", "0.01")
    moved(desk, MovementKind.DEPOSIT, "USD", "20000")
    venue(desk).foreign("ETH-USD", side, quantity)
    reconcile(desk)
    (row,) = [row for row in desk.books.open_breaks(desk.book) if row["class"] == "foreign_order"]
    with pytest.raises(ConfigurationError, match=f"found {lacks} of plan default to adopt it with"):
        resolve(desk, row["id"], "my own order in the app", adopt=True)
    resolve(desk, row["id"], "it stays outside")
    assert reconcile(desk).clean
    assert balances(desk) == theirs(desk)


def test_a_resolved_foreign_order_does_not_come_back(desk: Desk) -> None:
    hand.place(desk, buy(), "A")
    venue(desk).foreign("ETH-USD", Side.BUY, "0.01")
    reconcile(desk)
    (row,) = desk.books.open_breaks(desk.book)
    resolve(desk, row["id"], "leave it")
    assert reconcile(desk, timedelta(days=2)).clean


def moved(desk: Desk, kind: MovementKind, asset: str, amount: str, **more: object) -> None:
    venue(desk).move(Movement(entry_id=f"m-{len(venue(desk).moved)}", kind=kind, asset=asset, amount=Decimal(amount),
                              happened_at=desk.market_now(), **more))  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "asset", "amount", "opened", "level"),
    [
        (MovementKind.DEPOSIT, "USD", "500", [], None),
        (MovementKind.DEPOSIT, "BTC", "0.5", ["deposit"], None),
        (MovementKind.WITHDRAWAL, "USD", "100", ["withdrawal"], Level.CANCEL),
        (MovementKind.INCOME, "BTC", "0.001", [], None),
        (MovementKind.INCOME, "JUNK", "1000000", ["income"], None),
        (MovementKind.INCOME, "USD", "3.5", [], None),
    ],
)
def test_each_movement_has_a_booking_and_a_reaction(
    desk: Desk, kind: MovementKind, asset: str, amount: str, opened: list[str], level: Level | None
) -> None:
    hand.place(desk, buy(), "A")
    moved(desk, kind, asset, amount)
    settle(desk)
    assert balances(desk) == theirs(desk)
    assert classes(desk) == opened
    assert breaker(desk, "global") == ((BreakerState.OPEN, level) if level else (BreakerState.CLOSED, None))


def test_what_was_announced_opens_nothing_and_only_once(desk: Desk) -> None:
    hand.place(desk, buy(), "A")
    announce(desk, "withdrawal", "USD", Decimal(100), "rent")
    moved(desk, MovementKind.WITHDRAWAL, "USD", "100")
    settle(desk)
    assert classes(desk) == []
    moved(desk, MovementKind.WITHDRAWAL, "USD", "100")
    settle(desk)
    assert classes(desk) == ["withdrawal"]


def test_a_conversion_is_a_purchase_at_its_rate(desk: Desk) -> None:
    hand.place(desk, buy(), "A")
    moved(desk, MovementKind.CONVERSION, "USD", "100", to_asset="USDC", to_amount=Decimal("99.9"))
    settle(desk)
    assert balances(desk) == theirs(desk)
    assert classes(desk) == ["conversion"]
    lots = desk.books.settling(desk.book, LotMethod.FIFO, [(outside.PLAN, "USDC-USD")])[0][outside.PLAN, "USDC-USD"]
    assert (lots.quantity, lots.cost) == (Decimal("99.9"), Decimal(100))


def test_a_plan_goes_without_what_left_the_account_and_a_deposit_is_allotted_by_a_person(desk: Desk) -> None:
    hand.place(desk, buy(), "A")
    before = desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).cash_free
    announce(desk, "withdrawal", "USD", Decimal(300), "rent")
    moved(desk, MovementKind.WITHDRAWAL, "USD", "300")
    settle(desk)
    assert desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).cash_free == before - 300
    moved(desk, MovementKind.DEPOSIT, "USD", "700")
    settle(desk)
    allot(desk, Decimal(400))
    assert desk.books.portfolio(desk.book, "default", "USD", desk.market_now()).cash_free == before + 400
    with pytest.raises(ConfigurationError, match="found 0 USD free"):
        allot(desk, Decimal(1))
    assert balances(desk) == theirs(desk)


def test_money_that_vanishes_is_booked_to_suspense_and_stops_everything(desk: Desk) -> None:
    hand.place(desk, buy(), "A")
    venue(desk)._move("USD", Decimal(-40))
    assert not reconcile(desk).clean
    assert classes(desk) == ["balance_fall"]
    assert balances(desk) == theirs(desk)
    assert breaker(desk, "global") == (BreakerState.OPEN, Level.CANCEL)


def test_a_portfolio_keeps_its_lot_method(database_url: str) -> None:
    with quick_desk(database_url, lots="hifo") as desk:
        hand.place(desk, buy(), "A")
    with (
        quick_desk(database_url, lots="average") as desk,
        pytest.raises(ConfigurationError, match="key lots: found average, expected hifo"),
    ):
        hand.place(desk, buy(), "B")


# ------------------------------------------------------------------------------------------------------- late runs


@pytest.mark.parametrize(
    ("age_hours", "outcome", "policy"), [(0.5, "traded", "run"), (1.5, "traded", "reduce_only"), (2.5, "skipped", "skip")]
)
def test_a_late_run_is_run_reduced_to_exits_or_skipped_and_says_so(
    database_url: str, age_hours: float, outcome: str, policy: str
) -> None:
    with quick_desk(database_url, late_exit_intervals=2) as desk:
        due = desk.market_now()
        later(desk, hours=age_hours)
        cycle = cycles.run(desk, due)
        assert cycle.summary["outcome"] == outcome
        rows = desk.books.connection.execute("select policy, reason from keel.cycle").fetchall()
        assert rows[0][0] == policy
        assert bool(rows[0][1]) == (policy != "run")


def test_an_order_that_rests_for_days_stays_ours(desk: Desk) -> None:
    order = order_of(hand.place(desk, resting()))
    for _ in range(3):
        later(desk, days=2)
        assert reconcile(desk).clean
    assert desk.books.orders([order.id])[order.id].state is State.OPEN


HOSTILE = {
    "line breaks": "one\r\ntwo\x0b",
    "terminal": "\x1b[31mred\x1b[0m\x07",
    "format": "%s %(x)s {0} {x!r} ${HOME}",
    "SQL": "'; drop table keel.audit; --",
    "HTML": "<script>alert(1)</script>&amp;",
    "direction": "\u202etxt.exe\u2066",
    "NUL": "a\x00b",
    "half a pair": "\ud800x",
    "long": "x" * 1_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_text_from_outside_is_stored_as_text_and_does_nothing(desk: Desk, text: str) -> None:
    hand.place(desk, buy(reason=text), "A")
    venue(desk).refuses = text
    refused = order_of(hand.place(desk, buy(), "B"))
    assert refused.state is State.REJECTED
    venue(desk).refuses = None
    venue(desk).foreign("ETH-USD", Side.BUY, "0.01", client_order_id=text)
    moved(desk, MovementKind.INCOME, "USD", "1", note=text)
    reconcile(desk)
    assert classes(desk) == ["foreign_order"]
    assert balances(desk) == theirs(desk)
    announce(desk, "deposit", "USD", Decimal(1), text)
    (row,) = desk.books.open_breaks(desk.book)
    resolve(desk, row["id"], text)


@pytest.mark.parametrize("method", LotMethod)
def test_movements_of_one_look_follow_each_other_on_the_same_lots(database_url: str, method: LotMethod) -> None:
    with quick_desk(database_url, lots=method.value, capital=10_000) as desk:
        hand.place(desk, buy(), "A")
        moved(desk, MovementKind.DEPOSIT, "ETH", "0.03")
        moved(desk, MovementKind.INCOME, "ETH", "0.01")
        moved(desk, MovementKind.WITHDRAWAL, "ETH", "0.035")
        reconcile(desk)
        assert balances(desk) == theirs(desk)
        assert "uncovered" not in classes(desk)
    assert not unproved(database_url)
