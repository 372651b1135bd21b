"""The gate itself: facts, three suites, verdict."""

from __future__ import annotations

import functools
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from trading.market import COLUMNS, Candles, Floats, Ints, interval_seconds
from trading.money import utc
from trading.quality.course import course_facts
from trading.quality.coverage import coverage
from trading.quality.rows import Bools, Rows, stored_rows
from trading.quality.shape import shape
from trading.quality.verdict import (
    Failure,
    Outcome,
    QualityRules,
    Rule,
    Verdict,
    course_rules,
    coverage_rules,
    gated_products,
    shape_rules,
)

if TYPE_CHECKING:
    from trading.quality.suite import Suite

DEFAULT_RULES = QualityRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suites:
    """The three suites of one set of rules, in the order in which they are asked."""

    shape: Suite
    course: Suite
    coverage: Suite


@functools.lru_cache(maxsize=16)
def suites(rules: QualityRules) -> Suites:
    from trading.quality.suite import Suite  # noqa: PLC0415 - importing it costs five CPU-seconds

    return Suites(
        shape=Suite("shape", shape_rules()),
        course=Suite("course", course_rules(rules)),
        coverage=Suite("coverage", coverage_rules(rules)),
    )


class QualityGate:
    """Judges every fetch, all products in one batch; a product that fails is gated, the others trade.

    Great Expectations is imported at the first `judge` (about five CPU-seconds); `warm` does it earlier.
    """

    def __init__(self, rules: QualityRules = DEFAULT_RULES) -> None:
        self.rules = rules

    def warm(self) -> None:
        """Imports and builds everything that `judge` needs, so that the first verdict costs no more than the next.

        What a process has by then lasts as long as itself: it is taken out of what garbage is looked for in, which would
        walk a million such objects each time.
        """
        suites(self.rules)
        nothing = pd.DataFrame({name: np.empty(0) for name in COLUMNS})
        self.judge(nothing, None, ("BTC-USD",), "1h", utc(0))
        gc.freeze()

    def judge(
        self,
        fetched: pd.DataFrame,
        history: pd.DataFrame | Candles | None,
        products: Sequence[str],
        interval: str,
        now: datetime,
        rules: QualityRules | None = None,
    ) -> Verdict:
        """The verdict on `fetched`, rows in `COLUMNS` as the source gave them.

        `history` holds stored candles, at least the last `rules.window` of each product (more does no harm); `now` is
        market time. Raises KeelError when an expectation cannot be evaluated.
        """
        asked, rules = tuple(products), rules or self.rules
        seconds, epoch = interval_seconds(interval), int(now.timestamp())
        ask = suites(rules)
        shaped = shape(fetched, asked, seconds, epoch)
        shape_failing = ask.shape.failing(shaped.facts)
        sound = shaped.rows.take(~_unfit(ask.shape.rules, shape_failing, len(shaped.rows)))

        last_start = epoch // seconds * seconds - seconds
        earliest = min(last_start, int(sound.start.min(initial=last_start)))
        reach = rules.window + rules.window // 4  # a window with holes reaches further back
        stored = stored_rows(history, asked, earliest - reach * seconds)
        known, facts = course_facts(sound, stored, seconds, rules)
        course_failing = ask.course.failing(facts)
        clean = sound.take(~(known | _unfit(ask.course.rules, course_failing, len(sound))))

        covered = coverage(shaped, clean, stored, last_start=last_start, seconds=seconds, window=rules.window)
        coverage_failing = ask.coverage.failing(covered)

        outcomes = (
            *_outcomes(ask.shape.rules, shape_failing, shaped.rows, shaped.facts, asked),
            *_outcomes(ask.course.rules, course_failing, sound, facts, asked),
            *_product_outcomes(ask.coverage.rules, coverage_failing, covered, asked),
        )
        return Verdict(
            at=now, interval=interval, products=asked, fetched=len(fetched), unfinished=shaped.unfinished,
            merged=int(shaped.repeats.sum()), strangers=shaped.strangers, outcomes=outcomes,
            gated=gated_products(asked, outcomes), clean=clean.frame(asked),
        )  # fmt: skip


def _unfit(rules: Sequence[Rule], failing: dict[str, Ints], size: int) -> Bools:
    """Which rows failed a rule that keeps them from being stored."""
    unfit = np.zeros(size, dtype=bool)
    for rule in rules:
        if not rule.stored:
            unfit[failing[rule.name]] = True
    return unfit


def _outcomes(
    rules: Sequence[Rule],
    failing: dict[str, Ints],
    rows: Rows,
    facts: dict[str, Floats],
    products: tuple[str, ...],
) -> list[Outcome]:
    return [
        Outcome(
            name=rule.name, expected=rule.expected, gates=rule.gates,
            failures=_failures(failing[rule.name], rows, facts[rule.fact], products),
        )
        for rule in rules
    ]  # fmt: skip


def _failures(at: Ints, rows: Rows, fact: Floats, products: tuple[str, ...]) -> tuple[Failure, ...]:
    codes, first, counts = np.unique(rows.code[at], return_index=True, return_counts=True)
    return tuple(
        Failure(
            product=products[code],
            count=int(count),
            start=int(rows.start[row]) if rows.start[row] >= 0 else None,
            found=float(fact[row]),
        )
        for code, row, count in zip(codes, at[first], counts, strict=True)
    )


def _product_outcomes(
    rules: Sequence[Rule], failing: dict[str, Ints], facts: dict[str, Floats], products: tuple[str, ...]
) -> list[Outcome]:
    return [
        Outcome(
            name=rule.name, expected=rule.expected, gates=rule.gates,
            failures=tuple(
                Failure(product=products[at], count=1, start=None, found=float(facts[rule.fact][at])) for at in failing[rule.name]
            ),
        )
        for rule in rules
    ]  # fmt: skip
