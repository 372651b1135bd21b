"""Access to the paper exchange's own books (schema `paper`), over a connection of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg.rows import dict_row

from trading.matching import Execution
from trading.movements import Movement
from trading.store.database import Connection, translated


class PaperBooks:
    """One call is one round trip and one commit: what it returns is durable."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _call(self, function: str, *values: object) -> Any:
        with translated():
            row = self.connection.execute(f"select {function}({', '.join(['%s'] * len(values))})", _texts(values)).fetchone()
        assert row is not None
        return row[0]

    def _rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with translated(), self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values).fetchall()

    def place(self, order: dict[str, Any], flow: tuple[str, Decimal, str, Decimal], fills: Sequence[Execution]) -> str:
        """`placed`, `known` or `INSUFFICIENT_FUND`. `flow`: asset spent, how much, asset gained, how much."""
        spent, spend, gained, gain = flow
        names = ("account", "exchange_order_id", "client_order_id", "product", "side", "type", "quantity", "limit_price",
                 "stop_price", "time_in_force", "expires_at", "status", "filled", "fees", "hold")  # fmt: skip
        values = [order[name] for name in names]
        entries = order["entries"]
        return str(self._call("paper.place", *values, spent, spend, gained, gain, order["created_at"], entries, *_columns(fills)))

    def progress(
        self, order: dict[str, Any], *, status: str, triggered: bool, looked_at: datetime, hold: Decimal,
        flow: tuple[str, Decimal, str, Decimal], entries: list[str], fills: Sequence[Execution],
    ) -> bool:  # fmt: skip
        """Moves a resting order on; False when another process did so first."""
        filled, fees = sum((fill.quantity for fill in fills), Decimal(0)), sum((fill.fee for fill in fills), Decimal(0))
        return bool(
            self._call("paper.progress", order["exchange_order_id"], order["filled"], status, triggered, looked_at, filled, fees,
                       hold, *flow, entries, *_columns(fills), looked_at)
        )  # fmt: skip

    def cancel(self, account: str, exchange_order_ids: Sequence[str]) -> set[str]:
        """The ids that were open and are cancelled now."""
        with translated():
            rows = self.connection.execute("select paper.cancel(%s, %s)", (account, list(exchange_order_ids))).fetchall()
        return {str(row[0]) for row in rows}

    def deposit(self, account: str, asset: str, amount: Decimal, reference: str) -> bool:
        """Adds to the balance once per reference; False when it was there already."""
        return bool(self._call("paper.add_deposit", account, reference, asset, amount))

    def move(self, account: str, movement: Movement) -> bool:
        """Moves money or coin without an order, once per entry; False when it was there. Raises BooksRefused (too little)."""
        return bool(
            self._call("paper.move", account, movement.entry_id, movement.kind.value, movement.asset, movement.amount,
                       movement.to_asset, movement.to_amount, movement.happened_at, movement.note)
        )  # fmt: skip

    def movements(self, account: str, since: datetime) -> list[dict[str, Any]]:
        return self._rows("select * from paper.movement where account = %s and at >= %s order by at, id", account, since)

    def knows(self, exchange_order_id: str) -> bool:
        return bool(self._rows("select from paper.orders where exchange_order_id = %s", exchange_order_id))

    def resting(self, account: str) -> list[dict[str, Any]]:
        return self._rows("select * from paper.orders where account = %s and status = 'open' order by created_at", account)

    def orders(self, account: str, since: datetime) -> list[dict[str, Any]]:
        return self._rows(
            "select * from paper.orders where account = %s and (created_at >= %s or status = 'open') order by created_at",
            account, since,
        )  # fmt: skip

    def fills(self, account: str, since: datetime) -> list[dict[str, Any]]:
        return self._rows("select * from paper.fill where account = %s and traded_at >= %s order by traded_at, id",
                          account, since)  # fmt: skip

    def balances(self, account: str) -> list[dict[str, Any]]:
        return self._rows("select asset, available, hold from paper.balance where account = %s", account)


def _columns(fills: Sequence[Execution]) -> tuple[list[Decimal], list[Decimal], list[Decimal], list[str]]:
    return (
        [fill.quantity for fill in fills],
        [fill.price for fill in fills],
        [fill.fee for fill in fills],
        [fill.liquidity for fill in fills],
    )


def _texts(values: Sequence[object]) -> list[object]:
    """Decimals and lists as the text that Postgres reads them from: half the time of the driver's own adapters.

    The lists hold numbers, ids and single words: nothing that would need quotes.
    """
    return [
        str(value) if isinstance(value, Decimal) else f"{{{','.join(map(str, value))}}}" if isinstance(value, list) else value
        for value in values
    ]
