"""Selection bias of a search: the Sharpe ratio that the best of its combos has without an edge."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.market import Floats
from mei_pipeline.selection.search_statistics import SEED
from mei_pipeline.selection.statistics.sharpe import ReturnStatistics, deflated_sharpe, return_statistics_of_sums
from mei_pipeline.selection.statistics.trials import effective_trials_of_blocks
from mei_pipeline.sweep.plan import SweepPlan

MOST_TRIALS = 50_000
"""Greatest number of combos in the statistics of a search; of more, evenly spaced ones are taken."""

_CORRELATED = 8_192  # combos whose correlations are used
_SUMS = ("day_count", "day_sum", "day_sum_sq")

BlockSums = tuple[Floats, Floats, Floats]
"""Count, sum and sum of squares of the daily returns of combos in each time block, each [BLOCKS, K]."""


@dataclass(frozen=True)
class SelectionBias:
    """Selection bias of the best combo of a search; it is reported and decides nothing.

    Attributes:
        best_sharpe: Annual Sharpe ratio of the best combo.
        combos: Number of combos of the search.
        effective_trials: Number of independent trials with the same expected best, from correlations of time blocks.
        deflated_sharpe: Probability that the true Sharpe ratio of the best combo is above zero, given this number.
        by_trials: The same probability for other numbers of independent trials: pairs of number and probability.
    """

    best_sharpe: float
    combos: int
    effective_trials: float
    deflated_sharpe: float
    by_trials: tuple[tuple[float, float], ...]


def block_sums(plan: SweepPlan, chunks: Iterable[pl.DataFrame]) -> BlockSums:
    """Return the block sums of the combos of a search, of at most `MOST_TRIALS` evenly spaced ones."""
    step = -(-plan.combos // MOST_TRIALS)
    parts: list[list[Floats]] = [[], [], []]
    seen = 0
    for rows in chunks:
        kept = slice(-seen % step, None, step)
        for part, name in zip(parts, _SUMS, strict=True):
            part.append(rows[name].to_numpy()[kept].T)
        seen += rows.height
    n, total, squares = (np.concatenate(part, axis=1) for part in parts)
    return n, total, squares


def estimate_selection_bias(sums: BlockSums, combos: int) -> SelectionBias | None:
    """Return the selection bias of the best combo; None if no combo varies, or none varies between blocks.

    Args:
        sums: Block sums of the combos.
        combos: Number of combos of the search; `sums` may have fewer.
    """
    n, total, squares = (part.sum(axis=0) for part in sums)
    record = return_statistics_of_sums(n, total, squares)
    varied = np.isfinite(record.sharpe)
    if not varied.any():
        return None
    best = int(np.nanargmax(record.sharpe))
    own = ReturnStatistics(n[best], record.sharpe[best], record.skewness, record.kurtosis)
    variance = float(np.var(record.sharpe[varied]))
    step = -(-n.size // _CORRELATED)
    effective = effective_trials_of_blocks(sums[1][:, ::step], sums[2][:, ::step], seed=SEED)
    if not np.isfinite(effective):
        return None
    numbers = np.unique(np.geomspace(1.0, max(combos, 2), 25))
    curve = zip(numbers.tolist(), deflated_sharpe(own, numbers, variance).tolist(), strict=True)
    return SelectionBias(
        best_sharpe=float(own.annual),
        combos=combos,
        effective_trials=effective,
        deflated_sharpe=float(deflated_sharpe(own, effective, variance)),
        by_trials=tuple(curve),
    )
