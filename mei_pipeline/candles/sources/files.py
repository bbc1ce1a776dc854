"""Candles, funding and instruments from Parquet and CSV files.

A path is a file, a folder (searched through, `.parquet`, `.csv` and `.csv.gz`) or a glob. What a file holds is told
from its columns: prices make it candles, a rate funding, size decimals instruments. Every file is opened and its
columns are checked before the first bar is read, so a wrong file stops an ingest before it begins.

Prices of two venues never meet in one series: a file of a folder whose name names another venue than the stated one
(`hyperliquid_funding.parquet` for `binance`) is left out and listed in `skipped`; named by itself, it is refused.
"""

import gzip
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

import polars as pl

from mei_pipeline.candles.intervals import INTERVALS, interval_ms
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS, Table
from mei_pipeline.candles.sources.columns import CLOSE, CONSTANT, Mapped, check_intervals, convert, detect
from mei_pipeline.candles.store import check_venue
from mei_pipeline.errors import ConfigError, DataError

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".csv.gz")
VENUES = frozenset({"binance", "hyperliquid", "bybit", "okx", "bitget", "kraken", "coinbase", "dydx", "synthetic"})


@dataclass(frozen=True)
class FileSource:
    """Serves files as a source; satisfies the `Source` protocol.

    Attributes:
        name: The path as it was given.
        venue: The venue that the files' prices are of.
        interval: The interval of all bars, where it was stated.
        plans: How each file is read.
        skipped: Files left out, each with the reason.
    """

    name: str
    venue: str
    interval: str | None
    plans: tuple[tuple[Path, Mapped], ...]
    skipped: tuple[str, ...]

    def intervals(self) -> tuple[str, ...]:
        """Intervals of the bars in the files, shortest first.

        Raises:
            DataError: A file names an interval that MEI does not know.
        """
        found: set[str] = set()
        for path, mapped in self._of(CANDLES):
            if self.interval is not None:
                found.add(self.interval)
            elif mapped.columns["interval"].startswith(CONSTANT):
                found.add(mapped.columns["interval"][len(CONSTANT) :])
            else:
                column = mapped.columns["interval"]
                names = _read(path, [column]).select(pl.col(column).cast(pl.String).alias("interval")).unique()
                check_intervals(path, names)
                found |= set(names["interval"].to_list())
        return tuple(name for name in INTERVALS if name in found)

    def candles(self, interval: str, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield each file's bars of `interval` that open in [from_ms, to_ms), and its rows without a time."""
        interval_ms(interval)
        for path, mapped in self._of(CANDLES):
            if self.interval in (None, interval):
                frame = self._load(path, mapped, interval)
                yield _within(frame, "open_ms", from_ms, to_ms)

    def funding(self, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield each file's funding stamped in [from_ms, to_ms), and its rows without a time."""
        for path, mapped in self._of(FUNDING):
            yield _within(self._load(path, mapped, None), "time_ms", from_ms, to_ms)

    def instruments(self) -> pl.DataFrame:
        """All instruments that the files hold; empty if none does."""
        frames = [self._load(path, mapped, None) for path, mapped in self._of(INSTRUMENTS)]
        return pl.concat([INSTRUMENTS.empty(), *frames])

    def _of(self, table: Table) -> Iterator[tuple[Path, Mapped]]:
        return ((path, mapped) for path, mapped in self.plans if mapped.table is table)

    def _load(self, path: Path, mapped: Mapped, interval: str | None) -> pl.DataFrame:
        table = mapped.table
        stated = mapped.columns.get("interval", CONSTANT)
        only = None if interval is None or stated.startswith(CONSTANT) else (stated, interval)
        raw = _read(path, [name for name in mapped.columns.values() if not name.startswith(CONSTANT)], only)
        frame = convert(path, raw, mapped)
        if "venue" in mapped.columns:
            other = frame.filter(pl.col("venue") != self.venue)
            if other.height:
                raise DataError(f"{path}: column 'venue' has {other['venue'][0]!r}, stated is {self.venue!r}")
        if table is CANDLES:
            frame = self._with_interval(frame, interval)
            if CLOSE in mapped.columns:
                frame = frame.with_columns(_open_of(str(interval)))
        missing = {
            name: pl.lit(self.venue if name == "venue" else path.name if name == "source" else None, dtype=kind)
            for name, kind in table.columns.items()
            if name not in frame.columns
        }
        filled = frame.with_columns(**missing)
        if table is not INSTRUMENTS:
            filled = filled.with_columns(pl.col("source").fill_null(path.name))
        return filled.select(pl.col(name).cast(kind) for name, kind in table.columns.items())

    def _with_interval(self, frame: pl.DataFrame, interval: str | None) -> pl.DataFrame:
        if "interval" not in frame.columns:
            return frame.with_columns(pl.lit(self.interval).alias("interval"))
        return frame.filter(pl.col("interval") == interval)


def open_files(
    path: str | Path,
    venue: str | None = None,
    interval: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> FileSource:
    """Find the files that a path names and tell what each of them holds.

    Args:
        path: File, folder or glob.
        venue: The venue that the prices are of; read from the files' column when None.
        interval: The interval of the bars; read from the files when None. Of a file that holds several, only this one
            is read.
        columns: The lake's column to the file's where the name differs from the usual ones, or to `=value`, one value
            for all rows. `close_ms` names a column of close times, from which open times are reckoned.

    Raises:
        ConfigError: The interval is unknown, or a single file's name names another venue.
        DataError: There is no such file, or one can't be read, is damaged, is empty or has other columns than expected.
    """
    stated = dict(columns or {})
    if interval is not None:
        interval_ms(interval)
    found = find(path)
    venue = check_venue(_venue_in(found[0], stated) if venue is None else venue)
    if len(found) == 1 and (other := other_venue(found[0], venue)):
        raise ConfigError(
            f"{found[0]}: its name says {other}, stated is venue {venue}; state {other}, or rename the file"
        )
    plans, skipped = [], []
    for file in found:
        other = other_venue(file, venue)
        if other:
            skipped.append(f"{file}: left out, its name says {other}, not {venue}")
            continue
        plans.append((file, _plan(file, interval, stated)))
    if not plans:
        raise DataError(f"{path}: no file of {venue}; {skipped[0]}")
    return FileSource(str(path), venue, interval, tuple(plans), tuple(skipped))


def find(path: str | Path) -> list[Path]:
    """The Parquet and CSV files that `path` names, sorted.

    Raises:
        DataError: There is none, or a folder can't be looked into.
    """
    path = Path(path).expanduser()
    if has_magic(str(path)) and not path.exists():
        found = [Path(name) for name in glob(str(path), recursive=True)]  # noqa: PTH207  (the pattern may be absolute)
    elif path.is_dir():
        try:
            next(path.iterdir(), None)
        except PermissionError:
            raise DataError(f"{path}: permission denied; make the folder readable for this user") from None
        found = list(path.rglob("*"))
    elif path.exists():
        if not _suffix(path):
            raise DataError(f"{path}: expected a file that ends in {', '.join((*PARQUET, *CSV))}")
        return [path]
    else:
        raise DataError(f"{path}: no such file or folder")
    files = sorted(file for file in found if _suffix(file) and file.is_file())
    if not files:
        raise DataError(f"{path}: no file that ends in {', '.join((*PARQUET, *CSV))}")
    return files


def other_venue(path: Path, venue: str) -> str | None:
    """A venue other than `venue` that the file's name names, if any."""
    words = set(re.split(r"[^a-z0-9]+", path.name.lower()))
    mine = set(re.split(r"[^a-z0-9]+", venue))
    named = words & VENUES
    return min(named) if named and not named & mine else None


def _suffix(path: Path) -> bool:
    return path.name.lower().endswith((*PARQUET, *CSV))


def _plan(path: Path, interval: str | None, stated: Mapping[str, str]) -> Mapped:
    columns, rows = _look(path)
    mapped = detect(path, columns, stated)
    if rows == 0:
        raise DataError(f"{path}: has columns but no rows; fetch it again, or take it out of the path")
    if mapped.table is CANDLES and interval is None and "interval" not in mapped.columns:
        raise DataError(
            f"{path}: no column for 'interval' of candles; found: {', '.join(columns)}; state it with --interval"
        )
    return mapped


def _venue_in(path: Path, stated: Mapping[str, str]) -> str:
    columns, _ = _look(path)
    column = detect(path, columns, stated).columns.get("venue")
    if column is None:
        raise ConfigError(f"{path}: does not say which venue its prices are of; state it with --venue")
    if column.startswith(CONSTANT):
        return column[len(CONSTANT) :]
    return str(_read(path, [column])[column].drop_nulls().first())


def _look(path: Path) -> tuple[list[str], int]:
    """Column names, and rows (of a CSV: at most one)."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if not head:
            raise DataError(f"{path}: is empty (0 bytes); fetch it again, or take it out of the path")
        if path.name.lower().endswith(PARQUET):
            lazy = pl.scan_parquet(path, glob=False, hive_partitioning=False)
            return lazy.collect_schema().names(), int(lazy.select(pl.len()).collect().item())
        frame = pl.read_csv(path, infer_schema=False, n_rows=1)
    except PermissionError:
        raise DataError(f"{path}: permission denied; make it readable for this user") from None
    except (OSError, pl.exceptions.PolarsError, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from error
    return frame.columns, frame.height


def _read(path: Path, columns: list[str], only: tuple[str, str] | None = None) -> pl.DataFrame:
    unique = list(dict.fromkeys(columns))
    try:
        if path.name.lower().endswith(PARQUET):
            lazy = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(unique)
        else:
            lazy = pl.read_csv(path, columns=unique, infer_schema=False).lazy()
        if only is not None:
            lazy = lazy.filter(pl.col(only[0]).cast(pl.String) == only[1])
        return lazy.collect()
    except PermissionError:
        raise DataError(f"{path}: permission denied; make it readable for this user") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    kind = "Parquet" if path.name.lower().endswith(PARQUET) else "CSV"
    return DataError(f"{path}: is not a whole {kind} file ({str(error).splitlines()[0]}); fetch it again")


def _within(frame: pl.DataFrame, time: str, from_ms: int, to_ms: int) -> pl.DataFrame:
    # A row without a time is kept: the rules refuse it by name.
    outside = (pl.col(time) < from_ms) | (pl.col(time) >= to_ms)
    return frame.filter(~outside.fill_null(value=False))


def _open_of(interval: str) -> pl.Expr:
    # Venues stamp a close as the last millisecond of the bar or as the first of the next one.
    step = interval_ms(interval)
    close = pl.col(CLOSE)
    return pl.when(close % step == step - 1).then(close + 1 - step).otherwise(close - step).alias("open_ms")
