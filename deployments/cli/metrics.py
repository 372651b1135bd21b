"""The metrics as a program in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Of http://127.0.0.1:PORT/metrics.")]


def metrics(port: Port = 9464) -> None:
    """Serve orders, fills, refusals, results, breakers and ages as OpenMetrics on loopback until Ctrl-C."""
    from prometheus_client import CollectorRegistry, start_http_server

    from deployments.cli.console import reports
    from deployments.metrics import HOST, LedgerMetrics
    from trading.errors import ConfigurationError

    with reports() as ledger:
        registry = CollectorRegistry()
        registry.register(LedgerMetrics(ledger))
        try:
            server, thread = start_http_server(port, HOST, registry)
        except OSError as error:
            raise ConfigurationError(f"port {port}: {error.strerror}; name a free one with --port") from error
        print(f"Metrics: http://{HOST}:{port}/metrics", flush=True)
        try:
            thread.join()
        except KeyboardInterrupt:
            server.shutdown()
