"""The watches: each trips at its limit and not just below it, and what could not be known trips as well."""

from __future__ import annotations

from decimal import Decimal

import pytest

from config.settings import PROJECT
from trading.breaks import KINDS
from trading.plan import BreakerRules, Controls
from trading.risk.breaker import TRIGGERS, Cause, Level
from trading.risk.watches import BY_CODE, WATCHES, judge_signs

RULES, CONTROLS = BreakerRules(), Controls()

# code -> what trips, and what does not just below
EDGES = {
    "weekly_loss": ("0.08", "0.0799"),
    "losing_exits": ("4", "3"),
    "mean_slippage": ("0.0031", "0.003"),
    "rejects": ("3", "2"),
    "read_failures": ("5", "4"),
    "doubt_age_seconds": ("120", "119.9"),
    "doubts": ("2", "1"),
    "clock_offset_seconds": ("1.01", "1"),
    "venue_clock_seconds": ("10.001", "10"),
    "permission_drift": ("1", "0"),
    "clock_step_seconds": ("1.01", "1"),
    "disk_used": ("0.901", "0.90"),
    "code_versions": ("2", "1"),
    "configurations": ("2", "1"),
    "heartbeat_age_seconds": ("90", "89.9"),
    "unclaimed_slot_seconds": ("300", "299"),
}


def test_every_watch_has_its_edges() -> None:
    assert EDGES.keys() == BY_CODE.keys()
    assert len(BY_CODE) == len(WATCHES)


def holds(code: str) -> bool:
    """Does the watch trip at its edge and not just below?"""
    trips, below = map(Decimal, EDGES[code])
    found = [watch.code for watch, _ in judge_signs({code: trips}, RULES, CONTROLS)]
    return found == [code] and not judge_signs({code: below}, RULES, CONTROLS)


@pytest.mark.parametrize("code", EDGES)
def test_a_watch_trips_at_its_limit_and_not_just_below(code: str) -> None:
    trips, below = map(Decimal, EDGES[code])
    [(watch, violation)] = judge_signs({code: trips}, RULES, CONTROLS)
    assert (watch.code, violation.observed, violation.level) == (code, trips, watch.level)
    assert judge_signs({code: below}, RULES, CONTROLS) == []


@pytest.mark.parametrize("unknown", [None, Decimal("NaN"), Decimal("Infinity")])
@pytest.mark.parametrize("code", EDGES)
def test_what_could_not_be_known_trips(code: str, unknown: Decimal | None) -> None:
    [(_, violation)] = judge_signs({code: unknown}, RULES, CONTROLS)
    assert violation.observed is None


def test_a_sign_that_no_watch_knows_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError, match="phase_of_the_moon"):
        judge_signs({"phase_of_the_moon": Decimal(1)}, RULES, CONTROLS)


def test_only_losses_keep_what_protects() -> None:
    for watch in WATCHES:
        assert (watch.cause is Cause.LOSS) == (watch.level is Level.REDUCE_ONLY)


def test_the_runbook_has_a_line_for_every_trigger_watch_and_break() -> None:
    page = (PROJECT / "docs" / "runbook.md").read_text()
    for watch in WATCHES:
        opens = f"{watch.where}, {str(watch.level).replace('_', ' ')}"
        assert f"| `{watch.code}` | {watch.means} | {opens} | {watch.owner} | {watch.do} |" in page
    for code in [trigger.code for trigger in TRIGGERS] + list(KINDS):
        assert f"| `{code}` |" in page
