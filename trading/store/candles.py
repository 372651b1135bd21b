"""Candles in Postgres: stored once, never changed, read back as matrices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading.market import FIELDS, Candles, interval_seconds
from trading.store.database import Connection, translated

# One candle as Postgres packs it: big-endian start and five floats. Packing on the server and reading with numpy is many
# times faster than a row of Python objects per candle.
_PACKED = np.dtype([("start", ">i8"), *((name, ">f8") for name in FIELDS)])
_PACK = " || ".join(("int8send(c.start)", *(f"float8send(c.{name})" for name in FIELDS)))


class CandleStore:
    """The candles of one market source."""

    def __init__(self, connection: Connection, source: str) -> None:
        self.connection = connection
        self.source = source
        self._series: set[tuple[str, str]] = set()

    def save(self, rows: pd.DataFrame, interval: str) -> int:
        """Stores candles in the columns of `COLUMNS`; returns how many were new. One that is stored already is kept."""
        if rows.empty:
            return 0
        values: list[Any] = [rows["product"].tolist(), rows["start"].astype("int64").tolist()]
        values += [rows[name].astype("float64").tolist() for name in FIELDS]
        with translated():
            if new := {(product, interval) for product in values[0]} - self._series:
                self.connection.execute(
                    """insert into keel.series (source, product, interval) select %s, product, %s
                       from unnest(%s::text[]) product on conflict do nothing""",
                    (self.source, interval, sorted(product for product, _ in new)),
                )
                self._series |= new
            cursor = self.connection.execute(
                """insert into keel.candle select s.id, x.start, x.open, x.high, x.low, x.close, x.volume
                   from unnest(%s::text[], %s::int8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[])
                     as x (product, start, open, high, low, close, volume)
                   join keel.series s on (s.source, s.product, s.interval) = (%s, x.product, %s)
                   on conflict do nothing""",
                (*values, self.source, interval),
            )
            return cursor.rowcount

    def load(self, products: Sequence[str], interval: str, end: datetime, length: int) -> Candles:
        """The stored candles among the last `length` that closed at or before `end`; NaN where none is stored."""
        found = Candles.empty(interval, products, end=end, length=length)
        first, last = int(found.starts[0]), int(found.starts[-1])
        with translated(), self.connection.cursor(binary=True) as cursor:
            packed = cursor.execute(
                f"""select s.product, string_agg({_PACK}, ''::bytea)
                    from keel.series s join keel.candle c on c.series = s.id
                    where s.source = %s and s.interval = %s and s.product = any(%s) and c.start between %s and %s
                    group by s.product""",  # noqa: S608 - constants of this file
                (self.source, interval, list(products), first, last),
            ).fetchall()
        column = {product: place for place, product in enumerate(found.products)}
        for product, blob in packed:
            candles: npt.NDArray[Any] = np.frombuffer(bytes(blob), dtype=_PACKED)  # type: ignore[call-overload]
            at = (candles["start"].astype(np.int64) - first) // interval_seconds(interval)
            for name in FIELDS:
                getattr(found, name)[at, column[str(product)]] = candles[name]
        return found
