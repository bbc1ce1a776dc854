"""What one key or parameter is: its value, where that came from, what is allowed, what it does."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from kernels.params import Parameter
from mei_pipeline.config.keys import NO_DEFAULT, Key, keys_of
from mei_pipeline.config.load import OVERRIDES, PIPELINE, POLICY, Config
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.paths import closest
from mei_pipeline.params.resolve import DEFAULT, merge
from mei_pipeline.params.table import Catalog, unknown


@dataclass(frozen=True)
class Explanation:
    """All there is to know about one path.

    Attributes:
        path: Path of the key or parameter.
        value: Its value; for a section of a file the whole section.
        origin: Where the value came from: a layer or file, or `default`.
        default: Value when nobody says otherwise; None when somebody must, or when there is none.
        allowed: What values it takes, in words.
        unit: Unit of the value; empty where it has none.
        role: What a parameter shapes; empty for a key of a file.
        doc: What it does.
        sweeps: For a parameter, what each sweep does with it: the values that it tries, as a list or as a mapping of
            `values` and `when`, or the one that it assumes.
        strategy: Strategy whose parameter it is; empty for what belongs to no one strategy.
        per_symbol: Whether a symbol may have a value of its own; None for a key of a file.
        symbols: For a parameter, the values of symbols that have their own.
    """

    path: str
    value: Any
    origin: str
    default: Any
    allowed: str
    unit: str
    role: str
    doc: str
    sweeps: Mapping[str, Any]
    strategy: str = ""
    per_symbol: bool | None = None
    symbols: Mapping[str, Any] = field(default_factory=dict)


def explain(
    config: Config,
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
        strategy: Strategy whose parameter is meant; by default that of the overrides, else of a sweep that has it.
        symbol: Symbol whose overrides apply.
        mode: Role whose overrides apply.
        live: Whether the overrides of real money apply.

    Raises:
        ConfigError: There is no such path, it is not a parameter of `strategy`, or the symbol is not in the universe.
    """
    _check_symbol(config, symbol)
    if path in catalog.market:
        return _market(config, catalog, path, strategy)
    owner = _owner(config, catalog, path, strategy)
    if owner is not None:
        return _owned(config, catalog, path, owner, _Chosen(symbol, mode, live))
    for name, model in ((PIPELINE, config.pipeline), (POLICY, config.policy)):
        for key in keys_of(type(model)):
            if key.path == path:
                return _key(name, model, key)
    raise ConfigError(f"{path}: no such parameter or key; {closest(path, _known(catalog, config))}".rstrip("; "))


@dataclass(frozen=True)
class _Chosen:
    """Which layers of the overrides apply."""

    symbol: str | None
    mode: str | None
    live: bool


def _check_symbol(config: Config, symbol: str | None) -> None:
    universe = config.pipeline.universe
    if symbol is not None and universe != "all" and symbol not in universe:
        text = f"symbol {symbol!r}: not in the universe of {PIPELINE}; {closest(symbol, universe)}"
        raise ConfigError(f"{text}known: {', '.join(universe)}")


def _owner(config: Config, catalog: Catalog, path: str, strategy: str | None) -> str | None:
    if strategy is not None:
        table = catalog.strategy(strategy)
        if path not in table:
            raise ConfigError(f"{path}: no parameter of {strategy}; {unknown(path, table)}")
        return strategy
    used = (config.overrides.strategy, *(spec.strategy for spec in config.sweeps.values()), *catalog.strategies)
    return next((name for name in used if name and path in catalog.strategies[name]), None)


def _owned(config: Config, catalog: Catalog, path: str, owner: str, chosen: _Chosen) -> Explanation:
    table = catalog.strategy(owner)
    ours = config.overrides.strategy == owner
    overrides = config.overrides
    layers = overrides.layers(symbol=chosen.symbol, mode=chosen.mode, live=chosen.live) if ours else ()
    merged = merge(table, *layers)
    own = overrides.of_symbols(table, mode=chosen.mode, live=chosen.live) if ours else {}
    origin = merged.origin[path]
    return replace(
        _parameter(table[path], owner, _sweeps(config, owner, path)),
        value=merged.values[path],
        origin=origin if origin == DEFAULT else f"{OVERRIDES}: {origin}",
        symbols={symbol: values[path] for symbol, values in own.items() if path in values},
    )


def _sweeps(config: Config, owner: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, spec in config.sweeps.items():
        if spec.strategy == owner and path in spec.axes:
            values = list(spec.axis_values(path))
            found[name] = {"values": values, "when": spec.when(path)} if spec.when(path) else values
        elif spec.strategy == owner and path in spec.params:
            found[name] = spec.params[path]
    return found


def _market(config: Config, catalog: Catalog, path: str, strategy: str | None) -> Explanation:
    table = catalog.market if strategy is None else catalog.market_of(strategy)
    sweeps = {
        name: spec.market[path]
        for name, spec in config.sweeps.items()
        if path in spec.market and strategy in {None, spec.strategy}
    }
    return _parameter(table[path], strategy or "", sweeps)


def _parameter(parameter: Parameter, strategy: str, sweeps: Mapping[str, Any]) -> Explanation:
    return Explanation(
        path=parameter.path,
        value=parameter.default,
        origin=DEFAULT,
        default=parameter.default,
        allowed=parameter.allowed,
        unit=parameter.unit,
        role=parameter.role,
        doc=parameter.doc,
        sweeps=sweeps,
        strategy=strategy,
        per_symbol=parameter.per_symbol and parameter.role != "market",
    )


def _key(file: str, model: BaseModel, key: Key) -> Explanation:
    value: Any = model
    stated = True
    for part in key.path.split("."):
        fields = type(value).model_fields
        field = next(name for name, info in fields.items() if part in {name, info.alias})
        stated = stated and field in value.model_fields_set
        value = getattr(value, field)
    return Explanation(
        path=key.path,
        value=_plain(value),
        origin=file if stated else DEFAULT,
        default=None if key.default == NO_DEFAULT else key.default,
        allowed=key.allowed,
        unit="",
        role="",
        doc=key.doc,
        sweeps={},
    )


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _known(catalog: Catalog, config: Config) -> list[str]:
    parameters = [path for table in catalog.strategies.values() for path in table]
    keys = [key.path for model in (config.pipeline, config.policy) for key in keys_of(type(model))]
    return [*parameters, *catalog.market, *(key for key in keys if "<" not in key and "[" not in key)]
