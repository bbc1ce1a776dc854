"""What one key or parameter is: its value, where that came from, what is allowed, what it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from kernels.params import Parameter
from mei_pipeline.config.keys import NO_DEFAULT, Key, keys_of
from mei_pipeline.config.load import PIPELINE, POLICY, Config
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.paths import closest
from mei_pipeline.params.resolve import DEFAULT, merge
from mei_pipeline.params.table import Catalog


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
        sweeps: For a parameter, what each sweep does with it: the values that it tries or the one that it assumes.
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
        ConfigError: There is no such path, or it is not a parameter of `strategy`.
    """
    if path in catalog.market:
        return _market(config, catalog.market[path])
    owner = _owner(config, catalog, path, strategy)
    if owner is not None:
        layers = config.overrides.layers(symbol=symbol, mode=mode, live=live)
        merged = merge(catalog.strategy(owner), *(layers if config.overrides.strategy == owner else ()))
        sweeps = {
            name: list(spec.axis_values(path)) if path in spec.axes else spec.params[path]
            for name, spec in config.sweeps.items()
            if spec.strategy == owner and (path in spec.axes or path in spec.params)
        }
        origin = merged.origin[path]
        where = origin if origin == DEFAULT else f"strategy_overrides.yaml: {origin}"
        return _parameter(catalog.strategy(owner)[path], merged.values[path], where, sweeps)
    for name, model in ((PIPELINE, config.pipeline), (POLICY, config.policy)):
        for key in keys_of(type(model)):
            if key.path == path:
                return _key(name, model, key)
    raise ConfigError(f"{path}: no such parameter or key; {closest(path, _known(catalog, config))}".rstrip("; "))


def _owner(config: Config, catalog: Catalog, path: str, strategy: str | None) -> str | None:
    if strategy is not None:
        table = catalog.strategy(strategy)
        if path not in table:
            raise ConfigError(f"{path}: no parameter of {strategy}; {closest(path, table)}known: {', '.join(table)}")
        return strategy
    used = (config.overrides.strategy, *(spec.strategy for spec in config.sweeps.values()), *catalog.strategies)
    return next((name for name in used if name and path in catalog.strategies[name]), None)


def _market(config: Config, parameter: Parameter) -> Explanation:
    path = parameter.path
    sweeps = {name: spec.market[path] for name, spec in config.sweeps.items() if path in spec.market}
    return _parameter(parameter, parameter.default, DEFAULT, sweeps)


def _parameter(parameter: Parameter, value: Any, origin: str, sweeps: Mapping[str, Any]) -> Explanation:
    return Explanation(
        path=parameter.path,
        value=value,
        origin=origin,
        default=parameter.default,
        allowed=parameter.allowed,
        unit=parameter.unit,
        role=parameter.role,
        doc=parameter.doc,
        sweeps=sweeps,
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
