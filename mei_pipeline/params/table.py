"""Tables of the parameters that the kernels declare."""

import functools
import keyword
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kernels import strategies
from kernels.params import Parameter, Value
from mei_pipeline.errors import ConfigError, Fatal
from mei_pipeline.params.paths import closest

Table = Mapping[str, Parameter]

_NAMES_SHOWN = 24


@dataclass(frozen=True)
class Catalog:
    """Tables of all parameters.

    Attributes:
        strategies: Table of each strategy, by its name.
        market: Table of the market model; `markets` has exceptions.
        markets: Table of the market model for each strategy with other defaults or fewer allowed values.
        benchmarks: By strategy, the switches that make it read the benchmark symbol.
    """

    strategies: Mapping[str, Table]
    market: Table
    markets: Mapping[str, Table] = field(default_factory=dict)
    benchmarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def strategy(self, name: str) -> Table:
        """Return the table of one strategy.

        Raises:
            ConfigError: There is no such strategy.
        """
        if name not in self.strategies:
            raise ConfigError(f"strategy {name!r}: {self.unknown_strategy(name)}")
        return self.strategies[name]

    def market_of(self, name: str) -> Table:
        """Return the table of the market model for one strategy.

        Raises:
            ConfigError: There is no such strategy.
        """
        self.strategy(name)
        return self.markets.get(name, self.market)

    def unknown_strategy(self, name: str) -> str:
        """Return the message about a strategy that does not exist."""
        return f"unknown strategy; {closest(name, self.strategies)}known: {', '.join(self.strategies)}"


def make_table(parameters: Iterable[Parameter], where: str = "parameter table") -> Table:
    """Return a table of parameters by path, in their order.

    Args:
        parameters: The parameters.
        where: Name of the table in messages.

    Raises:
        Fatal: A path or the last part of one is declared twice, a last part can't be a field of a record, or a default
            is outside the parameter's own bounds.
    """
    import numpy as np  # noqa: PLC0415 - only needed with the kernels, which import it anyway

    table: dict[str, Parameter] = {}
    owner: dict[str, str] = {}
    for parameter in parameters:
        path, name = parameter.path, parameter.name
        if path in table:
            raise Fatal(f"{where}: {path} is declared twice; give one of them another path")
        if name in owner:
            raise Fatal(f"{where}: {path} and {owner[name]} both end in {name}; rename one of them")
        # Kernels read parameters as fields of a record, except market parameters.
        hidden = parameter.role != "market" and hasattr(np.record, name)
        if not name.isidentifier() or keyword.iskeyword(name) or hidden:
            raise Fatal(f"{where}: {path}: {name!r} can't be a field of a record; use another last part")
        if problem := parameter.problem(parameter.default):
            raise Fatal(f"{where}: default of {path}: {problem}")
        table[path], owner[name] = parameter, path
    return table


def make_market(
    base: Table,
    strategy: str,
    defaults: Mapping[str, Value],
    only: Mapping[str, tuple[Value, ...]],
    why: Mapping[str, str],
) -> Table:
    """Return the market table of one strategy.

    Args:
        base: The market table of all strategies.
        strategy: Name of the strategy.
        defaults: Default by path, if the strategy has another one.
        only: Allowed values by path, if the strategy allows fewer.
        why: Reason for `only`, by path.

    Raises:
        Fatal: A path is unknown, a value is not allowed, or `only` excludes the default.
    """
    if unknown := sorted({*defaults, *only, *why} - set(base)):
        raise Fatal(f"strategy {strategy}: {unknown[0]}: not a market parameter; known: {', '.join(base)}")
    for path, values in only.items():
        for value in values:
            if problem := base[path].problem(value):
                raise Fatal(f"strategy {strategy}: MARKET_ONLY of {path}: {problem}")
    return make_table(
        replace(
            parameter,
            default=defaults.get(path, parameter.default),
            only=only.get(path, ()),
            because=why.get(path, f"{strategy} supports nothing else") if path in only else "",
        )
        for path, parameter in base.items()
    )


@functools.cache
def read_catalog() -> Catalog:
    """Return the tables that the kernels of this checkout declare.

    A strategy module may declare constants. `MARKET` holds defaults of market parameters by path, `MARKET_ONLY` their
    allowed values and `MARKET_WHY` the reasons for these. `BENCHMARK` lists the switches that make the strategy read
    the benchmark symbol.

    Raises:
        Fatal: A table contradicts itself, or the module of a strategy has problems.
    """
    from kernels import market  # noqa: PLC0415 - imports numpy, which other functions do not need
    from mei_pipeline.params.modules import load_strategy  # noqa: PLC0415 - imports numba

    modules = {name: load_strategy(name) for name in strategies.names()}
    base = make_table(market.PARAMETERS)
    markets = {
        name: make_market(
            base,
            name,
            getattr(module, "MARKET", {}),
            getattr(module, "MARKET_ONLY", {}),
            getattr(module, "MARKET_WHY", {}),
        )
        for name, module in modules.items()
        if hasattr(module, "MARKET") or hasattr(module, "MARKET_ONLY")
    }
    tables = {name: make_table(module.PARAMETERS, f"strategy {name}: PARAMETERS") for name, module in modules.items()}
    benchmarks = {name: tuple(getattr(module, "BENCHMARK", ())) for name, module in modules.items()}
    return Catalog(tables, base, markets, benchmarks)


def normal(parameter: Parameter, value: Value) -> Value:
    """Return the normal form of a valid value: a float for a float parameter, an int for an int parameter, no -0.0."""
    if parameter.kind == "float":
        return float(value) + 0.0  # turns -0.0 into 0.0
    if parameter.kind == "int":
        return int(value)
    return value


def unknown(path: str, table: Table) -> str:
    """Return the hint about a path that the table lacks."""
    known = f"known: {', '.join(table)}" if len(table) <= _NAMES_SHOWN else "see docs/reference/config.md"
    return f"{closest(path, table)}{known}"


def problems(table: Table, values: Mapping[str, Value], *, of_symbol: bool = False) -> dict[str, str]:
    """Return the problem of each path or value that the table does not allow.

    Args:
        table: The table.
        values: Value by path.
        of_symbol: True for values of one symbol; parameters of the whole book are then refused.
    """
    problems_by_path = {}
    for path, value in values.items():
        if path not in table:
            problems_by_path[path] = f"unknown parameter; {unknown(path, table)}"
        elif of_symbol and not table[path].per_symbol:
            problems_by_path[path] = "a parameter of the whole book; a symbol can't have its own value"
        elif problem := table[path].problem(value):
            problems_by_path[path] = problem
    return problems_by_path


def validate(table: Table, values: Mapping[str, Value], where: str = "parameters", *, of_symbol: bool = False) -> None:
    """Raise if the table does not allow the values.

    Args:
        table: The table.
        values: Value by path.
        where: Name of the source in messages.
        of_symbol: As for `problems`.

    Raises:
        ConfigError: One line per problem, beginning with `where`.
    """
    if problems_by_path := problems(table, values, of_symbol=of_symbol):
        raise ConfigError("\n".join(f"{where}: {path}: {text}" for path, text in problems_by_path.items()))
