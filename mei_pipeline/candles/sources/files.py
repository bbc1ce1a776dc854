"""Candles, funding and instruments from files.

A path is a file, a folder (searched through) or a pattern. What a file holds is told from its columns: prices make it
candles, a rate funding, size decimals instruments. Symbol and interval come from its columns, else from its name
(`file_names`). The columns of every file are checked before the first bar is read, so that a wrong file stops an ingest
before it begins.

Prices of two venues never meet in one series. A file is left out and listed in `skipped` if its name or the nearest
folder names another venue than the stated one; named by itself, it is refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mei_pipeline.candles.excluded_rows import MARK, mark
from mei_pipeline.candles.intervals import INTERVALS, LABELS, interval_ms, interval_of
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS, Table
from mei_pipeline.candles.sources.columns import CLOSE, CONSTANT, check_intervals, convert, interval_names
from mei_pipeline.candles.sources.formats import read_columns
from mei_pipeline.candles.sources.layouts import find_preset
from mei_pipeline.candles.sources.paths import find
from mei_pipeline.candles.sources.plans import Candidate, Plan, Wanted, check_together, keep, plan_file, venue_in
from mei_pipeline.candles.sources.units import check_spacing, coins_of, mark_open, open_of
from mei_pipeline.candles.store import check_venue
from mei_pipeline.errors import ConfigError, DataError


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
    plans: tuple[Plan, ...]
    skipped: tuple[str, ...]

    def intervals(self) -> tuple[str, ...]:
        """Intervals of the bars in the files, shortest first.

        Raises:
            DataError: A file names an interval that MEI does not know.
        """
        found: set[str] = set()
        for plan in self._of(CANDLES):
            fixed = self._fixed(plan)
            if fixed is not None:
                found.add(fixed)
                continue
            column = plan.mapped.columns["interval"]
            labels = read_columns(plan.file, [column], plan.header)[column].cast(pl.String)
            names = interval_names(labels.unique()).to_frame("interval")
            check_intervals(plan.file, names)
            found |= set(names["interval"].to_list())
        return tuple(name for name in INTERVALS if name in found)

    def candles(self, interval: str, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield each file's bars of `interval` that open in [from_ms, to_ms), and its rows without a time.

        Rows that are not to be stored, because they are of another interval than the stated one or their source says
        that they are open, have the name of the rule in the column `marks.MARK`.

        Raises:
            DataError: A file is damaged, or its bars are not of the interval.
        """
        interval_ms(interval)
        for plan in self._of(CANDLES):
            if self._fixed(plan) in (None, interval):
                yield _within(self._load_candles(plan, interval), "open_ms", from_ms, to_ms)

    def funding(self, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield each file's funding stamped in [from_ms, to_ms), and its rows without a time."""
        for plan in self._of(FUNDING):
            yield _within(self._filled(plan, self._load(plan)), "time_ms", from_ms, to_ms)

    def instruments(self) -> pl.DataFrame:
        """All instruments that the files hold; empty if none does."""
        return pl.concat(
            [INSTRUMENTS.empty(), *(self._filled(plan, self._load(plan)) for plan in self._of(INSTRUMENTS))]
        )

    def _of(self, table: Table) -> Iterator[Plan]:
        return (plan for plan in self.plans if plan.mapped.table is table)

    def _fixed(self, plan: Plan) -> str | None:
        """The one interval of a file's bars; None where a column says it."""
        if self.interval is not None:
            return self.interval
        column = plan.mapped.columns["interval"]
        return column[len(CONSTANT) :] if column.startswith(CONSTANT) else None

    def _load(self, plan: Plan, only: tuple[str, tuple[str, ...]] | None = None) -> pl.DataFrame:
        columns = [name for name in plan.mapped.columns.values() if not name.startswith(CONSTANT)]
        frame = convert(plan.file, read_columns(plan.file, columns, plan.header, only), plan.mapped)
        if "venue" in frame.columns:
            other = frame.filter(pl.col("venue") != self.venue)
            if other.height:
                raise DataError(f"{plan.file}: column 'venue' has {other['venue'][0]!r}, stated is {self.venue!r}")
        return frame

    def _load_candles(self, plan: Plan, interval: str) -> pl.DataFrame:
        column = plan.mapped.columns.get("interval", CONSTANT)
        varies = not column.startswith(CONSTANT)
        frame = self._load(plan, (column, LABELS[interval]) if varies and self.interval is None else None)
        if varies and self.interval is not None:
            frame = frame.with_columns(interval_names(frame["interval"]))
            frame = mark(frame, "other_interval", pl.col("interval").ne_missing(interval))
        elif not varies and column not in (CONSTANT, CONSTANT + interval):
            frame = mark(frame, "other_interval", pl.lit(value=True))
        frame = frame.with_columns(pl.lit(interval).alias("interval"))
        if CLOSE in plan.mapped.columns:
            frame = frame.with_columns(open_of(interval))
        frame = coins_of(plan.file, mark_open(frame), plan.mapped.columns)
        ours = frame.filter(pl.col(MARK).is_null()) if MARK in frame.columns else frame
        check_spacing(plan.file, ours, interval, "--interval" if self.interval else _origin(column))
        return self._filled(plan, frame)

    def _filled(self, plan: Plan, frame: pl.DataFrame) -> pl.DataFrame:
        table, name = plan.mapped.table, plan.file.name
        missing = {
            column: pl.lit(self.venue if column == "venue" else name if column == "source" else None, dtype=kind)
            for column, kind in table.columns.items()
            if column not in frame.columns
        }
        filled = frame.with_columns(**missing)
        if table is not INSTRUMENTS:
            filled = filled.with_columns(pl.col("source").fill_null(name))
        marks = [MARK] if MARK in frame.columns else []
        return filled.select(*(pl.col(column).cast(kind) for column, kind in table.columns.items()), *marks)


def open_files(
    path: str | Path,
    venue: str | None = None,
    interval: str | None = None,
    columns: Mapping[str, str] | None = None,
    preset: str | None = None,
) -> FileSource:
    """Find the files that a path names and tell what each of them holds.

    Args:
        path: File, folder or, if there is no such path, a pattern.
        venue: The venue that the prices are of; read from the files, or the preset's, when None.
        interval: The interval of the bars; read from the files when None. Rows of a file that say another one are
            marked, and files whose names say another one are left out.
        columns: The lake's column to the file's where the name differs from the usual ones, or to `=value`, one value
            for all rows. `close_ms` names a column of close times, from which open times are reckoned.
        preset: Who wrote the files, one of `layouts.PRESETS`; told from the columns when None.

    Raises:
        ConfigError: The interval, also as a value of `columns`, or the preset is unknown, a single file's name names
            another venue, one symbol is stated for several files, or files of a spot market and of futures are mixed.
        DataError: There is no such file, or one can't be read, is damaged, is empty or has other columns than expected.
    """
    if interval is not None:
        interval_ms(interval)
    layout = None if preset is None else find_preset(preset)
    found = find(path)
    candidates = [Candidate.of(file, layout) for file in found.files]
    wanted = Wanted(_stated(columns or {}), interval, layout, alone=len(candidates) == 1)
    venue = check_venue(venue or (layout and layout.venue) or venue_in(candidates[0], wanted))
    kept, skipped = keep(candidates, found.root, venue)
    if kept:
        check_together(path, found.root, kept, wanted)
    plans = []
    for candidate in kept:
        plan = plan_file(candidate, found.root, wanted)
        if isinstance(plan, str):
            skipped.append(plan)
        else:
            plans.append(plan)
    if not plans:
        raise DataError(f"{path}: no file to read; {skipped[0]}")
    return FileSource(str(path), venue, interval, tuple(plans), (*found.notes, *skipped))


def _stated(columns: Mapping[str, str]) -> dict[str, str]:
    """The stated columns, an interval for all rows by MEI's name: `=60` is `=1h`."""
    label = columns.get("interval", "")
    if not label.startswith(CONSTANT):
        return dict(columns)
    name = interval_of(label[len(CONSTANT) :])
    if name is None:
        raise ConfigError(
            f"columns: interval={label}: interval {label[len(CONSTANT) :]!r} is not known; "
            f"allowed: {', '.join(f'{CONSTANT}{name}' for name in INTERVALS)}"
        )
    return {**columns, "interval": CONSTANT + name}


def _origin(column: str) -> str:
    return "its name" if column.startswith(CONSTANT) else f"column {column!r}"


def _within(frame: pl.DataFrame, time: str, from_ms: int, to_ms: int) -> pl.DataFrame:
    # A row without a time is kept: the rules refuse it by name.
    outside = (pl.col(time) < from_ms) | (pl.col(time) >= to_ms)
    return frame.filter(~outside.fill_null(value=False))
