"""Layout of a lake on disk, its manifests and its records.

    lake/
      lake.json                                   format, next transaction, next ingest
      candles/<venue>/<interval>/<YYYY-MM>.parquet    all symbols, sorted by symbol, open_ms
      candles/<venue>/<interval>/manifest.json        per file: hash, bytes, rows, first, last, rows per symbol
      funding/<venue>/<symbol>.parquet            one small file per symbol, with its manifest.json
      instruments/<venue>/instruments.parquet     with its manifest.json
      asked/<venue>.json                          ranges for which the venue answered, per interval and symbol
      changes/<transaction>-<table>.parquet       rows that a transaction added or revised, with their previous values
      ingests/<id>.json                           record of one ingest
      confirmed/<venue>.json                      bars that a person confirmed
      undone/<id>-<table>.parquet                 rows that an undo removed; they can be ingested again
      damaged/                                    files that `mei lake verify --set-aside` moved away
      .lock, .pending/                            lock of the writer; files of an open transaction

A manifest lists the files that belong to the lake. MEI does not read a file that no manifest lists. A listed file that
is absent or of another size is an error, so a damaged lake never reads as a lake with fewer bars.
"""

import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mei_pipeline import files, names
from mei_pipeline.candles.intervals import INTERVALS
from mei_pipeline.candles.transaction import Transaction, needs_recovery, open_transaction, recover
from mei_pipeline.errors import ConfigError, DataError

FORMAT = 1
MANIFEST = "manifest.json"
REPAIR_HINT = (
    "`mei restore` brings it back from a backup, or `mei lake verify --set-aside` moves it away so that "
    "`mei ingest` can fetch its rows again"
)
_VENUE = re.compile(names.VENUE)


@dataclass(frozen=True)
class Lake:
    """A lake on disk; its folder need not exist yet.

    Attributes:
        root: Its folder.
        wait_s: Longest time to wait for another process that writes to it, in seconds.
        before: Number of a transaction; bars, funding and instruments are read as they were before it. The present
            state when None.
    """

    root: Path
    wait_s: float = 60.0
    before: int | None = None


@dataclass(frozen=True)
class DataPart:
    """One data file of the lake.

    Attributes:
        table: `candles`, `funding` or `instruments`.
        venue: The venue.
        interval: The bar interval; empty for the other tables.
        name: The month of candles, the symbol of funding, `instruments`.
    """

    table: str
    venue: str
    interval: str
    name: str

    @property
    def folder(self) -> str:
        """Folder in the lake."""
        return "/".join(piece for piece in (self.table, self.venue, self.interval) if piece)

    @property
    def file(self) -> str:
        """File name."""
        # A symbol such as `BTC/USDT:USDT` has characters that a file name can't have.
        return f"{names.file_stem(self.name)}.parquet"

    @property
    def path(self) -> str:
        """Path in the lake."""
        return f"{self.folder}/{self.file}"


class StoredModel(BaseModel):
    """A JSON file of the lake, or a part of one."""

    # Keys of files never change, so a field that is renamed keeps its key as an alias.
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class FileEntry(StoredModel):
    """Entry of a manifest about one file.

    Attributes:
        sha256: Hash of the file's bytes.
        bytes: Size of the file.
        rows: Number of rows.
        first_ms: Earliest time in the file.
        last_ms: Latest time in the file.
        symbols: Rows per symbol.
        quality: Unused. Lakes of earlier versions have counts of warnings here; without this field such a manifest
            would be refused.
    """

    sha256: str
    bytes: int
    rows: int
    first_ms: int
    last_ms: int
    symbols: dict[str, int]
    quality: dict[str, dict[str, int]] = Field(default_factory=dict, exclude=True)


class LakeManifest(StoredModel):
    """`manifest.json`: the data files of one folder of the lake, by file name."""

    files: dict[str, FileEntry] = Field(default_factory=dict)


class Counters(StoredModel):
    """`lake.json`: the format of the lake, and the numbers of the next transaction and the next ingest."""

    format: int = FORMAT
    next_transaction: int = 1
    next_ingest: int = 1


class AnsweredRecord(StoredModel):
    """`asked/<venue>.json`: ranges [from, to) of open times for which a venue answered.

    Attributes:
        ranges: Interval to symbol to sorted, disjoint ranges.
    """

    ranges: dict[str, dict[str, list[list[int]]]] = Field(default_factory=dict)


class IngestRecord(StoredModel):
    """`ingests/<id>.json`: the changes that one ingest made.

    Attributes:
        id: Name of the ingest: its number in the lake, and a hash of its first rows.
        source: Source of the rows.
        venue: The venue.
        when_ms: Time of its first change of the lake.
        transactions: Numbers of its transactions, in order.
        added: Rows added per symbol, over all tables.
        revised: Rows revised per symbol.
        changes: Hash of each of its files under `changes/`.
        answered: Per interval and symbol, the ranges [from, to) for which the venue answered. The key in the file is
            `answered`.
        undone_ms: Time of its undo; null while it is in force.
    """

    id: str
    source: str
    venue: str
    when_ms: int
    transactions: list[int] = Field(default_factory=list)
    added: dict[str, int] = Field(default_factory=dict)
    revised: dict[str, int] = Field(default_factory=dict)
    changes: dict[str, str] = Field(default_factory=dict)
    answered: dict[str, dict[str, list[list[int]]]] = Field(default_factory=dict, alias="asked")
    undone_ms: int | None = None


def check_venue(venue: str) -> str:
    """Return `venue` if it can name a folder of the lake.

    Raises:
        ConfigError: The name is not allowed.
    """
    if not _VENUE.fullmatch(venue):
        raise ConfigError(f"venue {venue!r} is not allowed; use a lower-case word such as binance or hyperliquid")
    return venue


StoredType = TypeVar("StoredType", bound=BaseModel)


def read_record(path: Path, model: type[StoredType]) -> StoredType | None:
    """Read one JSON file of the lake; return None if it does not exist.

    Raises:
        DataError: The file is damaged or can't be read.
    """
    try:
        return model.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}; make it readable for this user") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({_first_line(error)}); restore the lake with `mei restore`") from error


def read_counters(lake: Lake) -> Counters:
    """Read `lake.json`.

    Raises:
        DataError: The file is damaged, or a newer MEI wrote it.
    """
    counters = read_record(lake.root / "lake.json", Counters) or Counters()
    if counters.format != FORMAT:
        raise DataError(
            f"{lake.root}: the lake has format {counters.format}, this MEI reads {FORMAT}; use a matching MEI"
        )
    return counters


def stage_next_transaction(lake: Lake, transaction: Transaction) -> None:
    """Stage the number of the next transaction, for a change that is not an ingest."""
    counters = read_counters(lake)
    update = {"next_transaction": counters.next_transaction + 1}
    transaction.write_json("lake.json", counters.model_copy(update=update).model_dump())


def edition(lake: Lake) -> int:
    """Return the number of the next transaction; between two equal numbers no bar and no confirmation changed."""
    finish_transaction(lake)
    return read_counters(lake).next_transaction


def manifest_bytes(lake: Lake, folder: str) -> bytes | None:
    """Return the bytes of a folder's manifest, to detect a change of the folder; None if there is no manifest."""
    try:
        return (lake.root / folder / MANIFEST).read_bytes()
    except OSError:
        return None


def read_manifest(lake: Lake, folder: str) -> LakeManifest:
    """Read the manifest of one folder of the lake; return an empty one if there is none."""
    return read_record(lake.root / folder / MANIFEST, LakeManifest) or LakeManifest()


def read_ingest(lake: Lake, ingest_id: str) -> IngestRecord:
    """Read the record of one ingest.

    Raises:
        ConfigError: There is no such ingest.
    """
    # An id from the command line must not lead out of the folder.
    safe = re.fullmatch(r"[0-9a-f-]+", ingest_id)
    record = read_record(lake.root / "ingests" / f"{ingest_id}.json", IngestRecord) if safe else None
    if record is None:
        raise ConfigError(f"ingest {ingest_id!r} is not in {lake.root}; `mei lake show` lists them")
    return record


def ingests(lake: Lake) -> list[IngestRecord]:
    """Return the records of all ingests that changed the lake, oldest first."""
    records = (read_record(path, IngestRecord) for path in sorted((lake.root / "ingests").glob("*.json")))
    return [record for record in records if record is not None]


@contextmanager
def write_transaction(lake: Lake, task: str) -> Generator[Transaction]:
    """Hold the lake's lock and change the lake in one transaction.

    Args:
        lake: The lake.
        task: The writer's task, for the message that other writers get.

    Raises:
        Busy: Another process writes to the lake and did not end within `lake.wait_s`.
        Retryable: The disk is full.
        DataError: The lake's folder can't be written.
        ValueError: `lake` is an earlier state.
    """
    if lake.before is not None:
        raise ValueError(f"{lake.root}: the state before transaction {lake.before} can't be changed")
    try:
        with (
            files.locked(lake.root / ".lock", task, wait_s=lake.wait_s),
            open_transaction(lake.root) as transaction,
        ):
            yield transaction
    except OSError as error:
        raise files.refused(error, f"{lake.root}: can't be written: {files.explain(error)}") from error


def finish_transaction(lake: Lake) -> None:
    """Finish a committed transaction whose process died, so that readers see one consistent state.

    If its process still runs, wait for it.
    """
    if needs_recovery(lake.root):
        with files.locked(lake.root / ".lock", "finishing an interrupted ingest", wait_s=lake.wait_s):
            recover(lake.root)


def folders(lake: Lake, table: str) -> list[str]:
    """Return every folder of `table` that has a manifest, such as `candles/binance/1h`, sorted."""
    root = lake.root / table
    return sorted(path.parent.relative_to(lake.root).as_posix() for path in root.rglob(MANIFEST))


def interval_rank(interval: str) -> int:
    """Return the sort key of an interval: shortest first, unknown ones last."""
    return list(INTERVALS).index(interval) if interval in INTERVALS else len(INTERVALS)


def parse_part(path: str) -> DataPart:
    """Return the data file that has `path` in the lake."""
    *pieces, file = path.split("/")
    table, venue, interval = [*pieces, ""][:3]
    return DataPart(table, venue, interval, names.symbol_of(file.removesuffix(".parquet")))


def read_part(lake: Lake, part: DataPart, entry: FileEntry) -> pl.DataFrame:
    """Compare a data file with the hash in its manifest, then read all of it.

    Raises:
        DataError: The file is absent, can't be read, or differs from the hash.
    """
    path = checked_path(lake, part.path, entry)
    if files.sha256_file(path) != entry.sha256:
        raise DataError(f"{path}: differs from its hash in {MANIFEST}; {REPAIR_HINT}")
    return collect(scan([path]), [path])


def checked_path(lake: Lake, path: str, entry: FileEntry) -> Path:
    """Return the absolute path of a data file after comparing its size with the manifest.

    A size costs one system call. A hash would read the whole file, even for a small slice of it.

    Raises:
        DataError: The file is absent, can't be read, or has another size.
    """
    full = lake.root / path
    try:
        size = full.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{full}: is in {MANIFEST} but not on disk; {REPAIR_HINT}") from None
    except OSError as error:
        raise DataError(f"{full}: can't be read: {error.strerror}; make it readable for this user") from error
    if size != entry.bytes:
        raise DataError(f"{full}: has {size} bytes, {MANIFEST} says {entry.bytes}; {REPAIR_HINT}")
    return full


def scan(paths: list[Path]) -> pl.LazyFrame:
    """Return a lazy frame over data files of one table."""
    return pl.scan_parquet(paths, glob=False, hive_partitioning=False)


def collect(lazy: pl.LazyFrame, paths: list[Path]) -> pl.DataFrame:
    """Run a query over data files.

    Raises:
        DataError: A file can't be read; the message names it.
    """
    try:
        return lazy.collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        # The error of a query over several files does not name the damaged one: read them one by one.
        for path in paths:
            try:
                pl.read_parquet(path, glob=False, hive_partitioning=False)
            except PermissionError as denied:
                raise DataError(f"{path}: can't be read: {denied.strerror}; make it readable for this user") from denied
            except (OSError, pl.exceptions.PolarsError) as culprit:
                raise DataError(f"{path}: damaged ({_first_line(culprit)}); {REPAIR_HINT}") from culprit
        raise DataError(f"{paths[0].parent}: can't be read: {_first_line(error)}") from error


def entry_for(staged: Path, frame: pl.DataFrame, time: str) -> FileEntry:
    """Return the manifest entry of a staged file that holds `frame`."""
    counts = frame.group_by("symbol").len().sort("symbol")
    return FileEntry(
        sha256=files.sha256_file(staged),
        bytes=staged.stat().st_size,
        rows=frame.height,
        first_ms=int(frame[time].min() or 0),  # pyrefly: ignore[bad-argument-type]  # of integers it is one
        last_ms=int(frame[time].max() or 0),  # pyrefly: ignore[bad-argument-type]  # of integers it is one
        symbols=dict(zip(counts["symbol"].to_list(), counts["len"].to_list(), strict=True)),
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
