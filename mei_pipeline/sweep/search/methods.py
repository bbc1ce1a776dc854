"""Which combos each chunk of a sweep runs."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from mei_pipeline.errors import DataError
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import chunk_path
from mei_pipeline.sweep.search import tpe
from mei_pipeline.sweep.search.permutation import Permutation
from mei_pipeline.sweep.search.visited import Known

_UNFIT = -1e15  # below every metric, and single trades still count beside it


class Choice(Protocol):
    """Chooses combos; chunks are asked for in ascending order, each at most once."""

    def needs(self, index: int, /) -> int:
        """How many of the first chunks must be on disk before the combos of chunk `index` can be chosen."""

    def numbers(self, index: int) -> Ints:
        """Numbers of the combos of chunk `index`, ascending."""


def choice_of(plan: SweepPlan, folder: Path) -> Choice:
    """How the combos of a plan are chosen.

    Args:
        plan: The plan.
        folder: Where its chunks are.
    """
    if plan.search.method == "tpe":
        return _Learned(plan, folder)
    return _Sampled(plan) if plan.search.method == "random" else _All(plan)


@dataclass(frozen=True)
class _All:
    """Every combo, in order of numbers."""

    plan: SweepPlan

    def needs(self, _: int) -> int:
        return 0

    def numbers(self, index: int) -> Ints:
        places = self.plan.chunk(index)
        return np.arange(places.start, places.stop, dtype=np.int64)


@dataclass(frozen=True)
class _Sampled:
    """The first places of a random order of the grid; in a chunk by number, so that neighbours are alike."""

    plan: SweepPlan

    def needs(self, _: int) -> int:
        return 0

    def numbers(self, index: int) -> Ints:
        places = self.plan.chunk(index)
        order = Permutation(self.plan.grid.combos, self.plan.search.seed)
        return np.sort(order.at(np.arange(places.start, places.stop, dtype=np.int64)))


@dataclass
class _Learned:
    """Batches of `tpe`, each a function of the plan, its own number and the rows of the batches that it may know.

    A chunk is a part of a batch. What is held is the same whether it came from chunks on disk or from batches proposed
    here, so it does not matter where an earlier process stopped.
    """

    plan: SweepPlan
    folder: Path
    _known: Known = field(default_factory=Known)
    _chosen: int = 0
    _learned: int = 0

    def __post_init__(self) -> None:
        self._grid = self.plan.grid
        self._past = tpe.nothing(self._grid)
        self._id = self.plan.id
        self._batch = np.zeros(0, dtype=np.int64)

    def needs(self, index: int) -> int:
        batch = index // self.plan.chunks_of_batch
        return max(0, batch - self.plan.search.lag + 1) * self.plan.chunks_of_batch

    def numbers(self, index: int) -> Ints:
        batch, places = index // self.plan.chunks_of_batch, self.plan.chunk(index)
        if batch >= self._chosen:
            self._batch = self._propose(batch)
        first = batch * self.plan.batch
        return self._batch[places.start - first : places.stop - first]

    def _propose(self, batch: int) -> Ints:
        """Numbers of the combos of a batch, ascending."""
        for earlier in range(self._chosen, batch):  # all chunks of a batch that was not proposed here were on disk
            self._known.add(self._rows(earlier)[0])
        for earlier in range(self._learned, max(0, batch - self.plan.search.lag + 1)):
            numbers, scores = self._rows(earlier)
            self._past = tpe.learn(self._past, self._grid.digits(numbers), scores)
            self._learned = earlier + 1
        seed = int.from_bytes(hashlib.sha256(f"{self._id} {batch}".encode()).digest())
        count = min(self.plan.batch, self.plan.combos - batch * self.plan.batch)
        found = tpe.propose(self._grid, self._past, self._known, count, seed)
        self._known.add(found)
        self._chosen = batch + 1
        return found

    def _rows(self, batch: int) -> tuple[Ints, Floats]:
        """Numbers and scores of the combos of a batch whose chunks are on disk."""
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
            raise DataError(f"{path}: damaged result chunk ({error}); delete it and run the sweep again") from None


def scores(frame: pl.DataFrame, objective: str, min_trades: int) -> Floats:
    """What `tpe` makes as great as it can, of each row: the metric, where there are trades enough to believe it.

    A combo with fewer trades is below all that have them, and the lower the fewer. A metric without a value, which a
    profit factor without a loss is, is above all others.
    """
    few = pl.col("trades") < min_trades
    score = pl.when(few).then(_UNFIT + pl.col("trades")).otherwise(pl.col(objective).fill_null(float("inf")))
    return frame.select(score.cast(pl.Float64).alias("score"))["score"].to_numpy()
