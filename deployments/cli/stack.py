"""The local stack: up, down, and the status of everything on one page."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deployments.cli.books import total_equity
from deployments.cli.console import Json, as_rows, cell, print_json, print_table, reports, rounded

Once = Annotated[bool, typer.Option("--once", help="One run of trade/paper, then stop; the exit status is the run's.")]


def up(once: Once = False) -> None:
    """Start Postgres, the Prefect server and the worker, trade at once, and go on until Ctrl-C."""
    from deployments import stack

    raise typer.Exit(stack.up(once=once))


def watchdog() -> None:
    """Watch the stack from outside, until this process is ended: no heartbeat, or a due slot that nobody claims, is acted on."""
    from config.settings import load
    from deployments.watchdog import watch

    watch(load())


def down() -> None:
    """Stop the stack, and whatever a killed one left behind."""
    from deployments import stack

    raise typer.Exit(stack.down())


def worker() -> None:
    """Run trade/live's worker here, as the user that may read the key that trades; until Ctrl-C."""
    from deployments.stack.live_launch import become_live_worker

    become_live_worker()


def status(as_json: Json = False) -> None:
    """What runs, the last runs, breaker, equity and open breaks."""
    from config.alerts import failures
    from config.halt import halted_by
    from config.settings import load
    from deployments import stack
    from trading.store.reports import Scope

    settings = load()
    running = stack.status()
    with reports() as ledger:
        everything = Scope()
        rows = ledger.equity(everything)
        found: dict[str, Any] = {
            "stack": running,
            "cycles": [
                {name: value for name, value in row.items() if name != "summary"} for row in as_rows(ledger.cycles(everything, 5))
            ],
            "breakers": [row for row in as_rows(ledger.breakers()) if row["state"] != "closed"],
            "equity": [total_equity([row]) | {"book": row.book, "plan": row.plan} for row in rows],
            "breaks": as_rows(ledger.breaks(everything, open_only=True)),
            "reconciliations": ledger.reconciliation(everything),
            "halted": halted_by(settings)(),
            "alerts_not_delivered": [failure._asdict() for failure in failures(settings)],
        }
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from trading.store.rows import plain

    for name, value in plain(found["stack"]).items():
        print(f"{name.replace('_', ' ')}: {cell(value)}")
    if found["halted"]:
        print(f"HALTED: no order is sent ({found['halted']}). Lead out: keel resume --reason ...")
    print_table("Alerts that were not delivered", found["alerts_not_delivered"], ("destination", "since", "why"),
                "Alerts: none is waiting.")  # fmt: skip
    print_table(
        "Last cycles", found["cycles"], ("plan", "slot_at", "state", "reason", "started_at", "flow_run_id"), "No cycles yet."
    )
    print_table("Breakers that are not closed", found["breakers"], ("scope", "state", "level", "reason", "at"),
                "Breakers: all closed, or none yet.")  # fmt: skip
    amounts = ("equity", "cash", "realised", "unrealised", "fees")
    equity = [row | {name: rounded(row[name]) for name in amounts} for row in found["equity"]]
    print_table("Equity", equity, ("book", "plan", "asset", *amounts), "No plan has been opened yet.")
    print_table("Open breaks", found["breaks"], ("id", "class", "severity", "subject", "ours", "theirs"), "No open breaks.")
