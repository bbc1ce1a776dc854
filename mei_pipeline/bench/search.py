"""How many combos `tpe` proposes per second, with everything that it does for them besides running them."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kernels.market import Floats, Ints
from mei_pipeline.params.grid import Axis, Grid
from mei_pipeline.progress import Progress, silent
from mei_pipeline.sweep.search import tpe
from mei_pipeline.sweep.search.visited import VisitedCombos

VALUES = 4
_SWITCH_EVERY = 5  # axes, of which the next varies only where the switch is on


@dataclass(frozen=True)
class SearchFigures:
    """How fast combos were proposed.

    Attributes:
        axes: Axes of the grid, a fifth of them switches, and as many that vary only where one is on.
        grid_combos: Combos to choose from.
        batch: Combos that are proposed together.
        combos: Combos proposed, none twice.
        seconds: Wall time, on one thread: model, candidates, repetitions taken out, results learned.
        cpu_s: Processor time of the same: the better figure on a busy machine.
        proposals_per_s: Combos by `cpu_s`.
    """

    axes: int
    grid_combos: int
    batch: int
    combos: int
    seconds: float
    cpu_s: float
    proposals_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


def run_tpe(axes: int, batch: int, combos: int, progress: Progress = silent) -> SearchFigures:
    """Let `tpe` search a landscape in which neighbouring axes depend on each other.

    Args:
        axes: Axes, each of four values.
        batch: Combos that are proposed together.
        combos: How many, in whole batches.
        progress: Told of each batch.
    """
    grid = _grid(axes)
    known, history = VisitedCombos(), tpe.no_history(grid)
    seconds = cpu_s = 0.0
    batches = -(-combos // batch)
    for number in range(batches):
        wall, cpu = time.perf_counter(), time.process_time()
        digits = grid.digits(_proposed(grid, history, known, batch, number))
        seconds, cpu_s = seconds + time.perf_counter() - wall, cpu_s + time.process_time() - cpu
        score = _landscape(digits)
        wall, cpu = time.perf_counter(), time.process_time()
        history = tpe.learn(history, digits, score)
        seconds, cpu_s = seconds + time.perf_counter() - wall, cpu_s + time.process_time() - cpu
        progress(number + 1, batches, "batches")
    return SearchFigures(axes, grid.combos, batch, len(known), seconds, cpu_s, len(known) / cpu_s)


def _proposed(grid: Grid, history: tpe.History, known: VisitedCombos, batch: int, seed: int) -> Ints:
    found = tpe.propose(grid, history, known, batch, seed)
    known.add(found)
    return found


def _grid(axes: int) -> Grid:
    found: list[Axis] = []
    for index in range(axes):
        switch = f"a{index - 1}" if index and (index - 1) % _SWITCH_EVERY == 0 else ""
        values = (False, True) if index % _SWITCH_EVERY == 0 else tuple(range(VALUES))
        found.append(Axis(f"a{index}", values, {switch: True} if switch else {}))
    return Grid(found, {axis.path: 0 for axis in found})


def _landscape(digits: Ints) -> Floats:
    """A valley that bends from axis to axis; each axis wants a value of its own."""
    wanted = (np.arange(len(digits)) * 7 % VALUES)[:, None]
    bend = (digits[1:] - (3 * digits[:-1] + 1) % VALUES) ** 2
    return np.asarray(-((digits - wanted) ** 2).sum(axis=0) - 0.3 * bend.sum(axis=0), dtype=np.float64)
