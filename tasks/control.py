"""What a person does from the Prefect UI: opening breakers, and asking to lead out of them."""

from __future__ import annotations

import time

from config.clock import wall_clock
from config.desk import open_desk
from config.halt import halted_by, remove_halt
from config.live import environment
from config.plans import load_plan
from config.postgres import ledger_url
from config.settings import Settings, load
from config.snapshots import ready
from config.stopping import Step, stop_resting
from tasks.runtime import author
from trading import hand
from trading.errors import NotAllowed
from trading.orders import Mode
from trading.risk import Cause, Level, NotResumed
from trading.store.books import Books
from trading.store.database import Sessions, connect
from trading.store.halting import halt, real_books, request_resume
from trading.store.journal import Author, Journal
from trading.store.roles import Role


def unknown_scope(settings: Settings, scope: str) -> str:
    """Why no breaker of that name can be opened; empty when one can. A slip of the pen would halt nothing."""
    url = _ledger(settings)
    with connect(url, "keel breaker", Role.REPORT) as connection:
        known = {"global", *(row.scope for row in Books(connection).breakers())}
    return "" if scope in known else f"scope: found {scope!r}, expected one of {', '.join(sorted(known))}"


def open_breaker(settings: Settings, scope: str, level: str, reason: str) -> list[Step]:
    """Opens it and, at level cancel, cancels what rests. Raises KeelError where the breaker itself could not be opened."""
    url, who = _ledger(settings), author()
    with Sessions(url) as sessions:
        row = halt(Journal(sessions, lambda: who), scope, Level(level), reason, wall_clock(), Cause.PERSON)
    opened = Step(name="breaker", ok=True, said=f"{row.scope} is open at {row.level}: {row.reason}")
    return [opened] + (stop_resting(settings, url, time.sleep, who) if row.level is Level.CANCEL else [])


def resume(plan: str, mode: str, name: str, reason: str) -> tuple[bool, str]:
    """(whether it was done or filed, what came of it). The halt file goes too, unless real orders would follow."""
    settings, run = load(), author()
    who = Author(actor=f"{name} (Prefect)", flow_run_id=run.flow_run_id, task_run_id=run.task_run_id)
    if mode == Mode.LIVE:
        return request(plan, settings, who, reason)
    try:
        with open_desk(plan, mode=Mode(mode), author=lambda: who, by_person=True) as desk:
            if real_books(desk.books.connection):
                request_resume(desk.journal, desk.book, f"{who.actor}: {reason}")
                return True, "requested: live portfolios share these breakers; a person completes it: keel resume"
            found = hand.resume(desk, None, reason, lambda: remove_halt(settings))
    except NotAllowed as error:
        return False, f"this worker's login may not resume ({error}); a person completes it: keel resume"
    refused = [row for row in found if isinstance(row, NotResumed)]
    if refused:
        return False, "; ".join(row.message for row in refused)
    if halted := halted_by(settings)():
        return False, halted
    return True, "; ".join(
        f"{row.scope} is half-open" for row in found if not isinstance(row, NotResumed)
    ) or "no breaker is open"


def request(plan: str, settings: Settings, who: Author, reason: str) -> tuple[bool, str]:
    """Files the wish to resume a live plan: a row that tells who and why, and leads nothing out."""
    url = _ledger(settings)
    book = f"{Mode.LIVE}:{load_plan(plan, environment(Mode.LIVE), settings.plans).portfolio}"
    with Sessions(url) as sessions:
        journal = Journal(sessions, lambda: who)
        if book not in real_books(journal.connection):
            return False, f"found no portfolio {book}, expected one that plan {plan} has been opened in"
        request_resume(journal, book, f"{who.actor}, plan {plan}: {reason}")
    return True, f"requested; a person completes it: keel resume --mode live --plan {plan}"


def _ledger(settings: Settings) -> str:
    url = ledger_url(settings)
    ready(url, settings)
    return url
