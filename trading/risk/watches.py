"""The breaker's other triggers, as a table: what the ledger, the venue and the machine say, beside a portfolio's own figures.

A sign that was looked for and could not be known trips as well; one that does not apply is not among the signs. Windows are of
wall time, except that results (weekly loss, exits, slippage) go by market time and begin anew at each resume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from trading.money import ONE, ZERO
from trading.plan import BreakerRules, Controls
from trading.risk.breaker import Cause, Level, Violation

Signs = Mapping[str, Decimal | None]

VENUE_CLOCK_SECONDS = Decimal(10)
"""Between our clock and the venue's: its signatures live two minutes, and a day's limits are counted by our clock."""


class Where(StrEnum):
    """Whose breaker a watch opens."""

    GLOBAL = "global"
    VENUE = "venue"
    PORTFOLIO = "portfolio"
    STRATEGY = "strategy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One sign, its limit, and what happens when it is reached (`above`: when it is exceeded)."""

    code: str
    where: Where
    level: Level
    cause: Cause
    limit: Callable[[BreakerRules, Controls], Decimal | None]
    """None: no limit here, the watch does not apply."""
    means: str
    do: str
    """The runbook's line: what its owner does first."""
    above: bool = False
    owner: str = "operator"

    def trips(self, observed: Decimal, limit: Decimal) -> bool:
        return observed > limit if self.above else observed >= limit


def _fixed(value: Decimal) -> Callable[[BreakerRules, Controls], Decimal]:
    return lambda _rules, _controls: value


WATCHES = (
    Watch(code="weekly_loss", where=Where.STRATEGY, level=Level.REDUCE_ONLY, cause=Cause.LOSS,
          limit=lambda rules, _: rules.max_weekly_loss, means="1 − equity ÷ equity of seven days ago, open results included",
          do="read the report of the week; resume with smaller limits, or change the plan"),
    Watch(code="losing_exits", where=Where.STRATEGY, level=Level.REDUCE_ONLY, cause=Cause.LOSS,
          limit=lambda rules, _: Decimal(rules.max_losing_exits), means="sales in a row that lost",
          do="look at the last exits (`keel fills`) and at the market they were made in"),
    Watch(code="mean_slippage", where=Where.STRATEGY, level=Level.REDUCE_ONLY, cause=Cause.LOSS, above=True,
          limit=lambda _, controls: controls.max_mean_slippage,
          means="mean of the last ten fills' slippage, a ratio of the price at the decision",
          do="compare size with the book's depth; trade less, or with limit orders"),
    Watch(code="rejects", where=Where.STRATEGY, level=Level.NO_NEW, cause=Cause.DOUBT,
          limit=lambda rules, _: Decimal(rules.max_rejects), means="orders that the venue rejected within 10 minutes",
          do="read the venue's words (`keel explain`): rights, increments, funds, product status"),
    Watch(code="read_failures", where=Where.VENUE, level=Level.NO_NEW, cause=Cause.DOUBT,
          limit=lambda rules, _: Decimal(rules.max_read_failures), means="reads of the venue that failed within 2 minutes",
          do="look at the venue's status page and at this machine's network; resume when `keel reconcile` is clean"),
    Watch(code="doubt_age_seconds", where=Where.PORTFOLIO, level=Level.NO_NEW, cause=Cause.DOUBT,
          limit=lambda rules, _: Decimal(rules.max_doubt_seconds), means="age of the oldest order whose fate is unknown",
          do="`keel reconcile`; then look for the order at the venue by its client id"),
    Watch(code="doubts", where=Where.PORTFOLIO, level=Level.NO_NEW, cause=Cause.DOUBT,
          limit=lambda rules, _: Decimal(rules.max_doubts), means="orders whose fate is unknown",
          do="`keel reconcile`; what stays in doubt is looked for at the venue by its client id"),
    Watch(code="clock_offset_seconds", where=Where.GLOBAL, level=Level.NO_NEW, cause=Cause.DOUBT, above=True,
          limit=_fixed(ONE), means="this machine's clock against the ledger's",
          do="look at the time service of this machine (`timedatectl`); trade again once it is in step"),
    Watch(code="venue_clock_seconds", where=Where.VENUE, level=Level.NO_NEW, cause=Cause.DOUBT, above=True,
          limit=_fixed(VENUE_CLOCK_SECONDS), means="this machine's clock against the venue's",
          do="look at the time service of this machine (`timedatectl`); if it is in step, at the venue's status page"),
    Watch(code="permission_drift", where=Where.VENUE, level=Level.CANCEL, cause=Cause.DOUBT, above=True,
          limit=_fixed(ZERO), means="rights that the venue gives the two keys otherwise than they were armed with",
          do="if it was not you, revoke the keys at the venue; `keel credentials rotate`, `keel check-live`, resume, arm anew"),
    Watch(code="clock_step_seconds", where=Where.GLOBAL, level=Level.NO_NEW, cause=Cause.DOUBT, above=True,
          limit=_fixed(ONE), means="how far this machine's clock is behind a time that it has told before",
          do="as for the offset: somebody or something set the clock back"),
    Watch(code="disk_used", where=Where.GLOBAL, level=Level.NO_NEW, cause=Cause.DOUBT, above=True,
          limit=_fixed(Decimal("0.90")), means="used share of the disk that holds the state folder",
          do="make room: logs, old snapshots; a full disk stops the ledger"),
    Watch(code="code_versions", where=Where.GLOBAL, level=Level.CANCEL, cause=Cause.DOUBT, above=True,
          limit=_fixed(ONE), means="different versions of the code among the processes that run now",
          do="`keel down`, on every machine; start one version"),
    Watch(code="configurations", where=Where.GLOBAL, level=Level.CANCEL, cause=Cause.DOUBT, above=True,
          limit=_fixed(ONE), means="different configurations among the processes that run now",
          do="`keel down`, on every machine; start with one configuration"),
    Watch(code="heartbeat_age_seconds", where=Where.GLOBAL, level=Level.CANCEL, cause=Cause.DOUBT,
          limit=lambda rules, _: Decimal(rules.max_silence_seconds),
          means="time since the stack last said that its server and worker are well",
          do="`keel status`, then `keel up`; the next run settles what was left"),
    Watch(code="unclaimed_slot_seconds", where=Where.GLOBAL, level=Level.CANCEL, cause=Cause.DOUBT,
          limit=lambda rules, _: Decimal(rules.max_unclaimed_seconds),
          means="how long a slot that was due has gone without a run that claimed it",
          do="`keel status`; look at the deployment's schedule and at the worker's log"),
)  # fmt: skip
BY_CODE = {watch.code: watch for watch in WATCHES}


def judge_signs(signs: Signs, rules: BreakerRules, controls: Controls) -> list[tuple[Watch, Violation]]:
    """Every watch that trips on these signs, in the order of `WATCHES`. Raises KeyError for a sign that no watch knows."""
    if unknown := signs.keys() - BY_CODE.keys():
        raise KeyError(f"signs: found {', '.join(sorted(unknown))}, expected codes of WATCHES")
    found = ((watch, _judge(watch, signs[watch.code], rules, controls)) for watch in WATCHES if watch.code in signs)
    return [(watch, violation) for watch, violation in found if violation is not None]


def _judge(watch: Watch, observed: Decimal | None, rules: BreakerRules, controls: Controls) -> Violation | None:
    limit = watch.limit(rules, controls)
    if limit is None:
        return None
    if observed is None or not observed.is_finite():
        return Violation(watch.code, None, limit, watch.level, watch.cause)
    return Violation(watch.code, observed, limit, watch.level, watch.cause) if watch.trips(observed, limit) else None
