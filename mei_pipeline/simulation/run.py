"""Run combos of a strategy over a window: the one door between the domain and the compiled engine."""

import functools
import itertools
import os
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
from mei_pipeline.simulation.market import Window

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
"""Names of results, and the field of the account that holds each."""

_LOG_ROWS = 4096
_RECORDS = 4096  # whose results are read together
_BLOCK = 256  # combos whose books one thread holds at once
_TILE_VALUES = 131_072  # feature values of a tile: a megabyte, which a core's cache holds
_SHORTEST_TILE, _LONGEST_TILE = 16, 512

SymbolParams = Mapping[str, Mapping[str, Value]]


@dataclass(frozen=True)
class Combos:
    """Encoded parameters of K combos of one strategy, for G groups of symbols with values of their own.

    Attributes:
        strategy: Name of the strategy.
        params: [K, G] records of all parameters.
        signal_params: [E, G] records of the parameters that shape signals, one row for each distinct set, in the order
            of their first combos.
        signal_group_of: [K] which set each combo has.
        column_of: [E, G, F] feature column that each set reads for each feature.
        symbol_group: [S] group of each symbol; 0 is the base.
        benchmark: [1] index of the benchmark symbol; -1 where none is read.
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

    def on(self, market: Market) -> Market:
        """The market as these combos see it: with their groups of symbols and their benchmark."""
        return market._replace(symbol_group=self.symbol_group, benchmark=self.benchmark)

    def taken(self, which: Ints) -> "Combos":
        """The combos of these numbers, in their order."""
        return replace(self, params=self.params[which], signal_group_of=self.signal_group_of[which])


@dataclass(frozen=True)
class ComboOutcomes:
    """What K combos did.

    Attributes:
        results: Value of each of `RESULTS`, each [K].
        days: [BLOCKS, 3, K] daily returns of each time block as (n, sum r, sum r²).
    """

    results: dict[str, Floats]
    days: Floats

    def part(self, start: int, stop: int) -> "ComboOutcomes":
        """The combos [start, stop), in memory as if they had been run by themselves."""
        results = {name: values[start:stop] for name, values in self.results.items()}
        return ComboOutcomes(results, np.ascontiguousarray(self.days[:, :, start:stop]))


def join_outcomes(outcomes: Sequence[ComboOutcomes]) -> ComboOutcomes:
    """The combos of all outcomes, in order."""
    names = outcomes[0].results
    results = {name: np.concatenate([outcome.results[name] for outcome in outcomes]) for name in names}
    return ComboOutcomes(results, np.concatenate([outcome.days for outcome in outcomes], axis=2))


@dataclass(frozen=True)
class ComboRecord:
    """What one combo did, event by event.

    Attributes:
        outcome: The same numbers that a sweep has for the combo.
        log: [N] records of `kernels.book.LOG`: fills and funding, oldest first.
        equity: [T] mark-to-market equity at each close of the window, in USD.
        verdicts: [T, S] what became of each symbol at each step of the window, an index of `kernels.book.VERDICTS`.
    """

    outcome: ComboOutcomes
    log: NDArray[np.record]
    equity: Floats
    verdicts: NDArray[np.int8]


def load_simulation(settings: Settings, strategy: str) -> ModuleType:
    """The compiled engine of `strategy`; its machine code is kept in the cache of the settings.

    The cache is checked before an engine is loaded from it: a night runs hundreds of legs by the engine that it has.

    Raises:
        ConfigError: Another user may write to the cache, or owns a part of it.
    """
    folder = _checked(settings, strategy)
    compiled = bind.simulation(strategy)
    if hasattr(compiled.run, "stats"):  # a plain function where NUMBA_DISABLE_JIT is set
        announce_compiling(folder, strategy)
    return compiled


@functools.lru_cache(maxsize=8)
def _checked(settings: Settings, strategy: str) -> Path:  # noqa: ARG001 - each strategy is checked before it is loaded
    """The folder of machine code, in a cache that nobody else may write to."""
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
        features: Columns that hold every window the combos use.
        params: Value of each parameter by path: one for all combos, or one for each.
        count: Number of combos.
        symbols: Symbols of the market, in its order.
        symbol_params: Values that a symbol has instead, by symbol and path.
        benchmark: Symbol of the market that gives context; empty where the combos read none.
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
    # Columns that all combos share tell none apart, and rows of a few columns sort many times faster.
    differs = (flat != flat[:1]).any(axis=0)
    differs[:1] = True
    _, first, signal_group_of = np.unique(flat[:, differs], axis=0, return_index=True, return_inverse=True)
    # In order of appearance the neighbours of a grid need not be sorted to be run, nor their results to be handed on.
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
    rows = np.stack([features.column_numbers(strategy, by_path) for by_path in windows])
    return Combos(
        strategy=strategy,
        params=_records(table, encoded.transpose(2, 0, 1)),
        signal_params=_records([table[index] for index in shaping], sets),
        signal_group_of=signal_group_of.astype(np.int64),
        column_of=np.array(
            np.broadcast_to(rows.transpose(2, 0, 1), (len(sets), len(groups), rows.shape[1])), order="C"
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
    """Run every combo over the window. Results depend neither on threads nor on what runs them.

    Args:
        settings: Says where compiled kernels are kept.
        window: What is traded.
        model: How orders become fills.
        features: Columns over the main bars of the window.
        combos: What to run.
        threads: Threads to use; 0 means one per processor this process may use.
        gpu: What to use instead of processors.
        stop: Asked now and then by a GPU, whether to stop.

    Raises:
        Retryable: The GPU was lost, has no memory, or was told to stop.
    """
    market = combos.on(window.market)
    order = None
    if (np.diff(combos.signal_group_of) < 0).any():
        order = np.argsort(combos.signal_group_of, kind="stable")
    neighbours = combos if order is None else combos.taken(order)
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
    """Accounts [K] and daily returns [BLOCKS, 3, K] of the combos, a block of them at a time in each thread."""
    workers = min(threads or len(os.sched_getaffinity(0)), len(combos))
    blocks = max(workers, -(-len(combos) // _BLOCK))
    bounds = np.linspace(0, len(combos), blocks + 1).astype(int)

    def work(block: tuple[int, int]) -> tuple[NDArray[np.record], Floats]:
        book = run_block(compiled, market, model, columns, combos, block, steps)
        return book.accounts, book.days

    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(work, itertools.pairwise(map(int, bounds))))
    return np.concatenate([accounts for accounts, _ in done]), np.concatenate([days for _, days in done], axis=2)


def _results(accounts: NDArray[np.record]) -> dict[str, Floats]:
    found: dict[str, Floats] = {name: np.empty(len(accounts), accounts.dtype[field]) for name, field in RESULTS.items()}
    # Every field runs through all records: a few thousand of them stay in a core's cache meanwhile.
    for start in range(0, len(accounts), _RECORDS):
        part = slice(start, start + _RECORDS)
        for name, field in RESULTS.items():
            found[name][part] = accounts[part][field]
    return found


def run_block(  # noqa: PLR0913 - the arguments of the compiled engine, by name
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
    """Run the combos `which` over the steps `steps` from flat, in this thread; results do not depend on the tile.

    Args:
        compiled: The strategy's engine.
        market: The market as the combos see it (`Combos.on`).
        model: How orders become fills.
        columns: [C, T, S] feature columns.
        combos: The combos.
        which: First combo, and one past the last.
        steps: First step, and one past the last.
        tile: Steps of a tile; 0 chooses.
        log_rows: Rows of the log.
        recorded: Keep equity and verdicts.
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
    """Steps of a tile whose features stay in a core's cache."""
    return max(_SHORTEST_TILE, min(_LONGEST_TILE, _TILE_VALUES // (symbols * max(features, 1))))


def record_combo(
    settings: Settings, window: Window, model: FillModel, features: FeatureSet, combos: Combos, k: int = 0
) -> ComboRecord:
    """Run combo `k` again and keep every fill, every funding payment, the equity curve and every verdict."""
    compiled = load_simulation(settings, combos.strategy)
    market = combos.on(window.market)
    rows = _LOG_ROWS
    while True:
        book = run_block(
            compiled,
            market,
            model,
            features.values,
            combos,
            (k, k + 1),
            (window.first, window.last),
            log_rows=rows,
            recorded=True,
        )
        needed = int(book.accounts[0].logged)
        if needed <= rows:
            outcome = ComboOutcomes(_results(book.accounts), book.days)
            first = window.first
            return ComboRecord(outcome, book.log[:needed], book.equity[first:], book.verdicts[first:])
        rows = needed
