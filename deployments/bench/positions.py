"""`keel bench positions`: fills booked to lots, in memory and durably.

In memory: `book_fill` for every fill, 1,000 and 100,000 of them; the cost per fill must not grow with their number.
Durable: one fill (event, fill, transaction, postings, lots or matches, hold) is one commit, beside one bare one-row commit.
`--commit-delay 1000` lets every commit wait so many microseconds more, as on a slower disk.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from deployments.bench._still import PRICE, PRODUCTS, START, bare_commits, ledger, see, still_desk, timed
from trading.absorber import Absorber
from trading.desk import Desk
from trading.execution import stage
from trading.ledger import book_fill
from trading.lots import Lots
from trading.orders import Fill, Intent, Order, Request, Side, State, client_order_id, order_terms, slot_name
from trading.store.database import connect
from trading.store.journal import Change

FEW, MANY = 1_000, 100_000
PART = Decimal("0.001")


def run(fills: int = 30, rounds: int = 25, commit_delay: int = 0) -> dict[str, Any]:
    """Seconds per durable fill of ours and of the floor (medians over rounds in turn), and the rates in memory."""
    few, many = _in_memory(FEW), _in_memory(MANY)
    ours, floors = [], []
    with ledger(commit_delay) as url, still_desk(url) as desk, connect(url) as connection:
        order = _open_order(desk, fills * (rounds + 1))
        made = 0
        for number in range(rounds + 1):
            seconds, order = _durable(desk, order, _fills(fills, made, order.id))
            made += fills
            floor = bare_commits(connection, fills)
            if number:  # the first round prepares statements and fills caches
                ours.append(seconds / fills)
                floors.append(floor / fills)
        _check(desk, made)
    middle, least = statistics.median(ours), statistics.median(floors)
    return {
        "name": "positions", "ours": middle, "floor": least, "ratio": middle / least, "rate_ratio": least / middle,
        "unit": "seconds per durable fill", "runs": rounds,
        "durable_fills_per_second": 1 / middle, "commits_per_second": 1 / least,
        "memory_fills_per_second": many, f"memory_fills_per_second_at_{FEW}": few, "memory_cost_growth": few / many,
    }  # fmt: skip


def _fills(count: int, start: int = 0, order_id: UUID | None = None) -> list[Fill]:
    """Two buys, then a sale across both of their lots: lots open, are consumed in part and are emptied."""
    fill = Fill(entry_id="", trade_id="", exchange_order_id="x", client_order_id=None, product=PRODUCTS[0], side=Side.BUY,
                quantity=PART, price=PRICE, fee=Decimal("0.6000001"), fee_asset="USD", liquidity="taker",
                traded_at=START)  # fmt: skip
    return [
        replace(fill, entry_id=f"e{number}", client_order_id=order_id, trade_id=f"t{number}", price=PRICE + number % 100,
                traded_at=START + number * timedelta(milliseconds=1),
                side=Side.SELL if number % 3 == 2 else Side.BUY, quantity=PART * 3 / 2 if number % 3 == 2 else PART)
        for number in range(start, start + count)
    ]  # fmt: skip


def _in_memory(count: int) -> float:
    """Fills booked per second; the lots are kept, the bookings dropped. Median of several runs."""
    fills = _fills(count)
    rates = []
    for _ in range(max(3, 20_000 // count)):
        lots = Lots()
        gc.collect()
        gc.freeze()  # the collector goes on for what the run itself makes
        rates.append(count / timed(lambda: _book_all(lots, fills)))  # noqa: B023 - called at once
        gc.unfreeze()
    return statistics.median(rates)


def _book_all(lots: Lots, fills: Sequence[Fill]) -> None:
    for fill in fills:
        book_fill(lots, fill, "paper:bench", "bench")


# ------------------------------------------------------------------------------------------------------- durable


def _open_order(desk: Desk, fills: int) -> Order:
    """A buy order large enough that so many fills leave it open, staged, sent and acknowledged."""
    owner = desk.owner(slot_name(desk.plan.name, START))
    request = Request(product=PRODUCTS[0], side=Side.BUY, quantity=PART * fills * 2)
    id_ = client_order_id(owner, request.product, 0)
    body = order_terms(id_, request)
    intent = Intent(client_order_id=id_, owner=owner, request=request, body=body, decision_price=PRICE, decided_at=START)
    stage(desk, [intent], see(desk, START).quotes)
    desk.journal.mark_sending(desk.book, 0, [id_], desk.scopes)
    change = Change()
    change.event(id_, 2, (State.SENDING, "ack", State.OPEN), exchange_order_id="x", filled=Decimal(0))
    desk.journal.record("order.outcome", change)
    return desk.books.orders([id_])[id_]


def _durable(desk: Desk, order: Order, fills: Sequence[Fill]) -> tuple[float, Order]:
    """Seconds that the fills take, each absorbed and committed by itself, and the order after them."""
    absorber = Absorber(desk)
    absorber.load([order])
    total = 0.0
    for fill in fills:
        started = time.perf_counter()
        absorber.absorb(order, [fill])
        absorber.write("settle")
        total += time.perf_counter() - started
        absorber.change = Change()
        order = replace(order, seq=order.seq + 1, filled=order.filled + fill.quantity)
    return total, order


def _check(desk: Desk, fills: int) -> None:
    """A bench that books nothing measures nothing."""
    row = desk.books.connection.execute("select (select count(*) from keel.fill), (select seq from keel.audit_head)").fetchone()
    if row is None or row[0] != fills or int(str(row[1])) < fills:
        raise RuntimeError(f"the bench booked {row} fills and changes, expected {fills}")
