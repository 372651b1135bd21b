"""What orders cost and what sales gained, read from the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from trading.costs import OrderCosts, Traded, costs_of
from trading.gains import Gain, with_shared_fees
from trading.market import INTERVALS
from trading.money import ZERO, dec, text
from trading.orders import LIVE_STATES, Side
from trading.store.reports import Reports, Scope
from trading.store.rows import FillRow

# A slot's close is that of the candle which ends at it, the next one that of the first stored candle which begins at it or
# later: a venue leaves out candles without trades. An order by hand is decided when it is made, within a candle that runs.
_ORDERS = """
  with planned as materialized (                         -- a plan is read once, not once for each of its orders
    select sha256, cast(body as jsonb) ->> 'interval' as interval from keel.config_version),
  done as (
    select x.client_order_id, x.book, x.plan, x.product, x.side, x.type, x.state, x.quantity, x.decision_price as arrival_mid,
           x.decided_at, x.created_at, x.slot, x.leg, s.id as series, seconds,
           case when x.slot like 'hand:%' then null
                else extract(epoch from cast(split_part(x.slot, '@', 2) as timestamptz)) end as closed,
           floor(extract(epoch from x.decided_at) / seconds) * seconds as running
    from keel.orders x join keel.intent i using (client_order_id) join keel.portfolio p on p.book = x.book
      join planned n on n.sha256 = i.plan_sha
      cross join lateral (select cast(cast(:seconds as jsonb) ->> n.interval as int) as seconds) w
      left join keel.series s on (s.source, s.product, s.interval) = (p.source, x.product, n.interval)
    where {where} and x.state <> all(:live))
  select d.*, (select c.close from keel.candle c where c.series = d.series and c.start = d.closed - d.seconds) as decision_price,
    (select c.close from keel.candle c where c.series = d.series and c.start >= coalesce(d.closed, d.running)
     order by c.start limit 1) as later_price,
    e.body #>> '{{quote,bid}}' as bid, e.body #>> '{{quote,ask}}' as ask
  from done d left join keel.evaluation e
    on (e.book, e.plan, e.slot, e.product, e.leg) = (d.book, d.plan, d.slot, d.product, d.leg)
  order by d.decided_at, d.created_at, d.product, d.leg
"""


def order_costs(ledger: Reports, scope: Scope, since: datetime | None = None) -> list[OrderCosts]:
    """Every order of the scope that may not trade any more, with its costs, oldest first; `since` is market time.

    Fees in the base asset are valued at the price of their fill; in a third asset they are named, not valued.
    """
    where = scope.where() + (" and x.decided_at >= :since" if since else "")
    rows = ledger.mappings(
        _ORDERS.format(where=where), since=since, seconds=json.dumps(INTERVALS), live=sorted(LIVE_STATES), **scope.values
    )
    fills: dict[Any, list[FillRow]] = {}
    for fill in ledger.fills(scope, since):
        fills.setdefault(fill.client_order_id, []).append(fill)
    return [_costed(row, fills.get(row["client_order_id"], ())) for row in rows]


def _costed(row: Mapping[str, Any], fills: Sequence[FillRow]) -> OrderCosts:
    order = _traded(row, fills)
    names = ("client_order_id", "book", "plan", "product", "side", "type", "state", "decided_at", "quantity")
    return OrderCosts(
        **{name: row[name] for name in names},
        filled=order.filled,
        decision_price=order.decision_price,
        arrival_mid=order.arrival_mid,
        average_price=order.paid / order.filled if order.filled else None,
        costs=costs_of(order),
        unpriced=", ".join(f"{text(fill.fee)} {fill.fee_asset}" for fill in fills if fill.fee and _fee(fill) is None),
    )


def _traded(row: Mapping[str, Any], fills: Sequence[FillRow]) -> Traded:
    decided, later = row["decision_price"], row["later_price"]
    filled = sum((fill.quantity for fill in fills), ZERO)
    return Traded(
        side=Side(row["side"]),
        quantity=max(row["quantity"], filled),  # a venue that traded more than was ordered missed nothing
        decision_price=row["arrival_mid"] if decided is None else dec(decided),
        arrival_mid=row["arrival_mid"],
        half_spread=ZERO if row["bid"] is None else (Decimal(row["ask"]) - Decimal(row["bid"])) / 2,
        filled=filled,
        paid=sum((fill.quantity * fill.price for fill in fills), ZERO),
        fees=sum((_fee(fill) or ZERO for fill in fills), ZERO),
        later_price=None if later is None else dec(later),
    )


def _fee(fill: FillRow) -> Decimal | None:
    """In quote; None for a fee in a third asset, which has no price here."""
    base, quote = fill.product.split("-", 1)
    values = {quote: fill.fee, base: fill.fee * fill.price}
    return values.get(fill.fee_asset)


# What brings nothing is no sale: a fee paid in coin, a withdrawal, a lot that joins a pool. What was reversed never happened.
_GAINS = """
  select l.book, l.plan, l.product, t.source_id as source, cast(l.id as text) as lot, l.acquired_at as acquired,
         t.effective_at as disposed, m.quantity, m.proceeds, m.cost, l.basis_known,
         (select coalesce(sum(p.amount), 0) from keel.posting p join keel.account a on a.id = p.account_id
          where p.txn_id = t.id and a.kind = 'fees' and a.plan = l.plan and a.asset = split_part(l.product, '-', 2)) as fees
  from keel.lot_match m join keel.lot l on l.id = m.lot_id join keel.txn t on t.id = m.txn_id
  where t.reverses is null and not exists (select from keel.txn r where r.reverses = t.id) and m.proceeds <> 0
    and t.effective_at >= :start and t.effective_at < :end and {where}
  order by t.effective_at, t.seq, m.line
"""


def gains(ledger: Reports, scope: Scope, year: int) -> list[Gain]:
    """Every part of a lot that a sale of the year (UTC) gave up, by the portfolio's lot method, oldest sale first.

    Their sum is what the ledger posted as realised in that year, reversals and corrections included.
    """
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    rows = ledger.mappings(_GAINS.format(where=scope.where("l")), start=start, end=end, **scope.values)
    return with_shared_fees([Gain(**row) for row in rows])
