"""A tree-structured Parzen estimator that proposes thousands of combos at once.

Of the combos run so far the best are *good*, the others *bad*; combos are proposed where the density l(x) of the good
is high in relation to the density g(x) of the bad, which is where the expected improvement is greatest. Source:
Bergstra, Bardenet, Bengio and Kégl, Algorithms for Hyper-Parameter Optimization, NIPS 2011, section 4. An axis that
does not vary in a combo is left out of that combo's densities: the tree.

Candidates are drawn from the joint density of the good, a mixture with one product of kernels around each of them, as
Optuna does by default (Falkner, Klein and Hutter, BOHB, ICML 2018). So values that are good together stay together, and
a batch spreads over as many centres as there are good combos. Of `CANDIDATES` candidates for a place the one with the
greatest l/g is taken, where both densities are those of single axes: on a grid these are counts of values, and neither
time nor memory depends on how many combos were run.

What keeps a batch diverse: a part of it is drawn from the prior, no combo comes twice or was run before, and when most
of what was drawn is a repetition the next draws choose among half as many candidates. What the model still repeats is
replaced by combos drawn evenly from the whole grid.

Axes of numbers listed in order are scales: a kernel is a normal density cut off at the ends, whose width follows
Scott's rule (Scott, Multivariate Density Estimation, 1992). Other axes are categories: a kernel keeps the value but for
a part that a prior of weight one leaves to all values, as in Optuna.

The tables that decide are rounded to integers, so the last bit of a logarithm, in which processors differ, decides
nothing.
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
from mei_pipeline.sweep.search.visited import Known, new

STARTUP = 10
"""Combos that are drawn from the prior before there is a model."""
GOOD_PART = 10
"""One in how many combos is good, up to `GOOD_MOST`."""
GOOD_MOST = 16
"""Most combos that are good."""
CANDIDATES = 8
"""Candidates for each proposal."""
EXPLORED_PART = 20
"""One in how many proposals is drawn from the prior."""

_PRIOR_WEIGHT = 1.0
_BANDWIDTH = 1.5  # times Scott's width; in steps of the axis, and never less than
_LEAST_BANDWIDTH = 0.45
_REACH = 4.0  # widths at which a kernel ends
_UNIT = 1 << 16  # of a rounded logarithm
_FINE, _FINEST = 12, 16  # bits of a table of quantiles, of short axes and of long ones
_LONG = 256
_BLOCK = 4096  # proposals that are made together: their candidates stay in a core's cache
_ROUNDS = 8  # of drawing again what was a repetition
_SCANNED = 1 << 16

Digits = NDArray[np.int16]


@dataclass(frozen=True)
class Past:
    """What proposals are made from; its size does not depend on how many combos were run.

    Attributes:
        combos: How many were run.
        scores: [G] scores of the best, best first; of equal ones the first that came.
        digits: [A, G] their settled digits (`Grid.digits`).
        counts: For each axis how often each value was run, and last how often the axis did not vary.
    """

    combos: int
    scores: Floats
    digits: Ints
    counts: tuple[Ints, ...]


class _Axis(NamedTuple):
    """The densities of one axis.

    Attributes:
        shift: Bits by which a word of 16 bits is moved to be a place in a row of `quantiles`.
        row: [good] row of each good combo, times the length of a row.
        quantiles: Values at even quantiles of the kernel around each distinct good value, row after row.
        gain: [V + 1] rounded logarithm of l/g of each value; 0 where the axis does not vary.
    """

    shift: int
    row: Ints
    quantiles: Digits
    gain: NDArray[np.int32]


def nothing(grid: Grid) -> Past:
    """The past of a search that has run nothing."""
    counts = tuple(np.zeros(len(axis.values) + 1, dtype=np.int64) for axis in grid.axes)
    return Past(0, np.zeros(0), np.zeros((len(grid.axes), 0), dtype=np.int64), counts)


def learn(past: Past, digits: Ints, scores: Floats) -> Past:
    """The past with K more combos.

    Args:
        past: What was run before them.
        digits: [A, K] settled digits.
        scores: [K] greater is better; no NaN.
    """
    together = np.concatenate([past.scores, scores])
    best = np.argsort(-together, kind="stable")[:GOOD_MOST]
    counts = tuple(
        before + np.bincount(of, minlength=len(before)) for before, of in zip(past.counts, digits, strict=True)
    )
    kept = np.concatenate([past.digits, digits], axis=1)[:, best]
    return Past(past.combos + len(scores), together[best], kept, counts)


def propose(grid: Grid, past: Past, known: Known, count: int, seed: int) -> Ints:
    """Numbers of `count` combos to run next, ascending; a function of its arguments and nothing else.

    Args:
        grid: The grid; it must have `count` combos that are not known.
        past: What came of earlier combos.
        known: Combos that must not come again.
        count: How many.
        seed: Of this batch.
    """
    bits = stream(seed)
    taken = np.zeros(0, dtype=np.int64)
    startup = past.combos < STARTUP
    explored = count if startup else count // EXPLORED_PART
    taken = _filled(taken, known, explored, lambda wanted, _: _from_prior(grid, bits, wanted))
    if not startup:
        model = _model(grid, past)

        def best(wanted: int, repeats: int) -> Ints:
            return _best(grid, model, bits, wanted, max(CANDIDATES >> repeats, 1))

        taken = _filled(taken, known, count, best)
    order, start = Permutation(grid.combos, seed), 0
    while len(taken) < count:
        places = np.arange(start, min(start + _SCANNED, grid.combos))
        if not len(places):
            raise ValueError(f"{count} combos to propose; the grid of {grid.combos} has {len(taken)} left")
        taken = np.concatenate([taken, new(order.at(places), known, taken)])[:count]
        start += _SCANNED
    return np.sort(taken)


def _filled(taken: Ints, known: Known, count: int, draw: Callable[[int, int], Ints]) -> Ints:
    """Draw until there are `count` combos, or until most of what was drawn has been a repetition for too often."""
    repeats = 0
    while len(taken) < count and repeats < _ROUNDS:
        wanted = min(count - len(taken), _BLOCK)
        found = new(draw(wanted, repeats), known, taken)
        taken = np.concatenate([taken, found])
        repeats += 2 * len(found) < wanted
    return taken


def _from_prior(grid: Grid, bits: np.random.PCG64, count: int) -> Ints:
    """Every value of an axis is as likely as the others; numbers may come more than once."""
    digits = np.stack([below(bits, len(axis.values), count) for axis in grid.axes])
    grid.settle(digits)
    return grid.numbers(digits)


def _best(grid: Grid, model: Sequence[_Axis], bits: np.random.PCG64, count: int, candidates: int) -> Ints:
    """The best of some candidates, `count` times; numbers may come more than once."""
    drawn = candidates * count
    centre = below(bits, len(model[0].row), drawn)
    digits = np.empty((len(model), drawn), dtype=np.int16)
    for axis, digit, word in zip(model, digits, words(bits, digits.shape), strict=True):
        place = axis.row[centre] + (word >> axis.shift)
        axis.quantiles.take(place, out=digit, mode="clip")
    grid.settle(digits)
    gain = np.zeros(drawn, dtype=np.int32)
    for axis, digit in zip(model, digits, strict=True):
        gain += axis.gain[digit]
    which = gain.reshape(candidates, count).argmax(axis=0) * count + np.arange(count)
    return grid.numbers(digits[:, which])


def _model(grid: Grid, past: Past) -> list[_Axis]:
    good = min(-(-past.combos // GOOD_PART), GOOD_MOST)
    parts = zip(grid.axes, past.digits[:, :good], past.counts, strict=True)
    return [_axis(axis.values, digits, counts) for axis, digits, counts in parts]


def _axis(values: Sequence[Value], good: Ints, counts: Ints) -> _Axis:
    """The densities of one axis.

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
    """Whether the values are numbers listed in order, so that neighbours are alike."""
    if any(isinstance(value, bool | str) for value in values):
        return False
    steps = np.diff(np.array(values, dtype=np.float64))
    return bool((steps > 0).all() or (steps < 0).all())


def _width(counts: Ints | Floats) -> float:
    """Width of a kernel, in steps of the axis, for values that came so often each."""
    total = float(counts.sum())
    if total == 0.0:
        return float(len(counts))
    place = np.arange(len(counts))
    mean = float(counts @ place) / total
    deviation = math.sqrt(max(float(counts @ (place * place)) / total - mean * mean, 0.0))
    return max(_BANDWIDTH * deviation * math.pow(total, -0.2), _LEAST_BANDWIDTH)


def _normal(width: float, size: int) -> Floats:
    """A normal density at whole steps, [2 r + 1], as far as it reaches on an axis of `size` values."""
    reach = min(math.ceil(_REACH * width), size - 1)
    found = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.asarray(found / found.sum())


def _around(kernel: Floats, centre: int, size: int) -> Floats:
    """The kernel around one value of an axis, cut off at its ends; even where the axis does not vary."""
    if centre == size:
        return np.full(size, 1.0 / size)
    reach = len(kernel) // 2
    found = np.zeros(size + 2 * reach)
    found[centre : centre + len(kernel)] = kernel
    found = found[reach : reach + size]
    return np.asarray(found / found.sum())


def _inside(kernel: Floats, size: int) -> Floats:
    """[V] how much of the kernel around each value lies on the axis."""
    reach = len(kernel) // 2
    return np.asarray(np.convolve(np.ones(size), kernel)[reach : reach + size])


def _quantiles(density: Floats, bits: int) -> Digits:
    """[2^bits] values at even quantiles of a density over the values of an axis."""
    edges = np.rint(np.cumsum(density) * (1 << bits)).astype(np.int64)
    edges[-1] = 1 << bits
    return np.repeat(np.arange(len(density)), np.diff(edges, prepend=0)).astype(np.int16)
