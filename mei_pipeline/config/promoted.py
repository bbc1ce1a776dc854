"""The file of one config: resolved parameters, evidence and provenance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mei_pipeline.config.document import Document, parse_document, read_document
from mei_pipeline.config.fields import (
    MARKET,
    AllMarketValues,
    AllValues,
    FileModel,
    Interval,
    Json,
    StrategyName,
    Symbol,
    SymbolValues,
    Venue,
)
from mei_pipeline.config.messages import report
from mei_pipeline.config.writer import yaml_text
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.identity import ResolvedConfig, config_id, resolve_config
from mei_pipeline.params.paths import nest
from mei_pipeline.params.table import Catalog, problems, read_catalog

SCHEMA_VERSION = 1

_ID = Annotated[str, Field(pattern="^[0-9a-f]{64}$", json_schema_extra={"x-allowed": "64 hexadecimal digits"})]


class ResolvedFile(FileModel):
    """The part of the file that determines the config id."""

    strategy: StrategyName
    """Strategy that the parameters are for."""
    venue: Venue
    """Venue that it was measured on."""
    interval: Interval
    """Length of the bars that features are made of and that it decides on."""
    entry_interval: Interval | None = None
    """Shorter bars at whose closes entries are decided; when left out: `interval`."""
    exit_interval: Interval | None = None
    """Shorter bars at whose closes exits are decided; when left out: `interval`."""
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1)]
    """Symbols that it may trade."""
    initial_balance_usd: Annotated[float, Field(gt=0)]
    """Equity at the start of the measurement."""
    benchmark: Symbol | None = None
    """Symbol whose trend gives the others context; when left out by a config that reads one: BTC, else BTCUSDT."""
    params: AllValues
    """Every parameter of the strategy."""
    symbol_params: dict[Symbol, SymbolValues] = Field(default_factory=dict)
    """Parameters of single symbols that differ from `params`."""
    market: AllMarketValues
    """Every market parameter."""

    @property
    def parts(self) -> dict[str, Any]:
        """Return the parts of the config by their names in `ResolvedConfig`."""
        return dict(self) | {key: getattr(self, key) or "" for key in ("entry_interval", "exit_interval", "benchmark")}


class PromotedFile(FileModel):
    """A config file of a lane."""

    schema_version: Literal[1]
    """Version of this layout."""
    config_id: _ID
    """Hash of `config`; a file whose content has another one is refused."""
    config: ResolvedFile
    """The config itself."""
    evidence: Json
    """Measurements, with data and kernels."""
    provenance: Json
    """Nightly run and policy that accepted the config."""


def to_yaml(resolved: ResolvedConfig, *, evidence: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Return the text of the file of a config; equal content gives equal text.

    Args:
        resolved: The config, from `resolve_config`.
        evidence: Plain values: text, finite numbers, booleans, None, lists and mappings of them.
        provenance: As `evidence`.
    """
    intervals = {"entry_interval": resolved.entry_interval, "exit_interval": resolved.exit_interval}
    own = {symbol: nest(values) for symbol, values in resolved.symbol_params.items() if values}
    content = {
        "schema_version": SCHEMA_VERSION,
        "config_id": config_id(resolved),
        "provenance": dict(provenance),
        "evidence": dict(evidence),
        # Last, so that a file that lost its end has lost something that the id covers.
        "config": {
            "strategy": resolved.strategy,
            "venue": resolved.venue,
            "interval": resolved.interval,
            **{key: interval for key, interval in intervals.items() if interval},
            "symbols": list(resolved.symbols),
            "initial_balance_usd": resolved.initial_balance_usd,
            **({"benchmark": resolved.benchmark} if resolved.benchmark else {}),
            "params": nest(resolved.params),
            **({"symbol_params": own} if own else {}),
            "market": {path.removeprefix(MARKET): value for path, value in resolved.market.items()},
        },
    }
    return yaml_text(content)


def from_yaml(content: bytes, path: Path, catalog: Catalog | None = None) -> tuple[ResolvedConfig, PromotedFile]:
    """Return the config of a file, and the parsed file.

    Args:
        content: Bytes of the file.
        path: Path of the file, for messages.
        catalog: Parameter tables to check against; those of the kernels by default.

    Raises:
        ConfigError: The file is damaged or of another version, a value is not allowed, a parameter is missing, or the
            content has another id than the file says.
    """
    return _checked(parse_document(content, path, PromotedFile), catalog or read_catalog())


def read_promoted(path: Path, catalog: Catalog | None = None) -> tuple[ResolvedConfig, PromotedFile]:
    """As `from_yaml`, for the file at `path`.

    Raises:
        ConfigError: As `from_yaml`, or the file can't be read.
    """
    return _checked(read_document(path, PromotedFile), catalog or read_catalog())


def _checked(document: Document[PromotedFile], catalog: Catalog) -> tuple[ResolvedConfig, PromotedFile]:
    config = document.model.config
    if config.strategy not in catalog.strategies:
        text = f"{config.strategy!r}: {catalog.unknown_strategy(config.strategy)}"
        raise ConfigError(document.problem(("config", "strategy"), text))
    wrong: dict[tuple[str, ...], str] = {}
    for section, table, values in (
        ("params", catalog.strategies[config.strategy], config.params),
        ("market", catalog.market_of(config.strategy), config.market),
    ):
        found = problems(table, values)
        found |= {path: f"missing; {table[path].allowed}" for path in table if path not in values}
        wrong |= {("config", section, path.removeprefix(MARKET)): text for path, text in found.items()}
    for symbol, values in config.symbol_params.items():
        found = problems(catalog.strategies[config.strategy], values, of_symbol=True)
        wrong |= {("config", "symbol_params", symbol, path): text for path, text in found.items()}
    if wrong:
        raise ConfigError(report(document.problem(keys, text) for keys, text in wrong.items()))
    try:
        resolved = resolve_config(catalog, **config.parts)
    except ConfigError as error:
        raise ConfigError(document.problem(("config",), str(error))) from error
    if (found_id := config_id(resolved)) != document.model.config_id:
        text = f"the content has another id, {found_id}: the file was edited; write it again from the registry"
        raise ConfigError(document.problem(("config_id",), text))
    return resolved, document.model
