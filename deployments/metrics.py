"""What the ledger says, in the OpenMetrics format: read when it is asked for, from the same reading as the dashboard.

Every family is one row of `FAMILIES`; the table in `docs/dashboard.md` is made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, StateSetMetricFamily
from prometheus_client.registry import Collector

from config.clock import wall_clock
from trading.dashboard import Snapshot, desks, take
from trading.errors import LedgerUnavailable
from trading.store.meters import fill_count, refusals, step_seconds
from trading.store.mirroring import SUPABASE, lag
from trading.store.rows import HeartbeatRow

if TYPE_CHECKING:
    from trading.store.reports import Reports, Scope

HOST, PORT = "127.0.0.1", 9464
BREAKER_STATES = ("closed", "half_open", "open")
DESK = ("mode", "portfolio", "plan")
Samples = Iterable[tuple[tuple[str, ...], Decimal | float | int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one plan's samples are taken from."""

    seen: Snapshot
    now: datetime
    fills: int
    refused: Mapping[str, int]
    steps: Mapping[str, float]

    def age(self, at: datetime | None) -> float | None:
        return None if at is None else max((self.now - at).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric family; `samples` gives values by the family's own labels. A value of None is left out: it is not known."""

    name: str
    kind: str
    means: str
    samples: Callable[[Reading], Samples]
    unit: str = ""
    labels: tuple[str, ...] = field(default=())


def _one(value: Callable[[Reading], Decimal | float | int | None]) -> Callable[[Reading], Samples]:
    return lambda reading: [((), value(reading))]


def _by(values: Callable[[Reading], Mapping[str, Decimal | float | int]]) -> Callable[[Reading], Samples]:
    return lambda reading: [((key,), value) for key, value in values(reading).items()]


def _breaks(reading: Reading) -> dict[str, int]:
    found = {str(severity): 0 for severity in (1, 2, 3)}
    for row in reading.seen.breaks:
        found[str(row.severity)] = found.get(str(row.severity), 0) + 1
    return found


def _reconciled(reading: Reading) -> float | None:
    return reading.age(max((row["at"] for row in reading.seen.reconciliations if row["clean"]), default=None))


def _drawdown(reading: Reading) -> Decimal | None:
    return reading.seen.risk.figures.drawdown if reading.seen.risk else None


def _limits(reading: Reading) -> Samples:
    risk = reading.seen.risk
    return [((use.code,), use.share) for use in risk.limits] if risk else []


FAMILIES = (
    Family(name="keel_orders", kind="gauge", labels=("state",), means="orders that stand in the state",
           samples=_by(lambda reading: reading.seen.outcomes)),
    Family(name="keel_fills", kind="counter", means="executions", samples=_one(lambda reading: reading.fills)),
    Family(name="keel_refusals", kind="counter", labels=("code",), means="requests that the check refused",
           samples=_by(lambda reading: reading.refused)),
    Family(name="keel_equity", kind="gauge", labels=("asset",), means="worth now, in units of the asset",
           samples=lambda reading: [((reading.seen.equity.asset,), reading.seen.equity.equity)]),
    Family(name="keel_cash", kind="gauge", labels=("asset",), means="cash, in units of the asset",
           samples=lambda reading: [((reading.seen.equity.asset,), reading.seen.equity.cash)]),
    Family(name="keel_result", kind="gauge", labels=("asset", "part"),
           means="won (plus) or lost since the opening, in units of the asset: realised and unrealised, before fees",
           samples=lambda reading: [((reading.seen.equity.asset, "realised"), reading.seen.equity.realised),
                                    ((reading.seen.equity.asset, "unrealised"), reading.seen.equity.unrealised)]),
    Family(name="keel_fees", kind="gauge", labels=("asset",), means="fees paid since the opening, in units of the asset",
           samples=lambda reading: [((reading.seen.equity.asset,), reading.seen.equity.fees)]),
    Family(name="keel_exposure_ratio", kind="gauge", unit="ratio", means="invested share of equity",
           samples=_one(lambda reading: reading.seen.equity.exposure)),
    Family(name="keel_drawdown_ratio", kind="gauge", unit="ratio", means="1 − equity ÷ highest equity so far",
           samples=_one(_drawdown)),
    Family(name="keel_limit_used_ratio", kind="gauge", unit="ratio", labels=("limit",),
           means="what stands against a limit ÷ the limit", samples=_limits),
    Family(name="keel_doubts", kind="gauge", means="orders whose fate is unknown",
           samples=_one(lambda reading: reading.seen.doubts)),
    Family(name="keel_open_breaks", kind="gauge", labels=("severity",),
           means="differences that nobody has resolved; 1 is the worst", samples=_by(_breaks)),
    Family(name="keel_reconcile_age_seconds", kind="gauge", unit="seconds", means="since the newest clean reconciliation",
           samples=_one(_reconciled)),
    Family(name="keel_anchor_age_seconds", kind="gauge", unit="seconds", means="since the newest anchor on record was signed",
           samples=_one(lambda reading: reading.age(reading.seen.anchored_at))),
    Family(name="keel_cycle_step_seconds", kind="gauge", unit="seconds", labels=("step",),
           means="of the newest finished cycle, until each kind of record, since the one before",
           samples=_by(lambda reading: reading.steps)),
)  # fmt: skip
LEDGER_UP = ("keel_ledger_up", "gauge", "1 while the ledger answers; without it nothing else is told")
MIRROR_RECORDS = ("keel_mirror_lag_records", "gauge", "changes that the mirror in Supabase waits for; left out without one")
MIRROR_AGE = ("keel_mirror_lag_seconds", "gauge", "age of the oldest of them")
HEARTBEAT = (
    "keel_heartbeat_age_seconds",
    "gauge",
    "since the process last said that it is well; left out once it was told to stop",
)
BREAKER = ("keel_breaker", "stateset", "state of each breaker that binds the plan")
_KINDS: dict[str, type[GaugeMetricFamily | CounterMetricFamily]] = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}


class LedgerMetrics(Collector):
    """Reads the ledger at each scrape."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports

    def describe(self) -> list[Metric]:
        return []  # nothing is read before it is asked for

    def collect(self) -> Iterator[Metric]:
        try:
            now = wall_clock()
            readings = [found for scope in desks(self.reports) if (found := self._read(scope, now))]
            beats = self.reports.heartbeats()
            with self.reports.driver() as connection:
                behind = lag(connection, SUPABASE)
        except LedgerUnavailable:
            yield GaugeMetricFamily(LEDGER_UP[0], LEDGER_UP[2], value=0)
            return
        yield GaugeMetricFamily(LEDGER_UP[0], LEDGER_UP[2], value=1)
        yield from (_family(family, readings) for family in FAMILIES)
        yield _breakers(readings)
        yield _heartbeats(beats, now)
        if behind is not None:
            yield GaugeMetricFamily(MIRROR_RECORDS[0], MIRROR_RECORDS[2], value=behind.records)
            yield GaugeMetricFamily(MIRROR_AGE[0], MIRROR_AGE[2], value=behind.seconds, unit="seconds")

    def _read(self, scope: Scope, now: datetime) -> Reading | None:
        seen = take(self.reports, scope, now)
        if seen is None:
            return None
        return Reading(
            seen=seen, now=now, fills=fill_count(self.reports, seen.scope), refused=refusals(self.reports, seen.scope),
            steps=step_seconds(self.reports, seen.scope),
        )  # fmt: skip


def _desk(reading: Reading) -> tuple[str, ...]:
    scope = reading.seen.scope
    return str(scope.mode), str(scope.portfolio), str(scope.plan)


def _family(family: Family, readings: Iterable[Reading]) -> Metric:
    made = _KINDS[family.kind](family.name, family.means, labels=(*DESK, *family.labels), unit=family.unit)
    for reading in readings:
        for labels, value in family.samples(reading):
            if value is not None:
                made.add_metric((*_desk(reading), *labels), float(value))
    return made


def _breakers(readings: Iterable[Reading]) -> Metric:
    made = StateSetMetricFamily(BREAKER[0], BREAKER[2], labels=(*DESK, "scope"))
    for reading in readings:
        for row in reading.seen.breakers:
            made.add_metric((*_desk(reading), row.scope), {state: state == row.state for state in BREAKER_STATES})
    return made


def _heartbeats(beats: Iterable[HeartbeatRow], now: datetime) -> Metric:
    made = GaugeMetricFamily(HEARTBEAT[0], HEARTBEAT[2], labels=("process",), unit="seconds")
    for row in beats:
        if not row.stopped:
            made.add_metric((row.process,), max((now - row.at).total_seconds(), 0.0))
    return made


def table() -> list[str]:
    """The families as lines of a Markdown table: name as it is scraped, type, labels, meaning."""
    rows = [(LEDGER_UP, ()), *((_told(family), (*DESK, *family.labels)) for family in FAMILIES),
            (BREAKER, (*DESK, "scope")), (HEARTBEAT, ("process",)), (MIRROR_RECORDS, ()), (MIRROR_AGE, ())]  # fmt: skip
    return ["| Metric | Type | Labels | Meaning |", "|---|---|---|---|"] + [
        f"| `{name}` | {kind} | {', '.join(labels) or '–'} | {means} |" for (name, kind, means), labels in rows
    ]


def _told(family: Family) -> tuple[str, str, str]:
    return f"{family.name}_total" if family.kind == "counter" else family.name, family.kind, family.means
