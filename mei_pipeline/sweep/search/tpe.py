"""A tree-structured Parzen estimator that proposes thousands of combos at once.

The best combos so far are *good*, the others *bad*. The estimator proposes combos where the density l(x) of good combos
is high relative to the density g(x) of bad ones: there the expected improvement is greatest. An axis that does not vary
in a combo is left out of the densities of that combo; this is the tree. Source: Bergstra, Bardenet, Bengio and Kégl,
Algorithms for Hyper-Parameter Optimization, NIPS 2011, section 4.

Proposals are drawn from the joint density of the good combos, a mixture with one product of kernels around each of
them. This keeps values together that are good together, and spreads a batch over all good combos. Optuna does the same
by default (Falkner, Klein and Hutter, BOHB, ICML 2018). Of `CANDIDATES` draws, the one with the greatest l/g is
proposed. Both densities of this ratio are those of single axes. On a grid they are counts of values, so that time and
memory do not depend on the number of combos so far.

Three rules keep a batch diverse. A part of it is drawn from the prior. No combo is proposed twice. If most draws are
repetitions, the next draws have half as many candidates. If repetitions remain, combos from the complete grid replace
them.

An axis of numbers in order is a scale. Its kernel is a normal density, cut off at the ends, with a width by Scott's
rule (Scott, Multivariate Density Estimation, 1992). Any other axis is a category. Its kernel keeps the value, except
for the part that a prior of weight one gives to all values, as in Optuna.

All tables that decide are rounded to integers: processors differ in the last bit of a logarithm, and proposals must not
depend on it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.market import Floats, Ints
from kernels.params import Value
from mei_pipeline.params.grid import Grid
from mei_pipeline.sweep.search.permutation import Permutation
from mei_pipeline.sweep.search.random_streams import below, stream, words
from mei_pipeline.sweep.search.visited import VisitedCombos, unvisited

STARTUP = 10
"""Combos that are drawn from the prior before there is a model."""
GOOD_PART = 10
"""One in this many combos is good, up to `GOOD_MOST`."""
GOOD_MOST = 16
"""Most combos that are good."""
CANDIDATES = 8
"""Draws for each proposal."""
EXPLORED_PART = 20
"""One in this many proposals is drawn from the prior."""

_PRIOR_WEIGHT = 1.0
_BANDWIDTH = 1.5  # factor of Scott's width
_LEAST_BANDWIDTH = 0.45  # steps of the axis
_REACH = 4.0  # widths at which a kernel ends
_UNIT = 1 << 16  # units per 1.0 of a rounded logarithm
_FINE, _FINEST = 12, 16  # bits of a table of quantiles, for short and for long axes
_LONG = 256  # values of a short axis at most
_BLOCK = 4096  # proposals drawn together: their candidates fit into the cache of a core
_ROUNDS = 8  # attempts to replace repetitions
_SCANNED = 1 << 16  # places of the random order that are searched at a time

Digits = NDArray[np.int16]


@dataclass(frozen=True)
class History:
    """Summary of the combos run so far; its size does not depend on their number.

    Attributes:
        combos: Number of combos.
        scores: [G] scores of the best combos, best first; equal scores in the order in which they were run.
        digits: [A, G] settled digits of these combos (`Grid.digits`).
        counts: For each axis the number of combos with each value, and last the number in which it did not vary.
    """

    combos: int
    scores: Floats
    digits: Ints
    counts: tuple[Ints, ...]


class _Axis(NamedTuple):
    """The densities of one axis.

    Attributes:
        shift: Bits by which a 16-bit word is shifted to index a row of `quantiles`.
        row: [good] row of each good combo, times the length of a row.
        quantiles: Values at even quantiles of the kernel around each distinct good value, row by row.
        gain: [V + 1] rounded logarithm of l/g of each value; 0 where the axis does not vary.
    """

    shift: int
    row: Ints
    quantiles: Digits
    gain: NDArray[np.int32]


def no_history(grid: Grid) -> History:
    """Return the history of a search that has run no combo."""
    counts = tuple(np.zeros(len(axis.values) + 1, dtype=np.int64) for axis in grid.axes)
    return History(0, np.zeros(0), np.zeros((len(grid.axes), 0), dtype=np.int64), counts)


def learn(history: History, digits: Ints, scores: Floats) -> History:
    """Return the history with K more combos.

    Args:
        history: Combos before them.
        digits: [A, K] settled digits.
        scores: [K] scores, greater is better, without NaN.
    """
    all_scores = np.concatenate([history.scores, scores])
    best = np.argsort(-all_scores, kind="stable")[:GOOD_MOST]
    counts = tuple(
        counts_before + np.bincount(of_axis, minlength=len(counts_before))
        for counts_before, of_axis in zip(history.counts, digits, strict=True)
    )
    kept = np.concatenate([history.digits, digits], axis=1)[:, best]
    return History(history.combos + len(scores), all_scores[best], kept, counts)


def propose(grid: Grid, history: History, visited: VisitedCombos, count: int, seed: int) -> Ints:
    """Return the numbers of `count` combos to run next, ascending. The result depends on the arguments alone.

    Args:
        grid: The grid; at least `count` of its combos must be unvisited.
        history: Earlier combos.
        visited: Combos that must not be proposed again.
        count: Number of combos.
        seed: Seed of this batch.
    """
    bits = stream(seed)
    taken = np.zeros(0, dtype=np.int64)
    startup = history.combos < STARTUP
    explored = count if startup else count // EXPLORED_PART
    taken = _filled(taken, visited, explored, lambda needed, _: _from_prior(grid, bits, needed))
    if not startup:
        model = _model(grid, history)

        def best(needed: int, repeats: int) -> Ints:
            return _best(grid, model, bits, needed, max(CANDIDATES >> repeats, 1))

        taken = _filled(taken, visited, count, best)
    order, start = Permutation(grid.combos, seed), 0
    while len(taken) < count:
        places = np.arange(start, min(start + _SCANNED, grid.combos))
        if not len(places):
            raise ValueError(f"propose: too few combos left: {len(taken)} of {count} in a grid of {grid.combos}")
        taken = np.concatenate([taken, unvisited(order.at(places), visited, taken)])[:count]
        start += _SCANNED
    return np.sort(taken)


def _filled(taken: Ints, visited: VisitedCombos, count: int, draw: Callable[[int, int], Ints]) -> Ints:
    """Add draws until there are `count` combos, or until most draws were repetitions for `_ROUNDS` times."""
    repeats = 0
    while len(taken) < count and repeats < _ROUNDS:
        needed = min(count - len(taken), _BLOCK)
        fresh = unvisited(draw(needed, repeats), visited, taken)
        taken = np.concatenate([taken, fresh])
        repeats += 2 * len(fresh) < needed
    return taken


def _from_prior(grid: Grid, bits: np.random.PCG64, count: int) -> Ints:
    """Draw every value of an axis with equal probability; numbers may repeat."""
    digits = np.stack([below(bits, len(axis.values), count) for axis in grid.axes])
    grid.settle(digits)
    return grid.numbers(digits)


def _best(grid: Grid, model: Sequence[_Axis], bits: np.random.PCG64, count: int, candidates: int) -> Ints:
    """Return the best of some candidates, `count` times; numbers may repeat."""
    drawn = candidates * count
    good_combo = below(bits, len(model[0].row), drawn)
    digits = np.empty((len(model), drawn), dtype=np.int16)
    for axis, digit, word in zip(model, digits, words(bits, digits.shape), strict=True):
        place = axis.row[good_combo] + (word >> axis.shift)
        axis.quantiles.take(place, out=digit, mode="clip")
    grid.settle(digits)
    gain = np.zeros(drawn, dtype=np.int32)
    for axis, digit in zip(model, digits, strict=True):
        gain += axis.gain[digit]
    best = gain.reshape(candidates, count).argmax(axis=0) * count + np.arange(count)
    return grid.numbers(digits[:, best])


def _model(grid: Grid, history: History) -> list[_Axis]:
    good = min(-(-history.combos // GOOD_PART), GOOD_MOST)
    parts = zip(grid.axes, history.digits[:, :good], history.counts, strict=True)
    return [_axis(axis.values, digits, counts) for axis, digits, counts in parts]


def _axis(values: Sequence[Value], good: Ints, counts: Ints) -> _Axis:
    """Return the densities of one axis.

    Args:
        values: Its V values.
        good: [G] value of each good combo; V where the axis does not vary.
        counts: [V + 1] values of all combos.
    """
    size = len(values)
    centres, row, often = np.unique(good, return_inverse=True, return_counts=True)
    bad = (counts - np.bincount(good, minlength=size + 1))[:size].astype(np.float64)
    varied = good[good < size]
    if is_scale(values):
        kernel = _normal(_width(np.bincount(varied, minlength=size)), size)
        kernels = np.stack([_around(kernel, centre, size) for centre in centres])
        smooth = np.convolve(bad / _inside(kernel_bad := _normal(_width(bad), size), size), kernel_bad)
        g = smooth[len(kernel_bad) // 2 :][:size]
    else:
        leak = _PRIOR_WEIGHT / (len(varied) + _PRIOR_WEIGHT)
        kernels = (np.eye(size + 1)[centres, :size] + leak) / (1.0 + size * leak)
        kernels[centres == size] = 1.0 / size
        g = bad
    l_good = (often * (centres < size)) @ kernels + _PRIOR_WEIGHT / size
    g = g + _PRIOR_WEIGHT / size
    gain = np.log(l_good / l_good.sum()) - np.log(g / g.sum())
    bits = _FINE if size <= _LONG else _FINEST
    return _Axis(
        shift=_FINEST - bits,
        row=row.reshape(-1).astype(np.int64) << bits,
        quantiles=np.concatenate([_quantiles(kernel, bits) for kernel in kernels]),
        gain=np.append(np.rint(gain * _UNIT), 0).astype(np.int32),
    )


def is_scale(values: Sequence[Value]) -> bool:
    """Return True if the values are numbers in order, so that neighbours are similar."""
    if any(isinstance(value, bool | str) for value in values):
        return False
    steps = np.diff(np.array(values, dtype=np.float64))
    return bool((steps > 0).all() or (steps < 0).all())


def _width(counts: Ints | Floats) -> float:
    """Return the width of a kernel in steps of the axis, from the number of combos with each value."""
    total = float(counts.sum())
    if total == 0.0:
        return float(len(counts))
    place = np.arange(len(counts))
    mean = float(counts @ place) / total
    deviation = math.sqrt(max(float(counts @ (place * place)) / total - mean * mean, 0.0))
    return max(_BANDWIDTH * deviation * math.pow(total, -0.2), _LEAST_BANDWIDTH)


def _normal(width: float, size: int) -> Floats:
    """Return a normal density at whole steps, [2 r + 1], as far as it reaches on an axis of `size` values."""
    reach = min(math.ceil(_REACH * width), size - 1)
    density = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.asarray(density / density.sum())


def _around(kernel: Floats, centre: int, size: int) -> Floats:
    """Return the kernel around one value of an axis, cut off at the ends; uniform where the axis does not vary."""
    if centre == size:
        return np.full(size, 1.0 / size)
    reach = len(kernel) // 2
    density = np.zeros(size + 2 * reach)
    density[centre : centre + len(kernel)] = kernel
    density = density[reach : reach + size]
    return np.asarray(density / density.sum())


def _inside(kernel: Floats, size: int) -> Floats:
    """Return [V] the part of the kernel around each value that lies on the axis."""
    reach = len(kernel) // 2
    return np.asarray(np.convolve(np.ones(size), kernel)[reach : reach + size])


def _quantiles(density: Floats, bits: int) -> Digits:
    """Return [2^bits] values at even quantiles of a density over the values of an axis."""
    edges = np.rint(np.cumsum(density) * (1 << bits)).astype(np.int64)
    edges[-1] = 1 << bits
    return np.repeat(np.arange(len(density)), np.diff(edges, prepend=0)).astype(np.int16)
