"""Lots: whose turn it is, whatever the order in which they came in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from trading.lots import Lot, LotMethod, Match, lots_by
from trading.money import ZERO

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def lot(number: int, quantity: str, cost: str, minutes: int = 0) -> Lot:
    return Lot(UUID(int=number), Decimal(quantity), Decimal(cost), NOON + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("method", "order"),
    [
        (LotMethod.FIFO, [3, 1, 2, 4]),  # by age; 1 and 2 are of one time and go by id
        (LotMethod.HIFO, [4, 1, 2, 3]),  # 400, then 300 twice, then 100
    ],
)
def test_a_lot_that_comes_in_late_has_its_turn_by_its_age(method: LotMethod, order: list[int]) -> None:
    lots = lots_by(method)
    for one in (lot(1, "1", "300", 5), lot(4, "1", "400", 9), lot(3, "1", "100", 1), lot(2, "2", "600", 5)):
        lots.open(one)
    assert [match.lot.int for match in lots.take(lots.quantity, ZERO)] == order


def test_lots_of_one_time_go_by_id_however_they_were_read() -> None:
    one, other = lot(1, "1", "100"), lot(2, "1", "100")
    arrived = lots_by(LotMethod.FIFO)
    arrived.open(other)
    arrived.open(one)
    assert list(arrived.lots) == list(lots_by(LotMethod.FIFO, [one, other]).lots)


def test_thirds_are_compared_exactly() -> None:
    dear, cheap = lot(2, "3", "1.000000000000000001", 9), lot(1, "3", "1", 0)
    assert lots_by(LotMethod.HIFO, [cheap, dear]).take(Decimal(1), ZERO)[0].lot == dear.id


def test_a_pool_gives_itself_up_whole_for_each_purchase() -> None:
    pool = lots_by(LotMethod.AVERAGE, [lot(1, "1", "100")])
    opened, given_up = pool.open(lot(2, "3", "500", 7))
    assert given_up == [Match(UUID(int=1), Decimal(1), Decimal(100), ZERO)]
    assert opened == lot(2, "4", "600")  # as old as its oldest part
    assert pool.take(Decimal(1), Decimal(200)) == [Match(UUID(int=2), Decimal(1), Decimal(150), Decimal(200))]


def test_a_pool_that_was_several_lots_keeps_all_of_them() -> None:
    pool = lots_by(LotMethod.AVERAGE, [lot(1, "1", "100"), lot(2, "1", "300", 1)])
    opened, given_up = pool.open(lot(3, "1", "200", 2))
    assert (opened.quantity, opened.cost, len(given_up)) == (Decimal(3), Decimal(600), 2)
    assert (pool.quantity, pool.cost, len(pool.lots)) == (Decimal(3), Decimal(600), 1)
