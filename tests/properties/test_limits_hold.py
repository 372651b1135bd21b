"""Whatever is asked for, whatever fills, hangs or dies: no sequence of orders and fills takes an account over a limit.

A naive account of its own keeps what was sent and what it became; after each entry that passes, every limit is worked out from
it by adding up, the same sums that the ledger would tell the checks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.plans import NOON, flat_candles, market, plan, product, quote
from trading.market import Market
from trading.money import ZERO
from trading.orders import OrderType, Request, Side, TimeInForce
from trading.portfolio import Bought, Portfolio, Position, Recent
from trading.risk import Approved, validate

PRICES = {"BTC-USD": "50000", "ETH-USD": "2000", "SOL-USD": "150"}
CONTROLS = {
    "max_entries_per_slot": 3, "max_orders_per_hour": 4, "max_orders_per_day": 6, "max_live_orders": 3, "max_repeated_entries": 5,
    "max_messages_per_minute": 10, "duplicate_seconds": 60,
}  # fmt: skip
LIMITS = {
    "max_order_size_usd": "400", "max_open_positions": 2, "max_daily_volume_usd": "2400", "max_position_size": "0.6",
    "max_portfolio_volatility": "9",
}  # fmt: skip
PLAN = plan(products=tuple(PRICES), limits=LIMITS, controls=CONTROLS)
"""Bounds that are near to each other, so that each is the first to bind in some story."""
MIDNIGHT = NOON.replace(hour=0)


@dataclass
class Sent:
    """One order as the account has it."""

    request: Request
    notional: Decimal
    at: datetime
    filled: Decimal = ZERO
    live: bool = True

    @property
    def left(self) -> Decimal:
        return self.request.quantity - self.filled if self.live else ZERO


@dataclass
class Account:
    """Cash, fills and live orders, added up anew at each look."""

    cash: Decimal = Decimal(1000)
    now: datetime = NOON
    orders: list[Sent] = field(default_factory=list)

    def of(self, product: str, side: Side | None = None) -> list[Sent]:
        return [order for order in self.orders if order.request.product == product and side in (None, order.request.side)]

    def held(self, product: str) -> Decimal:
        return sum((order.filled * order.request.side.sign for order in self.of(product)), ZERO)

    def working(self, product: str) -> Decimal:
        return sum((order.left * Decimal(PRICES[product]) for order in self.of(product, Side.BUY)), ZERO)

    def since(self, start: datetime, product: str = "") -> list[Sent]:
        return [order for order in self.orders if order.at > start and product in ("", order.request.product)]

    def entries(self, product: str) -> int:
        count = 0
        for order in self.of(product):
            count = count + 1 if order.request.side is Side.BUY else 0
        return count

    def volume(self, start: datetime) -> Decimal:
        return sum((order.notional for order in self.since(start)), ZERO)

    def cash_held(self) -> Decimal:
        return sum((self.working(id_) * PLAN.costs.outlay for id_ in PRICES), ZERO)

    def portfolio(self) -> Portfolio:
        positions = {
            id_: Position(product=id_, quantity=self.held(id_), cost=ZERO,
                          held=sum((order.left for order in self.of(id_, Side.SELL)), ZERO))
            for id_ in PRICES if self.held(id_)
        }  # fmt: skip
        return Portfolio(
            book="paper:main", plan="default", cash_asset="USD", cash=self.cash, cash_held=self.cash_held(), positions=positions,
            working={id_: self.working(id_) for id_ in PRICES if self.working(id_)}, day_volume=self.volume(MIDNIGHT),
            hour_volume=self.volume(self.now - timedelta(hours=1)),
            minute_orders=len(self.since(self.now - timedelta(minutes=1))),
            recent={id_: self.recent(id_) for id_ in PRICES},
        )  # fmt: skip

    def recent(self, product: str) -> Recent:
        hour = self.since(self.now - timedelta(hours=1), product)
        return Recent(
            hour_orders=len(hour),
            day_orders=len(self.since(MIDNIGHT, product)),
            live_orders=sum(order.live for order in self.of(product)),
            entries=self.entries(product),
            bought=tuple(
                Bought(order.request.quantity, Decimal(PRICES[product]), order.at)
                for order in hour
                if order.request.side is Side.BUY
            ),
        )

    def fill(self, order: Sent, share: Decimal) -> None:
        """Fills so much of what is left, at the price that it was judged at, with all that it may cost."""
        part = (order.left * share).quantize(Decimal("1e-8"))
        order.filled += part
        notional = part * Decimal(PRICES[order.request.product])
        self.cash -= notional * PLAN.costs.outlay if order.request.side is Side.BUY else -notional * PLAN.costs.proceeds
        order.live = order.filled < order.request.quantity

    def broken(self, entry: Request) -> list[str]:
        """The limits that do not hold after this entry was sent."""
        id_ = entry.product
        worth = {product: self.held(product) * Decimal(PRICES[product]) + self.working(product) for product in PRICES}
        equity = self.cash + sum((self.held(product) * Decimal(PRICES[product]) for product in PRICES), ZERO)
        limits, controls = PLAN.limits, PLAN.controls
        hour = self.now - timedelta(hours=1)
        holds = {
            "cash": self.cash - self.cash_held() >= 0,
            "position": worth[id_] <= limits.max_position_size * equity,
            "exposure": sum(worth.values(), ZERO) <= equity,
            "positions": sum(value > 0 for value in worth.values()) <= limits.max_open_positions,
            "day": self.volume(MIDNIGHT) <= limits.max_daily_volume_usd,
            "hour": self.volume(hour) <= controls.max_hourly_share * limits.max_daily_volume_usd,
            "orders an hour": len(self.since(hour, id_)) <= controls.max_orders_per_hour,
            "orders a day": len(self.since(MIDNIGHT, id_)) <= controls.max_orders_per_day,
            "live orders": sum(order.live for order in self.of(id_)) <= controls.max_live_orders,
            "messages": len(self.since(self.now - timedelta(minutes=1))) <= Decimal("0.7") * controls.max_messages_per_minute,
            "entries in a row": self.entries(id_) <= controls.max_repeated_entries,
        }
        return [name for name, held in holds.items() if not held]


requests = st.builds(
    lambda id_, side, notional, leg: Request(
        product=id_, side=side, quantity=(Decimal(notional) / Decimal(PRICES[id_])).quantize(Decimal("1e-6")), leg=leg,
        type=OrderType.MARKET, time_in_force=TimeInForce.IOC,
    ),
    st.sampled_from(["BTC-USD", "BTC-USD", "ETH-USD", "SOL-USD"]), st.sampled_from([Side.BUY, Side.BUY, Side.BUY, Side.SELL]),
    st.sampled_from([5, 40, 150, 250, 300, 350, 400]), st.integers(0, 9),
)  # fmt: skip
batches = st.lists(requests, min_size=2, max_size=5)
steps = st.one_of(
    batches,
    batches,
    batches,
    st.tuples(st.just("fill"), st.integers(0, 20), st.sampled_from([Decimal("0.5"), Decimal(1)])),
    st.tuples(st.just("die"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.sampled_from([10, 61, 301, 3601])),
)


def there(now: datetime) -> Market:
    return market(
        PRICES, at=now, products={id_: product(id_) for id_ in PRICES}, candles=flat_candles(PRICES, end=now),
        quotes={id_: quote(id_, mid, at=now) for id_, mid in PRICES.items()},
    )  # fmt: skip


@given(story=st.lists(steps, min_size=4, max_size=25))
@settings(max_examples=400, deadline=None)
def test_no_sequence_of_orders_and_fills_exceeds_a_limit(story: list[object]) -> None:
    account = Account()
    for step in story:
        if isinstance(step, list):
            before = account.portfolio()
            for answer in validate(PLAN, step, there(account.now), before, account.now):
                if isinstance(answer, Approved):
                    request = answer.request
                    notional = request.quantity * Decimal(PRICES[request.product])
                    account.orders.append(Sent(request, notional, account.now))
                    assert request.side is Side.SELL or account.broken(request) == []
        else:
            _happen(account, step)
        for id_ in PRICES:
            assert sum(order.left for order in account.of(id_, Side.SELL)) <= account.held(id_), (
                "nothing is sold that is not held"
            )
        assert account.cash >= 0


def _happen(account: Account, step: object) -> None:
    kind, number, *rest = step  # type: ignore[misc]  # a tuple of the strategy above
    live = [order for order in account.orders if order.live]
    if kind == "wait":
        account.now += timedelta(seconds=number)
    elif kind == "fill" and live:
        account.fill(live[number % len(live)], rest[0])
    elif kind == "die" and live:
        live[number % len(live)].live = False
