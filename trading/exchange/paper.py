"""The paper exchange: live or replayed prices, our own matching, and books of its own that it commits before it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas as pd

from trading.errors import LedgerUnavailable, OutcomeUnknown, Unanswered
from trading.exchange.port import Accepted, Balance, Duplicates, ExchangeOrder, FeeTier, Rejected, Status, check_bytes
from trading.market import Product, Quote
from trading.matching import Bar, Execution, Matched, has_expired, hold_of, match_bar, match_now, refusal
from trading.money import ZERO, dec, derived_id, utc
from trading.movements import Movement, MovementKind
from trading.orders import Fill, OrderType, Request, Side, TimeInForce, order_terms
from trading.plan import Costs
from trading.store.paper import PaperBooks


class PaperExchange:
    """One paper account. It fills against the quotes it is given, at the plan's costs; see `trading.matching`.

    The same client id sent twice returns the first order and makes no second one, whatever the second one says. Fills
    carry market time; one of a resting order carries the close of the candle that filled it.

    Faults, for rehearsals: `after_commit` is called with the body once an order is durable and before it is answered
    (raise OutcomeUnknown there); an order for which `hides` is true is left out of lists, and so are its fills.
    """

    name = "paper"
    duplicates = Duplicates.REPLAYS
    visibility_lag_seconds = 0
    send_batch = 100
    takes_stops = True

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
        self.hides: Callable[[str], bool] | None = None
        """Told a client order id: is the order still invisible in lists?"""
        self._rules: dict[str, Product] = {}
        self._taken: dict[tuple[str, Side], tuple[datetime, Decimal]] = {}

    # ---- sends

    def body(self, client_order_id: UUID, request: Request) -> str:
        return order_terms(client_order_id, request)

    def submit(self, body: str, sha256: str) -> Accepted | Rejected:
        check_bytes(body, sha256)
        client_order_id, request = _read(body)
        id_ = str(derived_id("paper order", self.account, client_order_id))
        with _doubtful():
            answer = self._accept(id_, client_order_id, request)
            # A refused repetition of an order that was taken is still that order.
            if isinstance(answer, Rejected):
                if not self.books.knows(id_):
                    return answer
                answer = Accepted(id_)
        if self.after_commit is not None:
            self.after_commit(body)
        return answer if self.hides is None else Accepted(id_)

    def _accept(self, id_: str, client_order_id: str, request: Request) -> Accepted | Rejected:
        rules, quote = self.products([request.product]).get(request.product), self.quote_of(request.product)
        refused = refusal(request, rules, quote)
        if refused is not None:
            return Rejected(refused.code, refused.message)
        volume = self.volume_of(request.product)
        if volume is None:
            return Rejected("MISSING_MARKET_TRADE_DATA", f"{request.product}: the volume of its last candle is not known")
        assert rules is not None
        assert quote is not None
        taken = self._taken_of(request, quote)
        matched = match_now(request, rules, quote, self.costs, volume, taken)
        now = self.clock()
        placed = self._place(id_, client_order_id, request, matched, now)
        if placed == "placed":
            self._taken[request.product, request.side] = (quote.at, taken + matched.quantity)
            return Accepted(id_, _fills_at_once(id_, client_order_id, request, matched, now))
        return Accepted(id_) if placed == "known" else Rejected(placed, "the account does not hold enough")

    def _taken_of(self, request: Request, quote: Quote) -> Decimal:
        """What this process took of the quote's side before: a quote is good once. A newer quote is a new one."""
        at, taken = self._taken.get((request.product, request.side), (quote.at, ZERO))
        return taken if at == quote.at else ZERO

    def _place(self, id_: str, client_order_id: str, request: Request, matched: Matched, now: datetime) -> str:
        left = request.quantity - matched.quantity
        order = {
            "account": self.account, "exchange_order_id": id_, "client_order_id": client_order_id,
            "product": request.product, "side": request.side.value, "type": request.type.value,
            "quantity": request.quantity, "limit_price": request.limit_price, "stop_price": request.stop_price,
            "time_in_force": request.time_in_force.value, "expires_at": request.expires_at, "status": matched.status,
            "filled": matched.quantity, "fees": sum((part.fee for part in matched.executions), ZERO),
            "hold": hold_of(request, left, self.costs) if matched.status == "open" else ZERO, "created_at": now,
            "entries": _entries(id_, ZERO, matched.executions),
        }  # fmt: skip
        return self.books.place(order, _flow(request, matched.executions), matched.executions)

    def cancel(self, exchange_order_ids: Sequence[str]) -> Mapping[str, str]:
        with _doubtful():
            self._advance()
            cancelled = self.books.cancel(self.account, exchange_order_ids)
        return {id_: "UNKNOWN_CANCEL_ORDER" for id_ in exchange_order_ids if id_ not in cancelled}

    def deposit(self, asset: str, amount: Decimal, reference: str) -> bool:
        """Puts money or coin into the account, once per reference; False when that deposit was made before."""
        return self.books.deposit(self.account, asset, amount, reference)

    # ---- reads

    def orders(self, since: datetime) -> list[ExchangeOrder]:
        with _readable():
            self._advance()
            return [_exchange_order(row) for row in self._shown(self.books.orders(self.account, since))]

    def fills(self, since: datetime) -> list[Fill]:
        with _readable():
            self._advance()
            return [_fill(row) for row in self._shown(self.books.fills(self.account, since))]

    def look_up(self, exchange_order_ids: Sequence[str], since: datetime) -> tuple[list[ExchangeOrder], list[Fill]]:
        del exchange_order_ids
        return self.orders(since), self.fills(since)

    def movements(self, since: datetime) -> list[Movement]:
        with _readable():
            return [
                Movement(
                    entry_id=row["entry_id"], kind=MovementKind(row["kind"]), asset=row["asset"], amount=row["amount"],
                    to_asset=row["to_asset"], to_amount=row["to_amount"], happened_at=row["at"], note=row["note"],
                )
                for row in self.books.movements(self.account, since)
            ]  # fmt: skip

    def move(self, movement: Movement) -> bool:
        """Rehearses what happens to an account without an order; False when that entry was there before."""
        return self.books.move(self.account, movement)

    def _shown(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        hides = self.hides
        return rows if hides is None else [row for row in rows if not hides(row["client_order_id"])]

    def balances(self) -> dict[str, Balance]:
        with _readable():
            self._advance()
            return {row["asset"]: Balance(row["available"], row["hold"]) for row in self.books.balances(self.account)}

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        missing = [id_ for id_ in ids if id_ not in self._rules]
        if missing:
            self._rules |= self.products_of(missing)
        return {id_: self._rules[id_] for id_ in ids if id_ in self._rules}

    def fee_tier(self) -> FeeTier:
        return FeeTier(self.costs.maker_fee, self.costs.taker_fee)

    # ---- what happens by itself

    def _advance(self) -> None:
        """Holds resting orders against the candles that have closed since it last looked; nothing rests: one query."""
        known: dict[tuple[str, datetime], list[Bar]] = {}
        for order in self.books.resting(self.account):
            request, first = _request(order), self._first_start(order["looked_at"])
            if (order["product"], first) not in known:
                known[order["product"], first] = self._bars(order["product"], first)
            bars = known[order["product"], first]
            if not self._over_candles(order, request, bars) or not has_expired(request, self.clock()):
                continue
            # No candle covers its end yet (or ever: a gap). What may have happened in between is not a fill.
            self._move(order, request, Matched((), "expired", order["triggered"]), self.clock())

    def _over_candles(self, order: dict[str, Any], request: Request, bars: Sequence[Bar]) -> bool:
        """True if the order still rests after the newest candle; `order` is kept up to date."""
        rules, seen = self.products([request.product])[request.product], order["looked_at"]
        for bar in bars:
            left, triggered = order["quantity"] - order["filled"], order["triggered"]
            matched = match_bar(request, left, order["hold"], bar, rules, self.costs, triggered=triggered)
            seen = bar.close_at
            happened = matched.executions or matched.status != "open" or matched.triggered != triggered
            if happened and not self._move(order, request, matched, seen):
                return False
        quiet = Matched((), "open", order["triggered"])
        return seen == order["looked_at"] or self._move(order, request, quiet, seen)

    def _move(self, order: dict[str, Any], request: Request, matched: Matched, at: datetime) -> bool:
        """Books what happened up to `at`; False if the order is done, or another process has moved it on before."""
        flow = _flow(request, matched.executions)
        still = order["quantity"] - order["filled"] - matched.quantity
        rests = matched.status == "open"
        hold = min(hold_of(request, still, self.costs), order["hold"] - flow[1]) if rests else ZERO
        moved = self.books.progress(
            order, status=matched.status, triggered=matched.triggered, looked_at=at, hold=hold, flow=flow,
            entries=_entries(order["exchange_order_id"], order["filled"], matched.executions), fills=matched.executions,
        )  # fmt: skip
        order |= {"filled": order["filled"] + matched.quantity, "triggered": matched.triggered, "looked_at": at, "hold": hold}
        return moved and rests

    def _first_start(self, looked_at: datetime) -> datetime:
        """Start of the first candle that counts: one that began before the exchange looked may hold prices from before."""
        return utc(0) - (utc(0) - looked_at) // self.candle * self.candle

    def _bars(self, product: str, first: datetime) -> list[Bar]:
        """The closed candles from `first` on. The source may be far away: it is asked only when one can have closed."""
        now = self.clock()
        if first + self.candle > now:
            return []
        rows = self.candles_after(product, first)
        columns = (rows[name].tolist() for name in ("start", "open", "high", "low", "volume"))
        bars = [
            Bar(utc(start) + self.candle, dec(opened), dec(high), dec(low), dec(volume))
            for start, opened, high, low, volume in zip(*columns, strict=True)
            if utc(start) >= first
        ]
        return [bar for bar in bars if bar.close_at <= now]


@contextmanager
def _doubtful() -> Iterator[None]:
    """A send whose database failed may be durable all the same."""
    try:
        yield
    except LedgerUnavailable as error:
        raise OutcomeUnknown(f"the paper exchange did not answer: {error}") from error


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except LedgerUnavailable as error:
        raise Unanswered(f"the paper exchange did not answer: {error}") from error


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


def _fills_at_once(id_: str, client_order_id: str, request: Request, matched: Matched, at: datetime) -> tuple[Fill, ...]:
    """What `fills` will tell of an order that was placed just now."""
    return tuple(
        Fill(
            entry_id=entry, trade_id=entry, exchange_order_id=id_, client_order_id=UUID(client_order_id),
            product=request.product, side=request.side, quantity=part.quantity, price=part.price, fee=part.fee,
            fee_asset=request.product.split("-", 1)[1], liquidity=part.liquidity, traded_at=at,
        )
        for entry, part in zip(_entries(id_, ZERO, matched.executions), matched.executions, strict=True)
    )  # fmt: skip


def _fill(row: Mapping[str, Any]) -> Fill:
    return Fill(
        entry_id=row["entry_id"], trade_id=row["entry_id"], exchange_order_id=row["exchange_order_id"],
        client_order_id=UUID(row["client_order_id"]), product=row["product"], side=Side(row["side"]),
        quantity=row["quantity"], price=row["price"], fee=row["fee"], fee_asset=row["fee_asset"],
        liquidity=row["liquidity"], traded_at=row["traded_at"],
    )  # fmt: skip
