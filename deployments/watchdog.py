"""The watchdog: a process of its own, outside of Prefect, that looks whether the stack is alive and acts when it is not.

Each look: the halt file, the ledger, the stack's heartbeat, slots that nobody claimed, the machine. What trips opens the global
breaker, cancels by the venue's own list, and alerts; with `KEEL_WATCHDOG=live` and no live portfolio it only alerts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from config.alerts import LASTING, Alerts
from config.clock import wall_clock
from config.halt import halted_by
from config.settings import Settings
from config.stopping import Step, running_ledger, stop_resting
from config.vitals import code_version, configuration, machine_signs
from trading.errors import ConfigurationError, KeelError, LedgerUnavailable
from trading.incidents import Incident, Severity, incidents
from trading.plan import BreakerRules, Controls
from trading.risk import Cause, Level, Violation
from trading.risk.watches import Watch, judge_signs
from trading.store.database import Sessions, connect
from trading.store.halting import halt, real_books
from trading.store.heartbeats import beat, pulse
from trading.store.journal import Author, Journal
from trading.store.roles import Role

OURS = "watch:"
HALT_FILE = f"{OURS}halt_file"
_WORKS = {
    True: "a person's commands; the global breaker is open and what rested at the venue was cancelled",
    False: "a person's commands; nothing was tripped: no live portfolio is in the ledger",
}


@dataclass(kw_only=True)
class Watchdog:
    """Looks again and again, and remembers between looks what it has acted on."""

    settings: Settings
    say: Callable[[str], None]
    now: Callable[[], datetime] = wall_clock
    pause: Callable[[float], None] = time.sleep
    since: datetime = field(init=False)
    """When it began to watch: a stack gets its time to start from here."""
    ledger_gone_at: datetime | None = None
    was_real: bool = False
    """Live portfolios at the last look that the ledger answered: what counts when it does not."""
    acted_on: frozenset[str] = frozenset()
    """What tripped at the last look: acted on once, for as long as it lasts."""

    def __post_init__(self) -> None:
        self.since = self.now()

    def run(self) -> None:
        """Watches until the process ends. A look that fails is told, and the next one is made all the same."""
        while True:
            try:
                self.look()
            except (KeelError, OSError) as error:
                self._tell([self._of_itself(error)], answers=False)
            self.pause(self.settings.watch_seconds)

    def look(self) -> list[Incident]:
        """One look: acts on what is new, tells what is not told yet, and returns everything that it found."""
        url = running_ledger(self.settings)
        try:
            found = self._without_ledger() if url is None else self._with_ledger(url)
        except LedgerUnavailable:  # it went away meanwhile, or is read-only: nothing can be sent or tripped
            url, found = None, self._without_ledger()
        if reason := halted_by(self.settings)():
            found.append(self._of_file(reason))
        ours = {incident.key: incident for incident in found if incident.key.startswith(OURS)}
        new = [incident for key, incident in ours.items() if key not in self.acted_on]
        for incident in new:
            self.say(f"{incident.title}: {incident.evidence}")
        done = not new or self._act(url, new)
        self.acted_on = frozenset(ours) if done else self.acted_on & ours.keys()  # what is not done is tried again
        self._tell(found, answers=url is not None)
        return found

    # ------------------------------------------------------------------------------------------------- what it finds

    def _with_ledger(self, url: str) -> list[Incident]:
        version, configured = code_version(), configuration(self.settings)
        beat(url, "watchdog", version, configured)
        with connect(url, "keel watchdog", Role.REPORT) as connection:
            self.was_real = bool(real_books(connection))
            told = pulse(connection, version, configured, self.now())
            open_ = incidents(connection)
        self.ledger_gone_at = None
        awake = Decimal(str((self.now() - self.since).total_seconds()))
        signs = machine_signs(self.settings, told)
        if told.silence_seconds is not None:
            signs["heartbeat_age_seconds"] = min(told.silence_seconds, awake)
        if told.unclaimed_seconds is not None:
            signs["unclaimed_slot_seconds"] = min(told.unclaimed_seconds, awake)
        rules = BreakerRules(
            max_silence_seconds=self.settings.silence_seconds, max_unclaimed_seconds=self.settings.unclaimed_seconds
        )
        return open_ + [self._of_watch(*one) for one in judge_signs(signs, rules, Controls())]

    def _without_ledger(self) -> list[Incident]:
        """A ledger that is away sends nothing, but what rests goes on resting."""
        self.ledger_gone_at = self.ledger_gone_at or self.now()
        if self.now() - self.ledger_gone_at < timedelta(seconds=self.settings.silence_seconds):
            return []
        return [Incident(
            key=f"{OURS}ledger", severity=Severity.CRITICAL, title="the ledger does not answer",
            evidence=f"for {self.settings.silence_seconds} s or longer", do="`keel up`, or whoever keeps the database",
            still_works="nothing can be sent: a send is marked in the ledger first",
        )]  # fmt: skip

    def _of_itself(self, error: Exception) -> Incident:
        self.say(f"a look failed: {type(error).__name__}: {error}")
        return Incident(
            key=f"{OURS}look", severity=Severity.CRITICAL, title="the watchdog cannot look", do="the watchdog's own output",
            evidence=f"{type(error).__name__}: {error}"[:500], still_works="the stack itself; nobody watches it",
        )  # fmt: skip

    def _of_watch(self, watch: Watch, violation: Violation) -> Incident:
        return Incident(
            key=f"{OURS}{watch.code}", severity=Severity.CRITICAL, title=f"{watch.code}: {watch.means}", owner=watch.owner,
            evidence=violation.message, still_works=_WORKS[self.trips], do=watch.do,
        )  # fmt: skip

    def _of_file(self, reason: str) -> Incident:
        return Incident(
            key=HALT_FILE, severity=Severity.CRITICAL, title="halted by the halt file", evidence=reason,
            still_works="settling and reconciling; no order is sent", do="find out who wrote it, and why; then `keel resume`",
        )  # fmt: skip

    # --------------------------------------------------------------------------------------------------- what it does

    @property
    def trips(self) -> bool:
        """May it do more than alert?"""
        return self.settings.watchdog == "always" or (self.settings.watchdog == "live" and self.was_real)

    def _act(self, url: str | None, new: list[Incident]) -> bool:
        """Opens the global breaker and cancels; True if all of it was done, or nothing was to be.

        A halt file is somebody's word, and followed in every mode.
        """
        by_file = any(incident.key == HALT_FILE for incident in new)
        if not self.trips and not by_file:
            return True
        reason = "watchdog: " + "; ".join(f"{incident.key.removeprefix(OURS)}: {incident.evidence}" for incident in new)
        cause = Cause.PERSON if by_file and len(new) == 1 else Cause.DOUBT
        who = Author(actor="watchdog")
        if url is not None:
            with Sessions(url, "keel watchdog") as sessions:
                halt(Journal(sessions, lambda: who), "global", Level.CANCEL, reason[:500], self.now(), cause)
        steps = stop_resting(self.settings, url, self.pause, who)
        for step in steps:
            self._say_step(step)
        return all(step.ok for step in steps)

    def _say_step(self, step: Step) -> None:
        self.say(f"{step.name}: {'' if step.ok else 'NOT DONE: '}{step.said}")

    def _tell(self, found: list[Incident], *, answers: bool) -> None:
        try:
            lasting = (*LASTING, OURS) if answers else (OURS,)
            for failure in Alerts(self.settings).tell(found, self.now(), lasting):
                self.say(f"alert not delivered to {failure.destination} since {failure.since}: {failure.why}")
        except ConfigurationError as error:
            self.say(f"no alert can be delivered: {error}")


def watch(settings: Settings) -> None:
    """Runs until it is ended."""

    def say(line: str) -> None:
        print(f"{wall_clock():%Y-%m-%dT%H:%M:%SZ} {line}", flush=True)

    say(f"watching {settings.home} every {settings.watch_seconds:g} s, process {os.getpid()}, acting: {settings.watchdog}")
    Watchdog(settings=settings, say=say).run()
