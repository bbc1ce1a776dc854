"""Bars of a set of symbols as arrays, and the steps that a simulation takes through them."""

import functools
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.market import Floats, Ints, last_prices_of
from mei_pipeline.candles.intervals import Intervals, interval_ms
from mei_pipeline.simulation.endings import Ending, endings_of
from mei_pipeline.simulation.terms import Terms, terms_of

PRICES = ("open", "high", "low", "close")
"""Prices of a bar, in the order of the arrays."""

_DELISTED = {"symbol": pl.String, "delisted_ms": pl.Int64}


@dataclass(frozen=True)
class Steps:
    """The steps of a simulation: bars of the finest interval in use, and their place among the main bars.

    Attributes:
        interval: Length of a step.
        open_ms: [T] open time of each step; the first is the anchor.
        prices: [4, T, S] open, high, low, close; NaN where there is no bar.
        present: [T, S] True where the symbol has a bar.
        age: [T, S] number of main bars of the symbol that have closed at the close of the step, minus one; -1 where the
            symbol has no bar at the step or no closed main bar.
        funding: [T, S] sum of the funding rates due in (open, close] of each step.
        row: [T] last main bar that has closed at the close of the step; -1 before the first.
        previous_row: [T] main bar to compare `row` with. At the close of a main bar: `row` - 1, at least 0. At other
            steps: `row`.
        enters: [T] 1 at each close of the entry interval, else 0.
        exits: [T] 1 at each close of the exit interval, else 0.
    """

    interval: str
    open_ms: Ints
    prices: Floats
    present: NDArray[np.bool_]
    age: Ints
    funding: Floats
    row: Ints
    previous_row: Ints
    enters: Ints
    exits: Ints

    @property
    def step_ms(self) -> int:
        """Length of a step in milliseconds."""
        return interval_ms(self.interval)

    @property
    def close_ms(self) -> Ints:
        """[T] close time of each step."""
        return self.open_ms + self.step_ms

    @functools.cached_property
    def last_prices(self) -> Floats:
        """[T, S] last known close at each step."""
        # Cached, so that all windows over the same bars share one array.
        return last_prices_of(self.prices[3])


@dataclass(frozen=True)
class Bars:
    """Main bars of S symbols from an anchor on, the steps between them, and the instruments.

    Attributes:
        venue: Venue of all bars.
        intervals: Intervals of features, entries and exits.
        symbols: Names, in the order of the last axis of the arrays.
        anchor_ms: Open time of the first bar of the grid.
        data_hash: Hash of the content that was read, independent of the lake's files: the bars of every interval, the
            funding due between the anchor and the end, and the history of each instrument. Empty for bars in memory.
        open_ms: [T] open time of each main bar.
        prices: [4, T, S] open, high, low, close of main bars; NaN where there is no bar.
        volume: [T, S] volume of main bars in base coin; NaN where there is no bar.
        age: [T, S] number of earlier main bars of the symbol; -1 where there is no bar.
        steps: Steps of a simulation; with a single interval their arrays are those of the main bars.
        instruments: Terms of each symbol over time: at least one row per symbol, sorted by symbol and `from_ms`.
    """

    venue: str
    intervals: Intervals
    symbols: tuple[str, ...]
    anchor_ms: int
    data_hash: str
    open_ms: Ints
    prices: Floats
    volume: Floats
    age: Ints
    steps: Steps
    instruments: pl.DataFrame

    @property
    def interval(self) -> str:
        """Interval of the main bars."""
        return self.intervals.main

    @property
    def interval_ms(self) -> int:
        """Length of a main bar in milliseconds."""
        return self.intervals.main_ms

    @property
    def end_ms(self) -> int:
        """End of the last main bar of the grid."""
        return self.anchor_ms + len(self.open_ms) * self.interval_ms

    @functools.cached_property
    def endings(self) -> tuple[Ending, ...]:
        """Symbols that end before the bars do, sorted by step."""
        history = self.instruments if "delisted_ms" in self.instruments.columns else pl.DataFrame(schema=_DELISTED)
        rows = history.select(*_DELISTED).drop_nulls().iter_rows()
        delisted = [(self.symbols.index(name), int(time_ms)) for name, time_ms in rows]
        return endings_of(self.steps.present, self.steps.open_ms, self.steps.step_ms, delisted)

    @functools.cached_property
    def terms(self) -> Terms:
        """Terms of the venue at each step."""
        return terms_of(self.instruments, self.symbols, self.anchor_ms, self.steps.step_ms, self.endings)

    @property
    def candles(self) -> int:
        """Number of bars that were read, over all intervals."""
        main = int((self.age >= 0).sum())
        return main if self.steps.interval == self.interval else main + int(self.steps.present.sum())


def make_steps(intervals: Intervals, open_ms: Ints, prices: Floats, funding: Floats, main_age: Ints) -> Steps:
    """Return the steps over bars of the finest interval.

    Args:
        intervals: Intervals of features, entries and exits.
        open_ms: [T] open time of each bar of the finest interval; the first is the anchor.
        prices: [4, T, S] open, high, low, close of these bars; NaN where there is no bar.
        funding: [T, S] sum of the funding rates due in (open, close] of each of these bars.
        main_age: [main bars, S] ages of the main bars, see `main_ages`; shared if a step is a main bar.
    """
    since_anchor_ms = open_ms + intervals.step_ms - open_ms[0]
    row = since_anchor_ms // intervals.main_ms - 1
    closes_main = since_anchor_ms % intervals.main_ms == 0
    present = ~np.isnan(prices[-1])
    return Steps(
        interval=intervals.step,
        open_ms=open_ms,
        prices=prices,
        present=present,
        age=main_age if intervals.step == intervals.main else _step_ages(main_age, present, row),
        funding=funding,
        row=row,
        previous_row=np.where(closes_main, np.maximum(row - 1, 0), row),
        # Shorter intervals divide the main one, so their grids pass through the anchor.
        enters=(since_anchor_ms % intervals.entry_ms == 0).astype(np.int64),
        exits=(since_anchor_ms % intervals.exit_ms == 0).astype(np.int64),
    )


def main_ages(present: NDArray[np.bool_]) -> Ints:
    """Return the number of earlier main bars of each symbol, [T, S]; -1 where it has no bar."""
    return np.where(present, np.cumsum(present, axis=0) - 1, -1).astype(np.int64)


def _step_ages(main_age: Ints, present: NDArray[np.bool_], row: Ints) -> Ints:
    """Return the ages of symbols at the steps, [T, S]; see `Steps.age`."""
    # Row -1, before the first main bar has closed, reads the leading zero.
    none = np.zeros((1, main_age.shape[1]), dtype=np.int64)
    closed = np.concatenate((none, np.cumsum(main_age >= 0, axis=0)))[row + 1]
    return np.where(present, closed - 1, -1)


def context_only(bars: Bars, symbol: str) -> Bars:
    """Return the bars with `symbol` readable as context but never traded."""
    column = bars.symbols.index(symbol)
    age = bars.steps.age.copy()
    # An age of -1 means "no bar at this step": no signal and no fill.
    age[:, column] = -1
    return replace(bars, steps=replace(bars.steps, age=age))
