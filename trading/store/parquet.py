"""The ledger's tables as Parquet files, for notebooks and warehouses: exact decimals, UTC times, JSON as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, CursorResult, text

from trading.errors import ConfigurationError
from trading.store.reports import Reports

TABLES: Mapping[str, str] = {
    "orders": "select * from keel.orders order by created_at, client_order_id",
    "order_events": "select * from keel.order_event order by client_order_id, seq",
    "fills": "select * from keel.fills order by traded_at, entry_id",
    "evaluations": "select * from keel.evaluation order by at, id",
    "cycles": "select * from keel.cycle order by book, plan, slot_at",
    "accounts": "select * from keel.account order by name",
    "transactions": "select * from keel.txn order by seq",
    "postings": """select p.*, a.name as account, t.effective_at from keel.posting p join keel.account a on a.id = p.account_id
                   join keel.txn t on t.id = p.txn_id order by t.seq, p.line""",
    "lots": "select * from keel.lot order by acquired_at, id",
    "lot_matches": "select m.* from keel.lot_match m join keel.txn t on t.id = m.txn_id order by t.seq, m.line",
    "equity": "select * from keel.equity order by book, plan, at",
    "breaker_events": "select * from keel.breaker_event order by scope, generation",
    "breaks": "select * from keel.recon_break order by opened_at, id",
    "candles": """select s.source, s.product, s.interval, c.start, c.open, c.high, c.low, c.close, c.volume
                  from keel.candle c join keel.series s on s.id = c.series order by 1, 2, 3, 4""",
}
"""File -> its rows."""
ROWS_PER_GROUP = 50_000
# By the number that Postgres gives a type; a domain is told as what it is made of.
_TYPES: Mapping[int, pa.DataType] = {
    16: pa.bool_(), 20: pa.int64(), 21: pa.int16(), 23: pa.int32(), 25: pa.string(), 701: pa.float64(),
    1700: pa.decimal128(38, 18), 1184: pa.timestamp("us", tz="UTC"), 2950: pa.string(), 3802: pa.string(), 17: pa.binary(),
}  # fmt: skip
_AS_TEXT: Mapping[int, Callable[[Any], str]] = {2950: str, 3802: lambda value: json.dumps(value, sort_keys=True)}


def write_parquet(ledger: Reports, folder: Path) -> dict[str, int]:
    """Writes one file per table, all of one moment; returns how many rows each has. A file that is there is replaced.

    Raises ConfigurationError when the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"export: cannot make folder {folder}: {error.strerror}") from error
    with ledger.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        return {name: _write(connection, query, folder / f"{name}.parquet") for name, query in TABLES.items()}


def _write(connection: Connection, query: str, file: Path) -> int:
    rows = connection.execution_options(stream_results=True, yield_per=ROWS_PER_GROUP).execute(text(query))
    oids = [column.type_code for column in _description(rows)]
    schema = pa.schema([(name, _TYPES[oid]) for name, oid in zip(rows.keys(), oids, strict=True)])
    partial = file.with_suffix(".part")  # a half-written file never has the name of a whole one
    written = 0
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for group in rows.partitions(ROWS_PER_GROUP):
            columns = [_column(values, oid) for values, oid in zip(zip(*group, strict=True), oids, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))
            written += len(group)
    partial.replace(file)
    return written


def _description(rows: CursorResult[Any]) -> Any:
    assert rows.cursor is not None  # a select has one
    return rows.cursor.description


def _column(values: tuple[Any, ...], oid: int) -> pa.Array:
    spell = _AS_TEXT.get(oid)
    return pa.array(values if spell is None else [None if value is None else spell(value) for value in values], type=_TYPES[oid])
