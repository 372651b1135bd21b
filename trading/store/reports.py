"""Reads of the ledger for people and programs: the one query module of reports and of the command line.

Nothing here decides anything; what decisions are made on is read by `trading.store.books`. Every read is narrowed by a
`Scope` and returns the frozen rows of `trading.store.rows`, newest last unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar, cast

from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from trading.errors import ConfigurationError, LedgerUnavailable
from trading.ledger import OUTSIDE
from trading.market import interval_seconds
from trading.money import ZERO, dec, utc
from trading.orders import LIVE_STATES
from trading.store.database import Connection
from trading.store.rows import (
    AuditRow,
    BreakerEventRow,
    BreakerStateRow,
    BreakRow,
    CycleRow,
    EquityPoint,
    EquityRow,
    FillRow,
    HeartbeatRow,
    OrderRow,
    PnlRow,
    PositionRow,
    TradeRow,
    VerdictRow,
)

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which books are meant; None is all of them. `portfolio` is the bare name, `main`."""

    mode: str | None = None
    portfolio: str | None = None
    plan: str | None = None

    def where(self, alias: str = "x") -> str:
        """A condition over the columns `book` and `plan` of a table or view."""
        if self.mode and self.portfolio:
            parts = [f"{alias}.book = :book"]  # by an index
        else:
            split = f"split_part({alias}.book, ':', %d) = :%s"
            parts = [split % (1, "mode")] if self.mode else []
            parts += [split % (2, "portfolio")] if self.portfolio else []
        parts += [f"{alias}.plan = :plan"] if self.plan else []
        return " and ".join(parts) or "true"

    @property
    def values(self) -> dict[str, str]:
        named = {name: value for name, value in asdict(self).items() if value is not None}
        return named | ({"book": f"{self.mode}:{self.portfolio}"} if self.mode and self.portfolio else {})


_FILL = ", ".join(FillRow.__dataclass_fields__)


def _newest_last(query: str, columns: Sequence[str], newest: int | None) -> str:
    """The query's rows by these columns, ascending: all of them, or the last `:newest`."""
    ascending = ", ".join(columns)
    if newest is None:
        return f"{query} order by {ascending}"
    descending = ", ".join(f"{column} desc" for column in columns)
    return f"select * from ({query} order by {descending} limit :newest) x order by {ascending}"  # noqa: S608 - parts of this file


_CLOSES = """
  select distinct on (s.source, s.product, s.interval) s.source, s.product, s.interval, c.start, c.close
  from keel.series s join keel.candle c on c.series = s.id where s.product = any(:products)
  order by s.source, s.product, s.interval, c.start desc
"""


class Reports:
    """The readings of one ledger."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def mappings(self, query: str, **values: object) -> Sequence[Mapping[str, Any]]:
        """The rows of a query by column. Raises LedgerUnavailable."""
        try:
            with self.engine.connect() as connection:
                return [dict(row) for row in connection.execute(text(query), values).mappings()]
        except OperationalError as error:
            raise LedgerUnavailable(f"the ledger's database failed: {error.orig}") from error

    @contextmanager
    def driver(self) -> Iterator[Connection]:
        """A connection for the readings that decisions are made on, under the same rights: nothing can be changed by it."""
        try:
            with self.engine.connect() as connection:
                yield cast("Connection", connection.connection.driver_connection)
        except OperationalError as error:
            raise LedgerUnavailable(f"the ledger's database failed: {error.orig}") from error

    def _rows(self, kind: type[_Row], query: str, **values: object) -> list[_Row]:
        return [kind(**row) for row in self.mappings(query, **values)]

    # ------------------------------------------------------------------------------------------------ the books

    def orders(
        self, scope: Scope, states: Iterable[str] = (), since: datetime | None = None, newest: int | None = None
    ) -> list[OrderRow]:
        """The orders of the scope by the time they were staged, or the `newest` of them; `since` is market time."""
        narrowed = "and x.state = any(:states)" if (wanted := list(states)) else ""
        narrowed += " and x.decided_at >= :since" if since else ""
        query = f"select * from keel.orders x where {scope.where()} {narrowed}"  # noqa: S608 - parts of this file
        ordered = _newest_last(query, ("created_at", "product", "leg"), newest)
        return self._rows(OrderRow, ordered, states=wanted, since=since, newest=newest, **scope.values)

    def order(self, name: str) -> OrderRow:
        """The order with this client or exchange id, or the only one whose client id begins so.

        Raises ConfigurationError when there is none, or more than one.
        """
        found = self._rows(
            OrderRow,
            """select * from keel.orders where exchange_order_id = :name or client_order_id::text like :start || '%'
               order by created_at limit 3""".replace("::text", r"\:\:text"),
            name=name,
            start=name.lower().replace("%", "").replace("_", "") or "-",
        )
        exact = [row for row in found if name in (str(row.client_order_id), row.exchange_order_id)]
        matching = exact or found
        if len(matching) != 1:
            seen = "none" if not matching else "several"
            raise ConfigurationError(f"order {name}: found {seen}, expected the id of one order (`keel orders` lists them)")
        return matching[0]

    def fills(self, scope: Scope, since: datetime | None = None, newest: int | None = None) -> list[FillRow]:
        """Every execution by the time it traded (market time), or the `newest` of them."""
        query = f"""select {_FILL} from keel.fills x where {scope.where()} {"and traded_at >= :since" if since else ""}"""  # noqa: S608 - parts of this file
        ordered = _newest_last(query, ("traded_at", "seen_at", "entry_id"), newest)
        return self._rows(FillRow, ordered, since=since, newest=newest, **scope.values)

    def positions(self, scope: Scope) -> list[PositionRow]:
        """Holdings by plan and product, at the newest stored close of the portfolio's own market source."""
        held = self.mappings(
            f"""select x.book, x.plan, x.product, x.quantity, x.cost, p.source
                from keel.positions x join keel.portfolio p on p.book = x.book
                where {scope.where()} order by x.book, x.plan, x.product""",  # noqa: S608 - parts of this file
            **scope.values,
        )
        marks = self.marks({row["product"] for row in held})
        rows = []
        for row in held:
            price, at = marks.get((row["source"], row["product"]), (None, None))
            named = {name: row[name] for name in ("book", "plan", "product", "quantity", "cost")}
            rows.append(PositionRow(**named, price=price, priced_at=at))
        return rows

    def marks(self, products: Iterable[str]) -> dict[tuple[str, str], tuple[Decimal, datetime]]:
        """(source, product) -> close of the newest stored candle of any interval, and when that candle closed."""
        found: dict[tuple[str, str], tuple[Decimal, datetime]] = {}
        for row in self.mappings(_CLOSES, products=sorted(products)):
            key, at = (row["source"], row["product"]), utc(row["start"] + interval_seconds(row["interval"]))
            if key not in found or at > found[key][1]:
                found[key] = dec(row["close"]), at
        return found

    def results(self, scope: Scope) -> dict[str, tuple[Decimal, Decimal]]:
        """Product -> (realised result before fees, fees) since the opening, each in the product's quote asset."""
        query = f"""select product, coalesce(-sum(posted) filter (where kind = 'income'), 0) as realised,
                      coalesce(sum(posted) filter (where kind = 'fees'), 0) as fees
                    from keel.account x where kind in ('income', 'fees') and asset = split_part(product, '-', 2)
                      and {scope.where()} group by 1 order by 1"""  # noqa: S608 - parts of this file
        return {row["product"]: (row["realised"], row["fees"]) for row in self.mappings(query, **scope.values)}

    def stops(self, scope: Scope) -> dict[str, Decimal]:
        """Product -> stop price of the order that protects it and may still trade; the highest where there are several."""
        query = f"""select x.product, max(x.stop_price) as stop from keel.intent x join keel.order_head h using (client_order_id)
                    where x.stop_price is not null and h.state = any(:live) and {scope.where()} group by 1"""  # noqa: S608 - parts of this file
        live = [str(state) for state in LIVE_STATES]
        return {row["product"]: row["stop"] for row in self.mappings(query, live=live, **scope.values)}

    def pnl(self, scope: Scope, since: date | None = None) -> list[PnlRow]:
        """Realised results and fees by day and product: the postings to the income and fee accounts."""
        query = f"""
          select (t.effective_at at time zone 'UTC')::date as day, x.book, x.plan, x.product, x.asset,
                 coalesce(-sum(p.amount) filter (where x.kind = 'income'), 0) as realised,
                 coalesce(sum(p.amount) filter (where x.kind = 'fees'), 0) as fees
          from keel.posting p join keel.account x on x.id = p.account_id join keel.txn t on t.id = p.txn_id
          where x.kind in ('income', 'fees') and {scope.where()} {"and t.effective_at >= :since" if since else ""}
          group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5""".replace("::date", r"\:\:date")  # noqa: S608 - parts of this file
        return self._rows(PnlRow, query, since=since, **scope.values)

    def equity(self, scope: Scope, positions: Sequence[PositionRow] | None = None) -> list[EquityRow]:
        """Each plan's cash, results and worth now. Holdings are valued as in `positions`, or are those given."""
        accounts = self.mappings(
            f"""select x.book, x.plan, f.cash_asset as asset, f.source,
                  coalesce(-sum(posted) filter (where x.kind = 'equity'), 0) as capital,
                  coalesce(sum(posted) filter (where x.kind = 'venue'), 0) as cash,
                  coalesce(-sum(posted) filter (where x.kind = 'income'), 0) as realised,
                  coalesce(sum(posted) filter (where x.kind = 'fees'), 0) as fees
                from keel.account x join keel.portfolio f on f.book = x.book and f.cash_asset = x.asset
                where {scope.where()} group by 1, 2, 3, 4 order by 1, 2""",  # noqa: S608 - parts of this file
            **scope.values,
        )
        positions = self.positions(scope) if positions is None else positions
        rows = []
        for row in accounts:
            held = [held for held in positions if (held.book, held.plan) == (row["book"], row["plan"])]
            unrealised = _total(position.unrealised for position in held)
            value = _total(position.value for position in held)
            equity = None if value is None else row["cash"] + value
            rows.append(EquityRow(**row, equity=equity, unrealised=unrealised))
        return rows

    def equity_curve(self, scope: Scope, since: datetime | None = None) -> list[EquityPoint]:
        """Every stored mark, by market time."""
        query = f"""select book, plan, at, equity, cash, unrealised, realised, fees from keel.equity x
                    where {scope.where()} {"and at >= :since" if since else ""} order by at, book, plan"""  # noqa: S608 - parts of this file
        return self._rows(EquityPoint, query, since=since, **scope.values)

    def closed_trades(self, scope: Scope, since: datetime | None = None) -> list[TradeRow]:
        """Every sale with its cost; in-kind fees (quantity given up without proceeds) are no trades."""
        query = f"""select x.*, coalesce(f.fee, 0) as fees from keel.closed_trades x
                    left join keel.fill f on f.book = x.book and f.entry_id = x.source_id
                      and f.fee_asset = split_part(x.product, '-', 2)
                    where {scope.where()} {"and at >= :since" if since else ""}
                    order by at, x.product"""  # noqa: S608 - parts of this file
        names = TradeRow.__dataclass_fields__
        found = self.mappings(query, since=since, **scope.values)
        return [TradeRow(**{name: row[name] for name in names}) for row in found]

    def outcomes(self, scope: Scope, since: datetime | None = None) -> dict[str, int]:
        """State -> how many orders stand there."""
        query = f"""select state, count(*) as orders from keel.orders x
                    where {scope.where()} {"and decided_at >= :since" if since else ""} group by 1 order by 1"""  # noqa: S608 - parts of this file
        return {row["state"]: row["orders"] for row in self.mappings(query, since=since, **scope.values)}

    # -------------------------------------------------------------------------------------- control and history

    def breakers(self) -> list[BreakerStateRow]:
        """Every breaker as it stands, by scope."""
        query = (
            "select scope, state, level, generation, reason, updated_at as at, resumable_at, test_until, opened_by, resumed_by"
        )
        return self._rows(BreakerStateRow, f"{query} from keel.breaker order by scope")

    def breaker_events(self, scopes: Iterable[str] | None = None, since: datetime | None = None) -> list[BreakerEventRow]:
        """Moves of the breakers by market time; the rows that a plan opened with are its first."""
        wanted = None if scopes is None else list(scopes)
        query = f"""select scope, generation, from_state, to_state, level, reason, actor, violations, at from keel.breaker_event
                    where true {"" if wanted is None else "and scope = any(:scopes)"} {"and at >= :since" if since else ""}
                    order by at, scope, generation"""  # noqa: S608 - parts of this file
        return self._rows(BreakerEventRow, query, scopes=wanted, since=since)

    def breaks(self, scope: Scope, *, open_only: bool = False) -> list[BreakRow]:
        """Differences by the time they were found. Breaks belong to a portfolio: the plan of the scope is not asked."""
        by_book = Scope(mode=scope.mode, portfolio=scope.portfolio)
        query = f"""select id, book, class as class_, severity, subject, asset, ours, theirs, opened_at, resolved_at, resolution,
                      resolved_by from keel.recon_break x
                    where {by_book.where()} {"and resolved_at is null" if open_only else ""} order by opened_at, id"""  # noqa: S608 - parts of this file
        return self._rows(BreakRow, query, **by_book.values)

    def cycles(self, scope: Scope, newest: int = 10) -> list[CycleRow]:
        """The newest slots, newest first."""
        query = f"""select book, plan, slot_at, epoch, state, reason, market_at, plan_sha, candles_sha, flow_run_id, started_at,
                      finished_at, summary from keel.cycle x where {scope.where()} order by started_at desc limit :newest"""  # noqa: S608 - parts of this file
        return self._rows(CycleRow, query, newest=newest, **scope.values)

    def reconciliation(self, scope: Scope) -> list[dict[str, Any]]:
        """The newest reconciliation of each portfolio."""
        by_book = Scope(mode=scope.mode, portfolio=scope.portfolio)
        query = f"""select distinct on (x.book) x.book, x.at, x.clean, x.body from keel.reconciliation x
                    where {by_book.where()} order by x.book, x.at desc"""  # noqa: S608 - parts of this file
        return [dict(row) for row in self.mappings(query, **by_book.values)]

    def heartbeats(self) -> list[HeartbeatRow]:
        """What each process last said of itself, by its name."""
        query = "select process, at, version, configuration, stopped from keel.heartbeat order by process"
        return self._rows(HeartbeatRow, query)

    def verdicts(self, scope: Scope, newest: int = 20) -> list[VerdictRow]:
        """The newest verdicts of the data gate, newest first."""
        query = f"""select book, plan, slot_at, at, passed, body from keel.verdict x
                    where {scope.where()} order by at desc limit :newest"""  # noqa: S608 - parts of this file
        return self._rows(VerdictRow, query, newest=newest, **scope.values)

    def plans(self) -> list[tuple[str, str]]:
        """(book, plan) of every plan that has books, by book; the share that is no plan's is the last of each."""
        found = self.mappings("select distinct book, plan from keel.account where kind = 'equity' and plan <> ''")
        shares = [(row["book"], row["plan"]) for row in found]
        return sorted(shares, key=lambda share: (share[0], share[1] == OUTSIDE, share[1]))

    def plan_body(self, book: str, plan: str) -> str | None:
        """The plan as canonical JSON, as it was when it last claimed a slot; None when it never did."""
        found = self.mappings(
            """select v.body from keel.cycle c join keel.config_version v on v.sha256 = c.plan_sha
               where c.book = :book and c.plan = :plan order by c.slot_at desc limit 1""",
            book=book, plan=plan,
        )  # fmt: skip
        return str(found[0]["body"]) if found else None

    def anchored_at(self) -> datetime | None:
        """When the newest anchor on record was signed (wall time); None before the first. `keel verify` proves them."""
        found: datetime | None = self.mappings("select max(anchored) as at from keel.anchor")[0]["at"]
        return found

    # --------------------------------------------------------------------------------------------- why an order

    def explain(self, order: OrderRow) -> dict[str, Any]:
        """Everything on record about one order: from the candles that were seen to the postings that it made."""
        key = {"id": order.client_order_id}
        slot = {"book": order.book, "plan": order.plan, "slot": order.slot}
        intent = self.mappings("select * from keel.intent where client_order_id = :id", **key)[0]
        evaluation = self.mappings(
            """select at, approved, body from keel.evaluation
               where (book, plan, slot, product, leg) = (:book, :plan, :slot, :product, :leg)""",
            **slot, product=order.product, leg=order.leg,
        )  # fmt: skip
        cycle = self.mappings(
            """select slot_at, state, market_at, plan_sha, candles_sha, flow_run_id, started_at, finished_at, summary
               from keel.cycle where book = :book and plan = :plan
                 and :slot = plan || '@' || to_char(slot_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS"Z"')""",
            **slot,
        )
        events = self.mappings("select * from keel.order_event where client_order_id = :id order by seq", **key)
        return {
            "order": order,
            "terms": {name: intent[name] for name in _TERMS},
            "cycle": _cycle_view(cycle[0], order.product) if cycle else None,
            "evaluation": dict(evaluation[0]) if evaluation else None,
            "events": [{name: value for name, value in event.items() if name != "client_order_id"} for event in events],
            "breaker": self._breakers_of(events),
            "fills": self._fills_of(order),
            "postings": self._postings_of(order),
            "audit": self._audit_of(order),
        }

    def _breakers_of(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The breaker rows that each send was share-locked against, as they stood at that generation."""
        locked = {pair for event in events if event["generations"] for pair in event["generations"].split(" ")}
        pairs = [pair.rpartition("=") for pair in sorted(locked)]
        query = """select scope, generation, to_state as state, level, reason, at from keel.breaker_event
                   where (scope, generation) in (select * from unnest(cast(:scopes as text[]), cast(:generations as int8[])))
                   order by scope"""
        scopes, generations = [scope for scope, _, _ in pairs], [int(generation) for _, _, generation in pairs]
        return [dict(row) for row in self.mappings(query, scopes=scopes, generations=generations)]

    def _fills_of(self, order: OrderRow) -> list[FillRow]:
        query = f"select {_FILL} from keel.fills x where client_order_id = :id order by traded_at, seen_at"  # noqa: S608 - parts of this file
        return self._rows(FillRow, query, id=order.client_order_id)

    def _postings_of(self, order: OrderRow) -> list[dict[str, Any]]:
        query = """select t.source_id as entry_id, t.kind, t.effective_at, t.posted_at, a.name as account, p.amount, p.asset
                   from keel.fill f join keel.txn t on (t.book, t.source_type, t.source_id) = (f.book, 'fill', f.entry_id)
                     join keel.posting p on p.txn_id = t.id join keel.account a on a.id = p.account_id
                   where f.client_order_id = :id order by t.posted_at, t.id, p.line"""
        return [dict(row) for row in self.mappings(query, id=order.client_order_id)]

    def _audit_of(self, order: OrderRow) -> list[AuditRow]:
        """The rows of the chain whose payload names the order. The chain is searched from the staging on."""
        since = (order.created_at - timedelta(minutes=1)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        query = """select seq, at, actor, kind, flow_run_id, task_run_id from keel.audit
                   where at >= :since and strpos(payload, :id) > 0 order by seq"""
        return self._rows(AuditRow, query, since=since, id=str(order.client_order_id))


_TERMS = ("type", "time_in_force", "limit_price", "stop_price", "post_only", "expires_at", "protective", "reason", "body",
          "body_sha256", "decision_price", "decided_at", "send_before", "plan_sha")  # fmt: skip


def _cycle_view(cycle: Mapping[str, Any], product: str) -> dict[str, Any]:
    """The slot of an order, with what it saw of the order's product."""
    summary = cycle["summary"] or {}
    seen = next((row for row in summary.get("prices", ()) if row["product"] == product), None)
    rest = {name: value for name, value in cycle.items() if name != "summary"}
    return rest | {"source": summary.get("source"), "seen": seen, "notes": summary.get("notes", [])}


def _total(values: Iterable[Decimal | None]) -> Decimal | None:
    """The sum, or None as soon as one is unknown."""
    total = ZERO
    for value in values:
        if value is None:
            return None
        total += value
    return total
