"""A census of what an order needs: each thing taken away, spoilt or made absurd. Then no order arrives, and somebody is told why.

After each removal a run and an order by hand try to buy, over a real Postgres. Orders are counted at the venue, not by what we
believe to have sent. The removals are those of `tests/builders/removals.py`, and `docs/census.md` is their table, which
`python -m tests.integration.test_census` writes anew. The checks before real orders have a census of their own in
`test_safety.py`, the keys of a plan in `test_plan_bounds.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from config.settings import PROJECT
from tests.builders.plans import buy, product
from tests.builders.removals import (
    ALONE,
    CENSUS,
    KEPT,
    NAN,
    ROWS,
    Account,
    Removal,
    Take,
    Wanting,
    candles,
    emptied,
    quoting,
    read_only,
    sql,
    tripped,
    venue_with,
)  # fmt: skip
from tests.builders.venues import later, quick_desk
from trading import cycle as cycles
from trading import hand, rollout
from trading.desk import Desk
from trading.errors import KeelError
from trading.orders import Mode
from trading.risk import Level
from trading.safety import PASSED
from trading.store.verify import verify
from trading.summary import to_text

PAGE = PROJECT / "docs" / "census.md"


@contextmanager
def opened(url: str, removal: Removal | None = None) -> Iterator[Desk]:
    """A desk whose plan is open, whose last run wanted nothing, and which wants to buy now."""
    changes = {**ALONE, **(removal.plan if removal else {})}
    with quick_desk(url, **changes) as desk:
        desk.strategy = strategy = Wanting(0.0)
        if removal is not None and removal.real:
            let_go(desk)
        cycles.run(desk)
        later(desk, hours=1)
        strategy.opinion = 1.0
        yield desk


def let_go(desk: Desk) -> None:
    """A person's way to real orders, at a venue in memory."""
    venue = Account(desk.source)  # type: ignore[arg-type]
    venue.fund("USD", Decimal(1000), "the account")
    desk.mode, desk.exchange, desk.fund, desk.ask_safety = Mode.REHEARSAL, venue, lambda *_: None, lambda: PASSED
    hand.resume(desk, None, "all looked at")
    rollout.arm(desk, timedelta(hours=1), "an hour")


def tried(attempt: Callable[[], str]) -> str:
    try:
        return attempt()
    except KeelError as error:
        return f"{type(error).__name__}: {error}"


def run(desk: Desk) -> str:
    return to_text(cycles.run(desk).summary)


def by_hand(desk: Desk) -> str:
    placed = hand.place(desk, buy())
    return placed.message or f"{placed.order.state} {placed.order.reason}" if placed.order else placed.message


@contextmanager
def anew(desk: Desk, url: str) -> Iterator[Desk]:
    """Another process at the same market and venue."""
    with quick_desk(url, **ALONE) as again:
        again.strategy, again.source, again.exchange = desk.strategy, desk.source, desk.exchange
        yield again


@pytest.fixture(autouse=True)
def _let_go_of_locks() -> Iterator[None]:
    yield
    while KEPT:
        KEPT.pop().close()


def attempts(desk: Desk, removal: Removal) -> tuple[int, list[tuple[str, str]]]:
    """Orders that arrived, and what was said of each attempt beside what should be."""
    venue: Any = desk.exchange
    before = venue.submitted
    said = [(tried(lambda: run(desk)), removal.said)]
    if removal.by_hand is not None:
        said.append((tried(lambda: by_hand(desk)), removal.by_hand or removal.said))
    return venue.submitted - before, said


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # that a value is wrong is the point
@pytest.mark.parametrize("removal", ROWS, ids=lambda removal: removal.what)
def test_without_it_no_order_arrives_and_somebody_is_told_why(database_url: str, removal: Removal) -> None:
    with opened(database_url, removal) as desk:
        refused = tried(lambda: str(removal.take(desk, database_url)))
        if refused.startswith("ConfigurationError: "):  # a plan that does not load: there is nothing that could trade
            assert removal.said in refused
            return
        if removal.reopens:
            with anew(desk, database_url) as again:
                arrived, said = attempts(again, removal)
        else:
            arrived, said = attempts(desk, removal)
    assert arrived == 0, said
    for told, expected in said:
        assert expected in told


@pytest.mark.parametrize("real", [False, True])
def test_with_nothing_taken_away_both_orders_arrive(database_url: str, real: bool) -> None:
    """Else the census would prove nothing."""
    nothing = Removal(what="nothing", take=lambda *_: None, said="filled", real=real)
    with opened(database_url, nothing) as desk:
        arrived, said = attempts(desk, nothing)
        assert arrived == 2, said
    assert verify(database_url).ok


# ------------------------------------------------------------------------------------- one product, and after the send


def one_quoted(desk: Desk, _: str) -> None:
    given = desk.source.quotes
    desk.source.quotes = lambda ids, at: given([id_ for id_ in ids if id_ != "BTC-USD"], at)  # type: ignore[method-assign]


def one_no_number(desk: Desk, _: str) -> None:
    given = desk.source.quotes
    desk.source.quotes = lambda ids, at: given(ids, at) | quoting(NAN, NAN)(["BTC-USD"], at)  # type: ignore[method-assign]


ONE: dict[str, Take] = {
    "its quote is absent": one_quoted,
    "its quote is no number": one_no_number,
    "its candles are absent": candles(lambda rows: rows[rows["product"] != "BTC-USD"]),
    "the venue closed it": venue_with(products=lambda ids: {id_: product(id_, tradable=id_ != "BTC-USD") for id_ in ids}),
    "its rules are broken": venue_with(
        products=lambda ids: {id_: product(id_, base_increment=Decimal(id_ != "BTC-USD") / 10**8) for id_ in ids}
    ),
    "its breaker is open": tripped("product:paper:main:BTC-USD", Level.NO_NEW),
    "its breaker has no row": emptied("breaker", "scope = 'product:paper:main:BTC-USD'"),
}


@pytest.mark.parametrize("case", ONE)
def test_what_is_wrong_with_one_product_stops_that_one_alone(database_url: str, case: str) -> None:
    both = Removal(what=case, take=ONE[case], said="", plan={"products": ("BTC-USD", "ETH-USD")})
    with opened(database_url, both) as desk:
        both.take(desk, database_url)
        told = run(desk)
        venue: Any = desk.exchange
        assert [order.product for order in venue.placed.values()] == ["ETH-USD"], told
        assert "BTC-USD" in told


AFTER = ("fill", "txn", "posting", "lot")


@pytest.mark.parametrize("table", AFTER)
def test_books_that_cannot_be_written_after_the_send_cost_one_order_at_most(database_url: str, table: str) -> None:
    """Nothing can tell beforehand: the order that finds it out is in the ledger as sent, and none follows it."""
    with opened(database_url) as desk:
        venue: Any = desk.exchange
        read_only(table)(desk, database_url)
        for _ in range(3):
            assert f"permission denied for table {table}" in tried(lambda: by_hand(desk))
            assert f"permission denied for table {table}" in tried(lambda: run(desk))
            later(desk, hours=1)
        assert venue.submitted == 1
        sql(f"grant insert, update on keel.{table} to keel_owner")(desk, database_url)
        cycles.run(desk)
        assert venue.submitted >= 1
    assert verify(database_url).ok


def test_operations_that_cannot_be_written_are_told_with_each_order_by_hand(database_url: str) -> None:
    """No run sends; what a person sends all the same is booked by the next settlement."""
    with opened(database_url) as desk:
        venue: Any = desk.exchange
        read_only("operation")(desk, database_url)
        for count in (1, 2):
            assert "permission denied for table operation" in tried(lambda: by_hand(desk))
            assert venue.submitted == count
            assert "permission denied for table operation" in tried(lambda: run(desk))
            assert venue.submitted == count
    assert verify(database_url).ok


# -------------------------------------------------------------------------------------------------------- the page

HEAD = """# Census of removals

What happens when something that an order needs is missing, spoilt or absurd: in each of these {count} cases a run and an order by
hand tried to buy, **no order arrived at the venue**, and this was said. (*Run*: an order by hand does not need it, and goes.)
The checks before real orders are tried in the same way: [live.md](live.md) lists them.

What is wrong with one product stops that one alone. What fails after the send (the books of fills cannot be written) costs one
order at most: it stands in the ledger as sent, and none follows it until it is booked. Where the count of operations cannot be
written, a run sends nothing; orders by hand go, each with that error, and the next settlement books them.
"""


def page() -> str:
    """The census as Markdown."""
    lines = [HEAD.replace("{count}", str(len(ROWS)))]
    for chapter, removals in CENSUS.items():
        lines += [f"## {chapter}\n", "| Taken away | Said |", "|---|---|"]
        for removal in removals:
            told = [removal.said] + ([removal.by_hand] if removal.by_hand else [])
            run_only = " *Run.*" if removal.by_hand is None else ""
            lines.append(f"| {removal.what} | {'; by hand '.join(f'`{words}`' for words in told)}{run_only} |")
        lines.append("")
    return "\n".join(lines)


def test_the_page_is_the_census() -> None:
    assert len({removal.what for removal in ROWS}) == len(ROWS)
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.integration.test_census"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
