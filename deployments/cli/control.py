"""Control by a person: the breaker, and the breaks that reconciliation found. Each act has an actor and a reason."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from deployments.cli.console import (
    Json,
    ModeChoice,
    Plan,
    Portfolio,
    as_rows,
    fail,
    print_json,
    print_table,
    reports,
    scope,
)
from deployments.cli.trade import Mode, desk_of

if TYPE_CHECKING:
    from trading.desk import Desk
    from trading.risk.breaker import BreakerRow

breaker = typer.Typer(name="breaker", help="The circuit breaker: show, trip, resume.", no_args_is_help=True)
breaks = typer.Typer(name="breaks", help="What reconciliation found: list, show, resolve.", no_args_is_help=True)

Reason = Annotated[str, typer.Option("--reason", help="Why; stored for ever.")]
Confirm = Annotated[str | None, typer.Option("--confirm", help="Where real orders follow: the phrase that is asked for.")]


class Announced(StrEnum):
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    CONVERSION = "conversion"


LEVELS = ("reduce_only", "no_new", "cancel")


@breaker.command("show")
def show_breaker(as_json: Json = False) -> None:
    """Every breaker as it stands; a scope without a row is open."""
    with reports() as readings:
        rows = as_rows(readings.breakers())
    if as_json:
        print_json(rows)
        return
    columns = ("scope", "state", "level", "generation", "reason", "at", "resumable_at", "test_until")
    print_table("Breaker", rows, columns, "No breaker rows: nothing may trade before a plan is opened (`keel trade`).")


@breaker.command("trip")
def trip_breaker(
    reason: Reason,
    scope_name: Annotated[str, typer.Option("--scope", help="As `keel breaker show` names it.")] = "global",
    level: Annotated[str, typer.Option("--level", help="reduce_only, no_new or cancel.")] = "no_new",
    plan: Plan = "default",
    mode: Mode = "paper",
    as_json: Json = False,
) -> None:
    """Open a breaker now. Only a person's resume leads out."""
    import sys

    from trading.hand import sweep, trip
    from trading.risk import Level

    if level not in LEVELS:
        raise typer.BadParameter(f"found {level!r}, expected one of {', '.join(LEVELS)}", param_hint="--level")
    with desk_of(plan, mode, by_person=True) as desk:
        row = trip(desk, scope_name, Level(level), said(reason))
        if row.level is Level.CANCEL and not sweep(desk):
            print("A run is at work: it cancels what rests before it ends.", file=sys.stderr)
    if as_json:
        print_json(row)
    else:
        print(f"{row.scope} is open at {row.level}: {row.reason}")


@breaker.command("resume")
def resume_breaker(
    reason: Reason,
    scopes: Annotated[list[str] | None, typer.Option("--scope", help="One scope; by default all open ones of the plan.")] = None,
    plan: Plan = "default",
    mode: Mode = "paper",
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Lead out of an open breaker into its test period: after the cool-down, with a clean reconciliation."""
    from trading.hand import resume
    from trading.risk import NotResumed

    with desk_of(plan, mode, by_person=True) as desk:
        confirmed(real_money(desk), confirm)
        found = resume(desk, scopes, said(reason))
    if as_json:
        print_json([row._asdict() if isinstance(row, NotResumed) else row for row in found])
    refused = [row for row in found if isinstance(row, NotResumed)]
    if not as_json:
        for row in found:
            if not isinstance(row, NotResumed):
                print(f"{_tested(row)}: {row.reason}")
    if refused:
        raise fail(refused[0].code, "; ".join(row.message for row in refused))
    if not found:
        print("No breaker of this plan is open." if not as_json else "", end="" if as_json else "\n")


def _tested(row: BreakerRow) -> str:
    from trading.money import stamp

    return f"{row.scope} is half-open until {stamp(row.test_until) if row.test_until else 'a person closes it'}"


def halt(
    reason: Annotated[str, typer.Argument(help="Why; written into the halt file and the ledger.")] = "halted by hand",
    as_json: Json = False,
) -> None:
    """Stop everything now: no order is sent any more, what adds risk is cancelled. Works with Postgres or Prefect down.

    Status 1 when a part could not be done; with the halt file written, no order is sent all the same.
    """
    import time
    from contextlib import suppress

    from config.clock import wall_clock
    from config.halt import write_halt
    from config.settings import load, who_acts

    settings, why = load(), reason.strip() or "halted by hand"
    with suppress(OSError):  # the file alone stops every order: before an import that takes seconds; tried again below, and told
        write_halt(settings, why, who_acts(), wall_clock())

    from config.stopping import stop_everything

    steps = stop_everything(settings, why, wall_clock(), time.sleep)
    if as_json:
        print_json([{"step": step.name, "ok": step.ok, "said": step.said} for step in steps])
    else:
        for step in steps:
            print(f"{'done' if step.ok else 'NOT DONE':8}  {step.name}: {step.said}")
    if undone := [step.name for step in steps if not step.ok]:
        raise fail("not_all_done", f"{', '.join(undone)}: see docs/runbook.md")


def resume(
    reason: Reason,
    plan: Plan = "default",
    mode: Mode = "paper",
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Lead out of a halt, once the books are clean: the halt file goes, and breakers enter their test period."""
    import sys

    from config.halt import halted_by, remove_halt
    from config.settings import load
    from trading.hand import resume
    from trading.risk import NotResumed
    from trading.store.halting import real_books, requested

    settings = load()
    with desk_of(plan, mode, by_person=True) as desk:
        for wish in requested(desk.books.connection):
            print(f"Requested in the Prefect UI: {wish}", file=sys.stderr)
        confirmed(real_books(desk.books.connection) + real_money(desk), confirm)
        found = resume(desk, None, said(reason), lambda: remove_halt(settings))
    halted = halted_by(settings)()
    if as_json:
        rows = [row._asdict() if isinstance(row, NotResumed) else row for row in found]
        print_json({"halted": halted, "breakers": rows})
    refused = [row for row in found if isinstance(row, NotResumed)]
    if refused or halted:
        why = [row.message for row in refused] + ([halted] if halted else [])
        raise fail(refused[0].code if refused else "halted", "; ".join(why))
    if not as_json:
        resumed = [row for row in found if not isinstance(row, NotResumed)]
        print("No halt file stands in the way.", *(f"{_tested(row)}." for row in resumed))


def flatten(
    reason: Reason,
    products: Annotated[
        list[str] | None, typer.Option("--product", help="Only this product; by default all of the plan's.")
    ] = None,
    plan: Plan = "default",
    mode: Mode = "paper",
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Sell what a plan holds, in slices, each with a limit near the bid. Only a person does this; a halt file stops it too."""
    from dataclasses import asdict

    from trading.flattening import flatten as sell_all

    with desk_of(plan, mode, by_person=True) as desk:
        confirmed(real_money(desk), confirm, "flatten")
        found = sell_all(desk, said(reason), products)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        for one in found:
            print(f"{one.product}: sold {one.sold}, left {one.left}{f' ({one.said})' if one.said else ''}")
        print("" if found else "The plan holds nothing.", end="\n" if not found else "")
    if unsold := [one.product for one in found if one.left]:
        raise fail("not_flat", f"{', '.join(unsold)}: see `keel positions`")


def real_money(desk: Desk) -> list[str]:
    """The portfolio, if its orders are for real money: what a confirmation names."""
    from trading.orders import Mode

    return [desk.book] if desk.mode is Mode.LIVE else []


def confirmed(books: list[str], typed: str | None, verb: str = "resume") -> None:
    """The second confirmation where real orders follow: a phrase that names them, typed back. Raises Exit."""
    import sys

    if not books:
        return
    phrase = f"{verb} {' '.join(sorted(set(books)))}"
    if typed is None and sys.stdin.isatty():
        typed = typer.prompt(f"Real orders follow. Type back: {phrase}")
    if (typed or "").strip() != phrase:
        raise fail("not_confirmed", f'found {typed!r}, expected the phrase "{phrase}" (--confirm)')


@breaks.command("list")
def list_breaks(
    mode: ModeChoice = None,
    portfolio: Portfolio = None,
    every: Annotated[bool, typer.Option("--all", help="Resolved ones as well.")] = False,
    as_json: Json = False,
) -> None:
    """The breaks that are open; each freezes its asset."""
    with reports() as readings:
        rows = as_rows(readings.breaks(scope(mode, portfolio, None), open_only=not every))
    for row in rows:
        row["resolved"] = row["resolved_at"] is not None
    if as_json:
        print_json(rows)
        return
    columns = ("id", "book", "class", "severity", "subject", "ours", "theirs", "opened_at", "resolved_at", "resolution")
    print_table("Breaks", rows, columns, "No breaks." if every else "No open breaks.")


@breaks.command("show")
def show_break(name: Annotated[str, typer.Argument(help="Id of the break, or how it begins.")], as_json: Json = False) -> None:
    """One break with everything that is known about it."""
    row = _one_break(name)
    if as_json:
        print_json(row)
        return
    for key, value in row.items():
        print(f"{key.replace('_', ' '):12} {'–' if value is None else value}")


@breaks.command("resolve")
def resolve_break(
    name: Annotated[str, typer.Argument(help="Id of the break, or how it begins.")],
    reason: Reason,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take the exchange's side: a foreign or lost order becomes the plan's own.")
    ] = False,
    plan: Plan = "default",
    mode: Mode = "paper",
    as_json: Json = False,
) -> None:
    """Close a break by a person's word, which unfreezes its asset. If the difference is still there, it opens again."""
    from trading.resolution import resolve

    row = _one_break(name)
    if row["resolved_at"] is not None:
        raise fail("resolved", f"break {row['id']} was resolved by {row['resolved_by']}: {row['resolution']}")
    with desk_of(plan, mode, by_person=True) as desk:
        resolve(desk, UUID(row["id"]), said(reason), adopt=adopt)
    show_break(row["id"], as_json)


def announce(
    kind: Annotated[Announced, typer.Argument(help="What will happen.")],
    asset: Annotated[str, typer.Argument(help="For example USD.")],
    amount: Annotated[str, typer.Argument(help="How much, exactly.")],
    reason: Reason,
    plan: Plan = "default",
    mode: Mode = "paper",
    as_json: Json = False,
) -> None:
    """Say beforehand that money or coin will move at the exchange: what nobody announced opens the breaker."""
    from trading.resolution import announce as announced

    with desk_of(plan, mode, by_person=True) as desk:
        id_ = announced(desk, kind.value, asset.upper(), amount_of(amount), said(reason))
    if as_json:
        print_json({"id": id_, "kind": kind.value, "asset": asset.upper(), "amount": amount})
    else:
        print(f"{kind.value} of {amount} {asset.upper()} announced ({id_})")


def allot(
    amount: Annotated[str, typer.Argument(help="Cash to give to the plan; negative: to take from it.")],
    plan: Plan = "default",
    mode: Mode = "paper",
    as_json: Json = False,
) -> None:
    """Give a plan cash that was deposited, or take it back before a withdrawal."""
    from trading.resolution import allot as allotted

    with desk_of(plan, mode, by_person=True) as desk:
        allotted(desk, amount_of(amount))
    if as_json:
        print_json({"plan": plan, "amount": amount})
    else:
        print(f"{plan}: {amount} {desk.plan.cash_asset}")


def amount_of(text: str) -> Decimal:
    from trading.money import dec

    return dec(text, "amount")


def _one_break(name: str) -> dict[str, Any]:
    from trading.errors import ConfigurationError
    from trading.store.reports import Scope

    with reports() as readings:
        rows = [row for row in as_rows(readings.breaks(Scope())) if row["id"].startswith(name.lower())]
    if len(rows) != 1 or not name:
        raise ConfigurationError(f"break {name}: found {len(rows)}, expected the id of one break (`keel breaks list --all`)")
    return rows[0]


def said(reason: str) -> str:
    """A reason that says something."""
    if not reason.strip():
        raise typer.BadParameter("found nothing, expected why", param_hint="--reason")
    return reason.strip()
