"""The ledger and the paper exchange's own books."""

from __future__ import annotations

from alembic import op

from trading.store.migrations import RowsWouldBeLost, load_rules, run_file

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

RULES = (("migrations", "sql", "0001_rules.sql"), ("migrations", "sql", "0001_paper_rules.sql"))


def upgrade() -> None:
    connection = op.get_bind()
    for name in ("0001_tables.sql", "0001_paper_tables.sql"):
        run_file(connection, "migrations", "sql", name)
    load_rules(connection, *RULES)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.exec_driver_sql("select exists (select from keel.audit)").scalar():
        raise RowsWouldBeLost("the ledger holds books and audit rows: a downgrade would drop them")
    connection.exec_driver_sql("drop schema keel cascade; drop schema paper cascade")
