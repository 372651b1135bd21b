"""Clocks that are wrong: ours against the venue's and the ledger's, one that goes back, and local days of 23 and 25 hours."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.builders.plans import LIVELY, NOON
from tests.builders.venues import later, quick_desk
from tests.crash.coinbase import CoinbasePlace, places
from tests.crash.failpoints import Crash, Failpoints
from tests.crash.story import QUIET_SECONDS, Place, ScriptedPlace, Story, compared, opened, tell
from trading import cycle as cycles
from trading.desk import day_start
from trading.money import dec, stamp
from trading.orders import State

pytestmark = pytest.mark.crash
FIVE_MINUTES = timedelta(minutes=5)
REPLIES = ("ack", "drop", "hide:3", "lost", "slow")
DEATHS = (12, 20, 24, 31, 36)
"""Failpoints on the road to the wire and behind it, of the 96 that a story passes."""


STORIES = [Story(number % 3, (reply,), ((death,),)) for number, (reply, death) in enumerate(zip(REPLIES, DEATHS, strict=True))]
COINBASE_REPLIES = ("ack", "accept_then_drop", "hidden, then dropped", "drop", "delayed")
BOTH_WAYS = pytest.mark.parametrize("off", [FIVE_MINUTES, -FIVE_MINUTES], ids=["ahead", "behind"])


def wrong_of(place: Place, stories: list[Story]) -> list[str]:
    told = [(story, tell(place, story)) for story in stories]
    return [f"{story}: died at {found.deaths}: {found.problems}" for story, found in told if found.problems]


@BOTH_WAYS
def test_a_clock_five_minutes_off_the_venues_loses_and_doubles_nothing(
    fresh_place: Callable[[], ScriptedPlace], off: timedelta
) -> None:
    place = fresh_place()
    place.ahead_of_venue = off
    assert wrong_of(place, STORIES) == []


@pytest.fixture
def coinbase(fresh_ledger: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoinbasePlace]:
    with closing(places(lambda: tmp_path_factory.mktemp("coinbase"), fresh_ledger, 10)) as made:
        yield made


@BOTH_WAYS
def test_a_clock_five_minutes_off_coinbases_loses_and_doubles_nothing(coinbase: Iterator[CoinbasePlace], off: timedelta) -> None:
    place = next(coinbase)
    place.ahead_of_venue = off
    stories = [Story(0, (reply,), ((death,),)) for reply, death in zip(COINBASE_REPLIES, DEATHS, strict=True)]
    assert wrong_of(place, stories) == []


@BOTH_WAYS
def test_a_clock_five_minutes_off_the_ledgers_loses_and_doubles_nothing(
    fresh_place: Callable[[], ScriptedPlace], off: timedelta
) -> None:
    place = fresh_place()
    place.ahead_of_ledger = off
    assert wrong_of(place, STORIES) == []


def test_a_clock_behind_the_ledgers_sends_nothing_rather_than_too_late(fresh_place: Callable[[], ScriptedPlace]) -> None:
    place = fresh_place()
    place.renew()
    place.ahead_of_ledger = -FIVE_MINUTES
    with opened(place, Story(venue=0), Failpoints()) as desk:
        cycle = cycles.run(desk)
    assert set(cycle.executed.states.values()) == {State.ABANDONED}
    assert place.oracle()["orders"] == []


def test_a_clock_that_goes_an_hour_back_trades_no_slot_again(fresh_place: Callable[[], ScriptedPlace]) -> None:
    place = fresh_place()
    place.renew()
    story = Story(venue=0)
    outcomes = []
    for hours in (0, 1, 0, 0, 1, 2):
        place.ahead_of_venue = timedelta(hours=hours) - (place.at - NOON)  # the venue's own clock never goes back
        with opened(place, story, Failpoints()) as desk:
            outcomes.append(cycles.run(desk).summary["outcome"])
        place.at = max(place.at, NOON + timedelta(hours=hours))
    assert outcomes == ["traded", "traded", "repeated", "repeated", "repeated", "traded"]
    assert len(place.oracle()["orders"]) == 6
    assert list(compared(place, story, place.oracle())) == []


@pytest.mark.parametrize("point", DEATHS)
def test_a_run_that_died_before_the_clock_went_back_is_settled_all_the_same(
    fresh_place: Callable[[], ScriptedPlace], point: int
) -> None:
    place, story = fresh_place(), Story(venue=0, replies=("ack", "ack", "drop"))
    place.renew()
    place.disturb(story)
    with pytest.raises(Crash), opened(place, story, Failpoints((point,))) as desk:
        cycles.run(desk)
    for hours in (-1, 1, 2):
        place.ahead_of_venue = timedelta(hours=hours) - (place.at - NOON)
        place.ahead_of_ledger = timedelta(hours=min(hours, 0))
        place.wait(QUIET_SECONDS)
        with opened(place, story, Failpoints()) as desk:
            cycles.run(desk)
        place.at = max(place.at, NOON + timedelta(hours=hours))
    assert list(compared(place, story, place.oracle())) == []


# ---------------------------------------------------------------------------------------------- days that are not 24 hours

LOCAL_DAYS = {
    "Berlin, 23 hours": ("Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC)),
    "Berlin, 25 hours": ("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC)),
    "New York, 23 hours": ("America/New_York", datetime(2026, 3, 8, tzinfo=UTC)),
    "New York, 25 hours": ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
}
DAY_PLAN = LIVELY | {"limits": {"max_daily_volume_usd": "520"}}
"""About ten orders fill the day's volume."""


def a_day(url: str, midnight: datetime) -> list[dict[str, Any]]:
    """What each hour from the evening before on decided: 28 of them, over one midnight and the next."""
    hours = []
    with quick_desk(url, **DAY_PLAN) as desk:
        desk.source.at = midnight - timedelta(hours=2)  # type: ignore[attr-defined]
        for _ in range(28):
            cycle = cycles.run(desk)
            assert cycle.portfolio is not None
            assert cycle.slot_at is not None
            refused = sorted({failure.code for judged in cycle.refused for failure in judged.evaluation.failures})
            hours.append({
                "slot": stamp(cycle.slot_at), "day": stamp(day_start(cycle.market_at)), "sent": len(cycle.executed.states),
                "volume": str(cycle.portfolio.day_volume), "start": str(cycle.portfolio.day_start_equity), "refused": refused,
                "next": cycle.summary["next_slot"],
            })  # fmt: skip
            later(desk, hours=1)
    return hours


def elsewhere(zone: str, url: str, midnight: datetime) -> list[dict[str, Any]]:
    """`a_day` in a process whose local time is that of the zone."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.environ["TZ"] = zone
            time.tzset()
            with os.fdopen(write, "w") as out:
                out.write(json.dumps({"zone": time.tzname, "hours": a_day(url, midnight)}))
        finally:
            os._exit(0)  # pytest's own teardown belongs to the parent
    os.close(write)
    with os.fdopen(read) as told:
        said = told.read()
    os.waitpid(child, 0)
    found = json.loads(said)
    assert tuple(found["zone"]) != ("UTC", "UTC")
    hours: list[dict[str, Any]] = found["hours"]
    return hours


@pytest.mark.parametrize(("zone", "midnight"), LOCAL_DAYS.values(), ids=LOCAL_DAYS)
def test_a_local_day_of_23_or_25_hours_moves_no_slot_and_no_limit(
    fresh_ledger: Callable[[], str], zone: str, midnight: datetime
) -> None:
    here, there = a_day(fresh_ledger(), midnight), elsewhere(zone, fresh_ledger(), midnight)
    assert there == here
    assert [hour["slot"] for hour in here] == [stamp(midnight + timedelta(hours=number)) for number in range(-2, 26)]
    evening, day, next_day = here[:2], here[2:26], here[26:]
    assert [len({hour["start"] for hour in hours}) for hours in (evening, day, next_day)] == [1, 1, 1]
    assert len({hours[0]["start"] for hours in (evening, day, next_day)}) == 3, "a loss is one of its UTC day"
    assert [hours[0]["volume"] for hours in (evening, day, next_day)] == ["0", "0", "0"]
    assert dec(day[-1]["volume"]) > 400
    assert not any(hour["sent"] for hour in day[14:]), "the day's volume was never used up"
    assert next_day[0]["sent"] or next_day[1]["sent"]
