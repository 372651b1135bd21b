"""The paper shadow of real orders: the same plan and candles on paper, and by how much the two differ.

The shadow decides on the same slots with the same capital, so each real order has a counterpart of the same slot, product and
leg. Prices differ by spread, slippage and delay; signals differ once the holdings do. What only one of them did is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg.rows import dict_row

from trading.money import ZERO
from trading.orders import Mode
from trading.plan import Plan
from trading.store.database import Connection, translated

_SUFFIX = "-shadow"
_NAME_MAX = 32


def shadow_of(plan: Plan, mode: Mode) -> Plan:
    """The plan on paper, in a portfolio of its own beside the real one: `main` in a rehearsal is shadowed by `main-r-shadow`."""
    return plan.model_copy(update={"portfolio": shadow_book(f"{mode}:{plan.portfolio}").split(":", 1)[1]})


def shadow_book(book: str) -> str:
    """`paper:main-r-shadow` of `rehearsal:main`."""
    mode, portfolio = book.split(":", 1)
    suffix = f"-{mode[0]}{_SUFFIX}"
    return f"{Mode.PAPER}:{portfolio[: _NAME_MAX - len(suffix)]}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One decision as it was carried out for real and on paper. Ratios; positive = the real one did worse."""

    slot: str
    product: str
    leg: int
    side: str
    signal: str
    """`both`, `real` or `paper`: who ordered."""
    price: Decimal | None
    """Of the fill averages; None unless both filled."""
    fee: Decimal | None
    """Difference of the fees' shares of notional."""
    delay_seconds: float | None
    """From the sending to the last fill of the real order; on paper it is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """What all pairs come to. Means over those that both filled, weighted by nothing: each decision counts once."""

    pairs: tuple[Pair, ...]

    @property
    def compared(self) -> int:
        return sum(1 for pair in self.pairs if pair.price is not None)

    @property
    def alone(self) -> int:
        """Decisions that only one of the two made."""
        return sum(1 for pair in self.pairs if pair.signal != "both")

    @property
    def price(self) -> Decimal:
        return _mean([pair.price for pair in self.pairs if pair.price is not None])

    @property
    def fee(self) -> Decimal:
        return _mean([pair.fee for pair in self.pairs if pair.fee is not None])


def divergence(connection: Connection, book: str, plan: str, since: datetime) -> Divergence:
    """Pairs of the plan's real orders and those of its shadow, decided at or after `since` (market time), oldest first."""
    query = """
      with told as (
        select i.book = %(book)s as real, i.slot, i.product, i.leg, i.side, min(i.decided_at) as at, sum(f.quantity) as quantity,
               sum(f.quantity * f.price) as notional,
               sum(case when f.fee_asset = split_part(i.product, '-', 2) then f.fee else 0 end) as fees,
               extract(epoch from max(f.traded_at) - min(i.decided_at))::float as delay
        from keel.intent i join keel.order_head h using (client_order_id) left join keel.standing_fill f using (client_order_id)
        where i.book in (%(book)s, %(shadow)s) and i.plan = %(plan)s and i.decided_at >= %(since)s and h.sent_at is not null
          and i.slot not like 'hand:%%'
        group by i.book, i.slot, i.product, i.leg, i.side)
      select coalesce(r.slot, p.slot) as slot, coalesce(r.product, p.product) as product, coalesce(r.leg, p.leg) as leg,
             coalesce(r.side, p.side) as side, r.slot is not null as is_real, p.slot is not null as is_paper,
             r.notional / nullif(r.quantity, 0) as real_price, p.notional / nullif(p.quantity, 0) as paper_price,
             r.fees / nullif(r.notional, 0) as real_fee, p.fees / nullif(p.notional, 0) as paper_fee, r.delay
      from (select * from told where real) r
      full join (select * from told where not real) p using (slot, product, leg, side)
      order by coalesce(r.at, p.at), 2, 3"""
    values = {"book": book, "shadow": shadow_book(book), "plan": plan, "since": since}
    with translated(), connection.cursor(row_factory=dict_row) as cursor:
        return Divergence(pairs=tuple(_pair(row) for row in cursor.execute(query, values).fetchall()))


def _pair(row: dict[str, Any]) -> Pair:
    real, paper = row["real_price"], row["paper_price"]
    sign = 1 if row["side"] == "buy" else -1
    fees = (row["real_fee"], row["paper_fee"])
    return Pair(
        slot=row["slot"], product=row["product"], leg=row["leg"], side=row["side"],
        signal="both" if row["is_real"] and row["is_paper"] else "real" if row["is_real"] else "paper",
        price=sign * (real / paper - 1) if real is not None and paper else None,
        fee=None if None in fees else fees[0] - fees[1],
        delay_seconds=row["delay"],
    )  # fmt: skip


def _mean(values: list[Decimal]) -> Decimal:
    return sum(values, ZERO) / len(values) if values else ZERO
