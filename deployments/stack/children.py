"""A child process of the stack: started in a session of its own, watched, started again when it dies, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from trading.errors import KeelError

DEATHS_MAX = 5
DEATHS_WITHIN_SECONDS = 120.0
BACK_OFF_MAX_SECONDS = 30.0

LOG_BYTES_MAX = 10_000_000

Say = Callable[[str], None]


class ChildFailed(KeelError):
    """A part of the stack does not stay up."""

    code = "stack"


def back_off(deaths: int) -> float:
    """1, 2, 4 ... seconds, up to half a minute."""
    return min(2.0 ** (deaths - 1), BACK_OFF_MAX_SECONDS)


@dataclass(slots=True, kw_only=True)
class Child:
    """One program of the stack.

    Its own session keeps the terminal's Ctrl-C away from it: a run in the middle of an order is drained, not hit.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    process: asyncio.subprocess.Process | None = None
    deaths: deque[float] = field(default_factory=deque)
    pause: Callable[[int], float] = back_off
    """Seconds before the start that follows so many deaths."""

    async def start(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, cwd=self.folder, env=dict(self.environment), stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    async def ended(self) -> int | None:
        """Its exit status, once it has ended; minus the number of a signal that killed it. None: it never started."""
        return await self.process.wait() if self.process else None

    async def until(self, ready: Callable[[], Awaitable[bool]], seconds: float) -> None:
        """Waits until it is ready. Raises ChildFailed when it ends first, or is not ready in time."""
        limit = time.monotonic() + seconds
        while not await ready():
            if not self.running():
                raise ChildFailed(f"{self.name} ended while it started (status {await self.ended()}): see {self.log}")
            if time.monotonic() > limit:
                raise ChildFailed(f"{self.name} was not ready after {seconds:.0f} s: see {self.log}")
            await asyncio.sleep(0.1)

    async def keep(self, ready: Callable[[], Awaitable[bool]], say: Say) -> None:
        """Starts it again each time it ends. Raises ChildFailed after five deaths within two minutes."""
        while True:
            status = await self.ended()
            self._count_death(time.monotonic())
            if len(self.deaths) == DEATHS_MAX:
                raise ChildFailed(f"{self.name} ended {DEATHS_MAX} times within two minutes (status {status}): see {self.log}")
            pause = self.pause(len(self.deaths))
            say(f"{self.name} ended (status {status}): starting it again in {pause:.0f} s; its log is {self.log}")
            await asyncio.sleep(pause)
            await self.start()
            with suppress(ChildFailed):  # it ended again, or hangs: counted above, or seen by its log
                await self.until(ready, 120)
                say(f"{self.name} is back")

    def _count_death(self, now: float) -> None:
        while self.deaths and now - self.deaths[0] > DEATHS_WITHIN_SECONDS:
            self.deaths.popleft()
        self.deaths.append(now)

    async def stop(self, first: signal.Signals, patience_seconds: float) -> None:
        """Asks it to end and waits; then kills its whole process group."""
        if self.process is None or not self.running():
            return
        self.process.send_signal(first)
        try:
            await asyncio.wait_for(self.process.wait(), patience_seconds)
        except TimeoutError:
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
