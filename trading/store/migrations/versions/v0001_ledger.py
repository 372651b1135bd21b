"""The ledger and the paper exchange's own books."""

from __future__ import annotations

from importlib.resources import files

from alembic import op

from trading.orders import TRANSITIONS

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    for name in ("ledger.sql", "paper.sql"):
        # exec_driver_sql: text() would read a colon in the SQL as a parameter
        connection.exec_driver_sql((files("trading.store") / "sql" / name).read_text().replace("%", "%%"))
    rows = sorted((str(before), event, str(after)) for before, event, after in TRANSITIONS)
    connection.exec_driver_sql("insert into keel.transition values (%s, %s, %s)", rows)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.exec_driver_sql("select exists (select from keel.audit)").scalar():
        raise RuntimeError("the ledger holds books and audit rows: a downgrade would drop them")
    connection.exec_driver_sql("drop schema keel cascade; drop schema paper cascade")
