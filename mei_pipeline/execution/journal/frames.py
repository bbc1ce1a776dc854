"""The tables of a journal as polars DataFrames, with the exact values of the journal."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import polars as pl

from mei_pipeline.execution.journal.failures import translated
from mei_pipeline.execution.journal.reader import path_of
from mei_pipeline.execution.journal.schema import VIEWS
from mei_pipeline.execution.journal.writer import TABLES

CHUNK_ROWS = 50_000
"""Number of rows that `view_chunks` holds in memory."""

_DTYPES: dict[type, Any] = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String}


def _dtype(annotation: Any) -> Any:
    """Return the polars type of a field; `X | None` has that of X."""
    kinds = [kind for kind in getattr(annotation, "__args__", (annotation,)) if kind is not type(None)]
    return _DTYPES[kinds[0]]


COLUMNS: dict[str, Any] = {
    field.name: _dtype(field.type) for kind in TABLES for field in msgspec.structs.fields(kind)
} | {
    "seq": pl.Int64,
    "part": pl.Int64,
    "bar": pl.Int64,
    "filled_size": pl.Float64,
    "event": pl.String,
    "venue_ms": pl.Int64,
    "seen_ms": pl.Int64,
    "body": pl.String,
    "schema_version": pl.Int64,
    "lane": pl.String,
    "venue": pl.String,
    "feed": pl.String,
    "book_id": pl.String,
    "former_book_ids": pl.String,
    "machine_id": pl.String,
    "kernel_hash": pl.String,
    "anchor_ms": pl.Int64,
    "folder": pl.String,
}
"""Type of each column of the views; a column has the same type in all of them. Columns `*_utc` are text."""

# The columns of `replay.run.Replay.fills`, in its order. A payment changes the cash as a row of the kernels' log says.
_FILLS = """
SELECT time_ms, bar, symbol, reason, moment, size, price, fee_usd, cash_usd, held, signal FROM (
    SELECT seq, part, config_id, time_ms, step AS bar, symbol, reason, moment, size, price, fee_usd, cash_usd, held,
        signal FROM fills
    UNION ALL
    SELECT seq, part, config_id, time_ms, step, symbol, 'funding', 'close', 0.0, price, 0.0, cash_usd, held, 0
        FROM funding
) WHERE ?1 IS NULL OR config_id = ?1 ORDER BY seq, part
"""


def fills_frame(connection: sqlite3.Connection, config_id: str | None = None) -> pl.DataFrame:
    """Return fills and funding payments in the order of the journal, as `replay.trades.split_trades` reads them.

    Args:
        connection: A connection to a journal.
        config_id: Config of the book; None for all books.

    Raises:
        DataError: The file is damaged.
    """
    with translated(path_of(connection)):
        cursor = connection.execute(_FILLS, (config_id,))
        return _frame(cursor, cursor.fetchall())


def view_frame(connection: sqlite3.Connection, name: str) -> pl.DataFrame:
    """Return a view of a journal, oldest rows first.

    Args:
        connection: A connection to a journal.
        name: One of `schema.VIEWS`: the name of the view without `v_`.

    Raises:
        DataError: The file is damaged.
    """
    return pl.concat(view_chunks(connection, name))


def view_chunks(connection: sqlite3.Connection, name: str, chunk_rows: int = CHUNK_ROWS) -> Iterator[pl.DataFrame]:
    """Yield a view in parts of at most `chunk_rows` rows; at least one part, which may be empty.

    Raises:
        DataError: The file is damaged.
    """
    with translated(path_of(connection)):
        cursor = connection.execute(f"SELECT * FROM v_{name} ORDER BY {VIEWS[name]}")  # noqa: S608 - names of our own
        values = cursor.fetchmany(chunk_rows)
        while True:
            yield _frame(cursor, values)
            values = cursor.fetchmany(chunk_rows)
            if not values:
                return


def _frame(cursor: sqlite3.Cursor, values: Sequence[Sequence[Any]]) -> pl.DataFrame:
    names = [column[0] for column in cursor.description]
    dtypes = {name: COLUMNS.get(name, pl.String) for name in names}
    # SQLite has no booleans: they are read as the integers that they are stored as.
    stored = {name: pl.Int64 if dtype == pl.Boolean else dtype for name, dtype in dtypes.items()}
    return pl.DataFrame(values, schema=stored, orient="row").cast(dtypes)
