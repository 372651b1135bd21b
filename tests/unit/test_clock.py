"""Slots, days and stamps are UTC's, whatever the machine calls local time and however long its days are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from trading.desk import day_start
from trading.market import last_close
from trading.money import canonical, parse_stamp, stamp

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
"""Also one whose summer time is half an hour, and one that is 5:45 ahead."""
CHANGES = (
    datetime(2026, 3, 8, tzinfo=UTC),
    datetime(2026, 3, 29, tzinfo=UTC),
    datetime(2026, 4, 4, tzinfo=UTC),
    datetime(2026, 10, 25, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=UTC),
)
"""UTC days around which some of the zones set their clocks."""


@pytest.fixture(params=ZONES)
def _zone(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture(params=CHANGES, ids=lambda day: f"{day:%m-%d}")
def minutes(request: pytest.FixtureRequest) -> list[datetime]:
    """Every ten minutes of the day and of the nights around it."""
    return [request.param + timedelta(minutes=minute) for minute in range(-720, 2160, 10)]


@pytest.mark.usefixtures("_zone")
def test_a_day_begins_at_midnight_utc(minutes: list[datetime]) -> None:
    for at in minutes:
        start = day_start(at)
        assert timedelta() <= at - start < timedelta(days=1)
        assert stamp(start).endswith("T00:00:00Z")


@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize(("interval", "seconds"), [("15m", 900), ("1h", 3600), ("6h", 21600), ("1d", 86400)])
def test_candles_close_at_whole_intervals_of_utc(minutes: list[datetime], interval: str, seconds: int) -> None:
    for at in minutes:
        close = last_close(at, interval)
        assert close.timestamp() % seconds == 0
        assert timedelta() <= at - close < timedelta(seconds=seconds)


@pytest.mark.usefixtures("_zone")
def test_a_time_is_written_and_read_as_utc(minutes: list[datetime]) -> None:
    for at in minutes:
        local = at.astimezone()
        assert parse_stamp(stamp(local)) == at
        assert stamp(local) == at.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert canonical(local) == canonical(at)


@pytest.mark.usefixtures("_zone")
def test_the_slots_of_a_day_are_24_in_every_zone(minutes: list[datetime]) -> None:
    day = day_start(minutes[len(minutes) // 2])
    slots = {last_close(at, "1h") for at in minutes if day <= at < day + timedelta(days=1)}
    assert len(slots) == 24
