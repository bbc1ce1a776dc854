"""The work of a night, "portfolio": `mei_alpha` over 50 invented symbols, a year of hours, 20 places.

The grid lies in config/bench/portfolio.yaml, written so that a combo trades as often as one of a real search does.
"""

from pathlib import Path

from mei_pipeline.bench.work import Work, make_work
from mei_pipeline.candles.intervals import DAY_MS, Intervals, interval_ms, interval_problems
from mei_pipeline.candles.sources.synthetic import DEFAULT_FROM_MS, SyntheticMarket
from mei_pipeline.candles.sources.synthetic_config import INSTRUMENTS
from mei_pipeline.config.load import read_sweep
from mei_pipeline.errors import ConfigError
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import CHECKOUT
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.memory import synthetic_bars

GRID = CHECKOUT / "config" / "bench" / "portfolio.yaml"
SYMBOLS = 50
DAYS = 365
FINEST = "5m"
"""Bars of all intervals are made of these, so that the work is the same market whatever the exits."""


def symbol_names(count: int) -> tuple[str, ...]:
    """Names of `count` symbols, sorted; the first of `INSTRUMENTS` have terms of their own."""
    known = list(INSTRUMENTS)[:count]
    return tuple(sorted([*known, *(f"S{i:02d}" for i in range(count - len(known)))]))


def market_bars(intervals: Intervals, symbols: int = SYMBOLS, days: int = DAYS, progress: Progress = silent) -> Bars:
    """Bars of the invented market, all made of the same bars of `FINEST`; progress is told of each day."""
    market = SyntheticMarket(symbols=symbol_names(symbols), interval=FINEST, to_ms=DEFAULT_FROM_MS + days * DAY_MS)
    return synthetic_bars(market, intervals, progress)


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
