"""Real orders: what must hold before one is sent, a person's arming, the ramp of capital, and one small order to try it all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import Json, Plan, as_rows, fail, print_json, print_table
from deployments.cli.control import Confirm, Reason, confirmed, real_money, said
from deployments.cli.trade import desk_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trading.desk import Desk
    from trading.exchange.coinbase.stream import Doorbell
    from trading.orders import Request
    from trading.rollout import Ramp
    from trading.safety import Safety, SafetyCheck

RealMode = Annotated[str, typer.Option("--mode", help="live or rehearsal.")]
REAL_MODES = ("rehearsal", "live")
_LISTEN_SECONDS, _AGAIN_SECONDS = 60, 5

ramp = typer.Typer(name="ramp", help="Capital of a plan with real orders, step by step: show, promote.", no_args_is_help=True)


def check_live(plan: Plan = "default", mode: RealMode = "live", as_json: Json = False) -> None:
    """Every check of live trading with its verdict; status 1 while one of them forbids an order."""
    safety = _checked(plan, _real(mode))
    if as_json:
        print_json({"ok": safety.ok, "checks": [_row(check) for check in safety.checks]})
    else:
        _print_checks(f"Safety of {mode} trading", safety.checks)
    if not safety.ok:
        new_risk = all(check.risk_only for check in safety.failed)
        raise fail("not_safe", f"{len(safety.failed)} checks failed: {'no new risk' if new_risk else 'no order'} is sent")


def arm(
    reason: Reason,
    hours: Annotated[float, typer.Option("--hours", help="How long; at most 24. Its end stops new risk only.")] = 24,
    plan: Plan = "default",
    mode: RealMode = "live",
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Let a portfolio take risk with real orders for a day at most, on your word."""
    from trading.rollout import arm as armed

    with desk_of(plan, _real(mode), by_person=True) as desk:
        confirmed(real_money(desk), confirm, "arm")
        until = armed(desk, timedelta(hours=hours), said(reason))
        book = desk.book
    if as_json:
        print_json({"book": book, "armed_until": until})
    else:
        print(f"{book} is armed until {until:%Y-%m-%d %H:%M:%SZ}. `keel disarm` ends it before; exits always go on.")


def disarm(reason: Reason, plan: Plan = "default", mode: RealMode = "live") -> None:
    """End the arming now: no new risk is taken; exits and settling go on."""
    from trading.rollout import disarm as disarmed

    with desk_of(plan, _real(mode), by_person=True) as desk:
        disarmed(desk, said(reason))
        print(f"{desk.book} is not armed.")


@ramp.command("show")
def show_ramp(plan: Plan = "default", mode: RealMode = "live", as_json: Json = False) -> None:
    """On which step of its capital the plan stands, and each gate before the next one."""
    from trading.rollout import ramp as found

    with desk_of(plan, _real(mode), by_person=True) as desk:
        _show_ramp(desk, found(desk), as_json=as_json)


@ramp.command("promote")
def promote_ramp(
    reason: Reason,
    plan: Plan = "default",
    mode: RealMode = "live",
    confirm: Confirm = None,
    as_json: Json = False,
) -> None:
    """Take the plan to its next step of capital, once it has passed every gate."""
    from trading.rollout import promote

    with desk_of(plan, _real(mode), by_person=True) as desk:
        confirmed(real_money(desk), confirm, "promote")
        _show_ramp(desk, promote(desk, said(reason)), as_json=as_json)


def divergence(plan: Plan = "default", mode: RealMode = "live", as_json: Json = False) -> None:
    """Real orders beside their paper shadow, since the plan's present step: who ordered, price, fee and delay."""
    from trading.rollout import ramp as found
    from trading.shadow import divergence as compare

    with desk_of(plan, _real(mode), by_person=True) as desk:
        told = compare(desk.books.connection, desk.book, desk.plan.name, found(desk).since)
    if as_json:
        print_json(
            {"pairs": list(told.pairs), "compared": told.compared, "alone": told.alone, "price": told.price, "fee": told.fee}
        )
        return
    columns = ("slot", "product", "leg", "side", "signal", "price", "fee", "delay_seconds")
    rows = [row | {name: row[name] and f"{float(row[name]):.6f}" for name in ("price", "fee")} for row in as_rows(told.pairs)]
    print_table("Real against paper", rows, columns, "No orders yet, neither real nor on paper.")
    print(f"{told.compared} both filled: price {told.price:.6f}, fee {told.fee:.6f} of notional worse; {told.alone} by one alone")


def trade_once(
    plan: Plan = "default",
    mode: RealMode = "live",
    fill: Annotated[bool, typer.Option("--fill", help="Buy at the market; without it: post, look, cancel.")] = False,
    reference: Annotated[str | None, typer.Option("--ref", help="Names the order: the same one never sends twice.")] = None,
) -> None:
    """One minimal order through everything: sent, seen at the venue, cancelled or filled, booked, reconciled, explained."""
    from deployments.cli.explain import explain
    from trading.desk import see_market
    from trading.hand import at_the_desk, cancel, place
    from trading.market import last_close
    from trading.orders import State
    from trading.reconcile import reconcile

    with desk_of(plan, _real(mode), by_person=True) as desk:
        with at_the_desk(desk):
            see_market(desk, last_close(desk.market_now(), desk.plan.interval), desk.market_now())
        request = minimal(desk, fill=fill)
        print(f"Sending: {request.side} {request.quantity} {request.product} {request.type} {request.limit_price or ''}".rstrip())
        placed = place(desk, request, reference)
        if placed.order is None:
            raise fail(placed.code, placed.message)
        order = placed.order
        print(f"At the venue: {order.state}, filled {order.filled} ({order.exchange_order_id or 'no id'})")
        if order.state is State.OPEN:
            order = cancel(desk, order.id, "test trade")
            print(f"Cancelled: {order.state}, filled {order.filled}")
        with at_the_desk(desk):
            compared = reconcile(desk)
        print(compared.headline(desk.book))
    explain(str(order.id))
    wanted = (State.FILLED,) if fill else (State.CANCELLED, State.FILLED)
    if order.state not in wanted or not compared.clean:
        raise fail("test_trade", f"the order is {order.state}, reconciliation {'clean' if compared.clean else 'not clean'}")


def minimal(desk: Desk, *, fill: bool) -> Request:
    """The smallest order of the plan's first product that it may make: a buy that rests 2 % below the bid, or at the market."""
    from decimal import Decimal

    from trading.errors import MarketUnavailable
    from trading.money import ceil_to, floor_to
    from trading.orders import OrderType, Request, Side, TimeInForce

    id_ = desk.plan.products[0]
    product, quote = desk.exchange.products([id_]).get(id_), desk.quote(id_)
    if product is None or quote is None:
        raise MarketUnavailable(f"{id_}: found no product or no quote, expected both")
    price = quote.ask if fill else floor_to(quote.bid * Decimal("0.98"), product.price_increment)
    quantity = ceil_to(
        max(product.smallest_sale(price), desk.plan.orders.min_notional * Decimal("1.05") / price), product.base_increment
    )
    terms: dict[str, Any] = {} if fill else {
        "type": OrderType.LIMIT, "limit_price": price, "time_in_force": TimeInForce.GTC, "post_only": True,
    }  # fmt: skip
    return Request(product=id_, side=Side.BUY, quantity=quantity, reason="test trade", **terms)


def listen(plan: Plan = "default", mode: RealMode = "live") -> None:
    """Book fills within seconds, between the runs, until Ctrl-C: the venue says when to ask, and its lists say what traded.

    Needs the key that only views. Without it, or while it is down, every run books what it finds: nothing is lost, only later.
    """
    from config.live import stream_of, venue_of
    from config.settings import load
    from trading.exchange.coinbase.stream import Doorbell
    from trading.orders import Mode

    bell, settings = Doorbell(), load()
    with desk_of(plan, _real(mode), trades=False) as desk:
        stream = stream_of(venue_of(Mode(mode), settings, trades=False), Mode(mode), desk.plan.products, bell)
        print(f"{desk.book}: listening at {stream.url}; Ctrl-C ends it", flush=True)
        with stream.listening():
            try:
                while True:
                    _answer(desk, bell)
            except KeyboardInterrupt:
                print("not listening any more")


def _answer(desk: Desk, bell: Doorbell) -> None:
    """Waits for the bell and settles. Whoever has the portfolio meanwhile settles by himself; who gets no answer asks again."""
    from trading.absorber import describe
    from trading.errors import Busy, Unanswered
    from trading.hand import at_the_desk
    from trading.settlement import settle

    if bell.wait(_LISTEN_SECONDS) is None:
        return
    try:
        with at_the_desk(desk):
            settled = settle(desk)
    except (Busy, Unanswered) as error:
        print(f"asked in vain: {error}", flush=True)
        desk.pause(_AGAIN_SECONDS)
        bell.ring_for_all("asked in vain")
        return
    for fill in settled.fills:
        print(f"booked: {describe(fill)}", flush=True)


# ------------------------------------------------------------------------------------------------------- what they share


def _checked(plan: str, mode: str) -> Safety:
    """All checks; without keys, or a simulator, those that the settings alone tell."""
    from config.live import settings_checks
    from trading.errors import ConfigurationError
    from trading.hand import at_the_desk
    from trading.orders import Mode
    from trading.safety import Safety, SafetyCheck
    from trading.settlement import settle

    try:
        with desk_of(plan, mode, by_person=True) as desk, at_the_desk(desk):
            settle(desk)
            return desk.check_safety()
    except ConfigurationError as error:
        desk_check = SafetyCheck(name="desk", ok=False, found="; ".join(error.problems), expected="a desk that opens")
        return Safety((*settings_checks(Mode(mode)), desk_check))


def _real(mode: str) -> str:
    if mode not in REAL_MODES:
        raise typer.BadParameter(f"found {mode!r}, expected one of {', '.join(REAL_MODES)}", param_hint="--mode")
    return mode


def _show_ramp(desk: Desk, found: Ramp, *, as_json: bool) -> None:
    if as_json:
        gates = [_row(gate) for gate in found.gates]
        print_json({"step": found.step, "capital": found.capital, "since": found.since, "passed": found.passed, "gates": gates})
        return
    cash = desk.plan.cash_asset
    print(f"{desk.book} {desk.plan.name}: step {found.step}, {found.capital} {cash}, since {found.since:%Y-%m-%d %H:%M}")
    print(f"Steps: {', '.join(str(step) for step in desk.plan.ramp.steps)} {cash}")
    _print_checks("Gates before the next step", found.gates, lambda _: "not yet")


def _stops(check: SafetyCheck) -> str:
    return "no new risk" if check.risk_only else "no order"


def _print_checks(title: str, checks: Sequence[SafetyCheck], stops: Callable[[SafetyCheck], str] = _stops) -> None:
    rows = [{**_row(check), "verdict": "ok" if check.ok else stops(check)} for check in checks]
    print_table(title, rows, ("name", "verdict", "found", "expected"), "No checks were made.")


def _row(check: SafetyCheck) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "found": check.found, "expected": check.expected}
