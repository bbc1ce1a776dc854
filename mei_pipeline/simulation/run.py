"""Run combos of a strategy over a window, on processors or on a GPU.

The domain reaches the compiled kernels through this module and `device` alone.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import bind
from kernels.book import Book, make_book
from kernels.cuda.launch import CudaJob
from kernels.market import FillModel, Floats, Ints, Market, model_record, symbol_records
from kernels.params import SIGNAL_ROLES, Parameter, Value, record_of
from kernels.strategies import load
from mei_pipeline.params.grid import CodedValues
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.device import Gpu
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.kernel_cache import announce_compiling, use_kernels
from mei_pipeline.simulation.threads import thread_count
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

SymbolParams = Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True)
class Combos:
    """Encoded parameters of K combos of one strategy, for G symbol groups.

    A symbol group is a set of symbols with the same parameter values. Combos in the same signal group share all
    parameters that shape signals, so their signals are computed once.

    Attributes:
        strategy: Name of the strategy.
        params: [K, G] records of all parameters.
        signal_params: [E, G] records of the parameters that shape signals, one row per signal group; the groups are in
            the order in which the combos first have them.
        signal_group_of: [K] signal group of each combo.
        column_of: [E, G, F] feature column of each signal group, symbol group and feature.
        symbol_group: [S] symbol group of each symbol; 0 is the base.
        benchmark: [1] index of the benchmark symbol; -1 if none is read.
    """

    strategy: str
    params: NDArray[np.record]
    signal_params: NDArray[np.record]
    signal_group_of: Ints
    column_of: Ints
    symbol_group: Ints
    benchmark: Ints

    def __len__(self) -> int:
        return len(self.signal_group_of)

    def apply_to(self, market: Market) -> Market:
        """Return the market with the symbol groups and the benchmark of these combos."""
        return market._replace(symbol_group=self.symbol_group, benchmark=self.benchmark)

    def take(self, which: Ints) -> "Combos":
        """Return the combos of these numbers, in their order."""
        return replace(self, params=self.params[which], signal_group_of=self.signal_group_of[which])


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


@functools.lru_cache(maxsize=8)
def _checked_cache(settings: Settings, strategy: str) -> Path:  # noqa: ARG001 - the strategy is the key of the cache
    """Return the folder of machine code, after a check that no other user may write to the cache."""
    return use_kernels(settings)


def encode_combos(
    strategy: str,
    features: FeatureSet,
    params: Mapping[str, CodedValues | Value],
    count: int,
    symbols: tuple[str, ...],
    symbol_params: SymbolParams | None = None,
    *,
    benchmark: str,
) -> Combos:
    """Encode `count` combos.

    Args:
        strategy: Name of the strategy.
        features: Columns for every window that the combos use.
        params: Value of each parameter by path: one value for all combos, or one per combo.
        count: Number of combos.
        symbols: Symbols of the market, in its order.
        symbol_params: Values of single symbols, by symbol and path; they replace those of `params`.
        benchmark: Benchmark symbol, one of `symbols`; empty if the combos read none.
    """
    table: tuple[Parameter, ...] = load(strategy).PARAMETERS
    own = {name: dict(values) for name, values in (symbol_params or {}).items() if values}
    groups: list[dict[str, Value]] = [{}]
    for values in own.values():
        if values not in groups:
            groups.append(values)
    group = np.array([groups.index(own.get(name, {})) for name in symbols], dtype=np.int64)
    encoded = np.empty((len(groups), len(table), count))
    for g, values in enumerate(groups):
        for index, parameter in enumerate(table):
            given = values.get(parameter.path, params[parameter.path])
            if isinstance(given, CodedValues):
                encoded[g, index] = np.array([parameter.encode(value) for value in given.values])[given.codes]
            else:
                encoded[g, index] = parameter.encode(given)
    shaping = [index for index, parameter in enumerate(table) if parameter.role in SIGNAL_ROLES]
    flat = encoded[:, shaping].transpose(2, 0, 1).reshape(count, -1)
    # Only columns that differ tell combos apart, and short rows sort many times faster.
    differs = (flat != flat[:1]).any(axis=0)
    differs[:1] = True
    _, first, signal_group_of = np.unique(flat[:, differs], axis=0, return_index=True, return_inverse=True)
    # Signal groups are numbered in order of appearance. The combos of a grid are then already in order of their group,
    # so neither the combos nor their results need sorting.
    appearance = np.argsort(first)
    first, signal_group_of = first[appearance], np.argsort(appearance)[signal_group_of.reshape(-1)]
    sets = flat[first].reshape(len(first), len(groups), len(shaping))
    windows = [
        {
            table[index].path: sets[:, g, place].astype(np.int64)
            for place, index in enumerate(shaping)
            if table[index].role == "feature"
        }
        for g in range(len(groups))
    ]
    numbers = np.stack([features.column_numbers(strategy, by_path) for by_path in windows])
    return Combos(
        strategy=strategy,
        params=_records(table, encoded.transpose(2, 0, 1)),
        signal_params=_records([table[index] for index in shaping], sets),
        signal_group_of=signal_group_of.astype(np.int64),
        column_of=np.array(
            np.broadcast_to(numbers.transpose(2, 0, 1), (len(sets), len(groups), numbers.shape[1])), order="C"
        ),
        symbol_group=group,
        benchmark=np.array([symbols.index(benchmark) if benchmark else -1], dtype=np.int64),
    )


def _records(table: Any, values: Floats) -> NDArray[np.record]:
    return np.ascontiguousarray(values).view(record_of(table))[..., 0]


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

    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(work, itertools.pairwise(map(int, bounds))))
    return np.concatenate([accounts for accounts, _ in done]), np.concatenate([days for _, days in done], axis=2)


def _results(accounts: NDArray[np.record]) -> dict[str, Floats]:
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
        which: First combo and one history the last.
        steps: First step and one history the last.
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
