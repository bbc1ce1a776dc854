"""Merge layers of parameter values; the last layer that names a path wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernels.params import Value
from mei_pipeline.params.table import Table, normal, validate

DEFAULT = "default"


@dataclass(frozen=True)
class Layer:
    """Parameter values from one source.

    Attributes:
        name: Name of the source, for messages.
        values: Value by dotted path, for the paths that this layer sets.
        of_symbol: True if they are values of one symbol.
    """

    name: str
    values: Mapping[str, Value]
    of_symbol: bool = False


@dataclass(frozen=True)
class MergedParams:
    """A value for every path of a table.

    Attributes:
        values: Value by path, in table order and normal form.
        origin: Name of the layer of each value, by path; `default` if no layer sets it.
    """

    values: Mapping[str, Value]
    origin: Mapping[str, str]


def merge(table: Table, *layers: Layer) -> MergedParams:
    """Merge layers over the defaults of `table`; later ones win.

    Raises:
        ConfigError: A layer names an unknown path or a value that is not allowed, or the layer of a symbol names a
            parameter of the whole book.
    """
    values = {path: parameter.default for path, parameter in table.items()}
    origin = dict.fromkeys(table, DEFAULT)
    for layer in layers:
        # Each layer is validated alone, so that the message names the layer of a wrong value.
        validate(table, layer.values, layer.name, of_symbol=layer.of_symbol)
        values.update(layer.values)
        origin.update(dict.fromkeys(layer.values, layer.name))
    return MergedParams({path: normal(table[path], value) for path, value in values.items()}, origin)


def merge_symbols(
    table: Table, common: Sequence[Layer], stacks: Mapping[str, Sequence[Layer]]
) -> dict[str, dict[str, Value]]:
    """Return the values of single symbols that differ from the common ones, by symbol and path.

    Args:
        table: The parameters.
        common: Layers of the common values.
        stacks: By symbol, all layers of its values.

    Returns:
        By symbol and path, without symbols that have no differing value.

    Raises:
        ConfigError: As for `merge`.
    """
    base = merge(table, *common).values
    overrides: dict[str, dict[str, Value]] = {}
    for symbol, stack in stacks.items():
        values = merge(table, *stack).values
        if differing := {path: value for path, value in values.items() if value != base[path]}:
            overrides[symbol] = differing
    return overrides


def resolve(table: Table, *layers: Mapping[str, Value]) -> dict[str, Value]:
    """Return a value for every path of `table`: its defaults, overridden by `layers`; later ones win.

    Raises:
        ConfigError: A layer names an unknown path or a value that is not allowed.
    """
    return dict(merge(table, *(Layer("parameters", layer) for layer in layers)).values)
