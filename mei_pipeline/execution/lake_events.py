"""Events of a lake: the bars, funding and terms of some symbols, step by step, as a feed would have sent them.

The events carry the same numbers as the arrays of `simulation.loading.load_bars`, so a lane that receives them decides
as a simulation over the same bars does. Bars are read in pieces of a few days, to bound the memory.

A symbol has no event before its first bar. After its end (`simulation.endings`) it has no further one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import msgspec
import polars as pl

from mei_pipeline.candles import funding
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS, interval_ms, iso
from mei_pipeline.candles.lake import Lake, read_candles, read_funding
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.execution.events import (
    BarClosed,
    BarMissing,
    CaughtUp,
    FeedEvent,
    FundingRate,
    InstrumentChanged,
    StepClosed,
)
from mei_pipeline.execution.lake_symbols import SymbolBounds, bar_bounds, instrument_changes
from mei_pipeline.simulation.extents import stored_extent_ms

ROWS = 50_000
"""Bars of the finest interval that are read at once, about; at least those of a day."""

_VALUES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class EventSlice:
    """A part of a lake, checked and ready to be read step by step.

    Attributes:
        lake: The lake.
        venue: The venue.
        symbols: Symbols, sorted.
        intervals: Intervals, finest first.
        from_ms: Open time of the first step.
        end_ms: End of the last step.
        bounds: First and last bar of each symbol, by interval.
        changes: Terms of each symbol, oldest first; each holds from the step that closes at its `from_ms`.
        ends: Close of the last step of each symbol that has ended by `end_ms`.
    """

    lake: Lake
    venue: str
    symbols: tuple[str, ...]
    intervals: tuple[str, ...]
    from_ms: int
    end_ms: int
    bounds: Mapping[str, Mapping[str, SymbolBounds]]
    changes: Mapping[str, tuple[InstrumentChanged, ...]]
    ends: Mapping[str, int]

    @property
    def step_ms(self) -> int:
        """Length of a step in milliseconds."""
        return interval_ms(self.intervals[0])


def open_slice(
    lake: Lake, venue: str, symbols: Sequence[str], intervals: Sequence[str], from_ms: int, to_ms: int | None = None
) -> EventSlice:
    """Check a part of a lake and find the ends and terms of its symbols.

    Args:
        lake: The lake.
        venue: The venue.
        symbols: The symbols.
        intervals: The intervals; the finest is the step and must divide the others.
        from_ms: Open time of the first step.
        to_ms: End of the last step; by default the last step whose bars of all intervals are in the lake.

    Raises:
        ConfigError: There is no symbol or interval, an interval is unknown or no multiple of the step, `from_ms` is off
            the grid of steps, or `to_ms` lies before it.
        DataError: The lake has no bars of an interval or a symbol, begins after `from_ms` or ends before it, or an
            instrument is unknown.
    """
    names = tuple(sorted(set(symbols)))
    ordered = _ordered(intervals)
    if not names:
        raise ConfigError("symbols: the list is empty; name at least one symbol")
    step_ms = interval_ms(ordered[0])
    if from_ms % step_ms:
        raise ConfigError(f"from_ms {from_ms}, {iso(from_ms)}: it must lie on the {ordered[0]} grid")
    end_ms = _end_ms(lake, venue, ordered)
    _check_reaches(lake, venue, names, ordered, from_ms, end_ms)
    if to_ms is not None:
        end_ms = min(end_ms, to_ms // step_ms * step_ms)
        if end_ms < from_ms:
            raise ConfigError(f"to_ms {to_ms}, {iso(to_ms)}: before from_ms, {iso(from_ms)}; choose a later time")
    bounds = {name: bar_bounds(lake, venue, name, names, end_ms - interval_ms(name) + 1) for name in ordered}
    for interval, known in bounds.items():
        if missing := sorted(set(names) - set(known)):
            raise DataError(
                f"lake {lake.root}: no {interval} bar of {missing[0]} at {venue} before {iso(end_ms)}; run "
                f"`mei ingest` for it, or leave it out of the symbols"
            )
    changes = instrument_changes(lake, venue, ordered[0], bounds[ordered[0]], end_ms)
    ends = {
        name: each[-1].last_open_ms + step_ms for name, each in changes.items() if each[-1].last_open_ms is not None
    }
    return EventSlice(lake, venue, names, ordered, from_ms, end_ms, bounds, changes, ends)


def lake_events(
    lake: Lake, venue: str, symbols: Sequence[str], intervals: Sequence[str], from_ms: int, to_ms: int | None = None
) -> Iterator[FeedEvent]:
    """Return the snapshot and all steps of a part of a lake; see `open_slice`, `snapshot_of` and `steps_of`."""
    part = open_slice(lake, venue, symbols, intervals, from_ms, to_ms)
    return chain(snapshot_of(part), chain.from_iterable(steps_of(part)))


def snapshot_of(part: EventSlice) -> list[FeedEvent]:
    """Return the terms in force at the beginning, by symbol, and `CaughtUp`.

    There are no bars: a consumer of a replay reads earlier bars from the lake itself.
    """
    terms = [[change for change in part.changes[name] if change.from_ms <= part.from_ms][-1] for name in part.symbols]
    return [*(msgspec.structs.replace(each, venue_ms=part.from_ms) for each in terms), CaughtUp(venue_ms=part.from_ms)]


def steps_of(part: EventSlice, rows: int = ROWS) -> Iterator[list[FeedEvent]]:
    """Return the events of each step, in the order of the grid; steps without a bar are among them.

    The events of a step are its bars of all intervals (finest first, then by symbol), the missing ones, the funding due
    in (open, close] (by time, then by symbol), changes of terms, and `StepClosed`. Their `venue_ms` is the close.

    Args:
        part: The steps.
        rows: See `ROWS`.

    Raises:
        DataError: A file of the lake is damaged.
        Busy: Other processes changed the lake again and again while it was read.
    """
    days = max(1, rows * part.step_ms // (DAY_MS * len(part.symbols)))
    for from_ms in range(part.from_ms, part.end_ms, days * DAY_MS):
        yield from _steps(part, from_ms, min(from_ms + days * DAY_MS, part.end_ms))


class _Columns(NamedTuple):
    """Bars of an interval, sorted by time and symbol."""

    length_ms: int
    bounds: Mapping[str, SymbolBounds]
    open_ms: list[int]
    symbols: list[str]
    values: list[tuple[float, ...]]


def _steps(part: EventSlice, from_ms: int, to_ms: int) -> Iterator[list[FeedEvent]]:
    """Return the events of the steps in [from_ms, to_ms)."""
    read = [_read_columns(part, name, from_ms, to_ms) for name in part.intervals]
    due = _by_step(part, _funding_due(part, from_ms, to_ms))
    changes = _by_step(part, _terms_due(part, from_ms, to_ms))
    for close_ms in range(from_ms + part.step_ms, to_ms + 1, part.step_ms):
        bars: list[FeedEvent] = []
        missing: list[FeedEvent] = []
        present: tuple[str, ...] = ()
        for interval, columns in zip(part.intervals, read, strict=True):
            if close_ms % columns.length_ms:
                continue
            names = _add_bars(bars, interval, columns, close_ms)
            if len(names) < len(part.symbols):
                missing += _missing(part, interval, columns, close_ms, names)
            if interval == part.intervals[0]:
                present = names
        closed = StepClosed(venue_ms=close_ms, step_ms=close_ms - part.step_ms, present=present)
        yield [*bars, *missing, *due.get(close_ms, ()), *changes.get(close_ms, ()), closed]


def _add_bars(bars: list[FeedEvent], interval: str, columns: _Columns, close_ms: int) -> tuple[str, ...]:
    """Append the bars of an interval that close at a time; return their symbols."""
    open_ms = close_ms - columns.length_ms
    first, end = bisect_left(columns.open_ms, open_ms), bisect_right(columns.open_ms, open_ms)
    names = tuple(columns.symbols[first:end])
    for symbol, (opened, high, low, close, volume) in zip(names, columns.values[first:end], strict=True):
        bars.append(
            BarClosed(
                venue_ms=close_ms,
                symbol=symbol,
                interval=interval,
                open_ms=open_ms,
                open=opened,
                high=high,
                low=low,
                close=close,
                volume=volume,
            )
        )
    return names


def _missing(
    part: EventSlice, interval: str, columns: _Columns, close_ms: int, names: Sequence[str]
) -> list[BarMissing]:
    """Return the missing bars of symbols that have begun and not ended."""
    open_ms = close_ms - columns.length_ms
    present = set(names)
    return [
        BarMissing(venue_ms=close_ms, symbol=symbol, interval=interval, open_ms=open_ms, reason="no trade")
        for symbol in part.symbols
        if symbol not in present
        and columns.bounds[symbol].first_ms < open_ms
        and (symbol not in part.ends or open_ms < columns.bounds[symbol].last_ms)
    ]


def _read_columns(part: EventSlice, interval: str, from_ms: int, to_ms: int) -> _Columns:
    """Read the bars of an interval that close in (from_ms, to_ms]."""
    length_ms = interval_ms(interval)
    frame = read_candles(
        part.lake, part.venue, interval, part.symbols, from_ms - length_ms + 1, to_ms - length_ms + 1
    ).sort("open_ms", maintain_order=True)
    values = list(zip(*(frame[name].to_list() for name in _VALUES), strict=True))
    return _Columns(length_ms, part.bounds[interval], frame["open_ms"].to_list(), frame["symbol"].to_list(), values)


def _funding_due(part: EventSlice, from_ms: int, to_ms: int) -> list[FundingRate]:
    """Return the funding due in (from_ms, to_ms], by time and symbol."""
    # A venue may stamp a payment up to an hour after it was due.
    frame = read_funding(part.lake, part.venue, part.symbols, from_ms, to_ms + HOUR_MS)
    due = frame.with_columns(due_ms=funding.hour_of()).filter(pl.col("due_ms").is_between(from_ms + 1, to_ms))
    bounds = part.bounds[part.intervals[0]]
    return [
        FundingRate(symbol=symbol, due_ms=due_ms, rate=rate)
        for due_ms, symbol, rate in due.select("due_ms", "symbol", "rate").sort("due_ms", "symbol").iter_rows()
        if bounds[symbol].first_ms < due_ms <= part.ends.get(symbol, due_ms)
    ]


def _terms_due(part: EventSlice, from_ms: int, to_ms: int) -> list[InstrumentChanged]:
    """Return the changes of terms that come into force in (from_ms, to_ms], by symbol and time."""
    return [change for name in part.symbols for change in part.changes[name] if from_ms < change.from_ms <= to_ms]


def _by_step(
    part: EventSlice, events: Iterable[FundingRate] | Iterable[InstrumentChanged]
) -> dict[int, list[FundingRate | InstrumentChanged]]:
    """Return events by the close of the step to which they belong, with this close as their time."""
    steps: dict[int, list[FundingRate | InstrumentChanged]] = {}
    for event in events:
        time_ms = event.due_ms if isinstance(event, FundingRate) else event.from_ms
        close_ms = -(-time_ms // part.step_ms) * part.step_ms
        steps.setdefault(close_ms, []).append(msgspec.structs.replace(event, venue_ms=close_ms))
    return steps


def _ordered(intervals: Sequence[str]) -> tuple[str, ...]:
    """Return the intervals, finest first.

    Raises:
        ConfigError: There is none, one is unknown, or one is no multiple of the finest.
    """
    if not intervals:
        raise ConfigError("intervals: the list is empty; name at least one interval")
    ordered = tuple(sorted(set(intervals), key=interval_ms))
    for name in ordered:
        if interval_ms(name) % interval_ms(ordered[0]):
            raise ConfigError(f"intervals: {name} is no multiple of {ordered[0]}; the finest must divide the others")
    return ordered


def _check_reaches(
    lake: Lake, venue: str, names: Sequence[str], ordered: Sequence[str], from_ms: int, end_ms: int
) -> None:
    """Raise if the lake does not reach a time, as after bars that a lane has read were removed from it.

    Raises:
        DataError: It begins after `from_ms` or ends before it.
    """
    step_ms = interval_ms(ordered[0])
    first_ms = stored_extent_ms(lake, venue, ordered[0])[0]
    if from_ms < first_ms:
        raise DataError(_lacking(lake, venue, f"{names[0]}, {ordered[0]}", from_ms, first_ms - step_ms, from_ms))
    if from_ms <= end_ms:
        return
    for interval in ordered:
        length_ms = interval_ms(interval)
        last_ms = from_ms // length_ms * length_ms - length_ms  # the last bar before this time
        stored_ms = stored_extent_ms(lake, venue, interval)[1]
        if stored_ms > last_ms:
            continue
        known = bar_bounds(lake, venue, interval, names, stored_ms)
        # Of symbols that ended at different times, the last one tells best what was removed.
        name = max(sorted(known), key=lambda each: known[each].last_ms, default=names[0])
        lost_ms = known[name].last_ms + length_ms if known else stored_ms
        raise DataError(_lacking(lake, venue, f"{name}, {interval}", lost_ms, last_ms, from_ms))


def _lacking(lake: Lake, venue: str, bars: str, first_ms: int, last_ms: int, from_ms: int) -> str:
    return (
        f"lake {lake.root}: no bars of {bars} at {venue} from {iso(first_ms)} to {iso(last_ms)}, but a lane goes on "
        f"from {iso(from_ms)}; if they were removed after the lane had read them, ingest them again (`mei ingest`; "
        f"`mei lake undo` keeps what it removes), or restore a backup, then start the lane again"
    )


def _end_ms(lake: Lake, venue: str, ordered: Sequence[str]) -> int:
    """Return the end of the last step whose bars of all intervals are in the lake."""
    step_ms = interval_ms(ordered[0])
    # A longer bar may still be open at the end of a step, so its last bar covers the steps before the next close.
    return min(stored_extent_ms(lake, venue, name)[1] + interval_ms(name) - step_ms for name in ordered)
