"""The dashboard's page as Streamlit runs it, over real books: every view, and what it says when there is little or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.dashboard import APP
from tests.builders.plans import buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.desk import Desk
from trading.risk import Level

pytest.importorskip("streamlit", reason="the extra `dashboard` is not installed")
VIEWS = ("Live trades", "Positions", "Portfolio", "Risk", "Health", "Why")


@pytest.fixture
def shown(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Draws the page; named parts of the session's state choose what is on it."""
    import streamlit as st  # noqa: PLC0415 - only where it is installed
    from streamlit.testing.v1 import AppTest  # noqa: PLC0415

    monkeypatch.setenv("KEEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATABASE_URL", database_url)

    def draw(**state: str) -> Any:
        st.cache_resource.clear()
        page = AppTest.from_file(str(APP), default_timeout=60)
        for name, value in state.items():
            page.session_state[name] = value
        page.run()
        assert not page.exception, page.exception
        return page

    yield draw
    st.cache_resource.clear()


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    with quick_desk(database_url) as desk:
        run(desk)
        yield desk


def trade(desk: Desk) -> None:
    later(desk, minutes=10)
    hand.place(desk, buy("BTC-USD", "0.001"))
    later(desk, minutes=10)
    hand.place(desk, sell("BTC-USD", "0.0005"))


def said(page: Any) -> str:
    parts = [*page.markdown, *page.caption, *page.error, *page.info, *page.warning, *page.subheader]
    return "\n".join(str(part.value) for part in parts)


def test_without_books_it_says_how_the_first_are_opened(shown: Any) -> None:
    assert "No plan has books yet" in said(shown())


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_drawn_before_the_first_order(shown: Any, view: str) -> None:
    page = shown(view=view)
    assert "PAPER" in said(page)
    assert not page.error


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_drawn_after_a_trade(shown: Any, desk: Desk, view: str) -> None:
    trade(desk)
    assert not shown(view=view).error


def test_fills_and_orders_stand_newest_first(shown: Any, desk: Desk) -> None:
    trade(desk)
    fills, orders = (table.value for table in shown().dataframe)
    assert list(fills["side"]) == ["sell", "buy"]
    assert list(fills["quantity"]) == ["0.0005", "0.001"]
    assert list(orders["state"]) == ["filled", "filled"]


def test_a_tripped_breaker_is_said_on_every_view(shown: Any, desk: Desk) -> None:
    hand.trip(desk, "strategy:paper:main:default", Level.NO_NEW, "a drill")
    for view in VIEWS:
        assert "strategy:paper:main:default is open (no_new): a drill" in said(shown(view=view))


def test_why_tells_the_order_that_is_asked_for(shown: Any, desk: Desk) -> None:
    trade(desk)
    page = shown(view="Why")
    assert "sell 0.0005 BTC-USD: filled" in said(page)
    page.text_input(key="wanted").set_value("nonsense").run()
    assert "order nonsense: found none" in said(page)


def test_each_limit_is_a_line_with_its_use(shown: Any, desk: Desk) -> None:
    trade(desk)
    lines = [bar.proto.text for bar in shown(view="Risk").get("progress")]
    assert any(line.startswith("open_positions: 1 of 5") for line in lines), lines
    assert any(line.startswith("daily_loss: ") for line in lines)


def test_without_a_database_nothing_old_is_shown(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    page = shown()
    assert "LEDGER LOST" in said(page)
    assert not page.dataframe
    assert not page.metric
