"""A config, fully resolved, and the id that its content gives it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kernels.params import Value
from mei_pipeline.errors import ConfigError
from mei_pipeline.files import sha256_json
from mei_pipeline.params.resolve import Layer, merge
from mei_pipeline.params.table import Catalog


@dataclass(frozen=True)
class Resolved:
    """Everything that decides what a config does, with no default left open. `make_resolved` makes valid ones.

    Attributes:
        strategy: Name of the strategy.
        venue: Venue whose bars it is for.
        interval: Length of the bars that it decides on.
        symbols: Symbols that it may trade, sorted.
        initial_balance_usd: Equity at the start.
        params: Value of every parameter of the strategy, by path.
        market: Value of every market parameter, by path.
    """

    strategy: str
    venue: str
    interval: str
    symbols: tuple[str, ...]
    initial_balance_usd: float
    params: Mapping[str, Value]
    market: Mapping[str, Value]


def make_resolved(
    catalog: Catalog,
    *,
    strategy: str,
    venue: str,
    interval: str,
    symbols: Iterable[str],
    initial_balance_usd: float,
    params: Mapping[str, Value],
    market: Mapping[str, Value],
) -> Resolved:
    """Fill in defaults, check every value and bring all into normal form.

    Args:
        catalog: The parameter tables.
        strategy: Name of the strategy.
        venue: Venue whose bars it is for.
        interval: Length of the bars.
        symbols: Symbols in any order.
        initial_balance_usd: Equity at the start.
        params: Parameters of the strategy that differ from their defaults.
        market: Market parameters that differ from their defaults.

    Raises:
        ConfigError: The strategy, a path or a value is not known or not allowed, or there is no symbol.
    """
    names = tuple(sorted(set(symbols)))
    if not names:
        raise ConfigError("config: no symbols; a config trades at least one")
    return Resolved(
        strategy=strategy,
        venue=venue,
        interval=interval,
        symbols=names,
        initial_balance_usd=float(initial_balance_usd),
        params=merge(catalog.strategy(strategy), Layer("params", params)).values,
        market=merge(catalog.market, Layer("market", market)).values,
    )


def config_id(resolved: Resolved) -> str:
    """Hex SHA-256 of the canonical JSON of a config.

    Keys are sorted. Every number is written as the float64 that the kernel sees, so 1 and 1.0 are the same config, and
    so are 0.0 and -0.0. The order of symbols, of layers and of keys in a file leaves no trace.
    """
    return sha256_json(as_dict(resolved))


def as_dict(resolved: Resolved) -> dict[str, Any]:
    """The config as the JSON values that its id is the hash of."""
    return {
        "strategy": resolved.strategy,
        "venue": resolved.venue,
        "interval": resolved.interval,
        "symbols": sorted(resolved.symbols),
        "initial_balance_usd": _canonical(resolved.initial_balance_usd),
        "params": {path: _canonical(value) for path, value in resolved.params.items()},
        "market": {path: _canonical(value) for path, value in resolved.market.items()},
    }


def _canonical(value: Value) -> Value:
    if isinstance(value, bool | str):
        return value
    return float(value) + 0.0
