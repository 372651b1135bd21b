"""Alembic's migrations of the ledger: tables by migration, rules (functions, triggers, views) loaded whole by the newest one."""

from __future__ import annotations

from importlib.resources import files

from sqlalchemy import Connection

_NO_RULES = """
do $$ declare name text; begin
  foreach name in array array(
      select oid::regprocedure::text from pg_proc where pronamespace in ('keel'::regnamespace, 'paper'::regnamespace)) loop
    execute 'drop routine if exists ' || name || ' cascade';       -- its triggers go with it
  end loop;
  foreach name in array array(
      select oid::regclass::text from pg_class
      where relnamespace in ('keel'::regnamespace, 'paper'::regnamespace) and relkind = 'v') loop
    execute 'drop view if exists ' || name || ' cascade';
  end loop;
end $$
"""


class RowsWouldBeLost(Exception):
    """A downgrade would drop books or audit: it is refused, and a snapshot restored instead."""


def run_file(connection: Connection, *path: str) -> None:
    """Runs a file of statements below `trading/store`."""
    # exec_driver_sql: text() would read a colon in the SQL as a parameter
    connection.exec_driver_sql(files("trading.store").joinpath(*path).read_text().replace("%", "%%"))


def load_rules(connection: Connection, *paths: tuple[str, ...]) -> None:
    """Replaces every function, trigger and view of the ledger by those of the files."""
    connection.exec_driver_sql(_NO_RULES)
    for path in paths:
        run_file(connection, *path)
