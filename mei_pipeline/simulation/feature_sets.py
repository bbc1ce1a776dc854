"""Feature columns on disk: computed once per slice of the lake, then memory-mapped by every process."""

import functools
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels import features as kernel
from kernels.cache import source_hash
from kernels.features import Column, Use
from kernels.market import Floats, Ints
from kernels.params import Value
from kernels.strategies import load
from mei_pipeline import files
from mei_pipeline.errors import ConfigError
from mei_pipeline.progress import Progress, silent
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.threads import give_way, thread_count


@dataclass(frozen=True)
class FeatureSet:
    """Columns of features over the bars of some symbols.

    Attributes:
        key: Hash of everything that the values depend on, and name of the folder; empty for columns in memory.
        folder: Folder of `columns.npy`.
        columns: Identity of each column.
        values: [C, T, S] values on main bars; NaN before a symbol's first bar. A memory map whose writes stay private
            to the process.
    """

    key: str
    folder: Path
    columns: tuple[Column, ...]
    values: Floats

    def column_numbers(self, strategy: str, params: Mapping[str, Ints]) -> Ints:
        """Return the number of the column that each combo reads for each feature of `strategy`.

        Args:
            strategy: Name of the strategy.
            params: Window parameters by path, each [K].

        Returns:
            [features, K]; K is 1 if `params` is empty.
        """
        count = len(next(iter(params.values()), [0]))
        numbers = [self.column_numbers_of(use, params, count) for use in load(strategy).FEATURES]
        return np.array(numbers, dtype=np.int64).reshape(-1, count)

    def column_numbers_of(self, use: Use, params: Mapping[str, Ints], count: int) -> Ints:
        """Return the number of the column that each of `count` combos reads for one feature, [K].

        `params` is as in `column_numbers`.
        """
        if not use.paths:
            return np.full(count, self._index[Column(use.kind, ())], dtype=np.int64)
        distinct, which = np.stack([params[path] for path in use.paths]), np.zeros(1, dtype=np.int64)
        if count > 1:  # a replay has a single combo, which needs no sorting
            # There are many combos and few distinct windows, so only the distinct ones are looked up.
            distinct, which = np.unique(distinct, axis=1, return_inverse=True)
        numbers = [self._index[Column(use.kind, tuple(windows))] for windows in distinct.T.tolist()]
        return np.array(numbers, dtype=np.int64)[which.reshape(-1)]

    @functools.cached_property
    def _index(self) -> dict[Column, int]:
        """Number of each column."""
        return {column: number for number, column in enumerate(self.columns)}


def columns_of(strategy: str, values: Mapping[str, Iterable[Value]]) -> tuple[Column, ...]:
    """Return every column that `strategy` reads for some combination of the values of its windows, sorted.

    Args:
        strategy: Name of the strategy.
        values: Values of each window parameter by path; other paths are ignored.
    """
    return tuple(sorted({column for use in load(strategy).FEATURES for column in columns_of_use(use, values)}))


def columns_of_use(use: Use, values: Mapping[str, Iterable[Value]]) -> Iterator[Column]:
    """Yield the column of one feature for each combination of the values of its windows.

    `values` is as in `columns_of`.
    """
    paths = tuple(dict.fromkeys(use.paths))
    for windows in itertools.product(*(values[path] for path in paths)):
        by_path = dict(zip(paths, windows, strict=True))
        yield Column(use.kind, tuple(int(by_path[path]) for path in use.paths))


def build_features(bars: Bars, columns: tuple[Column, ...], folder: Path, progress: Progress = silent) -> FeatureSet:
    """Compute `columns` over `bars` on all processors, or map them from disk if they exist.

    Args:
        bars: The bars, from the anchor on.
        columns: Columns to compute.
        folder: Folder of all feature sets; the subfolder of this one is named by its key.
        progress: Called after each column.

    Raises:
        ConfigError: A window is longer than the bars.
        Retryable: The disk is full.
        DataError: The folder can't be written.
    """
    length = len(bars.open_ms)
    longest = max((window for column in columns for window in column.windows), default=0)
    if longest > length:
        raise ConfigError(
            f"feature window of {longest} bars: longer than the {length} bars of {bars.interval}; load more bars, or "
            f"shorten the window"
        )
    identity = {
        "kernels": source_hash(),
        "venue": bars.venue,
        "interval": bars.interval,
        "symbols": bars.symbols,
        "anchor_ms": bars.anchor_ms,
        "end_ms": bars.end_ms,
        "data": bars.data_hash,
        "columns": columns,
    }
    key = files.sha256_json(identity)[:16]
    own_folder = folder / key
    array = own_folder / "columns.npy"
    description = own_folder / "features.json"
    if not (description.exists() and array.exists()):
        with files.replacing(array) as temporary:
            out = np.lib.format.open_memmap(
                temporary, mode="w+", dtype=np.float64, shape=(len(columns), length, len(bars.symbols))
            )
            # Writing to a memory map of a full disk kills the process with SIGBUS. Allocating first raises an error.
            with temporary.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
            compute_columns(bars, columns, out, thread_count(0), progress)
            out.flush()
            del out
        files.write_json(description, json.loads(files.canonical_json({**identity, "bytes": array.stat().st_size})))
    return FeatureSet(key, own_folder, columns, np.load(array, mmap_mode="c"))


def compute_columns(
    bars: Bars, columns: tuple[Column, ...], out: Floats, threads: int, progress: Progress = silent
) -> None:
    """Compute `columns` into `out` [C, T, S], one column per thread at a time; call `progress` after each."""
    _, high, low, close = bars.prices

    def compute(c: int) -> None:
        column = columns[c : c + 1]
        scratch = np.empty((close.shape[1], kernel.state_size(column[0])))
        kernel.build(*kernel.encode(column), high, low, close, bars.volume, out[c : c + 1], scratch)

    pool = ThreadPoolExecutor(threads, initializer=give_way)
    try:
        jobs = [pool.submit(compute, c) for c in range(len(columns))]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            progress(done, len(columns), "feature columns")
    finally:
        # After an interrupt or an error only the columns in progress are waited for.
        pool.shutdown(cancel_futures=True)
