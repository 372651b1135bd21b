"""Reading the books: orders, fills, positions, profit and loss, equity."""

from __future__ import annotations

from decimal import Decimal
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

    from trading.store.rows import EquityRow

State = Annotated[list[str] | None, typer.Option("--state", help="Only orders in this state; may be repeated.")]
Limit = Annotated[int, typer.Option("--newest", min=1, help="How many of the newest rows to show.")]


def orders(
    mode: ModeChoice = None,
    portfolio: Portfolio = None,
    plan: PlanChoice = None,
    state: State = None,
    newest: Limit = 200,
    as_json: Json = False,
) -> None:
    """Every order with its state, oldest first."""
    with reports() as ledger:
        rows = as_rows(ledger.orders(scope(mode, portfolio, plan), states=state or ())[-newest:])
    if as_json:
        print_json(rows)
        return
    columns = (
        "created_at",
        "mode",
        "plan",
        "product",
        "side",
        "type",
        "quantity",
        "price",
        "state",
        "filled",
        "reason",
        "client_order_id",
    )
    print_table("Orders", rows, columns, "No orders.")


def fills(
    mode: ModeChoice = None,
    portfolio: Portfolio = None,
    plan: PlanChoice = None,
    newest: Limit = 200,
    as_json: Json = False,
) -> None:
    """Every execution with its price and fee, oldest first."""
    with reports() as ledger:
        rows = as_rows(ledger.fills(scope(mode, portfolio, plan))[-newest:])
    if as_json:
        print_json(rows)
        return
    columns = ("traded_at", "plan", "product", "side", "quantity", "price", "fee", "fee_asset", "liquidity", "client_order_id")
    print_table("Fills", rows, columns, "No fills.")


def positions(mode: ModeChoice = None, portfolio: Portfolio = None, plan: PlanChoice = None, as_json: Json = False) -> None:
    """What is held, at the newest stored candle's close."""
    with reports() as ledger:
        rows = as_rows(ledger.positions(scope(mode, portfolio, plan)))
    if as_json:
        print_json(rows)
        return
    shown = [row | {name: rounded(row[name]) for name in ("cost", "value", "unrealised")} for row in rows]
    columns = ("plan", "product", "quantity", "cost", "price", "priced_at", "value", "unrealised")
    print_table("Positions", shown, columns, "No positions.")


def pnl(mode: ModeChoice = None, portfolio: Portfolio = None, plan: PlanChoice = None, as_json: Json = False) -> None:
    """Realised results and fees by day and product; plus is a gain."""
    with reports() as ledger:
        rows = as_rows(ledger.pnl(scope(mode, portfolio, plan)))
    if as_json:
        print_json(rows)
        return
    shown = [row | {name: rounded(row[name]) for name in ("realised", "fees", "net")} for row in rows]
    print_table("Profit and loss", shown, ("day", "plan", "product", "asset", "realised", "fees", "net"), "No results yet.")


def equity(
    mode: ModeChoice = None,
    portfolio: Portfolio = None,
    plan: PlanChoice = None,
    curve: Annotated[bool, typer.Option("--curve", help="Every stored mark instead of the worth now.")] = False,
    as_json: Json = False,
) -> None:
    """Cash, results and worth: the sum over the plans that the options name."""
    wanted = scope(mode, portfolio, plan)
    with reports() as ledger:
        if curve:
            points = as_rows(ledger.equity_curve(wanted))
            if as_json:
                print_json(points)
            else:
                columns = ("at", "plan", "equity", "cash", "unrealised", "realised", "fees")
                print_table("Equity", points, columns, "No marks yet.")
            return
        rows = ledger.equity(wanted)
    total = total_equity(rows)
    if as_json:
        print_json(total | {"plans": rows})
        return
    amounts = ("equity", "cash", "realised", "unrealised", "fees")
    plans = as_rows(rows) + ([total | {"plan": "all"}] if len(rows) > 1 else [])
    shown = [row | {name: rounded(row[name]) for name in amounts} for row in plans]
    print_table("Equity", shown, ("book", "plan", "asset", *amounts), "No plan has been opened yet.")


def total_equity(rows: Sequence[EquityRow]) -> dict[str, Any]:
    """The sum over plans as plain text; None where one of them cannot be valued.

    Raises ConfigurationError when the rows do not belong together: modes and assets are never added up.
    """
    from trading.errors import ConfigurationError
    from trading.money import text

    modes, assets = {row.book.split(":")[0] for row in rows}, {row.asset for row in rows}
    if len(modes) > 1 or len(assets) > 1:
        found = ", ".join(sorted(modes if len(modes) > 1 else assets))
        raise ConfigurationError(f"equity: found {found}, which are never added up: expected --mode or --plan to name one")
    total: dict[str, Any] = {"asset": next(iter(assets), None)}
    for name in ("equity", "cash", "realised", "unrealised", "fees"):
        values = [getattr(row, name) for row in rows]
        total[name] = None if None in values else text(sum(values, Decimal(0)))
    return total
