"""Validation on any sequence of requests: approvals never overdraw anything together, and the record agrees with the verdict."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.plans import NOON, market, plan, portfolio, position
from trading.money import ZERO
from trading.orders import OrderType, Request, Side, TimeInForce
from trading.plan import order_price
from trading.risk import Approved, Validator, validate

IDS = ("BTC-USD", "ETH-USD", "SOL-USD", "XXX-USD")
THERE = market({"BTC-USD": "50000", "ETH-USD": "2000", "SOL-USD": "150"})
PLAN = plan(products=IDS[:3], controls={"max_entries_per_slot": 3, "max_hourly_share": 1})
HELD = portfolio("400", position(quantity="0.004"), position("SOL-USD", "1", "150", held="0.5"), day_volume=Decimal(100))

quantities = st.one_of(
    st.decimals("-0.01", "2", places=4), st.decimals("0.0001", "0.01", places=5), st.just(Decimal("NaN")), st.just(Decimal(0))
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    kind = draw(st.sampled_from(list(OrderType)))
    price = st.one_of(st.none(), st.decimals("0", "60000", places=2), st.just(Decimal("NaN")))
    return Request(
        product=draw(st.sampled_from(IDS)),
        side=draw(st.sampled_from(Side)),
        quantity=draw(quantities),
        type=kind,
        limit_price=None if kind is OrderType.MARKET else draw(price),
        stop_price=draw(price) if kind in (OrderType.STOP, OrderType.STOP_LIMIT) else None,
        time_in_force=draw(st.sampled_from([TimeInForce.IOC, TimeInForce.GTC])),
        leg=draw(st.integers(0, 5)),
        protective=draw(st.booleans()),
    )


@given(batch=st.lists(requests(), max_size=12))
@settings(max_examples=300, deadline=None)
def test_approvals_never_overdraw_together(batch: list[Request]) -> None:
    approved = [answer.request for answer in validate(PLAN, batch, THERE, HELD, NOON) if isinstance(answer, Approved)]
    notional = {id(r): r.quantity * order_price(r, THERE.quotes[r.product]) for r in approved}
    bought = [r for r in approved if r.side is Side.BUY]
    assert sum((notional[id(r)] * PLAN.costs.outlay for r in bought), ZERO) <= HELD.cash_free
    assert not bought or sum(notional.values(), ZERO) + HELD.day_volume <= PLAN.limits.max_daily_volume_usd + sum(
        (notional[id(r)] for r in approved if r.side is Side.SELL), ZERO
    )
    assert len({r.product for r in bought} | set(HELD.positions)) <= PLAN.limits.max_open_positions
    for id_ in IDS:
        sold = sum((r.quantity for r in approved if r.product == id_ and r.side is Side.SELL), ZERO)
        assert sold <= (HELD.positions[id_].free if id_ in HELD.positions else ZERO)
    assert len({(r.product, r.leg) for r in approved}) == len(approved)


@given(batch=st.lists(requests(), max_size=12))
@settings(max_examples=300, deadline=None)
def test_the_stored_outcomes_agree_with_the_verdict_and_stay_as_they_were(batch: list[Request]) -> None:
    """Outcomes are read off the figures of their moment: later approvals must not change them."""
    validator = Validator(PLAN, THERE, HELD, NOON)
    told = []
    for request in batch:
        answer = validator.validate(request)
        told.append((answer, answer.evaluation.to_dict()))
    for answer, stored in told:
        assert answer.evaluation.to_dict() == stored
        assert all(check["passed"] for check in stored["checks"]) is isinstance(answer, Approved)


@given(request=requests(), others=st.lists(requests(), max_size=4))
@settings(max_examples=200, deadline=None)
def test_approved_among_others_is_approved_alone(request: Request, others: list[Request]) -> None:
    """The running totals only ever tighten."""
    last = validate(PLAN, [*others, request], THERE, HELD, NOON)[-1]
    if isinstance(last, Approved):
        assert isinstance(validate(PLAN, [request], THERE, HELD, NOON)[0], Approved)
