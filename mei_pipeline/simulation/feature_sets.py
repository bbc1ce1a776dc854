"""Feature columns on disk: computed once per slice of the lake, memory-mapped by whoever reads them."""

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
from mei_pipeline.simulation.market import Bars


@dataclass(frozen=True)
class FeatureSet:
    """Columns of features over the bars of some symbols.

    Attributes:
        key: Hash of everything that the numbers depend on; the name of the folder.
        folder: Where `columns.npy` lies.
        columns: Identity of each column.
        values: [C, T, S], memory-mapped; a write would stay private to the process; NaN before a symbol's first bar.
    """

    key: str
    folder: Path
    columns: tuple[Column, ...]
    values: Floats

    def column_numbers(self, strategy: str, params: Mapping[str, Ints]) -> Ints:
        """Which column each combo reads for each feature of `strategy`.

        Args:
            strategy: Name of the strategy.
            params: Window parameters by path, each [K].

        Returns:
            [features, K]; without window parameters K is 1.
        """
        count = len(next(iter(params.values()), [0]))
        rows = [self.column_numbers_of(use, params, count) for use in load(strategy).FEATURES]
        return np.array(rows, dtype=np.int64).reshape(-1, count)

    def column_numbers_of(self, use: Use, params: Mapping[str, Ints], count: int) -> Ints:
        """Which column each of `count` combos reads for one feature, [K]; `params` as in `rows`."""
        if not use.paths:
            return np.full(count, self._index[Column(use.kind, ())], dtype=np.int64)
        distinct, which = np.stack([params[path] for path in use.paths]), np.zeros(1, dtype=np.int64)
        if count > 1:  # a replay has one combo, which needs no sorting
            # Combos are many and distinct windows few: only these are looked up.
            distinct, which = np.unique(distinct, axis=1, return_inverse=True)
        found = [self._index[Column(use.kind, tuple(windows))] for windows in distinct.T.tolist()]
        return np.array(found, dtype=np.int64)[which.reshape(-1)]

    @functools.cached_property
    def _index(self) -> dict[Column, int]:
        """Row of each column."""
        return {column: row for row, column in enumerate(self.columns)}


def columns_of(strategy: str, values: Mapping[str, Iterable[Value]]) -> tuple[Column, ...]:
    """Every column that `strategy` may read when its window parameters take these values in any combination, sorted.

    Args:
        strategy: Name of the strategy.
        values: Values of each window parameter by path; other paths are ignored.
    """
    return tuple(sorted({column for use in load(strategy).FEATURES for column in columns_of_use(use, values)}))


def columns_of_use(use: Use, values: Mapping[str, Iterable[Value]]) -> Iterator[Column]:
    """Columns of one feature, one for each combination of the values of its windows; `values` as in `columns_of`."""
    paths = tuple(dict.fromkeys(use.paths))
    for windows in itertools.product(*(values[path] for path in paths)):
        by_path = dict(zip(paths, windows, strict=True))
        yield Column(use.kind, tuple(int(by_path[path]) for path in use.paths))


def build_features(bars: Bars, columns: tuple[Column, ...], folder: Path, progress: Progress = silent) -> FeatureSet:
    """Compute `columns` over `bars` on all processors, or map them when they are already there.

    Args:
        bars: The bars, from the anchor on.
        columns: Columns to compute.
        folder: Folder of all feature sets; this one gets a subfolder named by its key.
        progress: Told of each finished column.

    Raises:
        ConfigError: A window is longer than the bars.
        Retryable: The disk is full.
        DataError: The folder can't be written.
    """
    length = len(bars.open_ms)
    longest = max((window for column in columns for window in column.windows), default=0)
    if longest > length:
        raise ConfigError(f"feature window of {longest} bars: there are only {length} bars of {bars.interval}")
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
    place = folder / key
    array = place / "columns.npy"
    note = place / "features.json"
    if not (note.exists() and array.exists()):
        with files.replacing(array) as temporary:
            out = np.lib.format.open_memmap(
                temporary, mode="w+", dtype=np.float64, shape=(len(columns), length, len(bars.symbols))
            )
            # A page that finds the disk full when it is written kills the process: its room is taken here.
            with temporary.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
            _compute(bars, columns, out, progress)
            out.flush()
            del out
        files.write_json(note, json.loads(files.canonical_json({**identity, "bytes": array.stat().st_size})))
    return FeatureSet(key, place, columns, np.load(array, mmap_mode="c"))


def _compute(bars: Bars, columns: tuple[Column, ...], out: Floats, progress: Progress) -> None:
    """Fill `out` [C, T, S], a column for each processor at a time."""
    _, high, low, close = bars.prices

    def work(c: int) -> None:
        one = columns[c : c + 1]
        scratch = np.empty((close.shape[1], kernel.state_size(one[0])))
        kernel.build(*kernel.encode(one), high, low, close, bars.volume, out[c : c + 1], scratch)

    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        jobs = [pool.submit(work, c) for c in range(len(columns))]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            progress(done, len(columns), "feature columns")
    finally:
        # An interrupt or an error waits for the columns at work, not for all.
        pool.shutdown(cancel_futures=True)
