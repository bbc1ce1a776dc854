"""Feature columns on disk: computed once per slice of the lake, memory-mapped by whoever reads them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernels import features as kernel
from kernels.cache import source_hash
from kernels.features import Column
from kernels.market import Floats, Ints
from kernels.params import Value
from kernels.strategies import load
from mei_pipeline import files
from mei_pipeline.errors import ConfigError
from mei_pipeline.market import Bars
from mei_pipeline.progress import Progress, silent


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

    def rows(self, strategy: str, params: Mapping[str, Ints]) -> Ints:
        """Which column each combo reads for each feature of `strategy`.

        Args:
            strategy: Name of the strategy.
            params: Window parameters by path, each [K].

        Returns:
            [features, K].
        """
        index = {column: row for row, column in enumerate(self.columns)}
        uses = load(strategy).FEATURES
        return np.array([[index[Column(use.kind, int(w))] for w in params[use.path]] for use in uses], dtype=np.int64)


def columns_of(strategy: str, values: Mapping[str, Iterable[Value]]) -> tuple[Column, ...]:
    """Every column that `strategy` may read when its window parameters take these values, sorted."""
    uses = load(strategy).FEATURES
    return tuple(sorted({Column(use.kind, int(window)) for use in uses for window in values[use.path]}))


def build_features(bars: Bars, columns: tuple[Column, ...], folder: Path, progress: Progress = silent) -> FeatureSet:
    """Compute `columns` over `bars`, or map them when they are already there.

    Args:
        bars: The bars, from the anchor on.
        columns: Columns to compute.
        folder: Folder of all feature sets; this one gets a subfolder named by its key.
        progress: Told of each finished column.

    Raises:
        ConfigError: A window is longer than the bars.
        DataError: The disk is full or the folder can't be written.
    """
    length = len(bars.open_ms)
    longest = max(column.window for column in columns)
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
        kinds, weights = kernel.encode(columns)
        with files.replacing(array) as temporary:
            out = np.lib.format.open_memmap(
                temporary, mode="w+", dtype=np.float64, shape=(len(columns), length, len(bars.symbols))
            )
            for index in range(len(columns)):
                one = slice(index, index + 1)
                _, high, low, close = bars.prices
                kernel.build(kinds[one], weights[one], high, low, close, out[one])
                progress(index + 1, len(columns), "feature columns")
            out.flush()
            del out
        files.write_json(note, json.loads(files.canonical_json({**identity, "bytes": array.stat().st_size})))
    return FeatureSet(key, place, columns, np.load(array, mmap_mode="c"))
