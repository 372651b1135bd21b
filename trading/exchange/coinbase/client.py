"""The account under the names that library users write: a thin face over the desk that `keel order` opens.

Numbers come as Decimal, int, str or float (a float is read by its shortest text); answers about money are Decimal. Every
order takes the road of an order by hand: identity, checks, breaker, ledger. There is no other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from trading.errors import ConfigurationError, MarketUnavailable
from trading.market import COLUMNS, interval_seconds, last_close
from trading.money import ZERO, Number, dec
from trading.orders import Mode, Order, OrderType, Request, Side, State, TimeInForce

if TYPE_CHECKING:
    from enum import StrEnum

    import pandas as pd

    from config.by_hand import ByHand
    from config.settings import Settings
    from trading.desk import Desk
    from trading.hand import HandOrder
    from trading.market import Quote
    from trading.plan import Plan

    _Names = TypeVar("_Names", bound=StrEnum)

REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOrder:
    """An order as it stands, or the request that our own checks refused: then `status` is `refused` and it has no id."""

    order_id: str
    """Our client order id; empty of a refusal."""
    exchange_order_id: str
    product_id: str
    side: str
    """`BUY` or `SELL`."""
    type: str
    size: Decimal
    """In base units."""
    price: Decimal | None
    """Limit, in quote; a stop on Coinbase has the plan's collar for one."""
    stop_price: Decimal | None
    status: str
    filled_size: Decimal
    reason: str
    """The last word on it: of a refusal the failed check with what was found, of a rejection the venue's own word."""
    mode: str
    """`paper`, `rehearsal` or `live`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What the account holds of an asset. Price and value are None where nothing quotes it: unknown is no zero."""

    asset: str
    available: Decimal
    hold: Decimal
    """Reserved by live orders."""
    price: Decimal | None
    """Mid, in the cash asset."""

    @property
    def value(self) -> Decimal | None:
        return None if self.price is None else (self.available + self.hold) * self.price


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPortfolio:
    """The account's balances at quotes, in the plan's cash asset."""

    cash_asset: str
    holdings: dict[str, Holding]

    @property
    def total_value(self) -> Decimal | None:
        """None when a holding has no price."""
        values = [holding.value for holding in self.holdings.values()]
        return None if None in values else sum((value for value in values if value is not None), ZERO)


class CoinbaseRestClient:
    """An account of one plan: on paper, unless every switch says live and the plan's portfolio is armed when it is made.

    A client keeps its mode: when the arming ends, live orders that add risk are refused, and none of them becomes a paper
    order behind your back. Rehearsals against the simulator are asked for by `mode`.

    Raises ConfigurationError (plan, settings, mode), LedgerUnavailable. Calls raise MarketUnavailable and Unanswered where
    the venue does not tell, and Busy while a run has the portfolio for longer than a minute.
    """

    def __init__(self, plan: str | Plan = "default", *, mode: str | None = None, settings: Settings | None = None) -> None:
        # The one place of the domain that opens a desk: for a program that has no command line.
        from config.by_hand import by_hand  # noqa: PLC0415

        self._desks: ByHand = by_hand(plan, None if mode is None else _choice(Mode, mode, "mode"), settings)

    @property
    def mode(self) -> str:
        """`paper`, `rehearsal` or `live`."""
        return str(self._desks.mode)

    # ------------------------------------------------------------------------------------------------- looking

    def get_account_balance(self, currency: str = "USD") -> Decimal:
        """What may be used of an asset now, without what live orders hold; zero of an asset that is not there."""
        with self._desks.looking() as desk:
            balance = self._desks.balances(desk).get(currency.upper())
        return ZERO if balance is None else balance.available

    def get_current_price(self, product_id: str) -> Decimal:
        """The mid of best bid and ask. Raises MarketUnavailable without both."""
        with self._desks.looking() as desk:
            quote = _quotes(desk, [product_id.upper()]).get(product_id.upper())
        if quote is None:
            raise MarketUnavailable(f"{product_id}: found no quote, expected a product of {desk.source.name} with bid and ask")
        return quote.mid

    def get_candles(self, product_id: str, interval: str = "1h", limit: int = 100) -> pd.DataFrame:
        """The newest candles that have closed, oldest first: `product`, `start` (epoch seconds), open, high, low, close, volume.

        As the source has them, judged by no gate. Volume is in base units. Raises MarketUnavailable.
        """
        with self._desks.looking() as desk:
            until = last_close(desk.market_now(), interval)
            since = until - timedelta(seconds=interval_seconds(interval) * limit)
            rows = desk.source.candles({product_id.upper(): int(since.timestamp())}, interval, until)
        return rows[list(COLUMNS)].drop_duplicates("start").sort_values("start", ignore_index=True)

    def get_portfolio(self) -> AccountPortfolio:
        """Every balance of the account with the mid of its product against the plan's cash asset."""
        with self._desks.looking() as desk:
            cash = desk.plan.cash_asset
            balances = {asset: held for asset, held in self._desks.balances(desk).items() if held.total}
            quotes = _quotes(desk, [f"{asset}-{cash}" for asset in balances if asset != cash])
        mids = {cash: Decimal(1)} | {id_.removesuffix(f"-{cash}"): quote.mid for id_, quote in quotes.items()}
        holdings = {
            asset: Holding(asset=asset, available=held.available, hold=held.hold, price=mids.get(asset))
            for asset, held in sorted(balances.items())
        }
        return AccountPortfolio(cash_asset=cash, holdings=holdings)

    def get_order(self, order_id: str) -> AccountOrder:
        """The order by our client id or the exchange's; one that may still trade is settled first.

        Raises ConfigurationError for an order that is not of this portfolio.
        """
        return _told(self._desks.order(str(order_id)))

    # ------------------------------------------------------------------------------------------------- trading

    def create_market_order(self, product_id: str, side: str, size: Number, *, reference: str | None = None) -> AccountOrder:
        """Sends an order at the market, `size` in base units. `reference` names the decision: the same one never sends twice."""
        return self._placed(_request(product_id, side, size), reference)

    def create_limit_order(
        self, product_id: str, side: str, size: Number, price: Number, *, post_only: bool = False, reference: str | None = None
    ) -> AccountOrder:
        """Sends an order that rests at `price` until it is filled or cancelled."""
        terms = _request(product_id, side, size, kind=OrderType.LIMIT, limit_price=price, post_only=post_only)
        return self._placed(terms, reference)

    def create_stop_order(
        self,
        product_id: str,
        side: str,
        size: Number,
        stop_price: Number,
        *,
        price: Number | None = None,
        reference: str | None = None,
    ) -> AccountOrder:
        """Sends an order that wakes at `stop_price`. Coinbase has stop-limits only: without `price`, the plan's collar is it."""
        kind = OrderType.STOP if price is None else OrderType.STOP_LIMIT
        return self._placed(_request(product_id, side, size, kind=kind, limit_price=price, stop_price=stop_price), reference)

    def cancel_order(self, order_id: str, reason: str = "cancelled by a program") -> bool:
        """Whether the order is cancelled after that: False if it has filled, or if the venue would not.

        Raises ConfigurationError for an order that is not of this portfolio.
        """
        return self._desks.cancel(str(order_id), reason).state in (State.CANCELLED, State.ABANDONED)

    def _placed(self, request: Request, reference: str | None) -> AccountOrder:
        placed = self._desks.place(request, reference)
        return _refused(request, placed, self.mode) if placed.order is None else _told(placed.order)


def _quotes(desk: Desk, ids: Sequence[str]) -> dict[str, Quote]:
    """Quotes of the products that the source has."""
    return desk.source.quotes(list(desk.source.products(ids)), desk.market_now())


def _request(
    product_id: str,
    side: str,
    size: Number,
    *,
    kind: OrderType = OrderType.MARKET,
    limit_price: Number | None = None,
    stop_price: Number | None = None,
    post_only: bool = False,
) -> Request:
    return Request(
        product=product_id.upper(),
        side=_choice(Side, side, "side"),
        quantity=dec(size, "size"),
        type=kind,
        limit_price=None if limit_price is None else dec(limit_price, "price"),
        stop_price=None if stop_price is None else dec(stop_price, "stop_price"),
        time_in_force=TimeInForce.IOC if kind is OrderType.MARKET else TimeInForce.GTC,
        post_only=post_only,
        reason="by a program",
    )


def _choice(names: type[_Names], value: str, what: str) -> _Names:
    try:
        return names(str(value).lower())
    except ValueError:
        raise ConfigurationError(f"{what}: found {value!r}, expected one of {', '.join(names)}") from None


def _told(order: Order) -> AccountOrder:
    request = order.intent.request
    return AccountOrder(
        order_id=str(order.id), exchange_order_id=order.exchange_order_id or "", product_id=request.product,
        side=request.side.upper(), type=request.type, size=request.quantity, price=request.limit_price,
        stop_price=request.stop_price, status=order.state, filled_size=order.filled, reason=order.reason,
        mode=order.intent.owner.mode,
    )  # fmt: skip


def _refused(request: Request, placed: HandOrder, mode: str) -> AccountOrder:
    return AccountOrder(
        order_id="", exchange_order_id="", product_id=request.product, side=request.side.upper(), type=request.type,
        size=request.quantity, price=request.limit_price, stop_price=request.stop_price, status=REFUSED, filled_size=ZERO,
        reason=f"{placed.code}: {placed.message}", mode=mode,
    )  # fmt: skip
