"""Numbered combos of axes, some of which vary only if another parameter has a certain value.

Combos are numbered as leaves of a tree with one level per axis, the slowest first. An axis that varies splits a node
once per value. An axis whose condition fails passes on its one fixed value. The number of combos below a node depends
only on values that conditions of lower levels refer to. So the tree is never built: each axis has a table with one row
per combination of such values, and a number is decoded level by level. Memory and time for a range of numbers depend on
its length, not on the number of combos in the grid.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.market import Ints
from kernels.params import Value
from mei_pipeline.errors import ConfigError

Digits = NDArray[np.signedinteger[Any]]
"""Index into its values that each axis has."""

MAX_BRANCHES = 10_000
"""Most combinations of values that conditions may distinguish at one axis."""


class CodedValues(NamedTuple):
    """Values of one parameter for K combos: the distinct values, and an index for each combo.

    Attributes:
        values: The distinct values.
        codes: [K] index into `values`.
    """

    values: tuple[Value, ...]
    codes: Ints

    def to_list(self) -> list[Value]:
        """Return the value of each combo."""
        return [self.values[i] for i in self.codes]


@dataclass(frozen=True)
class Axis:
    """A parameter that a grid varies.

    Attributes:
        path: Path of the parameter.
        values: Its values, in order.
        when: Value that each of these other parameters must have for the axis to vary.
    """

    path: str
    values: tuple[Value, ...]
    when: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class _Node:
    """All nodes of one level of the tree that conditions of lower levels do not distinguish.

    Attributes:
        varies: True if the axis varies here.
        targets: Node of the next level for each value; for its fixed value if the axis does not vary.
    """

    varies: bool
    targets: tuple[int, ...]


@dataclass(frozen=True)
class _Level:
    """Tables to decode one axis of a number; each row is a node.

    Attributes:
        path: Path of the axis.
        values: Its values, followed by its fixed value.
        varies: [rows] 1 if it varies.
        target: [rows, values] node of the next level; if it does not vary, only the last column is valid.
        start: [rows, values] combos of the node before the first one with this value.
        below: [rows] combos below each value if all values have the same number, otherwise 0.
        forks: True if the next level has more than one node.
    """

    path: str
    values: tuple[Value, ...]
    varies: Ints
    target: Ints
    start: Ints
    below: Ints
    forks: bool


class Grid:
    """Numbered combos of some axes."""

    def __init__(self, axes: Sequence[Axis], fixed: Mapping[str, Value]) -> None:
        """Give every combo a number.

        Args:
            axes: Axes, the slowest first, each after the axes of its condition: see `in_order`.
            fixed: Values of parameters without an axis, and of axes with a condition where it fails.

        Raises:
            ConfigError: Conditions distinguish more than `MAX_BRANCHES` combinations.
        """
        self.axes = tuple(axes)
        self._fixed = fixed
        self._nodes = _walk(self.axes, fixed)
        self._counts = [[1]]
        for nodes in reversed(self._nodes):
            below = self._counts[0]
            self._counts.insert(0, [sum(below[target] for target in node.targets) for node in nodes])

    @property
    def combos(self) -> int:
        """Number of combos."""
        return self._counts[0][0]

    def varies(self, path: str) -> bool:
        """Return True if the axis `path` varies in any combo."""
        pairs = zip(self.axes, self._nodes, strict=True)
        return any(node.varies for axis, nodes in pairs for node in nodes if axis.path == path)

    def values(self, numbers: Ints) -> dict[str, CodedValues]:
        """Return the value of each axis for each of the combos `numbers` [K], by path."""
        digits = self.digits(numbers)
        return {level.path: CodedValues(level.values, digit) for level, digit in zip(self._levels, digits, strict=True)}

    def digits(self, numbers: Ints) -> Ints:
        """Return the index into its values that each axis has in each of the combos `numbers` [K].

        Returns:
            [A, K] index into the values of the axis; one past the last if the axis does not vary.
        """
        remainder = np.array(numbers, dtype=np.int64)
        row = np.zeros(len(remainder), dtype=np.int64)
        digits = np.empty((len(self.axes), len(remainder)), dtype=np.int64)
        for level, digit in zip(self._levels, digits, strict=True):
            digit[:] = _digits(level, row, remainder)
            remainder -= level.start[row, digit]
            row = level.target[row, digit]
        return digits

    def settle(self, digits: Digits) -> None:
        """Set the digits of axes that do not vary to one past the last, in place.

        Args:
            digits: [A, K] index into the values of each axis; any index where the axis does not vary.
        """
        row: Ints | int = 0  # one node for all combos, until a condition distinguishes them
        for level, digit in zip(self._levels, digits, strict=True):
            idle = level.varies[row] == 0
            if idle.any():
                digit[...] = np.where(idle, len(level.values) - 1, digit)
            row = level.target[row, digit] if level.forks else 0

    def numbers(self, digits: Digits) -> Ints:
        """Return the numbers of the combos with these settled digits [A, K]; the inverse of `digits`."""
        numbers = np.zeros(digits.shape[1], dtype=np.int64)
        row: Ints | int = 0
        for level, digit in zip(self._levels, digits, strict=True):
            numbers += level.start[row, digit]
            row = level.target[row, digit] if level.forks else 0
        return numbers

    def neighbours(self, numbers: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Pair combos with those one step away on one axis, for each axis and direction.

        Args:
            numbers: [K] combos.

        Yields:
            Indices into `numbers` of the combos with such a neighbour, and the numbers of these neighbours. A combo has
            no neighbour if the step makes the condition of another axis hold, which then has no value to keep.
        """
        digits = self.digits(numbers)
        for axis, (level, axis_digits) in enumerate(zip(self._levels, digits, strict=True)):
            last = len(level.values) - 1
            for step in (-1, 1):
                places = np.flatnonzero((axis_digits < last) & (axis_digits + step >= 0) & (axis_digits + step < last))
                moved = digits[:, places]
                moved[axis] += step
                self.settle(moved)
                neighbours = self.numbers(moved)
                kept = (self.digits(neighbours) == moved).all(axis=0)
                yield places[kept], neighbours[kept]

    @functools.cached_property
    def _levels(self) -> list[_Level]:
        parts = zip(self.axes, self._nodes, self._counts[1:], strict=True)
        return [_level(axis, self._fixed, nodes, below) for axis, nodes, below in parts]


def in_order(axes: Iterable[Axis], rank: Mapping[str, int]) -> tuple[Axis, ...]:
    """Return the axes, slowest first: by rank, but each after the axes of its condition.

    Args:
        axes: Axes; their conditions are not circular.
        rank: Rank by path; low ranks vary slowly, and equal ones keep their order.
    """
    remaining = {axis.path: axis for axis in axes}
    first = {path: min(rank[name] for name in (path, *_children(path, remaining))) for path in remaining}
    order: list[Axis] = []
    while remaining:
        ready = [path for path, axis in remaining.items() if not remaining.keys() & axis.when.keys()]
        order.append(remaining.pop(min(ready, key=first.__getitem__)))
    return tuple(order)


def condition_problems(axes: Sequence[Axis], fixed: Mapping[str, Value]) -> dict[tuple[str, str], str]:
    """Return the problems of conditions, by path of the axis and path in its condition.

    Args:
        axes: Axes in any order.
        fixed: As for `Grid`.
    """
    by_path = {axis.path: axis for axis in axes}
    problems: dict[tuple[str, str], str] = {}
    for axis in axes:
        for path, value in axis.when.items():
            if axis.path == path or axis.path in _children(axis.path, by_path):
                problems[axis.path, path] = "circular: this axis depends on its own value"
            elif path not in by_path:
                if fixed[path] != value:
                    problems[axis.path, path] = (
                        f"{_show(value)} is never taken; it is {_show(fixed[path])} in every combo"
                    )
            else:
                possible = (*by_path[path].values, *([fixed[path]] if by_path[path].when else []))
                if value not in possible:
                    listed = ", ".join(map(_show, dict.fromkeys(possible)))
                    problems[axis.path, path] = f"{_show(value)} is never taken; the axis has {listed}"
    if not problems:
        grid = Grid(in_order(axes, dict.fromkeys(by_path, 0)), fixed)
        idle = [axis for axis in axes if axis.when and not grid.varies(axis.path)]
        problems = {(axis.path, next(iter(axis.when))): "these values never come together" for axis in idle}
    return problems


def _children(path: str, axes: Mapping[str, Axis]) -> set[str]:
    """Return the axes whose conditions refer to `path`, directly or through other axes."""
    children: set[str] = set()
    added = {path}
    while added:
        added = {name for name, axis in axes.items() if added & axis.when.keys()} - children
        children |= added
    return children


def _walk(axes: tuple[Axis, ...], fixed: Mapping[str, Value]) -> list[list[_Node]]:
    """Return the nodes of each level; the last level has one common target."""
    states: list[tuple[tuple[str, Value], ...]] = [()]
    levels = []
    for index, axis in enumerate(axes):
        referred = set(itertools.chain.from_iterable(later.when for later in axes[index + 1 :]))
        numbers: dict[tuple[tuple[str, Value], ...], int] = {}
        nodes = []
        for state in states:
            values = {**fixed, **dict(state)}
            varies = all(values[path] == value for path, value in axis.when.items())
            # Only values in later conditions distinguish nodes, so that a level has few of them.
            state_after = tuple((path, value) for path, value in state if path in referred)
            targets = []
            for value in axis.values if varies else (fixed[axis.path],):
                following = (*state_after, (axis.path, value)) if axis.path in referred else state_after
                targets.append(numbers.setdefault(following, len(numbers)))
            nodes.append(_Node(varies, tuple(targets)))
        if len(numbers) > MAX_BRANCHES:
            raise ConfigError(
                f"axes: `when` distinguishes more than {MAX_BRANCHES:,} combinations; split the axes over sweeps"
            )
        levels.append(nodes)
        states = list(numbers)
    return levels


def _level(axis: Axis, fixed: Mapping[str, Value], nodes: list[_Node], counts: list[int]) -> _Level:
    """Return the tables to decode one axis."""
    last = len(axis.values)
    target, start = np.zeros((2, len(nodes), last + 1), dtype=np.int64)
    below = np.zeros(len(nodes), dtype=np.int64)
    for row, node in enumerate(nodes):
        columns = slice(0, last) if node.varies else slice(last, last + 1)
        each = [counts[number] for number in node.targets]
        target[row, columns] = node.targets
        start[row, columns] = list(itertools.accumulate(each[:-1], initial=0))
        below[row] = each[0] if len(set(each)) == 1 else 0
    varies = np.array([node.varies for node in nodes], dtype=np.int64)
    values = (*axis.values, fixed.get(axis.path, axis.values[0]))
    return _Level(axis.path, values, varies, target, start, below, forks=bool(target.any()))


def _digits(level: _Level, row: Ints, remainder: Ints) -> Ints:
    """Return the digit of each combo from its number below the node of the level."""
    last = len(level.values) - 1
    digit = np.full(len(row), last, dtype=np.int64)
    varies = level.varies[row] == 1
    even = varies & (level.below[row] > 0)
    digit[even] = remainder[even] // level.below[row[even]]
    for uneven in np.unique(row[varies & ~even]):
        here = row == uneven
        digit[here] = np.searchsorted(level.start[uneven, :last], remainder[here], side="right") - 1
    return digit


def _show(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
