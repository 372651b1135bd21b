"""One simulated venue in its home folder: venue, clock and journal together. Every command goes through `do`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from trading.errors import ConfigurationError
from trading.money import dec, text
from trading.simulator.journal import CommandLog
from trading.simulator.tape import DAY, DEFAULT_PRICES, Recorded, Still, Synthetic, Tape
from trading.simulator.terms import read_time
from trading.simulator.venue import Reply, Venue

DEFAULT_BALANCES = {"USD": Decimal(100000), "USDC": Decimal(10000), "BTC": Decimal(1), "ETH": Decimal(10)}
_WARM_UP_CANDLES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a home was opened with; it keeps it for ever, because all that happened there follows from it."""

    prices: str = "synthetic"
    """`synthetic`, `still`, or the folder of recorded candles."""
    seed: int = 1
    balances: Mapping[str, Decimal] = field(default_factory=lambda: dict(DEFAULT_BALANCES))
    start: datetime | None = None
    """With a start the clock stands still at that time until it is moved; without one it is the wall clock."""


@dataclass(slots=True)
class Clock:
    """Venue time. It follows the wall clock, or stands until it is moved; it never goes back."""

    wall: Callable[[], datetime]
    stands_at: datetime | None = None
    ahead: timedelta = timedelta()
    skew: timedelta = timedelta()
    """A fault: what `/time` and the check of signatures add to the wall clock."""
    latest: datetime | None = None

    def now(self) -> datetime:
        at = self.stands_at if self.stands_at is not None else self.wall() + self.ahead
        self.latest = at if self.latest is None else max(self.latest, at)
        return self.latest

    def signing(self) -> datetime:
        """The time that signatures are checked at: the wall clock's, however the venue's own clock was set."""
        return self.wall() + self.skew

    def set(self, payload: Mapping[str, Any], now: datetime) -> None:
        """`at` (stand there), `advance` (seconds), `run` (follow the wall clock from here on), `skew` (seconds).

        `now` is the venue's time of the command: on a replay that of long ago.
        """
        unknown = set(payload) - {"at", "advance", "run", "skew", "wall"}
        if unknown:
            raise ConfigurationError(f"clock: found {', '.join(sorted(unknown))}, expected at, advance, run or skew")
        if "at" in payload:
            at = read_time(payload["at"])
            if at < now:
                raise ConfigurationError(f"clock: {payload['at']} lies before {now.isoformat()}, and time does not go back")
            self.stands_at = at
        if "advance" in payload:
            self._advance(now, timedelta(seconds=float(payload["advance"])))
        if payload.get("run"):
            # The wall at the command, not at the replay of it: a venue started again stands where it would have stood.
            self.ahead, self.stands_at = now - datetime.fromisoformat(payload["wall"]), None
        if "skew" in payload:
            self.skew = timedelta(seconds=float(payload["skew"]))

    def _advance(self, now: datetime, by: timedelta) -> None:
        if by < timedelta():
            raise ConfigurationError(f"clock: advance by {by.total_seconds()} s, and time does not go back")
        if self.stands_at is None:
            self.ahead += by
        else:
            self.stands_at = now + by


class Simulation:
    """A venue that was opened or opened again. Not for threads: one event loop drives it."""

    def __init__(self, home: Path, opening: Opening, wall: Callable[[], datetime]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.log = CommandLog(home / "venue.sqlite")
        self.clock = Clock(wall)
        commands = iter(self.log)
        first = next(commands, None)
        if first is None:
            genesis = _genesis(opening, wall())
            self.log.append(wall(), "open", genesis)
        else:
            genesis = first[2]
            _same(genesis, opening)
        self.venue = self._open(genesis)
        for at, name, payload in commands:
            with suppress(ConfigurationError):  # it was refused as senseless then, and changes nothing now
                self._carry_out(at, name, payload)
        self.venue.floor.changed.clear()

    def _open(self, genesis: Mapping[str, Any]) -> Venue:
        origin = datetime.fromisoformat(genesis["origin"])
        if genesis["stands"]:
            self.clock.stands_at = origin
        self.clock.latest = origin
        balances = {asset: Decimal(amount) for asset, amount in genesis["balances"].items()}
        return Venue(_tape(genesis), genesis["seed"], balances, origin)

    def now(self) -> datetime:
        """Venue time; the venue has lived up to it."""
        now = self.clock.now()
        self.venue.advance(now)
        return now

    def do(self, name: str, payload: Mapping[str, Any]) -> Reply:
        """Commits the command, carries it out, and gives the reply for the wire."""
        at = self.clock.now()
        if name == "clock":
            payload = {**payload, "wall": self.clock.wall().isoformat()}
        self.log.append(at, name, payload)
        return self._carry_out(at, name, payload)

    def _carry_out(self, at: datetime, name: str, payload: Mapping[str, Any]) -> Reply:
        self.clock.latest = at if self.clock.latest is None else max(self.clock.latest, at)
        self.venue.advance(at)
        try:
            if name == "clock":
                self.clock.set(payload, at)
                return {}
            return self.venue.apply(name, payload)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise ConfigurationError(f"{name}: {type(error).__name__} {error} in {dict(payload)!r}") from error


def _genesis(opening: Opening, wall: datetime) -> dict[str, Any]:
    origin, shift = opening.start or wall, 0
    if opening.prices not in ("synthetic", "still") and opening.start is None:
        shift = _shift(Recorded(Path(opening.prices), 0), wall)
    return {
        "prices": opening.prices, "seed": opening.seed, "shift": shift, "origin": origin.isoformat(),
        "stands": opening.start is not None, "balances": {asset: text(value) for asset, value in opening.balances.items()},
    }  # fmt: skip


def _shift(recorded: Recorded, wall: datetime) -> int:
    """Whole days from the recording to now, so that history lies before now and most of the recording after."""
    first, last = recorded.span()
    step = min(recorded.steps.values())
    begin = first + min(_WARM_UP_CANDLES * max(step, 3600), (last - first) // 2)
    return (int(wall.timestamp()) - begin) // DAY * DAY


def _tape(genesis: Mapping[str, Any]) -> Tape:
    if genesis["prices"] == "still":
        return Still(DEFAULT_PRICES)
    if genesis["prices"] == "synthetic":
        return Synthetic(genesis["seed"])
    return Recorded(Path(genesis["prices"]), genesis["shift"])


def _same(genesis: Mapping[str, Any], opening: Opening) -> None:
    """Raises ConfigurationError when a home is opened with other prices or another seed than it has."""
    asked = {"prices": opening.prices, "seed": opening.seed}
    wrong = [
        f"{name}: this home was opened with {genesis[name]!r}, found {value!r}"
        for name, value in asked.items()
        if genesis[name] != value
    ]
    if wrong:
        raise ConfigurationError(wrong)


def parse_balances(value: str) -> dict[str, Decimal]:
    """`USD=1000,BTC=0.5`; raises ConfigurationError for anything else."""
    parts = [part.partition("=") for part in value.split(",") if part]
    return {asset.strip(): dec(amount.strip(), f"balance of {asset}") for asset, _, amount in parts}


def as_json(value: object) -> str:
    """JSON for control replies: decimals as text, times as ISO 8601."""
    return json.dumps(value, default=lambda item: text(item) if isinstance(item, Decimal) else item.isoformat())
