"""Rows of the ledger as the project's own types: one function for each, each knows the columns that it needs."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading.lots import Lot
from trading.money import ZERO
from trading.orders import Fill, FillKind, Intent, Mode, Order, OrderType, Owner, Request, Side, State, TimeInForce
from trading.portfolio import Bought, Holdings, Position, Recent
from trading.risk.breaker import BreakerRow, BreakerState, Cause, Level


def order(row: dict[str, Any]) -> Order:
    request = Request(
        product=row["product"],
        side=Side(row["side"]),
        quantity=row["quantity"],
        type=OrderType(row["type"]),
        limit_price=row["limit_price"],
        stop_price=row["stop_price"],
        time_in_force=TimeInForce(row["time_in_force"]),
        post_only=row["post_only"],
        expires_at=row["expires_at"],
        leg=row["leg"],
        protective=row["protective"],
        reason=row["reason"],
    )
    owner = Owner(
        mode=Mode(row["mode"]),
        portfolio=row["portfolio"],
        plan=row["plan"],
        strategy=row["strategy"],
        slot=row["slot"],
    )
    intent = Intent(
        client_order_id=row["client_order_id"],
        owner=owner,
        request=request,
        body=row["body"],
        decision_price=row["decision_price"],
        decided_at=row["decided_at"],
    )
    return Order(
        intent=intent,
        state=State(row["state"]),
        seq=row["seq"],
        exchange_order_id=row["exchange_order_id"],
        filled=row["filled"],
        reason=row["head_reason"],
        updated_at=row["updated_at"],
    )


def holdings(book: str, plan: str, cash_asset: str, accounts: list[list[str]], positions: list[list[str]]) -> Holdings:
    """From accounts (kind, asset, product, posted, held) and positions (product, quantity, cost)."""
    held = {asset: Decimal(held) for kind, asset, _, _, held in accounts if kind == "venue"}
    totals = dict.fromkeys(("venue", "income", "fees"), ZERO)
    for kind, asset, _, posted, _ in accounts:
        if asset == cash_asset and kind in totals:
            totals[kind] += Decimal(posted)
    return Holdings(
        book=book,
        plan=plan,
        cash_asset=cash_asset,
        cash=totals["venue"],
        positions={
            product: Position(
                product=product, quantity=Decimal(quantity), cost=Decimal(cost), held=held.get(product.split("-", 1)[0], ZERO)
            )
            for product, quantity, cost in positions
        },
        realised=-totals["income"],
        fees=totals["fees"],
    )


def recent(lately: dict[str, Any]) -> dict[str, Recent]:
    """By product, from `keel.sent_lately`."""
    counts = {product: (hour, day) for product, hour, day in lately["counts"]}
    live, entries = dict(lately["live"]), dict(lately["entries"])
    sales = {product: None if price is None else Decimal(price) for product, price in lately["sales"]}
    bought: dict[str, list[Bought]] = {}
    for product, quantity, price, at in lately["buys"]:
        bought.setdefault(product, []).append(Bought(Decimal(quantity), Decimal(price), datetime.fromisoformat(at)))
    return {
        product: Recent(
            hour_orders=counts.get(product, (0, 0))[0],
            day_orders=counts.get(product, (0, 0))[1],
            live_orders=live.get(product, 0),
            entries=entries.get(product, 0),
            resting_sale=sales.get(product),
            bought=tuple(bought.get(product, ())),
        )
        for product in counts.keys() | live.keys() | entries.keys() | sales.keys()
    }


def lot(row: dict[str, Any]) -> Lot:
    """The lot as it was opened."""
    return Lot(row["id"], row["quantity"], row["cost"], row["acquired_at"], row["origin"], row["basis_known"])


def fill(row: dict[str, Any]) -> Fill:
    names = (field.name for field in fields(Fill))
    return Fill(**{name: row[name] for name in names} | {"side": Side(row["side"]), "kind": FillKind(row["kind"])})


def breaker(row: dict[str, Any]) -> BreakerRow:
    values = {field.name: row[field.name] for field in fields(BreakerRow)}
    level = None if row["level"] is None else Level(row["level"])
    cause = None if row["cause"] is None else Cause(row["cause"])
    return BreakerRow(**(values | {"state": BreakerState(row["state"]), "level": level, "cause": cause}))
