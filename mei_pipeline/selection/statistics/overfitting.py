"""The probability that a search picks what only looked good: PBO by combinatorially symmetric cross-validation."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb

import numpy as np

from kernels.market import Floats, Ints
from mei_pipeline.sweep.metrics import FEWEST_DAYS, NO_VARIANCE, YEAR_DAYS

MOST_SPLITS = 12_870
"""All splits of 16 blocks into two halves."""
FEWEST_TRIALS = 2  # one leaves no choice
MOST_BLOCKS = 24  # half of them have 4096 subsets, whose sums are tabulated
_TRIALS, _PAIRS = 256, 128  # trials and pairs of splits at a time: arrays that fit the cache of a core


@dataclass(frozen=True)
class Overfitting:
    """What happens out of sample to the trial that is best in sample, over all splits of the time blocks."""

    pbo: float
    """Share of splits in which it falls below the median of all trials; exactly on the median counts half."""
    logits: Floats
    """[splits] ln(ω/(1 - ω)) of its relative rank ω out of sample: below 0 is below the median."""
    in_sample: Floats
    """[splits] its annual Sharpe ratio in sample."""
    out_of_sample: Floats
    """[splits] its annual Sharpe ratio out of sample."""
    slope: float
    """Of the least-squares line of `out_of_sample` on `in_sample`; NaN when the latter does not vary."""
    loss_probability: float
    """Share of splits in which it loses out of sample."""
    trials: int
    """Trials compared; those with a value that is not finite are left out."""
    all_splits: int
    """Splits that exist; `logits` has fewer of them when they were too many."""


def pbo(n: Floats, total: Floats, squares: Floats, most_splits: int = MOST_SPLITS, seed: int = 0) -> Overfitting:
    """Probability of backtest overfitting by CSCV, over all trials of a search.

    Half of the time blocks choose the best trial by its Sharpe ratio, the other half ranks it among all; then again for
    every other half. Trials without edge give 0.5, a search that finds an edge less. The Sharpe ratio of any blocks
    follows from sums; it is 0, as in the rows of a sweep, where returns do not vary. Ties in sample go to the first
    trial, ties out of sample share their mean rank. Working memory does not grow with the number of trials, which are
    visited twice.

    Source: Bailey, Borwein, López de Prado and Zhu, The Probability of Backtest Overfitting, Journal of Computational
    Finance 20(4), 2017 (first published in 2015), section 2.

    Args:
        n: [blocks, K] days of each time block; the number of blocks is even.
        total: [blocks, K] sums of daily returns.
        squares: [blocks, K] sums of their squares.
        most_splits: When there are more splits than that, so many of them are drawn, each with its mirror image.
        seed: Of that draw.

    Returns:
        The result; NaN and empty arrays when there are less than two trials to choose from.

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
    pairs = _pairs(blocks, most_splits // 2, seed)
    best, ahead = _best_in_sample(sums, finite, pairs)
    rank = _rank_out_of_sample(sums, finite, pairs, ahead).ravel()
    logits = np.log(rank / (len(finite) + 1.0 - rank))
    best, ahead = (values.ravel() * np.sqrt(YEAR_DAYS) for values in (best, ahead))
    return Overfitting(
        pbo=float(np.mean(logits < 0.0) + 0.5 * np.mean(logits == 0.0)),
        logits=logits,
        in_sample=best,
        out_of_sample=ahead,
        slope=_slope(best, ahead),
        loss_probability=float(np.mean(ahead < 0.0)),
        trials=len(finite),
        all_splits=all_splits,
    )


def _pairs(blocks: int, most: int, seed: int) -> Ints:
    """Splits as pairs of halves: [pairs, blocks], 1 for the half with the first block, 0 for the other."""
    half = blocks // 2
    every = comb(blocks - 1, half - 1)
    chosen = np.arange(every)
    if every > most:
        chosen = np.sort(np.random.default_rng(seed).choice(every, size=max(1, most), replace=False))
    pairs = np.zeros((len(chosen), blocks), dtype=np.int64)
    pairs[:, 0] = 1
    others = combinations(range(1, blocks), half - 1)
    before = -1
    for row, number in enumerate(chosen):
        pairs[row, list(next(islice(others, int(number) - before - 1, None)))] = 1
        before = int(number)
    return pairs


def _subset_sums(rows: Floats) -> Floats:
    """[2^rows, K] sums of every subset of the rows [rows, K]; bit i of a subset's number says that row i is in it."""
    sums = np.zeros((1, rows.shape[1]))
    for row in rows:
        sums = np.concatenate([sums, sums + row])
    return sums


def _scores(sums: tuple[Floats, Floats, Floats], finite: Ints, pairs: Ints) -> Iterator[tuple[slice, Floats]]:
    """Sharpe ratios per day of both halves of each pair: [2, pairs, trials] for some pairs and trials at a time.

    A half is a subset of the earlier and a subset of the later blocks, whose sums are tabulated. Every trial is added
    up in the same order, so equal trials have equal scores to the last bit.
    """
    middle = pairs.shape[1] // 2
    bits = 2 ** np.arange(middle)
    early, late = pairs[:, :middle] @ bits, pairs[:, middle:] @ bits
    sides = np.stack([early, 2**middle - 1 - early]), np.stack([late, 2**middle - 1 - late])
    for first in range(0, len(finite), _TRIALS):
        trials = finite[first : first + _TRIALS]
        parts = [array[:, trials] for array in sums]
        if (parts[0] == parts[0][:, :1]).all():
            parts[0] = parts[0][:, :1]  # trials of one market have the same days
        tables = [(_subset_sums(part[:middle]), _subset_sums(part[middle:])) for part in parts]
        for start in range(0, len(pairs), _PAIRS):
            rows = slice(start, start + _PAIRS)
            n, total, squares = (lower[sides[0][:, rows]] + upper[sides[1][:, rows]] for lower, upper in tables)
            yield rows, _sharpe(n, total, squares)


def _sharpe(n: Floats, total: Floats, squares: Floats) -> Floats:
    """Sharpe ratio per day, 0 without variation; overwrites `total` and `squares`, for speed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / n
        total *= mean
        squares -= total
        squares /= n - 1.0
        varies = (squares > NO_VARIANCE) & (n >= FEWEST_DAYS)
        mean /= np.sqrt(squares, out=squares)
    mean[~varies] = 0.0
    return mean


def _best_in_sample(sums: tuple[Floats, Floats, Floats], finite: Ints, pairs: Ints) -> tuple[Floats, Floats]:
    """Score of the best trial of each half, and its score in the other half, each [2, pairs]."""
    best = np.full((2, len(pairs)), -np.inf)
    ahead = np.full_like(best, np.nan)
    for rows, scores in _scores(sums, finite, pairs):
        where = scores.argmax(axis=2)[:, :, None]
        found, other = (np.take_along_axis(side, where, axis=2)[:, :, 0] for side in (scores, scores[::-1]))
        better = found > best[:, rows]
        best[:, rows] = np.where(better, found, best[:, rows])
        ahead[:, rows] = np.where(better, other, ahead[:, rows])
    return best, ahead


def _rank_out_of_sample(sums: tuple[Floats, Floats, Floats], finite: Ints, pairs: Ints, ahead: Floats) -> Floats:
    """Rank from 1 of the score `ahead` [2, pairs] among the scores of all trials in the other half."""
    below, equal = np.zeros_like(ahead), np.zeros_like(ahead)
    for rows, scores in _scores(sums, finite, pairs):
        value = ahead[:, rows, None]
        below[:, rows] += np.count_nonzero(scores[::-1] < value, axis=2)
        equal[:, rows] += np.count_nonzero(scores[::-1] == value, axis=2)
    return 1.0 + below + 0.5 * (equal - 1.0)


def _slope(x: Floats, y: Floats) -> float:
    """Slope of the least-squares line of y on x."""
    centred = x - x.mean()
    squares = float(centred @ centred)
    return float(centred @ y) / squares if squares > 0.0 else np.nan
