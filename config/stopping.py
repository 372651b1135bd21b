"""Stopping everything at once, whatever else is broken: the file first, then the breaker, then what rests at the venues.

Each step stands alone: what one cannot do is said, and the next one is tried all the same. Prefect is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from config.desk import default_author, open_desk
from config.halt import write_halt
from config.live import exchange_of, venue_of
from config.postgres import embedded, ledger_url
from config.settings import Settings
from trading.errors import ConfigurationError, KeelError, OutcomeUnknown
from trading.exchange.pulling import Pulled, pull
from trading.hand import sweep
from trading.orders import Mode
from trading.resting import unwanted
from trading.risk import Cause, Level
from trading.store.database import Sessions, connect
from trading.store.halting import Resting, halt, resting
from trading.store.journal import Author, Journal
from trading.store.roles import Role

REAL_MODES = (Mode.LIVE, Mode.REHEARSAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a halt did, or could not do."""

    name: str
    ok: bool
    said: str


def stop_everything(
    settings: Settings, reason: str, now: datetime, pause: Callable[[float], None], author: Author | None = None
) -> list[Step]:
    """Halts by every way that works. The first step alone stops every new order; raises nothing of ours."""
    who = author or default_author()
    steps = [_tried("halt file", lambda: f"written: {write_halt(settings, reason, who.actor, now)}")]
    url = running_ledger(settings)
    if url is None:
        steps.append(Step(name="breaker", ok=False, said="the ledger is down; the first run after its start opens the breaker"))
    else:
        steps.append(_tried("breaker", lambda: _open_breaker(url, reason, now, who)))
    return steps + stop_resting(settings, url, pause, who)


def stop_resting(settings: Settings, url: str | None, pause: Callable[[float], None], who: Author) -> list[Step]:
    """Cancels what rests: at real venues by their own list, and on paper, with the breaker that is open, by settling."""
    places = _places(url) if url is not None else []
    steps = list(_pull_real(settings, places, pause, ledger_answers=url is not None))
    return steps + [_tried(f"books of {place.book}", partial(_settle, place, settings, who)) for place in places]


def running_ledger(settings: Settings) -> str | None:
    """The URL of the ledger if it answers now; a halt starts no database."""
    try:
        if not settings.database_url and not embedded(settings).running():
            return None
        url = ledger_url(settings)
        connect(url, "keel halt").close()
    except (KeelError, OSError):
        return None
    return url


def _open_breaker(url: str, reason: str, now: datetime, who: Author) -> str:
    with Sessions(url, "keel halt") as sessions:
        row = halt(Journal(sessions, lambda: who), "global", Level.CANCEL, reason, now, Cause.PERSON)
    return f"global is open at {row.level}: {row.reason}"


def _places(url: str) -> list[Resting]:
    try:
        with connect(url, "keel halt", Role.REPORT) as connection:
            return resting(connection)
    except KeelError:
        return []


def _pull_real(
    settings: Settings, places: list[Resting], pause: Callable[[float], None], *, ledger_answers: bool
) -> Iterator[Step]:
    """By the venue's own list, ledger or none: what rests there and adds risk goes, whoever placed it."""
    for mode in REAL_MODES:
        name, needed = f"{mode} orders", any(place.mode == mode for place in places)
        try:
            venue = venue_of(mode, settings)
            missing = "no key here may cancel" if venue.trade_key is None else ""
        except ConfigurationError as error:
            missing = str(error)
        if missing:
            none = "nothing of ours rests there" if ledger_answers and not needed else "not asked, cancel at the venue itself"
            yield Step(name=name, ok=not needed, said=f"{none}: {missing}")
            continue
        found = pull(exchange_of(venue, mode, settings), venue.clock(), pause)
        yield Step(name=name, ok=found.proved, said=_told(found))


def _told(found: Pulled) -> str:
    parts = [f"{len(found.cancelled)} cancelled, {len(found.left)} left at the venue"]
    parts += [", ".join(found.left)] if found.left else []
    parts += [found.problem] if found.problem else []
    return "; ".join(parts)


def _settle(place: Resting, settings: Settings, who: Author) -> str:
    """Books what the venue says; on paper this is what cancels. Raises KeelError."""
    with open_desk(place.plan, mode=Mode(place.mode), author=lambda: who, settings=settings) as desk:
        if not sweep(desk):
            return "a run is at work: it cancels what rests, and books it, before it ends"
        left = unwanted(desk)
    if left:
        raise OutcomeUnknown(f"still at the venue: {', '.join(str(order.id) for order in left)}")
    return "nothing rests that adds risk"


def _tried(name: str, do: Callable[[], str]) -> Step:
    try:
        return Step(name=name, ok=True, said=do())
    except (KeelError, OSError) as error:
        return Step(name=name, ok=False, said=str(error))
