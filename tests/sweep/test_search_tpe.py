"""The estimator: what it proposes, of what, and how much better that is than chance."""

import numpy as np
import pytest
from functions import FUNCTIONS, best_of_random, best_of_tpe
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.params.grid import Axis, Grid
from mei_pipeline.sweep.search import tpe
from mei_pipeline.sweep.search.visited import VisitedCombos

SWITCHED = Grid(
    [
        Axis("on", (True, False)),
        Axis("size", tuple(range(9)), {"on": True}),
        Axis("mode", ("a", "b", "c")),
        Axis("other", tuple(range(5))),
    ],
    {"size": 99},
)


def after(grid, numbers, score):
    digits = grid.digits(np.array(numbers))
    return tpe.learn(tpe.no_history(grid), digits, score(digits))


@given(st.integers(0, 2**64), st.integers(0, 60), st.integers(0, 60))
def test_a_batch_is_new_sorted_and_a_function_of_its_arguments(seed, run, count):
    known = VisitedCombos()
    known.add(np.arange(run))
    history = after(SWITCHED, range(run), lambda digits: digits[3].astype(float)) if run else tpe.no_history(SWITCHED)
    found = tpe.propose(SWITCHED, history, known, count, seed)
    assert len(found) == count
    assert (np.diff(found) > 0).all()
    assert not known.has(found).any()
    assert found.max(initial=0) < SWITCHED.combos
    assert found.tolist() == tpe.propose(SWITCHED, history, known, count, seed).tolist()


def test_another_seed_proposes_others():
    history = after(SWITCHED, range(0, 150, 3), lambda digits: digits[3].astype(float))
    batches = [tpe.propose(SWITCHED, history, VisitedCombos(), 20, seed).tolist() for seed in (1, 2)]
    assert batches[0] != batches[1]


def test_the_whole_grid_can_be_run_and_no_more():
    known, history = VisitedCombos(), tpe.no_history(SWITCHED)
    for seed in range(SWITCHED.combos // 15):
        found = tpe.propose(SWITCHED, history, known, 15, seed)
        known.add(found)
        history = tpe.learn(history, SWITCHED.digits(found), -found.astype(float))
    assert len(known) == SWITCHED.combos == 150
    with pytest.raises(ValueError, match="too few combos left: 0 of 1 in a grid of 150"):
        tpe.propose(SWITCHED, history, known, 1, 0)


@given(st.lists(st.tuples(st.integers(0, 149), st.integers(-3, 3)), min_size=1, max_size=60), st.integers(1, 59))
def test_learning_in_parts_is_learning_at_once(rows, cut):
    numbers, scores = np.array(rows).T
    digits = SWITCHED.digits(numbers)
    whole = tpe.learn(tpe.no_history(SWITCHED), digits, scores.astype(float))
    parts = tpe.learn(tpe.no_history(SWITCHED), digits[:, :cut], scores[:cut].astype(float))
    parts = tpe.learn(parts, digits[:, cut:], scores[cut:].astype(float))
    assert whole.combos == parts.combos == len(rows)
    for one, other in zip((whole.scores, whole.digits, *whole.counts), (parts.scores, parts.digits, *parts.counts)):  # noqa: B905 - of one length by their type
        assert np.array_equal(one, other)
    best = sorted(range(len(rows)), key=lambda row: -scores[row])[: tpe.GOOD_MOST]  # the first of equal ones
    assert whole.digits.T.tolist() == digits[:, best].T.tolist()


def test_what_is_held_does_not_grow_with_the_combos():
    history = after(SWITCHED, np.arange(100_000) % 150, lambda digits: digits[3].astype(float))
    assert history.digits.shape == (4, tpe.GOOD_MOST)
    assert [len(of) for of in history.counts] == [3, 10, 4, 6]


def test_proposals_gather_where_the_good_ones_are():
    grid = Grid([Axis("x", tuple(range(50))), Axis("y", tuple(range(50))), Axis("z", tuple(range(50)))], {})
    rng = np.random.default_rng(1)
    numbers = rng.choice(grid.combos, 2000, replace=False)
    history = after(grid, numbers, lambda digits: -np.abs(digits[0] - 40).astype(float) - np.abs(digits[1] - 5))
    found = grid.digits(tpe.propose(grid, history, VisitedCombos(), 1000, 3))
    near = (np.abs(found[0] - 40) <= 8) & (np.abs(found[1] - 5) <= 8)
    assert near.mean() > 0.85  # a twentieth is drawn from the prior
    assert near.mean() < 1.0
    assert len(np.unique(found[2])) > 40  # it makes no difference


def test_an_axis_that_does_not_vary_teaches_nothing():
    """`size` is run without `on` only, where it does not vary: it must stay as even as before."""
    off = [number for number in range(150) if SWITCHED.digits(np.array([number]))[0, 0] == 1]
    history = after(SWITCHED, off, lambda digits: digits[3].astype(float))
    assert history.counts[1].tolist() == [0] * 9 + [len(off)]
    found = SWITCHED.digits(tpe.propose(SWITCHED, history, VisitedCombos(), 60, 1))
    assert set(found[1, found[0] == 1].tolist()) == {9}
    assert len(set(found[1, found[0] == 0].tolist())) > 4
    assert (found[3] >= 3).mean() > 0.6


def test_a_condition_is_learned():
    """The best combos need `on` with a large `size`; each alone is worthless."""
    rng = np.random.default_rng(2)
    axes = [Axis(f"noise{index}", tuple(range(6))) for index in range(6)]
    grid = Grid([*SWITCHED.axes, *axes], {"size": 99})
    numbers = rng.choice(grid.combos, 3000, replace=False)
    history = after(grid, numbers, lambda digits: np.where(digits[0] == 0, digits[1] == 7, 0.5).astype(float))
    found = grid.digits(tpe.propose(grid, history, VisitedCombos(), 500, 5))
    assert ((found[0] == 0) & (np.abs(found[1] - 7) <= 1)).mean() > 0.75


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 2, 5), True),
        ((3.0, 2.0, 1.0), True),
        ((1, 3, 2), False),
        ((False, True), False),
        (("low", "high"), False),
        ((7,), True),
    ],
)
def test_numbers_in_order_are_a_scale(values, expected):
    assert tpe.is_scale(values) is expected


def test_axes_of_one_and_of_ten_thousand_values():
    grid = Grid([Axis("one", (1,)), Axis("many", tuple(range(10_000))), Axis("two", (0, 1))], {})
    numbers = np.arange(0, grid.combos, 40)
    history = after(grid, numbers, lambda digits: -np.abs(digits[1] - 7000.0))
    found = grid.digits(tpe.propose(grid, history, VisitedCombos(), 400, 1))
    assert (np.abs(found[1] - 7000) < 300).mean() > 0.8
    assert len(np.unique(found[1])) > 100


SOME = {"ackley", "categories", "ellipsoid", "rastrigin"}
"""Functions of the default tier: many valleys, categories, and axes of unequal weight."""


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name", [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in FUNCTIONS]
)
def test_it_beats_chance_by_far(name, seed):
    """A thousand combos of the estimator against twenty thousand at random, in batches of 20 with one at work."""
    assert best_of_tpe(FUNCTIONS[name], 1000, 20, seed) > best_of_random(FUNCTIONS[name], 20_000, seed)


@pytest.mark.parametrize(
    "name", ["categories", *(pytest.param(name, marks=pytest.mark.long) for name in ("sphere", "ellipsoid"))]
)
def test_large_batches_find_more_than_small_budgets(name):
    assert best_of_tpe(FUNCTIONS[name], 20_000, 1000, 1) > best_of_tpe(FUNCTIONS[name], 1000, 50, 1)
