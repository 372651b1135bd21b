"""The trade cycle: a straight line of steps for one slot. The first step after the claim is also the crash recovery.

    claim slot → settle orders → fetch prices → evaluate signals → validate orders → check breaker → execute
      → reconcile → publish

Each step is a function of the desk and the cycle so far, and writes what it found to the ledger. `run` does them one
after the other without an orchestrator; the flows wrap the same functions as tasks. A slot that is not to be traded
(stale, traded already, replay at its end) goes through the same line: it settles and reconciles, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from trading import execution, settlement, summary, watching
from trading import reconcile as reconciling
from trading.absorber import Settled
from trading.allocation import Proposal
from trading.decision import Standing, decide, opinions_of
from trading.desk import (
    Desk,
    day_start,
    evaluation_row,
    lateness,
    open_books,
    see_market,
)
from trading.errors import Fenced, LedgerUnavailable
from trading.market import Market, last_close
from trading.money import stamp
from trading.orders import Request, Side, slot_name
from trading.portfolio import Portfolio
from trading.proof import write_down
from trading.quality import Verdict as QualityVerdict
from trading.risk import Approved, Opinions, Refused
from trading.risk import breaker as breakers
from trading.store.journal import Change, Claim

LOCK_WAIT_SECONDS = 45.0
"""How long a run waits for another one of the same portfolio (a second plan, a hand order) before it gives up."""


@dataclass(slots=True, kw_only=True)
class Cycle:
    """What one run knows so far; each step fills in its part."""

    slot_at: datetime | None
    """The candle close that is decided on; None when a replay has no further one."""
    market_at: datetime
    claim: Claim | None
    skip: str
    """Why the slot is not traded; empty when it is."""
    exits_only: str = ""
    """Why the slot takes no new risk, though it is traded; empty when it may."""
    settled: Settled = field(default_factory=Settled)
    quality: QualityVerdict | None = None
    market: Market | None = None
    opinions: Opinions = field(default_factory=lambda: Opinions(now={}))
    """The strategy's signals now and one candle earlier: how many turned at once is checked."""
    portfolio: Portfolio | None = None
    proposal: Proposal | None = None
    refused: list[Refused] = field(default_factory=list)
    approved: list[Approved] = field(default_factory=list)
    held_back: list[Approved] = field(default_factory=list)
    """Approved, but not let through: by the breaker, by the checks of live trading, or because the run is late."""
    breaker: breakers.Verdict | None = None
    product_breakers: dict[str, breakers.Verdict] = field(default_factory=dict)
    """Of each product that an order was approved for: its own row on top of the plan's."""
    violations: list[breakers.Violation] = field(default_factory=list)
    figures: breakers.RiskFigures | None = None
    """What the breaker looked at; None when nothing was decided."""
    executed: Settled = field(default_factory=Settled)
    reconciliation: reconciling.Reconciliation | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def signals(self) -> Mapping[str, float]:
        return self.opinions.now

    @property
    def trades(self) -> bool:
        """True if this run decides on the slot: it claimed it, and nothing speaks against it."""
        return self.claim is not None and self.claim.ours and not self.skip


def run(desk: Desk, scheduled_at: datetime | None = None) -> Cycle:
    """One cycle in this process. `scheduled_at` (market time) is when it was due; None for a run by hand, which takes
    the last closed candle. Raises Busy when another run keeps the portfolio; MarketUnavailable, Unanswered when a read
    failed for good: the slot then stays claimed, and the next run takes it over or goes on with the next one.
    """
    cycle = claim_slot(desk, scheduled_at)
    with concluded(desk, cycle):
        settle_orders(desk, cycle)
        fetch_prices(desk, cycle)
        evaluate_signals(desk, cycle)
        validate_orders(desk, cycle)
        check_breaker(desk, cycle)
        execute(desk, cycle)
        reconcile(desk, cycle)
        publish(desk, cycle)
    return cycle


@contextmanager
def concluded(desk: Desk, cycle: Cycle) -> Iterator[None]:
    """Around the steps after the claim: records a failure, and gives the portfolio back however they end."""
    try:
        yield
    except Exception as error:
        fail(desk, cycle, error)
        raise
    finally:
        desk.journal.unlock_portfolio(desk.book)


def claim_slot(desk: Desk, scheduled_at: datetime | None = None) -> Cycle:
    """Takes the portfolio's lock and the slot. The lock stays until the caller gives it back (or its process dies)."""
    desk.journal.lock_portfolio(desk.book, LOCK_WAIT_SECONDS)
    desk.market_time = desk.market = None
    open_books(desk)
    slot_at = _slot(desk, scheduled_at)
    if slot_at is None:
        return Cycle(slot_at=None, market_at=desk.market_now(), claim=None, skip="the replay has no further candle")
    if desk.source.is_replay:
        desk.market_time = slot_at
    now = desk.market_now()
    late = lateness(desk.plan, (now - slot_at).total_seconds())
    skip = late.reason if late.policy == "skip" else ""
    claim = desk.journal.claim_slot(desk.book, desk.plan.name, slot_at, now, desk.plan.sha256, late.policy, late.reason)
    if not claim.ours:
        by = f" by run {claim.flow_run_id}" if claim.flow_run_id else ""
        at = f" at {stamp(claim.finished_at)}" if claim.finished_at else ""
        word = "traded" if claim.outcome == "done" else f"skipped ({claim.reason})"
        skip = f"this slot was {word} already{by}{at}"
    exits_only = late.reason if late.policy == "reduce_only" else ""
    return Cycle(slot_at=slot_at, market_at=now, claim=claim, skip=skip, exits_only=exits_only)


def _slot(desk: Desk, scheduled_at: datetime | None) -> datetime | None:
    plan = desk.plan
    if desk.source.is_replay:
        after = desk.books.last_slot(desk.book, plan.name)
        return desk.source.next_slot(plan.products, plan.interval, desk.history, after)
    now = desk.source.now()  # a run that starts early must not take a candle that is still open
    return last_close(min(scheduled_at or now, now), plan.interval)


def settle_orders(desk: Desk, cycle: Cycle) -> None:
    """Resolves whatever earlier runs left: see `trading.settlement`. Then asks whether this desk may send at all."""
    cycle.settled = settlement.settle(desk)
    cycle.violations = watching.watch_safety(desk)
    if cycle.violations:  # what rests goes now: a later step may fail
        cycle.settled.join(settlement.settle(desk))


def fetch_prices(desk: Desk, cycle: Cycle) -> None:
    """Fetches what is new, lets the quality gate judge it, stores it, and lays out what the cycle may see.

    Raises MarketUnavailable when the source cannot answer; nothing is stored then and a retry starts afresh.
    """
    if not cycle.trades or cycle.slot_at is None:
        return
    plan, end = desk.plan, cycle.slot_at
    cycle.market, verdict = see_market(desk, end, cycle.market_at)
    cycle.quality = verdict
    change = Change()
    change.add("verdicts", book=desk.book, plan=plan.name, slot_at=end, passed=verdict.passed, body=verdict.to_dict())
    # Counted by nobody: a ledger that cannot take operations, which errors are counted by, says so before anything is sent.
    change.add("operations", book=desk.book, plan=plan.name, kind="prices", ok=True, detail="")
    desk.journal.record("market", change)


def evaluate_signals(desk: Desk, cycle: Cycle) -> None:
    """The strategy's view of every product at the slot, −1 to 1; a product without an opinion is left out."""
    if not cycle.trades or cycle.market is None:
        return
    cycle.opinions = opinions_of(desk.strategy, cycle.market.candles)


def validate_orders(desk: Desk, cycle: Cycle) -> None:
    """Turns signals into requests and judges each; stores every evaluation, and all that the decision was made on."""
    if not cycle.trades or cycle.market is None or cycle.slot_at is None:
        return
    plan, market, at = desk.plan, cycle.market, cycle.market_at
    cycle.portfolio = portfolio = desk.books.portfolio(desk.book, plan.name, plan.cash_asset, day_start(at), at)
    standing = Standing(tuple(desk.books.breakers(desk.scopes)), tuple(desk.scopes))
    decision = decide(plan, desk.strategy, cycle.opinions, market, portfolio, standing)
    cycle.proposal = decision.proposal
    slot = slot_name(plan.name, cycle.slot_at)
    change = Change()
    write_down(desk, change, cycle.slot_at, decision, market, portfolio, standing)
    for judged in decision.judged:
        approved = isinstance(judged, Approved)
        (cycle.approved if approved else cycle.refused).append(judged)  # type: ignore[arg-type]
        change.add("evaluations", **evaluation_row(desk, slot, judged))
    desk.journal.record("evaluate", change)


def check_breaker(desk: Desk, cycle: Cycle) -> None:
    """Looks at the portfolio's figures, moves the plan's breaker, and holds back what an open one does not let through.

    The breaker rows are locked and read again in the transaction that marks an order as sending: this step only judges.
    """
    if not cycle.trades or cycle.market is None or cycle.portfolio is None:
        return
    plan = desk.plan
    consecutive, operations, failed = desk.books.errors(desk.book, plan.name)
    cycle.figures = figures = breakers.risk_figures(
        cycle.portfolio, cycle.market, consecutive_errors=consecutive, operations=operations, failed_operations=failed
    )
    scope = f"strategy:{desk.book}:{plan.name}"
    found = {row.scope: row for row in desk.books.breakers([scope])}
    if scope in found:
        before = found[scope]
        violations = breakers.judge(plan.breaker, figures, plan.limits)
        cycle.violations += violations
        after = breakers.advance(before, violations, plan.breaker, cycle.market_at)
        if after.generation != before.generation:
            change = Change()
            found_by = [violation.to_dict() for violation in violations]
            change.breaker(after, before, actor="breaker", violations=found_by)
            desk.journal.record("breaker", change)
    watching.hold_products(desk, cycle.refused)
    cycle.violations += watching.watch(desk, cycle.portfolio, cycle.market)
    products = {approved.request.product: desk.product_scope(approved.request.product) for approved in cycle.approved}
    rows = desk.books.breakers([*desk.scopes, *products.values()])
    cycle.breaker = breakers.strictest(rows, desk.scopes)
    by_scope = {row.scope: row for row in rows}
    for product, own in products.items():
        needed = [*desk.scopes, own]
        cycle.product_breakers[product] = breakers.strictest((by_scope[id_] for id_ in needed if id_ in by_scope), needed)
    approved, cycle.approved, cycle.held_back = cycle.approved, [], []
    for one in approved:
        (cycle.approved if _goes_through(desk, cycle, one.request) else cycle.held_back).append(one)


def _goes_through(desk: Desk, cycle: Cycle, request: Request) -> bool:
    return (
        breakers.permits(cycle.product_breakers[request.product], request)
        and not (cycle.exits_only and request.side is Side.BUY)
        and not desk.forbids(request.side)
    )


def execute(desk: Desk, cycle: Cycle) -> None:
    """Stages and sends what is approved. Never retried: see `trading.execution`."""
    if not cycle.trades or cycle.market is None or cycle.slot_at is None or cycle.claim is None:
        return
    slot = slot_name(desk.plan.name, cycle.slot_at)
    intents = execution.intents_of(desk, slot, cycle.approved, cycle.market.quotes)
    left = execution.left_staged(desk, slot) if cycle.claim.outcome == "resumed" else []
    known = {order.id for order in left}
    orders = left + [order for order in execution.stage(desk, intents, cycle.market.quotes) if order.id not in known]
    cycle.executed = execution.send(desk, cycle.claim.epoch, orders)


def reconcile(desk: Desk, cycle: Cycle) -> None:
    """Settles once more and compares everything with the exchange: see `trading.reconcile`."""
    cycle.reconciliation = reconciling.reconcile(desk)


def publish(desk: Desk, cycle: Cycle) -> None:
    """Marks the equity, ends the slot, and stores the summary that every report of this run is made from."""
    plan = desk.plan
    held = desk.books.holdings(desk.book, plan.name, plan.cash_asset)
    quotes = cycle.market.quotes if cycle.market else {}
    equity, unrealised = held.equity(quotes), held.unrealised(quotes)
    change = Change()
    if cycle.trades and equity is not None and unrealised is not None:  # an unknown mark is left out, never a zero
        change.add("equity", book=desk.book, plan=plan.name, at=cycle.market_at, equity=equity, cash=held.cash,
                   unrealised=unrealised, realised=held.realised, fees=held.fees)  # fmt: skip
    if cycle.trades:  # not before: a step that went well would end the count of runs that failed
        change.add("operations", book=desk.book, plan=plan.name, kind="cycle", ok=True, detail="")
    cycle.summary = summary.summarise(desk, cycle, held, equity)
    if cycle.claim is not None and cycle.claim.ours:
        change.add(
            "cycles", book=desk.book, plan=plan.name, slot_at=cycle.slot_at, epoch=cycle.claim.epoch,
            state="skipped" if cycle.skip else "done", reason=cycle.skip or None,
            candles_sha=cycle.market.candles.digest() if cycle.market else None, summary=cycle.summary,
        )  # fmt: skip
    if change:
        desk.journal.record("publish", change)


def fail(desk: Desk, cycle: Cycle, error: Exception) -> None:
    """Records that the run failed: an operation for the breaker's count, and the slot as failed, to be taken over.

    Nothing is written when the ledger is away or a later run has taken over: the next run finds the slot unfinished.
    """
    if isinstance(error, LedgerUnavailable | Fenced):
        return
    change = Change()
    change.add("operations", book=desk.book, plan=desk.plan.name, kind="cycle", ok=False,
               detail=f"{type(error).__name__}: {error}"[:500])  # fmt: skip
    if cycle.claim is not None and cycle.claim.ours:
        change.add("cycles", book=desk.book, plan=desk.plan.name, slot_at=cycle.slot_at, epoch=cycle.claim.epoch,
                   state="failed", reason=f"{type(error).__name__}: {error}"[:500])  # fmt: skip
    desk.journal.record("fail", change)
