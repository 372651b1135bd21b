"""The report's figures as pages: golden text for Markdown, structure for HTML, and nothing made up where nothing is known."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from trading.costs import Costs, CostSum
from trading.report import Figures, headline, to_html, to_markdown
from trading.report.figures import ProductResult
from trading.report.markdown import STATISTICS, shown
from trading.store.rows import BreakerEventRow, BreakRow, EquityPoint, EquityRow, PositionRow

GOLDEN = Path(__file__).parents[1] / "golden" / "report.md"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def money(value: str) -> Decimal:
    return Decimal(value)


def books(**changes: Any) -> EquityRow:
    fields: dict[str, Any] = {
        "book": "paper:main", "plan": "default", "asset": "USD", "source": "coinbase", "capital": money("1000"),
        "cash": money("949"), "realised": money("-2.5"), "fees": money("1"), "equity": money("1003.2"),
        "unrealised": money("6.7"),
    }  # fmt: skip
    return EquityRow(**fields | changes)


def marks(*equities: str) -> list[EquityPoint]:
    first = NOON - timedelta(hours=len(equities) - 1)
    return [
        EquityPoint(
            book="paper:main", plan="default", at=first + timedelta(hours=hour), equity=money(equity), cash=money("949"),
            unrealised=money("0"), realised=money("0"), fees=money("1"),
        )
        for hour, equity in enumerate(equities)
    ]  # fmt: skip


def figures(**changes: Any) -> Figures:
    """A plan that was opened and did nothing yet; `changes` replace whole fields."""
    names = ("curve", "positions", "products", "daily", "trades", "fills", "breaker_events", "breaks")
    empty: dict[str, Any] = dict.fromkeys(names, ())
    fields: dict[str, Any] = {
        "now": books(), "written_at": NOON, "since": NOON - timedelta(days=30), "until": NOON, "days": 30, "outcomes": {},
        "statistics": {},
    }  # fmt: skip
    return Figures(**empty | fields | changes)


@pytest.fixture
def full() -> Figures:
    position = PositionRow(
        book="paper:main", plan="default", product="BTC-USD", quantity=money("0.001"), cost=money("47.5"),
        price=money("54200"), priced_at=NOON,
    )  # fmt: skip
    product = ProductResult(product="BTC-USD", realised=money("-2.5"), fees=money("1"), unrealised=money("6.7"), fills=2)
    opened = BreakerEventRow(
        scope="strategy:paper:main:default", generation=1, from_state="closed", to_state="open", level="reduce_only",
        reason="drawdown: observed 0.11, limit 0.1", actor="breaker", violations=[], at=NOON,
    )  # fmt: skip
    difference = BreakRow(
        id=UUID(int=7), book="paper:main", class_="balance", severity=1, subject="BTC", asset="BTC", ours="0.001", theirs="0|1",
        opened_at=NOON, resolved_at=None, resolution=None, resolved_by=None,
    )  # fmt: skip
    paid = Costs(notional=money("50"), delay=money("0.25"), spread=money("0.1"), impact=money("-0.05"), fees=money("1"))
    cost = CostSum(group="BTC-USD", asset="USD", orders=3, unknown=1, costs=paid)
    statistics = {"sharpe": 1.234, "total_return": 0.0032, "slippage_mean": 0.00052, "latency_median": 0.25, "win_rate": None}
    return figures(
        curve=marks("1000", "1010", "990", "1003.2"), positions=[position], products=[product],
        outcomes={"filled": 2, "rejected": 1}, breaker_events=[opened], breaks=[difference], statistics=statistics, costs=[cost],
    )  # fmt: skip


def test_the_markdown_page_is_the_golden_one(full: Figures) -> None:
    # After a change that is meant: write the new page over the golden one, and read the difference before you commit it.
    assert to_markdown(full, links=[("Page", "http://localhost/x")]) == GOLDEN.read_text()


def test_a_plan_that_never_traded_has_a_report() -> None:
    page, html = to_markdown(figures()), to_html(figures())
    assert page.count("None.") == 6
    assert "No marks yet" in html
    assert "plotly" not in html.lower()


@pytest.mark.parametrize("source", ["synthetic", "coinbase"])
def test_made_up_prices_are_labelled_on_every_page_and_real_ones_are_not(full: Figures, source: str) -> None:
    labelled = replace(full, now=books(source=source))
    for page in (to_markdown(labelled), to_html(labelled)):
        assert ("SYNTHETIC PRICES" in page) == (source == "synthetic")


def test_the_page_needs_nothing_from_elsewhere(full: Figures) -> None:
    html = to_html(full)
    head = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)  # what runs is looked at by a browser's test
    assert not re.search(r"""(src|href)=["'](?!data:)""", head)
    assert "<script src" not in html


def test_the_library_is_written_into_the_page_once(full: Figures) -> None:
    assert to_html(full).count("plotly.js v") == 1


@pytest.mark.parametrize("title", ["Equity and drawdown", "Exposure", "Result by product"])
def test_there_is_a_chart_of(full: Figures, title: str) -> None:
    assert f"<h2>{title}</h2>" in to_html(full)


def test_what_a_venue_says_is_text_and_never_markup(full: Figures) -> None:
    event = replace(full.breaker_events[0], reason="<script>alert(1)</script>")
    assert "<script>alert" not in to_html(replace(full, breaker_events=[event]))


def test_an_equity_that_cannot_be_valued_is_unknown_and_not_zero() -> None:
    unknown = figures(now=books(equity=None, unrealised=None))
    assert headline(unknown) == "default: equity unknown USD, unknown since the opening (30 days to 2026-11-24T12:00:00Z)"
    assert "| Total result | unknown |" in to_markdown(unknown)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.0214, "percent", "2.14 %"),
        (0.00052, "basis", "5.2 bp"),
        (1.234, "ratio", "1.23"),
        (0.25, "seconds", "0.25 s"),
        (None, "percent", "–"),
        (float("nan"), "ratio", "–"),
    ],
)
def test_a_statistic_is_shown_in_its_unit_or_as_a_dash(value: float | None, unit: str, said: str) -> None:
    assert shown(value, unit) == said


def test_every_statistic_is_defined_on_the_page(full: Figures) -> None:
    page = to_markdown(full)
    for _, title, _, definition in STATISTICS:
        assert f"| {title} |" in page
        assert definition in page
