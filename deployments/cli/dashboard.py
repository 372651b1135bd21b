"""The dashboard as a program in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Of the page; unset: the first free from 8501.")]


def dashboard(port: Port = None) -> None:
    """Serve the dashboard on loopback until Ctrl-C: trades, positions, portfolio, risk, health, and why an order was made."""
    import os
    import subprocess

    from deployments.cli.console import ledger
    from deployments.dashboard import FIRST_PORT, HOST, command
    from deployments.stack.premises import is_free

    chosen = port or next(port for port in range(FIRST_PORT, 65536) if is_free(port))
    words = command(chosen)
    ledger()  # started if it was down; what is not at this version's schema is said here
    print(f"Dashboard: http://{HOST}:{chosen}", flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLIT_")}
    try:
        raise typer.Exit(subprocess.run(words, env=environment, check=False).returncode)
    except KeyboardInterrupt:  # the page ends by the same Ctrl-C
        raise typer.Exit(0) from None
