"""Run combos of a strategy over a window: the one door between the domain and the compiled engine."""

import itertools
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from kernels import bind
from kernels.book import LOG_FIELDS, ORDER_FIELDS, Book
from kernels.cache import use_cache
from kernels.engine import RESULTS
from kernels.ledger import BLOCKS, POSITION_FIELDS
from kernels.market import FillModel, Floats, Ints
from kernels.params import Value
from kernels.strategies import load
from mei_pipeline.features import FeatureSet
from mei_pipeline.market import Window
from mei_pipeline.settings import Settings

_LOG_ROWS = 4096


@dataclass(frozen=True)
class Combos:
    """Encoded parameters of K combos of one strategy.

    Attributes:
        strategy: Name of the strategy.
        values: [P, K] encoded parameters in table order.
        rows: [F, K] feature column that each combo reads for each feature.
    """

    strategy: str
    values: Floats
    rows: Ints


@dataclass(frozen=True)
class Outcome:
    """What K combos did.

    Attributes:
        results: Value of each of `RESULTS`, each [K].
        days: [BLOCKS, 3, K] daily returns of each time block as (n, sum r, sum r²).
    """

    results: dict[str, Floats]
    days: Floats


@dataclass(frozen=True)
class Record:
    """What one combo did, event by event.

    Attributes:
        outcome: The same numbers that a sweep has for the combo.
        log: [LOG_FIELDS, N] fills and funding, oldest first.
        equity: [T] mark-to-market equity at each close of the window, in USD.
    """

    outcome: Outcome
    log: Floats
    equity: Floats


def engine(settings: Settings, strategy: str) -> ModuleType:
    """The compiled engine of `strategy`; its machine code is kept under the home folder."""
    use_cache(settings.kernel_cache)
    return bind.engine(strategy)


def encode_combos(strategy: str, features: FeatureSet, params: Mapping[str, list[Value] | Value], count: int) -> Combos:
    """Encode `count` combos.

    Args:
        strategy: Name of the strategy.
        features: Columns that hold every window the combos use.
        params: Value of each parameter by path: one for all combos, or a list with one for each.
        count: Number of combos.
    """
    table = load(strategy).PARAMETERS
    values = np.empty((len(table), count))
    for index, parameter in enumerate(table):
        given = params[parameter.path]
        if isinstance(given, list):
            values[index] = [parameter.encode(value) for value in given]
        else:
            values[index] = parameter.encode(given)
    windows = {p.path: values[i].astype(np.int64) for i, p in enumerate(table) if p.role == "feature"}
    return Combos(strategy, values, features.rows(strategy, windows))


def run_combos(
    settings: Settings, window: Window, model: FillModel, features: FeatureSet, combos: Combos, threads: int = 0
) -> Outcome:
    """Run every combo over the window.

    Args:
        settings: Says where compiled kernels are kept.
        window: What is traded.
        model: How orders become fills.
        features: Columns over the same bars as the window's.
        combos: What to run.
        threads: Threads to use; 0 means one per processor this process may use. Results do not depend on it.
    """
    compiled = engine(settings, combos.strategy)
    count = combos.values.shape[1]
    out = np.zeros((len(RESULTS), count))
    days = np.zeros((BLOCKS, 3, count))
    workers = min(threads or len(os.sched_getaffinity(0)), count)
    bounds = np.linspace(0, count, workers + 1).astype(int)

    def work(start: int, stop: int) -> None:
        book = _book(window, days)
        compiled.run_range(
            window.market,
            model,
            features.values,
            combos.rows,
            combos.values,
            start,
            stop,
            window.first,
            window.last,
            book,
            out,
        )

    with ThreadPoolExecutor(workers) as pool:
        for job in [pool.submit(work, int(a), int(b)) for a, b in itertools.pairwise(bounds)]:
            job.result()
    return Outcome(dict(zip(RESULTS, out, strict=True)), days)


def record_combo(
    settings: Settings, window: Window, model: FillModel, features: FeatureSet, combos: Combos, k: int = 0
) -> Record:
    """Run combo `k` again and keep every fill, every funding payment and the equity curve."""
    compiled = engine(settings, combos.strategy)
    one = Combos(combos.strategy, combos.values[:, k : k + 1].copy(), combos.rows[:, k : k + 1].copy())
    capacity = _LOG_ROWS
    while True:
        out = np.zeros((len(RESULTS), 1))
        days = np.zeros((BLOCKS, 3, 1))
        book = _book(window, days, capacity, window.last)
        compiled.run_range(
            window.market, model, features.values, one.rows, one.values, 0, 1, window.first, window.last, book, out
        )
        needed = int(book.logged[0])
        if needed <= capacity:
            outcome = Outcome(dict(zip(RESULTS, out, strict=True)), days)
            return Record(outcome, book.log[:, :needed], book.equity[window.first :])
        capacity = needed


def _book(window: Window, days: Floats, log_rows: int = 0, bars: int = 0) -> Book:
    symbols = window.market.close.shape[1]
    return Book(
        positions=np.zeros((POSITION_FIELDS, symbols)),
        orders=np.zeros((ORDER_FIELDS, symbols)),
        marks=np.zeros(symbols),
        wants=np.zeros(symbols),
        ranks=np.zeros(symbols),
        log=np.zeros((LOG_FIELDS, log_rows)),
        logged=np.zeros(1, dtype=np.int64),
        equity=np.zeros(bars),
        days=days,
    )
