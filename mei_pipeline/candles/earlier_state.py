"""The lake as it was before a transaction: what later ones changed is taken back from their records, in memory."""

from collections.abc import Iterable

import polars as pl

from mei_pipeline.candles import store
from mei_pipeline.candles.merge import change_columns, revert
from mei_pipeline.candles.schema import Table
from mei_pipeline.candles.store import IngestRecord, Lake


def read_changes(lake: Lake, record: IngestRecord, table: Table) -> pl.DataFrame:
    """Read what one ingest changed in a table: `transaction`, `path` and `merge.change_columns`, oldest first."""
    schema = {"transaction": pl.Int64(), "path": pl.String(), **change_columns(table)}
    paths = [lake.root / name for name in sorted(record.changes) if name.endswith(f"-{table.name}.parquet")]
    frames = [pl.DataFrame(schema=schema)]
    for path in paths:
        frame = store.collect(store.scan([path]), [path])
        number = int(path.name.split("-", 1)[0])
        frames.append(frame.with_columns(pl.lit(number, dtype=pl.Int64).alias("transaction")))
    return pl.concat(frames, how="diagonal")


def rewind(lake: Lake, table: Table, folder: str, symbols: Iterable[str] | None, frame: pl.DataFrame) -> pl.DataFrame:
    """Take back in `frame` what transactions from `lake.before` on changed.

    An ingest that was undone since then is not brought back; compare content hashes to be certain.

    Args:
        lake: The lake, with `before`.
        table: The table.
        folder: The folder of the lake that `frame` was read from.
        symbols: Symbols to look at; all when None.
        frame: Rows of the folder, which may be a slice by symbol and time.

    Returns:
        Rows sorted by key. Rows that were revised are back whatever their time, so a slice must be cut again.
    """
    venue, interval = [*folder.split("/"), ""][1:3]
    partition = {name: value for name, value in (("venue", venue), ("interval", interval)) if name in table.columns}
    later = [
        record
        for record in store.ingests(lake)
        if record.venue == venue and record.undone_ms is None and max(record.transactions, default=0) >= lake.before
    ]
    frames = [read_changes(lake, record, table) for record in later]
    if not frames:
        return frame
    mine = pl.col("path").str.starts_with(f"{folder}/") & (pl.col("transaction") >= lake.before)
    changes = pl.concat(frames).filter(mine)
    if symbols is not None:
        changes = changes.filter(pl.col("symbol").is_in(list(symbols)))
    for step in changes.sort("transaction", descending=True).partition_by("transaction", maintain_order=True):
        frame = revert(table, frame, step, partition)
    return frame
