"""Real orders: where they go, with which keys, and what must hold before one is sent. Live is Coinbase, rehearsal the simulator.

A rehearsal is the live code against a simulated Coinbase on loopback: address, CA and keys are those that the simulator left
in its home, time is the simulator's, and limits may come from the plan's profile. All else is as live.
"""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from config.anchors import evidence
from config.clock import wall_clock
from config.credentials import CoinbaseKey, Secret, get_credentials_manager
from config.credentials.keys import coinbase_key
from config.settings import Settings, load
from trading.desk import Desk
from trading.errors import ConfigurationError, Unanswered
from trading.exchange.coinbase import CoinbaseExchange, CoinbaseMarket
from trading.exchange.coinbase.connection import HOST
from trading.exchange.coinbase.stream import URL, Doorbell, Stream
from trading.money import text
from trading.orders import Mode
from trading.plan import Plan
from trading.risk import BreakerState, strictest
from trading.safety import Safety, SafetyCheck, Standing, check_standing, check_venue, rights
from trading.store.anchoring import anchor_age, unheld
from trading.store.standing import RampStep, armed_until, ramp_steps, reconciled_at

_CONNECT_SECONDS = 3.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """Where real orders go: address, trust, keys, and the venue's own time."""

    name: str
    """`coinbase`, or `simulator`: candles and breaker of the one are never those of the other."""
    host: str
    stream_url: str
    ca_file: Path | None
    trade_key: CoinbaseKey | None
    """None in a process that may only look."""
    view_key: CoinbaseKey | None
    clock: Callable[[], datetime]
    problems: tuple[SafetyCheck, ...]
    """What the settings alone say: switches, keys, limits."""


def venue_of(mode: Mode, settings: Settings, *, trades: bool = True) -> Venue:
    """The venue of a mode. `trades` is False for a process that only settles and reconciles: it never asks for the trade key.

    Raises ConfigurationError when there is no simulator to rehearse against. A missing key is a failed check.
    """
    return _live(settings, trades=trades) if mode is Mode.LIVE else _rehearsal(settings, trades=trades)


def environment(mode: Mode) -> Mapping[str, str]:
    """What a plan's limits are read from: the environment, and `.env.coinbase` where orders are real."""
    return os.environ if mode is Mode.PAPER else {**get_credentials_manager().environment(), **os.environ}


def exchange_of(venue: Venue, mode: Mode, settings: Settings) -> CoinbaseExchange:
    exchange = CoinbaseExchange(
        venue.trade_key, view_key=venue.view_key, mode=mode, host=venue.host, ca_file=venue.ca_file,
        timeout=(min(_CONNECT_SECONDS, settings.timeout_seconds), settings.timeout_seconds),
        monotonic=time.monotonic, sleep=time.sleep,
    )  # fmt: skip
    exchange.name = venue.name
    return exchange


def market_of(venue: Venue, settings: Settings) -> CoinbaseMarket:
    """Prices of the venue that the orders go to, and of no other."""
    market = CoinbaseMarket(
        clock=venue.clock, monotonic=time.monotonic, sleep=time.sleep, base_url=venue.host, ca_file=venue.ca_file,
        timeout=(min(_CONNECT_SECONDS, settings.timeout_seconds), settings.timeout_seconds),
        requests_per_second=settings.requests_per_second,
    )  # fmt: skip
    market.name = venue.name
    return market


def stream_of(venue: Venue, mode: Mode, products: Sequence[str], bell: Doorbell) -> Stream:
    """Listens with the key that only views, and rings the bell. Raises ConfigurationError without that key."""
    if venue.view_key is None:
        raise ConfigurationError("stream: found no key that views, expected one (keel credentials set --view)")
    return Stream(
        venue.view_key, products, mode=mode, on_wake=bell.ring, on_gap=bell.ring_for_all, monotonic=time.monotonic,
        url=venue.stream_url, ca_file=venue.ca_file,
    )  # fmt: skip


def checks_of(desk: Desk, exchange: CoinbaseExchange, venue: Venue, settings: Settings) -> Callable[[], Safety]:
    """What makes every check of live trading, when it is called: settings, venue, ledger."""

    def check() -> Safety:
        return Safety((
            *venue.problems,
            *check_venue(exchange, desk.plan.products, wall_clock),
            *check_standing(_standing(desk, settings), desk.wall()),
        ))  # fmt: skip

    return check


def _standing(desk: Desk, settings: Settings) -> Standing:
    found = evidence(settings)
    connection = desk.books.connection
    verdict = strictest(desk.books.breakers(desk.scopes), desk.scopes)
    open_at = f"{verdict.scope} is open: {verdict.reason}" if verdict.state is BreakerState.OPEN else ""
    return Standing(
        reconciled_at=reconciled_at(connection, desk.book),
        open_breaks=len(desk.books.open_breaks(desk.book)),
        breaker=open_at,
        armed_until=armed_until(connection, desk.book),
        anchor_age=None if found is None else anchor_age(connection, found, wall_clock()),
        chain="" if found is None else "; ".join(unheld(connection, found)),
        ramp=over_ramp(desk.plan, ramp_steps(connection, desk.book, desk.plan.name)),
    )


def rights_of(which: Literal["trade", "view"]) -> tuple[str | None, str]:
    """What Coinbase says that the key may do, and what is wrong with that; None where it did not answer."""
    manager, settings = get_credentials_manager(), load()
    key = manager.get_coinbase_credentials() if which == "trade" else manager.get_coinbase_view_credentials()
    mode = Mode.LIVE if settings.coinbase_host == HOST else Mode.REHEARSAL  # nothing but those two is asked
    venue = Venue(name="coinbase", host=settings.coinbase_host, stream_url=URL, ca_file=settings.ca_file, clock=wall_clock,
                  trade_key=key, view_key=None, problems=())  # fmt: skip
    try:
        may = exchange_of(venue, mode, settings).permissions()
    except Unanswered as error:
        return None, str(error)
    found, expected = rights(may), "view and trade" if which == "trade" else "view"
    return found, "" if found == expected else f"found a key that may {found}, expected one that may {expected} and no more"


def over_ramp(plan: Plan, steps: Sequence[RampStep]) -> str:
    """How the plan's capital is over the step of its ramp; empty when it is not. A plan's ramp may be lowered at any time."""
    step = steps[0].step if steps else 0
    allowed = plan.ramp.steps[min(step, len(plan.ramp.steps) - 1)]
    return "" if plan.capital <= allowed else f"capital {text(plan.capital)} on step {step} of {text(allowed)}"


# ------------------------------------------------------------------------------------------------------------- live


def settings_checks(mode: Mode) -> tuple[SafetyCheck, ...]:
    """What switches, keys and limits say, without asking anybody. A rehearsal needs none: it cannot reach Coinbase."""
    return _live(load(), trades=True).problems if mode is Mode.LIVE else ()


def _live(settings: Settings, *, trades: bool) -> Venue:
    manager = get_credentials_manager()
    trade_key, no_key = _key(manager.get_coinbase_credentials) if trades else (None, "")
    view_key, no_view = _key(manager.get_coinbase_view_credentials)
    switches = manager.switches()
    same = trade_key is not None and view_key is not None and trade_key.fingerprint == view_key.fingerprint
    unset = manager.unset_limits()
    conflicts = "; ".join(switches.conflicts)
    seen = "the trade key" if same else no_view or _found(view_key)
    rows = (
        ("PAPER_TRADING", not switches.paper_trading, str(switches.paper_trading).lower(), "false"),
        ("LIVE_TRADING_ENABLED", switches.live_trading_enabled, str(switches.live_trading_enabled).lower(), "true"),
        ("ENVIRONMENT", switches.environment == "production", switches.environment, "production"),
        ("conflicts", not conflicts, conflicts or "none", "no setting in two ways"),
        ("credentials", trade_key is not None, no_key or _found(trade_key), "a key that may trade (keel credentials set)"),
        ("view_credentials", view_key is not None and not same, seen, "a key of its own that may only view"),
        ("limits", not unset, f"unset: {', '.join(unset)}" if unset else "all set", "every risk limit set by you"),
    )
    return Venue(
        name="coinbase", host=settings.coinbase_host, stream_url=URL, ca_file=settings.ca_file, clock=wall_clock,
        trade_key=trade_key, view_key=view_key,
        problems=tuple(SafetyCheck(name=name, ok=ok, found=found, expected=expected) for name, ok, found, expected in rows),
    )  # fmt: skip


def _found(key: CoinbaseKey | None) -> str:
    return "none: this process only looks" if key is None else f"key {key.fingerprint}"


def _key(find: Callable[[], CoinbaseKey]) -> tuple[CoinbaseKey | None, str]:
    try:
        return find(), ""
    except ConfigurationError as error:
        return None, "; ".join(error.problems)


# -------------------------------------------------------------------------------------------------------- rehearsal


def _rehearsal(settings: Settings, *, trades: bool) -> Venue:
    home = settings.simulator_home or settings.home / "simulator"
    try:
        ready = json.loads((home / "ready.json").read_text(encoding="utf-8"))
        host, stream_url, ca_file = str(ready["host"]), str(ready["ws_url"]), Path(ready["ca_file"])
        keys = {name: _simulated_key(Path(ready["keys"][name])) for name in (("trade", "view") if trades else ("view",))}
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"rehearsal: found no simulator in {home} ({type(error).__name__}), expected one that runs: "
            f"keel simulator --home {home}"
        ) from None
    return Venue(
        name="simulator", host=host, stream_url=stream_url, ca_file=ca_file,
        trade_key=keys.get("trade"), view_key=keys["view"],
        clock=_simulated_clock(host, ca_file), problems=(),
    )  # fmt: skip


def _simulated_key(file: Path) -> CoinbaseKey:
    parts = json.loads(file.read_text(encoding="utf-8"))
    return coinbase_key(Secret(parts["name"]), Secret(parts["privateKey"]), str(file))


def _simulated_clock(host: str, ca_file: Path) -> Callable[[], datetime]:
    """The simulator's time as it is when the desk is opened: where it stands, or the wall clock moved by the difference."""
    try:
        trusted = ssl.create_default_context(cafile=ca_file)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted))
        with opener.open(f"https://{host}/sim/clock", timeout=5) as reply:
            told = json.loads(reply.read())
            at, stands = datetime.fromisoformat(told["at"]), bool(told["stands"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"rehearsal: found no simulator at {host} ({error}), expected one that runs: keel simulator"
        ) from None
    offset: timedelta = at - wall_clock()
    return (lambda: at) if stands else (lambda: wall_clock() + offset)
