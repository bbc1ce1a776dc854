"""Earlier states of the lake: the changes of later transactions are reverted in memory, from their records."""

from collections.abc import Iterable

import polars as pl

from mei_pipeline.candles import store
from mei_pipeline.candles.merge import change_columns, revert
from mei_pipeline.candles.schema import LakeTable
from mei_pipeline.candles.store import IngestRecord, Lake


def read_changes(lake: Lake, record: IngestRecord, table: LakeTable) -> pl.DataFrame:
    """Read the changes of one ingest in a table.

    Returns:
        Columns `transaction`, `path` and `merge.change_columns`, oldest first.
    """
    schema = {"transaction": pl.Int64(), "path": pl.String(), **change_columns(table)}
    paths = [lake.root / name for name in sorted(record.changes) if name.endswith(f"-{table.name}.parquet")]
    frames = [pl.DataFrame(schema=schema)]
    for path in paths:
        frame = store.collect(store.scan([path]), [path])
        number = int(path.name.split("-", 1)[0])
        frames.append(frame.with_columns(pl.lit(number, dtype=pl.Int64).alias("transaction")))
    return pl.concat(frames, how="diagonal")


def rewind(
    lake: Lake, table: LakeTable, folder: str, symbols: Iterable[str] | None, frame: pl.DataFrame
) -> pl.DataFrame:
    """Revert in `frame` the changes of transaction `lake.before` and of all later ones.

    An ingest that was undone since then is not restored; compare content hashes to be certain.

    Args:
        lake: The lake, with `before`; when that is None, `frame` is returned unchanged.
        table: The table.
        folder: The folder of the lake that `frame` was read from.
        symbols: Symbols to revert; all when None.
        frame: Rows of the folder, which may be a slice by symbol and time.

    Returns:
        Rows sorted by key. Revised rows outside the slice are restored too, so the caller must slice again.
    """
    first = lake.before
    if first is None:
        return frame
    venue, interval = [*folder.split("/"), ""][1:3]
    partition = {name: value for name, value in (("venue", venue), ("interval", interval)) if name in table.columns}
    later = [
        record
        for record in store.ingests(lake)
        if record.venue == venue and record.undone_ms is None and max(record.transactions, default=0) >= first
    ]
    frames = [read_changes(lake, record, table) for record in later]
    if not frames:
        return frame
    of_folder = pl.col("path").str.starts_with(f"{folder}/") & (pl.col("transaction") >= first)
    changes = pl.concat(frames).filter(of_folder)
    if symbols is not None:
        changes = changes.filter(pl.col("symbol").is_in(list(symbols)))
    # The latest transaction first: each record holds the values right before its own transaction.
    for step in changes.sort("transaction", descending=True).partition_by("transaction", maintain_order=True):
        frame = revert(table, frame, step, partition)
    return frame
