"""How each file of an ingest is read, which are left out, and which can't be ingested together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from mei_pipeline.candles.intervals import INTERVALS, interval_of
from mei_pipeline.candles.schema import CANDLES, FUNDING
from mei_pipeline.candles.sources.columns import CONSTANT, Known, Mapped, detect, find_column
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
class Plan:
    """How one file is read.

    Attributes:
        file: The file.
        mapped: What it holds, and which of its columns are the lake's.
        header: Names of all its columns, where it does not name them itself.
    """

    file: DataFile
    mapped: Mapped
    header: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Wanted:
    """What the user says about all files of an ingest.

    Attributes:
        columns: The lake's column to the file's, or to `=value`.
        interval: The interval of the bars.
        preset: Who wrote the files.
        alone: Whether there is one file only.
    """

    columns: Mapping[str, str]
    interval: str | None
    preset: Preset | None
    alone: bool


class Candidate(NamedTuple):
    """A file and what its name says."""

    file: DataFile
    name: NameParts

    @classmethod
    def of(cls, file: DataFile, preset: Preset | None) -> "Candidate":
        """Read a file's name; of a file in a zip, the zip's name where its own says no symbol."""
        freqtrade = preset is not None and preset.freqtrade
        name = read_name(file.name, freqtrade=freqtrade)
        if file.member and name.symbol is None:
            name = read_name(file.path.name, freqtrade=freqtrade)
        return cls(file, name)


def keep(candidates: Sequence[Candidate], root: Path, venue: str) -> tuple[list[Candidate], list[str]]:
    """Leave out files of other venues and of prices that nobody traded at.

    Returns:
        The files to read, and the reason for each that is left out.

    Raises:
        ConfigError: The only file is left out.
    """
    kept: list[Candidate] = []
    reasons: list[str] = []
    for candidate in candidates:
        file = candidate.file
        says, what = _other_venue(candidate, root, venue)
        untraded = candidate.name.untraded or untraded_of(absolute(file.path), root)
        if what:
            reasons.append(f"{file}: left out, its {says} says {what}, not {venue}")
        elif untraded:
            reasons.append(f"{file}: left out, {untraded} says that nobody traded at its prices")
        else:
            kept.append(candidate)
            continue
        if len(candidates) == 1:
            way_out = (
                f"state --venue {what}, or rename the {says.replace('name', 'file')}"
                if what
                else "fetch candles of trades"
            )
            raise ConfigError(f"{reasons[0].replace('left out, ', '')}; {way_out}")
    return kept, reasons


def check_together(path: str | Path, root: Path, kept: Sequence[Candidate], wanted: Wanted) -> None:
    """Refuse files whose rows would join one series though they are not of one.

    Raises:
        ConfigError: One symbol is stated for several files, or files of a spot market and of futures are mixed.
    """
    symbol = wanted.columns.get("symbol", "")
    if symbol.startswith(CONSTANT) and len(kept) > 1:
        raise ConfigError(
            f"--columns symbol={symbol}: {path} has {len(kept):,} files, and all of them would become one series; "
            "leave it out, so that each file's name says its symbol (BTCUSDT-1h-2024-12.csv), or ingest each by itself"
        )
    markets = {market_of(absolute(each.file.path), root): each.file for each in kept}
    if {"spot", "futures"} <= markets.keys():
        raise ConfigError(
            f"{path}: {markets['spot']} is of a spot market and {markets['futures']} of futures; their prices never "
            "meet in one series: ingest one folder at a time"
        )


def venue_in(candidate: Candidate, wanted: Wanted) -> str:
    """The venue that a file's column, else its name, says.

    Raises:
        ConfigError: Neither does.
    """
    head = read_head(candidate.file)
    column = find_column("venue", head.columns, wanted.columns)
    if column is not None and column.startswith(CONSTANT):
        return column[len(CONSTANT) :]
    if column is not None:
        return str(read_columns(candidate.file, [column], None)[column].drop_nulls().first())
    if candidate.name.venue is not None:
        return candidate.name.venue
    raise ConfigError(f"{candidate.file}: does not say which venue its prices are of; state it with --venue")


def plan_file(candidate: Candidate, root: Path, wanted: Wanted) -> Plan | str:
    """Tell how a file is read; a JSON file in a folder that holds no candles is left out with a reason.

    Raises:
        DataError: The file is damaged or empty, has other columns than expected, or does not say its interval.
    """
    try:
        return _plan(candidate, root, wanted)
    except DataError as error:
        if wanted.alone or kind_of(candidate.file.path.name) is not JSON:
            raise
        return f"left out: {error}"


def _plan(candidate: Candidate, root: Path, wanted: Wanted) -> Plan:
    file, name = candidate
    head = read_head(file)
    if head.rows.is_empty():
        raise DataError(f"{file}: has columns but no rows; fetch it again, or take it out of the path")
    header = None
    if not head.header:
        by_number = any(column.startswith("column_") for column in wanted.columns.values())
        header = (None if by_number else guess_layout(head.rows, wanted.preset)) or head.columns
    columns = header or head.columns
    named = {"symbol": head.symbol or name.symbol, "rate": "open" if name.funding else None}
    label = name.interval or folder_interval(absolute(file.path), root)
    interval = label and (interval_of(label) or label)
    known = Known(
        wanted.columns,
        {key: value if key == "rate" else CONSTANT + value for key, value in named.items() if value},
        wanted.preset,
        FUNDING if name.funding else None,
        wanted.alone,
    )
    mapped = detect(file, columns, known)
    if mapped.table is CANDLES and "interval" not in mapped.columns:
        mapped = _with_interval(
            file, head.rows.rename(dict(zip(head.columns, columns, strict=True))), mapped, interval, wanted
        )
    return Plan(file, mapped, header)


def _with_interval(file: DataFile, rows: pl.DataFrame, mapped: Mapped, named: str | None, wanted: Wanted) -> Mapped:
    """Take the interval from the file's name, where no column has it."""
    if named is None and wanted.interval is None:
        raise DataError(
            f"{file}: no column for 'interval' of candles, and its name says none; found: {', '.join(rows.columns)}; "
            f"state it with --interval{_likely(file, rows, mapped)}"
        )
    if wanted.interval is None and named not in INTERVALS:
        raise DataError(f"{file}: its name says interval {named}; allowed: {', '.join(INTERVALS)}")
    if named is None:
        return mapped
    return Mapped(mapped.table, mapped.columns | {"interval": CONSTANT + named})


def _likely(file: DataFile, rows: pl.DataFrame, mapped: Mapped) -> str:
    """The interval that the first bars suggest, as an option."""
    try:
        times = read_times(rows[mapped.columns["open_ms"]], str(file))
    except DataError:
        return ""
    step = times.drop_nulls().sort().diff().filter(times.is_not_null()).mode().min()
    name = next((name for name, length in INTERVALS.items() if length == step), None)
    return f" {name}, if its bars are {name} long" if name else ""


def _other_venue(candidate: Candidate, root: Path, venue: str) -> tuple[str, str | None]:
    """Whether name or folder says a venue other than `venue`, and which."""
    mine = {RENAMED.get(word, word) for word in re.split(r"[^a-z0-9]+", venue)}
    file = candidate.file
    words = set(re.split(r"[^a-z0-9]+", f"{file.path.name} {file.member}".lower())) & VENUES
    if any(RENAMED.get(word, word) in mine for word in words):
        return "name", None
    is_coin = partial(_is_coin, candidate)
    named = sorted(word for word in words if not is_coin(word))
    if named:
        return "name", named[0]
    folder = venue_of(absolute(file.path), root, is_coin)
    return "folder", None if folder is None or RENAMED.get(folder, folder) in mine else folder


def _is_coin(candidate: Candidate, word: str) -> bool:
    """Whether a word of a file's path that a venue has too is its symbol: DYDX is a coin and a venue."""
    symbol = candidate.name.symbol
    try:
        column = find_column("symbol", read_head(candidate.file).columns, {})
        if column is not None:
            found = read_columns(candidate.file, [column], None)[column].cast(pl.String).drop_nulls().unique()
            return not found.is_empty() and found.str.to_lowercase().str.starts_with(word).all()
    except DataError:
        return False  # a file that can't be read is judged by its name
    return symbol is not None and symbol.lower().startswith(word)
