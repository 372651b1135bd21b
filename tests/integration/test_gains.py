"""Gains by lot are what the ledger posted as realised: by every lot method, also after a fill was taken back or corrected."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.builders.desks import replay_desk
from tests.builders.plans import LIVELY, buy, sell
from tests.builders.venues import later, quick_desk
from trading import hand
from trading.cycle import run
from trading.lots import LotMethod
from trading.money import ZERO
from trading.orders import FillKind
from trading.reconcile import reconcile
from trading.store.costing import gains
from trading.store.database import engine
from trading.store.reports import Reports, Scope

ALL = Scope()


def realised(ledger: Reports) -> Decimal:
    return sum((row.realised for row in ledger.pnl(ALL) if row.product), ZERO)


@pytest.mark.parametrize("method", LotMethod)
@pytest.mark.parametrize("kind", [None, FillKind.REVERSAL, FillKind.CORRECTION], ids=["as it was", "reversed", "corrected"])
def test_the_sum_is_what_the_ledger_realised(database_url: str, method: LotMethod, kind: FillKind | None) -> None:
    with quick_desk(database_url, lots=method.value) as desk:
        exchange, prices = desk.exchange, desk.source.prices
        hand.place(desk, buy("BTC-USD", "0.001"), "A")
        prices["BTC-USD"] = "50500"
        later(desk, minutes=5)
        hand.place(desk, buy("BTC-USD", "0.0015"), "B")
        prices["BTC-USD"] = "51000"
        later(desk, minutes=5)
        hand.place(desk, sell("BTC-USD", "0.0009"), "C")
        if kind is not None:
            first = next(iter(exchange.placed.values()))
            if kind is FillKind.CORRECTION:  # the venue takes the old one out of the account by itself
                exchange._move("BTC", Decimal("-0.001"))
                exchange._move("USD", Decimal(50))
            quantity = "0.001" if kind is FillKind.REVERSAL else "0.0007"
            exchange.trades(first, quantity, kind=kind, trade="t", price="50000")
            reconcile(desk)
    ledger = Reports(engine(database_url))
    found = gains(ledger, ALL, 2026)
    assert sum((one.quantity for one in found), ZERO) == Decimal("0.0009")
    assert sum((one.proceeds for one in found), ZERO) == Decimal("45.9")
    assert sum((one.fees for one in found), ZERO) == 1
    assert sum((one.gain for one in found), ZERO) == realised(ledger) != 0
    assert gains(ledger, ALL, 2025) == []


@pytest.mark.parametrize("method", LotMethod)
def test_a_long_replay_gains_what_the_ledger_realised(database_url: str, tmp_path: Path, method: LotMethod) -> None:
    with replay_desk(database_url, tmp_path, lots=method.value, **LIVELY) as desk:
        for _ in range(10):
            run(desk)
    ledger = Reports(engine(database_url))
    years = {row.day.year for row in ledger.pnl(ALL)}
    found = [one for year in sorted(years) for one in gains(ledger, ALL, year)]
    assert len(found) > 3
    assert sum((one.gain for one in found), ZERO) == realised(ledger)
