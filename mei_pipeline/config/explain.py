"""The meaning of one key or parameter: its value, the layer that set it, the allowed values, and its use in sweeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from kernels.params import Parameter
from mei_pipeline.config.keys import NO_DEFAULT, Key, keys_of
from mei_pipeline.config.load import OVERRIDES, PIPELINE, POLICY, Configuration
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.paths import closest
from mei_pipeline.params.resolve import DEFAULT, merge
from mei_pipeline.params.table import Catalog, unknown


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The meaning of one path.

    Attributes:
        path: Path of the key or parameter.
        value: Its value; of a section of a file, the whole section.
        origin: Layer or file that set the value, or `default`.
        default: Default value; None if there is none.
        allowed: Allowed values, in words.
        unit: Unit of the value; empty if it has none.
        role: What a parameter shapes; empty for a key of a file.
        doc: What it does.
        sweeps: For a parameter, its use in each sweep: the values of the axis, as a list or as a mapping of `values`
            and `when`, or the fixed value.
        strategy: Strategy of the parameter; empty for a key of a file and for the market of all strategies.
        per_symbol: Whether a symbol may have a value of its own; None for a key of a file.
        symbols: For a parameter, the values of symbols that have their own.
    """

    path: str
    value: Any
    origin: str
    default: Any
    allowed: str
    unit: str = ""
    role: str = ""
    doc: str
    sweeps: Mapping[str, Any] = field(default_factory=dict)
    strategy: str = ""
    per_symbol: bool | None = None
    symbols: Mapping[str, Any] = field(default_factory=dict)


def explain(
    config: Configuration,
    catalog: Catalog,
    path: str,
    *,
    strategy: str | None = None,
    symbol: str | None = None,
    mode: str | None = None,
    live: bool = False,
) -> Explanation:
    """Explain a parameter (`trade.sl_atr_mult`) or a key of pipeline.yaml or policy.yaml (`window.days`).

    Args:
        config: The configuration.
        catalog: The parameter tables.
        path: Path of the parameter or key.
        strategy: Strategy of the parameter; by default that of the overrides, else of a sweep that has it.
        symbol: Symbol whose overrides apply.
        mode: Role whose overrides apply.
        live: Whether the overrides of real money apply.

    Raises:
        ConfigError: There is no such path, it is not a parameter of `strategy`, or the symbol is not in the universe.
    """
    universe = config.pipeline.universe
    if symbol is not None and universe != "all" and symbol not in universe:
        text = f"symbol {symbol!r}: not in the universe of {PIPELINE}; {closest(symbol, universe)}"
        raise ConfigError(f"{text}known: {', '.join(universe)}")
    if path in catalog.market:
        table = catalog.market_of(strategy) if strategy else catalog.market
        return _parameter(config, table[path], strategy or "")
    if strategy and path not in (table := catalog.strategy(strategy)):
        raise ConfigError(f"{path}: no parameter of {strategy}; {unknown(path, table)}")
    used = (
        strategy,
        config.overrides.strategy,
        *(spec.strategy for spec in config.sweeps.values()),
        *catalog.strategies,
    )
    owner = next((name for name in used if name and path in catalog.strategies[name]), None)
    if owner:
        return _overridden(config, catalog, owner, path, symbol=symbol, mode=mode, live=live)
    files = {PIPELINE: config.pipeline, POLICY: config.policy}
    keys = {key.path: (file, key) for file, model in files.items() for key in keys_of(type(model))}
    if path in keys:
        file, key = keys[path]
        return _key(file, files[file], key)
    known = [*(each for table in catalog.strategies.values() for each in table), *catalog.market]
    known += [key for key in keys if "<" not in key and "[" not in key]
    raise ConfigError(f"{path}: no such parameter or key; {closest(path, known)}".rstrip("; "))


def _overridden(config: Configuration, catalog: Catalog, strategy: str, path: str, **chosen: Any) -> Explanation:
    """Explain a parameter of a strategy under the chosen layers of the overrides."""
    table, overrides = catalog.strategy(strategy), config.overrides
    ours = overrides.strategy == strategy
    merged = merge(table, *(overrides.layers(**chosen) if ours else ()))
    own = overrides.of_symbols(table, mode=chosen["mode"], live=chosen["live"]) if ours else {}
    origin = merged.origin[path]
    return replace(
        _parameter(config, table[path], strategy),
        value=merged.values[path],
        origin=origin if origin == DEFAULT else f"{OVERRIDES}: {origin}",
        symbols={symbol: values[path] for symbol, values in own.items() if path in values},
    )


def _parameter(config: Configuration, parameter: Parameter, strategy: str) -> Explanation:
    """Explain a parameter without overrides. Without a strategy, it is one of the market, and every sweep counts."""
    path = parameter.path
    sweeps: dict[str, Any] = {}
    for name, spec in config.sweeps.items():
        if strategy in {"", spec.strategy} and path in spec.axes:
            values = list(spec.axis_values(path))
            sweeps[name] = {"values": values, "when": spec.when(path)} if spec.when(path) else values
        elif strategy in {"", spec.strategy} and path in (fixed := {**spec.params, **spec.market}):
            sweeps[name] = fixed[path]
    return Explanation(
        path=path,
        value=parameter.default,
        origin=DEFAULT,
        default=parameter.default,
        allowed=parameter.allowed,
        doc=parameter.doc,
        unit=parameter.unit,
        role=parameter.role,
        sweeps=sweeps,
        strategy=strategy,
        per_symbol=parameter.per_symbol and parameter.role != "market",
    )


def _key(file: str, model: BaseModel, key: Key) -> Explanation:
    value: Any = model
    stated = True
    for part in key.path.split("."):
        name = next(name for name, info in type(value).model_fields.items() if part in {name, info.alias})
        stated = stated and name in value.model_fields_set
        value = getattr(value, name)
    return Explanation(
        path=key.path,
        value=to_jsonable_python(value),
        origin=file if stated else DEFAULT,
        default=None if key.default == NO_DEFAULT else key.default,
        allowed=key.allowed,
        doc=key.doc,
    )
