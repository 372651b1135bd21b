"""What the ledger tells of a plan that no portfolio's figures show: losses over time, rejects, failed reads, doubts."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from trading.store.database import Connection, translated

_QUERY = """
with since as (
  select coalesce(max(e.at), '-infinity') as start from keel.breaker_event e
  where scope = 'strategy:' || %(book)s || ':' || %(plan)s and to_state = 'half_open'),
marks as (
  select e.at, e.equity + coalesce((select sum(f.amount) from keel.allotment f
                                    where (f.book, f.plan) = (e.book, e.plan) and f.posted_at > e.recorded_at), 0) as equity
  from keel.equity e, since where e.book = %(book)s and e.plan = %(plan)s and e.at >= since.start),
exits as (
  select realised, row_number() over (order by at desc, source_id) as back from keel.closed_trades t, since
  where t.book = %(book)s and t.plan = %(plan)s and t.at >= since.start),
slips as (
  select (price / nullif(decision_price, 0) - 1) * case side when 'buy' then 1 else -1 end as slip
  from keel.fills f, since where f.book = %(book)s and f.plan = %(plan)s and f.traded_at >= since.start and f.kind = 'trade'
  order by f.traded_at desc limit 10)
select
  coalesce((select equity from marks where at <= %(now)s - interval '7 days' order by at desc limit 1),
           (select equity from marks order by at limit 1)),
  (select count(*) from exits where back < coalesce((select min(back) from exits where realised >= 0), 1e9)),
  (select avg(slip) from slips having count(*) = 10),
  (select count(*) from keel.order_event e join keel.intent i using (client_order_id)
   where i.book = %(book)s and i.plan = %(plan)s and e.event = 'reject' and e.at > clock_timestamp() - interval '10 minutes'),
  (select count(*) from keel.operation where book = %(book)s and not ok and at > clock_timestamp() - interval '2 minutes'
     and (detail like 'Unanswered%%' or detail like 'MarketUnavailable%%')),
  (select extract(epoch from clock_timestamp() - min(h.sent_at)) from keel.order_head h
   where h.book = %(book)s and h.state in ('sending', 'in_doubt')),
  (select count(*) from keel.order_head h where h.book = %(book)s and h.state in ('sending', 'in_doubt'))"""


class Told(NamedTuple):
    """One look at the ledger. Equity and slippage are None where there is nothing to take them from."""

    week_start_equity: Decimal | None
    losing_exits: Decimal
    mean_slippage: Decimal | None
    """Of the last ten fills; None with fewer."""
    rejects: Decimal
    read_failures: Decimal
    doubt_age_seconds: Decimal | None
    doubts: Decimal


def told(connection: Connection, book: str, plan: str, now: datetime) -> Told:
    """`now` is market time: a week is seven days of it."""
    with translated():
        row = connection.execute(_QUERY, {"book": book, "plan": plan, "now": now}).fetchone()
    assert row is not None
    week, exits, slippage, rejects, failures, age, doubts = (None if value is None else Decimal(str(value)) for value in row)
    zero = Decimal(0)
    return Told(week, exits or zero, slippage, rejects or zero, failures or zero, age, doubts or zero)
