"""What the quality gate demands of candles and what it answers: `QualityRules`, the tables of `Rule`, and `Verdict`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from trading.errors import ConfigurationError
from trading.money import stamp, utc


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRules:
    """Tolerances of the gate. Counts are candles, moves are natural-log returns, shares are ratios.

    The defaults are for 1 h candles of liquid products; docs/data-quality.md gives the reason for each.
    """

    window: int = 64
    """Trailing candles that tell what is usual for a product; a candle is never compared with a later one."""
    least_history: int = 12
    """With fewer trailing returns a move is held against `jump_most` only."""
    jump_times: float = 25.0
    """A close may move this often the trailing median of absolute returns ..."""
    jump_least: float = 0.03
    """... but a move below this always passes ..."""
    jump_most: float = 0.5
    """... and one above it never does."""
    wick_times: float = 3.0
    """A high or low may reach this often the allowed move beyond the closes, though never further than e to the 1."""
    gap_most: int = 3
    """Candles that may be missing in a row; a venue leaves out a candle in which nothing traded."""
    missing_share_most: float = 0.05
    """Share of the trailing window that may be missing."""
    flat_most: int = 4
    """Candles in a row that may show one price and no trade."""
    behind_most: int = 0
    """Candles by which the newest one may lag behind the last close."""
    volume_revision_most: float = 0.01
    """Relative change of a stored candle's volume that is a late trade and not a contradiction; the stored one stays."""

    def __post_init__(self) -> None:
        if self.window < self.least_history or self.least_history < 2:  # a median of one return says nothing
            found = f"window {self.window}, least_history {self.least_history}"
            raise ConfigurationError(f"quality rules: found {found}, expected 2 <= least_history <= window")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One expectation: a fact of each candle (or product) and its bounds."""

    name: str
    fact: str
    expected: str
    least: float | None = None
    most: float | None = None
    stored: bool = False
    """True where a candle that fails may be stored all the same: the product is gated, the number is not wrong."""
    gates: bool = True


def shape_rules() -> tuple[Rule, ...]:
    """Of each candle by itself."""
    return (
        Rule(name="schema", fact="foreign", most=0, expected="every column, with its type"),
        Rule(name="not_null", fact="nulls", most=0, expected="a finite number in every column"),
        Rule(name="on_grid", fact="off_grid", most=0, expected="a start on the interval's grid"),
        Rule(name="not_ahead", fact="ahead", most=0, expected="a start that is not after now"),
        Rule(name="ohlc", fact="ohlc_breach", most=0, expected="low <= open, close <= high"),
        Rule(name="positive", fact="not_positive", most=0, expected="prices above 0"),
        Rule(name="volume", fact="volume", least=0, expected="a volume of 0 or more"),
        Rule(name="unique", fact="rivals", most=0, expected="one candle for a product and start"),
        Rule(
            name="increasing",
            fact="back_step",
            most=0,
            stored=True,
            expected="starts that increase in the source's order",
        ),
    )


def course_rules(rules: QualityRules) -> tuple[Rule, ...]:
    """Of each candle against those before it."""
    return (
        Rule(name="unrevised", fact="revision", most=0, expected="what is stored already"),
        Rule(name="jump", fact="jump", most=1, expected="a close within the allowed move, or confirmed by the next one"),
        Rule(name="wick", fact="wick", most=1, expected="a high and low near the closes"),
        Rule(name="gap", fact="gap", most=rules.gap_most, stored=True, expected=f"at most {rules.gap_most} missing in a row"),
        Rule(name="flat", fact="flat_run", most=rules.flat_most, stored=True,
             expected=f"at most {rules.flat_most} standing still in a row"),
        Rule(name="volume_unit", fact="unit_shift", most=0, stored=True, expected="a volume in base units, as before"),
    )  # fmt: skip


def coverage_rules(rules: QualityRules) -> tuple[Rule, ...]:
    """Of each product that was asked for, after the bad candles are gone."""
    share = rules.missing_share_most
    return (
        Rule(name="present", fact="absent", most=0, expected="candles of every product asked for"),
        Rule(name="fresh", fact="behind", most=rules.behind_most, expected=f"newest candle at most {rules.behind_most} behind"),
        Rule(name="dense", fact="missing_share", most=share, expected=f"at most {share:.0%} of the window missing"),
        Rule(name="unrepeated", fact="repeats", most=0, gates=False, expected="no candle twice (equal ones are merged)"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A product that failed one expectation: how many candles, and the first of them."""

    product: str
    count: int
    start: int | None
    """Epoch seconds of the first failing candle; None where it has none, or the whole product failed."""
    found: float

    def text(self) -> str:
        where = "" if self.start is None else f"{self.count} from {stamp(utc(self.start))}, "
        return f"{where}found {self.found:.6g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one expectation found in one fetch."""

    name: str
    expected: str
    gates: bool
    failures: tuple[Failure, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """The gate's answer for one fetch: outcomes, gated products, and the candles that may be stored."""

    at: datetime
    interval: str
    products: tuple[str, ...]
    fetched: int
    """Rows as the source gave them."""
    unfinished: int
    """Rows dropped because their candle has not closed yet."""
    merged: int
    """Exact duplicates dropped."""
    strangers: int
    """Rows of products that nobody asked for, dropped."""
    outcomes: tuple[Outcome, ...]
    gated: Mapping[str, str]
    """Product -> the failed expectations and what was found; in the order of `products`."""
    clean: pd.DataFrame
    """Closed, unique, sound candles that are not stored yet, in `COLUMNS`, by product and start."""

    @property
    def passed(self) -> bool:
        return not self.gated

    def outcome(self, name: str) -> Outcome:
        return next(outcome for outcome in self.outcomes if outcome.name == name)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: counts, gated products, and every expectation with its failures."""
        return {
            "at": stamp(self.at), "interval": self.interval, "products": list(self.products), "passed": self.passed,
            "rows": {"fetched": self.fetched, "unfinished": self.unfinished, "merged": self.merged,
                     "strangers": self.strangers, "clean": len(self.clean)},
            "gated": dict(self.gated),
            "expectations": [_outcome_dict(outcome) for outcome in self.outcomes],
        }  # fmt: skip

    def to_markdown(self) -> str:
        """The verdict as a Markdown section for people: one line per expectation, then the gated products."""
        passed = sum(outcome.passed for outcome in self.outcomes)
        head = (
            f"**Data quality** at {stamp(self.at)}, {self.interval} candles: {passed} of {len(self.outcomes)} expectations "
            f"passed, {len(self.gated)} of {len(self.products)} products gated."
        )
        counts = (
            f"{self.fetched} rows fetched, {len(self.clean)} to store, {self.unfinished} unfinished and {self.merged} "
            "repeated ones dropped."
        )
        lines = [head, "", counts, "", "| Expectation | Expected | Result |", "|---|---|---|"]
        lines += [f"| {outcome.name} | {outcome.expected} | {_result(outcome)} |" for outcome in self.outcomes]
        if self.gated:
            lines += ["", "| Gated product | Why |", "|---|---|"]
            lines += [f"| {name} | {why} |" for name, why in self.gated.items()]
        return "\n".join(lines) + "\n"


def gated_products(products: tuple[str, ...], outcomes: tuple[Outcome, ...]) -> dict[str, str]:
    """Product -> why, over every failed expectation that gates."""
    reasons: dict[str, list[str]] = {}
    for outcome in outcomes:
        for failure in outcome.failures if outcome.gates else ():
            reasons.setdefault(failure.product, []).append(f"{outcome.name}: {failure.text()}, expected {outcome.expected}")
    return {product: "; ".join(reasons[product]) for product in products if product in reasons}


def _outcome_dict(outcome: Outcome) -> dict[str, Any]:
    failures = [
        {"product": one.product, "count": one.count, "start": one.start, "found": f"{one.found:.6g}"} for one in outcome.failures
    ]
    return {
        "name": outcome.name, "expected": outcome.expected, "gates": outcome.gates, "passed": outcome.passed,
        "failures": failures,
    }  # fmt: skip


def _result(outcome: Outcome) -> str:
    if outcome.passed:
        return "passed"
    word = "FAILED" if outcome.gates else "noted"
    names = ", ".join(failure.product for failure in outcome.failures[:5])
    more = f" and {len(outcome.failures) - 5} more" if len(outcome.failures) > 5 else ""  # five names fit a line
    return f"{word}: {names}{more}"
