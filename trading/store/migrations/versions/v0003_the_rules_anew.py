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

RULES_SHA256 = "cea6b52146a581f6839c67b14fe5ffd9415d48731bc34b247e4aa5f31f159e09"
"""Of the texts of `RULES`, one after the other: whoever changes one adds a revision, or ledgers never hear of it."""


def upgrade() -> None:
    load_rules(op.get_bind(), *RULES)


def downgrade() -> None:
    """Nothing to do."""
