"""The paper exchange: live or replayed prices, our own matching, and books of its own that it commits before it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd

from trading.exchange.port import Accepted, Balance, ExchangeOrder, FeeTier, Rejected, Status
from trading.market import Product, Quote
from trading.matching import Bar, Execution, match_bar, match_now, refusal
from trading.money import ONE, ZERO, dec, derived_id, utc
from trading.orders import Fill, OrderType, Request, Side, TimeInForce, order_terms
from trading.plan import Costs
from trading.store.paper import PaperBooks


class PaperExchange:
    """One paper account. It fills against the quotes it is given, at the plan's costs; see `trading.matching`.

    The same client id sent twice returns the first order and makes no second one. `after_commit`, when set, is called
    with the body after an order is durable and before it is answered: rehearsals raise OutcomeUnknown there.
    """

    name = "paper"
    replays_by_client_id = True
    visibility_lag_seconds = 0
    send_batch = 50

    def __init__(
        self,
        books: PaperBooks,
        *,
        account: str,
        quote_of: Callable[[str], Quote | None],
        volume_of: Callable[[str], Decimal | None],
        products_of: Callable[[Sequence[str]], dict[str, Product]],
        costs: Costs,
        clock: Callable[[], datetime],
        candles_after: Callable[[str, datetime], pd.DataFrame],
        candle_seconds: int,
    ) -> None:
        self.books = books
        self.account = account
        self.quote_of = quote_of
        self.volume_of = volume_of
        self.products_of = products_of
        self.costs = costs
        self.clock = clock
        self.candles_after = candles_after
        self.candle = timedelta(seconds=candle_seconds)
        self.after_commit: Callable[[str], None] | None = None
        self._rules: dict[str, Product] = {}

    # ---- sends

    def body(self, client_order_id: UUID, request: Request) -> str:
        return order_terms(client_order_id, request)

    def submit(self, body: str) -> Accepted | Rejected:
        client_order_id, request = _read(body)
        known = derived_id("paper order", self.account, client_order_id)
        rules, quote = self.products([request.product]).get(request.product), self.quote_of(request.product)
        refused = refusal(request, rules, quote)
        if refused is None and self.volume_of(request.product) is None:
            outcome: str | Rejected = Rejected("MISSING_MARKET_TRADE_DATA", f"{request.product}: the volume is not known")
        elif refused is not None:
            outcome = Rejected(refused.code, refused.message)
        else:
            assert rules is not None
            assert quote is not None
            outcome = self._place(str(known), client_order_id, request, rules, quote)
        if not isinstance(outcome, Rejected) and self.after_commit is not None:
            self.after_commit(body)
        if outcome in ("placed", "known"):
            return Accepted(str(known))
        # A refused repetition of an order that was taken is still that order.
        if self.books.order_id(self.account, client_order_id) is not None:
            return Accepted(str(known))
        return outcome if isinstance(outcome, Rejected) else Rejected(outcome, "the account does not hold enough")

    def _place(self, id_: str, client_order_id: str, request: Request, rules: Product, quote: Quote) -> str:
        matched = match_now(request, rules, quote, self.costs, self.volume_of(request.product) or ZERO)
        left = request.quantity - matched.quantity
        now = self.clock()
        order = {
            "account": self.account, "exchange_order_id": id_, "client_order_id": client_order_id,
            "product": request.product, "side": request.side.value, "type": request.type.value,
            "quantity": request.quantity, "limit_price": request.limit_price, "stop_price": request.stop_price,
            "time_in_force": request.time_in_force.value, "expires_at": request.expires_at, "status": matched.status,
            "filled": matched.quantity, "fees": sum((part.fee for part in matched.executions), ZERO),
            "hold": self._hold(request, left) if matched.status == "open" else ZERO, "created_at": now,
            "entries": _entries(id_, ZERO, matched.executions),
        }  # fmt: skip
        return self.books.place(order, _flow(request, matched.executions), matched.executions)

    def cancel(self, exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
        self.advance()
        cancelled = self.books.cancel(self.account, exchange_order_ids)
        return {id_: "UNKNOWN_CANCEL_ORDER" for id_ in exchange_order_ids if id_ not in cancelled}

    def deposit(self, asset: str, amount: Decimal, reference: str) -> bool:
        """Puts money or coin into the account, once per reference; False when that deposit was made before."""
        return self.books.deposit(self.account, asset, amount, reference)

    # ---- reads

    def orders(self, since: datetime) -> list[ExchangeOrder]:
        self.advance()
        return [_exchange_order(row) for row in self.books.orders(self.account, since)]

    def fills(self, since: datetime) -> list[Fill]:
        self.advance()
        return [_fill(row) for row in self.books.fills(self.account, since)]

    def balances(self) -> dict[str, Balance]:
        self.advance()
        return {row["asset"]: Balance(row["available"], row["hold"]) for row in self.books.balances(self.account)}

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        missing = [id_ for id_ in ids if id_ not in self._rules]
        if missing:
            self._rules |= self.products_of(missing)
        return {id_: self._rules[id_] for id_ in ids if id_ in self._rules}

    def fee_tier(self) -> FeeTier:
        return FeeTier(self.costs.maker_fee, self.costs.taker_fee)

    # ---- what happens by itself

    def advance(self) -> None:
        """Holds resting orders against the candles that have closed since it last looked; nothing rests: one query."""
        for order in self.books.resting(self.account):
            self._advance_one(order)

    def _advance_one(self, order: dict[str, Any]) -> None:
        request, rules = _request(order), self.products([order["product"]])[order["product"]]
        for bar in self._bars(order["product"], order["looked_at"]):
            left = order["quantity"] - order["filled"]
            matched = match_bar(request, left, bar, rules, self.costs, triggered=order["triggered"])
            still = left - matched.quantity if matched.status == "open" else ZERO
            moved = self.books.progress(
                order, status=matched.status, triggered=matched.triggered or order["triggered"], looked_at=bar.close_at,
                hold=self._hold(request, still) if still else ZERO, flow=_flow(request, matched.executions),
                entries=_entries(order["exchange_order_id"], order["filled"], matched.executions), fills=matched.executions,
            )  # fmt: skip
            if not moved or matched.status != "open":
                return
            order = order | {"filled": order["filled"] + matched.quantity, "triggered": matched.triggered or order["triggered"]}

    def _bars(self, product: str, looked_at: datetime) -> list[Bar]:
        """Candles that began after the exchange last looked: one that began before it may hold prices from before."""
        rows = self.candles_after(product, looked_at)
        columns = (rows[name].tolist() for name in ("start", "open", "high", "low", "volume"))
        bars = [
            Bar(utc(start) + self.candle, dec(opened), dec(high), dec(low), dec(volume))
            for start, opened, high, low, volume in zip(*columns, strict=True)
            if utc(start) >= looked_at
        ]
        return [bar for bar in bars if bar.close_at <= self.clock()]

    def _hold(self, request: Request, left: Decimal) -> Decimal:
        """What resting `left` may take at worst: the coin of a sell; price, slippage and the taker fee of a buy."""
        if request.side is Side.SELL:
            return left
        price = request.limit_price or request.stop_price or ZERO
        # A gap through a stop has no bound: the hold covers twice the stop, and what it does not cover is not filled.
        room = Decimal(2) if request.type is OrderType.STOP else ONE
        return left * price * room * self.costs.outlay


def _flow(request: Request, parts: Sequence[Execution]) -> tuple[str, Decimal, str, Decimal]:
    """(asset spent, amount, asset gained, amount) of executions; fees are paid in quote."""
    base, quote = request.product.split("-", 1)
    quantity = sum((part.quantity for part in parts), ZERO)
    notional, fees = sum((part.notional for part in parts), ZERO), sum((part.fee for part in parts), ZERO)
    if request.side is Side.BUY:
        return quote, notional + fees, base, quantity
    return base, quantity, quote, notional - fees


def _entries(order_id: str, filled: Decimal, parts: Sequence[Execution]) -> list[str]:
    """Derived: the same fill has the same id, however often it is computed."""
    return [str(derived_id("paper fill", order_id, f"{filled:f}", str(number))) for number in range(len(parts))]


def _read(body: str) -> tuple[str, Request]:
    terms = json.loads(body)
    return terms["client_order_id"], _request(
        {name: Decimal(value) if name in ("quantity", "limit_price", "stop_price") and value is not None else value
         for name, value in terms.items()}
        | {"expires_at": datetime.fromisoformat(terms["expires_at"]) if terms["expires_at"] else None}
    )  # fmt: skip


def _request(row: Mapping[str, Any]) -> Request:
    return Request(
        product=row["product"], side=Side(row["side"]), quantity=row["quantity"], type=OrderType(row["type"]),
        limit_price=row["limit_price"], stop_price=row["stop_price"], time_in_force=TimeInForce(row["time_in_force"]),
        post_only=bool(row.get("post_only", False)), expires_at=row["expires_at"],
    )  # fmt: skip


def _exchange_order(row: Mapping[str, Any]) -> ExchangeOrder:
    return ExchangeOrder(
        exchange_order_id=row["exchange_order_id"], client_order_id=row["client_order_id"], product=row["product"],
        side=Side(row["side"]), quantity=row["quantity"], limit_price=row["limit_price"], status=Status(row["status"]),
        raw_status=row["status"], filled=row["filled"], fees=row["fees"], created_at=row["created_at"],
    )  # fmt: skip


def _fill(row: Mapping[str, Any]) -> Fill:
    return Fill(
        entry_id=row["entry_id"], trade_id=row["entry_id"], exchange_order_id=row["exchange_order_id"],
        client_order_id=UUID(row["client_order_id"]), product=row["product"], side=Side(row["side"]),
        quantity=row["quantity"], price=row["price"], fee=row["fee"], fee_asset=row["fee_asset"],
        liquidity=row["liquidity"], traded_at=row["traded_at"],
    )  # fmt: skip
