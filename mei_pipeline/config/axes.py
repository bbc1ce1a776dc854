"""The grid of a sweep: typed axes in the order in which combos are numbered."""

from kernels.params import Value
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.params.grid import Axis, Grid, in_order
from mei_pipeline.params.resolve import resolve
from mei_pipeline.params.table import Table, normal

_RANKS = {"feature": 0, "entry": 1}


def fixed_of(spec: SweepSpec, table: Table) -> dict[str, Value]:
    """Return the value of every parameter by path; an axis has its value outside its condition.

    Raises:
        ConfigError: A path of `params` is unknown or its value is not allowed.
    """
    return resolve(table, spec.params)


def axes_of(spec: SweepSpec, table: Table) -> tuple[Axis, ...]:
    """Return the axes in the order of the file."""
    return tuple(
        Axis(
            path,
            tuple(normal(table[path], value) for value in spec.axis_values(path)),
            {name: normal(table[name], value) for name, value in spec.when(path).items()},
        )
        for path in spec.axes
    )


def numbered_axes(spec: SweepSpec, table: Table) -> tuple[Axis, ...]:
    """Return the axes, slowest first: features, signals, then the rest, so that neighbouring combos share both.

    An axis follows the axes that its `when` names. Conditions must not form a cycle.
    """
    return in_order(axes_of(spec, table), {path: _RANKS.get(table[path].role, len(_RANKS)) for path in spec.axes})


def grid_of(spec: SweepSpec, table: Table) -> Grid:
    """Return the numbered combos of a checked sweep.

    Raises:
        ConfigError: The conditions distinguish too many combinations.
    """
    return Grid(numbered_axes(spec, table), fixed_of(spec, table))
