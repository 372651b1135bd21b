"""Reads of the ledger that decisions and recovery are made on. Reports read through `trading.store.reports`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from trading.amend import Posted, affected
from trading.ledger import Account, Booking, Posting, Transaction
from trading.lots import Lot, LotMethod, Lots, Match, lots_by
from trading.money import ZERO, parse_stamp
from trading.movements import Movement
from trading.orders import Fill, Order, Side
from trading.portfolio import Holdings, Portfolio
from trading.risk.breaker import BreakerRow
from trading.store import decoding
from trading.store.database import Connection, translated

_ORDER = """
  select i.*, p.mode, p.name as portfolio, h.state, h.seq, h.exchange_order_id, h.filled, h.reason as head_reason, h.updated_at
  from keel.order_head h join keel.intent i using (client_order_id) join keel.portfolio p on p.book = h.book
"""


class Books:
    """The ledger of one database, read over one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with translated(), self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values).fetchall()

    def _one(self, query: str, *values: object) -> Any:
        with translated():
            row = self.connection.execute(query, values).fetchone()
        return None if row is None else row[0]

    def _first(self, query: str, values: Mapping[str, object]) -> Sequence[Any]:
        with translated():
            row = self.connection.execute(query, values).fetchone()
        assert row is not None  # a select of functions has one row
        return row

    # ---- portfolios

    def source(self, book: str) -> str | None:
        """The market source that the portfolio was created with; None when there is no such portfolio."""
        found = self._one("select source from keel.portfolio where book = %s", book)
        return None if found is None else str(found)

    def opened_at(self, book: str) -> datetime | None:
        """Market time at which the account at a real venue was taken stock of; None on paper."""
        query = "select effective_at from keel.txn where (kind, source_type, source_id) = ('stock', 'portfolio', %s)"
        found = self._one(query, book)
        return found if isinstance(found, datetime) else None

    def has_plan(self, book: str, plan: str) -> bool:
        """True once the plan's opening capital is booked."""
        query = "select exists (select from keel.txn where (kind, source_type, source_id) = ('opening', 'plan', %s))"
        return bool(self._one(query, f"{book}:{plan}"))

    def has_configuration(self, sha256: str) -> bool:
        return bool(self._one("select exists (select from keel.config_version where sha256 = %s)", sha256))

    def plans(self, book: str) -> list[str]:
        return [row["plan"] for row in self._rows("select distinct plan from keel.account where book = %s order by 1", book)]

    def portfolio(self, book: str, plan: str, cash_asset: str, day_start: datetime, now: datetime | None = None) -> Portfolio:
        """The plan's share of the books now, in one round trip.

        `day_start` is the market's midnight (UTC), `now` the market time that hours and minutes are counted back from; without
        one, what was sent since that midnight is counted.
        """
        state, lately = self._first(
            "select keel.portfolio_state(%(book)s, %(plan)s, %(day)s), keel.sent_lately(%(book)s, %(plan)s, %(day)s, %(now)s)",
            {"book": book, "plan": plan, "day": day_start, "now": now or day_start},
        )
        holdings = decoding.holdings(book, plan, cash_asset, state["accounts"], state["positions"])
        cash = next((row for row in state["accounts"] if row[:2] == ["venue", cash_asset]), None)
        working: dict[str, Decimal] = {}
        for product, side, notional in state["live"]:
            if side == Side.BUY:
                working[product] = working.get(product, ZERO) + Decimal(notional)
        return Portfolio(
            **{field.name: getattr(holdings, field.name) for field in fields(Holdings)},
            cash_held=ZERO if cash is None else Decimal(cash[4]),
            cash_missing=Decimal(state["missing"]),
            working=working,
            doubts=frozenset(state["doubts"]),
            doubtful_orders=len(state["doubts"]),
            frozen=frozenset(state["frozen"]),
            peak_equity=Decimal(state["peak"] or 0),
            day_start_equity=None if state["day_start"] is None else Decimal(state["day_start"]),
            day_volume=Decimal(state["day_volume"]),
            hour_volume=Decimal(lately["hour_volume"]),
            minute_orders=lately["minute"],
            recent=decoding.recent(lately),
        )

    def holdings(self, book: str, plan: str, cash_asset: str) -> Holdings:
        """The plan's cash and positions now, in one round trip."""
        accounts, positions = self._first(
            """select
                 (select coalesce(jsonb_agg(jsonb_build_array(kind, asset, product, posted::text, held::text)), '[]')
                  from keel.account where book = %(book)s and plan = %(plan)s),
                 (select coalesce(jsonb_agg(jsonb_build_array(product, quantity::text, cost::text)), '[]')
                  from keel.positions where book = %(book)s and plan = %(plan)s)""",
            {"book": book, "plan": plan},
        )
        return decoding.holdings(book, plan, cash_asset, accounts, positions)

    def settling(
        self,
        book: str,
        method: LotMethod,
        products: Collection[tuple[str, str]],
        ids: Sequence[UUID] = (),
        entries: Sequence[str] = (),
    ) -> tuple[dict[tuple[str, str], Lots], dict[UUID, Decimal], set[str]]:
        """What outcomes are booked on, in one round trip: open lots of each (plan, product) by the method; what each order
        reserves; and which of the venue's entries are booked already.
        """
        rows = self._rows(
            """select plan, product, id, left_quantity as amount, left_cost as cost, acquired_at, null as entry from keel.lot
               where book = %s and (plan, product) in (select * from unnest(%s::text[], %s::text[])) and left_quantity > 0
               union all
               select null, null, client_order_id, amount, null, null, null from keel.hold where client_order_id = any(%s)
               union all
               select null, null, null, null, null, null, entry_id from keel.fill where book = %s and entry_id = any(%s)
               order by acquired_at, id""",
            book, [plan for plan, _ in products], [product for _, product in products], list(ids), book, list(entries),
        )  # fmt: skip
        lots: dict[tuple[str, str], list[Lot]] = {key: [] for key in products}
        holds: dict[UUID, Decimal] = {}
        for row in rows:
            if row["plan"] is not None:
                lots[row["plan"], row["product"]].append(Lot(row["id"], row["amount"], row["cost"], row["acquired_at"]))
            elif row["id"] is not None:
                holds[row["id"]] = row["amount"]
        return {key: lots_by(method, found) for key, found in lots.items()}, holds, {row["entry"] for row in rows if row["entry"]}

    def lot_method(self, book: str) -> LotMethod | None:
        """The method that the portfolio was created with; None when there is no such portfolio."""
        found = self._one("select lot_method from keel.portfolio where book = %s", book)
        return None if found is None else LotMethod(found)

    def bookings_since(self, book: str, plan: str, entry_id: str, corrected: Fill | None = None) -> list[Posted]:
        """The standing bookings of the plan's fill and of those later ones that it has an effect on (`affected`), in the order
        in which they were posted.
        """
        rows = self._rows(
            """select t.id as txn_id, t.kind as txn_kind, t.source_type, t.source_id, t.effective_at, f.*
               from keel.txn t join keel.fill f on (f.book, f.entry_id) = (t.book, t.source_id)
               where t.book = %s and t.source_type = 'fill' and t.reverses is null
                 and not exists (select from keel.txn r where r.reverses = t.id)
                 and exists (select from keel.posting p join keel.account a on a.id = p.account_id
                             where p.txn_id = t.id and a.plan = %s)
                 and t.seq >= (select max(o.seq) from keel.txn o
                               where (o.book, o.source_type, o.source_id) = (t.book, 'fill', %s))
               order by t.seq""",
            book, plan, entry_id,
        )  # fmt: skip
        again = {fill.entry_id for fill in affected((decoding.fill(row) for row in rows), corrected)}
        return [self._posted(row) for row in rows if row["source_id"] in again]

    def _posted(self, row: dict[str, Any]) -> Posted:
        key = row["txn_id"]
        postings = tuple(
            Posting(Account(line["book"], line["plan"], line["kind"], line["asset"], line["product"]), line["amount"])
            for line in self._rows(
                """select a.book, a.plan, a.kind, a.asset, a.product, p.amount from keel.posting p
                   join keel.account a on a.id = p.account_id where p.txn_id = %s order by p.line""",
                key,
            )
        )
        opened = tuple(decoding.lot(lot) for lot in self._rows("select * from keel.lot where txn_id = %s", key))
        matches = self._rows("select * from keel.lot_match where txn_id = %s order by line", key)
        taken = self._rows("select * from keel.lot where id = any(%s)", [match["lot_id"] for match in matches])
        booking = Booking(
            Transaction(row["txn_kind"], row["source_type"], row["source_id"], row["effective_at"], postings),
            opened,
            tuple(Match(match["lot_id"], match["quantity"], match["cost"], match["proceeds"]) for match in matches),
        )
        paid_from = frozenset(lot["id"] for lot in taken if lot["product"] != row["product"])
        return Posted(booking, decoding.fill(row), tuple(decoding.lot(lot) for lot in taken), paid_from)

    def venue_balances(self, book: str) -> dict[str, Decimal]:
        """Asset -> what the ledger says the venue holds for the portfolio, all plans together."""
        query = "select asset, sum(posted) as posted from keel.account where book = %s and kind = 'venue' group by asset"
        return {row["asset"]: row["posted"] for row in self._rows(query, book)}

    def foreign_orders(self, book: str, exchange_order_ids: Sequence[str]) -> dict[str, Decimal]:
        """Those of the venue's orders that are known not to be ours -> filled when last seen."""
        if not exchange_order_ids:
            return {}
        query = """select exchange_order_id, filled from keel.venue_order
                   where book = %s and exchange_order_id = any(%s) and not ours"""
        return {row["exchange_order_id"]: row["filled"] for row in self._rows(query, book, list(exchange_order_ids))}

    def forgotten(self, book: str, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the ids that the venue has an order under which is not known as ours: decisions of a lost past."""
        query = "select client_order_id from keel.venue_order where book = %s and client_order_id = any(%s) and not ours"
        return {UUID(row["client_order_id"]) for row in self._rows(query, book, [str(id_) for id_ in ids])}

    def unknown_movements(self, book: str, movements: Sequence[Movement]) -> list[Movement]:
        """Those of the movements that are not in the books yet, in the order given."""
        if not movements:
            return []
        entries = [movement.entry_id for movement in movements]
        rows = self._rows("select entry_id from keel.movement where book = %s and entry_id = any(%s)", book, entries)
        known = {row["entry_id"] for row in rows}
        return [movement for movement in movements if movement.entry_id not in known]

    def announcements(self, book: str) -> list[dict[str, Any]]:
        """What a person announced and the venue has not told of yet, oldest first."""
        query = """select a.* from keel.announcement a where a.book = %s
                     and not exists (select from keel.movement m where m.announcement = a.id) order by a.at"""
        return self._rows(query, book)

    # ---- orders

    def live_orders(self, book: str) -> list[Order]:
        """Every order that may still trade, of all plans of the portfolio, oldest first."""
        states = "('staged', 'sending', 'in_doubt', 'open', 'cancelling')"
        query = f"{_ORDER} where h.book = %s and h.state in {states} order by i.created_at, i.leg"
        return [decoding.order(row) for row in self._rows(query, book)]

    def orders(self, ids: Iterable[UUID]) -> dict[UUID, Order]:
        """The orders with these client ids, as they stand; unknown ids are missing."""
        rows = self._rows(f"{_ORDER} where h.client_order_id = any(%s)", list(ids))
        return {row["client_order_id"]: decoding.order(row) for row in rows}

    def orders_told(self, book: str, ids: Sequence[UUID], exchange_order_ids: Sequence[str]) -> list[Order]:
        """The portfolio's orders with these client ids or these ids of the venue, oldest first."""
        if not ids and not exchange_order_ids:
            return []
        where = "h.book = %s and (h.client_order_id = any(%s) or h.exchange_order_id = any(%s))"
        rows = self._rows(f"{_ORDER} where {where} order by i.created_at, i.leg", book, list(ids), list(exchange_order_ids))
        return [decoding.order(row) for row in rows]

    def doubt(self, order_id: UUID) -> tuple[datetime, int]:
        """When the order's present doubt began (wall time), and how many complete scans have not found it since."""
        query = """with begun as (select max(seq) as seq from keel.order_event where client_order_id = %(id)s and event = 'doubt')
                   select min(e.at), count(*) filter (where e.event = 'not_listed')
                   from keel.order_event e, begun where e.client_order_id = %(id)s and e.seq >= begun.seq"""
        with translated():
            row = self.connection.execute(query, {"id": order_id}).fetchone()
        assert row is not None
        return row[0], int(str(row[1]))  # type: ignore[return-value]  # an order in doubt has such an event

    def standing_fills(self, book: str, exchange_order_id: str) -> list[Fill]:
        """The booked fills of an order of the venue that no adjustment has taken the place of, oldest first."""
        query = "select * from keel.standing_fill where book = %s and exchange_order_id = %s order by traded_at, entry_id"
        return [decoding.fill(row) for row in self._rows(query, book, exchange_order_id)]

    def suspense(self, book: str, asset: str) -> list[tuple[str, Decimal]]:
        """(plan, amount) of the asset that lies in suspense."""
        query = "select plan, posted from keel.account where book = %s and kind = 'suspense' and asset = %s and posted <> 0"
        return [(row["plan"], row["posted"]) for row in self._rows(query, book, asset)]

    def free_cash(self, book: str, asset: str) -> dict[str, Decimal]:
        """Plan -> what it has of the asset at the venue, less its holds."""
        query = "select plan, posted - held as free from keel.account where book = %s and kind = 'venue' and asset = %s"
        return {row["plan"]: row["free"] for row in self._rows(query, book, asset)}

    def held(self, book: str, asset: str) -> Decimal:
        """What live orders of all plans reserve of the asset at the venue."""
        found = self._one("select sum(held) from keel.account where book = %s and kind = 'venue' and asset = %s", book, asset)
        return ZERO if found is None else Decimal(found)

    def standing_fill(self, book: str, exchange_order_id: str, trade_id: str) -> Fill | None:
        """The booked fill of a trade that no adjustment has taken the place of."""
        query = """select * from keel.standing_fill where book = %s and exchange_order_id = %s and trade_id = %s
                   order by seen_at desc limit 1"""
        rows = self._rows(query, book, exchange_order_id, trade_id)
        return decoding.fill(rows[0]) if rows else None

    def order_by_exchange_id(self, book: str, exchange_order_id: str) -> Order | None:
        rows = self._rows(f"{_ORDER} where h.book = %s and h.exchange_order_id = %s", book, exchange_order_id)
        return decoding.order(rows[0]) if rows else None

    def send_before(self, ids: Sequence[UUID]) -> dict[UUID, datetime]:
        """Order -> wall time after which it may not be sent any more."""
        rows = self._rows("select client_order_id, send_before from keel.intent where client_order_id = any(%s)", list(ids))
        return {row["client_order_id"]: row["send_before"] for row in rows}

    def unknown_entries(self, book: str, fills: Sequence[Fill]) -> list[Fill]:
        """Those of the fills that are not in the books yet, in the order given."""
        entries = [fill.entry_id for fill in fills]
        rows = self._rows("select entry_id from keel.fill where book = %s and entry_id = any(%s)", book, entries)
        known = {row["entry_id"] for row in rows}
        return [fill for fill in fills if fill.entry_id not in known]

    def last_fill_at(self, book: str) -> datetime | None:
        found: datetime | None = self._one("select max(traded_at) from keel.fill where book = %s", book)
        return found

    def fill_totals(self, book: str, exchange_order_ids: Sequence[str]) -> dict[str, tuple[Decimal, Decimal]]:
        """Exchange order id -> (quantity, fees) booked, of those that are orders of ours."""
        rows = self._rows(
            """select h.exchange_order_id, coalesce(sum(f.quantity), 0) as quantity, coalesce(sum(f.fee), 0) as fees
               from keel.order_head h left join keel.standing_fill f using (client_order_id)
               where h.book = %s and h.exchange_order_id = any(%s) group by 1""",
            book, list(exchange_order_ids),
        )  # fmt: skip
        return {row["exchange_order_id"]: (row["quantity"], row["fees"]) for row in rows}

    def next_hand_reference(self, book: str) -> int:
        """One more than the highest number that a hand order of the portfolio was asked under, refused ones included."""
        query = """select coalesce(max(substring(slot from '^hand:([0-9]{1,9})$')::int), 0) from (
                     select slot from keel.intent where book = %(book)s
                     union all select slot from keel.evaluation where book = %(book)s) x"""
        with translated():
            row = self.connection.execute(query, {"book": book}).fetchone()
        return 1 + int(str(row[0])) if row else 1

    def slot_orders(self, book: str, slot: str) -> list[Order]:
        """The orders of a slot, by leg."""
        rows = self._rows(f"{_ORDER} where i.book = %s and i.slot = %s order by i.leg", book, slot)
        return [decoding.order(row) for row in rows]

    def refusal(self, book: str, slot: str) -> dict[str, Any] | None:
        """The stored evaluation of a slot that was refused, or None."""
        query = "select product, body from keel.evaluation where book = %s and slot = %s and not approved order by leg limit 1"
        rows = self._rows(query, book, slot)
        return rows[0] if rows else None

    def epoch(self, book: str) -> int:
        """The fencing epoch that the portfolio is at."""
        return int(self._one("select epoch from keel.portfolio where book = %s", book))

    # ---- of breakers and slots

    def breakers(self, scopes: Sequence[str] | None = None) -> list[BreakerRow]:
        """The breaker rows of the scopes (all by default); a scope without a row is missing, which means open."""
        rows = (
            self._rows("select * from keel.breaker order by scope")
            if scopes is None
            else self._rows("select * from keel.breaker where scope = any(%s) order by scope", list(scopes))
        )
        return [decoding.breaker(row) for row in rows]

    def errors(self, book: str, plan: str, window: int = 20) -> tuple[int, int, int]:
        """(failures in a row of one kind, operations, failed operations) of the last `window` operations since a resume.

        Runs and sends are counted each for itself: an order that was taken does not make a run that fails at its end succeed.
        """
        # Older ledgers have a run's success as `fetch`.
        rows = self._rows(
            """with resumed as (select max(id) as id from keel.operation where book = %s and plan = %s and kind = 'resume')
               select case kind when 'fetch' then 'cycle' else kind end as kind, ok from keel.operation
               where book = %s and plan = %s and kind not in ('anchor', 'alert', 'prices')
                 and id > coalesce((select id from resumed), 0) order by id desc limit %s""",
            book, plan, book, plan, window,
        )  # fmt: skip
        by_kind: dict[str, list[bool]] = {}
        for row in rows:
            by_kind.setdefault(row["kind"], []).append(row["ok"])
        in_a_row = (next((place for place, ok in enumerate(oks) if ok), len(oks)) for oks in by_kind.values())
        return max(in_a_row, default=0), len(rows), sum(not row["ok"] for row in rows)

    def last_slot(self, book: str, plan: str) -> datetime | None:
        """The newest slot that was completed or skipped: the position of a replay."""
        query = "select max(slot_at) from keel.cycle where book = %s and plan = %s and state in ('done', 'skipped')"
        found: datetime | None = self._one(query, book, plan)
        return found

    def open_breaks(self, book: str) -> list[dict[str, Any]]:
        return self._rows("select * from keel.recon_break where book = %s and resolved_at is null order by opened_at", book)

    def last_clean_at(self, book: str) -> datetime | None:
        """Market time of the newest clean reconciliation."""
        query = "select body ->> 'market_at' from keel.reconciliation where book = %s and clean order by at desc limit 1"
        found = self._one(query, book)
        return None if found is None else parse_stamp(str(found))

    def last_reconciliation_clean(self, book: str) -> bool:
        """True if the newest reconciliation found no difference; False without one."""
        found = self._one("select clean from keel.reconciliation where book = %s order by at desc limit 1", book)
        return bool(found)
