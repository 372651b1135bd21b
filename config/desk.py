"""The composition root: opens the ledger, the market source and the exchange of a plan, and hands them out as a desk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from config.clock import wall_clock
from config.market import choose_market, coinbase_answers, open_market
from config.plans import load_plan
from config.postgres import ledger_url, person_url
from config.settings import Settings, load, private_folder
from config.snapshots import ready
from trading.desk import Desk
from trading.errors import ConfigurationError, OutcomeUnknown
from trading.exchange.paper import PaperExchange
from trading.market import MarketSource, interval_seconds
from trading.orders import Mode
from trading.plan import Plan
from trading.quality import QualityGate
from trading.store.books import Books
from trading.store.candles import CandleStore
from trading.store.database import Sessions, connect
from trading.store.journal import Author, Journal
from trading.store.paper import PaperBooks
from trading.store.roles import Role
from trading.strategies import create

DEMO_PORTFOLIO = "demo"


def default_author() -> Author:
    """A person at a terminal, or whatever process this is."""
    return Author(actor=os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid {os.getuid()}")


def ledger_of(plan: str) -> tuple[str, str]:
    """(ledger URL, portfolio) of a plan, for those who only read its books; starts the embedded ledger when it is down."""
    settings = load()
    opened = for_source(load_plan(plan, os.environ, settings.plans), chosen_market(settings), is_set=settings.market is not None)
    url = ledger_url(settings)
    ready(url, settings)
    return url, opened.portfolio


@contextmanager
def open_desk(
    plan: str | Plan = "default",
    *,
    mode: Mode = Mode.PAPER,
    capital: Decimal | None = None,
    author: Callable[[], Author] = default_author,
    settings: Settings | None = None,
    by_person: bool = False,
) -> Iterator[Desk]:
    """The opened desk of a plan; everything is closed at the end, and with the connection its locks are gone.

    `by_person`: over the login that may also do what needs a person (resume, resolve, announce, order by hand).
    Raises ConfigurationError (plan, settings, a portfolio that belongs to another source), LedgerUnavailable.
    """
    settings = settings or load()
    if mode is not Mode.PAPER:
        raise ConfigurationError(f"mode: found {mode.value}, expected paper: this version trades on paper only")
    private_folder(settings.home)
    source_name = chosen_market(settings)
    opened = plan if isinstance(plan, Plan) else load_plan(plan, os.environ, settings.plans)
    opened = for_source(opened, source_name, is_set=settings.market is not None)
    if capital is not None:
        opened = opened.model_copy(update={"capital": capital})
    url = person_url(settings) if by_person else ledger_url(settings)
    ready(url, settings)
    with assembled(opened, mode=mode, source=open_source(source_name, settings, opened), url=url, author=author) as desk:
        if settings.paper_fault:
            desk.exchange.after_commit = _lose_the_answer  # type: ignore[attr-defined]  # paper, as checked above
        yield desk


def _lose_the_answer(_: str) -> None:
    raise OutcomeUnknown("KEEL_PAPER_FAULT=accept_then_raise: the order was taken, its answer is lost")


@contextmanager
def assembled(
    plan: Plan, *, source: MarketSource, url: str, mode: Mode = Mode.PAPER, author: Callable[[], Author] = default_author
) -> Iterator[Desk]:
    """The desk of a plan over a source and a ledger that are open already.

    Raises ConfigurationError when the portfolio belongs to another source.
    """
    with Sessions(url) as sessions, connect(url, "keel paper exchange", Role.VENUE) as venue:
        books = Books(sessions[Role.DECIDE])
        check_source(books, f"{mode}:{plan.portfolio}", source)
        yield _desk(plan, mode, source, Journal(sessions, author), books, PaperBooks(venue))


def chosen_market(settings: Settings) -> str:
    """The market source of this state folder; the first call may probe Coinbase and make the choice."""
    return choose_market(settings.market, settings.home, lambda: coinbase_answers(settings.coinbase_host, settings.ca_file))


def open_source(name: str, settings: Settings, plan: Plan) -> MarketSource:
    return open_market(
        name,
        spread=plan.costs.spread,
        host=settings.coinbase_host,
        ca_file=settings.ca_file,
        timeout_seconds=settings.timeout_seconds,
        requests_per_second=settings.requests_per_second,
        seed=settings.synthetic_seed,
    )


def for_source(plan: Plan, source: str, *, is_set: bool) -> Plan:
    """The plan as it is; into the portfolio `demo` when nobody asked for the synthetic market that stands in."""
    if source == "synthetic" and not is_set:
        return plan.model_copy(update={"portfolio": DEMO_PORTFOLIO})
    return plan


def check_source(books: Books, book: str, source: MarketSource) -> None:
    """A portfolio keeps the source that it was created with: another market's prices would falsify its books."""
    created_with = books.source(book)
    if created_with is not None and created_with != source.name:
        raise ConfigurationError(
            f"portfolio {book}: found market source {source.name}, expected {created_with}, which it was created with; "
            f"set KEEL_MARKET={created_with}, or name another portfolio in the plan"
        )


def _desk(plan: Plan, mode: Mode, source: MarketSource, journal: Journal, books: Books, venue: PaperBooks) -> Desk:
    desk = Desk(
        plan=plan,
        mode=mode,
        strategy=create(plan.strategy),
        source=source,
        exchange=None,  # type: ignore[arg-type]  # the paper exchange looks at the desk's market: set below
        journal=journal,
        books=books,
        candles=CandleStore(books.connection, source.name),
        gate=QualityGate(),
        wall=wall_clock,
        monotonic=time.monotonic,
        pause=time.sleep,
        fund=lambda *deposit: paper.deposit(*deposit),  # noqa: PLW0108 - made below, with the desk
    )
    paper = PaperExchange(
        venue,
        account=desk.book,
        quote_of=desk.quote,
        volume_of=desk.volume,
        products_of=source.products,
        costs=plan.costs,
        clock=desk.market_now,
        candles_after=desk.candles_after,
        candle_seconds=interval_seconds(plan.interval),
    )
    desk.exchange = paper
    return desk
