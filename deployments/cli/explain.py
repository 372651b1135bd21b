"""Why an order is what it is: from the candles that were seen to the postings that it made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from deployments.cli.console import Json, cell, print_json, print_table, reports


def explain(
    order: Annotated[str, typer.Argument(help="Client or exchange id of the order, or how its client id begins.")],
    as_json: Json = False,
) -> None:
    """Why: slot, candles and their hash, signal, sizing, each check, breaker, sends, replies, fills, postings."""
    from trading.store.rows import plain

    with reports() as ledger:
        found: dict[str, Any] = plain(ledger.explain(ledger.order(order)))
    if as_json:
        print_json(found)
        return
    _print(found)


def _print(found: dict[str, Any]) -> None:
    order, terms = found["order"], found["terms"]
    price = f" at {order['price']}" if order["price"] else ""
    terms_said = f"{order['side']} {order['quantity']} {order['product']} {order['type']}{price}"
    print(f"{terms_said}: {order['state']}, filled {order['filled']}")
    _pairs("Identity", order, ("client_order_id", "exchange_order_id", "book", "plan", "strategy", "slot", "leg"))
    _print_slot(found["cycle"])
    _pairs("Decision", order, ("decision", "decision_price", "decided_at"))
    evaluation = found["evaluation"]
    checks = evaluation["body"]["checks"] if evaluation else []
    shown = [check | {"passed": "passed" if check["passed"] else "REFUSED"} for check in checks]
    print_table("Checks", shown, ("code", "passed", "observed", "limit"), "No evaluation is stored for this order.")
    _pairs("Sent bytes", terms, ("body", "body_sha256", "send_before", "plan_sha"))
    print_table(
        "Events", found["events"], ("seq", "from_state", "event", "to_state", "evidence", "epoch", "at"), "No events: never sent."
    )
    print_table(
        "Breaker at the send", found["breaker"], ("scope", "generation", "state", "level", "reason"), "No send locked a breaker."
    )
    print_table(
        "Fills", found["fills"], ("traded_at", "quantity", "price", "fee", "fee_asset", "liquidity", "entry_id"), "No fills."
    )
    print_table("Postings", found["postings"], ("account", "amount", "asset", "entry_id"), "No postings.")
    print_table("Audit rows", found["audit"], ("seq", "at", "kind", "actor", "flow_run_id", "task_run_id"), "No audit rows.")


def _print_slot(cycle: dict[str, Any] | None) -> None:
    if cycle is None:
        print("\nSlot\n  by hand: no cycle")
        return
    _pairs("Slot", cycle, ("slot_at", "state", "market_at", "source", "candles_sha", "flow_run_id"))
    if cycle["seen"]:
        _pairs("What it saw", cycle["seen"], ("close", "bid", "ask", "signal"))
    for note in cycle["notes"]:
        print(f"  note             {note}")


def _pairs(title: str, values: dict[str, Any], names: Iterable[str]) -> None:
    print(f"\n{title}")
    for name in names:
        print(f"  {name.replace('_', ' '):16} {cell(values[name])}")
