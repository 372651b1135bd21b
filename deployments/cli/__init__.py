"""The `keel` command. What a command needs is imported when it runs, so that `keel --help` answers at once.

Exit codes: 0 done, 1 failed or refused, 2 usage or configuration. Errors go to stderr as `error[code]: message`.
"""

from __future__ import annotations

import sys

import typer

from deployments.cli import (
    bench,
    books,
    control,
    credentials,
    dashboard,
    evidence,
    explain,
    ledger,
    live,
    metrics,
    mirror,
    simulator,
    stack,
    trade,
    verify,
    watch,
)

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
app.command(rich_help_panel="Stack")(stack.watchdog)
app.command(rich_help_panel="Stack")(stack.worker)
for command in (books.orders, books.fills, books.positions, books.pnl, books.equity):
    app.command(rich_help_panel="Books")(command)
app.command(rich_help_panel="Books")(explain.explain)
app.command(rich_help_panel="Books")(evidence.costs)
app.command(rich_help_panel="Books")(evidence.gains)
app.command(rich_help_panel="Books")(evidence.replay)
app.add_typer(evidence.export, rich_help_panel="Books")
app.command(rich_help_panel="Books")(dashboard.dashboard)
app.command(rich_help_panel="Books")(watch.watch)
app.command(rich_help_panel="Books")(metrics.metrics)
app.command(rich_help_panel="Books")(mirror.mirror)
app.command(rich_help_panel="Books")(verify.verify)
app.command(rich_help_panel="Books")(verify.anchor)
for acting in (trade.trade, trade.reconcile, trade.order, trade.cancel):
    app.command(rich_help_panel="Trading without Prefect")(acting)
app.command("check-live", rich_help_panel="Real orders")(live.check_live)
app.command(rich_help_panel="Real orders")(live.arm)
app.command(rich_help_panel="Real orders")(live.disarm)
app.command("test-trade", rich_help_panel="Real orders")(live.trade_once)
app.command(rich_help_panel="Real orders")(live.divergence)
app.command(rich_help_panel="Real orders")(live.listen)
app.add_typer(live.ramp, rich_help_panel="Real orders")
app.command(rich_help_panel="Control")(control.halt)
app.command(rich_help_panel="Control")(control.resume)
app.command(rich_help_panel="Control")(control.flatten)
app.add_typer(control.breaker, rich_help_panel="Control")
app.add_typer(control.breaks, rich_help_panel="Control")
app.add_typer(credentials.credentials, rich_help_panel="Control")
app.command(rich_help_panel="Control")(control.announce)
app.command(rich_help_panel="Control")(control.allot)
app.add_typer(ledger.app, rich_help_panel="Control")
app.command(rich_help_panel="Rehearse")(simulator.simulator)
app.command(rich_help_panel="Measure", context_settings=bench.SETTINGS)(bench.bench)


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
