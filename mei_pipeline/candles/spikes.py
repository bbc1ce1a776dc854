"""Spikes: bars whose prices leave the prices of both neighbours and return, as no market does.

A market that trades opens each bar near the close of the bar before. So an open or a close far from both neighbours is
an error. A high or a low at many times their prices is an error too. After a change of level, such as a new
denomination, prices do not return: that is a jump, not a spike.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SpikeBounds:
    """Bounds that separate a crash from an error.

    Attributes:
        max_reach: Greatest multiple of the highs of both neighbours that a high may reach; a low may fall to the same
            fraction of their lows.
        max_displacement: The same for open and close, if no bar is missing on either side.
        max_bars: Longest run of bars that is tested as one spike.
    """

    max_reach: float = 10.0
    max_displacement: float = 2.0
    max_bars: int = 3


class _Bars(NamedTuple):
    """Columns of bars, sorted by symbol and time; `symbol` is the number of the symbol's run of rows."""

    symbol: NDArray[np.uint32]
    open_ms: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats


class _Runs(NamedTuple):
    """Every run of `length` bars: its first bar, and the bars before and after it, -1 if the symbol has none."""

    length: int
    start: Ints
    before: Ints
    after: Ints

    @property
    def inner(self) -> Flags:
        """True for runs that have both neighbours."""
        return (self.before >= 0) & (self.after >= 0)


def spikes(frame: pl.DataFrame, step_ms: int, bounds: SpikeBounds) -> pl.DataFrame:
    """Find the spikes in a frame of bars.

    The first bar and the last bars of a symbol have one neighbour. For these only `max_reach` decides, and only if more
    bars lie on the other side of the neighbour. The last bars are tested again when later bars exist.

    Args:
        frame: Bars of one venue and interval, sorted by symbol and open_ms, one per key.
        step_ms: Interval of the bars in milliseconds.
        bounds: The bounds.

    Returns:
        The rows of `frame` that are spikes, with two more columns: `_from_ms` and `_to_ms`, the open times of the
        bars that each was compared with. On a side without a neighbour it is an own open time.
    """
    none = frame.clear().with_columns(_from_ms=pl.lit(0, pl.Int64), _to_ms=pl.lit(0, pl.Int64))
    suspects = _suspects(frame, min(bounds.max_reach, bounds.max_displacement))
    if not suspects:
        return none
    frame = frame.filter(pl.col("symbol").is_in(suspects))
    bars = _Bars(frame["symbol"].rle_id().to_numpy(), *(frame[name].to_numpy() for name in _Bars._fields[1:]))
    before, after = (np.full(frame.height, -1, dtype=np.int64) for _ in range(2))
    # Longer runs first: a shorter run overwrites them, so a bar gets the nearest of its possible neighbours.
    lengths = range(min(bounds.max_bars, frame.height), 0, -1)
    for runs in (_runs(bars, length) for length in lengths):
        _mark(runs, runs.inner & (_reach(bars, runs, bounds) | _displaced(bars, runs, step_ms, bounds)), before, after)
    is_spike = before >= 0
    for runs in (_runs(bars, length) for length in lengths):
        # If the neighbour is a spike, the neighbour is wrong and not this run.
        beside = is_spike[np.maximum(runs.before, runs.after)]
        _mark(runs, _outer(bars, runs) & ~beside & _reach(bars, runs, bounds), before, after)
    rows = np.flatnonzero(before >= 0)
    times = bars.open_ms
    return frame[rows].with_columns(
        pl.Series("_from_ms", times[before[rows]], pl.Int64), pl.Series("_to_ms", times[after[rows]], pl.Int64)
    )


def _suspects(frame: pl.DataFrame, bound: float) -> list[str]:
    """Return symbols with a step above `bound` between the highs or the lows of two bars.

    The other symbols have no spike. This one pass over the columns saves the arrays of all runs for nearly every lake.
    """
    same = pl.col("symbol") == pl.col("symbol").shift(1)
    steps = [pl.col(name) / pl.col(name).shift(1) for name in ("high", "low")]
    large = pl.any_horizontal([(step > bound) | (step * bound < 1.0) for step in steps])
    return frame.filter(same & large)["symbol"].unique().to_list()


def _runs(bars: _Bars, length: int) -> _Runs:
    start = np.arange(len(bars.symbol) - length + 1, dtype=np.int64)
    start = start[bars.symbol[start] == bars.symbol[start + length - 1]]
    before, after = start - 1, np.minimum(start + length, len(bars.symbol) - 1)
    own = bars.symbol[start]
    before = np.where((before >= 0) & (bars.symbol[before] == own), before, -1)
    after = np.where((after == start + length) & (bars.symbol[after] == own), after, -1)
    return _Runs(length, start, before, after)


def _outer(bars: _Bars, runs: _Runs) -> Flags:
    """Return True for runs that are the first or the last bars of a symbol and shorter than the symbol's other bars."""
    ends = np.flatnonzero(np.append(bars.symbol[1:] != bars.symbol[:-1], np.array([True]))) + 1
    starts = np.append(np.array([0]), ends[:-1])
    symbol = np.searchsorted(ends, runs.start, side="right")
    others = ends[symbol] - starts[symbol] - runs.length
    first = (runs.before < 0) & (runs.length == 1)
    last = (runs.after < 0) & (runs.before >= 0)
    is_outer: Flags = (first | last) & (others > runs.length)
    return is_outer


def _mark(runs: _Runs, selected: Flags, before: Ints, after: Ints) -> None:
    """Write the neighbours of the selected runs to `before` and `after`, at each bar of a run.

    On a side without a neighbour the run's own end is written.
    """
    first, last = runs.start[selected], runs.start[selected] + runs.length - 1
    low = np.where(runs.before[selected] >= 0, runs.before[selected], first)
    high = np.where(runs.after[selected] >= 0, runs.after[selected], last)
    for offset in range(runs.length):
        before[first + offset] = low
        after[first + offset] = high


def _reach(bars: _Bars, runs: _Runs, bounds: SpikeBounds) -> Flags:
    """Return True for runs whose highs or lows are beyond `max_reach` of the neighbours'."""
    up, down = _multiples(bars, runs)
    beyond: Flags = np.fmax(up, down) > bounds.max_reach
    return beyond


def _displaced(bars: _Bars, runs: _Runs, step_ms: int, bounds: SpikeBounds) -> Flags:
    """Return True for runs that open or close beyond `max_displacement` of both neighbours.

    After a missing bar the price may have moved, so both neighbours must be direct ones.
    """
    up, down = _multiples(bars, runs)
    ceiling, floor = _neighbour_range(bars, runs)
    opened, closed = bars.open[runs.start], bars.close[runs.start + runs.length - 1]
    high = np.minimum(up, np.maximum(opened, closed) / ceiling) > bounds.max_displacement
    low = np.minimum(down, floor / np.minimum(opened, closed)) > bounds.max_displacement
    direct = bars.open_ms[runs.after] - bars.open_ms[runs.before] == (runs.length + 1) * step_ms
    displaced: Flags = (high | low) & direct
    return displaced


def _multiples(bars: _Bars, runs: _Runs) -> tuple[Floats, Floats]:
    """Return the multiples by which all bars of each run exceed the neighbours' highs, and undercut their lows."""
    ceiling, floor = _neighbour_range(bars, runs)
    inside = [runs.start + offset for offset in range(runs.length)]
    highs = np.minimum.reduce([bars.high[rows] for rows in inside])
    lows = np.maximum.reduce([bars.low[rows] for rows in inside])
    return highs / ceiling, floor / lows


def _neighbour_range(bars: _Bars, runs: _Runs) -> tuple[Floats, Floats]:
    """Return the higher high and the lower low of the neighbours of each run; NaN if a symbol has no other bar."""
    sides = (runs.before, runs.after)
    highs = [np.where(side >= 0, bars.high[side], np.nan) for side in sides]
    lows = [np.where(side >= 0, bars.low[side], np.nan) for side in sides]
    return np.fmax(*highs), np.fmin(*lows)
