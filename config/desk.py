"""The composition root: opens the ledger, the market source and the exchange of a plan, and hands them out as a desk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from config.clock import wall_clock
from config.halt import halted_by
from config.live import checks_of, environment, exchange_of, market_of, venue_of
from config.market import choose_market, coinbase_answers, open_market, second_market
from config.plans import load_plan
from config.postgres import ledger_url, person_url
from config.settings import Settings, load, private_folder, who_acts
from config.snapshots import ready
from trading.desk import Desk
from trading.errors import ConfigurationError, OutcomeUnknown
from trading.exchange.paper import PaperExchange
from trading.market import MarketSource, interval_seconds
from trading.money import text
from trading.orders import Mode
from trading.plan import Plan, Ramp
from trading.quality import QualityGate
from trading.rollout import follow
from trading.shadow import shadow_of
from trading.store.books import Books
from trading.store.candles import CandleStore
from trading.store.database import Connection, Sessions, connect
from trading.store.journal import Author, Journal
from trading.store.paper import PaperBooks
from trading.store.roles import Role
from trading.store.standing import given, ramp_steps
from trading.strategies import create

DEMO_PORTFOLIO = "demo"


def default_author() -> Author:
    """A person at a terminal, or whatever process this is."""
    return Author(actor=who_acts())


def ledger_of(plan: str, mode: Mode = Mode.PAPER) -> tuple[str, str]:
    """(ledger URL, portfolio) of a plan, for those who only read its books; starts the embedded ledger when it is down."""
    settings = load()
    opened = load_plan(plan, environment(mode), settings.plans)
    if mode is Mode.PAPER:
        opened = for_source(opened, chosen_market(settings), is_set=settings.market is not None)
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
    trades: bool = True,
) -> Iterator[Desk]:
    """The opened desk of a plan; everything is closed at the end, and with the connection its locks are gone.

    Live and rehearsal desks trade at Coinbase and at its simulator; with `trades` False they never ask for the key that
    trades. `by_person`: over the login that may also do what needs a person (resume, resolve, announce, order by hand).
    Raises ConfigurationError (plan, settings, a portfolio that belongs to another source), LedgerUnavailable.
    """
    settings = settings or load()
    private_folder(settings.home)
    opened = plan if isinstance(plan, Plan) else load_plan(plan, environment(mode), settings.plans)
    url = person_url(settings) if by_person else ledger_url(settings)
    ready(url, settings)
    if mode is not Mode.PAPER:
        with _real(opened, mode, settings, url, capital, author, trades=trades) as desk:
            yield desk
        return
    source_name = chosen_market(settings)
    opened = for_source(opened, source_name, is_set=settings.market is not None)
    if capital is not None:
        opened = opened.model_copy(update={"capital": capital})
    with assembled(opened, source=open_source(source_name, settings, opened), url=url, author=author) as desk:
        desk.halted = halted_by(settings)
        desk.second = second_source(settings, source_name, opened)
        if settings.paper_fault:
            desk.exchange.after_commit = _lose_the_answer  # type: ignore[attr-defined]  # paper, as checked above
        yield desk


@contextmanager
def _real(
    plan: Plan, mode: Mode, settings: Settings, url: str, capital: Decimal | None, author: Callable[[], Author], *, trades: bool
) -> Iterator[Desk]:
    """A desk whose orders leave for a venue: forbidden to send until `check_safety` has let it."""
    venue = venue_of(mode, settings, trades=trades)
    source = market_of(venue, settings)
    with Sessions(url) as sessions:
        books = Books(sessions[Role.DECIDE])
        book = f"{mode}:{plan.portfolio}"
        check_source(books, book, source)
        plan = plan.model_copy(update={"capital": plan_capital(books.connection, book, plan, capital)})
        desk = _desk(plan, mode, source, Journal(sessions, author), books)
        desk.halted = halted_by(settings)
        desk.second = second_source(settings, source.name, plan)
        desk.exchange = exchange = exchange_of(venue, mode, settings)
        exchange.obey(desk.halted)
        desk.ask_safety = checks_of(desk, exchange, venue, settings)
        yield desk


def first_capital(ramp: Ramp, asked: Decimal | None) -> Decimal:
    """What a plan begins with where orders are real: the ramp's first step, or less. Raises ConfigurationError for more."""
    if asked is not None and asked > ramp.steps[0]:
        raise ConfigurationError(
            f"capital: found {text(asked)}, expected at most {text(ramp.steps[0])}, the first step of the plan's ramp"
        )
    return asked or ramp.steps[0]


def _lose_the_answer(_: str) -> None:
    raise OutcomeUnknown("KEEL_PAPER_FAULT=accept_then_raise: the order was taken, its answer is lost")


@contextmanager
def open_shadow(
    plan: str | Plan, mode: Mode, *, author: Callable[[], Author] = default_author, settings: Settings | None = None
) -> Iterator[Desk]:
    """The paper desk that shadows a plan's real one: its market, its capital, and never its account."""
    settings = settings or load()
    opened = plan if isinstance(plan, Plan) else load_plan(plan, environment(mode), settings.plans)
    url = ledger_url(settings)
    ready(url, settings)
    venue = venue_of(mode, settings, trades=False)
    with connect(url, "keel shadow", Role.REPORT) as connection:
        capital = plan_capital(connection, f"{mode}:{opened.portfolio}", opened)
    shadowed = shadow_of(opened, mode).model_copy(update={"capital": capital})
    with assembled(shadowed, source=market_of(venue, settings), url=url, author=author) as desk:
        follow(desk, capital)
        desk.second = second_source(settings, desk.source.name, shadowed)  # it decides on what the real desk sees
        yield desk


def plan_capital(connection: Connection, book: str, plan: Plan, asked: Decimal | None = None) -> Decimal:
    """What a plan with real orders has: the capital of its newest step, what it was opened with, or what it will begin with."""
    steps = ramp_steps(connection, book, plan.name)
    return steps[0].capital if steps else given(connection, book, plan.name) or first_capital(plan.ramp, asked)


@contextmanager
def assembled(plan: Plan, *, source: MarketSource, url: str, author: Callable[[], Author] = default_author) -> Iterator[Desk]:
    """The paper desk of a plan over a source and a ledger that are open already.

    Raises ConfigurationError when the portfolio belongs to another source.
    """
    with Sessions(url) as sessions, connect(url, "keel paper exchange", Role.VENUE) as venue:
        books = Books(sessions[Role.DECIDE])
        check_source(books, f"{Mode.PAPER}:{plan.portfolio}", source)
        desk = _desk(plan, Mode.PAPER, source, Journal(sessions, author), books)
        paper = paper_exchange(desk, PaperBooks(venue))
        desk.exchange, desk.fund = paper, paper.deposit
        yield desk


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


def second_source(settings: Settings, first: str, plan: Plan) -> MarketSource | None:
    """The source that the first one's prices are compared with, where KEEL_SECOND_MARKET names one."""
    name = second_market(settings.second_market, first)
    return None if name is None else open_source(name, settings, plan)


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


def _desk(plan: Plan, mode: Mode, source: MarketSource, journal: Journal, books: Books) -> Desk:
    """The desk without its exchange, which looks at the desk itself."""
    return Desk(
        plan=plan,
        mode=mode,
        strategy=create(plan.strategy),
        source=source,
        exchange=None,  # type: ignore[arg-type]  # whoever calls sets it
        journal=journal,
        books=books,
        candles=CandleStore(books.connection, source.name),
        gate=QualityGate(),
        wall=wall_clock,
        monotonic=time.monotonic,
        pause=time.sleep,
        fund=lambda *_: None,
    )


def paper_exchange(desk: Desk, venue: PaperBooks) -> PaperExchange:
    """The paper exchange that fills at the desk's market."""
    return PaperExchange(
        venue,
        account=desk.book,
        quote_of=desk.quote,
        volume_of=desk.volume,
        products_of=desk.source.products,
        costs=desk.plan.costs,
        clock=desk.market_now,
        candles_after=desk.candles_after,
        candle_seconds=interval_seconds(desk.plan.interval),
    )
