"""What one candle does to a resting order, whatever its prices: never beyond the limit, the quantity or the hold."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.builders.plans import NOON, buy, product
from trading.matching import Bar, hold_of, match_bar
from trading.money import LEDGER_UNIT, ZERO
from trading.orders import OrderType, Request, TimeInForce
from trading.plan import Costs

UNIT = Decimal("1e-12")
"""An increment so fine that notional and fee have more decimals than the ledger keeps."""
FINE = product(base_increment=UNIT, base_min_size=UNIT, price_increment=UNIT, min_notional=UNIT)


def units(most: int) -> st.SearchStrategy[Decimal]:
    return st.integers(1, most).map(lambda count: count * UNIT)


requests = st.builds(
    lambda type_, quantity, price, room: buy(
        quantity=str(quantity),
        type=type_,
        limit_price=None if type_ is OrderType.STOP else price + room,
        stop_price=None if type_ is OrderType.LIMIT else price,
        time_in_force=TimeInForce.GTC,
    ),
    st.sampled_from([OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT]),
    units(10**13), units(10**13), units(10**12),
)  # fmt: skip
bars = st.builds(
    lambda prices, volume: Bar(NOON + timedelta(hours=1), sorted(prices)[1], max(prices), min(prices), volume),
    st.tuples(units(10**13), units(10**13), units(10**13)), units(10**14),
)  # fmt: skip
rates = st.integers(0, 2000).map(lambda share: Decimal(share) / 100_000)


@given(requests, bars, rates, st.booleans(), st.integers(0, 3))
def test_a_buy_never_costs_more_than_it_holds(request_: Request, bar: Bar, rate: Decimal, triggered: bool, short: int) -> None:
    costs = Costs(spread=ZERO, slippage=rate, maker_fee=rate, taker_fee=rate, participation=Decimal("0.5"))
    left = request_.quantity
    hold = max(hold_of(request_, left, costs) - short * LEDGER_UNIT, ZERO)  # fees rounded up before have eaten of it
    matched = match_bar(request_, left, hold, bar, FINE, costs, triggered=triggered)
    assert sum((part.notional + part.fee for part in matched.executions), ZERO) <= hold
    assert matched.quantity <= min(left, bar.volume * costs.participation)
    assert (matched.status == "filled") == (matched.quantity == left)
    for part in matched.executions:
        assert part.fee >= 0
        assert part.quantity % UNIT == part.price % UNIT == 0
        if request_.limit_price is not None:
            assert part.price == request_.limit_price
