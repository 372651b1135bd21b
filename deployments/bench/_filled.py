"""Books with many orders for benches and tests of what shows them: bought and half sold again, pass by pass, by the real code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from deployments.bench._still import see, slot_times, still_desk
from deployments.bench.orders import NOT_JUDGED
from trading.desk import Desk
from trading.execution import intents_of, send, stage
from trading.market import Market
from trading.money import ZERO
from trading.orders import Request, Side, slot_name
from trading.risk import Approved
from trading.store.database import connect
from trading.store.journal import Change

SLOT_ORDERS = 100
"""Orders of one slot: they share their commits."""


@contextmanager
def filled(url: str, orders: int, products: int = 10) -> Iterator[Desk]:
    """The desk of a plan named `bench` whose books hold so many filled orders and positions, a mark per slot, and one cycle."""
    names = tuple(f"P{number}-USD" for number in range(products))
    with still_desk(url, names) as desk:
        legs = [(number // max(products, SLOT_ORDERS), number % products) for number in range(orders)]
        batches = [legs[first : first + SLOT_ORDERS] for first in range(0, orders, SLOT_ORDERS)]
        for at, batch in zip(slot_times(), batches, strict=False):
            market = see(desk, at, names)
            quotes = market.quotes
            requests = [_request(names[product], turn, leg) for leg, (turn, product) in enumerate(batch)]
            approved = [Approved(request, NOT_JUDGED) for request in requests]
            send(desk, 0, stage(desk, intents_of(desk, slot_name(desk.plan.name, at), approved, quotes), quotes))
            _mark(desk, market)
        _claim(desk, market)
        with connect(url) as owner:
            owner.execute("analyze")  # as Postgres's own upkeep has done within a minute
        yield desk


def _request(product: str, turn: int, leg: int) -> Request:
    """Every second pass sells half of what the pass before bought."""
    side, quantity = (Side.SELL, "0.0005") if turn % 2 else (Side.BUY, "0.001")
    return Request(product=product, side=side, quantity=Decimal(quantity), leg=leg)


def _mark(desk: Desk, market: Market) -> None:
    """The equity of the moment, as a cycle stores it."""
    now, plan, quotes = market.at, desk.plan, market.quotes
    held = desk.books.holdings(desk.book, plan.name, plan.cash_asset)
    change = Change()
    change.add("equity", book=desk.book, plan=plan.name, at=now, equity=held.equity(quotes) or ZERO,
               cash=held.cash, unrealised=held.unrealised(quotes) or ZERO, realised=held.realised,
               fees=held.fees)  # fmt: skip
    desk.journal.record("publish", change)


def _claim(desk: Desk, market: Market) -> None:
    """Candles and one slot: what a page learns the prices and the plan's limits from."""
    desk.candles.save(market.candles.frame(), desk.plan.interval)
    now = market.at
    desk.journal.claim_slot(desk.book, desk.plan.name, now, now, desk.plan.sha256, "run", "")
