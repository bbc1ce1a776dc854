"""The benchmark of searches: combos that `tpe` proposes per second, without running them."""

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
_SWITCH_EVERY = 5  # every fifth axis is a switch; the next axis varies only if it is on


@dataclass(frozen=True)
class SearchFigures:
    """Speed of proposals.

    Attributes:
        axes: Number of axes; a fifth of them are switches, and as many depend on a switch.
        grid_combos: Number of combos in the grid.
        batch: Number of combos per proposal.
        combos: Number of distinct proposed combos.
        seconds: Wall time on one thread: model, draws, removal of repetitions, update by results.
        cpu_s: Processor time of the same work; more reliable on a busy machine.
        proposals_per_s: Combos per second of `cpu_s`.
    """

    axes: int
    grid_combos: int
    batch: int
    combos: int
    seconds: float
    cpu_s: float
    proposals_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def run_tpe(axes: int, batch: int, combos: int, progress: Progress = silent) -> SearchFigures:
    """Run `tpe` on a function in which neighbouring axes depend on each other.

    Args:
        axes: Number of axes, with up to four values each.
        batch: Number of combos per proposal.
        combos: Number of combos, rounded up to whole batches.
        progress: Called after each batch.
    """
    grid = _grid(axes)
    visited, history = VisitedCombos(), tpe.no_history(grid)
    seconds = cpu_s = 0.0
    batches = -(-combos // batch)
    for number in range(batches):
        wall, cpu = time.perf_counter(), time.process_time()
        digits = grid.digits(_propose(grid, history, visited, batch, number))
        seconds, cpu_s = seconds + time.perf_counter() - wall, cpu_s + time.process_time() - cpu
        score = _scores(digits)
        wall, cpu = time.perf_counter(), time.process_time()
        history = tpe.learn(history, digits, score)
        seconds, cpu_s = seconds + time.perf_counter() - wall, cpu_s + time.process_time() - cpu
        progress(number + 1, batches, "batches")
    return SearchFigures(axes, grid.combos, batch, len(visited), seconds, cpu_s, len(visited) / cpu_s)


def _propose(grid: Grid, history: tpe.History, visited: VisitedCombos, batch: int, seed: int) -> Ints:
    """Propose a batch of combos and mark them as visited."""
    proposed = tpe.propose(grid, history, visited, batch, seed)
    visited.add(proposed)
    return proposed


def _grid(axes: int) -> Grid:
    """Return a grid with a switch at every fifth axis."""
    grid: list[Axis] = []
    for index in range(axes):
        switch = f"a{index - 1}" if index and (index - 1) % _SWITCH_EVERY == 0 else ""
        values = (False, True) if index % _SWITCH_EVERY == 0 else tuple(range(VALUES))
        grid.append(Axis(f"a{index}", values, {switch: True} if switch else {}))
    return Grid(grid, {axis.path: 0 for axis in grid})


def _scores(digits: Ints) -> Floats:
    """Return scores with a best value for each axis, and a penalty between neighbouring axes."""
    best = (np.arange(len(digits)) * 7 % VALUES)[:, None]
    bend = (digits[1:] - (3 * digits[:-1] + 1) % VALUES) ** 2
    return np.asarray(-((digits - best) ** 2).sum(axis=0) - 0.3 * bend.sum(axis=0), dtype=np.float64)
