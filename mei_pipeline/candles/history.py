"""History of the lake: revisions of bars, and the undo of an ingest."""

from collections.abc import Iterable
from datetime import UTC, datetime

import polars as pl

from mei_pipeline.candles import store
from mei_pipeline.candles.answered import read_answered_ranges, stage_answered_ranges, subtract
from mei_pipeline.candles.earlier_state import read_changes
from mei_pipeline.candles.intervals import iso
from mei_pipeline.candles.merge import revert
from mei_pipeline.candles.schema import CANDLES, TABLES, LakeTable
from mei_pipeline.candles.store import IngestRecord, Lake, LakeManifest
from mei_pipeline.candles.transaction import Transaction
from mei_pipeline.candles.writing import stage_manifest, stage_part
from mei_pipeline.errors import Refused


def revisions(
    lake: Lake,
    venue: str | None = None,
    interval: str | None = None,
    symbols: Iterable[str] | None = None,
    ingest_id: str | None = None,
    table: LakeTable = CANDLES,
) -> pl.DataFrame:
    """Return the rows that a later ingest gave other values, oldest change first.

    Args:
        lake: The lake.
        venue: Only this venue.
        interval: Only this interval.
        symbols: Only these symbols.
        ingest_id: Only changes of this ingest.
        table: `CANDLES` or another table of the lake.

    Returns:
        Columns ingest, when_ms, undone, venue, interval, symbol, the table's time, and `old_*`, `new_*` per value.
    """
    store.finish_transaction(lake)
    selected = None if symbols is None else sorted(set(symbols))
    time = table.key[1]
    frames = []
    for record in store.ingests(lake):
        if (venue is not None and record.venue != venue) or (ingest_id is not None and record.id != ingest_id):
            continue
        changes = read_changes(lake, record, table).filter(pl.col("action") == "revised")
        pieces = pl.col("path").str.split("/")
        frames.append(
            changes.select(
                pl.lit(record.id).alias("ingest"),
                pl.lit(record.when_ms).alias("when_ms"),
                pl.lit(record.undone_ms is not None).alias("undone"),
                pieces.list.get(1).alias("venue"),
                (pieces.list.get(2) if table is CANDLES else pl.lit("")).alias("interval"),
                "symbol",
                pl.col(f"new_{time}").alias(time),
                *[name for value in table.values for name in (f"old_{value}", f"new_{value}")],
            )
        )
    frame = pl.concat(frames) if frames else _no_revisions(table)
    if interval is not None:
        frame = frame.filter(pl.col("interval") == interval)
    return frame if selected is None else frame.filter(pl.col("symbol").is_in(selected))


def undo(lake: Lake, ingest_id: str, *, now_ms: int | None = None) -> dict[str, dict[str, int]]:
    """Undo one ingest: remove the rows that it added, restore the previous values of the rows that it revised.

    The removed values are kept in `undone/`, in files that can be ingested again: a venue may no longer serve them.

    Args:
        lake: The lake.
        ingest_id: The ingest, as `mei lake show` lists it.
        now_ms: The present, for the record; the time of the clock when None.

    Returns:
        Path of each data file that changed to rows `removed` and `restored`.

    Raises:
        ConfigError: There is no such ingest.
        Refused: It was undone already, or a later ingest revised the same rows and must be undone first.
        DataError: A file is damaged or can't be written; then the lake is unchanged.
        Busy: Another process writes to the lake.
    """
    now = int(datetime.now(UTC).timestamp() * 1000) if now_ms is None else now_ms
    with store.write_transaction(lake, f"undo of {ingest_id}") as transaction:
        record = store.read_ingest(lake, ingest_id)
        if record.undone_ms is not None:
            raise Refused(
                f"ingest {record.id} was undone at {iso(record.undone_ms)}; ingest again to have its bars back"
            )
        report: dict[str, dict[str, int]] = {}
        manifests: dict[str, LakeManifest] = {}
        for table in TABLES.values():
            changes = read_changes(lake, record, table)
            if changes.height:
                _refuse_if_revised_later(lake, record, table, changes)
                counts, removed = _stage_undo(lake, transaction, table, changes, manifests)
                report |= counts
                transaction.write_frame(f"undone/{record.id}-{table.name}.parquet", removed)
        for folder, manifest in manifests.items():
            stage_manifest(transaction, folder, manifest)
        _remove_answered_ranges(lake, transaction, record)
        undone = record.model_copy(update={"undone_ms": now})
        transaction.write_json(f"ingests/{record.id}.json", undone.model_dump())
        store.stage_next_transaction(lake, transaction)
    return report


def _stage_undo(
    lake: Lake, transaction: Transaction, table: LakeTable, changes: pl.DataFrame, manifests: dict[str, LakeManifest]
) -> tuple[dict[str, dict[str, int]], pl.DataFrame]:
    """Stage the data files without the changes of one ingest; update their entries in `manifests`.

    Returns:
        Counts of removed and restored rows by path, and the rows as the ingest left them.
    """
    report = {}
    removed = []
    time = table.key[1]
    for (path,), of_part in changes.group_by("path", maintain_order=True):
        part = store.parse_part(str(path))
        manifest = manifests.setdefault(part.folder, store.read_manifest(lake, part.folder))
        frame = store.read_part(lake, part, manifest.files[part.file])
        keys = of_part.select("symbol", pl.col(f"new_{time}").alias(time)).unique()
        removed.append(frame.join(keys, on=["symbol", time], how="semi", maintain_order="left"))
        # One ingest may revise a row in several transactions, so its last change is undone first.
        steps = of_part.partition_by("transaction", maintain_order=True)
        of_folder = {"venue": part.venue, "interval": part.interval}
        partition = {name: value for name, value in of_folder.items() if name in table.columns}
        for step in reversed(steps):
            frame = revert(table, frame, step, partition)
        if frame.is_empty():
            transaction.remove(part.path)
            del manifest.files[part.file]
        else:
            manifest.files[part.file] = stage_part(transaction, part, table, frame)
        revised = of_part.filter(pl.col("action") == "revised").height
        report[part.path] = {"removed": of_part.height - revised, "restored": revised}
    return report, pl.concat(removed)


def _refuse_if_revised_later(lake: Lake, record: IngestRecord, table: LakeTable, changes: pl.DataFrame) -> None:
    """Raise Refused if a later ingest revised rows of this one: the undo would overwrite the later values."""
    time = table.key[1]
    mine = changes.select("path", "symbol", pl.col(f"new_{time}").alias(f"old_{time}"), "transaction")
    for later in reversed(store.ingests(lake)):
        if later.id == record.id or later.undone_ms is not None or max(later.transactions) < min(record.transactions):
            continue
        theirs = read_changes(lake, later, table).filter(pl.col("action") == "revised")
        key = ["path", "symbol", f"old_{time}"]
        both = theirs.join(mine, on=key, suffix="_mine").filter(pl.col("transaction") > pl.col("transaction_mine"))
        if both.height:
            raise Refused(
                f"ingest {record.id}: ingest {later.id} revised {both.height} of its rows later; undo {later.id} first"
            )


def _remove_answered_ranges(lake: Lake, transaction: Transaction, record: IngestRecord) -> None:
    if not record.answered:
        return
    table = read_answered_ranges(lake, record.venue)
    for interval, row in record.answered.items():
        for symbol, ranges in row.items():
            for start, end in ranges:
                by_symbol = table.get(interval, {})
                by_symbol[symbol] = subtract(by_symbol.get(symbol, []), (start, end))
    stage_answered_ranges(transaction, record.venue, table)


def _no_revisions(table: LakeTable) -> pl.DataFrame:
    schema: dict[str, pl.DataType] = {"ingest": pl.String(), "when_ms": pl.Int64(), "undone": pl.Boolean()}
    schema |= {name: pl.String() for name in ("venue", "interval", "symbol")}
    schema[table.key[1]] = pl.Int64()
    for value in table.values:
        schema |= {f"old_{value}": table.columns[value], f"new_{value}": table.columns[value]}
    return pl.DataFrame(schema=schema)
