"""What stops trading, by every path: the file, the command, the breaker's levels; and what leads out again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.halt import halt_file, halted_by, remove_halt, write_halt
from config.settings import Settings
from tests.builders.plans import buy, sell
from tests.builders.venues import quick_desk
from trading import execution, hand
from trading.desk import Desk
from trading.orders import State
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
        assert (refused.order, refused.code) == (None, "not_safe")
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
