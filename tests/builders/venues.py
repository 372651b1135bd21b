"""A quiet market and an exchange that fills at once, both in memory: desks whose every number is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd

from tests.builders.plans import NOON, flat_candles, plan, product
from trading.desk import Desk
from trading.errors import OutcomeUnknown
from trading.exchange.port import Accepted, Balance, Duplicates, ExchangeOrder, FeeTier, Rejected, Status, check_bytes
from trading.market import Product, Quote
from trading.money import ZERO, derived_id
from trading.movements import Movement, MovementKind
from trading.orders import Fill, FillKind, Mode, Request, Side, order_terms
from trading.quality import QualityGate
from trading.store.books import Books
from trading.store.candles import CandleStore
from trading.store.database import Sessions
from trading.store.journal import Author, Journal
from trading.store.roles import Role
from trading.strategies import create


class QuietMarket:
    """Candles that hardly move around `prices`; `at` is the market's clock and `prices` may be changed between runs."""

    name = "coinbase"
    is_replay = False

    def __init__(self, prices: Mapping[str, str], at: datetime = NOON) -> None:
        self.prices = dict(prices)
        self.at = at

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        return {id_: product(id_) for id_ in ids if id_ in self.prices}

    def candles(self, since: Mapping[str, int], interval: str, until: datetime) -> pd.DataFrame:
        rows = flat_candles(self.prices, interval=interval, end=until).frame()
        return rows[rows["start"] >= rows["product"].map(since)]

    def quotes(self, ids: Sequence[str], at: datetime) -> dict[str, Quote]:
        return {id_: Quote(product=id_, bid=Decimal(self.prices[id_]), ask=Decimal(self.prices[id_]), at=at) for id_ in ids}

    def now(self) -> datetime:
        return self.at

    def next_slot(self, products: Sequence[str], interval: str, history: int, after: datetime | None) -> datetime | None:
        raise NotImplementedError("a live source has no slots of its own")


class QuickExchange:
    """Market orders fill at once at the market's price with a fee of 1 in quote; limit orders rest until cancelled."""

    name = "quick"
    duplicates = Duplicates.REPLAYS
    visibility_lag_seconds = 0
    send_batch = 1
    takes_stops = True

    def __init__(self, market: QuietMarket) -> None:
        self.market = market
        self.placed: dict[str, ExchangeOrder] = {}
        self.traded: list[Fill] = []
        self.moved: list[Movement] = []
        self.held: dict[str, Decimal] = {}
        self.refuses: str | None = None
        """Set to a code: the venue then rejects what it is sent."""
        self.submitted = 0
        self.loses: int = 0
        """So many next answers are lost after the order was taken."""
        self.swallows: int = 0
        """So many next orders never arrive, and nothing is answered."""
        self.tampers = False
        """The bytes are changed between the ledger and the venue."""
        self.hides = False
        """Orders are left out of lists; fills and balances tell."""

    def fund(self, asset: str, amount: Decimal, reference: str) -> None:
        del reference
        self._move(asset, amount)

    def body(self, client_order_id: UUID, request: Request) -> str:
        return order_terms(client_order_id, request)

    def submit(self, body: str, sha256: str) -> Accepted | Rejected:
        check_bytes(body + " " if self.tampers else body, sha256)
        self.submitted += 1
        terms = json.loads(body)
        if self.swallows:
            self.swallows -= 1
            raise OutcomeUnknown("the connection broke")
        if self.refuses:
            return Rejected(self.refuses, "refused by the test")
        id_ = str(derived_id("venue", terms["client_order_id"]))
        fills_now = terms["type"] == "market"
        if id_ in self.placed and self.duplicates is Duplicates.REPLAYS:
            return Accepted(id_)
        if id_ in self.placed and self.duplicates is Duplicates.REFUSES:
            raise OutcomeUnknown("this id was used before")
        if id_ in self.placed:  # knows nothing of ids, and makes a second order
            id_ = f"{id_} again"
        quantity = Decimal(terms["quantity"])
        self.placed[id_] = ExchangeOrder(
            exchange_order_id=id_, client_order_id=terms["client_order_id"], product=terms["product"],
            side=Side(terms["side"]), quantity=quantity,
            limit_price=None if terms["limit_price"] is None else Decimal(terms["limit_price"]),
            status=Status.FILLED if fills_now else Status.OPEN, raw_status="DONE", filled=quantity if fills_now else ZERO,
            fees=Decimal(fills_now), created_at=self.market.at,
        )  # fmt: skip
        if fills_now:
            self._fill(self.placed[id_])
        if self.loses:
            self.loses -= 1
            raise OutcomeUnknown("the answer was lost")
        return Accepted(id_)

    def _fill(self, order: ExchangeOrder) -> None:
        base, quote = order.product.split("-")
        price = Decimal(self.market.prices[order.product])
        self.traded.append(Fill(
            entry_id=f"entry-{len(self.traded)}", trade_id="t", exchange_order_id=order.exchange_order_id,
            client_order_id=UUID(order.client_order_id), product=order.product, side=order.side, quantity=order.quantity,
            price=price, fee=Decimal(1), fee_asset=quote, liquidity="taker", traded_at=self.market.at,
        ))  # fmt: skip
        self._move(base, order.side.sign * order.quantity)
        self._move(quote, -order.side.sign * order.quantity * price - 1)

    def _move(self, asset: str, amount: Decimal) -> None:
        self.held[asset] = self.held.get(asset, ZERO) + amount

    def cancel(self, exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
        for id_ in exchange_order_ids:
            order = self.placed[id_]
            if order.status is Status.OPEN:
                self.placed[id_] = ExchangeOrder(**{name: getattr(order, name) for name in order.__dataclass_fields__}
                                                 | {"status": Status.CANCELLED})  # fmt: skip
        return {}

    def orders(self, since: datetime) -> list[ExchangeOrder]:
        del since
        return [] if self.hides else list(self.placed.values())

    def trades(
        self, order: ExchangeOrder, quantity: str, *, kind: FillKind = FillKind.TRADE, trade: str = "", price: str = ""
    ) -> Fill:
        """One more fill of a placed order, as late or as strange as the test wants it."""
        base, quote = order.product.split("-")
        fill = Fill(
            entry_id=f"entry-{len(self.traded)}", trade_id=trade or f"trade-{len(self.traded)}",
            exchange_order_id=order.exchange_order_id, client_order_id=UUID(order.client_order_id), product=order.product,
            side=order.side, quantity=Decimal(quantity), price=Decimal(price or self.market.prices[order.product]),
            fee=ZERO, fee_asset=quote, liquidity="maker", traded_at=self.market.at, kind=kind,
        )  # fmt: skip
        self.traded.append(fill)
        sign = order.side.sign * (-1 if kind is FillKind.REVERSAL else 1)
        self._move(base, sign * fill.quantity)
        self._move(quote, -sign * fill.notional)
        filled = order.filled + sign * order.side.sign * fill.quantity
        self.placed[order.exchange_order_id] = replace(order, filled=filled)
        return fill

    def foreign(self, product: str, side: Side, quantity: str, client_order_id: str = "not ours") -> ExchangeOrder:
        """An order that somebody else made on the account, filled at once without a fee."""
        id_ = f"foreign-{len(self.placed)}"
        self.placed[id_] = ExchangeOrder(
            exchange_order_id=id_, client_order_id=client_order_id, product=product, side=side, quantity=Decimal(quantity),
            limit_price=None, status=Status.FILLED, raw_status="DONE", filled=ZERO, fees=ZERO, created_at=self.market.at,
        )  # fmt: skip
        base, quote = product.split("-")
        price = Decimal(self.market.prices[product])
        self.traded.append(Fill(
            entry_id=f"entry-{len(self.traded)}", trade_id="f", exchange_order_id=id_, client_order_id=None, product=product,
            side=side, quantity=Decimal(quantity), price=price, fee=ZERO, fee_asset=quote, liquidity="taker",
            traded_at=self.market.at,
        ))  # fmt: skip
        self._move(base, side.sign * Decimal(quantity))
        self._move(quote, -side.sign * Decimal(quantity) * price)
        self.placed[id_] = replace(self.placed[id_], filled=Decimal(quantity))
        return self.placed[id_]

    def fills(self, since: datetime) -> list[Fill]:
        return [fill for fill in self.traded if fill.traded_at >= since]

    def look_up(self, exchange_order_ids: Sequence[str], since: datetime) -> tuple[list[ExchangeOrder], list[Fill]]:
        del exchange_order_ids
        return self.orders(since), self.fills(since)

    def movements(self, since: datetime) -> list[Movement]:
        return [moved for moved in self.moved if moved.happened_at >= since]

    def move(self, movement: Movement) -> None:
        """Something happens to the account without an order."""
        self.moved.append(movement)
        sign = -1 if movement.kind in (MovementKind.WITHDRAWAL, MovementKind.CONVERSION) else 1
        self._move(movement.asset, sign * movement.amount)
        if movement.to_asset is not None and movement.to_amount is not None:
            self._move(movement.to_asset, movement.to_amount)

    def balances(self) -> dict[str, Balance]:
        return {asset: Balance(amount, ZERO) for asset, amount in self.held.items()}

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        return self.market.products(ids)

    def fee_tier(self) -> FeeTier:
        return FeeTier(ZERO, ZERO)


@contextmanager
def quick_desk(url: str, prices: Mapping[str, str] | None = None, **changes: Any) -> Iterator[Desk]:
    """A desk over a quiet market and an exchange that fills at once; `changes` go to the plan."""
    made = plan(**changes)
    market = QuietMarket(prices or {"BTC-USD": "50000", "ETH-USD": "2000"})
    exchange = QuickExchange(market)
    with Sessions(url) as sessions:
        connection = sessions[Role.DECIDE]
        yield Desk(
            plan=made, mode=Mode.PAPER, strategy=create(made.strategy), source=market, exchange=exchange,
            journal=Journal(sessions, lambda: Author("anna", "flow-1", "task-1")), books=Books(connection),
            candles=CandleStore(connection, market.name), gate=QualityGate(),
            wall=lambda: datetime.now(UTC), monotonic=lambda: 0.0, pause=lambda _: None, fund=exchange.fund,
        )  # fmt: skip


def later(desk: Desk, **delta: float) -> None:
    """Moves the market's clock on."""
    desk.source.at += timedelta(**delta)  # type: ignore[attr-defined]  # the quiet market's clock
