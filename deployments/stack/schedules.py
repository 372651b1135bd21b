"""Does a cron line fit the interval that it is to serve?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from croniter import croniter
from croniter.croniter import CroniterError

from trading.errors import ConfigurationError

_A_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


def cron_fits(cron: str, interval_seconds: int) -> bool:
    """True if the cron (UTC) fires exactly one interval apart, every time over a week.

    Raises ConfigurationError for what is no cron line of five fields.
    """
    if len(cron.split()) != 5 or not croniter.is_valid(cron):
        raise ConfigurationError(f"cron: found {cron!r}, expected five fields such as '0 * * * *'")
    until = _A_MONDAY + timedelta(days=7)
    firings = croniter(cron, _A_MONDAY, ret_type=datetime)
    try:
        last = firings.get_next()
        while True:
            following = firings.get_next()
            if (following - last).total_seconds() != interval_seconds:
                return False
            if following >= until:
                return True
            last = following
    except CroniterError:  # a date that never comes, such as 30 February
        return False
