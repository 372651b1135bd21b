"""The rules as they are now once more: those of 0003 moved accounts and lots one by one.

No table changes: these rules serve all revisions from 0002 on, and the way down has nothing to do.
"""

from __future__ import annotations

from alembic import op

from trading.store.migrations import load_rules
from trading.store.migrations.versions.v0002_what_the_venue_says import RULES

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RULES_SHA256 = "c8e20135647ee570ac528e63a0fea37856a4c5ea1e680522c844caa6b6117b90"
"""Of the texts of `RULES`, one after the other: whoever changes one adds a revision, or ledgers never hear of it."""


def upgrade() -> None:
    load_rules(op.get_bind(), *RULES)


def downgrade() -> None:
    """Nothing to do."""
