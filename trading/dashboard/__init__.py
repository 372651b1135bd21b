"""What is shown and told while trading goes on: one reading of the books for every screen, and the mirror in Supabase.

Public: `take(reports, scope, now)` -> `Snapshot`, `desks(reports)`; `DashboardReporter(supabase_url, supabase_key)`.
"""

from trading.dashboard.reporter import DashboardReporter, NotTold
from trading.dashboard.snapshot import Snapshot, desks, take

__all__ = ["DashboardReporter", "NotTold", "Snapshot", "desks", "take"]
