"""Search methods: the combos that each chunk of a sweep runs."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from mei_pipeline.errors import DataError
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import chunk_path, damaged_chunk
from mei_pipeline.sweep.search import tpe
from mei_pipeline.sweep.search.permutation import Permutation
from mei_pipeline.sweep.search.visited import VisitedCombos

_UNFIT = -1e15  # below every metric; adding a number of trades to it loses no digit


class SearchMethod(Protocol):
    """Chooses combos; the caller requests chunks in ascending order, each at most once."""

    def chunks_needed(self, index: int, /) -> int:
        """Return the number of first chunks that must be on disk before chunk `index` can be chosen."""

    def numbers(self, index: int) -> Ints:
        """Return the numbers of the combos of chunk `index`, ascending."""


def make_method(plan: SweepPlan, folder: Path) -> SearchMethod:
    """Return the search method of a plan.

    Args:
        plan: The plan.
        folder: Folder of its chunks.
    """
    if plan.search.method == "tpe":
        return _TpeSearch(plan, folder)
    return _RandomSearch(plan) if plan.search.method == "random" else _GridSearch(plan)


@dataclass(frozen=True)
class _GridSearch:
    """Every combo in the order of numbers."""

    plan: SweepPlan

    def chunks_needed(self, _: int) -> int:
        return 0

    def numbers(self, index: int) -> Ints:
        places = self.plan.chunk(index)
        return np.arange(places.start, places.stop, dtype=np.int64)


@dataclass(frozen=True)
class _RandomSearch:
    """The beginning of a random order of the grid; each chunk is sorted, so that neighbours have similar parameters."""

    plan: SweepPlan

    def chunks_needed(self, _: int) -> int:
        return 0

    def numbers(self, index: int) -> Ints:
        places = self.plan.chunk(index)
        order = Permutation(self.plan.grid.combos, self.plan.search.seed)
        return np.sort(order.at(np.arange(places.start, places.stop, dtype=np.int64)))


@dataclass
class _TpeSearch:
    """Batches of `tpe`: functions of the plan, the number of the batch, and the rows of batches that it may use.

    A chunk is a part of a batch. The state is the same after reading chunks from disk and after proposing them, so that
    a resumed sweep proposes the same batches.
    """

    plan: SweepPlan
    folder: Path
    _visited: VisitedCombos = field(default_factory=VisitedCombos)
    _batches_chosen: int = 0
    _batches_learned: int = 0

    def __post_init__(self) -> None:
        self._grid = self.plan.grid
        self._history = tpe.no_history(self._grid)
        self._id = self.plan.id
        self._batch = np.zeros(0, dtype=np.int64)

    def chunks_needed(self, index: int) -> int:
        batch = index // self.plan.chunks_of_batch
        return max(0, batch - self.plan.search.lag + 1) * self.plan.chunks_of_batch

    def numbers(self, index: int) -> Ints:
        batch, places = index // self.plan.chunks_of_batch, self.plan.chunk(index)
        if batch >= self._batches_chosen:
            self._batch = self._propose(batch)
        first = batch * self.plan.batch
        return self._batch[places.start - first : places.stop - first]

    def _propose(self, batch: int) -> Ints:
        """Return the numbers of the combos of a batch, ascending."""
        # A batch that this process did not propose is on disk, because an earlier process ran it.
        for earlier in range(self._batches_chosen, batch):
            self._visited.add(self._rows(earlier)[0])
        for earlier in range(self._batches_learned, max(0, batch - self.plan.search.lag + 1)):
            numbers, scores = self._rows(earlier)
            self._history = tpe.learn(self._history, self._grid.digits(numbers), scores)
            self._batches_learned = earlier + 1
        seed = int.from_bytes(hashlib.sha256(f"{self._id} {batch}".encode()).digest())
        count = min(self.plan.batch, self.plan.combos - batch * self.plan.batch)
        proposed = tpe.propose(self._grid, self._history, self._visited, count, seed)
        self._visited.add(proposed)
        self._batches_chosen = batch + 1
        return proposed

    def _rows(self, batch: int) -> tuple[Ints, Floats]:
        """Return numbers and scores of the combos of a batch on disk."""
        first = batch * self.plan.chunks_of_batch
        last = min(first + self.plan.chunks_of_batch, self.plan.chunks)
        frame = pl.concat([self._read(index) for index in range(first, last)])
        search = self.plan.search
        return frame["combo"].to_numpy(), scores(frame, search.objective, search.min_trades)

    def _read(self, index: int) -> pl.DataFrame:
        path = chunk_path(self.folder, self.plan, index)
        try:
            return pl.read_parquet(path, glob=False, columns=["combo", "trades", self.plan.search.objective])
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(damaged_chunk(path, error)) from None


def scores(frame: pl.DataFrame, objective: str, min_trades: int) -> Floats:
    """Return the score of each row, which `tpe` maximises: the metric if the combo has enough trades.

    A combo with fewer trades is below all others, and fewer trades are worse. A metric without a value is above all
    others: a profit factor without a loss has none.
    """
    few = pl.col("trades") < min_trades
    score = pl.when(few).then(_UNFIT + pl.col("trades")).otherwise(pl.col(objective).fill_null(float("inf")))
    return frame.select(score.cast(pl.Float64).alias("score"))["score"].to_numpy()
