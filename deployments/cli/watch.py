"""A live table in the terminal: what the dashboard shows, in one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import ModeChoice, PlanChoice, Portfolio, rounded, scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from trading.dashboard import Snapshot
    from trading.store.reports import Reports, Scope

Once = Annotated[bool, typer.Option("--once", help="Print it once and end.")]
ROWS = 12


def watch(mode: ModeChoice = None, portfolio: Portfolio = None, plan: PlanChoice = None, once: Once = False) -> None:
    """Orders, positions, limits and breakers of one plan as they change; until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    from deployments.cli.console import ledger
    from trading.store.database import engine
    from trading.store.reports import Reports

    url = ledger()
    reports = Reports(engine(url))
    wanted = _one(reports, scope(mode, portfolio, plan))
    if once:
        Console().print(_screen(reports, wanted))
        return
    with Live(_screen(reports, wanted), screen=True, auto_refresh=False) as live:
        try:
            for screen in _screens(url, reports, wanted):
                live.update(screen, refresh=True)
        except KeyboardInterrupt:
            return


def _one(reports: Reports, named: Scope) -> Scope:
    """The only plan that the options name. Raises ConfigurationError for none or several."""
    from trading.dashboard import desks
    from trading.errors import ConfigurationError

    given = named.values
    found = [desk for desk in desks(reports) if given.items() <= desk.values.items()]
    if len(found) != 1:
        names = ", ".join(f"{desk.mode}:{desk.portfolio}/{desk.plan}" for desk in found) or "none"
        raise ConfigurationError(f"watch: found {names}, expected --mode, --portfolio and --plan to name one plan with books")
    return found[0]


def _screens(url: str, reports: Reports, wanted: Scope) -> Iterator[RenderableType]:
    """A screen at every ring and every second: ages go on. What is lost is said, and asked for again."""
    import time

    from rich.text import Text

    from trading.errors import LedgerUnavailable
    from trading.store.bell import rings

    while True:
        try:
            for _ in rings(url):
                yield _screen(reports, wanted)
        except LedgerUnavailable as error:
            yield Text(f"LEDGER LOST: {str(error).splitlines()[0]}\nNothing is shown until it answers again.", style="bold red")
            time.sleep(1)


def _screen(reports: Reports, wanted: Scope) -> RenderableType:
    from rich.text import Text

    from config.clock import wall_clock
    from trading.dashboard import take

    seen = take(reports, wanted, wall_clock())
    return Text("This plan has no books any more.") if seen is None else draw(seen)


def draw(seen: Snapshot) -> RenderableType:
    """The snapshot as tables, one below the other; ages are of this moment."""
    from rich.console import Group

    from config.clock import wall_clock
    from deployments.dashboard import tables

    now = wall_clock()
    limits = [] if seen.risk is None else [{"limit": tables.limit_line(use)} for use in seen.risk.limits]
    parts = [
        _headline(seen),
        _table("Positions", tables.positions(seen)),
        _table("Orders", tables.orders(seen.orders)),
        _table("Fills", tables.fills(seen.fills)),
        _table("Limits", limits),
        _table("Breakers that are not closed", tables.breakers(seen.halted)),
        _table("Heartbeats", tables.heartbeats(seen.heartbeats, now)),
    ]
    return Group(*(part for part in parts if part is not None))


def _headline(seen: Snapshot) -> RenderableType:
    from rich.text import Text

    from trading.report.markdown import signed
    from trading.store.rows import plain

    row = plain(seen.equity)
    style = {"paper": "white on blue", "rehearsal": "black on yellow", "live": "bold white on red"}[seen.mode]
    amounts = "  ".join(
        f"{name} {rounded(row[name]) or 'unknown'}" for name in ("equity", "cash", "realised", "unrealised", "fees")
    )
    doubts = f"  IN DOUBT {seen.doubts}" if seen.doubts else ""
    breaks = f"  BREAKS {len(seen.breaks)}" if seen.breaks else ""
    line = Text(f" {seen.mode.upper()} ", style=style)
    return line.append(
        f" {seen.equity.book} / {seen.equity.plan}  {amounts}  total {signed(seen.total)}{doubts}{breaks}", style="none"
    )


def _table(title: str, rows: list[dict[str, Any]]) -> RenderableType | None:
    """The newest rows; None where there are none."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from deployments.cli.console import cell

    if not rows:
        return None
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        table.add_column(name)
    for row in rows[:ROWS]:
        table.add_row(*(escape(cell(_shown(row.get(name)))) for name in rows[0]))
    return table


def _shown(value: Any) -> Any:
    return f"{value:,.2f}" if isinstance(value, float) else value
