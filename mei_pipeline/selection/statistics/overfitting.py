"""Probability of backtest overfitting (PBO) of a search, by combinatorially symmetric cross-validation (CSCV)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, islice, pairwise, repeat
from math import comb

import numpy as np

from kernels.market import Floats, Ints
from mei_pipeline.selection.statistics.splits import count_ranks, find_best, subset_sums
from mei_pipeline.simulation.threads import thread_count
from mei_pipeline.sweep.metrics import YEAR_DAYS

MOST_SPLITS = 12_870
"""All splits of 16 blocks into two halves."""
FEWEST_TRIALS = 2  # one leaves no choice
MOST_BLOCKS = 24  # half of them have 4096 subsets, whose sums are tabulated
_TRIALS = 256  # trials whose sums are tabulated at a time; 64 to 256 are equally fast, fewer are slower


@dataclass(frozen=True)
class Overfitting:
    """Out-of-sample results of the combo that is best in sample, over all splits of the time blocks."""

    pbo: float
    """Share of splits in which it is below the median of all combos; exactly on the median counts half."""
    logits: Floats
    """[splits] ln(ω/(1 - ω)) of its relative rank ω out of sample: below 0 is below the median."""
    in_sample: Floats
    """[splits] its annual Sharpe ratio in sample."""
    out_of_sample: Floats
    """[splits] its annual Sharpe ratio out of sample."""
    slope: float
    """Slope of the least-squares line of `out_of_sample` on `in_sample`; NaN if the latter does not vary."""
    loss_probability: float
    """Share of splits in which it loses out of sample."""
    combos: int
    """Number of combos; those with a value that is not finite are left out."""
    all_splits: int
    """Number of possible splits; `logits` has fewer if there are more than `most_splits`."""


def pbo(n: Floats, total: Floats, squares: Floats, most_splits: int = MOST_SPLITS, seed: int = 0) -> Overfitting:
    """Return the probability of backtest overfitting by CSCV, over all trials of a search.

    Every half of the time blocks selects the best trial by its Sharpe ratio, and the other half ranks it among all
    trials. Trials without edge give 0.5, a search that finds an edge less. The Sharpe ratio of any blocks
    follows from sums; it is 0, as in the rows of a sweep, where returns do not vary. Ties in sample go to the first
    trial, ties out of sample share their mean rank. Working memory does not grow with the number of trials, which are
    visited twice.

    Source: Bailey, Borwein, López de Prado and Zhu, The Probability of Backtest Overfitting, Journal of Computational
    Finance 20(4), 2017 (first published in 2015), section 2.

    Args:
        n: [blocks, K] days of each time block; the number of blocks is even.
        total: [blocks, K] sums of daily returns.
        squares: [blocks, K] sums of their squares.
        most_splits: Of more splits so many are drawn, each with its mirror image.
        seed: Seed of that draw.

    Returns:
        The result; NaN and empty arrays with fewer than two trials.

    Raises:
        ValueError: The arrays differ in shape, or the number of blocks is odd or out of bounds.
    """
    blocks = len(n)
    if not n.shape == total.shape == squares.shape or blocks not in range(2, MOST_BLOCKS + 1, 2):
        shapes = f"{n.shape}, {total.shape}, {squares.shape}"
        raise ValueError(f"{shapes}: not [blocks, K] with an even number of blocks up to {MOST_BLOCKS}")
    sums = (n, total, squares)
    finite = np.flatnonzero(np.logical_and.reduce([np.isfinite(array).all(axis=0) for array in sums]))
    all_splits = comb(blocks, blocks // 2)
    if len(finite) < FEWEST_TRIALS:
        none = np.empty(0)
        return Overfitting(np.nan, none, none, none, np.nan, np.nan, len(finite), all_splits)
    splits = _splits(blocks, most_splits // 2, seed)
    best, ahead = _best_in_sample(sums, finite, splits)
    rank = _rank_out_of_sample(sums, finite, splits, ahead).T.ravel()
    logits = np.log(rank / (len(finite) + 1.0 - rank))
    best, ahead = (values.T.ravel() * np.sqrt(YEAR_DAYS) for values in (best, ahead))
    return Overfitting(
        pbo=float(np.mean(logits < 0.0) + 0.5 * np.mean(logits == 0.0)),
        logits=logits,
        in_sample=best,
        out_of_sample=ahead,
        slope=_slope(best, ahead),
        loss_probability=float(np.mean(ahead < 0.0)),
        combos=len(finite),
        all_splits=all_splits,
    )


def _splits(blocks: int, most: int, seed: int) -> Ints:
    """Return the half with the first block of each pair of halves: [pairs, 2] numbers of subsets as in `splits`."""
    half = blocks // 2
    every = comb(blocks - 1, half - 1)
    chosen = np.arange(every)
    if every > most:
        chosen = np.sort(np.random.default_rng(seed).choice(every, size=max(1, most), replace=False))
    others = combinations(range(1, blocks), half - 1)
    splits = np.empty((len(chosen), 2), dtype=np.int64)
    before = -1
    for row, number in enumerate(chosen):
        members = sum(1 << block for block in (0, *next(islice(others, int(number) - before - 1, None))))
        splits[row] = members % (1 << half), members >> half
        before = int(number)
    return splits


def _best_in_sample(sums: tuple[Floats, Floats, Floats], finite: Ints, splits: Ints) -> tuple[Floats, Floats]:
    """Return the score of the best trial of each half and its score in the other half, each [pairs, 2]."""
    best = np.full(splits.shape, -np.inf)
    ahead = np.full_like(best, np.nan)

    def visit(rows: slice, early: Floats, late: Floats, ratios: Floats) -> None:
        find_best(splits[rows], early, late, best[rows], ahead[rows], ratios)

    _visit_trials(sums, finite, len(splits), visit)
    return best, ahead


def _rank_out_of_sample(sums: tuple[Floats, Floats, Floats], finite: Ints, splits: Ints, ahead: Floats) -> Floats:
    """Return the rank from 1 of the score `ahead` [pairs, 2] among the scores of all trials in the other half."""
    below, equal = np.zeros_like(splits), np.zeros_like(splits)

    def visit(rows: slice, early: Floats, late: Floats, ratios: Floats) -> None:
        count_ranks(splits[rows], early, late, ahead[rows], below[rows], equal[rows], ratios)

    _visit_trials(sums, finite, len(splits), visit)
    return 1.0 + below + 0.5 * (equal - 1.0)


def _visit_trials(
    sums: tuple[Floats, Floats, Floats],
    finite: Ints,
    pairs: int,
    visit: Callable[[slice, Floats, Floats, Floats], None],
) -> None:
    """Call `visit` with rows of pairs, tables and scratch memory of `splits`, for some trials at a time.

    Each thread has its own rows, so no result depends on the number of threads.
    """
    middle = len(sums[0]) // 2
    workers = thread_count(0)
    edges = np.linspace(0, pairs, workers + 1).astype(int)
    rows = [slice(*edge) for edge in pairwise(edges)]
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(finite), _TRIALS):
            trials = finite[first : first + _TRIALS]
            early, late = (
                np.stack([subset_sums(array[part, trials]) for array in sums])
                for part in (slice(middle), slice(middle, None))
            )
            scratch = np.empty((workers, 2, len(trials)))
            list(pool.map(visit, rows, repeat(early), repeat(late), scratch))


def _slope(x: Floats, y: Floats) -> float:
    """Return the slope of the least-squares line of y on x; NaN if x does not vary."""
    centred = x - x.mean()
    squares = float(centred @ centred)
    return float(centred @ y) / squares if squares > 0.0 else np.nan
