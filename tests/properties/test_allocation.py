"""Whatever the market and the books: what allocation asks for is what validation approves, within every limit."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.plans import NOON, market, plan, portfolio, position, product, quote
from trading.allocation import allocate
from trading.market import Market
from trading.money import ZERO
from trading.orders import Side
from trading.plan import Plan
from trading.portfolio import Portfolio
from trading.risk import Approved, Validator, validate

IDS = ("A-USD", "B-USD", "C-USD", "D-USD")
NAN = float("nan")

prices = st.decimals("0.05", "90000", places=2)
signals = st.fixed_dictionaries(dict.fromkeys(IDS, st.one_of(st.just(NAN), st.floats(-1, 1), st.sampled_from([0.0, 1.0]))))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Plan, Market, Portfolio]:
    mids = {id_: draw(prices) for id_ in IDS}
    increments = {id_: draw(st.sampled_from(["0.00000001", "0.0001", "0.1"])) for id_ in IDS}
    rules = {
        id_: product(
            id_,
            base_increment=Decimal(increments[id_]),
            base_min_size=Decimal(increments[id_]),
            min_notional=Decimal(draw(st.sampled_from([1, 5]))),
        )
        for id_ in IDS
    }
    held = []
    for id_ in draw(st.sets(st.sampled_from(IDS), max_size=3)):
        worth = draw(st.decimals("0.01", "400", places=2))
        quantity = (worth / mids[id_] / Decimal(increments[id_])).to_integral_value() * Decimal(increments[id_])
        if quantity:
            held.append(position(id_, str(quantity), str(mids[id_])))
    books = portfolio(
        str(draw(st.decimals("0", "2000", places=2))),
        *held,
        day_volume=draw(st.decimals("0", "600", places=2)),
        doubts=frozenset(draw(st.sets(st.sampled_from(IDS), max_size=1))),
    )
    there = market(
        {id_: str(mid) for id_, mid in mids.items()},
        products=rules,
        quotes={id_: quote(id_, str(mid), spread=str(mid / 1000)) for id_, mid in mids.items()},
        gated=dict.fromkeys(draw(st.sets(st.sampled_from(IDS), max_size=1)), "gap"),
    )
    # The volatility guard looks at the whole portfolio; a quiet market never reaches it.
    wanted = plan(products=IDS, allocation={"weight": str(draw(st.sampled_from(["0.1", "0.25", "0.6"])))})
    return wanted, there, books


@given(world=worlds(), wanted=signals)
@settings(max_examples=300, deadline=None)
def test_validation_approves_what_allocation_asks_for(world: tuple[Plan, Market, Portfolio], wanted: dict[str, float]) -> None:
    plan_, there, books = world
    proposal = allocate(plan_, wanted, there, books)
    for answer in validate(plan_, proposal.requests, there, books, NOON):
        assert isinstance(answer, Approved), answer.message
    assert proposal == allocate(plan_, wanted, there, books), "the same inputs give the same requests"


@given(world=worlds(), wanted=signals)
@settings(max_examples=300, deadline=None)
def test_entries_keep_every_limit_together_and_exits_never_exceed_the_holding(
    world: tuple[Plan, Market, Portfolio], wanted: dict[str, float]
) -> None:
    plan_, there, books = world
    requests = allocate(plan_, wanted, there, books).requests
    sides = [request.side for request in requests]
    assert sides == sorted(sides, key=lambda side: side is Side.BUY), "exits first"
    spent = ZERO
    for request in requests:
        rules = there.products[request.product]
        assert request.quantity > 0
        assert request.quantity % rules.base_increment == 0
        if request.side is Side.BUY:
            notional = request.quantity * there.quotes[request.product].ask
            spent += notional * plan_.costs.outlay
            assert notional <= plan_.limits.max_order_size_usd
            assert request.product not in there.gated
            assert request.product not in books.doubts
    assert spent <= max(books.cash_free, ZERO)
    for id_ in IDS:
        sold = sum((r.quantity for r in requests if r.product == id_ and r.side is Side.SELL), ZERO)
        assert sold <= (books.positions[id_].free if id_ in books.positions else ZERO)


@given(world=worlds())
@settings(max_examples=150, deadline=None)
def test_a_holding_that_the_venue_would_take_is_always_sold_when_asked(world: tuple[Plan, Market, Portfolio]) -> None:
    """No gate, doubt, limit or lack of cash holds up an exit."""
    plan_, there, books = world
    requests = allocate(plan_, dict.fromkeys(IDS, 0.0), there, books).requests
    for id_, held in books.positions.items():
        rules, bid = there.products[id_], there.quotes[id_].bid
        sold = sum((request.quantity for request in requests if request.product == id_), ZERO)
        if held.quantity >= rules.smallest_sale(bid):
            assert sold == held.quantity
            assert all(request.quantity >= rules.smallest_sale(bid) for request in requests if request.product == id_)
        else:
            assert sold == ZERO
    assert all(isinstance(answer, Approved) for answer in validate(plan_, requests, there, books, NOON))


@given(world=worlds(), wanted=signals)
@settings(max_examples=50, deadline=None)
def test_a_stale_market_takes_entries_and_leaves_exits(world: tuple[Plan, Market, Portfolio], wanted: dict[str, float]) -> None:
    plan_, there, books = world
    requests = allocate(plan_, wanted, there, books).requests
    validator = Validator(plan_, there, books, NOON + timedelta(hours=1))
    for request in requests:
        validator.validate(request)
    assert {answer.request.side for answer in validator.approved} <= {Side.SELL}
    assert {answer.request.side for answer in validator.refused} <= {Side.BUY}
