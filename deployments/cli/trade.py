"""Doing without Prefect: one cycle, one reconciliation, an order or a cancel by hand."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from deployments.cli.console import MODES, Json, Plan, fail, print_json, reports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from trading.desk import Desk
    from trading.hand import HandOrder
    from trading.orders import Request

Mode = Annotated[str, typer.Option("--mode", help="paper, rehearsal or live.")]
Capital = Annotated[str | None, typer.Option("--capital", help="Starting capital of a plan that is not opened yet.")]


def trade(plan: Plan = "default", mode: Mode = "paper", capital: Capital = None, as_json: Json = False) -> None:
    """One trade cycle in this process: the last closed candle is decided on, once."""
    from config.desk import open_shadow
    from trading.cycle import run
    from trading.orders import Mode as Modes
    from trading.rollout import demote_for_cause
    from trading.summary import to_text

    with desk_of(plan, mode, None if capital is None else amount(capital, "--capital")) as desk:
        cycle = run(desk)
        summary = cycle.summary
        if mode != "paper" and (cause := demote_for_cause(desk)):
            print(f"The plan went one step of its ramp back: {cause}", file=sys.stderr)
    if mode != "paper":
        with open_shadow(plan, Modes(mode)) as shadow:
            run(shadow, cycle.slot_at)
    if as_json:
        print_json(summary)
        return
    print(to_text(summary))
    if summary["outcome"] == "repeated":
        print(f"Nothing was traded. The next slot is {summary['next_slot']}.")


def reconcile(plan: Plan = "default", mode: Mode = "paper", as_json: Json = False) -> None:
    """Settle what is live and compare orders, fills and balances with the exchange; status 1 when they differ."""
    from trading.hand import at_the_desk
    from trading.reconcile import reconcile as compare

    with desk_of(plan, mode) as desk, at_the_desk(desk):
        found = compare(desk)
    if as_json:
        print_json(found.to_dict())
    else:
        print(f"Compared {found.orders} orders, {found.fills} with fills, and {len(found.balances)} balances.")
        for asset, held in found.balances.items():
            print(f"  {asset} {held}")
        print("Clean." if found.clean else "")
    if not found.clean:
        said = "; ".join(str(difference) for difference in found.differences) or "no new difference"
        raise fail("not_clean", f"{said}; open breaks: {found.open_breaks} (`keel breaks list`)")


def order(
    side: Annotated[str, typer.Argument(help="BUY or SELL.")],
    product: Annotated[str, typer.Argument(help="A product of the plan, such as BTC-USD.")],
    quantity: Annotated[str, typer.Argument(help="In base units, such as 0.001.")],
    limit: Annotated[str | None, typer.Option("--limit", help="Limit price; without one: at the market.")] = None,
    stop: Annotated[str | None, typer.Option("--stop", help="Stop price; with --limit: a stop-limit order.")] = None,
    tif: Annotated[str | None, typer.Option("--tif", help="gtc, gtd, ioc or fok; at the market always ioc.")] = None,
    expires: Annotated[str | None, typer.Option("--expires", help="End of a gtd order, as 2026-11-24T10:00:00Z.")] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="Refuse to take liquidity.")] = False,
    bracket: Annotated[bool, typer.Option("--bracket", help="Sell at --limit for a profit or, below --stop, at a loss.")] = False,
    reference: Annotated[str | None, typer.Option("--ref", help="Names the order: the same one never sends twice.")] = None,
    plan: Plan = "default",
    mode: Mode = "paper",
    as_json: Json = False,
) -> None:
    """An order by hand, through the same identity, checks, breaker and ledger as every other one."""
    from trading.hand import place

    request = requested(side, product, quantity, limit, stop, tif, expires, post_only=post_only, bracket=bracket)
    check_reference(reference)
    with desk_of(plan, mode, by_person=True) as desk:
        placed = place(desk, request, reference)
    _show_placed(placed, as_json=as_json)


def _show_placed(placed: HandOrder, *, as_json: bool) -> None:
    if placed.order is None:
        if as_json:
            print_json({"slot": placed.slot, "refused": {"code": placed.code, "message": placed.message}})
        raise fail(placed.code, placed.message)
    row = _stored(placed.order.id)
    if as_json:
        print_json({**row, "repeated": placed.repeated})
    else:
        before = f"{placed.slot} was sent before, nothing was sent now: " if placed.repeated else f"{placed.slot}: "
        print(before + _line(row))


def cancel(
    order: Annotated[str, typer.Argument(help="Client or exchange id of the order, or how its client id begins.")],
    reason: Annotated[str, typer.Option("--reason", help="Stored with the order.")] = "cancelled by hand",
    as_json: Json = False,
) -> None:
    """Cancel an order that rests; status 1 when it is not cancelled after that."""
    from trading.hand import cancel as cancel_order

    with reports() as ledger:
        found = ledger.order(order)
    with desk_of(found.plan, found.mode, by_person=True) as desk:
        cancel_order(desk, found.client_order_id, reason)
    row = _stored(found.client_order_id)
    if as_json:
        print_json(row)
    else:
        print(_line(row))
    if row["state"] not in ("cancelled", "abandoned"):
        raise fail("not_cancelled", f"the order is {row['state']}: {row['reason']}")


def _stored(order_id: UUID) -> dict[str, Any]:
    from trading.store.rows import plain

    with reports() as ledger:
        row: dict[str, Any] = plain(ledger.order(str(order_id)))
    return row


def _line(row: dict[str, Any]) -> str:
    price = f" at {row['price']}" if row["price"] else ""
    return (
        f"{row['side']} {row['quantity']} {row['product']} {row['type']}{price} is {row['state']}, filled {row['filled']}"
        f" ({row['client_order_id']})"
    )


# ----------------------------------------------------------------------------------------- what the options mean


@contextmanager
def desk_of(
    plan: str, mode: str, capital: Decimal | None = None, *, by_person: bool = False, trades: bool = True
) -> Iterator[Desk]:
    """The opened desk, `by_person` for what needs one, `trades` False to do without that key; what was done is anchored.

    A mode that does not exist is a usage error.
    """
    from config.anchors import anchor_after
    from config.desk import open_desk
    from trading.orders import Mode as Modes

    if mode not in MODES:
        raise typer.BadParameter(f"found {mode!r}, expected one of {', '.join(MODES)}", param_hint="--mode")
    with open_desk(plan, mode=Modes(mode), capital=capital, by_person=by_person, trades=trades) as desk:
        yield desk
        anchor_after(desk)


def amount(value: str, what: str) -> Decimal:
    """A positive number from the command line, exact."""
    from trading.errors import ConfigurationError
    from trading.money import dec

    number = dec(value, what)
    if number <= 0:
        raise ConfigurationError(f"{what}: found {value}, expected a positive number")
    return number


def requested(
    side: str, product: str, quantity: str, limit: str | None, stop: str | None, tif: str | None, expires: str | None,
    *, post_only: bool, bracket: bool = False,
) -> Request:  # fmt: skip
    """The request that the arguments describe. Whether its terms fit together is for validation to judge."""
    from trading.orders import OrderType, Request, Side, TimeInForce

    sides, forces = [member.value for member in Side], [member.value for member in TimeInForce]
    if side.lower() not in sides:
        raise typer.BadParameter(f"found {side!r}, expected BUY or SELL", param_hint="SIDE")
    if tif is not None and tif.lower() not in forces:
        raise typer.BadParameter(f"found {tif!r}, expected one of {', '.join(forces)}", param_hint="--tif")
    types = {(False, False): "market", (True, False): "limit", (False, True): "stop", (True, True): "stop_limit"}
    kind = OrderType.BRACKET if bracket else OrderType(types[limit is not None, stop is not None])
    rests = kind is not OrderType.MARKET
    default = ("gtd" if expires else "gtc") if rests else "ioc"
    return Request(
        product=product.upper(),
        side=Side(side.lower()),
        quantity=amount(quantity, "quantity"),
        type=kind,
        limit_price=None if limit is None else amount(limit, "--limit"),
        stop_price=None if stop is None else amount(stop, "--stop"),
        time_in_force=TimeInForce((tif or default).lower()),
        post_only=post_only,
        expires_at=None if expires is None else moment(expires, "--expires"),
        reason="by hand",
    )


def moment(value: str, what: str) -> datetime:
    from trading.errors import ConfigurationError
    from trading.money import parse_stamp

    try:
        return parse_stamp(value)
    except ValueError:
        raise ConfigurationError(f"{what}: found {value!r}, expected a UTC time as 2026-11-24T10:00:00Z") from None


def check_reference(reference: str | None) -> None:
    """A reference is part of an order's identity: plain and short, so that it means the same everywhere."""
    import re

    if reference is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", reference):
        expected = "expected up to 40 letters, digits, points, dashes and underscores"
        raise typer.BadParameter(f"found {reference!r}, {expected}", param_hint="--ref")
