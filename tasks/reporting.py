"""The daily report and reconciliation as tasks: read, render, write, show."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact

from config.clock import wall_clock
from config.settings import load, private_folder
from tasks.policy import READ
from trading.cycle import LOCK_WAIT_SECONDS
from trading.desk import Desk, open_books
from trading.proof import Sample, prove
from trading.reconcile import Reconciliation
from trading.reconcile import reconcile as compare
from trading.report import gather, headline, to_html, to_markdown
from trading.report.figures import Figures
from trading.settlement import LOOK_BACK
from trading.store.database import engine
from trading.store.reports import Reports


class Books:
    """Where a plan's books are. Not a dataclass: Prefect would look into it at every task."""

    __slots__ = ("mode", "plan", "portfolio", "url")

    def __init__(self, url: str, mode: str, portfolio: str, plan: str) -> None:
        self.url = url
        self.mode = mode
        self.portfolio = portfolio
        self.plan = plan


class Page:
    """The gathered figures, opaque to Prefect for the same reason."""

    __slots__ = ("figures",)

    def __init__(self, figures: Figures) -> None:
        self.figures = figures


@task(name="gather figures", **READ)
def gather_figures(books: Books, days: int) -> Page:
    """Reads everything that the report shows, once."""
    bind = engine(books.url)
    try:
        return Page(gather(Reports(bind), books.mode, books.portfolio, books.plan, days=days, written_at=wall_clock()))
    finally:
        bind.dispose()


@task(name="write report", **READ)
def write_report(page: Page, plan: str) -> Path:
    """The HTML page under its date, and as `latest.html`; returns the first one's path."""
    folder = private_folder(load().home) / "reports" / plan
    folder.mkdir(parents=True, exist_ok=True)
    html = to_html(page.figures)
    dated = folder / f"{page.figures.until:%Y-%m-%d}.html"
    for file in (dated, folder / "latest.html"):
        draft = file.with_suffix(".draft")
        draft.write_text(html, encoding="utf-8")
        draft.replace(file)  # a reader sees the old page or the new one, never half of it
    return dated


@task(name="publish report", **READ)
def publish_report(page: Page, plan: str, file: Path) -> str:
    """The report as an artifact; returns its headline."""
    line = headline(page.figures)
    note = f"\nWith charts: `{file}` on the machine that wrote it.\n"
    create_markdown_artifact(key=f"report-{plan}", markdown=to_markdown(page.figures) + note, description=line)
    return line


class Shared:
    """The desk of a reconciliation, opaque to Prefect."""

    __slots__ = ("desk",)

    def __init__(self, desk: Desk) -> None:
        self.desk = desk


@task(name="reconcile", **READ)
def reconcile_positions(shared: Shared) -> Reconciliation:
    """Settles, and compares orders of the last two days, all fills and all balances, under the portfolio's lock."""
    desk = shared.desk
    desk.journal.lock_portfolio(desk.book, LOCK_WAIT_SECONDS)
    try:
        open_books(desk)
        return compare(desk, LOOK_BACK)
    finally:
        desk.journal.unlock_portfolio(desk.book)


@task(name="prove decisions", **READ)
def prove_decisions(shared: Shared) -> Sample:
    """Derives the plan's newest decisions anew, under the portfolio's lock; one that comes out otherwise is a break."""
    desk = shared.desk
    desk.journal.lock_portfolio(desk.book, LOCK_WAIT_SECONDS)
    try:
        return prove(desk)
    finally:
        desk.journal.unlock_portfolio(desk.book)


@task(name="publish reconciliation", **READ)
def publish_reconciliation(shared: Shared, found: Reconciliation, proved: Sample) -> str:
    """What was compared and found, as an artifact; returns the headline."""
    desk = shared.desk
    lines = [f"# {found.headline(desk.book)}", "", f"Orders since {desk.market_now() - LOOK_BACK:%Y-%m-%d %H:%M} UTC.", ""]
    lines += ["| compared | count |", "|---|---|", f"| orders at the exchange | {found.orders} |"]
    lines += [f"| orders with fills in the ledger | {found.fills} |", f"| fills booked late | {found.late_fills} |"]
    lines += [f"| decisions derived anew | {proved.derived} |"]
    lines += ["", "| asset | at the exchange |", "|---|---|"]
    lines += [f"| {asset} | {held} |" for asset, held in found.balances.items()]
    if found.differences:
        lines += ["", "## Differences", "", *(f"- **severity {one.severity}** {one}" for one in found.differences)]
    if proved.differing:
        lines += ["", "## Decisions that come out otherwise", "", *(f"- {one}" for one in proved.differing)]
    line = found.headline(desk.book) + (f"; {len(proved.differing)} decisions come out otherwise" if proved.differing else "")
    create_markdown_artifact(key=f"reconcile-{desk.plan.name}", markdown="\n".join(lines) + "\n", description=line)
    return line
