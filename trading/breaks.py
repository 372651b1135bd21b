"""Breaks: differences between the ledger and the venue, written down; what each kind means, and what it does to the breaker.

A break freezes its asset until a person resolves it. The table says how bad each kind is and which breaker it opens; `react`
makes that so, and makes it so again for as long as the break is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from trading.desk import Desk
from trading.money import derived_id
from trading.risk import Cause, Level
from trading.store.halting import tighten
from trading.store.journal import Change


class Reach(StrEnum):
    """Whose breaker a break opens."""

    GLOBAL = "global"
    PORTFOLIO = "portfolio"
    PRODUCT = "product"
    """Every product of the plan whose base is the break's asset."""


class Kind(NamedTuple):
    severity: int
    """1 is the worst."""
    reach: Reach | None
    level: Level | None
    means: str


KINDS: Mapping[str, Kind] = {
    "order_terms": Kind(1, Reach.GLOBAL, Level.CANCEL, "the venue has our id with other terms"),
    "order_twice": Kind(1, Reach.GLOBAL, Level.CANCEL, "the venue has two orders of one id"),
    "not_sent": Kind(1, Reach.GLOBAL, Level.CANCEL, "what was about to be sent is not what was approved: no byte has left"),
    "still_resting": Kind(1, Reach.GLOBAL, Level.CANCEL, "an order that a breaker cancels is at the venue all the same"),
    "order_missing": Kind(1, Reach.PORTFOLIO, Level.NO_NEW, "an order that the venue acknowledged is not listed any more"),
    "order_revived": Kind(1, Reach.PORTFOLIO, Level.NO_NEW, "an order that we took for dead is at the venue"),
    "order_lost": Kind(1, Reach.PORTFOLIO, Level.NO_NEW, "an order with an id of ours that the ledger does not know"),
    "foreign_order": Kind(2, Reach.PRODUCT, Level.REDUCE_ONLY, "an order that is not ours"),
    "order_fills": Kind(2, None, None, "an order's fills do not sum to what the venue says"),
    "order_fees": Kind(2, None, None, "an order's fees do not sum to what the venue says"),
    "unknown_status": Kind(2, Reach.PRODUCT, Level.NO_NEW, "a status that we do not know"),
    "adjusted_fill": Kind(2, Reach.PRODUCT, Level.REDUCE_ONLY, "the venue reversed or corrected a fill"),
    "adjustment_unmatched": Kind(2, Reach.PRODUCT, Level.NO_NEW, "an adjustment of a fill that we do not have"),
    "synthetic_fill": Kind(2, Reach.PRODUCT, Level.REDUCE_ONLY, "a fill that the venue made without a trade"),
    "replay": Kind(1, Reach.PORTFOLIO, Level.NO_NEW, "the same data, plan and code lead to another decision than they did"),
    "uncovered": Kind(1, Reach.PORTFOLIO, Level.NO_NEW, "more left the account than the lots held"),
    "overdraw": Kind(1, Reach.GLOBAL, Level.CANCEL, "what the venue did left less than nothing, or than what is held"),
    "balance_fall": Kind(1, Reach.GLOBAL, Level.CANCEL, "the venue has less than the ledger, without a source"),
    "balance": Kind(1, Reach.PORTFOLIO, Level.REDUCE_ONLY, "the venue has more than the ledger, without a source"),
    "withdrawal": Kind(1, Reach.GLOBAL, Level.CANCEL, "money or coin left that nobody announced"),
    "deposit": Kind(3, None, None, "coin arrived whose cost nobody knows"),
    "conversion": Kind(3, None, None, "the venue turned one asset into another"),
    "income": Kind(3, None, None, "coin arrived that no plan trades: it is quarantined"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Ours and theirs do not agree. `asset` is frozen until a person resolves the break; empty freezes nothing."""

    kind: str
    subject: str
    ours: str
    theirs: str
    asset: str = ""

    @property
    def severity(self) -> int:
        return KINDS[self.kind].severity

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: ledger {self.ours}, exchange {self.theirs}"


def write_down(desk: Desk, change: Change, found: Iterable[Difference]) -> None:
    """Adds the breaks to the change; one that is open already stays as it is."""
    for one in found:
        id_ = derived_id("break", desk.book, one.kind, one.subject, desk.wall().isoformat())
        change.add("breaks", id=id_, book=desk.book, severity=one.severity, subject=one.subject, asset=one.asset,
                   ours=one.ours, theirs=one.theirs, **{"class": one.kind})  # fmt: skip


def react(desk: Desk) -> None:
    """Opens the breakers that the halt file and the open breaks of the portfolio ask for, unless they are open that far already.

    The file alone stops nothing but sends: so it becomes a breaker that is on record, and cancels.
    """
    if reason := desk.halted():
        tighten(desk.journal, "global", Level.CANCEL, reason, desk.market_now(), actor="halt file", cause=Cause.PERSON,
                rules=desk.plan.breaker)  # fmt: skip
    for row in desk.books.open_breaks(desk.book):
        kind = KINDS.get(row["class"])
        if kind is None or kind.reach is None or kind.level is None:
            continue
        for scope in _scopes(desk, kind.reach, row["asset"]):
            reason = f"{row['class']} {row['subject']}: {kind.means}"
            tighten(desk.journal, scope, kind.level, reason, desk.market_now(), actor="breaker", cause=Cause.DOUBT,
                    rules=desk.plan.breaker)  # fmt: skip


def _scopes(desk: Desk, reach: Reach, asset: str) -> list[str]:
    if reach is Reach.GLOBAL:
        return ["global"]
    if reach is Reach.PORTFOLIO:
        return [f"portfolio:{desk.book}"]
    return [desk.product_scope(product) for product in desk.plan.products if product.split("-", 1)[0] == asset]
