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
from mei_pipeline.sweep.search.known import Known
from mei_pipeline.sweep.search.permutation import Permutation

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
    """Batches of `tpe`, each a function of the plan, its own number and the rows of the chunks that it needs.

    What is held is the same whether it came from chunks on disk or from batches proposed here, so it does not matter
    where an earlier process stopped.
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

    def needs(self, index: int) -> int:
        return max(0, index - self.plan.search.lag + 1)

    def numbers(self, index: int) -> Ints:
        for earlier in range(self._chosen, index):  # what was not proposed here was on disk before
            self._known.add(self._rows(earlier)[0])
        for earlier in range(self._learned, self.needs(index)):
            numbers, scores = self._rows(earlier)
            self._past = tpe.learn(self._past, self._grid.digits(numbers), scores)
            self._learned = earlier + 1
        seed = int.from_bytes(hashlib.sha256(f"{self._id} {index}".encode()).digest())
        found = tpe.propose(self._grid, self._past, self._known, len(self.plan.chunk(index)), seed)
        self._known.add(found)
        self._chosen = index + 1
        return found

    def _rows(self, index: int) -> tuple[Ints, Floats]:
        """Numbers and scores of the combos of a chunk on disk."""
        search, path = self.plan.search, chunk_path(self.folder, self.plan, index)
        try:
            frame = pl.read_parquet(path, glob=False, columns=["combo", "trades", search.objective])
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{path}: damaged result chunk ({error}); delete it and run the sweep again") from None
        return frame["combo"].to_numpy(), scores(frame, search.objective, search.min_trades)


def scores(frame: pl.DataFrame, objective: str, min_trades: int) -> Floats:
    """What `tpe` makes as great as it can, of each row: the metric, where there are trades enough to believe it.

    A combo with fewer trades is below all that have them, and the lower the fewer. A metric without a value, which a
    profit factor without a loss is, is above all others.
    """
    few = pl.col("trades") < min_trades
    score = pl.when(few).then(_UNFIT + pl.col("trades")).otherwise(pl.col(objective).fill_null(float("inf")))
    return frame.select(score.cast(pl.Float64).alias("score"))["score"].to_numpy()
