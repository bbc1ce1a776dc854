"""The work of a night, "portfolio": `mei_alpha` over 50 invented symbols, a year of hours, 20 places.

The grid lies in config/bench/portfolio.yaml, written so that a combo trades as often as one of a real search does.
"""

from pathlib import Path

import numpy as np

from kernels.market import Floats
from mei_pipeline.bench.memory import bars_of, coarser
from mei_pipeline.bench.work import Work, make_work
from mei_pipeline.candles.intervals import HOUR_MS, Intervals, interval_ms, interval_problems
from mei_pipeline.candles.sources.synthetic import DEFAULT_FROM_MS, SyntheticMarket, SyntheticSource, make_bars
from mei_pipeline.candles.sources.synthetic_config import INSTRUMENTS
from mei_pipeline.candles.sources.synthetic_funding import make_funding
from mei_pipeline.config.load import read_sweep
from mei_pipeline.errors import ConfigError
from mei_pipeline.market import DAY_MS, Bars
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import CHECKOUT

GRID = CHECKOUT / "config" / "bench" / "portfolio.yaml"
SYMBOLS = 50
DAYS = 365
FINEST = "5m"
"""Bars of all intervals are made of these, so that the work is the same market whatever the exits."""

_SLICE_MS = 8 * DAY_MS  # so much of the market is made at once


def symbol_names(count: int) -> tuple[str, ...]:
    """Names of `count` symbols, sorted; the first of `INSTRUMENTS` have terms of their own."""
    known = list(INSTRUMENTS)[:count]
    return tuple(sorted([*known, *(f"S{i:02d}" for i in range(count - len(known)))]))


def market_bars(intervals: Intervals, symbols: int = SYMBOLS, days: int = DAYS, progress: Progress = silent) -> Bars:
    """Bars of the invented market, all made of the same bars of `FINEST`; progress is told of each day."""
    finest_ms = interval_ms(FINEST)
    market = SyntheticMarket(symbols=symbol_names(symbols), interval=FINEST, to_ms=DEFAULT_FROM_MS + days * DAY_MS)
    end_ms = market.from_ms + days * DAY_MS
    parts = []
    for start_ms in range(market.from_ms, end_ms, _SLICE_MS):
        stop_ms = min(start_ms + _SLICE_MS, end_ms)
        parts.append(make_bars(market, start_ms, stop_ms))
        progress((stop_ms - market.from_ms) // DAY_MS, days, "days of the market")
    prices = {
        name: np.concatenate([getattr(part, name).T for part in parts])
        for name in ("open", "high", "low", "close", "volume")
    }
    step_ms = interval_ms(intervals.step)
    if step_ms > finest_ms:
        prices = coarser(prices, step_ms // finest_ms)
    terms = SyntheticSource(market).instruments()
    return bars_of(market.venue, intervals, market.from_ms, prices, _funding(market, end_ms, step_ms), terms)


def _funding(market: SyntheticMarket, end_ms: int, step_ms: int) -> Floats:
    """[T, S] funding rates that are due at the close of each step."""
    time_ms, rates, _ = make_funding(market, market.from_ms, end_ms + HOUR_MS)
    found = np.zeros(((end_ms - market.from_ms) // step_ms, len(market.symbols)))
    t = (time_ms - market.from_ms + step_ms - 1) // step_ms - 1
    inside = (t >= 0) & (t < len(found))
    np.add.at(found, t[inside], rates.T[inside])
    return found


def make(
    exits: str = "",
    *,
    symbols: int = SYMBOLS,
    days: int = DAYS,
    combos: int = 0,
    grid: Path = GRID,
    progress: Progress = silent,
) -> Work:
    """The work, or less of it.

    Args:
        exits: Interval at whose closes exits are decided; empty for that of the features.
        symbols: Symbols of the book.
        days: Days of the market.
        combos: How many combos of the grid, evenly spread; 0 means all.
        grid: The sweep.
        progress: Told of each day of the market.

    Raises:
        ConfigError: The sweep is missing or wrong, or `exits` does not divide its interval or is finer than `FINEST`.
    """
    spec = read_sweep(grid)
    if exits:
        found = interval_problems(spec.interval, spec.entry_interval or "", exits)
        if found or interval_ms(exits) % interval_ms(FINEST):
            why = next(iter(found.values()), f"the market is made of bars of {FINEST}")
            raise ConfigError(f"exits {exits}: {why}")
        spec = spec.model_copy(update={"exit_interval": exits})
    return make_work(spec, market_bars(spec.intervals, symbols, days, progress), combos)
