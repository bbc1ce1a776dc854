"""Compile all kernels ahead of time, by one call of each with little data of the final types."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels import features as kernel
from kernels.book import make_book
from kernels.market import fill_model
from mei_pipeline.bench.portfolio import market_bars
from mei_pipeline.bench.work import timed
from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.execution.precompile import DRIVERS, driver_calls
from mei_pipeline.params.resolve import resolve
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress, silent
from mei_pipeline.selection.statistics import splits as compiled_splits
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.feature_sets import columns_of
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.memory import features_of
from mei_pipeline.simulation.run import load_simulation, run_block
from mei_pipeline.simulation.window import Window, cut_window

_DAYS = 16  # minimum of a window
_FEATURES = ("build", "observe", "warm")
_SPLITS = ("find_best", "count_ranks")
_SIMULATION = ("open_books", "run", "explain")


@dataclass(frozen=True)
class WarmedFunction:
    """A compiled function.

    Attributes:
        owner: Name of the strategy or of a shared module: `features`, `splits`.
        function: Name of the function.
        compiled: True if it was compiled now; False if its machine code was loaded from disk.
        seconds: Duration.
    """

    owner: str
    function: str
    compiled: bool
    seconds: float


@dataclass(frozen=True)
class _Call:
    """A call that compiles or loads a function."""

    owner: str
    function: Any
    call: Callable[[], Any]


def warm_up(
    settings: Settings, strategies: Sequence[str] = (), progress: Progress = silent
) -> tuple[Path, list[WarmedFunction]]:
    """Compile all functions that numba compiles, or load their machine code.

    Args:
        settings: Settings, for the folder of compiled kernels.
        strategies: Strategies to compile; empty for all.
        progress: Called after each function.

    Returns:
        Folder of the machine code, and the functions.

    Raises:
        ConfigError: There is no such strategy.
    """
    folder = use_kernels(settings)
    catalog = read_catalog()
    names = list(strategies) or list(catalog.strategies)
    for name in names:
        catalog.strategy(name)
    bars = market_bars(Intervals("1h"), symbols=2, days=_DAYS)
    cut = cut_window(bars, bars.anchor_ms, bars.end_ms)
    # The calls of a strategy need feature columns, so they are made after the features are compiled (`_of_strategy` is
    # a generator).
    of_strategies = (_of_strategy(settings, name, bars, cut) for name in names)
    calls = itertools.chain(_of_features(bars), _of_splits(), *of_strategies)
    total = len(_FEATURES) + len(_SPLITS) + len(names) * (len(_SIMULATION) + len(DRIVERS))
    done = []
    for index, call in enumerate(calls, 1):
        before = _misses(call.function)
        seconds, _ = timed(call.call)
        done.append(WarmedFunction(call.owner, _name(call.function), _misses(call.function) > before, seconds))
        progress(index, total, "kernels")
    return folder, done


def _of_features(bars: Bars) -> Iterator[_Call]:
    """Yield the calls of the functions for feature columns."""
    column = kernel.Column("close", ())
    kinds = kernel.encode((column,))
    _, high, low, close = bars.prices
    count = len(bars.symbols)

    def observe() -> None:
        columns = np.empty((1, 2, count))
        kernel.observe(*kinds, np.zeros((count, 0)), columns, high[0], low[0], close[0], bars.volume[0])

    def warm() -> None:
        columns = np.empty((1, 2, count))
        kernel.warm(*kinds, np.zeros((count, 0)), columns, high, low, close, bars.volume)

    calls = (lambda: features_of(bars, (column,), 1), observe, warm)
    for function, call in zip(_FEATURES, calls, strict=True):
        yield _Call("features", getattr(kernel, function), call)


def _of_splits() -> Iterator[_Call]:
    """Yield the calls of the functions for the probability of backtest overfitting."""
    splits, sums, returns = np.zeros((1, 2), dtype=np.int64), np.zeros((3, 2, 2)), np.zeros((1, 2))
    ratios = np.empty((2, 2))
    calls = (
        lambda: compiled_splits.find_best(splits, sums, sums, returns, returns.copy(), ratios),
        lambda: compiled_splits.count_ranks(splits, sums, sums, returns, splits.copy(), splits.copy(), ratios),
    )
    for function, call in zip(_SPLITS, calls, strict=True):
        yield _Call("splits", getattr(compiled_splits, function), call)


def _of_strategy(settings: Settings, name: str, bars: Bars, cut: Window) -> Iterator[_Call]:
    """Yield the calls of the functions of a strategy."""
    catalog = read_catalog()
    compiled = load_simulation(settings, name)
    params = resolve(catalog.strategy(name), {})
    model = fill_model(resolve(catalog.market_of(name), {}), 10_000.0)
    columns = columns_of(name, {path: (value,) for path, value in params.items()})
    features = features_of(bars, columns, 1)
    combos = encode_combos(name, features, params, 1, bars.symbols, benchmark="")
    market = combos.apply_to(cut.market)
    book = make_book(compiled.MEMORY, 1, len(bars.symbols), 1)

    def run() -> None:
        run_block(compiled, market, model, features.values, combos, (0, 1), (cut.first, cut.last))

    def explain() -> None:
        out = np.empty((len(compiled.GATES), 3))
        compiled.explain(market, features.values, combos.column_of, combos.signal_params, 0, cut.last - 1, 0, out)

    calls = (lambda: compiled.open_books(book, model.initial_usd), run, explain)
    for function, call in zip(_SIMULATION, calls, strict=True):
        yield _Call(name, getattr(compiled, function), call)
    for driver, call in driver_calls(settings, name):
        yield _Call(name, driver, call)


def _misses(function: Any) -> int:
    """Return how often numba compiled a function in this process; 0 if numba is switched off."""
    return sum(function.stats.cache_misses.values()) if hasattr(function, "stats") else 0


def _name(function: Any) -> str:
    """Return the name of a function without its module."""
    return str(function.__name__).rpartition(".")[2]
