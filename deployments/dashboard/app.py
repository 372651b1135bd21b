"""The page that `streamlit run` serves: which plan, which view, and whether what is shown is of now.

A small fragment looks at the feed every second; the page is drawn anew only when something was recorded.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from datetime import datetime

import streamlit as st

from config.clock import wall_clock
from config.postgres import ledger_url
from config.settings import load
from deployments.dashboard import views
from deployments.dashboard.feed import Feed
from deployments.dashboard.tables import age, at
from trading.dashboard import Snapshot, desks, take
from trading.errors import KeelError, LedgerUnavailable
from trading.report import Figures, gather
from trading.store.database import engine
from trading.store.reports import Reports, Scope

LOOK_SECONDS = 1.0
BANNERS = {
    "paper": ("#1f5fbf", "PAPER", "no real money: orders are filled by our own rules"),
    "rehearsal": ("#8a5a00", "REHEARSAL", "no real money: orders go to the simulated Coinbase"),
    "live": ("#b3261e", "LIVE", "REAL MONEY: orders go to Coinbase"),
}
# On a phone figures stand side by side in twos, not each on a screen of its own.
STYLE = """
.block-container { padding-top: 2.2rem; padding-bottom: 2rem }
[data-testid="stMetricValue"] { font-size: 1.6rem }
@media (max-width: 640px) {
  [data-testid="stHorizontalBlock"] { gap: .5rem }
  [data-testid="stHorizontalBlock"] > [data-testid="stColumn"] { min-width: 40% !important; flex: 1 1 40% !important }
  [data-testid="stMetricValue"] { font-size: 1.2rem }
}
"""
VIEWS: dict[str, Callable[[views.Page], None]] = {
    "Live trades": views.live_trades,
    "Positions": views.positions,
    "Portfolio": views.portfolio,
    "Risk": views.risk,
    "Health": views.health,
    "Why": views.why,
}


@st.cache_resource(show_spinner=False, on_release=lambda pair: pair[1].close())
def opened() -> tuple[Reports, Feed]:
    """The ledger as keel_report, and the one feed of this server."""
    url = ledger_url(load())
    return Reports(engine(url)), Feed(url)


@st.cache_resource(max_entries=16, show_spinner=False)  # what is read is frozen: pages share it
def taken(_reports: Reports, scope: Scope, version: int) -> Snapshot | None:
    del version  # of the books: another one is another reading
    return take(_reports, scope, wall_clock())


@st.cache_resource(max_entries=8, show_spinner=False)
def gathered(_reports: Reports, scope: Scope, version: int, days: int) -> Figures:
    """The figures of the report, for the statistics and charts of some views."""
    del version
    return gather(_reports, str(scope.mode), str(scope.portfolio), str(scope.plan), days=days, written_at=wall_clock())


@st.cache_resource(max_entries=2, show_spinner=False)
def known(_reports: Reports, version: int) -> list[Scope]:
    del version
    return desks(_reports)


@st.fragment(run_every=LOOK_SECONDS)
def watch(feed: Feed, drawn: tuple[int, bool], read_at: datetime) -> None:
    """Says how old the page is, and has it drawn anew when something was recorded or the database went or came back."""
    now = wall_clock()
    lost = feed.lost(now)
    if (feed.version, bool(lost)) != drawn:
        st.rerun(scope="app")
    if not lost:
        st.caption(
            f"Books as of {at(read_at)} UTC, looked at {age(feed.heard_at, now)} ago · last record {age(feed.rang_at, now)} ago"
        )


def banner(mode: str, scope: Scope) -> None:
    colour, word, meaning = BANNERS[mode]
    st.markdown(
        f'<div role="status" style="background:{colour};color:#fff;border-radius:.4rem;padding:.5rem .9rem;margin-bottom:.5rem">'
        f'<b style="font-size:1.25rem;letter-spacing:.08em">{word}</b> &nbsp; {html.escape(str(scope.portfolio))} / '
        f"{html.escape(str(scope.plan))} — {meaning}</div>",
        unsafe_allow_html=True,
    )


def say_lost(why: str, feed: Feed | None) -> None:
    """Nothing old is shown beside it."""
    since = f" since {at(feed.heard_at)} UTC" if feed else ""
    st.error(f"**LEDGER LOST**{since}: {why}. Nothing is shown until it answers again. Next step: `keel status`, then `keel up`.")


def draw(reports: Reports, feed: Feed) -> None:
    version, lost = feed.version, feed.lost(wall_clock())
    watch(feed, (version, bool(lost)), wall_clock())
    if lost:
        say_lost(lost, feed)
        return
    scopes = known(reports, version)
    if not scopes:
        st.info("No plan has books yet. `make paper`, or `keel trade`, opens the first.")
        return
    scope = st.selectbox("Plan", scopes, format_func=lambda scope: f"{scope.mode} · {scope.portfolio} / {scope.plan}", key="plan")
    seen = taken(reports, scope, version)
    if seen is None:
        st.info("This plan has no books any more.")
        return
    banner(seen.mode, scope)
    name = st.segmented_control("View", list(VIEWS), default="Live trades", key="view", label_visibility="collapsed")
    views.warnings(seen)
    page = views.Page(seen=seen, reports=reports, figures=lambda days: gathered(reports, scope, version, days))
    VIEWS[name or "Live trades"](page)


def main() -> None:
    st.set_page_config(page_title="Tradekeel", page_icon="⚓", layout="wide", initial_sidebar_state="collapsed")
    st.markdown(f"<style>{STYLE}</style>", unsafe_allow_html=True)
    feed: Feed | None = None
    try:
        reports, feed = opened()
        draw(reports, feed)
    except LedgerUnavailable as error:
        say_lost(str(error).strip().splitlines()[0], feed)
    except KeelError as error:
        st.error(f"{error.code}: {error}")


main()
