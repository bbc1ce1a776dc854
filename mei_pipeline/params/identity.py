"""A resolved config and the id derived from its content."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kernels.params import Value
from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.errors import ConfigError
from mei_pipeline.files import sha256_json
from mei_pipeline.names import RULE, symbol_problem
from mei_pipeline.params.benchmark import needed_benchmark, preferred, switches_on
from mei_pipeline.params.paths import closest
from mei_pipeline.params.resolve import Layer, merge, merge_symbols
from mei_pipeline.params.table import Catalog


@dataclass(frozen=True)
class ResolvedConfig:
    """Everything that decides the behaviour of a config, without defaults; `resolve_config` creates valid ones.

    Attributes:
        strategy: Name of the strategy.
        venue: Venue of the bars.
        interval: Length of the bars that features are computed from.
        symbols: Symbols that the config may trade, sorted.
        initial_balance_usd: Initial equity.
        params: Value of every parameter of the strategy, by path.
        market: Value of every market parameter, by path.
        symbol_params: By symbol, the values that differ from `params`; without symbols that have none.
        entry_interval: Interval at whose closes the strategy decides entries; empty if it is `interval`.
        exit_interval: Interval at whose closes the strategy decides exits; empty if it is `interval`.
        benchmark: Benchmark symbol; empty if the config reads none.
    """

    strategy: str
    venue: str
    interval: str
    symbols: tuple[str, ...]
    initial_balance_usd: float
    params: Mapping[str, Value]
    market: Mapping[str, Value]
    symbol_params: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    entry_interval: str = ""
    exit_interval: str = ""
    benchmark: str = ""

    @property
    def intervals(self) -> Intervals:
        """The three intervals."""
        return Intervals(self.interval, self.entry_interval, self.exit_interval)

    def params_of(self, symbol: str) -> dict[str, Value]:
        """Return the value of every parameter of the strategy for one symbol, by path."""
        return {**self.params, **self.symbol_params.get(symbol, {})}


def resolve_config(  # noqa: PLR0913 - one named argument per part of a config
    catalog: Catalog,
    *,
    strategy: str,
    venue: str,
    interval: str,
    symbols: Iterable[str],
    initial_balance_usd: float,
    params: Mapping[str, Value],
    market: Mapping[str, Value],
    symbol_params: Mapping[str, Mapping[str, Value]] | None = None,
    entry_interval: str = "",
    exit_interval: str = "",
    benchmark: str = "",
) -> ResolvedConfig:
    """Fill in defaults, check every value and normalise all of them.

    Args:
        catalog: The parameter tables.
        strategy: Name of the strategy.
        venue: Venue of the bars.
        interval: Length of the bars that features are computed from.
        symbols: Symbols in any order.
        initial_balance_usd: Initial equity.
        params: Parameters of the strategy that differ from their defaults.
        market: Market parameters that differ from their defaults.
        symbol_params: Parameters of single symbols that differ from the common ones; they override `params`.
        entry_interval: Interval at whose closes the strategy decides entries; empty for `interval`.
        exit_interval: Interval at whose closes the strategy decides exits; empty for `interval`.
        benchmark: Benchmark symbol, or `auto`: see `find_benchmark`. Empty for a config without the key: BTC, else
            BTCUSDT, else none.

    Raises:
        ConfigError: The strategy, a path or a value is unknown or not allowed; there is no symbol; the name of a symbol
            is not allowed; `symbol_params` names a symbol outside the config or a parameter of the whole book; an
            interval does not divide; or the config reads a benchmark symbol and `auto` finds none or several.
    """
    names = tuple(sorted(set(symbols)))
    if not names:
        raise ConfigError("config: no symbols; name at least one")
    for name in names:
        if problem := symbol_problem(name):
            raise ConfigError(f"config: symbol {name!a} is not allowed: {problem}; allowed are {RULE}")
    overrides = symbol_params or {}
    if foreign := [symbol for symbol in overrides if symbol not in names]:
        raise ConfigError(
            f"symbol_params: {foreign[0]}: not among the symbols; {closest(foreign[0], names)}".rstrip("; ")
        )
    intervals = Intervals(interval, entry_interval, exit_interval)
    table = catalog.strategy(strategy)
    base = Layer("params", params)
    stacks = {
        symbol: (base, Layer(f"symbol_params.{symbol}", overrides[symbol], of_symbol=True))
        for symbol in sorted(overrides)
    }
    resolved = ResolvedConfig(
        strategy=strategy,
        venue=venue,
        interval=interval,
        symbols=names,
        initial_balance_usd=float(initial_balance_usd),
        params=merge(table, base).values,
        market=merge(catalog.market_of(strategy), Layer("market", market)).values,
        symbol_params=merge_symbols(table, (base,), stacks),
        entry_interval=intervals.entry,
        exit_interval=intervals.exit,
    )
    switches = benchmark_switches(catalog, resolved)
    symbol = needed_benchmark(benchmark, names, switches) if benchmark else preferred(names) if switches else ""
    return replace(resolved, benchmark=symbol)


def benchmark_switches(catalog: Catalog, resolved: ResolvedConfig) -> tuple[str, ...]:
    """Return the switches of a config that are on and make it read the benchmark symbol."""
    param_sets = (resolved.params, *map(resolved.params_of, resolved.symbol_params))
    values = {path: [book[path] for book in param_sets] for path in resolved.params}
    return switches_on(catalog, resolved.strategy, values)


def benchmark_of(catalog: Catalog, resolved: ResolvedConfig, symbols: Sequence[str]) -> str:
    """Return the benchmark symbol of a config among some symbols; empty if the config reads none.

    Raises:
        ConfigError: The config reads a benchmark symbol and names none, or the symbols lack it.
    """
    switches = benchmark_switches(catalog, resolved)
    if not switches:
        return ""
    symbol = resolved.benchmark or preferred(resolved.symbols)
    if symbol not in symbols:
        problem = f"{symbol} is not among the symbols" if symbol else "the config names none"
        raise ConfigError(
            f"benchmark: {switches[0]} is on and reads a benchmark symbol, but {problem}; add one to the config"
        )
    return symbol


def config_id(resolved: ResolvedConfig) -> str:
    """Return the hex SHA-256 of the canonical JSON of a config.

    Keys are sorted, and every number is written as the float64 that kernels see, so that 1 and 1.0 give the same id,
    and 0.0 and -0.0 too. The order of symbols, layers and keys in a file does not matter. Values that change nothing
    are left out: a symbol's own value equal to the common one, and an entry or exit interval equal to the main one. The
    default benchmark symbol (BTC, else BTCUSDT) is left out too.
    """
    return sha256_json(as_dict(resolved))


def as_dict(resolved: ResolvedConfig) -> dict[str, Any]:
    """Return the config as the JSON values that its id is a hash of, without keys that change nothing."""
    # A key without effect is left out, so that a new key of a later version does not change existing ids.
    extras = {
        "symbol_params": {symbol: _values(values) for symbol, values in resolved.symbol_params.items() if values},
        "entry_interval": resolved.entry_interval,
        "exit_interval": resolved.exit_interval,
        "benchmark": "" if resolved.benchmark == preferred(resolved.symbols) else resolved.benchmark,
    }
    return {
        "strategy": resolved.strategy,
        "venue": resolved.venue,
        "interval": resolved.interval,
        "symbols": sorted(resolved.symbols),
        "initial_balance_usd": _canonical(resolved.initial_balance_usd),
        "params": _values(resolved.params),
        "market": _values(resolved.market),
        **{key: value for key, value in extras.items() if value},
    }


def _values(values: Mapping[str, Value]) -> dict[str, Value]:
    return {path: _canonical(value) for path, value in values.items()}


def _canonical(value: Value) -> Value:
    if isinstance(value, bool | str):
        return value
    return float(value) + 0.0  # turns -0.0 into 0.0
