"""Foreign orders, movements, adjusted fills, reversals, lot methods; the role in the audit row."""

from __future__ import annotations

from alembic import op

from trading.store.migrations import RowsWouldBeLost, load_rules, run_file
from trading.store.migrations.versions import v0001_ledger

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RULES = (("sql", "rules.sql"), ("sql", "paper.sql"), ("sql", "make_roles.sql"), ("sql", "roles.sql"))

# Rows that an older schema cannot hold: with one of them a downgrade would drop books or audit.
_NEW_ROWS = """
select 'venue orders' where exists (select from keel.venue_order where not ours)
union all select 'movements' where exists (select from keel.movement)
union all select 'anchors' where exists (select from keel.anchor)
union all select 'armings' where exists (select from keel.arming)
union all select 'decisions' where exists (select from keel.decision)
union all select 'ramp steps' where exists (select from keel.ramp_step)
union all select 'orders of newer kinds' where exists (select from keel.intent where type = 'bracket' or time_in_force = 'fok')
union all select 'announcements' where exists (select from keel.announcement)
union all select 'fills without an order of ours, or adjusted' where exists (
  select from keel.fill where client_order_id is null or kind <> 'trade')
union all select 'reversals' where exists (select from keel.txn where reverses is not null)
union all select 'order events' where exists (select from keel.order_event where event in ('not_listed', 'adjust'))
union all select 'audit rows of version 2' where exists (select from keel.audit where version > 1)
union all select 'lots by another method than fifo' where exists (select from keel.portfolio where lot_method <> 'fifo')
"""


def upgrade() -> None:
    connection = op.get_bind()
    load_rules(connection)  # a column that a view reads cannot change its type
    run_file(connection, "migrations", "sql", "0002_tables.sql")
    load_rules(connection, *RULES)


def downgrade() -> None:
    connection = op.get_bind()
    if lost := [str(row[0]) for row in connection.exec_driver_sql(_NEW_ROWS)]:
        raise RowsWouldBeLost(f"the ledger holds {', '.join(lost)}: a downgrade would drop them")
    load_rules(connection)
    run_file(connection, "migrations", "sql", "0002_down.sql")
    load_rules(connection, *v0001_ledger.RULES)
