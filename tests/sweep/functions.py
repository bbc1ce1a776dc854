"""Standard test functions of optimisation on a grid of digits, each to be made as great as it can be."""

import numpy as np

from mei_pipeline.params.grid import Axis, Grid
from mei_pipeline.sweep.search import tpe
from mei_pipeline.sweep.search.permutation import Permutation
from mei_pipeline.sweep.search.visited import VisitedCombos

AXES, VALUES, CATEGORIES = 20, 8, 4
_LETTERS = "abcd"


def _points(digits):
    """[K, A] coordinates from -5 to 5, off the centre by up to 2 on each axis."""
    shift = np.random.default_rng(0).uniform(-2, 2, len(digits))
    return (np.linspace(-5, 5, VALUES)[digits]).T - shift


def sphere(digits):
    return -(_points(digits) ** 2).sum(axis=1)


def rosenbrock(digits):
    z = _points(digits) * 0.4 + 1
    return -(100 * (z[:, 1:] - z[:, :-1] ** 2) ** 2 + (1 - z[:, :-1]) ** 2).sum(axis=1)


def ackley(digits):
    x = _points(digits)
    spread, waves = np.sqrt((x**2).mean(axis=1)), np.cos(2 * np.pi * x).mean(axis=1)
    return 20 * np.exp(-0.2 * spread) + np.exp(waves) - 20 - np.e


def rastrigin(digits):
    x = _points(digits)
    return -(10 + x**2 - 10 * np.cos(2 * np.pi * x)).sum(axis=1)


def levy(digits):
    w = 1 + _points(digits) / 4
    middle = ((w[:, :-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:, :-1] + 1) ** 2)).sum(axis=1)
    last = (w[:, -1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[:, -1]) ** 2)
    return -(np.sin(np.pi * w[:, 0]) ** 2 + middle + last)


def ellipsoid(digits):
    """Turned, so that no axis means anything alone."""
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(len(digits), len(digits))))
    return -((_points(digits) @ turn) ** 2 * np.logspace(0, 2, len(digits))).sum(axis=1)


def categories(digits):
    """A random gain for each category, and for each pair of categories of twenty pairs of axes."""
    rng, axes = np.random.default_rng(0), np.arange(len(digits))
    alone = rng.normal(size=(len(digits), CATEGORIES))
    pairs = rng.normal(size=(len(digits), CATEGORIES, CATEGORIES))
    others = digits[(axes * 7 + 3) % len(digits)]
    return alone[axes[:, None], digits].sum(axis=0) + pairs[axes[:, None], digits, others].sum(axis=0)


FUNCTIONS = {f.__name__: f for f in (sphere, rosenbrock, ackley, rastrigin, levy, ellipsoid, categories)}


def grid_of(function):
    values = tuple(_LETTERS) if function is categories else tuple(range(VALUES))
    return Grid([Axis(f"a{index}", values) for index in range(AXES)], {})


def best_of_tpe(function, budget, batch, seed, lag=2):
    """The greatest value of `budget` combos, with `lag` - 1 batches at work while the next is proposed."""
    grid, known, waiting, best = grid_of(function), VisitedCombos(), [], -np.inf
    history = tpe.no_history(grid)
    for number, start in enumerate(range(0, budget, batch)):
        if len(waiting) >= lag:
            history = tpe.learn(history, *waiting.pop(0))
        numbers = tpe.propose(grid, history, known, min(batch, budget - start), seed * 1_000_003 + number)
        known.add(numbers)
        digits = grid.digits(numbers)
        waiting.append((digits, function(digits)))
        best = max(best, waiting[-1][1].max())
    assert len(known) == budget
    return best


def best_of_random(function, budget, seed):
    grid = grid_of(function)
    return function(grid.digits(Permutation(grid.combos, seed).at(np.arange(budget)))).max()
