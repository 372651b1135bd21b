"""The simulated Coinbase: everything live can be rehearsed against it, by Tradekeel and by any other client."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer


def simulator(
    home: Annotated[Path, typer.Option(help="Where the venue keeps its state, its CA and its keys.")] = Path(".keel/simulator"),
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    prices: Annotated[str, typer.Option(help="synthetic, still, or a folder of recorded candles.")] = "synthetic",
    keys: Annotated[Path | None, typer.Option(help="JSON list of the keys it knows; by default those in its home.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same prices and ids.")] = 1,
    balances: Annotated[str, typer.Option(help="What the account opens with: USD=100000,BTC=1.")] = "",
    start: Annotated[
        str, typer.Option(help="A time such as 2026-01-01T00:00:00Z: the clock stands there until it is moved.")
    ] = "",
    private_rate: Annotated[float, typer.Option(help="Private calls a second; 0 lifts the limit.")] = 30,
    public_rate: Annotated[float, typer.Option(help="Public calls a second; 0 lifts the limit.")] = 10,
) -> None:
    """Serve a simulated Coinbase on loopback until Ctrl-C; prints one JSON line with its address when it is ready."""
    from trading.errors import ConfigurationError
    from trading.simulator.server import Options, print_ready, serve
    from trading.simulator.simulation import Opening, parse_balances
    from trading.simulator.terms import read_time

    try:
        changes: dict[str, Any] = {"start": read_time(start)} if start else {}
    except ValueError:
        raise ConfigurationError(f"start: found {start!r}, expected a time such as 2026-01-01T00:00:00Z") from None
    if balances:
        changes["balances"] = parse_balances(balances)
    options = Options(
        home=home, port=port, keys=keys, opening=Opening(prices=prices, seed=seed, **changes), private_per_second=private_rate,
        public_per_second=public_rate,
    )  # fmt: skip
    serve(options, lambda: datetime.now(UTC), print_ready)
