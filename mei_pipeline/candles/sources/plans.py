"""Plans of an ingest from files: table and columns of each file, and the files that are left out or refused."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from mei_pipeline.candles.intervals import INTERVALS, parse_interval
from mei_pipeline.candles.schema import CANDLES, FUNDING
from mei_pipeline.candles.sources.columns import CONSTANT, ColumnHints, ColumnMapping, find_column, map_columns
from mei_pipeline.candles.sources.file_names import (
    RENAMED,
    VENUES,
    NameParts,
    folder_interval,
    market_of,
    read_name,
    untraded_of,
    venue_of,
)
from mei_pipeline.candles.sources.formats import JSON, DataFile, kind_of, read_columns, read_head
from mei_pipeline.candles.sources.layouts import Preset, guess_layout
from mei_pipeline.candles.sources.paths import absolute
from mei_pipeline.candles.sources.times import read_times
from mei_pipeline.errors import ConfigError, DataError


@dataclass(frozen=True)
class FilePlan:
    """Plan to read one file.

    Attributes:
        file: The file.
        mapping: Table and columns of the file.
        header: Names of all columns, if the file has no header.
    """

    file: DataFile
    mapping: ColumnMapping
    header: tuple[str, ...] | None = None


@dataclass(frozen=True)
class FileOptions:
    """The user's options for all files of an ingest.

    Attributes:
        columns: The lake's column to the file's, or to `=value`.
        interval: The interval of the bars.
        preset: Preset of the files.
        single_file: True if there is one file only.
    """

    columns: Mapping[str, str]
    interval: str | None
    preset: Preset | None
    single_file: bool


class NamedFile(NamedTuple):
    """A file and the parts of its name."""

    file: DataFile
    name: NameParts


def name_file(file: DataFile, preset: Preset | None) -> NamedFile:
    """Read a file's name; for a file in a zip without a symbol in its name, read the zip's name."""
    freqtrade = preset is not None and preset.freqtrade
    name = read_name(file.name, freqtrade=freqtrade)
    if file.member and name.symbol is None:
        name = read_name(file.path.name, freqtrade=freqtrade)
    return NamedFile(file, name)


def select_files(named_files: Sequence[NamedFile], root: Path, venue: str) -> tuple[list[NamedFile], list[str]]:
    """Leave out files of other venues and of prices that nobody traded at.

    Returns:
        The files to read, and the reason for each that is left out.

    Raises:
        ConfigError: The only file is left out.
    """
    selected: list[NamedFile] = []
    reasons: list[str] = []
    for named in named_files:
        file = named.file
        place, other_venue = _other_venue(named, root, venue)
        untraded = named.name.untraded or untraded_of(absolute(file.path), root)
        if other_venue:
            reasons.append(f"{file}: left out, its {place} says {other_venue}, not {venue}")
        elif untraded:
            reasons.append(f"{file}: left out, {untraded} says that nobody traded at its prices")
        else:
            selected.append(named)
            continue
        # In a folder the other files are still useful; a single file that is left out leaves nothing to read.
        if len(named_files) == 1:
            remedy = (
                f"state --venue {other_venue}, or rename the {place.replace('name', 'file')}"
                if other_venue
                else "fetch candles of trades"
            )
            raise ConfigError(f"{reasons[0].replace('left out, ', '')}; {remedy}")
    return selected, reasons


def check_together(path: str | Path, root: Path, selected: Sequence[NamedFile], options: FileOptions) -> None:
    """Raise ConfigError if rows of different series would be joined into one.

    Raises:
        ConfigError: One symbol is stated for several files, or files of a spot market and of futures are mixed.
    """
    symbol = options.columns.get("symbol", "")
    if symbol.startswith(CONSTANT) and len(selected) > 1:
        raise ConfigError(
            f"--columns symbol={symbol}: {path} has {len(selected):,} files, and all of them would become one series; "
            "omit it, so that each file's name gives its symbol (BTCUSDT-1h-2024-12.csv), or ingest each by itself"
        )
    markets = {market_of(absolute(each.file.path), root): each.file for each in selected}
    if {"spot", "futures"} <= markets.keys():
        raise ConfigError(
            f"{path}: {markets['spot']} is of a spot market and {markets['futures']} of futures; their prices never "
            "meet in one series: ingest one folder at a time"
        )


def read_venue(named: NamedFile, options: FileOptions) -> str:
    """Return the venue in a file's column, else in its name.

    Raises:
        ConfigError: The file has neither.
    """
    head = read_head(named.file)
    column = find_column("venue", head.columns, options.columns)
    if column is not None and column.startswith(CONSTANT):
        return column[len(CONSTANT) :]
    if column is not None:
        return str(read_columns(named.file, [column], None)[column].drop_nulls().first())
    if named.name.venue is not None:
        return named.name.venue
    raise ConfigError(f"{named.file}: the venue of its prices is not known; state it with --venue")


def plan_file(named: NamedFile, root: Path, options: FileOptions) -> FilePlan | str:
    """Return the plan to read a file, or the reason why a JSON file in a folder is left out.

    Raises:
        DataError: The file is damaged or empty, has other columns than expected, or its interval is not known.
    """
    try:
        return _plan(named, root, options)
    except DataError as error:
        # A folder of candles often has JSON files about something else, such as settings of a download.
        if options.single_file or kind_of(named.file.path.name) is not JSON:
            raise
        return f"left out: {error}"


def _plan(named: NamedFile, root: Path, options: FileOptions) -> FilePlan:
    file, name = named
    head = read_head(file)
    if head.rows.is_empty():
        raise DataError(f"{file}: has columns but no rows; fetch it again, or remove it from the path")
    header = None
    if not head.header:
        # A user who states `column_1` counts columns, so names of a layout would hide what was stated.
        by_number = any(column.startswith("column_") for column in options.columns.values())
        header = (None if by_number else guess_layout(head.rows, options.preset)) or head.columns
    columns = header or head.columns
    from_names = {}
    if symbol := head.symbol or name.symbol:
        from_names["symbol"] = CONSTANT + symbol
    if name.funding:
        # freqtrade stores the funding rate in the column `open` of candles.
        from_names["rate"] = "open"
    label = name.interval or folder_interval(absolute(file.path), root)
    interval = label and (parse_interval(label) or label)
    hints = ColumnHints(
        options.columns, from_names, options.preset, FUNDING if name.funding else None, options.single_file
    )
    mapping = map_columns(file, columns, hints)
    if mapping.table is CANDLES and "interval" not in mapping.columns:
        rows = head.rows.rename(dict(zip(head.columns, columns, strict=True)))
        mapping = _with_interval(file, rows, mapping, interval, options)
    return FilePlan(file, mapping, header)


def _with_interval(
    file: DataFile, rows: pl.DataFrame, mapping: ColumnMapping, interval: str | None, options: FileOptions
) -> ColumnMapping:
    """Add the interval from the file's name to a mapping that has no column for it."""
    if interval is None and options.interval is None:
        raise DataError(
            f"{file}: no column for 'interval' of candles, and its name says none; found: {', '.join(rows.columns)}; "
            f"state it with --interval{_interval_hint(file, rows, mapping)}"
        )
    if options.interval is None and interval not in INTERVALS:
        raise DataError(f"{file}: its name says interval {interval}; allowed: {', '.join(INTERVALS)}")
    if interval is None:
        return mapping
    return ColumnMapping(mapping.table, mapping.columns | {"interval": CONSTANT + interval})


def _interval_hint(file: DataFile, rows: pl.DataFrame, mapping: ColumnMapping) -> str:
    """Return the interval of the first bars as an option of the command; empty if it is not clear."""
    try:
        times = read_times(rows[mapping.columns["open_ms"]], str(file))
    except DataError:
        return ""
    step = times.drop_nulls().sort().diff().filter(times.is_not_null()).mode().min()
    name = next((name for name, length in INTERVALS.items() if length == step), None)
    return f" {name}, if its bars are {name} long" if name else ""


def _other_venue(named: NamedFile, root: Path, venue: str) -> tuple[str, str | None]:
    """Return the place (`name` or `folder`) that names a venue other than `venue`, and that venue or None."""
    own = {RENAMED.get(word, word) for word in re.split(r"[^a-z0-9]+", venue)}
    file = named.file
    words = set(re.split(r"[^a-z0-9]+", f"{file.path.name} {file.member}".lower())) & VENUES
    # The stated venue in the name decides, because the other words may be coins: `bybit_DYDXUSDT.csv`.
    if any(RENAMED.get(word, word) in own for word in words):
        return "name", None
    is_coin = partial(_is_coin, named)
    others = sorted(word for word in words if not is_coin(word))
    if others:
        return "name", others[0]
    folder = venue_of(absolute(file.path), root, is_coin)
    return "folder", None if folder is None or RENAMED.get(folder, folder) in own else folder


def _is_coin(named: NamedFile, word: str) -> bool:
    """Return True if a venue's name in a file's path is the file's symbol: DYDX is a coin and a venue."""
    symbol = named.name.symbol
    try:
        column = find_column("symbol", read_head(named.file).columns, {})
        if column is not None:
            symbols = read_columns(named.file, [column], None)[column].cast(pl.String).drop_nulls().unique()
            return not symbols.is_empty() and symbols.str.to_lowercase().str.starts_with(word).all()
    except DataError:
        return False  # The word counts as a venue; if the file is read later, that read reports the error.
    return symbol is not None and symbol.lower().startswith(word)
