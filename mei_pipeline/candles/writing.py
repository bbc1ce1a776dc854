"""Merges of candles, funding and instruments into the lake, each in one transaction with its record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from mei_pipeline import files, names
from mei_pipeline.candles import quality, store
from mei_pipeline.candles.answered import AnsweredRanges, add_answered_ranges, union
from mei_pipeline.candles.funding import filter_funding
from mei_pipeline.candles.merge import MergeResult, merge_rows
from mei_pipeline.candles.quality import Findings
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS, LakeTable
from mei_pipeline.candles.store import DataPart, FileEntry, IngestRecord, Lake, LakeManifest
from mei_pipeline.candles.transaction import Transaction
from mei_pipeline.errors import DataError
from mei_pipeline.progress import Progress, silent


@dataclass(frozen=True)
class Counts:
    """Counts of one symbol's rows after a merge.

    Attributes:
        added: New rows.
        revised: Rows that got other values; the old values are kept as revisions.
        unchanged: Rows that the lake had already.
        refused: Rows that broke a rule.
        repaired: Exact copies that were dropped.
    """

    added: int = 0
    revised: int = 0
    unchanged: int = 0
    refused: int = 0
    repaired: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.added + other.added,
            self.revised + other.revised,
            self.unchanged + other.unchanged,
            self.refused + other.refused,
            self.repaired + other.repaired,
        )


@dataclass(frozen=True)
class MergeReport:
    """Result of one merge.

    Attributes:
        ingest_id: Ingest of the merge; None if nothing changed and no ingest was begun.
        symbols: Counts per symbol.
        files: Path in the lake to hash, of each data file that changed.
        findings: Rows refused or repaired, by rule, with sample rows.
        spans: Of candles: open times of the first and the last merged bar of each symbol.
    """

    ingest_id: str | None
    symbols: dict[str, Counts]
    files: dict[str, str] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> Counts:
        """Counts over all symbols."""
        return sum(self.symbols.values(), Counts())


@dataclass(frozen=True)
class _Batch:
    """Rows of one table that are ready to be merged, and the rows refused before."""

    table: LakeTable
    venue: str
    parts: dict[DataPart, pl.DataFrame]
    refused: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    answered: AnsweredRanges | None = None


def merge_candles(
    lake: Lake,
    frame: pl.DataFrame,
    *,
    now_ms: int,
    progress: Progress = silent,
    source: str = "",
    ingest_id: str | None = None,
    answered: AnsweredRanges | None = None,
) -> MergeReport:
    """Merge candles of one venue and interval into the lake.

    Rows that break a refusing rule are reported and not stored. The others are merged: a new key is added, a known key
    with other values is revised (the old values stay as a revision), a known bar stays as it is. Merging the same rows
    again changes no byte.

    Args:
        lake: The lake.
        frame: Candles, in any order.
        now_ms: The present; a bar that ends later is not closed and is refused.
        progress: Called for each file.
        source: Name of the source, for the ingest's record.
        ingest_id: The ingest that this merge continues; a new one when None.
        answered: Ranges for which the venue answered, if the source speaks for the venue.

    Raises:
        DataError: The frame has another schema, holds several venues or intervals, a symbol's name is not allowed, or
            a file can't be read or written; then the lake is unchanged.
        Busy: Another process writes to the lake.
    """
    frame = CANDLES.validate(frame)
    venue, interval = (_single_value(frame, name) for name in ("venue", "interval"))
    if venue is None or interval is None:
        batch = _Batch(CANDLES, answered.venue if answered else "", {}, answered=answered)
        return _commit(lake, batch, now_ms=now_ms, source=source, ingest_id=ingest_id, progress=progress)
    store.check_venue(venue)
    _check_symbols(frame, f"candles of {venue}")
    filtered = quality.filter_rows(frame, interval, now_ms)
    when = pl.from_epoch("open_ms", time_unit="ms")
    months = filtered.accepted.with_columns((when.dt.year() * 100 + when.dt.month()).alias("_month")).partition_by(
        "_month", maintain_order=True, include_key=True
    )
    parts = {}
    for rows in months:
        month = int(rows["_month"][0])
        parts[DataPart("candles", venue, interval, f"{month // 100:04d}-{month % 100:02d}")] = rows.drop("_month")
    batch = _Batch(CANDLES, venue, parts, filtered.refused, filtered.repaired, filtered.findings, answered)
    report = _commit(lake, batch, now_ms=now_ms, source=source, ingest_id=ingest_id, progress=progress)
    return replace(report, spans=_spans(filtered.accepted))


def merge_funding(
    lake: Lake,
    frame: pl.DataFrame,
    *,
    now_ms: int,
    progress: Progress = silent,
    source: str = "",
    ingest_id: str | None = None,
) -> MergeReport:
    """Merge funding of one venue into the lake: one print per symbol and hour (see `funding`).

    Raises:
        DataError: The frame has another schema or holds several venues, a symbol's name is not allowed or differs from
            another symbol's name only in case, or a file can't be read or written.
        Busy: Another process writes to the lake.
    """
    frame = FUNDING.validate(frame)
    venue = _single_value(frame, "venue")
    if venue is None:
        return MergeReport(ingest_id, {})
    store.check_venue(venue)
    _check_symbols(frame, f"funding of {venue}")
    filtered = filter_funding(frame, now_ms)
    parts = {
        DataPart("funding", venue, "", rows["symbol"][0]): rows.select(*FUNDING.columns)
        for rows in filtered.accepted.partition_by("symbol", maintain_order=True)
    }
    _check_files(lake, parts)
    batch = _Batch(FUNDING, venue, parts, filtered.refused, filtered.repaired, filtered.findings)
    return _commit(lake, batch, now_ms=now_ms, source=source, ingest_id=ingest_id, progress=progress)


def merge_instruments(
    lake: Lake, frame: pl.DataFrame, *, now_ms: int, source: str = "", ingest_id: str | None = None
) -> MergeReport:
    """Merge instruments of one venue into the lake, by symbol and `from_ms`.

    Raises:
        DataError: The frame has another schema, holds several venues, nulls, a symbol whose name is not allowed, or
            one key twice.
        Busy: Another process writes to the lake.
    """
    frame = INSTRUMENTS.validate(frame)
    venue = _single_value(frame, "venue")
    if venue is None:
        return MergeReport(ingest_id, {})
    store.check_venue(venue)
    required = [name for name in INSTRUMENTS.columns if name not in INSTRUMENTS.nullable]
    for name in required:
        if frame[name].null_count():
            raise DataError(f"instruments of {venue}: column {name!r} has empty cells; give each row a value")
    _check_symbols(frame, f"instruments of {venue}")
    frame = frame.unique(maintain_order=True).sort(list(INSTRUMENTS.key))
    repeated = frame.filter(pl.struct(INSTRUMENTS.key).is_duplicated())
    if repeated.height:
        raise DataError(f"instruments of {venue}: {repeated['symbol'][0]} has two rows from the same time; keep one")
    batch = _Batch(INSTRUMENTS, venue, {DataPart("instruments", venue, "", "instruments"): frame})
    return _commit(lake, batch, now_ms=now_ms, source=source, ingest_id=ingest_id, progress=silent)


def _commit(
    lake: Lake, batch: _Batch, *, now_ms: int, source: str, ingest_id: str | None, progress: Progress
) -> MergeReport:
    if not batch.parts and batch.answered is None:
        return MergeReport(ingest_id, _counts(batch, []), {}, batch.findings)
    with store.write_transaction(lake, f"ingest of {batch.venue} {batch.table.name}") as transaction:
        merged, entries = _stage_parts(lake, transaction, batch, progress)
        # A venue that answers with bars the lake has already changes no data, but the record of its answers.
        new_ranges = batch.answered is not None and add_answered_ranges(lake, transaction, batch.answered)
        if entries or new_ranges:
            ingest_id = _stage_record(lake, transaction, batch, merged, (now_ms, source, ingest_id))
    hashes = {path: entry.sha256 for path, entry in entries.items()}
    return MergeReport(ingest_id, _counts(batch, list(merged.values())), hashes, batch.findings)


def _stage_parts(
    lake: Lake, transaction: Transaction, batch: _Batch, progress: Progress
) -> tuple[dict[DataPart, MergeResult], dict[str, FileEntry]]:
    manifests: dict[str, LakeManifest] = {}
    merged: dict[DataPart, MergeResult] = {}
    entries: dict[str, FileEntry] = {}
    label = " ".join(word for word in (batch.venue, batch.table.name) if word)
    for done, (part, rows) in enumerate(sorted(batch.parts.items(), key=lambda item: item[0].path)):
        manifest = manifests.setdefault(part.folder, store.read_manifest(lake, part.folder))
        entry = manifest.files.get(part.file)
        old = store.read_part(lake, part, entry) if entry else batch.table.empty()
        result = merge_rows(batch.table, old, rows)
        if result.changes.height:
            entries[part.path] = stage_part(transaction, part, batch.table, result.frame)
            manifest.files[part.file] = entries[part.path]
            # Only counts and changes are needed from here on; the new content is on disk.
            result = replace(result, frame=result.frame.clear())
        merged[part] = result
        progress(done + 1, len(batch.parts), f"{label}: months" if batch.table is CANDLES else label)
    for folder in sorted({path.rsplit("/", 1)[0] for path in entries}):
        stage_manifest(transaction, folder, manifests[folder])
    return merged, entries


def stage_part(transaction: Transaction, part: DataPart, table: LakeTable, frame: pl.DataFrame) -> FileEntry:
    """Stage the new content of one data file and return its manifest entry."""
    staged = transaction.write_frame(part.path, frame)
    return store.entry_for(staged, frame, table.key[1])


def stage_manifest(transaction: Transaction, folder: str, manifest: LakeManifest) -> None:
    """Stage the manifest of one folder."""
    transaction.write_json(f"{folder}/{store.MANIFEST}", manifest.model_dump())


def _stage_record(
    lake: Lake,
    transaction: Transaction,
    batch: _Batch,
    merged: dict[DataPart, MergeResult],
    origin: tuple[int, str, str | None],
) -> str:
    """Stage the record of the ingest and of its changes; return the ingest's id.

    Args:
        lake: The lake.
        transaction: The open transaction.
        batch: The rows that were merged.
        merged: Result per data file.
        origin: Time, source, and the id of the ingest that the batch continues.
    """
    now_ms, source, ingest_id = origin
    counters = store.read_counters(lake)
    number = counters.next_transaction
    changes = {}
    frames = [
        result.changes.insert_column(0, pl.lit(part.path).alias("path"))
        for part, result in merged.items()
        if result.changes.height
    ]
    if frames:
        name = f"changes/{number:08d}-{batch.table.name}.parquet"
        changes[name] = files.sha256_file(transaction.write_frame(name, pl.concat(frames, how="diagonal")))
    if ingest_id is None:
        seed = files.sha256_json([counters.next_ingest, source, batch.venue, changes])
        record = IngestRecord(
            id=f"{counters.next_ingest:06d}-{seed[:8]}", source=source, venue=batch.venue, when_ms=now_ms
        )
        counters = counters.model_copy(update={"next_ingest": counters.next_ingest + 1})
    else:
        record = store.read_ingest(lake, ingest_id)
    update = {
        "transactions": [*record.transactions, number],
        "added": _sum(record.added, *(result.added for result in merged.values())),
        "revised": _sum(record.revised, *(result.revised for result in merged.values())),
        "changes": record.changes | changes,
        "answered": _with_answered(record.answered, batch.answered),
    }
    transaction.write_json(f"ingests/{record.id}.json", record.model_copy(update=update).model_dump())
    transaction.write_json("lake.json", counters.model_copy(update={"next_transaction": number + 1}).model_dump())
    return record.id


def _with_answered(
    recorded: Mapping[str, Mapping[str, list[list[int]]]], answered: AnsweredRanges | None
) -> dict[str, Any]:
    table = {interval: dict(row) for interval, row in recorded.items()}
    if answered is not None:
        for symbol, new in answered.ranges.items():
            row = table.setdefault(answered.interval, {})
            row[symbol] = union(row.get(symbol, []), new)
    return table


def _counts(batch: _Batch, merged: list[MergeResult]) -> dict[str, Counts]:
    columns = {
        "added": _sum(*(result.added for result in merged)),
        "revised": _sum(*(result.revised for result in merged)),
        "unchanged": _sum(*(result.unchanged for result in merged)),
        "refused": batch.refused,
        "repaired": batch.repaired,
    }
    names = sorted(set().union(*columns.values()))
    return {name: Counts(**{column: row.get(name, 0) for column, row in columns.items()}) for name in names}


def _spans(sorted_bars: pl.DataFrame) -> dict[str, tuple[int, int]]:
    ends = sorted_bars.group_by("symbol", maintain_order=True).agg(first=pl.first("open_ms"), last=pl.last("open_ms"))
    return {symbol: (first, last) for symbol, first, last in ends.iter_rows()}


def _sum(*tables: Mapping[str, int]) -> dict[str, int]:
    total: dict[str, int] = {}
    for table in tables:
        for name, count in table.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def _check_symbols(frame: pl.DataFrame, where: str) -> None:
    """Raise DataError if a symbol is not an allowed name."""
    symbols = frame["symbol"].drop_nulls().unique().sort().to_list()
    # An empty symbol is not checked here: the quality rule `null` refuses its row and keeps the others.
    names.check_symbols((symbol for symbol in symbols if symbol), where)


def _check_files(lake: Lake, parts: Iterable[DataPart]) -> None:
    """Raise DataError if the file name of a new symbol differs from another file name only in case."""
    # On macOS and Windows both names would be one file.
    for part in parts:
        stored = store.read_manifest(lake, part.folder).files
        for other in (*stored, *(each.file for each in parts)):
            if other != part.file and other.casefold() == part.file.casefold() and part.file not in stored:
                twin = names.symbol_of(other.removesuffix(".parquet"))
                raise DataError(
                    f"funding of {part.venue}: symbol {part.name} differs from {twin} only in case; rename one of them"
                )


def _single_value(frame: pl.DataFrame, column: str) -> str | None:
    values = frame[column].unique().sort().to_list()
    if not values:
        return None
    if len(values) > 1 or values[0] is None:
        raise DataError(f"rows to merge: {column} is {', '.join(map(str, values))}; merge one {column} at a time")
    return str(values[0])
