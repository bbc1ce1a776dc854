"""Bars and feature columns in memory, for work that needs no lake."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl

from kernels import features as kernel
from kernels.features import Column
from kernels.market import Floats
from mei_pipeline.candles.intervals import HOUR_MS, Intervals, interval_ms
from mei_pipeline.candles.sources.synthetic import SyntheticSource
from mei_pipeline.candles.sources.synthetic_bars import make_bars
from mei_pipeline.candles.sources.synthetic_config import SyntheticMarket
from mei_pipeline.candles.sources.synthetic_funding import make_funding
from mei_pipeline.errors import ConfigError
from mei_pipeline.progress import Progress, silent
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.market import DAY_MS, Bars, Steps

_SLICE_MS = 8 * DAY_MS  # what is held at the finest interval at a time


def threads_of(threads: int) -> int:
    """How many threads 0 stands for: one per processor that this process may use."""
    return threads or len(os.sched_getaffinity(0))


def synthetic_bars(market: SyntheticMarket, intervals: Intervals, progress: Progress = silent) -> Bars:
    """All bars of an invented market that has an end, made of whole days; progress is told of each day."""
    if market.to_ms is None:
        raise ConfigError("synthetic market: it has no end; set `to`")
    days = (market.to_ms - market.from_ms) // DAY_MS
    parts = []
    for start_ms in range(market.from_ms, market.to_ms, _SLICE_MS):
        stop_ms = min(start_ms + _SLICE_MS, market.to_ms)
        parts.append(make_bars(market, start_ms, stop_ms))
        progress((stop_ms - market.from_ms) // DAY_MS, days, "days of the market")
    prices = {
        name: np.concatenate([getattr(part, name).T for part in parts])
        for name in ("open", "high", "low", "close", "volume")
    }
    step_ms, finest_ms = interval_ms(intervals.step), interval_ms(market.interval)
    if step_ms > finest_ms:
        prices = coarser(prices, step_ms // finest_ms)
    terms = SyntheticSource(market).instruments()
    return bars_of(market.venue, intervals, market.from_ms, prices, _funding(market, market.to_ms, step_ms), terms)


def _funding(market: SyntheticMarket, end_ms: int, step_ms: int) -> Floats:
    """[T, S] funding rates that are due at the close of each step."""
    time_ms, rates, _ = make_funding(market, market.from_ms, end_ms + HOUR_MS)
    found = np.zeros(((end_ms - market.from_ms) // step_ms, len(market.symbols)))
    t = (time_ms - market.from_ms + step_ms - 1) // step_ms - 1
    inside = (t >= 0) & (t < len(found))
    np.add.at(found, t[inside], rates.T[inside])
    return found


def bars_of(
    venue: str,
    intervals: Intervals,
    open_ms: int,
    prices: Mapping[str, Floats],
    funding: Floats,
    instruments: pl.DataFrame,
) -> Bars:
    """Bars without gaps, as `market.load_bars` reads them from a lake.

    Args:
        venue: Venue of all bars.
        intervals: Intervals of features, entries and exits.
        open_ms: Open time of the first bar, on the grid of the main interval.
        prices: open, high, low, close and volume of the bars of the finest interval, each [T, S]; they are whole main
            bars.
        funding: [T, S] rates due in (open, close] of each of them, summed.
        instruments: One row per symbol, in the order of the arrays.
    """
    step_ms = interval_ms(intervals.step)
    ratio = intervals.main_ms // step_ms
    longer = coarser(prices, ratio)
    fine, main = (
        np.ascontiguousarray(np.stack([form[name] for name in ("open", "high", "low", "close")]))
        for form in (prices, longer)
    )
    symbols = tuple(instruments["symbol"])
    age = np.repeat(np.arange(main.shape[1], dtype=np.int64)[:, None], len(symbols), axis=1)
    return Bars(
        venue=venue,
        intervals=intervals,
        symbols=symbols,
        anchor_ms=open_ms,
        data_hash="",
        open_ms=open_ms + intervals.main_ms * np.arange(main.shape[1], dtype=np.int64),
        prices=main,
        volume=np.ascontiguousarray(longer["volume"]),
        age=age,
        steps=_steps(intervals, open_ms, fine, funding, age),
        instruments=instruments,
    )


def coarser(prices: Mapping[str, Floats], ratio: int) -> dict[str, Floats]:
    """Longer bars, each made of `ratio` of these; arrays [T, S] by name, as for `bars_of`."""
    parts = {name: values.reshape(-1, ratio, values.shape[1]) for name, values in prices.items()}
    return {
        "open": np.ascontiguousarray(parts["open"][:, 0]),
        "high": parts["high"].max(axis=1),
        "low": parts["low"].min(axis=1),
        "close": np.ascontiguousarray(parts["close"][:, -1]),
        "volume": parts["volume"].sum(axis=1),
    }


def _steps(intervals: Intervals, anchor_ms: int, fine: Floats, funding: Floats, age: np.ndarray) -> Steps:
    step_ms = interval_ms(intervals.step)
    passed = step_ms * np.arange(1, fine.shape[1] + 1, dtype=np.int64)
    row = passed // intervals.main_ms - 1
    closes_main = passed % intervals.main_ms == 0
    known = np.where(row >= 0, row, 0)
    return Steps(
        interval=intervals.step,
        open_ms=anchor_ms + passed - step_ms,
        prices=fine,
        present=np.ones(fine.shape[1:], dtype=bool),
        age=np.where(row[:, None] >= 0, age[known], -1),
        funding=funding,
        row=row,
        before=np.where(closes_main, np.maximum(row - 1, 0), row),
        enters=(passed % intervals.entry_ms == 0).astype(np.int64),
        exits=(passed % intervals.exit_ms == 0).astype(np.int64),
    )


def features_of(bars: Bars, columns: tuple[Column, ...], threads: int = 0) -> FeatureSet:
    """Compute `columns` over `bars`, a column for each thread at a time."""
    _, high, low, close = bars.prices
    out = np.empty((len(columns), *close.shape))

    def work(c: int) -> None:
        one = columns[c : c + 1]
        scratch = np.empty((close.shape[1], kernel.state_size(one[0])))
        kernel.build(*kernel.encode(one), high, low, close, bars.volume, out[c : c + 1], scratch)

    with ThreadPoolExecutor(threads_of(threads)) as pool:
        list(pool.map(work, range(len(columns))))
    return FeatureSet("", Path(), columns, out)
