"""What is shown and told while trading goes on: one reading of the books for every screen.

Public: `take(reports, scope, now)` -> `Snapshot`, `desks(reports)`.
"""

from trading.dashboard.snapshot import Snapshot, desks, take

__all__ = ["Snapshot", "desks", "take"]
