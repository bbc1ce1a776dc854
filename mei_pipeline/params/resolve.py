"""Layers of parameter values, merged; the last layer that names a path wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernels.params import Value
from mei_pipeline.params.table import Table, normal, validate

DEFAULT = "default"


@dataclass(frozen=True)
class Layer:
    """Values from one place.

    Attributes:
        name: Where they come from, for a person.
        values: Value by dotted path; only what this layer says.
        of_symbol: Whether they are one symbol's own.
    """

    name: str
    values: Mapping[str, Value]
    of_symbol: bool = False


@dataclass(frozen=True)
class MergedParams:
    """A value for every path of a table.

    Attributes:
        values: Value by path, in table order, in normal form.
        origin: Name of the layer that gave it, by path; `default` where none did.
    """

    values: Mapping[str, Value]
    origin: Mapping[str, str]


def merge(table: Table, *layers: Layer) -> MergedParams:
    """Merge layers over the defaults of `table`, later ones winning.

    Raises:
        ConfigError: A layer names an unknown path or a value that is not allowed, or a symbol's own layer names a
            parameter of the whole book.
    """
    values = {path: parameter.default for path, parameter in table.items()}
    origin = dict.fromkeys(table, DEFAULT)
    for layer in layers:
        validate(table, layer.values, layer.name, of_symbol=layer.of_symbol)
        values.update(layer.values)
        origin.update(dict.fromkeys(layer.values, layer.name))
    return MergedParams({path: normal(table[path], value) for path, value in values.items()}, origin)


def merge_symbols(
    table: Table, common: Sequence[Layer], stacks: Mapping[str, Sequence[Layer]]
) -> dict[str, dict[str, Value]]:
    """Values of single symbols, as far as they differ from those of all.

    Args:
        table: The parameters.
        common: Layers of the values of all.
        stacks: By symbol, all layers that make its values.

    Returns:
        By symbol and path; a symbol without a value that differs is left out.

    Raises:
        ConfigError: As `merge`.
    """
    base = merge(table, *common).values
    found: dict[str, dict[str, Value]] = {}
    for symbol, stack in stacks.items():
        values = merge(table, *stack).values
        if differing := {path: value for path, value in values.items() if value != base[path]}:
            found[symbol] = differing
    return found


def resolve(table: Table, *layers: Mapping[str, Value]) -> dict[str, Value]:
    """A value for every path of `table`: its defaults, overlaid by `layers`, later ones winning.

    Raises:
        ConfigError: A layer names an unknown path or a value that is not allowed.
    """
    return dict(merge(table, *(Layer("parameters", layer) for layer in layers)).values)
