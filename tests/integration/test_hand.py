"""Orders, cancels and breaker moves by hand: the same road as a cycle's, and one decision per reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from tests.builders.plans import NOON, buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.desk import Desk
from trading.errors import ConfigurationError, OutcomeUnknown
from trading.orders import Order, OrderType, Request, State, TimeInForce, client_order_id
from trading.risk import BreakerRow, BreakerState, Level, NotResumed
from trading.store.journal import Journal
from trading.store.verify import verify

STRATEGY = "strategy:paper:main:default"


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    """A desk over a quiet market; whatever a test does, the books prove themselves after it."""
    with quick_desk(database_url, breaker={"cool_down_minutes": 60}) as opened:
        yield opened
    found = verify(database_url)
    assert found.ok, [check for check in found.checks if not check.ok]


def limit_buy(quantity: str = "0.001") -> Request:
    return buy(quantity=quantity, type=OrderType.LIMIT, limit_price=Decimal(49000), time_in_force=TimeInForce.GTC)


def placed(desk: Desk, request: Request, reference: str | None = None) -> Order:
    order = hand.place(desk, request, reference).order
    assert order is not None
    return order


def cash_held(desk: Desk) -> Decimal:
    return desk.books.portfolio(desk.book, desk.plan.name, "USD", NOON).cash_held


def test_an_order_by_hand_is_filled_booked_and_reconciled(desk: Desk) -> None:
    done = hand.place(desk, buy())
    assert done.order is not None
    assert (done.slot, done.order.state, done.repeated) == ("hand:1", State.FILLED, False)
    assert done.reconciliation is not None
    assert done.reconciliation.clean
    assert done.order.id == client_order_id(desk.owner("hand:1"), "BTC-USD", 0)


def test_a_reference_never_sends_twice_not_even_another_product(desk: Desk) -> None:
    first = placed(desk, buy(), "A")
    again = hand.place(desk, buy("ETH-USD", "0.01"), "A")
    assert again.repeated
    assert again.order is not None
    assert again.order.id == first.id
    assert desk.exchange.submitted == 1  # type: ignore[attr-defined]


def test_numbers_go_on_past_every_number_that_was_ever_asked_under(desk: Desk) -> None:
    placed(desk, buy(), "7")
    placed(desk, buy(), "letters")
    assert hand.place(desk, buy(quantity="9")).slot == "hand:8"  # refused
    assert hand.place(desk, buy()).slot == "hand:9"


def test_a_refused_reference_stays_refused(desk: Desk) -> None:
    refused = hand.place(desk, buy(quantity="9"), "A")
    again = hand.place(desk, buy(), "A")
    assert (refused.order, refused.code) == (None, "order_size_max")
    assert (again.order, again.code) == (None, "refused_before")
    assert "order_size_max" in again.message
    assert desk.exchange.submitted == 0  # type: ignore[attr-defined]


class DiesBeforeTheSend(Journal):
    """The process ends between the commit of an order and the commit that marks it as sending."""

    def mark_sending(
        self, book: str, epoch: int, orders: Sequence[UUID], scopes: Sequence[str], *, replay: bool = False
    ) -> Mapping[UUID, str]:
        del replay
        raise KeyboardInterrupt(book, epoch, orders, scopes)


def test_what_was_staged_and_never_sent_goes_out_at_the_second_call(desk: Desk) -> None:
    alive, desk.journal = desk.journal, DiesBeforeTheSend(desk.journal.sessions, desk.journal.author)
    with pytest.raises(KeyboardInterrupt):
        hand.place(desk, buy(), "A")
    desk.journal = alive
    assert desk.exchange.submitted == 0  # type: ignore[attr-defined]
    sent = placed(desk, buy(quantity="0.0005"), "A")
    assert (sent.state, sent.intent.request.quantity) == (State.FILLED, Decimal("0.001"))  # what was decided first
    assert desk.exchange.submitted == 1  # type: ignore[attr-defined]


def test_a_venues_no_is_a_rejected_order(desk: Desk) -> None:
    desk.exchange.refuses = "INSUFFICIENT_FUND"  # type: ignore[attr-defined]
    order = placed(desk, buy())
    assert order.state is State.REJECTED
    assert "INSUFFICIENT_FUND" in order.reason


def test_a_hand_order_takes_the_portfolio_over_from_every_earlier_run(desk: Desk) -> None:
    placed(desk, buy())
    before = desk.books.epoch(desk.book)
    placed(desk, buy())
    assert desk.books.epoch(desk.book) == before + 1


# ---------------------------------------------------------------------------------------------------------- cancel


def test_a_resting_order_is_cancelled_and_gives_its_cash_back(desk: Desk) -> None:
    order = placed(desk, limit_buy())
    assert order.state is State.OPEN
    assert cash_held(desk) > 49
    assert hand.cancel(desk, order.id, "changed my mind").state is State.CANCELLED
    assert cash_held(desk) == 0


def test_a_closed_order_is_shown_as_it_is(desk: Desk) -> None:
    order = placed(desk, buy())
    assert hand.cancel(desk, order.id, "too late").state is State.FILLED


def test_a_cancel_that_the_venue_refuses_leaves_the_order_open(desk: Desk) -> None:
    order = placed(desk, limit_buy())
    desk.exchange.cancel = lambda ids: dict.fromkeys(ids, "NOT_NOW")  # type: ignore[method-assign]
    left = hand.cancel(desk, order.id, "please")
    assert left.state is State.OPEN
    assert "NOT_NOW" in left.reason


def test_a_cancel_whose_answer_was_lost_can_be_asked_again(desk: Desk) -> None:
    order = placed(desk, limit_buy())
    answers, desk.exchange.cancel = desk.exchange.cancel, _no_answer  # type: ignore[method-assign]
    assert hand.cancel(desk, order.id, "please").state is State.CANCELLING
    desk.exchange.cancel = answers  # type: ignore[method-assign]
    assert hand.cancel(desk, order.id, "please").state is State.CANCELLED


def _no_answer(exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
    raise OutcomeUnknown(f"{exchange_order_ids}: no answer")


def test_an_unknown_order_is_a_usage_error(desk: Desk) -> None:
    with pytest.raises(ConfigurationError, match="expected an order of this portfolio"):
        hand.cancel(desk, uuid4(), "please")


# ----------------------------------------------------------------------------------------------------- the breaker


def test_a_trip_stops_what_adds_risk_at_once_and_lets_a_reduction_through(desk: Desk) -> None:
    placed(desk, buy())
    hand.trip(desk, STRATEGY, Level.REDUCE_ONLY, "a drill")
    refused = hand.place(desk, buy())
    assert refused.code == "breaker_open"
    assert "a drill" in refused.message
    assert placed(desk, sell()).state is State.FILLED


def test_no_new_stops_a_sale_by_hand_as_well(desk: Desk) -> None:
    placed(desk, buy())
    hand.trip(desk, "global", Level.NO_NEW, "a drill")
    assert hand.place(desk, sell()).code == "breaker_open"


def test_a_second_trip_only_ever_gets_stricter(desk: Desk) -> None:
    placed(desk, buy())
    assert hand.trip(desk, "global", Level.CANCEL, "first").level is Level.CANCEL
    milder = hand.trip(desk, "global", Level.REDUCE_ONLY, "second")
    assert (milder.level, milder.reason) == (Level.CANCEL, "first")


def test_an_unknown_scope_is_a_usage_error_that_names_the_known_ones(desk: Desk) -> None:
    placed(desk, buy())
    with pytest.raises(ConfigurationError, match="strategy:paper:main:default"):
        hand.trip(desk, "strategy:other", Level.NO_NEW, "a drill")


def test_a_resume_waits_for_the_cool_down_and_then_leads_into_the_test_period(desk: Desk) -> None:
    placed(desk, buy())
    hand.trip(desk, STRATEGY, Level.NO_NEW, "a drill")
    [early] = hand.resume(desk, None, "drill over")
    assert isinstance(early, NotResumed)
    assert early.code == "cooling_down"
    later(desk, minutes=61)
    [row] = hand.resume(desk, None, "drill over")
    assert isinstance(row, BreakerRow)
    assert (row.scope, row.state, row.resumed_by) == (STRATEGY, BreakerState.HALF_OPEN, "anna")
    assert placed(desk, buy()).state is State.FILLED


def test_no_resume_while_books_and_venue_disagree(desk: Desk) -> None:
    placed(desk, buy())
    hand.trip(desk, STRATEGY, Level.NO_NEW, "a drill")
    later(desk, minutes=61)
    desk.exchange.fund("BTC", Decimal("0.5"), "from nowhere")  # type: ignore[attr-defined]
    [refused] = hand.resume(desk, [STRATEGY], "drill over")
    assert isinstance(refused, NotResumed)
    assert refused.code == "not_reconciled"


def test_a_closed_breaker_has_nothing_to_resume(desk: Desk) -> None:
    placed(desk, buy())
    assert hand.resume(desk, None, "nothing") == []
    [refused] = hand.resume(desk, ["global"], "nothing")
    assert isinstance(refused, NotResumed)
    assert refused.code == "not_open"


def test_a_price_of_many_decimals_is_held_at_the_ledger_s_eighteen(database_url: str) -> None:
    with quick_desk(database_url, {"BTC-USD": "0.42973", "ETH-USD": "0.0000123457"}) as desk:
        placed = hand.place(desk, buy("BTC-USD", "23.45678901"))
        assert placed.order is not None
        assert placed.order.state is State.FILLED
