"""A config, fully resolved, and the id that its content gives it."""

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
    """Everything that decides what a config does, with no default left open. `resolve_config` makes valid ones.

    Attributes:
        strategy: Name of the strategy.
        venue: Venue whose bars it is for.
        interval: Length of the bars that features are made of.
        symbols: Symbols that it may trade, sorted.
        initial_balance_usd: Equity at the start.
        params: Value of every parameter of the strategy, by path.
        market: Value of every market parameter, by path.
        symbol_params: By symbol the values that differ from `params`; a symbol without any is left out.
        entry_interval: Interval at whose closes entries are decided; empty for `interval`.
        exit_interval: Interval at whose closes exits are decided; empty for `interval`.
        benchmark: Symbol whose trend gives the others context; empty where the config reads none.
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
        """The intervals together."""
        return Intervals(self.interval, self.entry_interval, self.exit_interval)

    def params_of(self, symbol: str) -> dict[str, Value]:
        """Value of every parameter of the strategy for one symbol, by path."""
        return {**self.params, **self.symbol_params.get(symbol, {})}


def resolve_config(  # noqa: PLR0913 - a config has that many parts, and each is named
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
    """Fill in defaults, check every value and bring all into normal form.

    Args:
        catalog: The parameter tables.
        strategy: Name of the strategy.
        venue: Venue whose bars it is for.
        interval: Length of the bars that features are made of.
        symbols: Symbols in any order.
        initial_balance_usd: Equity at the start.
        params: Parameters of the strategy that differ from their defaults.
        market: Market parameters that differ from their defaults.
        symbol_params: Parameters of single symbols that differ from those of all; they win.
        entry_interval: Interval at whose closes entries are decided; empty for `interval`.
        exit_interval: Interval at whose closes exits are decided; empty for `interval`.
        benchmark: Symbol whose trend gives the others context, or `auto`: see `find_benchmark`. Empty for a config that
            says nothing, as files of earlier versions: BTC, else BTCUSDT, else none.

    Raises:
        ConfigError: The strategy, a path or a value is not known or not allowed, there is no symbol, a symbol's name is
            not allowed, a value of one symbol is for a symbol that is not traded or a parameter of the whole book, an
            interval does not divide, or the config reads a benchmark and `auto` finds none or several.
    """
    names = tuple(sorted(set(symbols)))
    if not names:
        raise ConfigError("config: no symbols; a config trades at least one")
    for name in names:
        if problem := symbol_problem(name):
            raise ConfigError(f"config: symbol {name!a} is not allowed: {problem}; allowed are {RULE}")
    own = symbol_params or {}
    if strangers := [symbol for symbol in own if symbol not in names]:
        raise ConfigError(
            f"symbol_params: {strangers[0]}: not among the symbols; {closest(strangers[0], names)}".rstrip("; ")
        )
    intervals = Intervals(interval, entry_interval, exit_interval)
    table = catalog.strategy(strategy)
    common = Layer("params", params)
    stacks = {symbol: (common, Layer(f"symbol_params.{symbol}", own[symbol], of_symbol=True)) for symbol in sorted(own)}
    resolved = ResolvedConfig(
        strategy=strategy,
        venue=venue,
        interval=interval,
        symbols=names,
        initial_balance_usd=float(initial_balance_usd),
        params=merge(table, common).values,
        market=merge(catalog.market_of(strategy), Layer("market", market)).values,
        symbol_params=merge_symbols(table, (common,), stacks),
        entry_interval=intervals.entry,
        exit_interval=intervals.exit,
    )
    switches = benchmark_switches(catalog, resolved)
    found = needed_benchmark(benchmark, names, switches) if benchmark else preferred(names) if switches else ""
    return replace(resolved, benchmark=found)


def benchmark_switches(catalog: Catalog, resolved: ResolvedConfig) -> tuple[str, ...]:
    """Return the switches of a config that are on and make it read the benchmark symbol."""
    books = (resolved.params, *map(resolved.params_of, resolved.symbol_params))
    values = {path: [book[path] for book in books] for path in resolved.params}
    return switches_on(catalog, resolved.strategy, values)


def benchmark_of(catalog: Catalog, resolved: ResolvedConfig, symbols: Sequence[str]) -> str:
    """Return the benchmark of a config on some symbols; empty if the config reads none.

    Raises:
        ConfigError: The config reads a benchmark and has none, or the symbols lack it.
    """
    switches = benchmark_switches(catalog, resolved)
    if not switches:
        return ""
    found = resolved.benchmark or preferred(resolved.symbols)
    if found not in symbols:
        what = f"{found} is not among the symbols" if found else "the config names none"
        raise ConfigError(
            f"benchmark: {switches[0]} is on and reads a benchmark symbol, but {what}; write a config that has one"
        )
    return found


def config_id(resolved: ResolvedConfig) -> str:
    """Hex SHA-256 of the canonical JSON of a config.

    Keys are sorted. Every number is written as the float64 that the kernel sees, so 1 and 1.0 are the same config, and
    so are 0.0 and -0.0. The order of symbols, of layers and of keys in a file leaves no trace. Neither does a symbol's
    own value that is that of all, an entry or exit interval that is the main one, or a benchmark that a config without
    one has: BTC, else BTCUSDT.
    """
    return sha256_json(as_dict(resolved))


def as_dict(resolved: ResolvedConfig) -> dict[str, Any]:
    """The config as the JSON values that its id is the hash of; what says nothing is left out."""
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
    return float(value) + 0.0
