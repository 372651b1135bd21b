"""Hears the ledger's bell in a thread of its own, for all pages of one server."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from config.clock import wall_clock
from trading.errors import KeelError
from trading.store.bell import rings

QUIET_SECONDS, DEAF_SECONDS, AGAIN_SECONDS = 1.0, 5.0, 1.0


class Feed:
    """`version` grows with every commit that was heard, and when the database goes or comes back."""

    def __init__(self, url: str) -> None:
        self.version = 0
        self.heard_at = wall_clock()
        """When the database answered last."""
        self.rang_at: datetime | None = None
        self.trouble = ""
        self._url = url
        self._ended = threading.Event()
        threading.Thread(target=self._listen, name="ledger bell", daemon=True).start()

    def lost(self, now: datetime) -> str:
        """Why the database counts as lost at this moment; empty while it answers."""
        if self.trouble:
            return self.trouble
        silent = now - self.heard_at
        return f"no answer for {silent.total_seconds():.0f} s" if silent > timedelta(seconds=DEAF_SECONDS) else ""

    def close(self) -> None:
        self._ended.set()

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                self._hear()
            except KeelError as error:
                if not self.trouble:
                    self.trouble = str(error).strip().splitlines()[0]
                    self.version += 1
                self._ended.wait(AGAIN_SECONDS)

    def _hear(self) -> None:
        for heard in rings(self._url, QUIET_SECONDS):
            self.heard_at = wall_clock()
            if heard:
                self.rang_at = self.heard_at
                self.version += 1
            self.trouble = ""
            if self._ended.is_set():
                return
