"""Sharpe ratios of many trials in both halves of many splits of the time blocks, compiled.

A half is a subset of the earlier and a subset of the later blocks. Their sums are tabulated for some trials at a time,
`early` and `late`: [3, subsets, trials], in the order of `_N`, `_TOTAL` and `_SQUARES`. Bit i of a subset's number says
that block i is in it, so the other half has the number with all bits flipped: the last number minus this one.

Every trial is added up in the same order, so equal trials have equal ratios to the last bit and share their rank.
"""

import numpy as np

from kernels.jit import driver, lanes
from kernels.market import Floats, Ints
from mei_pipeline.sweep.metrics import FEWEST_DAYS, NO_VARIANCE

_N, _TOTAL, _SQUARES = range(3)


def subset_sums(rows: Floats) -> Floats:
    """Return the sums of every subset of the rows [rows, K]: [2^rows, K], the empty subset first."""
    sums = np.zeros((2 ** len(rows), rows.shape[1]))
    for i, row in enumerate(rows):
        np.add(sums[: 2**i], row, out=sums[2**i : 2 ** (i + 1)])
    return sums


# A branch would keep LLVM from using vector instructions. So the bounds stand in for values that would divide by zero,
# and the ratio is computed first and then replaced by 0.
@lanes
def _ratios(ratios: Floats, early: Floats, late: Floats, subset: int, rest: int) -> None:
    """Fill `ratios` [trials] with the Sharpe ratio per day in one half, 0 without variation."""
    n_early, n_late = early[_N, subset], late[_N, rest]
    total_early, total_late = early[_TOTAL, subset], late[_TOTAL, rest]
    squares_early, squares_late = early[_SQUARES, subset], late[_SQUARES, rest]
    for k in range(len(ratios)):
        n = n_early[k] + n_late[k]
        total = total_early[k] + total_late[k]
        days = max(n, FEWEST_DAYS)
        mean = total / days
        variance = ((squares_early[k] + squares_late[k]) - total * mean) / (days - 1.0)
        ratio = mean / np.sqrt(max(variance, NO_VARIANCE))
        varies = (variance > NO_VARIANCE) & (n >= FEWEST_DAYS)
        ratios[k] = ratio if varies else 0.0


@lanes
def _below_and_equal(ratios: Floats, value: float) -> tuple[int, int]:
    """Return how many ratios are below a value, and how many equal it."""
    below = equal = 0
    for k in range(len(ratios)):
        below += ratios[k] < value
        equal += ratios[k] == value
    return below, equal


@driver
def find_best(splits: Ints, early: Floats, late: Floats, best: Floats, ahead: Floats, ratios: Floats) -> None:
    """Update the best ratio of each half, and the ratio of the same trial in the other half.

    Args:
        splits: [pairs, 2] numbers of the early and late subset of the first half; the second half is the rest.
        early: Sums of subsets of the earlier blocks.
        late: Sums of subsets of the later blocks.
        best: [pairs, 2] updated: best ratio of each half among all trials so far; the first trial wins ties.
        ahead: [pairs, 2] updated: ratio of that trial in the other half.
        ratios: [2, trials] scratch memory.
    """
    last_early, last_late = early.shape[1] - 1, late.shape[1] - 1
    for pair in range(len(splits)):
        subset, rest = splits[pair, 0], splits[pair, 1]
        _ratios(ratios[0], early, late, subset, rest)
        _ratios(ratios[1], early, late, last_early - subset, last_late - rest)
        for half in range(2):
            highest = best[pair, half]
            trial = -1
            for k in range(ratios.shape[1]):
                if ratios[half, k] > highest:
                    highest = ratios[half, k]
                    trial = k
            if trial >= 0:
                best[pair, half] = highest
                ahead[pair, half] = ratios[1 - half, trial]


@driver
def count_ranks(
    splits: Ints, early: Floats, late: Floats, ahead: Floats, below: Ints, equal: Ints, ratios: Floats
) -> None:
    """Count the trials whose ratio in the other half is below `ahead`, and those where it is equal.

    Args:
        splits: As of `find_best`.
        early: As of `find_best`.
        late: As of `find_best`.
        ahead: [pairs, 2] as `find_best` leaves it after all trials.
        below: [pairs, 2] updated.
        equal: [pairs, 2] updated.
        ratios: [2, trials] scratch memory.
    """
    last_early, last_late = early.shape[1] - 1, late.shape[1] - 1
    for pair in range(len(splits)):
        subset, rest = splits[pair, 0], splits[pair, 1]
        _ratios(ratios[0], early, late, subset, rest)
        _ratios(ratios[1], early, late, last_early - subset, last_late - rest)
        for half in range(2):
            less, same = _below_and_equal(ratios[1 - half], ahead[pair, half])
            below[pair, half] += less
            equal[pair, half] += same
