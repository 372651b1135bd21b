"""The WebSocket connection to Coinbase: it says when to ask. What has traded is always read from the lists of the venue.

A doorbell is rung for every order that moves, and for every reason to doubt that all was heard: the first connection, each
later one, a gap in the numbers. Who answers it asks the venue (`settle`), and loses nothing by answering twice or late.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trading.errors import ConfigurationError
from trading.exchange.coinbase.channels import (
    CHANNELS,
    HEARTBEATS,
    Beat,
    Broken,
    Heard,
    Missed,
    Orders,
    Reader,
    Subscribed,
    Tick,
    subscription,
)
from trading.exchange.coinbase.connection import SigningKey, check_host
from trading.orders import Mode

if TYPE_CHECKING:
    from websockets.sync.connection import Connection

URL = "wss://advanced-trade-ws-user.coinbase.com"
HOSTS = ("advanced-trade-ws-user.coinbase.com", "advanced-trade-ws.coinbase.com")
MESSAGE_BYTES_MAX = 2**23
"""A snapshot of open orders comes in batches of fifty: a few hundred kilobytes at most."""
CONNECTED = "connected"
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a connection may be quiet, and how fast a new one is tried. Seconds."""

    silence: float = 12.0
    """Heartbeats come every second. The same time is given to all subscriptions to be acknowledged."""
    opening: float = 10.0
    between_gaps: float = 5.0
    backoff_first: float = 1.0
    backoff_most: float = 30.0


class Lost(Exception):
    """The connection is of no use any more; a new one is made."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Why to look at the venue: orders that moved, and reasons to look at everything."""

    orders: frozenset[str]
    gaps: tuple[str, ...]


class Doorbell:
    """Takes rings from the stream's thread and gives them, all that came meanwhile at once, to the one who answers."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._orders: set[str] = set()
        self._gaps: list[str] = []

    def ring(self, orders: frozenset[str]) -> None:
        with self._changed:
            self._orders |= orders
            self._changed.notify_all()

    def ring_for_all(self, reason: str) -> None:
        with self._changed:
            self._gaps.append(reason)
            self._changed.notify_all()

    def wait(self, seconds: float) -> Ring | None:
        """What has been rung for since the last time; None when nothing was for so long."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._orders or self._gaps, seconds):
                return None
            ring = Ring(frozenset(self._orders), tuple(self._gaps))
            self._orders.clear()
            self._gaps.clear()
            return ring


class _Hearing:
    """One connection: what it carries, when it last gave a sign, and what it owes."""

    def __init__(self, patience: Patience, now: float) -> None:
        self.reader = Reader()
        self.missing = frozenset(CHANNELS)
        """Not acknowledged yet."""
        self._patience, self._sign_at, self._due_at, self._owed = patience, now, now, ""

    def take(self, heard: Heard, now: float) -> None:
        if isinstance(heard, Beat) and not self.missing:
            self._sign_at = now
        elif isinstance(heard, Subscribed) and self.missing:
            self.missing -= heard.channels
            if not self.missing:  # from here on all is told; what was before is to be asked for
                self._sign_at, self._owed = now, CONNECTED
        elif isinstance(heard, Missed):
            self._owed = self._owed or heard.reason

    def check(self, now: float) -> None:
        """Raises Lost when the venue has been silent, or has not carried out the subscriptions, for too long."""
        if now - self._sign_at > self._patience.silence:
            what = f"acknowledgement of {', '.join(sorted(self.missing))}" if self.missing else "heartbeat"
            raise Lost(f"no {what} for {now - self._sign_at:.0f} s")

    def due(self, now: float) -> str:
        """Why to look at everything and to subscribe anew; empty when there is no reason, or one was given just now.

        Were numbers to run otherwise than they do, every message would be a gap: the venue is not asked at that pace.
        """
        if not self._owed or now < self._due_at:
            return ""
        reason, self._owed = self._owed, ""
        self._due_at = now + self._patience.between_gaps
        return reason


class Stream:
    """Listens for one key until it is closed: heartbeats, orders (`user`) and prices (`ticker`) of the products.

    `on_wake` gets the venue's ids of orders that moved, `on_gap` why something may have been missed. Both are called in the
    listening thread, in order, and must be quick. Refuses a url that `mode` may not talk to.
    """

    def __init__(
        self,
        key: SigningKey,
        products: Sequence[str],
        *,
        mode: Mode,
        on_wake: Callable[[frozenset[str]], None],
        on_gap: Callable[[str], None],
        monotonic: Callable[[], float],
        url: str = URL,
        ca_file: Path | None = None,
        patience: Patience | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        check_url(url, mode)
        self.url, self.products = url, tuple(products)
        self.failure: Exception | None = None
        """What ended the listening thread, if anything did: nothing is heard any more, only asked for."""
        self.ticks: dict[str, Tick] = {}
        """The newest of each product, as the venue names it: BTC-USDC is told as BTC-USD."""
        self._key, self._ca_file = key, ca_file
        self._on_wake, self._on_gap = on_wake, on_gap
        self._monotonic, self._jitter = monotonic, jitter
        self._patience = patience or Patience()
        self._closed = Event()
        self._socket: Connection | None = None

    def __repr__(self) -> str:
        return f"Stream({self.url}, {', '.join(self.products)})"

    @contextmanager
    def listening(self) -> Iterator[Stream]:
        """Listens in a thread of its own for the length of the block. What ended that thread early is raised at the end."""
        thread = Thread(target=self._run_kept, name="coinbase stream", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.close()
            thread.join()
        if self.failure is not None:
            raise self.failure

    def _run_kept(self) -> None:
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - raised where the block ends: a thread's own errors reach nobody
            LOG.warning("coinbase stream: it ended by %s: %s", type(error).__name__, error)
            self.failure = error

    def close(self) -> None:
        """Ends `run`, with a close of the connection that the venue is told of. May be called from any thread."""
        self._closed.set()
        if (socket := self._socket) is not None:
            socket.close()

    def run(self) -> None:
        """Connects, listens, and connects again, for any reason and with any close code, until it is closed."""
        failures = 0
        while not self._closed.is_set():
            carried = False
            try:
                with self._opened() as socket:
                    for carried in self._listen(socket):
                        failures = 0 if carried else failures
            except Lost as error:
                if not self._closed.is_set():
                    LOG.warning("coinbase stream: %s: a new connection follows", error)
                    if carried:
                        self._on_gap(f"connection lost: {error}")
            self._closed.wait(self._backoff(failures))
            failures += 1

    def _backoff(self, failures: int) -> float:
        """Seconds to wait: drawn between nothing and a bound that doubles with each failure in a row."""
        patience = self._patience
        return self._jitter() * min(patience.backoff_most, patience.backoff_first * 2.0 ** min(failures, 16))

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        """An open connection over verified TLS. Raises Lost where it cannot be made, or when it ends."""
        import certifi  # noqa: PLC0415 - the command line starts without it
        from websockets.exceptions import WebSocketException  # noqa: PLC0415
        from websockets.sync.client import connect  # noqa: PLC0415

        quiet = logging.getLogger(f"{__name__}.frames")
        quiet.setLevel(logging.CRITICAL)  # at DEBUG it would print what is sent: tokens
        try:
            context = ssl.create_default_context(cafile=str(self._ca_file or certifi.where()))
            with connect(
                self.url, ssl=context, proxy=None, open_timeout=self._patience.opening, close_timeout=1,
                max_size=MESSAGE_BYTES_MAX, logger=quiet,
            ) as socket:  # fmt: skip
                self._socket = socket
                yield socket
        except (OSError, WebSocketException) as error:
            raise Lost(f"{type(error).__name__}: {error}") from error
        finally:
            self._socket = None

    def _listen(self, socket: Connection) -> Iterator[bool]:
        """Hears the connection out; yields, message by message, whether it carries all channels. Raises Lost."""
        hearing = _Hearing(self._patience, self._monotonic())
        self._subscribe(socket)
        while not self._closed.is_set():
            try:
                heard = hearing.reader.read(socket.recv(timeout=self._patience.silence / 10))
            except TimeoutError:
                heard = []
            now = self._monotonic()
            for one in heard:
                self._tell(one)
                hearing.take(one, now)
            hearing.check(now)
            reason = hearing.due(now)
            if reason:
                self._on_gap(reason)
            if reason not in ("", CONNECTED):
                self._subscribe(socket)
            yield not hearing.missing

    def _tell(self, heard: Heard) -> None:
        if isinstance(heard, Broken):
            raise Lost(heard.reason)
        if isinstance(heard, Orders):
            self._on_wake(heard.ids)
        elif isinstance(heard, Tick):
            self.ticks[heard.product] = heard

    def _subscribe(self, socket: Connection) -> None:
        """One message for each channel, each with a token of its own: one lives for two minutes."""
        from coinbase.jwt_generator import build_ws_jwt  # noqa: PLC0415 - as in `_opened`

        for channel in CHANNELS:
            token = build_ws_jwt(self._key.name.reveal(), self._key.private.reveal())
            socket.send(subscription(channel, () if channel == HEARTBEATS else self.products, token))


def check_url(url: str, mode: Mode) -> None:
    """Raises ConfigurationError unless the mode may talk to the url: live to Coinbase alone, rehearsal to loopback alone."""
    parts = urlsplit(url)
    if parts.scheme != "wss":
        raise ConfigurationError(f"coinbase: found {url!r}, expected wss://")
    if mode is Mode.LIVE and parts.netloc in HOSTS:
        return
    if mode is Mode.LIVE:
        raise ConfigurationError(f"coinbase: live: found {url!r}, expected wss:// and one of {', '.join(HOSTS)}")
    check_host(parts.netloc, mode)
