"""`keel bench orders`: durable orders one at a time, beside as many bare one-row commits as they make.

ours    intent, hold and audit row committed; marked as sending under epoch and breaker rows; sent to the paper exchange,
        which commits; outcome, fill, posting and lots committed
floor   the same number of inserts of one row, each committed by itself, over the same kind of connection

A batch of orders shares the commits of the ledger; the exchange still commits each order before it answers.

`--commit-delay 1000` lets every commit, the floor's too, wait so many microseconds more, as on a slower disk.

Beside it, in the same rounds, the same path over a ledger without its hash chain and without the rules of balance: what they
cost is the share of orders per second that goes with them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString, cast

from deployments.bench._still import PRODUCTS, bare_commits, ledger, see, slot_times, still_desk, timed
from trading.desk import Desk
from trading.execution import intents_of, send, stage
from trading.market import Quote
from trading.orders import Request, Side, State, slot_name
from trading.risk import Approved
from trading.risk.validator import Evaluation
from trading.store.database import Connection, connect, migrate

NOT_JUDGED = cast("Evaluation", None)
"""What is measured begins where validation ends; execution looks at the request alone."""


def run(orders: int = 20, rounds: int = 25, batch: int = 100, commit_delay: int = 0) -> dict[str, Any]:
    """Seconds per order of ours and of the floor (medians over rounds in turn); `rate_ratio` = floor ÷ ours."""
    with ledger(commit_delay) as url, still_desk(url) as desk, connect(url) as connection, unruled(url) as bare_desk:
        times, bare_times = slot_times(), slot_times()
        _trade(bare_desk, bare_times, 100)
        _trade(desk, times, 100)  # warm: statements prepared, accounts opened, caches filled
        bare_commits(connection, orders)
        before = _commits(connection)
        _trade(desk, times, orders)
        commits = (_commits(connection) - before) / orders
        ours, floors, batches, unruled_times = [], [], [], []
        for _ in range(rounds):
            ours.append(_trade(desk, times, orders))
            unruled_times.append(_trade(bare_desk, bare_times, orders))
            floors.append(bare_commits(connection, round(commits * orders)) / orders)
            batches.append(_trade(desk, times, 2, batch))
        _check(desk)
    middle, least, shared, free = map(statistics.median, (ours, floors, batches, unruled_times))
    return {
        "name": "orders", "ours": middle, "floor": least, "ratio": middle / least, "rate_ratio": least / middle,
        "unit": "seconds per order", "runs": rounds, "orders_per_second": 1 / middle, "commits_per_order": commits,
        "commits_per_second": commits / least, "batch": batch, "batch_seconds_per_order": shared,
        "batch_orders_per_second": 1 / shared, "orders_per_second_without_chain_and_balance_rules": 1 / free,
        "cost_of_chain_and_balance_rules": 1 - free / middle,
    }  # fmt: skip


@contextmanager
def unruled(url: str) -> Iterator[Desk]:
    """The desk over a second ledger of the same server, without hash chain and without the rules of balance."""
    with connect(url) as connection:
        connection.execute("create database unruled")
    other = url.replace("/bench?", "/unruled?")
    migrate(other)
    with connect(other) as connection:
        for rule in _RULES:
            connection.execute(rule)
    with still_desk(other) as desk:
        yield desk


_RULES: tuple[LiteralString, ...] = (
    "drop trigger txn_balances on keel.txn",
    "drop trigger posting_is_timely on keel.posting",
    # The number is still counted, so that what calls it goes on; nothing is hashed or kept.
    """create or replace function keel.audit_append(p_kind text, p_payload text, p_actor text, p_flow_run text, p_task_run text)
       returns bigint language sql as 'select 1::bigint'""",
)


def _trade(desk: Desk, times: Iterator[datetime], slots: int, size: int = 1) -> float:
    """Seconds that an order takes in so many slots, each with `size` orders: bought in one slot, sold in the next."""
    total = 0.0
    for number, at in zip(range(slots), times, strict=False):
        quotes = see(desk, at).quotes
        side = Side.SELL if number % 2 else Side.BUY
        requests = [
            Request(product=PRODUCTS[leg % len(PRODUCTS)], side=side, quantity=Decimal("0.001"), leg=leg) for leg in range(size)
        ]
        total += timed(lambda: _execute(desk, at, requests, quotes))  # noqa: B023 - called at once
    return total / (slots * size)


def _execute(desk: Desk, at: datetime, requests: Sequence[Request], quotes: Mapping[str, Quote]) -> None:
    approved = [Approved(request, NOT_JUDGED) for request in requests]
    staged = stage(desk, intents_of(desk, slot_name(desk.plan.name, at), approved, quotes), quotes)
    settled = send(desk, 0, staged)  # nobody has claimed a slot: the epoch is 0
    if any(state is not State.FILLED for state in settled.states.values()) or len(settled.states) != len(requests):
        raise RuntimeError(f"the bench sent {len(requests)} orders and found {settled}, expected all of them filled")


def _commits(connection: Connection) -> int:
    """Every commit of the ledger has one audit row, every commit of the paper exchange here one order."""
    query = "select (select seq from keel.audit_head) + count(*) from paper.orders"
    return int(str(connection.execute(query).fetchall()[0][0]))


def _check(desk: Desk) -> None:
    """A bench that books nothing measures nothing."""
    query = "select count(*), (select count(*) from keel.order_head where state = 'filled') from keel.fill"
    row = desk.books.connection.execute(query).fetchone()
    if row is None or row[0] != row[1] or not row[0]:
        raise RuntimeError(f"the bench has {row} fills and filled orders, expected as many of both")
