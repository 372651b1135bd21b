"""What the commands share: options, opening the ledger for reading, and printing as table or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from trading.store.reports import Reports, Scope

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs; numbers of money are strings.")]
ModeChoice = Annotated[str | None, typer.Option("--mode", help="Only this mode: paper, rehearsal or live.")]
Portfolio = Annotated[str | None, typer.Option("--portfolio", help="Only this portfolio, such as main.")]
PlanChoice = Annotated[str | None, typer.Option("--plan", help="Only this plan.")]
Plan = Annotated[str, typer.Option("--plan", help="A plan of config/plans, or the path of a plan file.")]

MODES = ("paper", "rehearsal", "live")
WIDE = 260  # columns of a table that is written to a pipe or a file: nothing is cut there


@contextmanager
def reports() -> Iterator[Reports]:
    """The ledger for reading; the embedded Postgres is started when it is down."""
    from trading.store.database import engine
    from trading.store.reports import Reports

    bind = engine(ledger())
    try:
        yield Reports(bind)
    finally:
        bind.dispose()


def ledger() -> str:
    """The URL of the ledger, running and at this version's schema."""
    from config.postgres import ledger_url
    from config.settings import load, private_folder
    from config.snapshots import ready

    settings = load()
    private_folder(settings.home)
    url = ledger_url(settings)
    ready(url, settings)
    return url


def scope(mode: str | None, portfolio: str | None, plan: str | None) -> Scope:
    """Which books the options name; a mode that does not exist is a usage error."""
    from trading.store.reports import Scope

    if mode is not None and mode not in MODES:
        raise typer.BadParameter(f"found {mode!r}, expected one of {', '.join(MODES)}", param_hint="--mode")
    return Scope(mode=mode, portfolio=portfolio, plan=plan)


def print_json(value: Any) -> None:
    from trading.store.rows import plain

    print(json.dumps(plain(value), indent=2))


def print_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str) -> None:
    """Rows as a table with these columns; `empty` is said when there are none. Nothing is cut in a pipe."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        print(empty)
        return
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = all(_is_number(row.get(column)) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell(row.get(column))) for column in columns))
    _console().print(table)


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def cell(value: Any) -> str:
    """A value for people: what is unknown is a dash, never a zero."""
    from trading.store.rows import plain

    if value is None or value == "":
        return "–"
    found = plain(value)
    return found if isinstance(found, str) else json.dumps(found)


def _is_number(value: Any) -> bool:
    return value is None or cell(value).lstrip("-").replace(".", "", 1).isdigit()


def as_rows(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows of the ledger's readings as mappings of plain values."""
    from trading.store.rows import plain

    return [plain(row) for row in rows]


def fail(code: str, message: str) -> typer.Exit:
    """Says on stderr what was refused; raised by the caller, it ends the command with status 1."""
    print(f"error[{code}]: {message}", file=sys.stderr)
    return typer.Exit(1)


def rounded(value: str | None) -> str | None:
    """An amount for a table: two decimals with thousands separators."""
    from decimal import Decimal

    return None if value is None else f"{Decimal(value):,.2f}"
