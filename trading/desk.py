"""The desk: one plan with its opened market source, exchange and ledger. The steps of a cycle work on it.

Two clocks. Market time (`market_now`) is what slots, staleness, quotes and the breaker go by: a replay has its own.
Wall time (`wall`) is what send deadlines and doubts go by. Nothing in `trading/` asks the system for either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pandas as pd

from trading import strategies
from trading.decision import evaluation_body
from trading.errors import BooksRefused, ConfigurationError, MarketUnavailable, Unanswered
from trading.exchange.port import Exchange
from trading.ledger import OUTSIDE, Account, Transaction, opening, share, stock
from trading.lots import LotMethod
from trading.market import Candles, Market, MarketSource, Quote, interval_seconds
from trading.money import ZERO, dec, derived_id, text, utc
from trading.orders import Mode, Owner, Side
from trading.plan import Plan, check
from trading.quality import QualityGate, Verdict
from trading.risk import Approved, Refused
from trading.risk.breaker import BreakerRow, closed, unopened
from trading.safety import PASSED, Safety, needs_checks
from trading.store.books import Books
from trading.store.candles import CandleStore
from trading.store.journal import Change, Journal
from trading.strategies import Strategy


@dataclass(slots=True, kw_only=True)
class Desk:
    """Everything that a cycle works with. `market_time` is set by the cycle on a replay, None on a live source."""

    plan: Plan
    mode: Mode
    strategy: Strategy
    source: MarketSource
    exchange: Exchange
    journal: Journal
    books: Books
    candles: CandleStore
    gate: QualityGate
    wall: Callable[[], datetime]
    monotonic: Callable[[], float]
    pause: Callable[[float], None]
    """Waits so many seconds: between looks at a venue whose lists lag, and between replays."""
    fund: Callable[[str, Decimal, str], object]
    """Puts a new plan's capital (asset, amount, reference) into the account at the exchange: a deposit on paper, else nothing."""
    ask_safety: Callable[[], Safety] = field(default=Safety)
    """Makes the checks of live trading. The default finds none made: a desk that nobody gave checks sends nothing live."""
    halted: Callable[[], str] = field(default=str)
    """Why nothing at all may be sent, looked up anew at each call: the halt file. Empty when there is none."""
    safety: Safety = field(default=Safety())
    """What the checks of this run said."""
    second: MarketSource | None = field(default=None)
    """An independent source of prices, where there is one: its quotes are compared with those of the first."""
    market_time: datetime | None = field(default=None)
    market: Market | None = field(default=None)
    """What the cycle fetched: the paper exchange fills against the very quotes that the decision was made on."""

    @property
    def book(self) -> str:
        return f"{self.mode}:{self.plan.portfolio}"

    @property
    def history(self) -> int:
        """Candles that a cycle looks at: what strategy, breaker and the gate's trailing windows need."""
        return max(strategies.history(self.strategy), self.gate.rules.window + 1)

    @property
    def scopes(self) -> list[str]:
        """The breaker rows that concern every order of this plan; a product's own row comes on top."""
        return self.scopes_of(self.plan.name)

    def scopes_of(self, plan: str) -> list[str]:
        """`scopes` of a plan of this portfolio."""
        return ["global", f"portfolio:{self.book}", f"strategy:{self.book}:{plan}", f"venue:{self.exchange.name}"]

    def product_scope(self, product: str) -> str:
        return f"product:{self.book}:{product}"

    @property
    def lot_method(self) -> LotMethod:
        return LotMethod(self.plan.lots)

    def owner(self, slot: str) -> Owner:
        return Owner(
            mode=self.mode, portfolio=self.plan.portfolio, plan=self.plan.name, strategy=self.plan.strategy.name, slot=slot
        )

    def account(self, asset: str) -> Account:
        """The plan's own account of an asset at the venue."""
        return Account(self.book, self.plan.name, "venue", asset)

    def check_safety(self) -> Safety:
        """Makes the checks anew, once per run: after settling, before anything is decided."""
        self.safety = self.ask_safety() if needs_checks(self.mode) else PASSED
        return self.safety

    def forbids(self, side: Side) -> str:
        """Why no order of that side may be sent now: a halt, or the checks of live trading; empty when it may."""
        return self.halted() or (self.safety.forbids(side) if needs_checks(self.mode) else "")

    def market_now(self) -> datetime:
        """Market time; on a replay outside of a cycle, its position (the last slot that was completed or skipped)."""
        if not self.source.is_replay:
            return self.source.now()
        if self.market_time is None:
            self.market_time = self.books.last_slot(self.book, self.plan.name) or self.first_slot()
        return self.market_time

    def quote(self, product: str) -> Quote | None:
        """The quote of the cycle; outside of one, fetched now."""
        if self.market is not None and product in self.market.quotes:
            return self.market.quotes[product]
        return self.source.quotes([product], self.market_now()).get(product)

    def volume(self, product: str) -> Decimal | None:
        """Volume of the product's last closed candle in base units; None when it is not known."""
        if self.market is not None and product in self.market.candles.products:
            candles = self.market.candles
            volume = float(candles.volume[-1, candles.column(product)])
        else:
            volume = float(self.candles.load([product], self.plan.interval, self.market_now(), 1).volume[-1, 0])
        return None if math.isnan(volume) else dec(volume)

    def candles_after(self, product: str, at: datetime) -> pd.DataFrame:
        """Stored candles of the product that began at or after `at` and have closed, oldest first.

        Stored means that they passed the gate: a false print fills no resting order.
        """
        seconds = interval_seconds(self.plan.interval)
        now = self.market_now()
        length = max(1, math.ceil((now - at).total_seconds() / seconds))
        rows = self.candles.load([product], self.plan.interval, now, length).frame()
        return rows[rows["start"] >= at.timestamp()]

    def first_slot(self) -> datetime:
        """A replay's first slot, or the last closed candle of a live source."""
        first = self.source.next_slot(self.plan.products, self.plan.interval, self.history, None)
        return first if first is not None else utc(0)


def day_start(at: datetime) -> datetime:
    """Midnight UTC of the market's day."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def open_books(desk: Desk) -> bool:
    """Creates what the plan needs in the ledger, once; True if the plan was new.

    The plan's capital is booked, and the breaker rows that are missing are made: closed on paper, so that it may start, and
    open elsewhere, so that it may not. A row that exists is never touched. Must be called with the portfolio's lock held.
    """
    book, plan = desk.book, desk.plan
    check(plan)
    check_lot_method(desk)
    is_new = not desk.books.has_plan(book, plan.name)
    is_first = desk.books.source(book) is None
    if is_first and not is_new:
        raise BooksRefused(f"portfolio {book}: found no row in the ledger, expected that of plan {plan.name}, which has traded: "
                           "restore the ledger from a copy")  # fmt: skip
    if not is_new and desk.books.has_configuration(plan.sha256):
        return False
    change = Change()
    change.add("configuration", sha256=plan.sha256, kind="plan", body=plan.canonical())
    if is_first:
        change.add("portfolios", book=book, mode=desk.mode, name=plan.portfolio, source=desk.source.name,
                   cash_asset=plan.cash_asset, lot_method=plan.lots)  # fmt: skip
    if is_new:
        for transaction in _openings(desk, is_first=is_first):
            change.transaction(transaction)
        # The first mark, just before the first slot: losses and drawdown are measured from it.
        change.add("equity", book=book, plan=plan.name, at=desk.market_now() - timedelta(seconds=1), equity=plan.capital,
                   cash=plan.capital, unrealised=ZERO, realised=ZERO, fees=ZERO)  # fmt: skip
    for row in missing_breakers(desk):  # a plan that gained a product gains its row
        change.breaker(row, None, actor="opening")
    if is_new:
        # The venue first: a crash in between leaves capital that the next start deposits no second time.
        desk.fund(plan.cash_asset, plan.capital, f"opening:{plan.name}")
    desk.journal.record("plan.open" if is_new else "plan.change", change)
    return is_new


def _openings(desk: Desk, *, is_first: bool) -> Iterator[Transaction]:
    """How a new plan comes to its capital: made up on paper; out of what the account at the venue really holds elsewhere.

    Raises ConfigurationError when the account has not got that much that is no other plan's.
    """
    book, plan, now = desk.book, desk.plan, desk.market_now()
    if not needs_checks(desk.mode):
        yield opening(book, plan.name, plan.cash_asset, plan.capital, now)
        return
    if is_first:
        balances = desk.exchange.balances()
        yield stock(book, {asset: balance.total for asset, balance in balances.items()}, now)
        free = balances[plan.cash_asset].available if plan.cash_asset in balances else ZERO
    else:
        free = desk.books.free_cash(book, plan.cash_asset).get(OUTSIDE, ZERO)
    if free < plan.capital:
        raise ConfigurationError(
            f"capital of plan {plan.name}: found {text(free)} {plan.cash_asset} in the account that is no plan's, expected "
            f"{text(plan.capital)}: pay it in, or begin with less (--capital)"
        )
    lines = share(desk.account(plan.cash_asset), plan.capital)
    yield Transaction("opening", "plan", f"{book}:{plan.name}", now, lines)


def check_lot_method(desk: Desk) -> None:
    """A portfolio keeps the method that it was created with. Raises ConfigurationError for a plan that names another one."""
    created_with = desk.books.lot_method(desk.book)
    if created_with is not None and created_with != desk.lot_method:
        raise ConfigurationError(
            f"plan {desk.plan.name}, key lots: found {desk.plan.lots}, expected {created_with}, which portfolio {desk.book} was "
            "created with"
        )


def missing_breakers(desk: Desk) -> list[BreakerRow]:
    """Rows for the scopes of the plan that have none yet: open where orders are real. The global one is all modes'."""
    wanted = [*desk.scopes, *(desk.product_scope(product) for product in desk.plan.products)]
    known = {row.scope for row in desk.books.breakers(wanted)}
    starts_open = needs_checks(desk.mode)
    return [
        (unopened if starts_open and scope != "global" else closed)(scope, desk.market_now())
        for scope in wanted
        if scope not in known
    ]


class Lateness(NamedTuple):
    """What a run may do with its slot, and why: `run`, `reduce_only` (exits, no new risk) or `skip`."""

    policy: str
    reason: str = ""


def lateness(plan: Plan, age_seconds: float) -> Lateness:
    """The late-run policy for a slot whose candle closed so long ago (market time)."""
    interval = interval_seconds(plan.interval)
    fresh = float(plan.staleness_intervals) * interval
    if age_seconds <= fresh:
        return Lateness("run")
    reason = f"stale: the candle closed {age_seconds:.0f} s ago, at most {fresh:.0f} s are allowed"
    exits_until = float(plan.late_exit_intervals) * interval
    return Lateness("reduce_only", f"{reason}; exits only") if age_seconds <= exits_until else Lateness("skip", reason)


def see_market(desk: Desk, end: datetime, at: datetime) -> tuple[Market, Verdict]:
    """What may be seen of the market at time `at`, with the candles that closed at or before `end`; the desk keeps it.

    Fetches what is missing, lets the quality gate judge it and stores what passed. A quote that is no number is no quote, and
    rules without increments are no rules. Raises MarketUnavailable when the
    source cannot answer; nothing is stored then and a retry starts afresh.
    """
    plan = desk.plan
    stored = desk.candles.load(plan.products, plan.interval, end, desk.history)
    fetched = desk.source.candles(first_missing(stored), plan.interval, end)
    verdict = desk.gate.judge(fetched, stored, plan.products, plan.interval, end)
    desk.candles.save(verdict.clean, plan.interval)
    desk.market = Market(
        at=at,
        products={id_: rules for id_, rules in desk.exchange.products(plan.products).items() if rules.is_sound},
        candles=stored.with_rows(verdict.clean),
        quotes=_numbers(desk.source.quotes(plan.products, at)),
        gated=verdict.gated,
        second=_second_quotes(desk, at),
        taker_fee=_fee_at_venue(desk) if needs_checks(desk.mode) else None,
        cash_at_venue=cash_at_venue(desk) if needs_checks(desk.mode) else None,
    )
    return desk.market, verdict


def _second_quotes(desk: Desk, at: datetime) -> dict[str, Quote]:
    """What the independent source says; nothing when it is away: whether an entry needs it is a check's to say."""
    if desk.second is None:
        return {}
    try:
        return _numbers(desk.second.quotes(desk.plan.products, at))
    except MarketUnavailable:
        return {}


def _numbers(quotes: Mapping[str, Quote]) -> dict[str, Quote]:
    """Without those that are no numbers: such a quote is none, and would stop the other products as well."""
    return {id_: quote for id_, quote in quotes.items() if quote.bid.is_finite() and quote.ask.is_finite()}


def _fee_at_venue(desk: Desk) -> Decimal | None:
    """What an immediate fill costs there; None when the venue does not tell: the checks of live trading ask it as well."""
    try:
        return desk.exchange.fee_tier().taker
    except Unanswered:
        return None


def cash_at_venue(desk: Desk) -> Decimal:
    """What the venue says is free, less what our holds reserve for orders that it does not know of (yet).

    Nothing when it does not tell: an entry waits, exits go on.
    """
    asset = desk.plan.cash_asset
    try:
        told = desk.exchange.balances().get(asset)
    except Unanswered:
        return ZERO
    if told is None:
        return ZERO
    return told.available - max(ZERO, desk.books.held(desk.book, asset) - told.hold)


def first_missing(stored: Candles) -> dict[str, int]:
    """Product -> start of the first candle to fetch: after the newest stored one, or the whole window if it begins late.

    A window that begins up to a tenth late counts as complete: a venue leaves out candles without trades.
    """
    known = ~np.isnan(stored.close)
    length, seconds = len(stored.starts), interval_seconds(stored.interval)
    oldest, newest = known.argmax(axis=0), length - 1 - known[::-1].argmax(axis=0)
    whole = known.any(axis=0) & (oldest <= length // 10)
    since = np.where(whole, stored.starts[newest] + seconds, stored.starts[0])
    return dict(zip(stored.products, since.tolist(), strict=True))


def evaluation_row(desk: Desk, slot: str, judged: Approved | Refused) -> dict[str, object]:
    """The row of a `Change` that stores how a request was judged; one slot, product and leg is judged once."""
    request = judged.request
    return {
        "id": derived_id("evaluation", desk.book, desk.plan.name, slot, request.product, str(request.leg)),
        "book": desk.book,
        "plan": desk.plan.name,
        "slot": slot,
        "product": request.product,
        "leg": request.leg,
        "approved": isinstance(judged, Approved),
        "body": evaluation_body(judged),
        "plan_sha": judged.evaluation.plan_sha256,
    }
