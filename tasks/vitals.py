"""Before a run with real orders: is this machine, its clock and its code what it should be?"""

from __future__ import annotations

from config.clock import wall_clock
from config.settings import load
from config.vitals import code_version, configuration, machine_signs
from trading.desk import Desk
from trading.risk import Violation
from trading.store.heartbeats import pulse
from trading.watching import open_for


def watch_machine(desk: Desk) -> list[Violation]:
    """Opens the global breaker for a full disk, a wrong clock, or another version of code or configuration that runs now."""
    settings = load()
    told = pulse(desk.books.connection, code_version(), configuration(settings), wall_clock())
    return open_for(desk, machine_signs(settings, told))
