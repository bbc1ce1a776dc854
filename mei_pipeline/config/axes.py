"""The grid of a search: its axes with the parameter tables' types, in the order in which combos are numbered."""

from kernels.params import Value
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.params.grid import Axis, Grid, in_order
from mei_pipeline.params.resolve import resolve
from mei_pipeline.params.table import Table, normal

_RANKS = {"feature": 0, "entry": 1}


def fixed_of(spec: SweepSpec, table: Table) -> dict[str, Value]:
    """Value of every parameter by path: for an axis the one that it has where it does not vary.

    Raises:
        ConfigError: A path of `params` is unknown or its value is not allowed.
    """
    return resolve(table, spec.params)


def axes_of(spec: SweepSpec, table: Table) -> tuple[Axis, ...]:
    """The axes in the order of the file."""
    return tuple(
        Axis(
            path,
            tuple(normal(table[path], value) for value in spec.axis_values(path)),
            {name: normal(table[name], value) for name, value in spec.when(path).items()},
        )
        for path in spec.axes
    )


def numbered_axes(spec: SweepSpec, table: Table) -> tuple[Axis, ...]:
    """The axes, slowest first: features, then what decides entries, then the rest, so that neighbours share both.

    An axis comes after those that its `when` asks for, whatever its role; they must not ask in a circle.
    """
    return in_order(axes_of(spec, table), {path: _RANKS.get(table[path].role, len(_RANKS)) for path in spec.axes})


def grid_of(spec: SweepSpec, table: Table) -> Grid:
    """The numbered combos of a search that was checked.

    Raises:
        ConfigError: The conditions tell too many combinations apart.
    """
    return Grid(numbered_axes(spec, table), fixed_of(spec, table))
