"""Candles in Postgres: stored once, never changed, read back as matrices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading.market import COLUMNS, FIELDS, interval_seconds
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

    def save(self, rows: pd.DataFrame, interval: str) -> int:
        """Stores candles in the columns of `COLUMNS`; returns how many were new. One that is stored already is kept."""
        if rows.empty:
            return 0
        values: list[Any] = [rows["product"].tolist(), rows["start"].astype("int64").tolist()]
        values += [rows[name].astype("float64").tolist() for name in FIELDS]
        with translated(), self.connection.transaction():
            self.connection.execute(
                """insert into keel.series (source, product, interval) select %s, product, %s from unnest(%s::text[]) product
                   on conflict do nothing""",
                (self.source, interval, sorted(set(values[0]))),
            )
            cursor = self.connection.execute(
                """insert into keel.candle select s.id, x.start, x.open, x.high, x.low, x.close, x.volume
                   from unnest(%s::text[], %s::int8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[])
                     as x (product, start, open, high, low, close, volume)
                   join keel.series s on (s.source, s.product, s.interval) = (%s, x.product, %s)
                   on conflict do nothing""",
                (*values, self.source, interval),
            )
            return cursor.rowcount

    def load(self, products: Sequence[str], interval: str, end: datetime, length: int) -> pd.DataFrame:
        """The stored candles among the last `length` that closed at or before `end`, long form, by product and start."""
        seconds = interval_seconds(interval)
        stop = int(end.timestamp()) // seconds * seconds
        with translated(), self.connection.cursor(binary=True) as cursor:
            found = cursor.execute(
                f"""select s.product, string_agg({_PACK}, ''::bytea order by c.start)
                    from keel.series s join keel.candle c on c.series = s.id
                    where s.source = %s and s.interval = %s and s.product = any(%s) and c.start >= %s and c.start < %s
                    group by s.product order by s.product""",  # noqa: S608 - constants of this file
                (self.source, interval, list(products), stop - length * seconds, stop),
            ).fetchall()
        packed: list[npt.NDArray[Any]] = [np.frombuffer(bytes(blob), dtype=_PACKED) for _, blob in found]  # type: ignore[call-overload]
        if not packed:
            return pd.DataFrame({name: pd.Series(dtype="object" if name == "product" else "float64") for name in COLUMNS})
        everything = np.concatenate(packed)
        columns: dict[str, Any] = {
            "product": np.repeat(np.array([product for product, _ in found], dtype=object), [len(part) for part in packed]),
            "start": everything["start"].astype(np.int64),
        }
        columns |= {name: everything[name].astype(np.float64) for name in FIELDS}
        return pd.DataFrame(columns)
