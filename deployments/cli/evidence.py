"""What trading cost, what it gained, and the proof of it: analyses and exports of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import (
    Json,
    ModeChoice,
    PlanChoice,
    Portfolio,
    as_rows,
    print_json,
    print_table,
    reports,
    rounded,
    scope,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trading.costs import CostSum, OrderCosts

By = Annotated[str | None, typer.Option("--by", help="Sum by product, side, type or hour (of the day, UTC).")]
Limit = Annotated[int, typer.Option("--newest", min=1, help="How many of the newest orders to show.")]

PARTS = ("delay", "spread", "impact", "fees", "opportunity", "shortfall")


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

    with reports() as ledger:
        rows = order_costs(ledger, scope(mode, portfolio, plan))
    total, groups = summed(rows), summed(rows, by) if by else []
    if as_json:
        print_json({"total": _sums(total), **({"by": by, "groups": _sums(groups)} if by else {"orders": _orders(rows)})})
        return
    if by:
        columns = (by, "asset", "orders", "unknown", "notional", *PARTS, "bp")
        print_table(f"Costs by {by}", _shown(_sums(groups), by), columns, "No orders are done yet.")
    else:
        columns = ("decided_at", "product", "side", "type", "state", "quantity", "filled", *PARTS, "bp")
        print_table("Costs", _shown(_orders(rows[-newest:])), columns, "No orders are done yet.")
    if rows:
        print_table("In all", _shown(_sums(total)), ("asset", "orders", "unknown", "notional", *PARTS, "bp"), "")


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
