"""Parameter tables: what the kernels declare, looked up by path."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kernels import market, strategies
from kernels.params import Parameter, Value
from mei_pipeline.errors import ConfigError, Fatal
from mei_pipeline.params.paths import closest

Table = Mapping[str, Parameter]

_NAMES_SHOWN = 24


@dataclass(frozen=True)
class Catalog:
    """Every parameter there is.

    Attributes:
        strategies: Table of each strategy, by its name.
        market: Table of the market model.
    """

    strategies: Mapping[str, Table]
    market: Table

    def strategy(self, name: str) -> Table:
        """The table of one strategy.

        Raises:
            ConfigError: There is no such strategy.
        """
        if name not in self.strategies:
            raise ConfigError(f"strategy {name!r}: {self.unknown_strategy(name)}")
        return self.strategies[name]

    def unknown_strategy(self, name: str) -> str:
        """What to say about a strategy that does not exist."""
        return f"unknown strategy; {closest(name, self.strategies)}known: {', '.join(self.strategies)}"


def make_table(parameters: Iterable[Parameter]) -> Table:
    """Parameters by path, in their order.

    Raises:
        Fatal: A path is declared twice, or a default breaks the parameter's own bounds.
    """
    table: dict[str, Parameter] = {}
    for parameter in parameters:
        if parameter.path in table:
            raise Fatal(f"parameter table: {parameter.path} is declared twice; give one of them another path")
        if problem := parameter.problem(parameter.default):
            raise Fatal(f"parameter table: default of {parameter.path}: {problem}")
        table[parameter.path] = parameter
    return table


@functools.cache
def read_catalog() -> Catalog:
    """The tables that the kernels of this checkout declare.

    Raises:
        Fatal: A table contradicts itself.
    """
    tables = {name: make_table(strategies.load(name).PARAMETERS) for name in strategies.names()}
    return Catalog(tables, make_table(market.PARAMETERS))


def normal(parameter: Parameter, value: Value) -> Value:
    """The one form of a valid value: a float parameter holds a float, an int parameter an int; there is no -0.0."""
    if parameter.kind == "float":
        return float(value) + 0.0
    if parameter.kind == "int":
        return int(value)
    return value


def problems(table: Table, values: Mapping[str, Value]) -> dict[str, str]:
    """What is wrong with each path or value that the table does not allow."""
    found = {}
    for path, value in values.items():
        if path not in table:
            known = f"known: {', '.join(table)}" if len(table) <= _NAMES_SHOWN else "docs/reference/config.md lists all"
            found[path] = f"unknown parameter; {closest(path, table)}{known}"
        elif problem := table[path].problem(value):
            found[path] = problem
    return found


def validate(table: Table, values: Mapping[str, Value], where: str = "parameters") -> None:
    """Refuse values that the table does not allow.

    Raises:
        ConfigError: One line per problem, beginning with `where`.
    """
    if found := problems(table, values):
        raise ConfigError("\n".join(f"{where}: {path}: {text}" for path, text in found.items()))
