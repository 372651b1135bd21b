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

RULES_SHA256 = "d6255f23e101f03d5ab320c9a78dc160aae86b6f30847eed045e8ab169d7bbdc"
"""Of the texts of `RULES`, one after the other: whoever changes one adds a revision, or ledgers never hear of it."""


def upgrade() -> None:
    load_rules(op.get_bind(), *RULES)


def downgrade() -> None:
    """Nothing to do."""
