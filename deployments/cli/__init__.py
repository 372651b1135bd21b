"""The `keel` command. What a command needs is imported when it runs, so that `keel --help` answers at once.

Exit codes: 0 done, 1 failed or refused, 2 usage or configuration. Errors go to stderr as `error[code]: message`.
"""

from __future__ import annotations

import sys

import typer

from deployments.cli import books, stack

app = typer.Typer(
    name="keel",
    help="Tradekeel: a scheduled trading pipeline that survives being killed, run twice or restored.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command(rich_help_panel="Stack")(stack.up)
app.command(rich_help_panel="Stack")(stack.down)
app.command(rich_help_panel="Stack")(stack.status)
for command in (books.orders, books.fills, books.positions, books.pnl, books.equity):
    app.command(rich_help_panel="Books")(command)


def main() -> None:
    """The one place where errors become exit codes."""
    try:
        app()
    except Exception as error:
        from trading.errors import ConfigurationError, KeelError

        if not isinstance(error, KeelError):
            raise
        print(f"error[{error.code}]: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
