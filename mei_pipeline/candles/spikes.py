"""Bars that no market makes: they leave the prices of both neighbours and come back.

A market that trades opens each bar near the close of the one before. So a bar with an open or a close far from both
neighbours is an error, and so is a high or a low at many times their prices. A change of level, such as a new
denomination, does not come back: it is a jump, and no spike.
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
    """The bounds between a crash and an error.

    Attributes:
        max_reach: Greatest multiple of the highs of both neighbours that a high may reach; a low may fall to the same
            fraction of their lows.
        max_displacement: The same for open and close, where no bar is missing on either side.
        max_bars: Longest run of bars that is judged as one spike.
    """

    max_reach: float = 10.0
    max_displacement: float = 2.0
    max_bars: int = 3


class _Bars(NamedTuple):
    """Columns of bars, sorted by symbol and time; `symbol` is a number that changes with the symbol."""

    symbol: NDArray[np.uint32]
    open_ms: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats


class _Runs(NamedTuple):
    """Every run of some length: its first bar, and the bars before and after it, -1 where the symbol has none."""

    length: int
    start: Ints
    before: Ints
    after: Ints

    @property
    def inner(self) -> Flags:
        """Whether both neighbours exist."""
        return (self.before >= 0) & (self.after >= 0)


def spikes(frame: pl.DataFrame, step_ms: int, bounds: SpikeBounds) -> pl.DataFrame:
    """Find the bars that no market makes.

    The first bar and the last bars of a symbol have one neighbour. There `max_reach` alone decides, and only if more
    bars lie on the other side of that neighbour; the last bars are judged again when others follow.

    Args:
        frame: Bars of one venue and interval, sorted by symbol and open_ms, one per key.
        step_ms: Their interval in milliseconds.
        bounds: The bounds.

    Returns:
        The rows of `frame` that are spikes, with two more columns: `_from_ms` and `_to_ms`, the open times of the
        bars that each was compared with, or its own where there is none.
    """
    none = frame.clear().with_columns(_from_ms=pl.lit(0, pl.Int64), _to_ms=pl.lit(0, pl.Int64))
    suspects = _suspects(frame, min(bounds.max_reach, bounds.max_displacement))
    if not suspects:
        return none
    frame = frame.filter(pl.col("symbol").is_in(suspects))
    bars = _Bars(frame["symbol"].rle_id().to_numpy(), *(frame[name].to_numpy() for name in _Bars._fields[1:]))
    before, after = (np.full(frame.height, -1, dtype=np.int64) for _ in range(2))
    # Longer runs first, so that a bar in several is said to lie between its nearest neighbours.
    lengths = range(min(bounds.max_bars, frame.height), 0, -1)
    for runs in (_runs(bars, length) for length in lengths):
        _mark(runs, runs.inner & (_reach(bars, runs, bounds) | _displaced(bars, runs, step_ms, bounds)), before, after)
    marked = before >= 0
    for runs in (_runs(bars, length) for length in lengths):
        # Beside a spike it is the neighbour that is wrong.
        beside = marked[np.maximum(runs.before, runs.after)]
        _mark(runs, _outer(bars, runs) & ~beside & _reach(bars, runs, bounds), before, after)
    rows = np.flatnonzero(before >= 0)
    times = bars.open_ms
    return frame[rows].with_columns(
        pl.Series("_from_ms", times[before[rows]], pl.Int64), pl.Series("_to_ms", times[after[rows]], pl.Int64)
    )


def _suspects(frame: pl.DataFrame, bound: float) -> list[str]:
    """Symbols with a step of more than `bound` between the highs or the lows of two bars; the others have no spike."""
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
    """Whether a run is the first bar or the last bars of a symbol, and shorter than what it is compared with."""
    ends = np.flatnonzero(np.append(bars.symbol[1:] != bars.symbol[:-1], np.array([True]))) + 1
    starts = np.append(np.array([0]), ends[:-1])
    symbol = np.searchsorted(ends, runs.start, side="right")
    others = ends[symbol] - starts[symbol] - runs.length
    first = (runs.before < 0) & (runs.length == 1)
    last = (runs.after < 0) & (runs.before >= 0)
    found: Flags = (first | last) & (others > runs.length)
    return found


def _mark(runs: _Runs, found: Flags, before: Ints, after: Ints) -> None:
    """Note for each bar of the runs that were found which bars they lie between; the run's own ends where none is."""
    first, last = runs.start[found], runs.start[found] + runs.length - 1
    low = np.where(runs.before[found] >= 0, runs.before[found], first)
    high = np.where(runs.after[found] >= 0, runs.after[found], last)
    for offset in range(runs.length):
        before[first + offset] = low
        after[first + offset] = high


def _reach(bars: _Bars, runs: _Runs, bounds: SpikeBounds) -> Flags:
    up, down = _multiples(bars, runs)
    found: Flags = np.fmax(up, down) > bounds.max_reach
    return found


def _displaced(bars: _Bars, runs: _Runs, step_ms: int, bounds: SpikeBounds) -> Flags:
    """Whether a run opens or closes away from both neighbours: the next bar of a market opens near the close."""
    up, down = _multiples(bars, runs)
    ceiling, floor = _around(bars, runs)
    opened, closed = bars.open[runs.start], bars.close[runs.start + runs.length - 1]
    high = np.minimum(up, np.maximum(opened, closed) / ceiling) > bounds.max_displacement
    low = np.minimum(down, floor / np.minimum(opened, closed)) > bounds.max_displacement
    direct = bars.open_ms[runs.after] - bars.open_ms[runs.before] == (runs.length + 1) * step_ms
    found: Flags = (high | low) & direct
    return found


def _multiples(bars: _Bars, runs: _Runs) -> tuple[Floats, Floats]:
    """How far every bar of each run reaches above its neighbours' highs, and below their lows, as a multiple."""
    ceiling, floor = _around(bars, runs)
    inside = [runs.start + offset for offset in range(runs.length)]
    highs = np.minimum.reduce([bars.high[rows] for rows in inside])
    lows = np.maximum.reduce([bars.low[rows] for rows in inside])
    return highs / ceiling, floor / lows


def _around(bars: _Bars, runs: _Runs) -> tuple[Floats, Floats]:
    """Higher high and lower low of the neighbours of each run; NaN where a symbol has no other bar."""
    sides = (runs.before, runs.after)
    highs = [np.where(side >= 0, bars.high[side], np.nan) for side in sides]
    lows = [np.where(side >= 0, bars.low[side], np.nan) for side in sides]
    return np.fmax(*highs), np.fmin(*lows)
