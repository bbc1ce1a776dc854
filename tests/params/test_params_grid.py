import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.errors import ConfigError
from mei_pipeline.params.grid import Axis, Grid, condition_problems, in_order

NAMES = "abcd"


def every_combo(axes, fixed, chosen=None):
    """All combos by the definition: level by level, an axis whose condition fails keeps its fixed value."""
    chosen = chosen or {}
    if len(chosen) == len(axes):
        return [chosen]
    axis = axes[len(chosen)]
    known = {**fixed, **chosen}
    varies = all(known[path] == value for path, value in axis.when.items())
    values = axis.values if varies else (fixed[axis.path],)
    return [combo for value in values for combo in every_combo(axes, fixed, {**chosen, axis.path: value})]


def listed(grid, numbers=None):
    numbers = np.arange(grid.combos) if numbers is None else np.array(numbers)
    columns = {path: of.to_list() for path, of in grid.values(numbers).items()}
    return [dict(zip(columns, combo, strict=True)) for combo in zip(*columns.values(), strict=True)]


@st.composite
def grids(draw):
    fixed = {name: draw(st.integers(0, 2)) for name in (*NAMES, "z")}
    axes = []
    for index, name in enumerate(NAMES):
        values = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)))
        asked = draw(st.sets(st.sampled_from([*NAMES[:index], "z"]), max_size=2))
        axes.append(Axis(name, values, {path: draw(st.integers(0, 2)) for path in sorted(asked)}))
    return axes, fixed


@given(grids())
def test_numbers_go_through_the_tree_in_order(grid):
    axes, fixed = grid
    expected = every_combo(axes, fixed)
    found = Grid(axes, fixed)
    assert found.combos == len(expected)
    assert listed(found) == expected
    assert len({tuple(combo.items()) for combo in expected}) == len(expected)


@given(grids(), st.data())
def test_a_range_of_numbers_is_a_slice_of_all(grid, data):
    axes, fixed = grid
    found = Grid(axes, fixed)
    start = data.draw(st.integers(0, found.combos))
    stop = data.draw(st.integers(start, found.combos))
    assert listed(found, range(start, stop)) == every_combo(axes, fixed)[start:stop]


@given(grids(), st.data())
def test_digits_lead_back_to_their_number(grid, data):
    found = Grid(*grid)
    numbers = np.array(data.draw(st.lists(st.integers(0, found.combos - 1), max_size=8)), dtype=np.int64)
    digits = found.digits(numbers)
    assert found.numbers(digits).tolist() == numbers.tolist()
    again = digits.astype(np.int16)
    found.settle(again)
    assert np.array_equal(again, digits)


@given(grids(), st.randoms(use_true_random=False))
def test_any_digits_settle_to_a_combo(grid, random):
    found = Grid(*grid)
    drawn = np.array([[random.randrange(len(axis.values)) for _ in range(8)] for axis in found.axes])
    settled = drawn.copy()
    found.settle(settled)
    assert np.array_equal(found.digits(found.numbers(settled)), settled)
    idle = settled != drawn
    assert (settled[idle] == np.array([[len(axis.values)] for axis in found.axes]).repeat(8, axis=1)[idle]).all()


@given(grids())
def test_what_varies_is_what_some_combo_varies(grid):
    axes, fixed = grid
    found = Grid(axes, fixed)
    combos = every_combo(axes, fixed)
    for axis in axes:
        if any({**fixed, **combo}.items() >= axis.when.items() for combo in combos):
            assert found.varies(axis.path)
        else:
            assert not found.varies(axis.path)
            assert condition_problems(axes, fixed)


def test_an_axis_without_its_condition_counts_once():
    axes = (Axis("on", (True, False)), Axis("size", (1.0, 1.5), {"on": True}))
    assert listed(Grid(axes, {"on": True, "size": 9.0})) == [
        {"on": True, "size": 1.0},
        {"on": True, "size": 1.5},
        {"on": False, "size": 9.0},
    ]


def test_a_single_conditional_value_is_not_the_fixed_one():
    axes = (Axis("on", (True, False)), Axis("size", (1.0,), {"on": True}))
    assert [combo["size"] for combo in listed(Grid(axes, {"size": 9.0}))] == [1.0, 9.0]


def test_billions_of_combos_are_numbered_without_being_listed():
    axes = [Axis(name, tuple(range(200))) for name in "abcd"]
    axes.append(Axis("e", (1, 2), {"b": 7}))
    grid = Grid(axes, {"e": 0})
    assert grid.combos == 200**4 + 200**3
    first = 5 * (200**3 + 200**2) + 7 * 200**2
    assert listed(grid, range(first - 1, first + 3)) == [
        {"a": 5, "b": 6, "c": 199, "d": 199, "e": 0},
        {"a": 5, "b": 7, "c": 0, "d": 0, "e": 1},
        {"a": 5, "b": 7, "c": 0, "d": 0, "e": 2},
        {"a": 5, "b": 7, "c": 0, "d": 1, "e": 1},
    ]


def test_numbers_up_to_two_to_the_62():
    grid = Grid([Axis(f"a{index}", (0, 1, 2, 3)) for index in range(31)], {})
    assert grid.combos == 2**62
    numbers = np.array([0, 1, 2**61 + 5, 2**62 - 1])
    assert grid.numbers(grid.digits(numbers)).tolist() == numbers.tolist()


def test_a_count_that_no_integer_register_holds():
    assert Grid([Axis(name, tuple(range(10_000))) for name in "abcdef"], {}).combos == 10**24


def test_slow_axes_come_first_and_conditions_before_what_they_rule():
    axes = [
        Axis("exit", (1, 2)),
        Axis("switch", (True, False)),
        Axis("entry", (1, 2), {"switch": True}),
        Axis("window", (5, 8)),
        Axis("late", (1, 2), {"exit": 1, "window": 5}),
    ]
    rank = {"exit": 2, "switch": 2, "entry": 1, "window": 0, "late": 2}
    assert [axis.path for axis in in_order(axes, rank)] == ["window", "switch", "entry", "exit", "late"]


@pytest.mark.parametrize(
    ("axes", "where", "text"),
    [
        ([Axis("a", (1, 2), {"f": 3})], ("a", "f"), "3 is never taken; it is 1 in every combo"),
        ([Axis("a", (1, 2), {"b": 3}), Axis("b", (1, 2))], ("a", "b"), "3 is never taken; the axis has 1, 2"),
        ([Axis("a", (1, 2), {"a": 1})], ("a", "a"), "circular: this axis depends on its own value"),
        ([Axis("a", (1, 2), {"b": 1}), Axis("b", (1, 2), {"a": 1})], ("b", "a"), "circular"),
        (
            [Axis("a", (1, 2)), Axis("b", (5, 6), {"a": 1}), Axis("c", (1, 2), {"a": 2, "b": 5})],
            ("c", "a"),
            "these values never come together",
        ),
    ],
)
def test_conditions_that_can_not_be(axes, where, text):
    assert condition_problems(axes, {"a": 0, "b": 0, "c": 0, "f": 1})[where].startswith(text)


def test_conditions_that_can_be():
    axes = [Axis("a", (1, 2)), Axis("b", (5, 6), {"a": 1}), Axis("c", (1, 2), {"b": 0}), Axis("d", (1, 2), {"f": 1})]
    assert condition_problems(axes, {"a": 0, "b": 0, "c": 0, "d": 0, "f": 1}) == {}


def test_too_many_branches_are_refused():
    axes = [Axis(name, tuple(range(30))) for name in "abc"]
    axes.append(Axis("d", (1, 2), dict.fromkeys("abc", 1)))
    with pytest.raises(ConfigError, match="`when` distinguishes more than 10,000 combinations"):
        Grid(axes, {"d": 0})


def test_no_numbers_are_no_combos():
    assert Grid([Axis("a", (1, 2))], {}).values(np.arange(0))["a"].to_list() == []


@given(grids())
def test_neighbours_differ_by_one_step_on_one_axis(grid):
    axes, fixed = grid
    found = Grid(axes, fixed)
    every = found.digits(np.arange(found.combos)).T
    numbers = np.arange(found.combos)[::-1]
    pairs = [pair for places, others in found.neighbours(numbers) for pair in zip(numbers[places], others, strict=True)]
    idle = np.array([len(axis.values) for axis in axes])

    def one_step(own, other):
        """One axis that varies in both moves by one; the others agree, or their condition no longer holds."""
        moved = [a for a in range(len(axes)) if abs(own[a] - other[a]) == 1 and own[a] < idle[a] and other[a] < idle[a]]
        same = (own == other) | (other == idle)
        return len(moved) >= 1 and any(all(same[b] for b in range(len(axes)) if b != a) for a in moved)

    expected = {(i, j) for i, own in enumerate(every) for j, other in enumerate(every) if one_step(own, other)}
    assert set(pairs) == expected
    assert len(pairs) == len(expected)
