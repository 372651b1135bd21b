"""Failpoints around a desk: before and after every write to the ledger and every call to the exchange, counted.

Nothing of it is in the product: the desk's journal and exchange are wrapped from outside. The number of a point names the
instant, so (venue class, replies, points) replays a run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trading.desk import Desk

JOURNAL = ("record", "lock_portfolio", "claim_slot", "mark_sending")
EXCHANGE = ("submit", "cancel", "look_up", "orders", "fills", "movements", "balances")


class Crash(BaseException):
    """The process died here, as far as the ledger and the venue can tell."""


def _die(name: str) -> None:
    raise Crash(name)


@dataclass
class Failpoints:
    """Passed in order; at the numbers in `at`, `die` is called."""

    at: Sequence[int] = ()
    die: Callable[[str], None] = field(default=_die)
    passed: list[str] = field(default_factory=list)

    def here(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) - 1 in self.at:
            self.die(name)

    def around(self, desk: Desk) -> Desk:
        desk.journal = Wrapped(desk.journal, "journal", JOURNAL, self)  # type: ignore[assignment]
        desk.exchange = Wrapped(desk.exchange, "exchange", EXCHANGE, self)  # type: ignore[assignment]
        return desk


def kill(_: str) -> None:
    """SIGKILL of this process: no handler, no `finally`, no goodbye to Postgres."""
    os.kill(os.getpid(), signal.SIGKILL)


class Wrapped:
    """What it wraps, with a failpoint on both sides of some of its methods."""

    def __init__(self, inner: Any, name: str, methods: Sequence[str], points: Failpoints) -> None:
        self.inner = inner
        self._name = name
        self._methods = methods
        self._points = points

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self._between(name, found) if name in self._methods else found

    def _between(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            what = f"{name} {args[0]}" if name == "record" else name
            self._points.here(f"before {self._name}.{what}")
            answer = method(*args, **kwargs)
            self._points.here(f"after {self._name}.{what}")
            return answer

        return called
