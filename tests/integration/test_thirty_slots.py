"""Thirty slots and more, from candles to report, on generated and on recorded prices: the whole paper path at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from config.desk import assembled
from tests.builders.candles import write_generated
from tests.builders.plans import plan
from trading import cycle as cycles
from trading.desk import Desk
from trading.feeds.replay import Replay
from trading.money import ZERO
from trading.reconcile import reconcile
from trading.report import gather, to_html, to_markdown
from trading.settlement import LOOK_BACK
from trading.store.database import engine
from trading.store.journal import Author
from trading.store.reports import Reports
from trading.store.verify import verify

SLOTS = 90
LIVELY = {"name": "crossover", "parameters": {"fast": 3, "slow": 9}}
"""Trades often, so that ninety slots hold entries, sliced exits, refusals and a breaker that looks on."""


@pytest.fixture(params=["generated", "recorded"])
def candles(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "generated":
        return write_generated(tmp_path / "candles", 11, length=169 + SLOTS)
    recorded: Path = request.getfixturevalue("recorded")
    return recorded / "data" / "candles" / "coinbase-modern"


@pytest.fixture
def desk(database_url: str, candles: Path) -> Iterator[Desk]:
    made = plan(strategy=LIVELY, limits={"max_daily_volume_usd": "5000"}, breaker={"max_losing_exits": 1000})  # it only looks on
    with assembled(made, source=Replay(candles, made.costs.spread), url=database_url, author=lambda: Author("test")) as opened:
        yield opened


def test_ninety_slots_leave_books_that_prove_themselves(desk: Desk, database_url: str) -> None:
    for _ in range(SLOTS):
        last = cycles.run(desk)
        assert last.summary["outcome"] == "traded"
        assert last.reconciliation is not None
        assert last.reconciliation.clean
    assert reconcile(desk, LOOK_BACK).clean
    proof = verify(database_url)
    assert proof.ok, [check for check in proof.checks if not check.ok]

    figures = gather(Reports(engine(database_url)), "paper", "main", "default", days=365, written_at=datetime.now(UTC))
    cash, lots, realised, fees = Decimal(1000), {}, ZERO, ZERO
    rows = desk.books.connection.execute(
        "select product, side, quantity, price, fee from keel.fill order by traded_at, seen_at, entry_id"
    ).fetchall()
    assert len(rows) > 10
    for product, side, quantity, price, fee in rows:  # a second implementation, from the raw fills alone
        queue = lots.setdefault(product, [])
        cash -= (1 if side == "buy" else -1) * quantity * price + fee
        fees += fee
        if side == "buy":
            queue.append([quantity, price])
            continue
        left = quantity
        while left:
            part = min(left, queue[0][0])
            realised += part * (price - queue[0][1])
            queue[0][0] -= part
            left -= part
            if not queue[0][0]:
                queue.pop(0)
    assert last.market is not None
    closes = {product: position.price for product, position in ((row.product, row) for row in figures.positions)}
    held = sum((part * closes[product] for product, queue in lots.items() for part, _ in queue), ZERO)
    assert figures.now.cash == cash
    assert figures.now.fees == fees
    assert abs(figures.now.realised - realised) < Decimal("1e-9")  # the ledger rounds a part of a lot's cost at 18 decimals
    assert figures.now.equity == cash + held
    assert figures.total == cash + held - 1000

    page, text = to_html(figures), to_markdown(figures)
    assert 'src="http' not in page
    assert f"{figures.total:+,.2f}" in text
