"""What ingests changed: revisions of bars, and undoing an ingest."""

from collections.abc import Iterable
from datetime import UTC, datetime

import polars as pl

from mei_pipeline.candles import store
from mei_pipeline.candles.answered import read_asked, subtract, write_asked
from mei_pipeline.candles.earlier_state import read_changes
from mei_pipeline.candles.intervals import iso
from mei_pipeline.candles.merge import revert
from mei_pipeline.candles.schema import CANDLES, TABLES, Table
from mei_pipeline.candles.store import IngestRecord, Lake, Manifest
from mei_pipeline.candles.transaction import Stage
from mei_pipeline.candles.writing import stage_manifest, stage_part
from mei_pipeline.errors import Refused


def revisions(
    lake: Lake,
    venue: str | None = None,
    interval: str | None = None,
    symbols: Iterable[str] | None = None,
    ingest_id: str | None = None,
    table: Table = CANDLES,
) -> pl.DataFrame:
    """Bars that a later ingest gave other values, oldest change first.

    Args:
        lake: The lake.
        venue: Only this venue.
        interval: Only this interval.
        symbols: Only these symbols.
        ingest_id: Only what this ingest changed.
        table: `CANDLES` or another table of the lake.

    Returns:
        Columns ingest, when_ms, undone, venue, interval, symbol, the table's time, and `old_*`, `new_*` per value.
    """
    store.settle(lake)
    wanted = None if symbols is None else sorted(set(symbols))
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
    return frame if wanted is None else frame.filter(pl.col("symbol").is_in(wanted))


def undo(lake: Lake, ingest_id: str, *, now_ms: int | None = None) -> dict[str, dict[str, int]]:
    """Take back what one ingest did: bars it added go away, bars it revised get their previous values.

    What is taken out is kept in `undone/`, in files that can be ingested again: a venue may no longer serve those bars.

    Args:
        lake: The lake.
        ingest_id: The ingest, as `mei lake show` lists it.
        now_ms: The present, for the record; the clock's when None.

    Returns:
        Path of each data file that changed to rows `removed` and `restored`.

    Raises:
        ConfigError: There is no such ingest.
        Refused: It was undone already, or a later ingest, to be undone first, revised the same
            bars.
        DataError: A file is damaged or can't be written; then the lake is as it was.
        Busy: Another process writes to the lake.
    """
    now = int(datetime.now(UTC).timestamp() * 1000) if now_ms is None else now_ms
    with store.writing(lake, f"undo of {ingest_id}") as stage:
        record = store.read_ingest(lake, ingest_id)
        if record.undone_ms is not None:
            raise Refused(
                f"ingest {record.id} was undone at {iso(record.undone_ms)}; ingest again to have its bars back"
            )
        report: dict[str, dict[str, int]] = {}
        manifests: dict[str, Manifest] = {}
        for table in TABLES.values():
            changes = read_changes(lake, record, table)
            if changes.height:
                _refuse_if_built_upon(lake, record, table, changes)
                outcome, taken = _stage_undo(lake, stage, table, changes, manifests)
                report |= outcome
                stage.write_frame(f"undone/{record.id}-{table.name}.parquet", taken)
        for folder, manifest in manifests.items():
            stage_manifest(stage, folder, manifest)
        _stage_unasked(lake, stage, record)
        undone = record.model_copy(update={"undone_ms": now})
        stage.write_json(f"ingests/{record.id}.json", undone.model_dump())
        store.stage_next(lake, stage)
    return report


def _stage_undo(
    lake: Lake, stage: Stage, table: Table, changes: pl.DataFrame, manifests: dict[str, Manifest]
) -> tuple[dict[str, dict[str, int]], pl.DataFrame]:
    report = {}
    taken = []
    time = table.key[1]
    for (path,), of_part in changes.group_by("path", maintain_order=True):
        part = store.part_of(str(path))
        manifest = manifests.setdefault(part.folder, store.read_manifest(lake, part.folder))
        frame = store.read_part(lake, part, manifest.files[part.file])
        keys = of_part.select("symbol", pl.col(f"new_{time}").alias(time)).unique()
        taken.append(frame.join(keys, on=["symbol", time], how="semi", maintain_order="left"))
        steps = of_part.partition_by("transaction", maintain_order=True)
        of_folder = {"venue": part.venue, "interval": part.interval}
        partition = {name: value for name, value in of_folder.items() if name in table.columns}
        for step in reversed(steps):
            frame = revert(table, frame, step, partition)
        if frame.is_empty():
            stage.remove(part.path)
            del manifest.files[part.file]
        else:
            manifest.files[part.file] = stage_part(stage, part, table, frame)
        revised = of_part.filter(pl.col("action") == "revised").height
        report[part.path] = {"removed": of_part.height - revised, "restored": revised}
    return report, pl.concat(taken)


def _refuse_if_built_upon(lake: Lake, record: IngestRecord, table: Table, changes: pl.DataFrame) -> None:
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
                f"ingest {record.id}: {both.height} of its rows were revised later, by ingest {later.id}; "
                "undo that first"
            )


def _stage_unasked(lake: Lake, stage: Stage, record: IngestRecord) -> None:
    if not record.asked:
        return
    table = read_asked(lake, record.venue)
    for interval, row in record.asked.items():
        for symbol, ranges in row.items():
            for start, end in ranges:
                known = table.get(interval, {})
                known[symbol] = subtract(known.get(symbol, []), (start, end))
    write_asked(stage, record.venue, table)


def _no_revisions(table: Table) -> pl.DataFrame:
    schema: dict[str, pl.DataType] = {"ingest": pl.String(), "when_ms": pl.Int64(), "undone": pl.Boolean()}
    schema |= {name: pl.String() for name in ("venue", "interval", "symbol")}
    schema[table.key[1]] = pl.Int64()
    for value in table.values:
        schema |= {f"old_{value}": table.columns[value], f"new_{value}": table.columns[value]}
    return pl.DataFrame(schema=schema)
