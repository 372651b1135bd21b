"""The mirror in Supabase as a program in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from config.settings import Settings
    from trading.dashboard import DashboardReporter
    from trading.store.reports import Reports

Once = Annotated[bool, typer.Option("--once", help="Tell what waits, and end.")]
AGAIN_SECONDS_MAX = 60.0


def mirror(once: Once = False) -> None:
    """Tell orders, fills, positions, results and breakers on to Supabase (KEEL_SUPABASE_URL, KEEL_SUPABASE_KEY) until Ctrl-C."""
    import asyncio
    from contextlib import suppress

    from config.settings import load
    from deployments.cli.console import ledger
    from trading.store.database import engine
    from trading.store.reports import Reports

    settings = load()
    told = _once if once else _always
    url = ledger()
    with suppress(KeyboardInterrupt):
        asyncio.run(told(url, Reports(engine(url)), settings))


def _reporter(settings: Settings) -> DashboardReporter:
    from trading.dashboard import DashboardReporter
    from trading.errors import ConfigurationError

    key = settings.supabase_key.get_secret_value()
    if not settings.supabase_url or not key:
        raise ConfigurationError(
            "KEEL_SUPABASE_URL and KEEL_SUPABASE_KEY: found none, expected the project's address and service key"
        )
    return DashboardReporter(settings.supabase_url, key)


async def _once(url: str, reports: Reports, settings: Settings) -> None:
    from trading.dashboard.mirror import catch_up

    async with _reporter(settings) as reporter:
        print(f"told {await catch_up(url, reports, reporter)} changes", flush=True)


async def _always(url: str, reports: Reports, settings: Settings) -> None:
    """At every ring; after a failure later and later, up to a minute."""
    import asyncio
    import sys

    from trading.dashboard import NotTold
    from trading.dashboard.mirror import catch_up
    from trading.errors import LedgerUnavailable
    from trading.store.bell import rings

    wait = 1.0
    async with _reporter(settings) as reporter:
        print(f"mirror: telling {reporter.host}", flush=True)
        while True:
            try:
                bell = rings(url)
                while True:  # the first ring of a bell comes at once: what waited is told then
                    if await asyncio.to_thread(next, bell):
                        await catch_up(url, reports, reporter)
                        wait = 1.0
            except (LedgerUnavailable, NotTold) as error:
                print(f"error[{error.code}]: {error}; again in {wait:.0f} s", file=sys.stderr, flush=True)
                await asyncio.sleep(wait)
                wait = min(wait * 2, AGAIN_SECONDS_MAX)
