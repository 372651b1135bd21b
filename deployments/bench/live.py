"""`keel bench live`: real orders to the simulated Coinbase over TLS, beside the same call by the bare SDK in the same rounds.

ours    from the decision to the venue's acceptance: intent, hold and audit row committed; marked as sending under epoch and
        breaker rows; the bytes checked, signed, sent and answered
floor   `limit_order_gtc_buy` of the unmodified SDK, which writes nothing down

`cancel` is what a person does: it settles what is known first, writes the cancel down, and asks; `cancel_call` is the asking
alone, beside the SDK's `cancel_orders`. Throughput is of whole orders in one process: after each acceptance the venue's lists
are read and the outcome is committed. The rate budget is lifted. The SDK has a venue of its own, or its orders would be
strangers on our account. `--away 20`: a venue that answers 20 ms later, as one at the other end of a line does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast
from uuid import uuid4

from deployments.bench._simulated import TimedExchange, simulated
from deployments.bench._still import Still, ledger, still_desk, timed
from trading.desk import Desk
from trading.execution import intents_of, send, stage
from trading.hand import cancel
from trading.orders import OrderType, Request, Side, State, TimeInForce
from trading.risk import Approved
from trading.risk.validator import Evaluation

NOT_JUDGED = cast("Evaluation", None)
"""What is measured begins where validation ends."""
PRODUCT, PRICE, QUANTITY = "BTC-USD", Decimal(49000), Decimal("0.001")
"""Below the market: it rests, and is cancelled."""


def run(orders: int = 150, away: int = 0) -> dict[str, Any]:
    """Seconds from decision to acceptance of ours and of the floor (medians over the orders), and the ratios of both."""
    with live_desk(away) as (desk, exchange):
        times = measured(desk, exchange, orders, away)
    middle = {name: statistics.median(found) for name, found in times.items()}
    return {
        "name": f"live --away {away}", "ours": middle["accepted"], "floor": middle["sdk"],
        "ratio": middle["accepted"] / middle["sdk"], "unit": "seconds from decision to acceptance", "runs": orders,
        "orders_per_second": 1 / middle["whole"], "sdk_orders_per_second": 1 / middle["sdk"],
        "cancel": middle["cancel"], "cancel_call": middle["ask"], "sdk_cancel": middle["sdk_cancel"],
        "cancel_call_ratio": middle["ask"] / middle["sdk_cancel"], "cancel_ratio": middle["cancel"] / middle["sdk_cancel"],
    }  # fmt: skip


def measured(desk: Desk, exchange: TimedExchange, orders: int, away: int = 0) -> dict[str, list[float]]:
    """Seconds of each order and cancel, ours and the SDK's in turn."""
    with simulated(away) as other:
        sdk = other.sdk()
        for part in (min(orders, 10), orders):  # the first orders open connections and fill caches
            times: dict[str, list[float]] = {name: [] for name in ("accepted", "whole", "cancel", "ask", "sdk", "sdk_cancel")}
            for _ in range(part):
                _order(desk, exchange, times)
                _bare_order(sdk, times)
    return times


class Today(Still):
    """The still market, at the wall clock's time."""

    is_replay = False

    def now(self) -> datetime:
        return datetime.now(UTC)


@contextmanager
def live_desk(away: int = 0) -> Iterator[tuple[Desk, TimedExchange]]:
    """A desk over a ledger of its own that trades at the simulated Coinbase by the wall clock."""
    with simulated(away) as venue, ledger() as url:
        exchange = venue.exchange()
        with still_desk(url, (PRODUCT,), exchange, Today()) as desk:
            yield desk, exchange


def _order(desk: Desk, exchange: TimedExchange, times: dict[str, list[float]]) -> None:
    """One order from its decision to its end."""
    quotes = desk.source.quotes((PRODUCT,), desk.market_now())
    began = time.perf_counter()
    approved = [Approved(resting(), NOT_JUDGED)]
    staged = stage(desk, intents_of(desk, f"hand:{uuid4()}", approved, quotes), quotes)
    settled = send(desk, 0, staged)  # nobody has claimed a slot: the epoch is 0
    times["whole"].append(time.perf_counter() - began)
    times["accepted"].append(exchange.answered_at - began)
    if set(settled.states.values()) != {State.OPEN}:
        raise RuntimeError(f"the bench sent an order and found {settled}, expected it open")
    (id_,) = settled.states
    began = time.perf_counter()
    cancelled = cancel(desk, id_, "bench")
    times["cancel"].append(exchange.answered_at - began)
    times["ask"].append(exchange.answered_at - exchange.asked_at)
    if cancelled.state is not State.CANCELLED:
        raise RuntimeError(f"the bench cancelled an order and found {cancelled}, expected it cancelled")


def resting() -> Request:
    return Request(
        product=PRODUCT, side=Side.BUY, quantity=QUANTITY, type=OrderType.LIMIT, limit_price=PRICE,
        time_in_force=TimeInForce.GTC,
    )  # fmt: skip


def _bare_order(sdk: Any, times: dict[str, list[float]]) -> None:
    id_ = str(uuid4())
    answers: list[Any] = []
    times["sdk"].append(timed(lambda: answers.append(sdk.limit_order_gtc_buy(id_, PRODUCT, str(QUANTITY), str(PRICE)))))
    order_id = answers[0]["success_response"]["order_id"]
    times["sdk_cancel"].append(timed(lambda: answers.append(sdk.cancel_orders([order_id]))))
    if not answers[1]["results"][0]["success"]:
        raise RuntimeError(f"the bench cancelled by the SDK and found {answers[1]}, expected success")
