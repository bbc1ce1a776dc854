"""First and last bars that the lake holds, and the symbols that have bars of every interval."""

from collections.abc import Sequence

import polars as pl

from mei_pipeline.candles.intervals import Intervals, interval_ms
from mei_pipeline.candles.lake import Lake, extent_ms, read_candles
from mei_pipeline.candles.lake import symbols as stored_symbols
from mei_pipeline.errors import DataError
from mei_pipeline.names import symbol_problem
from mei_pipeline.simulation.endings import ENDED_AFTER_MS

Extents = dict[str, tuple[int, int]]
"""Open time of the first bar and end of the last, by symbol."""


def stored_extent_ms(lake: Lake, venue: str, interval: str) -> tuple[int, int]:
    """Return the open time of the first and the end of the last bar of `interval`, over all symbols in the lake.

    Raises:
        DataError: The lake has no bars of the interval.
    """
    extent = extent_ms(lake, venue, interval)
    if extent is None:
        raise DataError(
            f"lake {lake.root}: no {interval} bars of {venue}; run `mei ingest`, with {interval} among `intervals` of "
            f"pipeline.yaml or in the files to ingest"
        )
    return extent[0], extent[1] + interval_ms(interval)


def common_symbols(lake: Lake, venue: str, intervals: Intervals) -> tuple[list[str], dict[str, str]]:
    """Return the symbols with bars of every interval in use, and the reason why each other symbol is left out.

    Raises:
        DataError: The lake has no bars of an interval.
    """
    main_symbols: list[str] = []
    absent: dict[str, str] = {}
    for interval in intervals.read:
        stored_extent_ms(lake, venue, interval)
        stored = {name: symbol_problem(name) for name in stored_symbols(lake, venue, interval)}
        # Earlier versions of MEI stored symbols under any name. A config with such a symbol could never be promoted.
        absent |= {ascii(name): f"the name is not allowed: {problem}" for name, problem in stored.items() if problem}
        names = [name for name, problem in stored.items() if not problem]
        if interval == intervals.main:
            main_symbols = names
        absent |= {name: f"no {interval} bars in the lake" for name in main_symbols if name not in names}
    return [name for name in main_symbols if name not in absent], absent


def last_bar_ms(extents: Sequence[Extents]) -> int:
    """Return the end of the last bar of any symbol; of several intervals, the earliest such end."""
    return min(max(end for _, end in each.values()) for each in extents)


def last_common_ms(lake: Lake, venue: str, intervals: Intervals | str, symbols: Sequence[str]) -> int:
    """Return the time up to which every symbol that has not ended has bars, in every interval in use.

    Raises:
        DataError: A symbol has no bars.
    """
    common = []
    for extents in extents_ms(lake, venue, intervals, symbols):
        ends = [end for _, end in extents.values()]
        common.append(min(end for end in ends if max(ends) - end < ENDED_AFTER_MS))
    return min(common)


def extents_ms(lake: Lake, venue: str, intervals: Intervals | str, symbols: Sequence[str]) -> list[Extents]:
    """Return the extents of `symbols` in the lake, for each interval in use.

    Raises:
        DataError: A symbol has no bars.
    """
    used = intervals if isinstance(intervals, Intervals) else Intervals(intervals)
    by_interval = []
    for interval in used.read:
        opened = pl.col("open_ms")
        frame = read_candles(lake, venue, interval, symbols).group_by("symbol")
        rows = frame.agg(first=opened.min(), end=opened.max() + interval_ms(interval)).iter_rows()
        extents = {str(name): (int(first), int(end)) for name, first, end in rows}
        if missing := sorted(set(symbols) - set(extents)):
            raise DataError(f"lake {lake.root}: no {interval} bar of {missing[0]} at {venue}; run `mei ingest`")
        by_interval.append(extents)
    return by_interval
