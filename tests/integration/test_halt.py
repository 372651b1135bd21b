"""What stops trading, by every path: the file, the command, the breaker's levels; and what leads out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from config.halt import halt_file, halted_by, remove_halt, write_halt
from config.settings import Settings
from tests.builders.plans import buy, sell
from tests.builders.venues import quick_desk
from trading import execution, hand, settlement
from trading.breaks import react
from trading.desk import Desk
from trading.errors import OutcomeUnknown
from trading.exchange.port import Status
from trading.exchange.pulling import pull
from trading.orders import Order, OrderType, Side, State, TimeInForce
from trading.plan import BreakerRules
from trading.risk import BreakerRow, BreakerState, Cause, Level, NotResumed
from trading.store.halting import tighten
from trading.store.verify import verify

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def desk(database_url: str, settings: Settings) -> Iterator[Desk]:
    """A desk that looks for the halt file; whatever a test does, the books prove themselves after it."""
    with quick_desk(database_url, breaker={"cool_down_minutes": 0}) as opened:
        opened.halted = halted_by(settings)
        yield opened
    found = verify(database_url)
    assert found.ok, [check for check in found.checks if not check.ok]


# --------------------------------------------------------------------------------------------------------- the file


def test_without_a_file_nothing_is_halted(settings: Settings) -> None:
    assert halted_by(settings)() == ""


def test_the_file_halts_and_says_what_was_written_into_it(settings: Settings) -> None:
    write_halt(settings, "prices look wrong", "anna", AT)
    write_halt(settings, "a second reason", "ben", AT)
    found = halted_by(settings)()
    assert "anna: prices look wrong" in found
    assert "second" not in found


def test_an_empty_file_that_anybody_touched_halts_as_well(settings: Settings) -> None:
    halt_file(settings).touch()
    assert "halted by" in halted_by(settings)()


def test_a_link_that_leads_nowhere_halts(settings: Settings) -> None:
    halt_file(settings).symlink_to("gone")
    assert "halted by" in halted_by(settings)()


def test_a_folder_that_is_gone_halts(tmp_path: Path) -> None:
    assert "is gone" in halted_by(Settings(halt_file=tmp_path / "unmounted" / "HALT"))()


def test_a_folder_that_cannot_be_looked_into_halts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be looked for" in halted_by(Settings(halt_file=tmp_path / "file" / "HALT"))()


def test_removing_it_lets_orders_pass_again(settings: Settings) -> None:
    halt_file(settings).symlink_to("gone")
    assert (remove_halt(settings), remove_halt(settings)) == (True, False)
    assert halted_by(settings)() == ""


def test_no_order_by_hand_leaves_while_the_file_exists_not_even_a_sale(desk: Desk, settings: Settings) -> None:
    assert hand.place(desk, buy()).order is not None
    halt_file(settings).touch()
    sent = desk.exchange.submitted  # type: ignore[attr-defined]
    for request in (buy(), sell(quantity="0.001")):
        refused = hand.place(desk, request)
        assert (refused.order, refused.code) == (None, "breaker_open")
        assert "halted by" in refused.message
    assert desk.exchange.submitted == sent  # type: ignore[attr-defined]


def test_what_was_marked_before_the_file_appeared_is_stopped_at_the_last_moment(desk: Desk, settings: Settings) -> None:
    marks = desk.journal.mark_sending

    class LateHalt(type(desk.journal)):  # type: ignore[misc]
        def mark_sending(self, *arguments: object, **named: object) -> object:
            found = marks(*arguments, **named)  # type: ignore[arg-type]
            halt_file(settings).touch()
            return found

    desk.journal = LateHalt(desk.journal.sessions, desk.journal.author)
    placed = hand.place(desk, buy())
    assert placed.order is not None
    assert placed.order.state is State.ABANDONED
    assert "halted by" in placed.order.reason
    assert desk.exchange.submitted == 0  # type: ignore[attr-defined]
    assert execution.left_staged(desk, placed.slot) == []


# -------------------------------------------------------------------------------------------- what rests at the venue


LIMITS = {Side.BUY: Decimal(49000), Side.SELL: Decimal(51000)}


def resting(desk: Desk, side: Side) -> Order:
    make = buy if side is Side.BUY else sell
    request = make(quantity="0.001", type=OrderType.LIMIT, limit_price=LIMITS[side], time_in_force=TimeInForce.GTC)
    order = hand.place(desk, request).order
    assert order is not None
    assert order.state is State.OPEN
    return order


def stands(desk: Desk, order: Order) -> State:
    return desk.books.orders([order.id])[order.id].state


def at_the_venue(desk: Desk) -> set[Side]:
    return {order.side for order in desk.exchange.orders(AT) if order.status is Status.OPEN}


@pytest.mark.parametrize(
    ("level", "cause", "kept"),
    [
        (Level.CANCEL, Cause.LOSS, {Side.SELL}),
        (Level.CANCEL, Cause.PERSON, {Side.SELL}),
        (Level.CANCEL, Cause.DOUBT, set()),
        (Level.NO_NEW, Cause.DOUBT, {Side.BUY, Side.SELL}),
    ],
)
def test_what_an_open_breaker_leaves_resting(desk: Desk, level: Level, cause: Cause, kept: set[Side]) -> None:
    hand.place(desk, buy())
    orders = {side: resting(desk, side) for side in Side}
    tighten(desk.journal, "global", level, "a test", AT, actor="test", cause=cause)
    settlement.settle(desk)
    assert at_the_venue(desk) == kept
    for side, order in orders.items():
        assert stands(desk, order) is (State.OPEN if side in kept else State.CANCELLED)


@pytest.mark.parametrize(
    "scope", ["product:paper:main:BTC-USD", "strategy:paper:main:default", "portfolio:paper:main", "venue:quick"]
)
def test_every_scope_cancels_what_it_covers(desk: Desk, scope: str) -> None:
    order = resting(desk, Side.BUY)
    tighten(desk.journal, scope, Level.CANCEL, "a test", AT, actor="test", cause=Cause.PERSON)
    settlement.settle(desk)
    assert stands(desk, order) is State.CANCELLED


def test_another_product_is_left_alone(desk: Desk) -> None:
    order = resting(desk, Side.BUY)
    tighten(desk.journal, "product:paper:main:ETH-USD", Level.CANCEL, "a test", AT, actor="test", cause=Cause.DOUBT)
    settlement.settle(desk)
    assert stands(desk, order) is State.OPEN


def test_a_doubt_goes_further_than_a_persons_word(desk: Desk) -> None:
    for cause, generation in ((Cause.PERSON, 1), (Cause.LOSS, 1), (Cause.DOUBT, 2), (Cause.PERSON, 2)):
        row = tighten(desk.journal, "global", Level.CANCEL, "a test", AT, actor="test", cause=cause)
        assert row.generation == generation


def test_the_file_alone_becomes_a_breaker_and_cancels_what_adds_risk(desk: Desk, settings: Settings) -> None:
    order = resting(desk, Side.BUY)
    write_halt(settings, "by touch", "anna", AT)
    settlement.settle(desk)
    assert stands(desk, order) is State.CANCELLED
    (row,) = desk.books.breakers(["global"])
    assert (row.level, row.cause, row.opened_by) == (Level.CANCEL, Cause.PERSON, "halt file")
    react(desk)
    assert desk.books.breakers(["global"]) == [row]


def test_an_order_that_will_not_go_is_a_break_of_the_worst_kind(desk: Desk) -> None:
    order = resting(desk, Side.BUY)
    desk.exchange.cancel = lambda ids: dict.fromkeys(ids, "NOT_NOW")  # type: ignore[method-assign]
    tighten(desk.journal, "global", Level.CANCEL, "a test", AT, actor="test", cause=Cause.PERSON)
    settlement.settle(desk)
    assert stands(desk, order) is State.CANCELLING
    (found,) = desk.books.open_breaks(desk.book)
    assert (found["class"], found["severity"], found["subject"]) == ("still_resting", 1, str(order.id))


def test_a_successor_finishes_what_a_killed_process_had_asked(desk: Desk) -> None:
    order = resting(desk, Side.BUY)
    tighten(desk.journal, "global", Level.CANCEL, "a test", AT, actor="test", cause=Cause.PERSON)

    def die(_: Sequence[str]) -> Mapping[str, str]:
        raise KeyboardInterrupt

    cancel, desk.exchange.cancel = desk.exchange.cancel, die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        settlement.settle(desk)
    desk.exchange.cancel = cancel  # type: ignore[method-assign]
    assert stands(desk, order) is State.CANCELLING
    settlement.settle(desk)
    assert stands(desk, order) is State.CANCELLED


# ------------------------------------------------------------------------------------ by the venue's own list alone


def test_pulling_needs_no_ledger_takes_purchases_alone_and_proves_that_they_are_gone(desk: Desk) -> None:
    hand.place(desk, buy())
    bought = resting(desk, Side.BUY)
    resting(desk, Side.SELL)
    found = pull(desk.exchange, AT, desk.pause)
    assert (found.cancelled, found.proved) == ((bought.exchange_order_id,), True)
    assert at_the_venue(desk) == {Side.SELL}
    assert pull(desk.exchange, AT, desk.pause, everything=True).proved
    assert at_the_venue(desk) == set()
    settlement.settle(desk)
    assert stands(desk, bought) is State.CANCELLED


def test_pulling_says_what_it_could_not_do(desk: Desk) -> None:
    order = resting(desk, Side.BUY)

    def lost(_: Sequence[str]) -> Mapping[str, str]:
        raise OutcomeUnknown("the connection broke")

    desk.exchange.cancel = lost  # type: ignore[method-assign]
    found = pull(desk.exchange, AT, desk.pause)
    assert (found.left, found.problem, found.proved) == ((order.exchange_order_id,), "the connection broke", False)
    desk.exchange.cancel = lambda ids: dict.fromkeys(ids, "NOT_NOW")  # type: ignore[method-assign]
    assert "NOT_NOW" in pull(desk.exchange, AT, desk.pause).problem


# ------------------------------------------------------------------------------------------------ what leads out again


def test_a_resume_lifts_the_file_once_nothing_speaks_against_it(desk: Desk, settings: Settings) -> None:
    resting(desk, Side.BUY)
    write_halt(settings, "by hand", "anna", AT)
    found = hand.resume(desk, None, "looked into it", lambda: remove_halt(settings))
    assert [(row.scope, row.state) for row in found if isinstance(row, BreakerRow)] == [("global", BreakerState.HALF_OPEN)]
    assert halted_by(settings)() == ""
    settlement.settle(desk)
    assert hand.place(desk, buy()).order is not None


def test_the_file_stays_while_books_and_venue_disagree(desk: Desk, settings: Settings) -> None:
    hand.place(desk, buy())
    write_halt(settings, "by hand", "anna", AT)
    desk.exchange.held["BTC"] += 1  # type: ignore[attr-defined]
    found = hand.resume(desk, None, "looked into it", lambda: remove_halt(settings))
    assert {row.code for row in found if isinstance(row, NotResumed)} == {"not_reconciled"}
    assert halted_by(settings)() != ""


def test_the_file_stays_while_the_breaker_cools_down(desk: Desk, settings: Settings) -> None:
    hand.place(desk, buy())
    write_halt(settings, "by hand", "anna", AT)
    desk.plan = desk.plan.model_copy(update={"breaker": BreakerRules(cool_down_minutes=5)})
    found = hand.resume(desk, None, "at once", lambda: remove_halt(settings))
    assert [row.code for row in found if isinstance(row, NotResumed)] == ["cooling_down"]
    assert halted_by(settings)() != ""
