"""The wall clock, read in one place: everything below takes `now` as an argument."""

from __future__ import annotations

from datetime import UTC, datetime


def wall_clock() -> datetime:
    return datetime.now(UTC)
