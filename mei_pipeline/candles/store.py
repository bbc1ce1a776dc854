"""Where things lie in a lake, and the manifests that say what is in it.

    lake/
      lake.json                                   format, next transaction, next ingest
      candles/<venue>/<interval>/<YYYY-MM>.parquet    all symbols, sorted by symbol, open_ms
      candles/<venue>/<interval>/manifest.json        per file: hash, bytes, rows, first, last, rows per symbol
      funding/<venue>/<symbol>.parquet            one small file per symbol, with its manifest.json
      instruments/<venue>/instruments.parquet     with its manifest.json
      asked/<venue>.json                          ranges for which the venue was asked, per interval and symbol
      changes/<transaction>-<table>.parquet       which rows a transaction added or revised, and their previous values
      ingests/<id>.json                           what one ingest did
      confirmed/<venue>.json                      bars that a person confirmed
      undone/<id>-<table>.parquet                 rows that an undo took out; can be ingested again
      damaged/                                    files that `mei lake verify --set-aside` moved away
      .lock, .pending/                            one writer at a time; a transaction under way

The manifest is the truth about which files belong to the lake: a file it doesn't name is not read, and a file it names
that is absent or of another size is an error, never fewer bars.
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
from mei_pipeline.candles import transaction
from mei_pipeline.candles.intervals import INTERVALS
from mei_pipeline.candles.transaction import Stage
from mei_pipeline.errors import ConfigError, DataError

FORMAT = 1
MANIFEST = "manifest.json"
_VENUE = re.compile(names.VENUE)


@dataclass(frozen=True)
class Lake:
    """A lake on disk; it needs not exist yet.

    Attributes:
        root: Its folder.
        wait_s: How long to wait for another process that writes to it, in seconds.
        before: Read bars, funding and instruments as they were before the transaction of this number; as they are now
            when 0.
    """

    root: Path
    wait_s: float = 60.0
    before: int = 0


@dataclass(frozen=True)
class Part:
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
        """File name; a symbol may hold characters that a file name can't."""
        return f"{names.file_stem(self.name)}.parquet"

    @property
    def path(self) -> str:
        """Path in the lake."""
        return f"{self.folder}/{self.file}"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Record):
    """What a manifest says about one file.

    Attributes:
        sha256: Hash of the file's bytes.
        bytes: Its size.
        rows: Its rows.
        first_ms: Earliest time in it.
        last_ms: Latest time in it.
        symbols: Rows per symbol.
        quality: Not used any more; earlier versions kept counts of warnings here, of each file by itself.
    """

    sha256: str
    bytes: int
    rows: int
    first_ms: int
    last_ms: int
    symbols: dict[str, int]
    quality: dict[str, dict[str, int]] = Field(default_factory=dict, exclude=True)


class Manifest(_Record):
    """The files of one folder of the lake, by file name."""

    files: dict[str, FileEntry] = Field(default_factory=dict)


class Counters(_Record):
    """Head of the lake: its format and the numbers given to what comes next."""

    format: int = FORMAT
    next_transaction: int = 1
    next_ingest: int = 1


class AskedRecord(_Record):
    """Ranges [from, to) of open times that a venue was asked for, per interval and symbol, sorted and disjoint."""

    ranges: dict[str, dict[str, list[list[int]]]] = Field(default_factory=dict)


class IngestRecord(_Record):
    """What one ingest did, kept with the lake.

    Attributes:
        id: Its name: number in the lake and a hash of what it brought first.
        source: Where the rows came from.
        venue: The venue.
        when_ms: When it first changed the lake.
        transactions: The transactions that it consists of, in order.
        added: Rows added per symbol, over all tables.
        revised: Rows revised per symbol.
        changes: Hash of each file under `changes/` that belongs to it.
        asked: Per interval and symbol, the range [from, to) for which it asked the venue.
        undone_ms: When it was undone; null while it holds.
    """

    id: str
    source: str
    venue: str
    when_ms: int
    transactions: list[int] = Field(default_factory=list)
    added: dict[str, int] = Field(default_factory=dict)
    revised: dict[str, int] = Field(default_factory=dict)
    changes: dict[str, str] = Field(default_factory=dict)
    asked: dict[str, dict[str, list[list[int]]]] = Field(default_factory=dict)
    undone_ms: int | None = None


def check_venue(venue: str) -> str:
    """Return `venue` if it can name a partition.

    Raises:
        ConfigError: It can't.
    """
    if not _VENUE.fullmatch(venue):
        raise ConfigError(f"venue {venue!r} is not allowed; use a lower-case word such as binance or hyperliquid")
    return venue


Record = TypeVar("Record", bound=BaseModel)


def read_record(path: Path, model: type[Record]) -> Record | None:
    """Read one JSON file of the lake; None if there is none.

    Raises:
        DataError: It is damaged or can't be read.
    """
    try:
        return model.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}; make it readable for this user") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({_first(error)}); restore the lake with `mei restore`") from error


def read_counters(lake: Lake) -> Counters:
    """Read the head of the lake.

    Raises:
        DataError: It is damaged, or written by a newer MEI.
    """
    counters = read_record(lake.root / "lake.json", Counters) or Counters()
    if counters.format != FORMAT:
        raise DataError(f"{lake.root}: lake of format {counters.format}, this MEI reads {FORMAT}; use a matching MEI")
    return counters


def stage_next(lake: Lake, stage: Stage) -> None:
    """Stage the number of the next transaction, for a change that is not an ingest."""
    counters = read_counters(lake)
    update = {"next_transaction": counters.next_transaction + 1}
    stage.write_json("lake.json", counters.model_copy(update=update).model_dump())


def edition(lake: Lake) -> int:
    """Return the number of the next transaction: equal numbers mean that no bar and no confirmation changed between."""
    settle(lake)
    return read_counters(lake).next_transaction


def manifest_bytes(lake: Lake, folder: str) -> bytes | None:
    """The manifest of a folder as it lies there, to notice a change of the folder; None if there is none."""
    try:
        return (lake.root / folder / MANIFEST).read_bytes()
    except OSError:
        return None


def read_manifest(lake: Lake, folder: str) -> Manifest:
    """Read the manifest of one folder of the lake; empty if there is none."""
    return read_record(lake.root / folder / MANIFEST, Manifest) or Manifest()


def read_ingest(lake: Lake, ingest_id: str) -> IngestRecord:
    """Read the record of one ingest.

    Raises:
        ConfigError: There is no such ingest.
    """
    known = ingest_id if re.fullmatch(r"[0-9a-f-]+", ingest_id) else ""
    record = read_record(lake.root / "ingests" / f"{known}.json", IngestRecord) if known else None
    if record is None:
        raise ConfigError(f"ingest {ingest_id!r} is not in {lake.root}; `mei lake show` lists them")
    return record


def ingests(lake: Lake) -> list[IngestRecord]:
    """All ingests that changed the lake, oldest first."""
    found = []
    for path in sorted((lake.root / "ingests").glob("*.json")):
        record = read_record(path, IngestRecord)
        if record is not None:
            found.append(record)
    return found


@contextmanager
def writing(lake: Lake, doing: str) -> Generator[Stage]:
    """Hold the lake's lock and change it in one transaction.

    Raises:
        Busy: Another process writes to the lake and did not end within `lake.wait_s`.
        Retryable: The disk is full.
        DataError: The lake's folder can't be written.
        ValueError: `lake` is of the past.
    """
    if lake.before:
        raise ValueError(f"{lake.root}: the state before transaction {lake.before} can't be changed")
    try:
        with files.locked(lake.root / ".lock", doing, wait_s=lake.wait_s), transaction.transaction(lake.root) as stage:
            yield stage
    except OSError as error:
        raise files.refused(error, f"{lake.root}: can't be written: {files.explain(error)}") from error


def settle(lake: Lake) -> None:
    """Let a committed transaction finish, or finish it if its process died, so that what is read is consistent."""
    if transaction.needs_recovery(lake.root):
        with files.locked(lake.root / ".lock", "finishing an interrupted ingest", wait_s=lake.wait_s):
            transaction.recover(lake.root)


def folders(lake: Lake, table: str) -> list[str]:
    """Every folder of `table` that has a manifest, such as `candles/binance/1h`, sorted."""
    root = lake.root / table
    return sorted(path.parent.relative_to(lake.root).as_posix() for path in root.rglob(MANIFEST))


def interval_rank(interval: str) -> int:
    """Sort key of intervals: shortest first, unknown ones last."""
    return list(INTERVALS).index(interval) if interval in INTERVALS else len(INTERVALS)


def part_of(path: str) -> Part:
    """The part whose `path` is given."""
    *pieces, file = path.split("/")
    table, venue, interval = [*pieces, ""][:3]
    return Part(table, venue, interval, names.symbol_of(file.removesuffix(".parquet")))


def read_part(lake: Lake, part: Part, entry: FileEntry) -> pl.DataFrame:
    """Read one data file whole, after comparing it with its manifest entry by hash.

    Raises:
        DataError: The file is absent, can't be read or is not what was written.
    """
    path = present(lake, part.path, entry)
    if files.sha256_file(path) != entry.sha256:
        raise DataError(f"{path}: differs from its hash in {MANIFEST}; {HOW_TO_REPAIR}")
    return collect(scan([path]), [path])


HOW_TO_REPAIR = (
    "`mei restore` brings it back from a backup, or `mei lake verify --set-aside` moves it away so that "
    "`mei ingest` can fetch its rows again"
)


def present(lake: Lake, path: str, entry: FileEntry) -> Path:
    """Absolute path of a data file that has the size its manifest says.

    Raises:
        DataError: It is absent, can't be looked at, or has another size.
    """
    full = lake.root / path
    try:
        size = full.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{full}: is in {MANIFEST} but not on disk; {HOW_TO_REPAIR}") from None
    except OSError as error:
        raise DataError(f"{full}: can't be read: {error.strerror}; make it readable for this user") from error
    if size != entry.bytes:
        raise DataError(f"{full}: has {size} bytes, {MANIFEST} says {entry.bytes}; {HOW_TO_REPAIR}")
    return full


def scan(paths: list[Path]) -> pl.LazyFrame:
    """A lazy frame over data files of one table."""
    return pl.scan_parquet(paths, glob=False, hive_partitioning=False)


def collect(lazy: pl.LazyFrame, paths: list[Path]) -> pl.DataFrame:
    """Run a query over data files.

    Raises:
        DataError: A file can't be read; the message names it.
    """
    try:
        return lazy.collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        for path in paths:
            try:
                pl.read_parquet(path, glob=False, hive_partitioning=False)
            except PermissionError as denied:
                raise DataError(f"{path}: can't be read: {denied.strerror}; make it readable for this user") from denied
            except (OSError, pl.exceptions.PolarsError) as culprit:
                raise DataError(f"{path}: damaged ({_first(culprit)}); {HOW_TO_REPAIR}") from culprit
        raise DataError(f"{paths[0].parent}: can't be read: {_first(error)}") from error


def entry_for(staged: Path, frame: pl.DataFrame, time: str) -> FileEntry:
    """Manifest entry of a staged file that holds `frame`."""
    counts = frame.group_by("symbol").len().sort("symbol")
    return FileEntry(
        sha256=files.sha256_file(staged),
        bytes=staged.stat().st_size,
        rows=frame.height,
        first_ms=int(frame[time].min() or 0),  # pyrefly: ignore[bad-argument-type]  # of integers it is one
        last_ms=int(frame[time].max() or 0),  # pyrefly: ignore[bad-argument-type]  # of integers it is one
        symbols=dict(zip(counts["symbol"].to_list(), counts["len"].to_list(), strict=True)),
    )


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
