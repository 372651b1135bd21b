"""`python -m trading.simulator`: the simulated venue without the rest of the command line."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from trading.simulator.server import Options, print_ready, serve
from trading.simulator.simulation import DEFAULT_BALANCES, Opening, parse_balances
from trading.simulator.terms import read_time


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trading.simulator", description="A simulated Coinbase on loopback.")
    parser.add_argument("--home", type=Path, required=True, help="where the venue keeps its state, CA and keys")
    parser.add_argument("--port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--prices", default="synthetic", help="synthetic, still, or a folder of recorded candles")
    parser.add_argument("--keys", type=Path, help="the keys that the venue knows; by default those made in the home")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--balances", type=parse_balances, default=DEFAULT_BALANCES, help="USD=100000,BTC=1")
    parser.add_argument("--start", type=read_time, help="the clock stands here until it is moved")
    parser.add_argument("--private-rate", type=float, default=30, help="private calls a second, 0 for no limit")
    parser.add_argument("--public-rate", type=float, default=10, help="public calls a second, 0 for no limit")
    asked = parser.parse_args()
    opening = Opening(prices=asked.prices, seed=asked.seed, balances=asked.balances, start=asked.start)
    options = Options(
        home=asked.home, port=asked.port, keys=asked.keys, opening=opening, private_per_second=asked.private_rate,
        public_per_second=asked.public_rate,
    )  # fmt: skip
    serve(options, lambda: datetime.now(UTC), print_ready)


if __name__ == "__main__":
    main()
