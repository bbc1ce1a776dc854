"""The benchmark `portfolio`: `mei_alpha` over 50 synthetic symbols, a year of hourly bars, 20 places.

The grid is config/bench/portfolio.yaml. Its combos trade about as often as those of a real search.
"""

from pathlib import Path

from mei_pipeline.bench.work import BenchWork, make_work
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
"""Bars of all intervals are merged from bars of this one, so the market is the same for all intervals of exits."""


def symbol_names(count: int) -> tuple[str, ...]:
    """Return `count` names of symbols, sorted; those of `INSTRUMENTS`, which have terms of their own, come first."""
    real = list(INSTRUMENTS)[:count]
    return tuple(sorted([*real, *(f"S{i:02d}" for i in range(count - len(real)))]))


def market_bars(intervals: Intervals, symbols: int = SYMBOLS, days: int = DAYS, progress: Progress = silent) -> Bars:
    """Return the bars of the synthetic market, merged from bars of `FINEST`; `progress` is called after each day."""
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
) -> BenchWork:
    """Return the work, optionally reduced.

    Args:
        exits: Interval at whose closes exits are decided; empty for that of the features.
        symbols: Number of symbols.
        days: Number of days.
        combos: Number of combos, spread over the grid; 0 for all.
        grid: File of the sweep.
        progress: Called after each day of the market.

    Raises:
        ConfigError: The sweep is missing or invalid, or `exits` does not divide its interval or is finer than `FINEST`.
    """
    spec = read_sweep(grid)
    if exits:
        problems = interval_problems(spec.interval, spec.entry_interval or "", exits)
        if problems or interval_ms(exits) % interval_ms(FINEST):
            why = next(iter(problems.values()), f"the market has bars of {FINEST}; choose a multiple of it")
            raise ConfigError(f"exits {exits}: {why}")
        spec = spec.model_copy(update={"exit_interval": exits})
    return make_work(spec, market_bars(spec.intervals, symbols, days, progress), combos)
