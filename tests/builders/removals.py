"""Ways to take away what an order needs, and the table of all of them: the census of `tests/integration/test_census.py`."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from config.plans import load_plan
from tests.builders.plans import buy, product, quote
from tests.builders.venues import QuickExchange, QuietMarket, later
from trading import cycle as cycles
from trading import hand, rollout
from trading.desk import Desk
from trading.errors import MarketUnavailable, Unanswered
from trading.exchange.coinbase import CoinbaseMarket
from trading.exchange.port import FeeTier
from trading.market import Candles, Floats, Product, Quote
from trading.orders import Request
from trading.risk import Level
from trading.safety import Safety
from trading.store.database import Connection, connect
from trading.store.roles import Role
from trading.watching import open_for

ALONE: Mapping[str, Any] = {"products": ("BTC-USD",), "breaker": {"cool_down_minutes": 0}}
NAN = Decimal("NaN")
Take = Callable[[Desk, str], object]
"""Takes something away from a desk; the text is the ledger's URL, for whoever owns it."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    what: str
    take: Take
    said: str
    """What the run's page or error says; `by_hand` is what the order by hand is told, where that is another thing."""
    by_hand: str | None = ""
    """None: an order by hand does not need it."""
    real: bool = False
    """In rehearsal, where the account at the venue counts."""
    reopens: bool = False
    """The next process meets it: it opens a desk anew."""
    plan: Mapping[str, Any] = field(default_factory=dict)


class Wanting:
    """A strategy that has the same opinion of every product."""

    lookback = 2

    def __init__(self, opinion: float) -> None:
        self.opinion = opinion

    def signals(self, candles: Candles) -> Floats:
        return np.full(candles.close.shape, self.opinion)


class Account(QuickExchange):
    """A venue whose fee can be told otherwise."""

    fees = FeeTier(Decimal(0), Decimal(0))

    def fee_tier(self) -> FeeTier:
        return self.fees


# ------------------------------------------------------------------------------------------------- ways to take it away


def sql(*statements: str) -> Take:
    def take(_: Desk, url: str) -> None:
        with connect(url) as owner:
            for statement in statements:
                owner.execute(statement.encode())

    return take


def emptied(table: str, where: str = "true") -> Take:
    return sql(
        f"alter table keel.{table} disable trigger all",
        f"delete from keel.{table} where {where}",
        f"alter table keel.{table} enable trigger all",
    )


def read_only(table: str) -> Take:
    """Nobody writes it any more, its owner included."""
    return sql(f"revoke insert, update on keel.{table} from keel_owner, keel_decide")


def revoked(role: Role, what: str) -> Take:
    return sql(f"revoke {what} from {role}")


def locked(row: str) -> Take:
    """Somebody else keeps it; our patience is cut short, so that the test does not wait for a minute."""

    def take(desk: Desk, url: str) -> None:
        for role in (Role.DECIDE, Role.EXECUTE, Role.RECONCILE, Role.HUMAN):
            desk.journal.sessions[role].execute("set statement_timeout = '300ms'")
        holder: Connection = connect(url)
        KEPT.append(holder)
        holder.execute("begin")
        holder.execute(f"select * from keel.{row} for update".encode())

    return take


KEPT: list[Connection] = []
"""Sessions that hold a lock until their test is over."""
NO_SPACE = sql(
    "create function keel.no_space() returns trigger language plpgsql as $$ begin raise exception "
    "'could not extend file: No space left on device' using errcode = '53100'; end $$",
    "create trigger no_space before insert on keel.intent for each row execute function keel.no_space()",
)
NO_WRITES = sql(
    "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$"
)


def desk_with(**parts: Any) -> Take:
    def take(desk: Desk, _: str) -> None:
        for name, value in parts.items():
            setattr(desk, name, value)

    return take


def venue_with(**parts: Any) -> Take:
    def take(desk: Desk, _: str) -> None:
        for name, value in parts.items():
            setattr(desk.exchange, name, value)

    return take


def fails(error: Exception) -> Callable[..., object]:
    def method(*_: object, **__: object) -> object:
        raise error

    return method


def away(part: str, method: str, error: Exception) -> Take:
    def take(desk: Desk, _: str) -> None:
        setattr(getattr(desk, part), method, fails(error))

    return take


def quoting(bid: str | Decimal = "50000", ask: str | Decimal = "50000", seconds: float = 0) -> Callable[..., dict[str, Quote]]:
    def quotes(ids: Sequence[str], at: datetime) -> dict[str, Quote]:
        one = replace(quote(), bid=Decimal(bid), ask=Decimal(ask), at=at + timedelta(seconds=seconds))
        return {id_: replace(one, product=id_) for id_ in ids}

    return quotes


def quoted(*terms: Any) -> Take:
    return lambda desk, _: setattr(desk.source, "quotes", quoting(*terms))


def second(*terms: Any) -> Take:
    def take(desk: Desk, _: str) -> None:
        source = QuietMarket({"BTC-USD": "50000"})
        source.quotes = quoting(*terms)  # type: ignore[method-assign]
        desk.second = source

    return take


def second_away(desk: Desk, _: str) -> None:
    source = QuietMarket({})
    source.quotes = fails(MarketUnavailable("away"))  # type: ignore[method-assign,assignment]
    desk.second = source


REQUIRED = {"controls": {"second_source_required": True}}


def candles(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Take:
    def take(desk: Desk, _: str) -> None:
        given = desk.source.candles
        desk.source.candles = lambda *asked: change(given(*asked))  # type: ignore[method-assign]

    return take


def ruled(**changes: Any) -> Take:
    def products(ids: Sequence[str]) -> dict[str, Product]:
        return {id_: product(id_, **changes) for id_ in ids}

    return venue_with(products=products)


def configured(part: str, **changes: Any) -> Take:
    """As no file can say it: a copy with a value that nobody looked at."""

    def take(desk: Desk, _: str) -> None:
        inner = getattr(desk.plan, part)
        desk.plan = desk.plan.model_copy(update={part: inner.model_copy(update=changes)} if changes else {part: None})

    return take


def set_outside(**variables: str) -> Take:
    """By the environment: the plan does not load, so there is nothing that could trade."""
    return lambda *_: load_plan("default", variables)


def in_file(text: str) -> Take:
    def take(*_: object) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "plan.toml"
            file.write_text(text)
            load_plan(file, {})

    return take


def signs(**found: Decimal | None) -> Take:
    return lambda desk, _: open_for(desk, found)


def tripped(scope: str, level: Level) -> Take:
    return lambda desk, _: hand.trip(desk, scope, level, "a drill")


def opinion(value: float) -> Take:
    return lambda desk, _: setattr(desk.strategy, "opinion", value)


def overtaken(desk: Desk, url: str) -> None:
    """A later run takes the portfolio over while this one is about to stage."""
    body = desk.exchange.body

    def and_then(id_: UUID, request: Request) -> str:
        with connect(url) as owner:
            owner.execute("update keel.portfolio set epoch = epoch + 1")
        return body(id_, request)

    desk.exchange.body = and_then  # type: ignore[method-assign,assignment]


def nowhere(desk: Desk, _: str) -> None:
    """The market data's host does not resolve."""
    at = desk.market_now()
    desk.source = CoinbaseMarket(
        clock=lambda: at, monotonic=time.monotonic, sleep=lambda _: None, base_url="nowhere.invalid", attempts=1,
        timeout=(1, 1),
    )  # fmt: skip


def frozen(desk: Desk, _: str) -> None:
    """Somebody else's money: found by reconciling, a break that freezes the asset."""
    venue: Any = desk.exchange
    venue.held["BTC"] = Decimal(1)
    cycles.reconcile(desk, cycles.Cycle(slot_at=None, market_at=desk.market_now(), claim=None, skip="a drill"))


def disarmed(desk: Desk, _: str) -> None:
    rollout.disarm(desk, "a drill")


def spent(desk: Desk, _: str) -> None:
    """Somebody took money out of the account."""
    venue: Any = desk.exchange
    venue.held["USD"] = Decimal(3)


def in_doubt(desk: Desk, _: str) -> None:
    """An order that was sent and of which nothing was heard; it is not counted."""
    venue: Any = desk.exchange
    venue.visibility_lag_seconds, venue.swallows = 600, 9
    hand.place(desk, buy())


# ------------------------------------------------------------------------------------------------------- the census

BREAKERS = {
    "global": "global", "portfolio's": "portfolio:paper:main", "strategy's": "strategy:paper:main:default",
    "venue's": "venue:quick", "product's": "product:paper:main:BTC-USD",
}  # fmt: skip
STAGES = ("audit", "evaluation", "intent", "order_head", "order_event", "hold", "account", "portfolio")
"""What is written before an order may leave."""

CENSUS: dict[str, list[Removal]] = {
    "The ledger": [
        *(
            Removal(
                what=f"the {name} breaker has no row", take=emptied("breaker", f"scope = '{scope}'"),
                said=f"the breaker {scope} is open (no_new): no breaker row for this scope",
            ) for name, scope in BREAKERS.items()
        ),
        Removal(what="no breaker has a row", take=emptied("breaker"), said="is open (no_new): no breaker row for this scope"),
        Removal(what="the portfolio has no row", take=emptied("portfolio"),
                said="BooksRefused: portfolio paper:main: found no row in the ledger, expected that of plan default"),
        Removal(what="the accounts are gone", take=emptied("account"), said="equity_known: observed unknown or zero",
                by_hand="equity_known: equity cannot be valued: observed 0"),
        Removal(what="the marks of equity are gone", take=emptied("equity"), said="daily_loss: observed missing, limit 0.05"),
        Removal(what="the head of the audit chain is gone", take=emptied("audit_head"),
                said='BooksRefused: the ledger refused a change (23502): null value in column "seq" of relation "audit"'),
        Removal(what="the table of legal transitions is empty", take=emptied("transition"),
                said='BooksRefused: the ledger refused a change (23503): insert or update on table "order_event"'),
        Removal(what="the transactions are gone", take=emptied("txn"),
                said="BooksRefused: the ledger refused a change (23505): duplicate key value"),
        *(
            Removal(what=f"the table `{table}` cannot be written", take=read_only(table),
                    said=f"NotAllowed: permission denied for table {table}") for table in (*STAGES, "audit_head")
        ),
        Removal(what="the table `breaker` cannot be written: its rows are not lockable", take=read_only("breaker"),
                said="NotAllowed: permission denied for table breaker"),
        *(
            Removal(what=f"the table `{table}` cannot be written", take=read_only(table), by_hand=None,
                    said=f"NotAllowed: permission denied for table {table}")
            for table in ("cycle", "verdict", "decision", "operation", "candle")
        ),
        Removal(what="the head of the audit chain is locked by somebody", take=locked("audit_head"),
                said="LedgerUnavailable: the ledger's database failed: canceling statement due to statement timeout"),
        Removal(what="a breaker's row is locked by somebody", take=locked("breaker"),
                said="LedgerUnavailable: the ledger's database failed: canceling statement due to statement timeout"),
        Removal(what="a later run took the portfolio over", take=overtaken, said="Fenced: fenced: this run holds epoch"),
        Removal(what="the whole database is read-only", take=NO_WRITES, reopens=True,
                said="LedgerUnavailable: cannot execute"),
        Removal(what="the disk under the ledger is full", take=NO_SPACE,
                said="LedgerUnavailable: the ledger's database failed: could not extend file: No space left on device"),
    ],
    "The rights of the roles": [
        *(
            Removal(what=f"`{role}` may not call `{name}`", take=revoked(role, f"execute on function keel.{name}"),
                    said=f"NotAllowed: permission denied for function {name}", by_hand=by_hand)
            for role, name, by_hand in (
                (Role.EXECUTE, "mark_sending", ""), (Role.DECIDE, "record", ""), (Role.DECIDE, "claim_slot", None),
                (Role.DECIDE, "portfolio_state", ""), (Role.DECIDE, "sent_lately", ""),
            )
        ),
        *(
            Removal(what=f"`{Role.DECIDE}` may not read `{table}`", take=revoked(Role.DECIDE, f"select on keel.{table}"),
                    said=f"NotAllowed: permission denied for table {table}") for table in ("breaker", "order_head", "intent")
        ),
        Removal(what=f"`{Role.EXECUTE}` may not use the schema", take=revoked(Role.EXECUTE, "usage on schema keel"),
                said="NotAllowed: permission denied for schema keel"),
    ],
    "The configuration": [
        Removal(what="`MAX_ORDER_SIZE_USD=nan`", take=set_outside(MAX_ORDER_SIZE_USD="nan"),
                said="MAX_ORDER_SIZE_USD: found 'nan', expected a finite number"),
        Removal(what="`MAX_DAILY_VOLUME_USD=-1`", take=set_outside(MAX_DAILY_VOLUME_USD="-1"),
                said="MAX_DAILY_VOLUME_USD: found '-1', expected greater than 0"),
        Removal(what="`MAX_OPEN_POSITIONS=many`", take=set_outside(MAX_OPEN_POSITIONS="many"),
                said="MAX_OPEN_POSITIONS: found 'many', expected a valid integer"),
        Removal(what="`MAX_DAILY_LOSS_USD=1e30`", take=set_outside(MAX_DAILY_LOSS_USD="1e30"),
                said="MAX_DAILY_LOSS_USD: found '1e30', expected less than or equal to 1000000000000"),
        Removal(what="`MAX_POSITION_SIZE=1.01`", take=set_outside(MAX_POSITION_SIZE="1.01"),
                said="MAX_POSITION_SIZE: found '1.01', expected less than or equal to 1"),
        Removal(what="`MAX_PORTFOLIO_VOLATILITY=0`", take=set_outside(MAX_PORTFOLIO_VOLATILITY="0"),
                said="MAX_PORTFOLIO_VOLATILITY: found 0, expected greater than 0"),
        Removal(what="a plan's file that is not there", take=lambda *_: load_plan("nowhere", {}), said="found no file"),
        Removal(what="a plan without products and strategy", take=in_file('name = "x"'),
                said="products: found nothing, expected a value"),
        Removal(what="a plan with a strategy that is not known",
                take=in_file('name = "x"\nproducts = ["BTC-USD"]\n[strategy]\nname = "hunch"'), said="hunch"),
        Removal(what="a plan with a key that is not known",
                take=in_file('name = "x"\nproducts = ["BTC-USD"]\n[strategy]\nname = "crossover"\n[breaker]\nmax_los = 1'),
                said="breaker.max_los: found an unknown key"),
        Removal(what="no limits at all, past the files", take=configured("limits"), said="plan default: limits: found None"),
        *(
            Removal(what=f"`{part}.{key}` is {shown}, past the files", take=configured(part, **{key: wrong}),
                    said=f"ConfigurationError: plan default: {part}.{key}: found ")
            for part, key, shown, wrong in (
                ("limits", "max_order_size_usd", "missing", None), ("limits", "max_daily_volume_usd", "no number", NAN),
                ("limits", "max_open_positions", "a word", "many"), ("limits", "max_daily_loss_usd", "missing", None),
                ("limits", "max_position_size", "negative", Decimal(-1)),
                ("limits", "max_portfolio_volatility", "no number", NAN),
                ("breaker", "max_daily_loss", "missing", None), ("breaker", "max_drawdown", "no number", NAN),
                ("breaker", "max_error_rate", "a word", "many"), ("breaker", "max_weekly_loss", "missing", None),
                ("breaker", "max_doubts", "huge", 10**30), ("controls", "max_spread", "missing", None),
                ("controls", "max_orders_per_day", "huge", 10**30), ("controls", "vwap_band", "negative", Decimal(-1)),
                ("costs", "taker_fee", "no number", NAN), ("costs", "slippage", "negative", Decimal(-2)),
                ("orders", "min_notional", "negative", Decimal(-1)), ("orders", "time_to_live_seconds", "a word", "many"),
                ("checks", "quote_age_seconds", "huge", 10**30), ("allocation", "cash_reserve", "missing", None),
            )
        ),
        Removal(what="a plan whose products are none, past the files", said="plan default: products: found",
                take=lambda desk, _: setattr(desk, "plan", desk.plan.model_copy(update={"products": ()}))),
    ],
    "Prices": [
        Removal(what="the quote is older than it may be", take=quoted("50000", "50000", -121),
                said="quote_stale: age of the quote in seconds: observed 121, limit 120"),
        Removal(what="the quote comes from the future", take=quoted("50000", "50000", 121),
                said="quote_stale: age of the quote in seconds: observed -121, limit 120"),
        Removal(what="the quote is crossed", take=quoted("50001", "50000"),
                said="price_known: no usable bid and ask: observed 50001/50000"),
        *(
            Removal(what=f"the quote is {shown}", take=quoted(*terms), said="BTC-USD: price_known: observed no quote",
                    by_hand=f"price_known: no usable bid and ask: observed {observed}")
            for shown, terms, observed in (
                ("zero", ("0", "0"), "0/0"), ("without a bid", ("0", "50000"), "0/50000"), ("negative", ("-1", "-1"), "-1/-1"),
                ("no number", (NAN, NAN), "none"),
            )
        ),
        Removal(what="the spread is wide", take=quoted("49000", "50000"),
                said="spread: bid-ask spread, of the mid: observed 0.0202"),
        Removal(what="the price is far from where it just was", take=quoted("63000", "63000"),
                said="price_out_of_range: mid against the recent range: observed 63000"),
        Removal(what="there is no quote", take=lambda desk, _: setattr(desk.source, "quotes", lambda *_: {}),
                said="BTC-USD: price_known: observed no quote", by_hand="price_known: no usable bid and ask: observed none"),
        Removal(what="the source of quotes does not answer",
                take=away("source", "quotes", MarketUnavailable("GET /product_book")),
                said="MarketUnavailable: GET /product_book"),
        Removal(what="the source of candles does not answer", take=away("source", "candles", MarketUnavailable("GET /candles")),
                said="MarketUnavailable: GET /candles"),
        Removal(what="the name of the market's host does not resolve", take=nowhere, said="Failed to resolve 'nowhere.invalid'"),
        Removal(what="no candle came", take=candles(lambda rows: rows.iloc[:0]),
                said="present: found 1, expected candles of every product"),
        Removal(what="a close is no number", take=candles(lambda rows: rows.assign(close=float("nan"))),
                said="not_null: 1 from 2026-11-24T12:00:00Z, found 1, expected a finite number in every column"),
        Removal(what="a close jumps a hundredfold",
                take=candles(lambda rows: rows.assign(close=rows.close * 100, high=rows.high * 100)),
                said="jump: 1 from 2026-11-24T12:00:00Z, found 124.246, expected a close within the allowed move"),
        Removal(what="a volume is negative", take=candles(lambda rows: rows.assign(volume=-1.0)),
                said="volume: 1 from 2026-11-24T12:00:00Z, found -1, expected a volume of 0 or more"),
        Removal(what="a high is below its low", take=candles(lambda rows: rows.assign(high=rows.low / 2)),
                said="ohlc: 1 from 2026-11-24T12:00:00Z, found 25012.5, expected low <= open, close <= high"),
        Removal(what="a second source is required, and there is none", take=lambda *_: None, plan=REQUIRED,
                said="second_source: mid against the second price source: observed no second source"),
        Removal(what="a second source is required, and does not answer", take=second_away, plan=REQUIRED,
                said="second_source: mid against the second price source: observed no second source"),
        Removal(what="the second source is stale", take=second("50000", "50000", -11),
                said="second_source: mid against the second price source: observed 11"),
        Removal(what="the second source is crossed", take=second("50001", "50000"),
                said="second_source: mid against the second price source: observed 50001/50000"),
        Removal(what="the second source is zero", take=second("0", "0"),
                said="second_source: mid against the second price source: observed 0/0"),
        Removal(what="the second source says another price", take=second("50500", "50500"),
                said="second_source: mid against the second price source: observed 0.0099"),
    ],
    "The venue and its rules": [
        Removal(what="the venue does not list the product", take=venue_with(products=lambda _: {}),
                said="BTC-USD: price_known: observed no product rules",
                by_hand="product_known: the venue's rules of the product are not known"),
        Removal(what="the venue takes no new orders in it (disabled, cancel only, view only, auction)",
                take=ruled(tradable=False), said="BTC-USD: product_tradable: observed not tradable",
                by_hand="product_tradable: the venue takes no new orders"),
        Removal(what="the venue's increment is zero", take=ruled(base_increment=Decimal(0)),
                said="BTC-USD: price_known: observed no product rules",
                by_hand="product_known: the venue's rules of the product are not known"),
        Removal(what="the venue's smallest notional is more than an order may be", take=ruled(min_notional=Decimal(10**6)),
                said="order_size_min: observed 100, limit 1000000", by_hand="venue_notional_min: the venue's smallest notional"),
        Removal(what="the venue's smallest quantity is more than an order may be",
                take=ruled(base_min_size=Decimal(10)), said="venue_size_min: observed 0.002, limit 10",
                by_hand="venue_size_min: the venue's smallest quantity"),
        Removal(what="the venue's largest quantity is zero", take=ruled(base_max_size=Decimal(0)),
                said="order_size_min: observed 0, limit 5", by_hand="venue_size_max: the venue's largest quantity"),
        Removal(what="the venue does not tell its products", take=away("exchange", "products", Unanswered("GET /products")),
                said="Unanswered: GET /products"),
        Removal(what="the venue does not tell the balances", take=away("exchange", "balances", Unanswered("GET /accounts")),
                said="Unanswered: GET /accounts"),
        Removal(what="the bytes change between approval and wire", take=venue_with(tampers=True),
                said="not sent: found a body of SHA-256", by_hand="asset_frozen: an open break freezes the asset: observed BTC"),
    ],
    "The account": [
        Removal(what="it is too small for an order", take=lambda *_: None, plan={"capital": "3"},
                said="order_size_min: observed 0.6, limit 5",
                by_hand="balance: cash for the order with slippage and fees: observed 50.6253, limit 3"),
        Removal(what="an order is in doubt", take=in_doubt, said="in_doubt: observed an order in doubt",
                by_hand="in_doubt: an order in the product is in doubt"),
        Removal(what="ledger and venue differ in an asset", take=frozen, said="asset_frozen: observed BTC, limit no open break",
                by_hand="asset_frozen: an open break freezes the asset: observed BTC"),
        Removal(what="the venue says that less is free than the ledger has", real=True, take=spent,
                said="balance: observed 100, limit 0",
                by_hand="balance: cash for the order with slippage and fees: observed 50.6253, limit 3"),
        Removal(what="the venue takes a higher fee than the plan reckons with", real=True,
                take=venue_with(fees=FeeTier(Decimal("0.02"), Decimal("0.02"))),
                said="fee: the venue's taker fee over the plan's: observed 1.66666667, limit 1.5"),
        Removal(what="the checks of live trading were not made", real=True, take=desk_with(ask_safety=Safety),
                said="the checks of live trading have not been made"),
        Removal(what="a person ended the arming after the checks", real=True, take=disarmed, said="not_armed",
                by_hand="abandoned not_armed"),
    ],
    "Clocks, machine and people": [
        Removal(what="our clock is behind the ledger's", take=desk_with(wall=lambda: datetime.now(UTC) - timedelta(minutes=2)),
                said="too_late"),
        Removal(what="the process slept between approval and send",
                take=desk_with(monotonic=itertools.count(0, 10).__next__),
                said="the send deadline passed before the first byte"),
        Removal(what="the slot is older than it may be", plan={"staleness_intervals": "0.001", "late_exit_intervals": "0.001"},
                take=lambda desk, _: later(desk, seconds=10), by_hand=None,
                said="skipped: stale: the candle closed 10 s ago, at most 4 s are allowed"),
        *(
            Removal(what=what, take=signs(**found), said=f"is open (no_new): {next(iter(found))}: observed {observed}")
            for what, found, observed in (
                ("this machine's clock is off the ledger's", {"clock_offset_seconds": Decimal("1.1")}, "1.1, limit 1"),
                ("this machine's clock was set back", {"clock_step_seconds": Decimal("1.1")}, "1.1, limit 1"),
                ("this machine's clock is off the venue's", {"venue_clock_seconds": Decimal("10.1")}, "10.1, limit 10"),
                ("the disk of the state folder is nearly full", {"disk_used": Decimal("0.91")}, "0.91, limit 0.9"),
                ("nobody knows how full the disk is", {"disk_used": None}, "missing, limit 0.9"),
            )
        ),
        Removal(what="two versions of the code are at work", take=signs(code_versions=Decimal(2)),
                said="is open (cancel): code_versions: observed 2, limit 1"),
        Removal(what="the keys' rights are not those that were armed", take=signs(permission_drift=Decimal(1)),
                said="the breaker venue:quick is open (cancel): permission_drift: observed 1, limit 0"),
        *(
            Removal(what=f"a person opened the global breaker at `{level}`", take=tripped("global", level),
                    said=f"the breaker global is open ({level}): a drill") for level in Level
        ),
        Removal(what="a person opened the product's breaker", take=tripped("product:paper:main:BTC-USD", Level.REDUCE_ONLY),
                said="the breaker product:paper:main:BTC-USD is open (reduce_only): a drill"),
        Removal(what="the halt file is there", take=desk_with(halted=lambda: "halted by /keel/HALT: a drill"),
                said="halted by /keel/HALT: a drill"),
        Removal(what="the strategy has no opinion", take=opinion(float("nan")), said="no opinion", by_hand=None),
        Removal(what="the strategy's signal is infinite", take=opinion(float("inf")), by_hand=None,
                said="strategy: found signal inf for BTC-USD, expected -1 ... 1"),
        Removal(what="the strategy's signal is out of its bounds", take=opinion(1.01), by_hand=None,
                said="strategy: found signal 1.01 for BTC-USD, expected -1 ... 1"),
    ],
}  # fmt: skip
ROWS = [removal for removals in CENSUS.values() for removal in removals]
