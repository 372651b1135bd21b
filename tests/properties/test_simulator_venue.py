"""Whatever is done to the simulated venue: nothing appears or vanishes, and being asked in between changes nothing."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.simulator import BALANCES, NOON
from trading.simulator.shapes import order_body
from trading.simulator.tape import Synthetic
from trading.simulator.venue import MAIN_PORTFOLIO, Venue

PRICES = {"BTC-USD": Decimal(60000)}

sizes = st.sampled_from(["0.001", "0.1", "0.7"])
away = st.sampled_from(["0.98", "0.9995", "1", "1.0005", "1.02"])
terms = st.one_of(
    st.builds(lambda size: ("market_market_ioc", {"base_size": size}), sizes),
    st.builds(lambda size: ("market_market_ioc", {"quote_size": str(int(Decimal(size) * 9000))}), sizes),
    st.builds(lambda size, at, key: (key, {"base_size": size, "away": at}), sizes, away,
              st.sampled_from(["limit_limit_gtc", "sor_limit_ioc", "limit_limit_fok", "limit_limit_gtd"])),
)  # fmt: skip
steps = st.lists(
    st.tuples(st.sampled_from(["create", "create", "create", "cancel", "edit"]), st.sampled_from(["BUY", "SELL"]), terms,
              st.integers(1, 900)),
    max_size=25,
)  # fmt: skip
Script = list[tuple[str, str, tuple[str, dict[str, str]], int]]


def made() -> Venue:
    return Venue(Synthetic(7, PRICES), 7, BALANCES, NOON)


def act(on: Venue, number: int, step: str, side: str, asked: tuple[str, dict[str, str]]) -> None:
    ids = list(on.orders)
    if step == "create":
        on.apply("create", {"body": _body(on, number, side, asked), "portfolio": MAIN_PORTFOLIO})
    elif step == "cancel" and ids:
        on.apply("cancel", {"order_ids": [ids[number % len(ids)]], "portfolio": MAIN_PORTFOLIO})
    elif step == "edit" and ids:
        body = {"order_id": ids[number % len(ids)], "price": "59500.00", "size": asked[1].get("base_size", "0.2")}
        on.apply("edit", {"body": body, "portfolio": MAIN_PORTFOLIO})


def _body(on: Venue, number: int, side: str, asked: tuple[str, dict[str, str]]) -> dict[str, Any]:
    key, fields = asked[0], dict(asked[1])
    if "away" in fields:
        fields["limit_price"] = str((on.floor.points["BTC-USD"].price * Decimal(fields.pop("away"))).quantize(Decimal("0.01")))
    if key == "limit_limit_gtd":
        fields["end_time"] = (on.now + timedelta(seconds=100)).isoformat()
    return {"client_order_id": f"o{number}", "product_id": "BTC-USD", "side": side, "order_configuration": {key: fields}}


@settings(max_examples=40)
@given(steps)
def test_a_venue_that_is_asked_in_between_is_the_venue_that_was_not(script: Script) -> None:
    """So a restart, which carries out commands alone, finds every fill again. Each step checks the books, too."""
    asked, left_alone = made(), made()
    at = NOON
    for number, (step, side, fields, seconds) in enumerate(script):
        for part in range(4):
            asked.advance(at + timedelta(seconds=seconds * part / 4))
        at += timedelta(seconds=seconds)
        for it in (asked, left_alone):
            it.advance(at)
            act(it, number, step, side, fields)
    assert [order_body(order) for order in asked.orders.values()] == [order_body(order) for order in left_alone.orders.values()]
    assert asked.floor.fills == left_alone.floor.fills
    assert asked.floor.wallet.totals == left_alone.floor.wallet.totals


@settings(max_examples=40)
@given(steps)
def test_what_an_order_says_is_the_sum_of_its_fills(script: Script) -> None:
    it = made()
    at = NOON
    for number, (step, side, fields, seconds) in enumerate(script):
        at += timedelta(seconds=seconds)
        it.advance(at)
        act(it, number, step, side, fields)
    for order in it.orders.values():
        mine = [fill for fill in it.floor.fills if fill.order_id == order.order_id]
        assert order.filled_size == sum((fill.quantity for fill in mine), Decimal(0))
        assert order.filled_value == sum((fill.value for fill in mine), Decimal(0))
        assert order.fees == sum((fill.fee for fill in mine), Decimal(0))
        assert order.hold == 0 or not order.done
        limit = order.terms.limit_price
        for fill in mine:
            assert limit is None or (fill.price <= limit if order.side == "BUY" else fill.price >= limit) or order.edits
