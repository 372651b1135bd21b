"""How real orders come to be allowed, and to more money: a person's arming for a day, and the steps of the capital ramp.

A plan with real orders begins with the first step's capital. A person promotes it, one step at a time, once the gates of the
step have been passed; what goes wrong takes it one step back without anybody. Each move is a row with the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from trading.desk import Desk
from trading.errors import Busy, ConfigurationError
from trading.exchange.paper import PaperExchange
from trading.hand import at_the_desk
from trading.ledger import OUTSIDE, Posting, Transaction, share
from trading.money import ZERO, dec, derived_id, text
from trading.movements import Movement, MovementKind
from trading.reconcile import reconcile
from trading.resolution import allot
from trading.safety import ARMED_MOST, SafetyCheck, needs_checks
from trading.shadow import divergence
from trading.store.journal import Change
from trading.store.standing import drawdown_since, given, opened_plan_at, ramp_steps


def arm(desk: Desk, lasting: timedelta, reason: str) -> datetime:
    """Lets the portfolio take risk with real orders for so long; returns when that ends.

    Raises ConfigurationError for a paper desk, or for longer than a day.
    """
    if not needs_checks(desk.mode):
        raise ConfigurationError("arming: found a paper desk, expected rehearsal or live: paper needs none")
    if not timedelta(0) < lasting <= ARMED_MOST:
        raise ConfigurationError(f"arming: found {lasting}, expected more than nothing and at most {ARMED_MOST}")
    _write_arming(desk, lasting, reason, "live.arm")
    return desk.wall() + lasting


def disarm(desk: Desk, reason: str) -> None:
    """Ends the arming now. Exits and settling go on."""
    _write_arming(desk, timedelta(0), reason, "live.disarm")


def _write_arming(desk: Desk, lasting: timedelta, reason: str, kind: str) -> None:
    change = Change()
    id_ = derived_id("arming", desk.book, desk.wall().isoformat())
    change.add("armings", id=id_, book=desk.book, armed_by=desk.journal.author().actor, reason=reason,
               seconds=lasting.total_seconds())  # fmt: skip
    desk.journal.record(kind, change)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """Where a plan stands: its step (from 0), the capital of it, and each gate before the next."""

    step: int
    capital: Decimal
    since: datetime
    """Market time."""
    reason: str
    """What led to this step; empty at the first."""
    gates: tuple[SafetyCheck, ...]

    @property
    def passed(self) -> bool:
        return all(gate.ok for gate in self.gates)


def ramp(desk: Desk) -> Ramp:
    """The plan's step as the ledger has it, and its gates as they stand now. Raises ConfigurationError before it is opened."""
    rules, connection = desk.plan.ramp, desk.books.connection
    opened_at = opened_plan_at(connection, desk.book, desk.plan.name)
    if opened_at is None:
        raise ConfigurationError(f"ramp: found no plan {desk.plan.name} in {desk.book} yet, expected one that has run once")
    steps = ramp_steps(connection, desk.book, desk.plan.name)
    step, since, reason = (steps[0].step, steps[0].at, steps[0].reason) if steps else (0, opened_at, "")
    days = (desk.market_now() - since).total_seconds() / 86400
    drawdown = drawdown_since(connection, desk.book, desk.plan.name, since)
    severe = [row for row in desk.books.open_breaks(desk.book) if row["severity"] == 1]
    told = divergence(connection, desk.book, desk.plan.name, since)
    last = len(rules.steps) - 1
    gates = (
        SafetyCheck(name="next_step", ok=step < last, found=f"step {step} of {last}", expected="a further step in the ramp"),
        SafetyCheck(name="days", ok=days >= rules.days, found=f"{days:.1f} days on the step", expected=f"{rules.days} days"),
        SafetyCheck(
            name="breaks", ok=not desk.books.open_breaks(desk.book), found=f"{len(desk.books.open_breaks(desk.book))} open, "
            f"{len(severe)} of severity 1", expected="none open",
        ),
        SafetyCheck(
            name="drawdown", ok=drawdown <= rules.max_drawdown, found=text(drawdown.quantize(Decimal("0.0001"))),
            expected=f"at most {text(rules.max_drawdown)}",
        ),
        SafetyCheck(
            name="divergence", ok=told.compared > 0 and abs(told.price) <= rules.max_divergence,
            found=f"{text(told.price.quantize(Decimal('0.000001')))} over {told.compared} orders that both filled",
            expected=f"at most {text(rules.max_divergence)} either way, over one order at least",
        ),
    )  # fmt: skip
    return Ramp(step=step, capital=desk.plan.capital, since=since, reason=reason, gates=gates)


def promote(desk: Desk, reason: str) -> Ramp:
    """Takes the plan to its next step, with the cash for it out of what no plan owns. Returns where it stands then.

    Raises ConfigurationError with every gate that it has not passed, or when the cash is not there.
    """
    with at_the_desk(desk):
        now = ramp(desk)
        if not now.passed:
            raise ConfigurationError([f"ramp: {gate}" for gate in now.gates if not gate.ok])
        target = desk.plan.ramp.steps[now.step + 1]
        amount = target - now.capital
        free = desk.books.free_cash(desk.book, desk.plan.cash_asset).get(OUTSIDE, ZERO)
        if free < amount:
            raise ConfigurationError(
                f"ramp: found {text(free)} {desk.plan.cash_asset} that is no plan's, expected {text(amount)}: pay it in first"
            )
        _move(desk, now.step + 1, target, amount, reason, "ramp.promote", now.gates)
        desk.plan = desk.plan.model_copy(update={"capital": target})
        return ramp(desk)


def demote_for_cause(desk: Desk) -> str:
    """Takes the plan one step back when its drawdown is over the ramp's, or a break of severity 1 is open; says why, or nothing.

    The cash of the difference goes back to no plan, as far as it is free. At the first step there is nothing to take back: the
    breaker and the arming are what stops it. While another run has the portfolio, that one looks at its own end.
    """
    if not needs_checks(desk.mode):
        return ""
    try:
        with at_the_desk(desk):
            return _demote(desk)
    except Busy:
        return ""


def _demote(desk: Desk) -> str:
    now = ramp(desk)
    failed = {gate.name: gate for gate in now.gates if not gate.ok}
    severe = [f"break {row['class']} {row['subject']}" for row in desk.books.open_breaks(desk.book) if row["severity"] == 1]
    cause = str(failed["drawdown"]) if "drawdown" in failed else next(iter(severe), "")
    if not cause or now.step == 0 or cause == now.reason:  # one step for one cause
        return ""
    target = desk.plan.ramp.steps[now.step - 1]
    free = max(desk.books.free_cash(desk.book, desk.plan.cash_asset).get(desk.plan.name, ZERO), ZERO)
    _move(desk, now.step - 1, target, -min(free, now.capital - target), cause, "ramp.demote", now.gates)
    desk.plan = desk.plan.model_copy(update={"capital": target})
    return cause


def follow(paper: Desk, capital: Decimal) -> None:
    """Gives the paper shadow as much as its plan has for real, or takes it back; nothing before it is opened."""
    has = given(paper.books.connection, paper.book, paper.plan.name)
    if has is None or has == capital:
        return
    assert isinstance(paper.exchange, PaperExchange)
    amount, cash = capital - has, paper.plan.cash_asset
    if amount > 0:
        reference = f"ramp:{paper.book}:{paper.plan.name}:{text(has)}:{text(capital)}"
        paper.exchange.move(
            Movement(entry_id=reference, kind=MovementKind.DEPOSIT, asset=cash, amount=amount, happened_at=paper.market_now())
        )
        with at_the_desk(paper):
            reconcile(paper)
    allot(paper, amount)


def _move(
    desk: Desk, step: int, capital: Decimal, amount: Decimal, reason: str, kind: str, gates: tuple[SafetyCheck, ...]
) -> None:
    change = Change()
    source = f"{desk.book}:{desk.plan.name}@{desk.wall().isoformat()}"
    lines: tuple[Posting, ...] = share(desk.account(desk.plan.cash_asset), amount)
    if amount:
        change.transaction(Transaction("allotment", "ramp", source, desk.market_now(), lines))
    change.add(
        "ramp_steps", id=derived_id("ramp", source), book=desk.book, plan=desk.plan.name, step=step, capital=dec(capital),
        reason=reason, actor=desk.journal.author().actor, at=desk.market_now(),
        evidence={gate.name: {"ok": gate.ok, "found": gate.found, "expected": gate.expected} for gate in gates},
    )  # fmt: skip
    desk.journal.record(kind, change)
