"""The rules as they are now, over the tables of 0002: a ledger keeps the functions that it was made with until it is migrated.

Those of 0002 refused to arm for a whole day. No table changes: these rules serve both revisions, and the way
down has nothing to do.
"""

from __future__ import annotations

from alembic import op

from trading.store.migrations import load_rules
from trading.store.migrations.versions.v0002_what_the_venue_says import RULES

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    load_rules(op.get_bind(), *RULES)


def downgrade() -> None:
    """Nothing to do."""
