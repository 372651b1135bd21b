"""Heartbeats of processes, and what the ledger tells a watchdog."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from trading.store.database import Connection, connect, translated
from trading.store.roles import Role


class Pulse(NamedTuple):
    """What one look at the ledger tells; None where there is nothing that it could be told of."""

    silence_seconds: Decimal | None
    """Since the stack's last beat; None before its first one, and after it was told to stop."""
    unclaimed_seconds: Decimal | None
    """How long the slot that is due for longest has waited; of plans that a schedule trades on a market with a clock."""
    versions: Decimal
    """Different versions of the code among processes that beat lately, the asking one included."""
    configurations: Decimal
    clock_offset_seconds: Decimal
    """Of the asking machine's clock against the ledger's, positive."""
    clock_step_seconds: Decimal
    """How far the asking machine's clock is behind the newest heartbeat."""


def beat(url: str, process: str, version: str, configuration: str, *, stopped: bool = False) -> None:
    """Says that the process is well. Raises LedgerUnavailable, NotAllowed."""
    with connect(url, "keel heartbeat", Role.DECIDE) as connection, translated():
        connection.execute("select keel.beat(%s, %s, %s, %s)", (process, version, configuration, stopped))


_PULSE = """
with due as (
  select extract(epoch from clock_timestamp() - (c.slot_at + (v.body::jsonb ->> 'interval')::interval)) as waited
  from (select distinct on (book, plan) * from keel.cycle order by book, plan, slot_at desc) c
  join keel.portfolio p using (book) join keel.config_version v on v.sha256 = c.plan_sha
  where p.source not like 'replay:%%' and coalesce(c.flow_run_id, '') <> ''),
recent as (select * from keel.heartbeat where not stopped and at > clock_timestamp() - interval '10 minutes'),
stack as (select * from keel.heartbeat where process = 'stack' and not stopped)
select
  (select extract(epoch from clock_timestamp() - at) from stack),
  (select max(greatest(waited, 0)) from due where exists (select from stack)),
  (select count(distinct version) from (select version from recent union select %(version)s) x),
  (select count(distinct configuration) from (select configuration from recent union select %(configuration)s) x),
  abs(extract(epoch from clock_timestamp() - %(now)s)),
  greatest(coalesce((select extract(epoch from max(at) - %(now)s) from keel.heartbeat), 0), 0)"""


def pulse(connection: Connection, version: str, configuration: str, now: object) -> Pulse:
    """`now` is the asking machine's wall time."""
    with translated():
        row = connection.execute(_PULSE, {"version": version, "configuration": configuration, "now": now}).fetchone()
    assert row is not None
    silence, unclaimed, *rest = (None if value is None else Decimal(str(value)) for value in row)
    return Pulse(silence, unclaimed, *(value if value is not None else Decimal(0) for value in rest))
