"""Bars and feature columns in memory, for work without a lake."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from kernels.features import Column
from kernels.market import Floats
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS, Intervals, interval_ms
from mei_pipeline.candles.sources.synthetic import SyntheticSource
from mei_pipeline.candles.sources.synthetic_bars import make_bars
from mei_pipeline.candles.sources.synthetic_config import SyntheticMarket
from mei_pipeline.candles.sources.synthetic_funding import make_funding
from mei_pipeline.errors import ConfigError
from mei_pipeline.progress import Progress, silent
from mei_pipeline.simulation.bars import PRICES, Bars, main_ages, make_steps
from mei_pipeline.simulation.feature_sets import FeatureSet, compute_columns
from mei_pipeline.simulation.threads import thread_count

_SLICE_MS = 8 * DAY_MS  # bars of the finest interval are made in slices of this length


def synthetic_bars(market: SyntheticMarket, intervals: Intervals, progress: Progress = silent) -> Bars:
    """Return all bars of a synthetic market with an end, in whole days.

    Args:
        market: The market.
        intervals: Intervals of features, entries and exits.
        progress: Called with the number of days made.

    Raises:
        ConfigError: The market has no end.
    """
    if market.to_ms is None:
        raise ConfigError("synthetic market: it has no end; set `to`")
    days = (market.to_ms - market.from_ms) // DAY_MS
    parts = []
    for start_ms in range(market.from_ms, market.to_ms, _SLICE_MS):
        stop_ms = min(start_ms + _SLICE_MS, market.to_ms)
        parts.append(make_bars(market, start_ms, stop_ms))
        progress((stop_ms - market.from_ms) // DAY_MS, days, "days of the market")
    arrays = {name: np.concatenate([getattr(part, name).T for part in parts]) for name in (*PRICES, "volume")}
    step_ms, finest_ms = interval_ms(intervals.step), interval_ms(market.interval)
    if step_ms > finest_ms:
        arrays = merge_bars(arrays, step_ms // finest_ms)
    terms = SyntheticSource(market).instruments()
    return bars_of(
        market.venue, intervals, market.from_ms, arrays, _rates_by_step(market, market.to_ms, step_ms), terms
    )


def _rates_by_step(market: SyntheticMarket, end_ms: int, step_ms: int) -> Floats:
    """Return the sum of the funding rates of each step, [T, S]."""
    # A payment may be stamped up to an hour after it was due.
    time_ms, rates, _ = make_funding(market, market.from_ms, end_ms + HOUR_MS)
    by_step = np.zeros(((end_ms - market.from_ms) // step_ms, len(market.symbols)))
    # A payment belongs to the step with open < due <= close.
    t = (time_ms - market.from_ms + step_ms - 1) // step_ms - 1
    inside = (t >= 0) & (t < len(by_step))
    np.add.at(by_step, t[inside], rates.T[inside])
    return by_step


def bars_of(
    venue: str,
    intervals: Intervals,
    open_ms: int,
    arrays: Mapping[str, Floats],
    funding: Floats,
    instruments: pl.DataFrame,
) -> Bars:
    """Return bars without gaps, in the form in which `loading.load_bars` reads them from a lake.

    Args:
        venue: Venue of all bars.
        intervals: Intervals of features, entries and exits.
        open_ms: Open time of the first bar, on the grid of the main interval.
        arrays: open, high, low, close and volume of the bars of the finest interval, each [T, S], T a whole number of
            main bars.
        funding: [T, S] sum of the funding rates due in (open, close] of each of these bars.
        instruments: One row per symbol, in the order of the arrays.
    """
    main_arrays = merge_bars(arrays, intervals.main_ms // intervals.step_ms)
    fine, main = (np.ascontiguousarray(np.stack([bars[name] for name in PRICES])) for bars in (arrays, main_arrays))
    main_age = main_ages(np.ones(main.shape[1:], dtype=bool))
    step_open_ms = open_ms + intervals.step_ms * np.arange(fine.shape[1], dtype=np.int64)
    return Bars(
        venue=venue,
        intervals=intervals,
        symbols=tuple(instruments["symbol"]),
        anchor_ms=open_ms,
        data_hash="",
        open_ms=open_ms + intervals.main_ms * np.arange(main.shape[1], dtype=np.int64),
        prices=main,
        volume=np.ascontiguousarray(main_arrays["volume"]),
        age=main_age,
        steps=make_steps(intervals, step_open_ms, fine, funding, main_age),
        instruments=instruments,
    )


def merge_bars(arrays: Mapping[str, Floats], ratio: int) -> dict[str, Floats]:
    """Return longer bars, each merged from `ratio` bars; arrays [T, S] by name, as for `bars_of`."""
    groups = {name: values.reshape(-1, ratio, values.shape[1]) for name, values in arrays.items()}
    return {
        "open": np.ascontiguousarray(groups["open"][:, 0]),
        "high": groups["high"].max(axis=1),
        "low": groups["low"].min(axis=1),
        "close": np.ascontiguousarray(groups["close"][:, -1]),
        "volume": groups["volume"].sum(axis=1),
    }


def features_of(bars: Bars, columns: tuple[Column, ...], threads: int = 0) -> FeatureSet:
    """Compute `columns` over `bars` in memory; `threads` 0 uses all processors."""
    out = np.empty((len(columns), *bars.volume.shape))
    compute_columns(bars, columns, out, thread_count(threads))
    return FeatureSet("", Path(), columns, out)
