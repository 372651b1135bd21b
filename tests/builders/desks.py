"""Desks for tests: a plan over a seeded replay and a fresh ledger, as the pipeline opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.desk import assembled
from tests.builders.candles import write_generated
from tests.builders.plans import plan
from trading.desk import Desk
from trading.feeds.replay import Replay
from trading.store.journal import Author


@contextmanager
def replay_desk(url: str, folder: Path, *, seed: int = 3, length: int = 260, **changes: Any) -> Iterator[Desk]:
    """A desk on generated candles in `folder` (written if they are not there); `changes` go to the plan."""
    made = plan(**changes)
    if not (folder / "coinbase").exists():
        write_generated(folder, seed, made.products, length=length)
    with assembled(made, source=Replay(folder, made.costs.spread), url=url, author=lambda: Author("test")) as desk:
        yield desk
