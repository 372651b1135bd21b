"""What trading cost, what it gained, and the proof of it: analyses and exports of the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import (
    Json,
    ModeChoice,
    PlanChoice,
    Portfolio,
    as_rows,
    fail,
    ledger,
    print_json,
    print_table,
    reports,
    rounded,
    scope,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from trading.costs import CostSum, OrderCosts
    from trading.store.database import Connection
    from trading.store.decisions import StoredDecision
    from trading.store.reports import Reports, Scope

By = Annotated[str | None, typer.Option("--by", help="Sum by product, side, type or hour (of the day, UTC).")]
Limit = Annotated[int, typer.Option("--newest", min=1, help="How many of the newest orders to show.")]

PARTS = ("delay", "spread", "impact", "fees", "opportunity", "shortfall")
SUM_COLUMNS = ("asset", "orders", "unknown", "notional", *PARTS, "bp")
ORDER_COLUMNS = ("decided_at", "product", "side", "type", "state", "quantity", "filled", *PARTS, "bp")


def costs(
    mode: ModeChoice = None,
    portfolio: Portfolio = None,
    plan: PlanChoice = None,
    by: By = None,
    newest: Limit = 50,
    as_json: Json = False,
) -> None:
    """What trading cost: delay, spread, impact, fees and what was missed, in quote; plus is worse for us."""
    from trading.costs import summed
    from trading.store.costing import order_costs

    with reports() as books:
        rows = order_costs(books, scope(mode, portfolio, plan))
    total, groups = summed(rows), summed(rows, by) if by else []
    if as_json:
        print_json({"total": _sums(total), **({"by": by, "groups": _sums(groups)} if by else {"orders": _orders(rows)})})
        return
    if by:
        print_table(f"Costs by {by}", _shown(_sums(groups), by), (by, *SUM_COLUMNS), "No orders are done yet.")
    else:
        print_table("Costs", _shown(_orders(rows[-newest:])), ORDER_COLUMNS, "No orders are done yet.")
    if rows:
        print_table("In all", _shown(_sums(total)), SUM_COLUMNS, "")


Year = Annotated[int, typer.Option("--year", help="The year of the sales, UTC.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV for a spreadsheet.")]
GAIN_COLUMNS = ("acquired", "disposed", "product", "quantity", "proceeds", "cost", "fees", "gain", "held_days")


def gains(
    year: Year,
    mode: ModeChoice = None,
    portfolio: Portfolio = None,
    plan: PlanChoice = None,
    csv: Csv = False,
    as_json: Json = False,
) -> None:
    """Gains by lot, as the portfolio gives lots up: acquired, disposed, proceeds, cost, fees, gain, days held."""
    from trading.gains import gain_sums
    from trading.store.costing import gains as gains_of

    with reports() as books:
        found = gains_of(books, scope(mode, portfolio, plan), year)
    rows, sums = as_rows(found), as_rows(gain_sums(found))
    if csv:
        _print_csv(rows, ("book", "plan", *GAIN_COLUMNS, "net", "asset", "basis_known", "source", "lot"))
    elif as_json:
        print_json({"year": year, "gains": rows, "sums": sums})
    else:
        amounts = ("proceeds", "cost", "fees", "gain", "net")
        print_table(f"Gains of {year}", _rounded(rows, amounts[:4]), ("plan", *GAIN_COLUMNS), f"No sales in {year}.")
        if sums:
            print_table("In all", _rounded(sums, amounts), ("plan", "asset", "parts", *amounts), "")


def _rounded(rows: Sequence[dict[str, Any]], amounts: Sequence[str]) -> list[dict[str, Any]]:
    return [row | {name: rounded(row[name]) for name in amounts} for row in rows]


def _print_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    import csv
    import sys

    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _sums(sums: Sequence[CostSum]) -> list[dict[str, Any]]:
    from trading.costs import spelled

    return as_rows(
        [
            {"group": one.group, "asset": one.asset, "orders": one.orders, "unknown": one.unknown} | spelled(one.costs)
            for one in sums
        ]
    )


def _orders(rows: Sequence[OrderCosts]) -> list[dict[str, Any]]:
    from trading.costs import spelled
    from trading.store.rows import plain

    return [{name: value for name, value in plain(row).items() if name != "costs"} | plain(spelled(row.costs)) for row in rows]


def _shown(rows: Sequence[dict[str, Any]], by: str = "") -> list[dict[str, Any]]:
    """For people: amounts at two decimals, basis points at one."""
    amounts = ("notional", *PARTS)
    return [
        row | {name: rounded(row[name]) for name in amounts}
        | {"bp": None if row["basis_points"] is None else f"{float(row['basis_points']):.1f}"}
        | ({by: row["group"]} if by else {})
        for row in rows
    ]  # fmt: skip


def replay(
    name: Annotated[str, typer.Argument(help="An order (its id or how it begins), or a slot: default@2026-11-24T10:00:00Z.")],
    mode: ModeChoice = None,
    portfolio: Portfolio = None,
    as_json: Json = False,
) -> None:
    """Proof of a decision: derives it anew from the stored candles, plan, portfolio and breaker, and compares every byte.

    Fails when the same code and data lead to another decision; says what differs when code or data changed since.
    """
    from trading.proof import replay as derive
    from trading.store.database import connect
    from trading.store.roles import Role

    with reports() as books:
        wanted, plan, slot_at = _slot_of(books, name, mode, portfolio)
    with connect(ledger(), "keel replay", Role.REPORT) as connection:
        found = list(derive(connection, _stored(connection, wanted, plan, slot_at)))
    if as_json:
        print_json(found)
    for one in () if as_json else found:
        print(f"{one.book} {one}", *one.differences, sep="\n  ")
    if any(one.unexplained for one in found):
        raise fail("replay", "the same data, plan and code lead to another decision than they did")


def _slot_of(books: Reports, name: str, mode: str | None, portfolio: str | None) -> tuple[Scope, str, datetime]:
    """Scope, plan and candle close of an order's slot, or of a slot by its name."""
    from trading.errors import ConfigurationError
    from trading.money import parse_stamp

    wanted, slot = scope(mode, portfolio, None), name
    if "@" not in name:
        order = books.order(name)
        mode, _, portfolio = order.book.partition(":")
        wanted, slot = scope(mode, portfolio, None), order.slot
    plan, _, at = slot.partition("@")
    try:
        return wanted, plan, parse_stamp(at)
    except ValueError:
        what = "was placed by hand: nothing is derived" if slot.startswith("hand:") else "is no slot"
        raise ConfigurationError(f"replay {name}: {slot} {what}, expected PLAN@2026-11-24T10:00:00Z") from None


def _stored(connection: Connection, wanted: Scope, plan: str, slot_at: datetime) -> list[StoredDecision]:
    from trading.errors import ConfigurationError
    from trading.money import stamp
    from trading.store.decisions import Decisions

    found = Decisions(connection).of_slot(plan, slot_at, wanted)
    if not found:
        raise ConfigurationError(f"slot {plan}@{stamp(slot_at)}: found no decision in the ledger, expected one that was decided")
    return found


export = typer.Typer(name="export", help="The ledger in other programs' formats.", no_args_is_help=True)


@export.command()
def beancount(
    mode: ModeChoice = None,
    portfolio: Portfolio = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; standard output without it.")] = None,
) -> None:
    """Every transaction, and the balance of every account at the end, for beancount."""
    from contextlib import nullcontext
    from sys import stdout

    from trading.store.beancount import beancount as lines

    with reports() as books, nullcontext(stdout) if out is None else out.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines(books, scope(mode, portfolio, None)))


@export.command()
def parquet(out: Annotated[Path, typer.Option("--out", help="The folder to write into; it is made.")]) -> None:
    """One Parquet file per table, all of one moment."""
    from trading.store.parquet import write_parquet

    with reports() as books:
        counts = write_parquet(books, out)
    print_table(
        f"Written to {out}", [{"file": f"{name}.parquet", "rows": rows} for name, rows in counts.items()], ("file", "rows"), ""
    )
