"""Run combos of a strategy over a window, on processors or on a GPU.

The domain reaches the compiled kernels through this module and `device` alone.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from kernels import bind
from kernels.book import Book, make_book
from kernels.cuda.launch import CudaJob
from kernels.market import FillModel, Floats, Market, model_record, symbol_records
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.combos import Combos
from mei_pipeline.simulation.device import Gpu
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.kernel_cache import announce_compiling, use_kernels
from mei_pipeline.simulation.threads import give_way, thread_count
from mei_pipeline.simulation.window import Window

RESULTS = {
    "equity_usd": "equity",
    "max_drawdown_usd": "drawdown",
    "max_drawdown_frac": "drawdown_frac",
    "trades": "trades",
    "wins": "wins",
    "gross_profit_usd": "gross_profit",
    "gross_loss_usd": "gross_loss",
    "fees_usd": "fees",
    "funding_usd": "funding",
    "turnover_usd": "turnover",
    "fills": "fills",
    "bars_held": "bars_held",
    "open_positions": "open_positions",
    "liquidations": "liquidations",
    "refused": "refused",
}
"""Field of the account record that holds each result, by name of the result."""

_LOG_ROWS = 4096
_RECORDS = 4096  # records whose results are read together
_BLOCK = 256  # combos whose books one thread holds at a time
_TILE_VALUES = 131_072  # feature values of a tile: 1 MiB, which fits the cache of a core
_SHORTEST_TILE, _LONGEST_TILE = 16, 512


@dataclass(frozen=True)
class ComboOutcomes:
    """Results of K combos.

    Attributes:
        results: Value of each of `RESULTS`, each [K].
        days: [BLOCKS, 3, K] daily returns of each time block as (n, sum r, sum r²).
    """

    results: dict[str, Floats]
    days: Floats

    def slice(self, start: int, stop: int) -> "ComboOutcomes":
        """Return the outcomes of the combos [start, stop), in arrays of their own."""
        results = {name: values[start:stop] for name, values in self.results.items()}
        return ComboOutcomes(results, np.ascontiguousarray(self.days[:, :, start:stop]))


def join_outcomes(outcomes: Sequence[ComboOutcomes]) -> ComboOutcomes:
    """Return the outcomes of all combos, one after another."""
    names = outcomes[0].results
    results = {name: np.concatenate([outcome.results[name] for outcome in outcomes]) for name in names}
    return ComboOutcomes(results, np.concatenate([outcome.days for outcome in outcomes], axis=2))


@dataclass(frozen=True)
class ComboRecord:
    """Events and equity of one combo.

    Attributes:
        outcome: Results of the combo, equal to those of a sweep.
        log: [N] records of `kernels.book.LOG`: fills and funding, oldest first.
        equity: [T] mark-to-market equity at each close of the window, in USD.
        verdicts: [T, S] verdict of each symbol at each step of the window: an index into `kernels.book.VERDICTS`.
    """

    outcome: ComboOutcomes
    log: NDArray[np.record]
    equity: Floats
    verdicts: NDArray[np.int8]


def load_simulation(settings: Settings, strategy: str) -> ModuleType:
    """Return the compiled simulation of `strategy`; its machine code is kept in the cache of the settings.

    Raises:
        ConfigError: Another user may write to the cache, or owns a part of it.
    """
    # Checked once per strategy, before its machine code is loaded. A nightly run calls this for hundreds of segments,
    # and code that is already loaded needs no further check.
    folder = _checked_cache(settings, strategy)
    compiled = bind.simulation(strategy)
    if hasattr(compiled.run, "stats"):  # a plain function where NUMBA_DISABLE_JIT is set
        announce_compiling(folder, strategy)
    return compiled


def load_executor(settings: Settings, strategy: str) -> ModuleType:
    """Return the compiled functions that move a book of `strategy` step by step (`kernels/executor.py`).

    Raises:
        ConfigError: As for `load_simulation`.
    """
    folder = _checked_cache(settings, strategy)
    compiled = bind.executor(strategy)
    if hasattr(compiled.decide_step, "stats"):
        announce_compiling(folder, strategy, "executor.decide_step")
    return compiled


@functools.lru_cache(maxsize=8)
def _checked_cache(settings: Settings, strategy: str) -> Path:  # noqa: ARG001 - the strategy is the key of the cache
    """Return the folder of machine code, after a check that no other user may write to the cache."""
    return use_kernels(settings)


def run_combos(
    settings: Settings,
    window: Window,
    model: FillModel,
    features: FeatureSet,
    combos: Combos,
    threads: int = 0,
    *,
    gpu: Gpu | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ComboOutcomes:
    """Run every combo over the window. Results depend neither on threads nor on the device.

    Args:
        settings: Settings, for the folder of compiled kernels.
        window: Days to trade.
        model: Fill model.
        features: Columns over the main bars of the window.
        combos: Combos to run.
        threads: Number of threads; 0 uses one per processor that this process may use.
        gpu: GPU to run on; None runs on processors.
        stop: Called between tiles on a GPU; the run stops when it returns True.

    Raises:
        Retryable: The GPU was lost or has too little memory, or `stop` returned True.
    """
    market = combos.apply_to(window.market)
    # A simulation computes signals once per run of neighbours with the same signal group.
    order = None
    if (np.diff(combos.signal_group_of) < 0).any():
        order = np.argsort(combos.signal_group_of, kind="stable")
    neighbours = combos if order is None else combos.take(order)
    steps = (window.first, window.last)
    if gpu is None:
        compiled = load_simulation(settings, combos.strategy)
        accounts, days = _on_processors(compiled, market, model, features.values, neighbours, steps, threads)
    else:
        job = CudaJob(
            neighbours.signal_group_of,
            neighbours.params,
            combos.signal_params,
            combos.column_of,
            *steps,
            model.initial_usd,
        )
        accounts, days = gpu.run(market, model, features.values, job, stop)
    if order is None:
        return ComboOutcomes(_results(accounts), days)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return ComboOutcomes(_results(accounts[back]), days[:, :, back])


def _on_processors(
    compiled: ModuleType,
    market: Market,
    model: FillModel,
    columns: Floats,
    combos: Combos,
    steps: tuple[int, int],
    threads: int,
) -> tuple[NDArray[np.record], Floats]:
    """Return accounts [K] and daily returns [BLOCKS, 3, K] of the combos; a thread runs a block of them at a time."""
    workers = min(thread_count(threads), len(combos))
    blocks = max(workers, -(-len(combos) // _BLOCK))
    bounds = np.linspace(0, len(combos), blocks + 1).astype(int)

    def work(block: tuple[int, int]) -> tuple[NDArray[np.record], Floats]:
        book = run_block(compiled, market, model, columns, combos, block, steps)
        return book.accounts, book.days

    with ThreadPoolExecutor(workers, initializer=give_way) as pool:
        done = list(pool.map(work, itertools.pairwise(map(int, bounds))))
    return np.concatenate([accounts for accounts, _ in done]), np.concatenate([days for _, days in done], axis=2)


def _results(accounts: NDArray[np.record]) -> dict[str, Floats]:
    """Return each of `RESULTS` as an array."""
    results: dict[str, Floats] = {
        name: np.empty(len(accounts), accounts.dtype[field]) for name, field in RESULTS.items()
    }
    # Each field is a pass over the records. A few thousand records stay in the cache of a core between passes.
    for start in range(0, len(accounts), _RECORDS):
        part = slice(start, start + _RECORDS)
        for name, field in RESULTS.items():
            results[name][part] = accounts[part][field]
    return results


def run_block(  # noqa: PLR0913 - the arguments of the compiled simulation, by name
    compiled: ModuleType,
    market: Market,
    model: FillModel,
    columns: Floats,
    combos: Combos,
    which: tuple[int, int],
    steps: tuple[int, int],
    *,
    tile: int = 0,
    log_rows: int = 0,
    recorded: bool = False,
) -> Book:
    """Run the combos `which` over the steps `steps` in this thread, starting flat. Results do not depend on the tile.

    Args:
        compiled: Compiled simulation of the strategy.
        market: The market with the symbol groups of the combos (`Combos.apply_to`).
        model: Fill model.
        columns: [C, T, S] feature columns.
        combos: The combos.
        which: First combo, and one past the last.
        steps: First step, and one past the last.
        tile: Steps per tile; 0 chooses a length.
        log_rows: Number of rows in the log.
        recorded: True to keep equity and verdicts of each step.
    """
    start, stop = which
    symbols = market.close.shape[1]
    length = tile or tile_steps(symbols, combos.column_of.shape[2])
    book = make_book(
        compiled.MEMORY,
        stop - start,
        symbols,
        length,
        log_rows=log_rows,
        recorded_steps=steps[1] if recorded else 0,
    )
    compiled.open_books(book, model.initial_usd)
    compiled.run(
        market,
        model_record(model, market),
        symbol_records(market),
        columns,
        combos.column_of,
        combos.signal_params,
        combos.signal_group_of[start:stop],
        combos.params[start:stop],
        steps[0],
        steps[1],
        book,
    )
    return book


def tile_steps(symbols: int, features: int) -> int:
    """Return the length of a tile whose features fit the cache of a core, in steps."""
    return max(_SHORTEST_TILE, min(_LONGEST_TILE, _TILE_VALUES // (symbols * max(features, 1))))


def record_combo(
    settings: Settings, window: Window, model: FillModel, features: FeatureSet, combos: Combos, k: int = 0
) -> ComboRecord:
    """Run combo `k` and keep every fill, every funding payment, the equity curve and every verdict."""
    compiled = load_simulation(settings, combos.strategy)
    market = combos.apply_to(window.market)
    log_rows = _LOG_ROWS
    # The number of log rows is known only after the run. A log that was too short is followed by one that fits.
    while True:
        book = run_block(
            compiled,
            market,
            model,
            features.values,
            combos,
            (k, k + 1),
            (window.first, window.last),
            log_rows=log_rows,
            recorded=True,
        )
        needed = int(book.accounts[0].logged)
        if needed <= log_rows:
            outcome = ComboOutcomes(_results(book.accounts), book.days)
            first = window.first
            return ComboRecord(outcome, book.log[:needed], book.equity[first:], book.verdicts[first:])
        log_rows = needed
