"""Watching: the signs of a plan, judged, and the breakers that they open, each with its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from trading.desk import Desk
from trading.market import Market
from trading.money import ONE, ZERO
from trading.portfolio import Portfolio
from trading.risk import Cause, Level, Refused, Violation
from trading.risk.watches import Signs, Where, judge_signs
from trading.safety import WATCHED_BY
from trading.store.halting import tighten
from trading.store.signs import told


def watch(desk: Desk, portfolio: Portfolio, market: Market) -> list[Violation]:
    """Opens what the plan's signs ask for; returns what tripped. Called by every cycle that decides."""
    return open_for(desk, plan_signs(desk, portfolio, market))


def plan_signs(desk: Desk, portfolio: Portfolio, market: Market) -> Signs:
    """What the ledger and the market say of the plan now."""
    found = told(desk.books.connection, desk.book, desk.plan.name, desk.market_now())
    equity, start = portfolio.equity(market.quotes), found.week_start_equity
    return {
        "weekly_loss": None if equity is None else ONE - equity / start if start else ZERO,  # no mark yet since the resume
        "losing_exits": found.losing_exits,
        "mean_slippage": found.mean_slippage or ZERO,
        "rejects": found.rejects,
        "read_failures": found.read_failures,
        "doubt_age_seconds": found.doubt_age_seconds or ZERO,
        "doubts": found.doubts,
    }


def watch_safety(desk: Desk) -> list[Violation]:
    """Makes the checks of live trading, and opens what their facts ask for; returns what tripped. Called once per run."""
    safety = desk.check_safety()
    words: dict[str, str] = {}
    for check in safety.failed:
        code = WATCHED_BY.get(check.name, "")
        words[code] = "; ".join(filter(None, (words.get(code), str(check))))
    return open_for(desk, safety.signs, words)


def open_for(desk: Desk, signs: Signs, words: Mapping[str, str] = MappingProxyType({})) -> list[Violation]:
    """Opens the breaker of each watch that trips on these signs; `words` tell by code what a figure alone would not."""
    found = judge_signs(signs, desk.plan.breaker, desk.plan.controls)
    for one, violation in found:
        told = words.get(one.code, "")
        reason = f"{violation.message}; {told}" if told else violation.message
        tighten(
            desk.journal, _scope(desk, one.where), one.level, reason, desk.market_now(), actor="breaker", cause=one.cause,
            rules=desk.plan.breaker, evidence=[violation.to_dict() | ({"found": told} if told else {})],
        )  # fmt: skip
    return [violation for _, violation in found]


def hold_products(desk: Desk, refused: Iterable[Refused]) -> None:
    """Opens the breaker of each product that has been entered too often in a row: only a person resumes it."""
    for request, evaluation in refused:
        for outcome in evaluation.failures:
            if outcome.code == "repeated_entries":
                tighten(
                    desk.journal, desk.product_scope(request.product), Level.REDUCE_ONLY, outcome.message, desk.market_now(),
                    actor="breaker", cause=Cause.LOSS, rules=desk.plan.breaker, evidence=[outcome.to_dict()],
                )  # fmt: skip


def _scope(desk: Desk, where: Where) -> str:
    scopes = {
        Where.GLOBAL: "global", Where.VENUE: f"venue:{desk.exchange.name}", Where.PORTFOLIO: f"portfolio:{desk.book}",
        Where.STRATEGY: f"strategy:{desk.book}:{desk.plan.name}",
    }  # fmt: skip
    return scopes[where]
