"""The views: each takes one reading of the books and draws it. No figure is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import streamlit as st

from config.clock import wall_clock
from config.settings import load
from deployments.dashboard import tables
from deployments.dashboard.tables import Row, age
from trading.dashboard import Snapshot
from trading.errors import ConfigurationError
from trading.money import text
from trading.report import Figures
from trading.report.html import charts
from trading.report.markdown import STATISTICS, sections, shown, signed
from trading.store.reports import Reports
from trading.store.rows import plain
from trading.summary import SYNTHETIC_WARNING, money

PERIODS = {"30 days": 30, "7 days": 7, "1 day": 1, "1 year": 365}
CHART = {"displayModeBar": False, "responsive": True, "scrollZoom": False}
CALM = Decimal("0.8")
"""Above this share of a limit its line is marked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a view may draw from: a reading, more of the same books on demand, the report's figures by days."""

    seen: Snapshot
    reports: Reports
    figures: Callable[[int], Figures]


def warnings(seen: Snapshot) -> None:
    """What a person must know before any figure."""
    if seen.equity.source == "synthetic":
        st.warning(SYNTHETIC_WARNING)
    for row in seen.halted:
        st.error(f"Breaker {row.scope} is {row.state}{f' ({row.level})' if row.level else ''}: {row.reason}")
    if seen.doubts:
        st.error(f"{seen.doubts} order(s) in doubt: their fate is unknown. They take no new risk until the venue has told.")
    if seen.breaks:
        st.error(f"{len(seen.breaks)} open break(s): see Health, and `keel breaks list`.")


def live_trades(page: Page) -> None:
    seen = page.seen
    _metrics(seen)
    _table("Fills", tables.fills(seen.fills), "No fills yet.")
    _table("Orders", tables.orders(seen.orders), "No orders yet.")


def positions(page: Page) -> None:
    seen = page.seen
    _metrics(seen)
    _table("Positions", tables.positions(seen), "Nothing is held, and nothing was.")
    st.caption("Prices are the newest stored closes; realised is since the opening, after fees.")


def portfolio(page: Page) -> None:
    _metrics(page.seen)
    figures = page.figures(_days())
    drawn = charts(figures)
    if not figures.curve:
        st.info("No marks yet: curves appear after the first traded slot.")
    for title, chart in drawn:
        st.subheader(title)
        st.plotly_chart(chart, theme=None, config=CHART, key=title)
    daily = [{"day": str(row.day), "product": row.product, "realised": tables.cents(row.realised), "fees": tables.cents(row.fees),
              "net": tables.cents(row.net)} for row in reversed(figures.daily)]  # fmt: skip
    _table("Result by day and product", daily, "No results yet.")
    costs = next((head, rows) for title, head, rows in sections(figures) if title == "Costs")
    _table("Costs of trading", [dict(zip(costs[0], row, strict=True)) for row in costs[1]], "No order has ended in the period.")


def risk(page: Page) -> None:
    seen = page.seen
    figures = page.figures(_days())
    wanted = ("volatility", "value_at_risk", "expected_shortfall", "max_drawdown")
    for column, (key, title, unit, said) in zip(st.columns(4), (row for row in STATISTICS if row[0] in wanted), strict=True):
        column.metric(title, shown(figures.statistics.get(key), unit), help=said)
    st.subheader("Limits")
    if seen.risk is None:
        st.info("No slot was claimed yet: limits are known after the first one.")
    for use in () if seen.risk is None else seen.risk.limits:
        share = use.share
        mark = "⚠ " if share is None or share >= CALM else ""
        st.progress(float(min(share or 0, 1)), text=f"{mark}{tables.limit_line(use)}")
    _table("Concentration", tables.concentration(seen), "Nothing is held.")


@st.fragment(run_every=2.0)
def health(page: Page) -> None:
    """Ages are of this moment: heartbeats are read anew, for nothing rings at a beat."""
    seen, now = page.seen, wall_clock()
    beats = page.reports.heartbeats()
    operations = seen.risk.figures if seen.risk else None
    failed = "–" if operations is None else f"{operations.failed_operations} of {operations.operations}"
    success = shown(page.figures(30).statistics.get("success_rate"), "percent")
    clean = [row for row in seen.reconciliations if row["clean"]]
    for column, (title, value) in zip(st.columns(6), (
        ("Orders that succeeded", success), ("Failed operations", failed), ("In doubt", str(seen.doubts)),
        ("Open breaks", str(len(seen.breaks))), ("Last anchor", age(seen.anchored_at, now)),
        ("Last clean reconciliation", age(clean[0]["at"] if clean else None, now))), strict=True):  # fmt: skip
        column.metric(title, value)
    _table("Breakers", tables.breakers(seen.breakers), "No breaker has been opened yet.")
    _table("Heartbeats", tables.heartbeats(beats, now), "No process has said anything yet.")
    _table("Open breaks", tables.breaks(seen.breaks), "None.")
    link = {"run": st.column_config.LinkColumn("run in Prefect", display_text="open")}
    _table("Last runs", tables.runs(seen, _prefect()), "No runs yet.", columns=link)
    _table("Data", tables.verdicts(seen.verdicts), "No data has been judged yet.")


def why(page: Page) -> None:
    orders = page.seen.orders
    names = {f"{str(row.client_order_id)[:8]} · {row.side} {text(row.quantity)} {row.product} · {row.state}":
             str(row.client_order_id) for row in orders}  # fmt: skip
    chosen = st.selectbox("Order", list(names), key="order") if names else None
    wanted = st.text_input("or the id of any order", key="wanted").strip() or names.get(chosen or "", "")
    if not wanted:
        st.info("No orders yet.")
        return
    try:
        found = plain(page.reports.explain(page.reports.order(wanted)))
    except ConfigurationError as error:
        st.error(str(error))
        return
    _explained(found)


def _explained(found: dict[str, Any]) -> None:
    order, cycle, evaluation = found["order"], found["cycle"], found["evaluation"]
    st.subheader(f"{order['side']} {order['quantity']} {order['product']}: {order['state']}")
    because, last = _safe(order["decision"]) or "a person said so", _safe(order["reason"]) or "–"
    st.markdown(
        f"Wanted because: **{because}**, decided at {order['decided_at']} at price {order['decision_price']}. Last word: {last}."
    )
    _pairs("Identity", order, ("client_order_id", "exchange_order_id", "book", "plan", "strategy", "slot"))
    if cycle:
        _pairs("Slot", cycle | {"saw": cycle["seen"]}, ("slot_at", "market_at", "source", "candles_sha", "saw", "flow_run_id"))
    checks = [{"check": row["code"], "result": "passed" if row["passed"] else "REFUSED", "observed": _cell(row["observed"]),
               "limit": _cell(row["limit"])} for row in (evaluation["body"]["checks"] if evaluation else [])]  # fmt: skip
    _table("Checks", checks, "No evaluation is stored for this order.")
    _pairs("Sent bytes", found["terms"], ("body", "body_sha256", "send_before", "plan_sha"))
    for title, key, columns in _SECTIONS:
        rows = [{name.replace("_", " "): _cell(row.get(name)) for name in columns} for row in found[key]]
        _table(title, rows, "None.")


_SECTIONS = (
    ("Events", "events", ("seq", "from_state", "event", "to_state", "evidence", "at")),
    ("Breaker at the send", "breaker", ("scope", "generation", "state", "level", "reason")),
    ("Fills", "fills", ("traded_at", "quantity", "price", "fee", "fee_asset", "liquidity", "entry_id")),
    ("Postings", "postings", ("account", "amount", "asset", "entry_id")),
    ("Audit rows", "audit", ("seq", "at", "kind", "actor", "flow_run_id")),
)


def _metrics(seen: Snapshot) -> None:
    now = seen.equity
    live = sum(count for state, count in seen.outcomes.items() if state in ("staged", "sending", "open", "cancelling"))
    exposure = "–" if now.exposure is None else f"{100 * now.exposure:.1f} %"
    values = (
        (
            f"Equity, {now.asset}",
            money(None if now.equity is None else text(now.equity)),
            None if seen.total is None else signed(seen.total),
        ),
        ("Cash", money(text(now.cash)), None),
        ("Realised", signed(now.realised), None),
        ("Unrealised", signed(now.unrealised), None),
        ("Exposure", exposure, None),
        ("Live orders", str(live), None),
    )
    for column, (title, value, change) in zip(st.columns(len(values)), values, strict=True):
        column.metric(title, value, change)


def _days() -> int:
    return PERIODS[st.selectbox("Period", list(PERIODS), key="period")]


def _table(title: str, rows: Sequence[Row], empty: str, columns: dict[str, Any] | None = None) -> None:
    st.subheader(title)
    if not rows:
        st.caption(empty)
        return
    st.dataframe(list(rows), hide_index=True, width="stretch", column_config=columns)


def _pairs(title: str, values: dict[str, Any], names: Sequence[str]) -> None:
    st.subheader(title)
    st.table([{"what": name.replace("_", " "), "value": _cell(values.get(name))} for name in names])


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} {found}" for key, found in value.items())
    return str(value)


def _safe(value: str) -> str:
    """Text of a strategy or a venue as it is: nothing in it is markup."""
    return "".join(f"\\{sign}" if sign in r"\`*_{}[]()#+-.!|<>$~:" else sign for sign in value)


def _prefect() -> str | None:
    """Address of the UI of the stack that runs in this state folder."""
    from config.prefect import ui_url
    from deployments.stack.premises import read_record

    record = read_record(load().home)
    return ui_url(record.port) if record else None
