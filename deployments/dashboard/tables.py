"""Rows of the books as rows of a table: what each column shows. Amounts of money are rounded for the eye, quantities are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from trading.dashboard import Snapshot
from trading.money import text
from trading.store.rows import BreakerStateRow, BreakRow, FillRow, HeartbeatRow, OrderRow, VerdictRow
from trading.store.usage import LimitUse

Row = dict[str, Any]


def age(at: datetime | None, now: datetime) -> str:
    """How long ago, for people: `4 s`, `12 min`, `3 h`, `9 d`; a dash where it never was."""
    if at is None:
        return "–"
    seconds = max((now - at).total_seconds(), 0)
    for limit, unit, one in ((120, "s", 1), (7_200, "min", 60), (172_800, "h", 3_600)):
        if seconds < limit:
            return f"{seconds // one:.0f} {unit}"
    return f"{seconds // 86_400:.0f} d"


def at(moment: datetime | None) -> str:
    return "–" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def fills(rows: Iterable[FillRow]) -> list[Row]:
    return [
        {"traded (UTC)": at(row.traded_at), "product": row.product, "side": row.side, "quantity": text(row.quantity),
         "price": text(row.price), "fee": f"{text(row.fee)} {row.fee_asset}", "order": str(row.client_order_id)[:8]}
        for row in rows
    ]  # fmt: skip


def orders(rows: Iterable[OrderRow]) -> list[Row]:
    return [
        {"staged (UTC)": at(row.created_at), "product": row.product, "side": row.side, "type": row.type,
         "quantity": text(row.quantity), "price": "–" if row.price is None else text(row.price), "state": row.state,
         "filled": text(row.filled), "reason": row.reason or "–", "order": str(row.client_order_id)[:8]}
        for row in rows
    ]  # fmt: skip


def positions(seen: Snapshot) -> list[Row]:
    """What is held, and what was realised where nothing is held any more."""
    held = [
        {"product": row.product, "quantity": text(row.quantity), "cost": cents(row.cost), "price": exact(row.price),
         "value": cents(row.value), "unrealised": cents(row.unrealised), "realised": _realised(seen, row.product),
         "stop": exact(seen.stops.get(row.product)), "priced (UTC)": at(row.priced_at)}
        for row in seen.positions
    ]  # fmt: skip
    flat = sorted(seen.results.keys() - {row.product for row in seen.positions})
    return held + [{"product": product, "quantity": "0", "realised": _realised(seen, product)} for product in flat]


def _realised(seen: Snapshot, product: str) -> float | None:
    realised, fees = seen.results.get(product, (Decimal(0), Decimal(0)))
    return cents(realised - fees)


def concentration(seen: Snapshot) -> list[Row]:
    """Share of equity by product, the largest first; what has no price has no share."""
    equity = seen.equity.equity
    shares = [(row.product, row.value / equity) for row in seen.positions if row.value is not None and equity]
    return [
        {"product": product, "share of equity": f"{100 * share:.1f} %"} for product, share in sorted(shares, key=lambda x: -x[1])
    ]


def limit_line(use: LimitUse) -> str:
    """`daily_loss: 0.012 of 0.05 (breaker opens: reduce_only)`."""
    return f"{use.code}: {figure(use.observed)} of {figure(use.limit)} ({use.then})"


def breakers(rows: Iterable[BreakerStateRow]) -> list[Row]:
    return [
        {
            "scope": row.scope,
            "state": row.state,
            "level": row.level or "–",
            "reason": row.reason or "–",
            "moved (UTC)": at(row.at),
        }
        for row in rows
    ]


def breaks(rows: Iterable[BreakRow]) -> list[Row]:
    return [
        {"class": row.class_, "severity": row.severity, "subject": row.subject, "ours": row.ours, "theirs": row.theirs,
         "found (UTC)": at(row.opened_at)} for row in rows
    ]  # fmt: skip


def heartbeats(rows: Iterable[HeartbeatRow], now: datetime) -> list[Row]:
    return [{"process": row.process, "said": "stopped" if row.stopped else f"{age(row.at, now)} ago", "code": row.version}
            for row in rows]  # fmt: skip


def runs(seen: Snapshot, ui: str | None) -> list[Row]:
    """The last cycles; `ui` is the address of Prefect's pages, None while no stack runs here."""
    return [
        {"slot (UTC)": at(row.slot_at), "state": row.state, "reason": row.reason or "–", "started (UTC)": at(row.started_at),
         "run": f"{ui}/runs/flow-run/{row.flow_run_id}" if ui and row.flow_run_id else None}
        for row in seen.cycles
    ]  # fmt: skip


def verdicts(rows: Iterable[VerdictRow]) -> list[Row]:
    return [{"slot (UTC)": at(row.slot_at), "data": "passed" if row.passed else "FAILED", "found": _gated(row.body)}
            for row in rows]  # fmt: skip


def _gated(body: Mapping[str, Any]) -> str:
    """The products that take no new risk, and why."""
    return ", ".join(f"{product}: {why}" for product, why in body["gated"].items())[:200] or "–"


def cents(value: Decimal | None) -> float | None:
    """An amount for a column that sorts by number; None where it is unknown."""
    return None if value is None else float(round(value, 2))


def exact(value: Decimal | None) -> str:
    return "–" if value is None else text(value)


def figure(value: Decimal | None) -> str:
    """A figure of up to four digits after the point."""
    return "unknown" if value is None else text(round(value, 4))
