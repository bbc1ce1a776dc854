"""The combos of a grid, numbered: axes, some of which vary only where another parameter has a certain value.

Combos are numbered as in a tree that has one level per axis, the slowest first. An axis that varies splits a node once
per value; an axis that does not, because its condition fails there, passes on its one fixed value. How many combos lie
below a node depends only on the values of those axes above it that conditions below still ask for. So the tree is never
built: per axis there is a table with one row for each combination of such values, and a number is taken apart level by
level. Memory and time for a range of numbers depend on its length, not on how many combos the grid has.
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
"""Which of its values each axis has."""

MAX_BRANCHES = 10_000
"""Most combinations of values that conditions may tell apart at one axis."""


class CodedValues(NamedTuple):
    """Values of one parameter for K combos: few distinct ones, and which of them each combo has.

    Attributes:
        values: The distinct values.
        codes: [K] index into `values`.
    """

    values: tuple[Value, ...]
    codes: Ints

    def to_list(self) -> list[Value]:
        """One value for each combo."""
        return [self.values[i] for i in self.codes]


def encode_values(values: Sequence[Value]) -> CodedValues:
    """One value for each combo, given one by one."""
    distinct = tuple(dict.fromkeys(values))
    place = {value: index for index, value in enumerate(distinct)}
    return CodedValues(distinct, np.array([place[value] for value in values], dtype=np.int64))


@dataclass(frozen=True)
class Axis:
    """A parameter that a grid varies.

    Attributes:
        path: Path of the parameter.
        values: Its values, in order.
        when: Value that each of these other parameters must have; where one has not, the axis does not vary.
    """

    path: str
    values: tuple[Value, ...]
    when: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class _Node:
    """All nodes of one level of the tree that conditions below can't tell apart.

    Attributes:
        varies: Whether the axis varies here.
        targets: Which node of the next level each value leads to; where the axis does not vary, its fixed value.
    """

    varies: bool
    targets: tuple[int, ...]


@dataclass(frozen=True)
class _Level:
    """One axis as numbers are taken apart; the rows are its nodes.

    Attributes:
        path: Path of the axis.
        values: Its values, and after them the value that it has where it does not vary.
        varies: [rows] 1 where it varies.
        target: [rows, values] node of the next level; where it does not vary only the last column holds.
        start: [rows, values] combos of the node that come before the first with this value.
        below: [rows] combos below each value where that is the same for all; 0 where it is not.
        forks: Whether the next level has more than one node.
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
        """Number the combos.

        Args:
            axes: Axes, the slowest first, each after the axes that its condition asks for: see `in_order`.
            fixed: Values of parameters that no axis varies, and of conditional axes where they do not vary.

        Raises:
            ConfigError: Conditions tell more than `MAX_BRANCHES` combinations apart.
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
        """How many combos there are."""
        return self._counts[0][0]

    def varies(self, path: str) -> bool:
        """Whether the axis `path` varies in any combo."""
        pairs = zip(self.axes, self._nodes, strict=True)
        return any(node.varies for axis, nodes in pairs for node in nodes if axis.path == path)

    def values(self, numbers: Ints) -> dict[str, CodedValues]:
        """Value of each axis for each of the combos `numbers` [K], by path."""
        digits = self.digits(numbers)
        return {level.path: CodedValues(level.values, digit) for level, digit in zip(self._levels, digits, strict=True)}

    def digits(self, numbers: Ints) -> Ints:
        """Which of its values each axis has in each of the combos `numbers` [K].

        Returns:
            [A, K] index into the values of the axis; one past the last where the axis does not vary.
        """
        rest = np.array(numbers, dtype=np.int64)
        row = np.zeros(len(rest), dtype=np.int64)
        found = np.empty((len(self.axes), len(rest)), dtype=np.int64)
        for level, digit in zip(self._levels, found, strict=True):
            digit[:] = _digits(level, row, rest)
            rest -= level.start[row, digit]
            row = level.target[row, digit]
        return found

    def settle(self, digits: Digits) -> None:
        """Set the digits of axes that do not vary to one past the last, in place.

        Args:
            digits: [A, K] index into the values of each axis, whatever it says where the axis does not vary.
        """
        row: Ints | int = 0  # one for all as long as no condition tells combos apart
        for level, digit in zip(self._levels, digits, strict=True):
            idle = level.varies[row] == 0
            if idle.any():
                digit[...] = np.where(idle, len(level.values) - 1, digit)
            row = level.target[row, digit] if level.forks else 0

    def numbers(self, digits: Digits) -> Ints:
        """Numbers of the combos with these settled digits [A, K]; the inverse of `digits`."""
        found = np.zeros(digits.shape[1], dtype=np.int64)
        row: Ints | int = 0
        for level, digit in zip(self._levels, digits, strict=True):
            found += level.start[row, digit]
            row = level.target[row, digit] if level.forks else 0
        return found

    def neighbours(self, numbers: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Pair combos with those one step away on one axis, an axis and a direction at a time.

        Args:
            numbers: [K] combos.

        Yields:
            Places in `numbers` of the combos that have such a neighbour, and the numbers of these neighbours. An axis
            whose condition starts to hold with the step has no value to keep: such a step has no neighbour.
        """
        digits = self.digits(numbers)
        for axis, (level, own) in enumerate(zip(self._levels, digits, strict=True)):
            last = len(level.values) - 1
            for step in (-1, 1):
                places = np.flatnonzero((own < last) & (own + step >= 0) & (own + step < last))
                moved = digits[:, places]
                moved[axis] += step
                self.settle(moved)
                found = self.numbers(moved)
                kept = (self.digits(found) == moved).all(axis=0)
                yield places[kept], found[kept]

    @functools.cached_property
    def _levels(self) -> list[_Level]:
        parts = zip(self.axes, self._nodes, self._counts[1:], strict=True)
        return [_level(axis, self._fixed, nodes, below) for axis, nodes, below in parts]


def in_order(axes: Iterable[Axis], rank: Mapping[str, int]) -> tuple[Axis, ...]:
    """The axes, slowest first: by rank, but never before an axis that their condition asks for.

    Args:
        axes: The axes; conditions make no circle.
        rank: Rank by path; low ones vary slowest, and equal ones keep their order.
    """
    left = {axis.path: axis for axis in axes}
    first = {path: min(rank[name] for name in (path, *_children(path, left))) for path in left}
    order: list[Axis] = []
    while left:
        free = [path for path, axis in left.items() if not left.keys() & axis.when.keys()]
        order.append(left.pop(min(free, key=first.__getitem__)))
    return tuple(order)


def problems(axes: Sequence[Axis], fixed: Mapping[str, Value]) -> dict[tuple[str, str], str]:
    """What is wrong with conditions, by path of the axis and path that its condition asks for.

    Args:
        axes: Axes in any order.
        fixed: As for `Grid`.
    """
    by_path = {axis.path: axis for axis in axes}
    found: dict[tuple[str, str], str] = {}
    for axis in axes:
        for path, value in axis.when.items():
            if axis.path == path or axis.path in _children(axis.path, by_path):
                found[axis.path, path] = "a circle: whether this axis varies depends on its own value"
            elif path not in by_path:
                if fixed[path] != value:
                    found[axis.path, path] = f"{_show(value)} is never taken; it is {_show(fixed[path])} in every combo"
            else:
                taken = (*by_path[path].values, *([fixed[path]] if by_path[path].when else []))
                if value not in taken:
                    known = ", ".join(map(_show, dict.fromkeys(taken)))
                    found[axis.path, path] = f"{_show(value)} is never taken; the axis has {known}"
    if not found:
        grid = Grid(in_order(axes, dict.fromkeys(by_path, 0)), fixed)
        idle = [axis for axis in axes if axis.when and not grid.varies(axis.path)]
        found = {(axis.path, next(iter(axis.when))): "these values never come together" for axis in idle}
    return found


def _children(path: str, axes: Mapping[str, Axis]) -> set[str]:
    """Axes whose condition asks for `path`, directly or through other axes."""
    found: set[str] = set()
    new = {path}
    while new:
        new = {name for name, axis in axes.items() if new & axis.when.keys()} - found
        found |= new
    return found


def _walk(axes: tuple[Axis, ...], fixed: Mapping[str, Value]) -> list[list[_Node]]:
    """The nodes of each level; the last level leads to the one end of all."""
    states: list[tuple[tuple[str, Value], ...]] = [()]
    levels = []
    for index, axis in enumerate(axes):
        asked = set(itertools.chain.from_iterable(later.when for later in axes[index + 1 :]))
        numbers: dict[tuple[tuple[str, Value], ...], int] = {}
        nodes = []
        for state in states:
            known = {**fixed, **dict(state)}
            varies = all(known[path] == value for path, value in axis.when.items())
            kept = tuple((path, value) for path, value in state if path in asked)
            targets = []
            for value in axis.values if varies else (fixed[axis.path],):
                following = (*kept, (axis.path, value)) if axis.path in asked else kept
                targets.append(numbers.setdefault(following, len(numbers)))
            nodes.append(_Node(varies, tuple(targets)))
        if len(numbers) > MAX_BRANCHES:
            raise ConfigError(f"axes: `when` tells more than {MAX_BRANCHES:,} combinations apart; search them in turn")
        levels.append(nodes)
        states = list(numbers)
    return levels


def _level(axis: Axis, fixed: Mapping[str, Value], nodes: list[_Node], counts: list[int]) -> _Level:
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


def _digits(level: _Level, row: Ints, rest: Ints) -> Ints:
    """Which value each combo has, from its number below the level's node."""
    last = len(level.values) - 1
    digit = np.full(len(row), last, dtype=np.int64)
    varies = level.varies[row] == 1
    even = varies & (level.below[row] > 0)
    digit[even] = rest[even] // level.below[row[even]]
    for uneven in np.unique(row[varies & ~even]):
        here = row == uneven
        digit[here] = np.searchsorted(level.start[uneven, :last], rest[here], side="right") - 1
    return digit


def _show(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
