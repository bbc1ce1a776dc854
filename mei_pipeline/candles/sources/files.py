"""Source that reads candles, funding and instruments from files.

A path is a file, a folder (searched with its subfolders) or a pattern. The columns of a file tell its table: a file
with a rate holds funding, a file with size decimals instruments, any other candles. Symbol and interval come from its
columns, else from its name (`file_names`). The columns of every file are checked before the first bar is read, so a
wrong file stops an ingest before it begins.

Prices of two venues are never joined in one series. A file is left out and listed in `skipped` if its name or the
nearest folder names another venue than the stated one. If it is the only file of the path, it is refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mei_pipeline.candles.excluded_rows import BROKEN_RULE, exclude_rows
from mei_pipeline.candles.intervals import INTERVALS, LABELS, interval_ms, parse_interval
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS, LakeTable
from mei_pipeline.candles.sources.columns import CLOSE, CONSTANT, check_intervals, convert, interval_names
from mei_pipeline.candles.sources.formats import read_columns
from mei_pipeline.candles.sources.layouts import find_preset
from mei_pipeline.candles.sources.paths import find_files
from mei_pipeline.candles.sources.plans import (
    FileOptions,
    FilePlan,
    check_together,
    name_file,
    plan_file,
    read_venue,
    select_files,
)
from mei_pipeline.candles.sources.units import check_spacing, exclude_open_bars, open_from_close, volume_in_coins
from mei_pipeline.candles.store import check_venue
from mei_pipeline.errors import ConfigError, DataError


@dataclass(frozen=True)
class FileSource:
    """Files as a source; satisfies the `Source` protocol.

    Attributes:
        name: The path as the user states it.
        venue: Venue of the prices.
        interval: The interval of all bars, if the user states it.
        plans: Plans of the files to read.
        skipped: Files left out, each with the reason.
    """

    name: str
    venue: str
    interval: str | None
    plans: tuple[FilePlan, ...]
    skipped: tuple[str, ...]

    def intervals(self) -> tuple[str, ...]:
        """Return the intervals of the bars in the files, shortest first.

        Raises:
            DataError: A file names an interval that MEI does not have.
        """
        intervals: set[str] = set()
        for plan in self._plans_of(CANDLES):
            single = self._single_interval(plan)
            if single is not None:
                intervals.add(single)
                continue
            column = plan.mapping.columns["interval"]
            labels = read_columns(plan.file, [column], plan.header)[column].cast(pl.String)
            names = interval_names(labels.unique()).to_frame("interval")
            check_intervals(plan.file, names)
            intervals |= set(names["interval"].to_list())
        return tuple(name for name in INTERVALS if name in intervals)

    def candles(self, interval: str, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield each file's bars of `interval` that open in [from_ms, to_ms), and its rows without a time.

        Rows of another interval than the stated one, and bars that the file flags as open, have the name of the broken
        rule in the column `excluded_rows.BROKEN_RULE`.

        Raises:
            DataError: A file is damaged, or its bars are not of the interval.
        """
        interval_ms(interval)
        for plan in self._plans_of(CANDLES):
            if self._single_interval(plan) in (None, interval):
                yield _within(self._load_candles(plan, interval), "open_ms", from_ms, to_ms)

    def funding(self, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield each file's funding stamped in [from_ms, to_ms), and its rows without a time."""
        for plan in self._plans_of(FUNDING):
            yield _within(self._filled(plan, self._load(plan)), "time_ms", from_ms, to_ms)

    def instruments(self) -> pl.DataFrame:
        """Return all instruments in the files; empty if there are none."""
        return pl.concat(
            [INSTRUMENTS.empty(), *(self._filled(plan, self._load(plan)) for plan in self._plans_of(INSTRUMENTS))]
        )

    def _plans_of(self, table: LakeTable) -> Iterator[FilePlan]:
        return (plan for plan in self.plans if plan.mapping.table is table)

    def _single_interval(self, plan: FilePlan) -> str | None:
        """Return the interval of all bars of a file; None if a column has it."""
        if self.interval is not None:
            return self.interval
        column = plan.mapping.columns["interval"]
        return column[len(CONSTANT) :] if column.startswith(CONSTANT) else None

    def _load(self, plan: FilePlan, only: tuple[str, tuple[str, ...]] | None = None) -> pl.DataFrame:
        columns = [name for name in plan.mapping.columns.values() if not name.startswith(CONSTANT)]
        frame = convert(plan.file, read_columns(plan.file, columns, plan.header, only), plan.mapping)
        if "venue" in frame.columns:
            other = frame.filter(pl.col("venue") != self.venue)
            if other.height:
                raise DataError(
                    f"{plan.file}: column 'venue' has {other['venue'][0]!r}, not {self.venue!r}; state the venue of "
                    "the file, or split it by venue"
                )
        return frame

    def _load_candles(self, plan: FilePlan, interval: str) -> pl.DataFrame:
        column = plan.mapping.columns.get("interval", CONSTANT)
        varies = not column.startswith(CONSTANT)
        frame = self._load(plan, (column, LABELS[interval]) if varies and self.interval is None else None)
        if varies and self.interval is not None:
            frame = frame.with_columns(interval_names(frame["interval"]))
            frame = exclude_rows(frame, "other_interval", pl.col("interval").ne_missing(interval))
        elif not varies and column not in (CONSTANT, CONSTANT + interval):
            frame = exclude_rows(frame, "other_interval", pl.lit(value=True))
        frame = frame.with_columns(pl.lit(interval).alias("interval"))
        if CLOSE in plan.mapping.columns:
            frame = frame.with_columns(open_from_close(interval))
        frame = volume_in_coins(plan.file, exclude_open_bars(frame), plan.mapping.columns)
        # Rows of other intervals were excluded above; their distances must not count.
        kept = frame.filter(pl.col(BROKEN_RULE).is_null()) if BROKEN_RULE in frame.columns else frame
        check_spacing(plan.file, kept, interval, "--interval" if self.interval else _origin(column))
        return self._filled(plan, frame)

    def _filled(self, plan: FilePlan, frame: pl.DataFrame) -> pl.DataFrame:
        """Return `frame` with every column of its table, in order; absent ones are null, venue and source filled."""
        table, name = plan.mapping.table, plan.file.name
        missing = {
            column: pl.lit(self.venue if column == "venue" else name if column == "source" else None, dtype=kind)
            for column, kind in table.columns.items()
            if column not in frame.columns
        }
        filled = frame.with_columns(**missing)
        if table is not INSTRUMENTS:
            filled = filled.with_columns(pl.col("source").fill_null(name))
        extra = [BROKEN_RULE] if BROKEN_RULE in frame.columns else []
        return filled.select(*(pl.col(column).cast(kind) for column, kind in table.columns.items()), *extra)


def open_files(
    path: str | Path,
    venue: str | None = None,
    interval: str | None = None,
    columns: Mapping[str, str] | None = None,
    preset: str | None = None,
) -> FileSource:
    """Find the files of a path and plan how to read each of them.

    Args:
        path: File, folder or, if there is no such path, a pattern.
        venue: Venue of the prices; the preset's venue, or read from the files, when None.
        interval: The interval of the bars; read from the files when None. Rows and files of other intervals are
            excluded.
        columns: The lake's column to the file's if it has an unusual name, or to `=value`, one value for all rows.
            `close_ms` names a column of close times, from which open times are computed.
        preset: Preset of the files, one of `layouts.PRESETS`; found from the columns when None.

    Raises:
        ConfigError: The interval, also as a value of `columns`, or the preset is unknown, a single file's name names
            another venue, one symbol is stated for several files, or files of a spot market and of futures are mixed.
        DataError: There is no such file, or one can't be read, is damaged, is empty or has other columns than expected.
    """
    if interval is not None:
        interval_ms(interval)
    layout = None if preset is None else find_preset(preset)
    file_set = find_files(path)
    named_files = [name_file(file, layout) for file in file_set.files]
    options = FileOptions(_stated_columns(columns or {}), interval, layout, single_file=len(named_files) == 1)
    venue = check_venue(venue or (layout and layout.venue) or read_venue(named_files[0], options))
    selected, skipped = select_files(named_files, file_set.root, venue)
    if selected:
        check_together(path, file_set.root, selected, options)
    plans = []
    for named in selected:
        plan = plan_file(named, file_set.root, options)
        if isinstance(plan, str):
            skipped.append(plan)
        else:
            plans.append(plan)
    if not plans:
        raise DataError(f"{path}: no file to read; {skipped[0]}")
    return FileSource(str(path), venue, interval, tuple(plans), (*file_set.notes, *skipped))


def _stated_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """Return the stated columns with MEI's name of a stated interval: `=60` becomes `=1h`."""
    label = columns.get("interval", "")
    if not label.startswith(CONSTANT):
        return dict(columns)
    name = parse_interval(label[len(CONSTANT) :])
    if name is None:
        raise ConfigError(
            f"columns: interval={label}: interval {label[len(CONSTANT) :]!r} is not known; "
            f"allowed: {', '.join(f'{CONSTANT}{name}' for name in INTERVALS)}"
        )
    return {**columns, "interval": CONSTANT + name}


def _origin(column: str) -> str:
    return "its name" if column.startswith(CONSTANT) else f"column {column!r}"


def _within(frame: pl.DataFrame, time: str, from_ms: int, to_ms: int) -> pl.DataFrame:
    # A row without a time is kept, so that the quality rule `null` refuses and counts it.
    outside = (pl.col(time) < from_ms) | (pl.col(time) >= to_ms)
    return frame.filter(~outside.fill_null(value=False))
