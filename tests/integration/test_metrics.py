"""Metrics as a scraper reads them: in the OpenMetrics format, equal to the books, and honest about a ledger that is gone."""

from __future__ import annotations

from decimal import Decimal

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from config.settings import PROJECT
from deployments.metrics import LedgerMetrics, table
from tests.builders.plans import buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.risk import Level
from trading.store.database import connect, engine
from trading.store.heartbeats import beat
from trading.store.reports import Reports, Scope

DESK = {"mode": "paper", "portfolio": "main", "plan": "default"}
Scraped = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(reports: Reports) -> Scraped:
    """(name, labels without those of the only plan) -> value, through the format and its parser."""
    registry = CollectorRegistry()
    registry.register(LedgerMetrics(reports))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, frozenset(sample.labels.items() - DESK.items())): sample.value
        for family in families for sample in family.samples
    }  # fmt: skip


def found(scraped: Scraped, name: str, **labels: str) -> float:
    return scraped[name, frozenset(labels.items())]


def test_every_metric_says_what_the_books_say(reports: Reports, database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        later(desk, minutes=10)
        hand.place(desk, buy("BTC-USD", "0.001"))
        hand.place(desk, sell("BTC-USD", "0.0005"))
        hand.place(desk, buy("BTC-USD", "7"))
        hand.trip(desk, "strategy:paper:main:default", Level.NO_NEW, "a drill")
    beat(database_url, "stack", "version", "configuration")
    scraped = scrape(reports)
    [equity] = reports.equity(Scope(mode="paper", portfolio="main", plan="default"))
    assert found(scraped, "keel_ledger_up") == 1
    assert found(scraped, "keel_orders", state="filled") == found(scraped, "keel_fills_total") == 2
    assert found(scraped, "keel_refusals_total", code="order_size_max") == 1
    assert found(scraped, "keel_fees", asset="USD") == 2
    assert Decimal(str(found(scraped, "keel_cash", asset="USD"))) == equity.cash
    assert found(scraped, "keel_equity", asset="USD") == float(equity.equity or 0)
    assert found(scraped, "keel_doubts") == found(scraped, "keel_open_breaks", severity="1") == 0
    assert found(scraped, "keel_limit_used_ratio", limit="open_positions") == 0.2
    states = [found(scraped, "keel_breaker", scope="strategy:paper:main:default", keel_breaker=state)
              for state in ("closed", "half_open", "open")]  # fmt: skip
    assert states == [0, 0, 1]
    assert found(scraped, "keel_heartbeat_age_seconds", process="stack") >= 0
    assert found(scraped, "keel_reconcile_age_seconds") >= 0
    steps = {dict(labels)["step"]: value for (name, labels), value in scraped.items() if name == "keel_cycle_step_seconds"}
    assert {"market", "publish"} <= steps.keys()
    assert all(seconds >= 0 for seconds in steps.values())


def test_books_that_are_empty_are_no_error(reports: Reports) -> None:
    assert found(scrape(reports), "keel_ledger_up") == 1


def test_a_ledger_that_is_gone_is_told_and_nothing_else() -> None:
    assert scrape(Reports(engine("postgresql+psycopg://nobody@127.0.0.1:9/nothing"))) == {("keel_ledger_up", frozenset()): 0}


def test_the_page_names_every_metric_as_the_code_has_it() -> None:
    page = (PROJECT / "docs" / "dashboard.md").read_text()
    assert "\n".join(table()) in page


def test_a_counter_does_not_fall_when_it_is_read_again(reports: Reports, database_url: str) -> None:
    with quick_desk(database_url) as desk:
        run(desk)
        hand.place(desk, buy("BTC-USD", "0.001"))
        before = found(scrape(reports), "keel_fills_total")
        hand.place(desk, sell("BTC-USD", "0.001"))
    assert found(scrape(reports), "keel_fills_total") == before + 1
    with connect(database_url) as connection:
        assert connection.execute("select count(*) from keel.fill").fetchone() == (2,)
