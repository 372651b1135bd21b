"""Proof of a decision: the same data, plan and code lead to the same signals, requests and refusals, byte for byte.

What a slot was decided on is stored with it (`trading.decision`). A replay reads the stored candles, checks them against the
hash that they had, derives the decision anew and compares texts. A difference without a change of code or data is a break.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import chain
from typing import Any

from pydantic import ValidationError

from trading import strategies
from trading.breaks import Difference, react
from trading.breaks import write_down as write_breaks
from trading.decision import (
    Decision,
    Grid,
    Seen,
    Standing,
    code_sha256,
    decide,
    decided_text,
    evaluation_body,
    opinions_of,
    read_seen,
    rules_text,
    seen_text,
)
from trading.desk import Desk
from trading.errors import ConfigurationError
from trading.market import FIELDS, Candles, Market, interval_seconds
from trading.money import canonical, digest
from trading.plan import Plan
from trading.portfolio import Portfolio
from trading.store.candles import CandleStore
from trading.store.database import Connection
from trading.store.decisions import Decisions, StoredDecision
from trading.store.journal import Change

SAMPLE = 24
"""Decisions that the daily reconciliation derives anew: the newest ones of the plan."""


def write_down(
    desk: Desk, change: Change, slot_at: datetime, decision: Decision, market: Market, portfolio: Portfolio, standing: Standing
) -> None:
    """Adds what the slot was decided on, and what it came to. The venue's rules are stored once, by their hash."""
    rules = rules_text(market)
    rules_sha256 = digest(rules)
    if not desk.books.has_configuration(rules_sha256):
        change.add("configuration", sha256=rules_sha256, kind="rules", body=rules)
    seen = seen_text(market, portfolio, standing, rules_sha256)
    change.add("decisions", book=desk.book, plan=desk.plan.name, slot_at=slot_at, plan_sha=desk.plan.sha256,
               code=code_sha256(desk.strategy), seen=seen, decided=decided_text(decision))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A stored decision against the one that is derived from the same data now."""

    book: str
    slot: str
    differences: tuple[str, ...]
    """`what: stored …, now …`; empty when every byte is the same."""
    code_changed: bool = False
    """The code that decides, or a library that it computes with, is not the one that decided then."""
    data_changed: bool = False
    """The stored candles are not the ones that were seen: some came later, or are missing."""
    requests: int = 0
    refused: int = 0

    @property
    def same(self) -> bool:
        return not self.differences

    @property
    def unexplained(self) -> bool:
        """The same code and data lead to another decision: that must not happen."""
        return not self.same and not self.code_changed and not self.data_changed

    def __str__(self) -> str:
        changed = [what for what, is_so in (("code", self.code_changed), ("data", self.data_changed)) if is_so]
        since = f" ({' and '.join(changed)} changed since)" if changed else ""
        judged = f"{self.requests} requests, {self.refused} refused"
        found = f"the same, {judged}" if self.same else f"{len(self.differences)} differences"
        return f"{self.slot}: {found}{since}"


def replay(connection: Connection, stored: Sequence[StoredDecision]) -> Iterator[Replayed]:
    """Derives each decision anew and compares, in the order given; candles, plans and rules are read once for all of them.

    Raises ConfigurationError for a decision that this version's code cannot read, or whose plan is not in the ledger.
    """
    decisions = Decisions(connection)
    configuration = cache(decisions.configuration)
    plan_of = cache(lambda sha256: _plan(configuration(sha256)))
    seen = [_seen(one) for one in stored]
    windows = _windows(connection, stored, seen)
    for one, saw in zip(stored, seen, strict=True):
        candles = _part(windows[_key(one, saw)], saw.grid)
        market = saw.market_with(candles, configuration(saw.rules_sha256))
        yield _compared(one, saw, market, *plan_of(one.plan_sha))


def _plan(text: str) -> tuple[Plan, strategies.Strategy]:
    plan = Plan.model_validate_json(text)
    return plan, strategies.create(plan.strategy)


def _compared(stored: StoredDecision, seen: Seen, market: Market, plan: Plan, strategy: strategies.Strategy) -> Replayed:
    decision = decide(plan, strategy, opinions_of(strategy, market.candles), market, seen.portfolio, seen.standing)
    now = market.candles.digest()
    differences = chain(
        _leaves("candles", seen.grid.sha256, now),
        _decided_differently(stored.decided, decided_text(decision)),
        _judged_differently(stored.evaluations, [evaluation_body(judged) for judged in decision.judged]),
    )
    return Replayed(
        book=stored.book,
        slot=stored.slot,
        differences=tuple(differences),
        code_changed=stored.code != code_sha256(strategy),
        data_changed=now != seen.grid.sha256,
        requests=len(stored.evaluations),
        refused=sum(1 for row in stored.evaluations if not row["approved"]),
    )


def _seen(stored: StoredDecision) -> Seen:
    try:
        return read_seen(stored.seen)
    except (ValidationError, KeyError) as error:
        raise ConfigurationError(f"decision {stored.slot}: this version's code cannot read what was seen: {error}") from error


def _decided_differently(stored: str, now: str) -> Iterator[str]:
    if stored == now:
        return
    before, after = json.loads(stored), json.loads(now)
    for name in sorted(before.keys() | after.keys()):
        yield from _leaves(name, before.get(name), after.get(name))


def _judged_differently(stored: Sequence[Mapping[str, Any]], now: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Request by request: its terms, and every check with what it observed."""
    before = {(row["product"], row["leg"]): canonical(row["body"]) for row in stored}
    after = {(body["request"]["product"], body["request"]["leg"]): canonical(body) for body in now}
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key):
            continue
        name = f"request {key[0]}/{key[1]}"
        yield from _leaves(name, *(None if side.get(key) is None else json.loads(side[key]) for side in (before, after)))


def _leaves(name: str, stored: Any, now: Any) -> Iterator[str]:
    """`name.key: stored X, now Y` for each value that is not the same."""
    if stored == now:
        return
    if isinstance(stored, dict) and isinstance(now, dict):
        for key in sorted(stored.keys() | now.keys()):
            yield from _leaves(f"{name}.{key}", stored.get(key), now.get(key))
    elif isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        for place, (one, other) in enumerate(zip(stored, now, strict=True)):
            label = one["code"] if isinstance(one, dict) and "code" in one else str(place)
            yield from _leaves(f"{name}.{label}", one, other)
    else:
        yield f"{name}: stored {_spelled(stored)}, now {_spelled(now)}"


def _spelled(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)


# ------------------------------------------------------------------------------------------------- the candles

_Key = tuple[str, tuple[str, ...], str]
"""Market source, products, interval."""


def _key(stored: StoredDecision, seen: Seen) -> _Key:
    return stored.source, seen.grid.products, seen.grid.interval


def _windows(connection: Connection, stored: Sequence[StoredDecision], seen: Sequence[Seen]) -> dict[_Key, Candles]:
    """The stored candles from the first that any of the decisions saw to the last, for each source, products and interval."""
    grids: dict[_Key, list[Grid]] = {}
    for one, saw in zip(stored, seen, strict=True):
        grids.setdefault(_key(one, saw), []).append(saw.grid)
    return {key: _window(connection, key, of_key) for key, of_key in grids.items()}


def _window(connection: Connection, key: _Key, grids: Sequence[Grid]) -> Candles:
    source, products, interval = key
    end = max(grid.end for grid in grids)
    length = max(_steps(end - grid.end, interval) + grid.length for grid in grids)
    return CandleStore(connection, source).load(products, interval, end, length)


def _part(window: Candles, grid: Grid) -> Candles:
    """The candles of the grid out of the window: whole rows, laid out in memory as they were then."""
    stop = len(window.starts) - _steps(window.closes_at - grid.end, grid.interval)
    rows = slice(stop - grid.length, stop)
    return replace(window, starts=window.starts[rows], **{name: getattr(window, name)[rows] for name in FIELDS})


def _steps(span: timedelta, interval: str) -> int:
    return int(span.total_seconds()) // interval_seconds(interval)


# ------------------------------------------------------------------------------------------------- the daily sample


@dataclass(frozen=True, slots=True)
class Sample:
    """What the daily look at a plan's newest decisions found."""

    derived: int
    differing: tuple[str, ...]
    """Those that come out otherwise, though neither code nor data changed: each is a break."""

    @property
    def clean(self) -> bool:
        return not self.differing


def prove(desk: Desk, count: int = SAMPLE) -> Sample:
    """Derives the plan's newest decisions anew; one that differs without a change of code or data is a break.

    Needs the portfolio's lock. What other code decided is left out: this one need not even be able to read it.
    """
    newest = Decisions(desk.books.connection).newest(desk.book, desk.plan.name, count)
    ours = [stored for stored in newest if stored.code == code_sha256(desk.strategy)]
    found = list(replay(desk.books.connection, ours))
    differing = [one for one in found if one.unexplained]
    change = Change()
    write_breaks(desk, change, map(_difference, differing))
    if change:
        desk.journal.record("reconcile", change)
        react(desk)
    return Sample(len(found), tuple(map(str, differing)))


def _difference(replayed: Replayed) -> Difference:
    first = replayed.differences[0]
    return Difference(kind="replay", subject=replayed.slot, ours=f"{len(replayed.differences)} differences", theirs=first[:500])
