"""First and last bars of the symbols of a lake, their ends, and their terms over time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from mei_pipeline.candles.intervals import DAY_MS, interval_ms
from mei_pipeline.candles.lake import Lake, read_instruments
from mei_pipeline.candles.reading import read_bars
from mei_pipeline.candles.store import FileEntry, read_manifest
from mei_pipeline.errors import DataError
from mei_pipeline.execution.events import InstrumentChanged
from mei_pipeline.simulation.endings import endings_of
from mei_pipeline.simulation.terms import TRADED_BY, history_of


class SymbolBounds(NamedTuple):
    """Open times of the first and the last bar of a symbol, UTC milliseconds."""

    first_ms: int
    last_ms: int


def bar_bounds(
    lake: Lake, venue: str, interval: str, symbols: Sequence[str], before_ms: int
) -> dict[str, SymbolBounds]:
    """Return the first and the last bar of each symbol that opens before `before_ms`; without symbols that have none.

    Most symbols are found in the first and the last day of the lake, so little is read.
    """
    last = _last_opens(lake, venue, interval, symbols, before_ms)
    first = _first_opens(lake, venue, interval, list(last))
    # A symbol lacks a first bar if an undo removed its bars meanwhile.
    return {name: SymbolBounds(first[name], last[name]) for name in last if name in first}


def instrument_changes(
    lake: Lake, venue: str, step: str, bounds: Mapping[str, SymbolBounds], end_ms: int
) -> dict[str, tuple[InstrumentChanged, ...]]:
    """Return the terms of each symbol over time, as a simulation over the bars up to `end_ms` has them.

    Each change holds from the step that closes at its `from_ms`; the first one of a symbol has `from_ms` 0. A symbol
    ends with the step of its last bar, so the change that states the end belongs to that step. If it has later bars,
    because it was listed again, a further change takes the end back.

    Args:
        lake: The lake.
        venue: The venue.
        step: Interval of a step.
        bounds: First and last bar of each symbol, of the interval of a step.
        end_ms: End of the last step.

    Raises:
        DataError: The lake has no terms of a symbol.
    """
    first_ms = min(bound.first_ms for bound in bounds.values())
    history = history_of(read_instruments(lake, venue, list(bounds)), first_ms, end_ms)
    if unknown := sorted(set(bounds) - set(history["symbol"])):
        raise DataError(f"lake {lake.root}: unknown instrument {unknown[0]} at {venue}; run `mei ingest` for it")
    delisted = [(str(name), int(ms)) for name, ms in history.select("symbol", "delisted_ms").drop_nulls().iter_rows()]
    known = {
        (name, time_ms): _last_opens(lake, venue, step, [name], min(time_ms, bounds[name].last_ms + 1)).get(name)
        for name, time_ms in delisted
    }
    ends = _ends(bounds, interval_ms(step), known)
    rows: dict[str, list[tuple[int, tuple[float, ...]]]] = {name: [] for name in bounds}
    for name, from_ms, *terms in history.select("symbol", "from_ms", *TRADED_BY).iter_rows():
        rows[name].append((from_ms, tuple(terms)))
    return {
        name: _changes(name, rows[name], ends[name], bounds[name].last_ms, interval_ms(step)) for name in sorted(bounds)
    }


def _ends(
    bounds: Mapping[str, SymbolBounds], step_ms: int, delisted: Mapping[tuple[str, int], int | None]
) -> dict[str, list[int]]:
    """Return the open times of the last bars of each symbol before its ends, oldest first.

    Args:
        bounds: First and last bar of each symbol.
        step_ms: Length of a step.
        delisted: Symbols and times of delistings, each with the last bar before it; None if there is none.
    """
    symbols = sorted(bounds)
    column = {name: index for index, name in enumerate(symbols)}
    bars = {(bound.last_ms, name) for name, bound in bounds.items()}
    bars |= {(open_ms, name) for (name, _), open_ms in delisted.items() if open_ms is not None}
    # The rule of a simulation, over the few bars that it depends on instead of all.
    times = sorted({open_ms for open_ms, _ in bars})
    present = np.zeros((len(times), len(symbols)), dtype=np.bool_)
    for open_ms, name in bars:
        present[times.index(open_ms), column[name]] = True
    opened = np.array(times, dtype=np.int64)
    pairs = [(column[name], time_ms) for name, time_ms in delisted]
    ends: dict[str, list[int]] = {name: [] for name in symbols}
    for ending in endings_of(present, opened, step_ms, pairs):
        ends[symbols[ending.symbol]].append(times[ending.step])
    return ends


def _changes(
    symbol: str, rows: Sequence[tuple[int, tuple[float, ...]]], ends: Sequence[int], last_ms: int, step_ms: int
) -> tuple[InstrumentChanged, ...]:
    """Return the changes of one symbol.

    Args:
        symbol: The symbol.
        rows: Times and terms, oldest first.
        ends: Open times of the last bars before its ends.
        last_ms: Open time of its last bar.
        step_ms: Length of a step.
    """
    starts = [0, *(-(-from_ms // step_ms) * step_ms for from_ms, _ in rows[1:])]
    times = {*starts}
    for open_ms in ends:
        times.add(open_ms + step_ms)
        if open_ms < last_ms:
            times.add(open_ms + 2 * step_ms)
    changes: list[InstrumentChanged] = []
    for time_ms in sorted(times):
        terms = [row for start, (_, row) in zip(starts, rows, strict=True) if start <= time_ms][-1]
        ended = [open_ms for open_ms in ends if open_ms + step_ms == time_ms or last_ms == open_ms < time_ms - step_ms]
        decimals, notional, leverage, maintenance = terms
        change = InstrumentChanged(
            venue_ms=None,
            symbol=symbol,
            from_ms=time_ms,
            size_decimals=int(decimals),
            min_notional_usd=notional,
            max_leverage=leverage,
            maintenance_margin_frac=maintenance,
            last_open_ms=ended[-1] if ended else None,
        )
        if not changes or _content(changes[-1]) != _content(change):
            changes.append(change)
    return tuple(changes)


def _content(change: InstrumentChanged) -> tuple[object, ...]:
    return (*(getattr(change, name) for name in TRADED_BY), change.last_open_ms)


def _last_opens(lake: Lake, venue: str, interval: str, symbols: Iterable[str], before_ms: int) -> dict[str, int]:
    """Return the open time of the last bar of each symbol before `before_ms`."""
    found: dict[str, int] = {}
    for file, entry in reversed(_files(lake, venue, interval)):
        if entry.first_ms >= before_ms:
            continue
        to_ms = min(before_ms, entry.last_ms + 1)
        wanted = [name for name in symbols if name not in found and name in entry.symbols]
        found |= _opens(lake, venue, interval, wanted, file, (to_ms - DAY_MS, to_ms), pl.col("open_ms").max())
        for name in wanted:
            if name not in found:
                found |= _opens(lake, venue, interval, [name], file, (None, to_ms), pl.col("open_ms").max())
    return found


def _first_opens(lake: Lake, venue: str, interval: str, symbols: Iterable[str]) -> dict[str, int]:
    """Return the open time of the first bar of each symbol."""
    found: dict[str, int] = {}
    for file, entry in _files(lake, venue, interval):
        wanted = [name for name in symbols if name not in found and name in entry.symbols]
        bounds = (entry.first_ms, entry.first_ms + DAY_MS)
        found |= _opens(lake, venue, interval, wanted, file, bounds, pl.col("open_ms").min())
        for name in wanted:
            if name not in found:
                found |= _opens(lake, venue, interval, [name], file, (None, None), pl.col("open_ms").min())
    return found


def _files(lake: Lake, venue: str, interval: str) -> list[tuple[str, FileEntry]]:
    """Return the data files of an interval, oldest first."""
    manifest = read_manifest(lake, f"candles/{venue}/{interval}")
    return sorted(manifest.files.items(), key=lambda item: item[1].first_ms)


def _opens(
    lake: Lake,
    venue: str,
    interval: str,
    symbols: Sequence[str],
    file: str,
    bounds: tuple[int | None, int | None],
    edge: pl.Expr,
) -> dict[str, int]:
    """Return the open time of the first or last bar of each symbol in a part of one file."""
    if not symbols:
        return {}
    frame = read_bars(lake, venue, interval, symbols, files=[file], bounds=bounds)
    return {str(name): int(open_ms) for name, open_ms in frame.group_by("symbol").agg(edge).iter_rows()}
