"""What `mei backtest` replays: a config of a lane, or a short file that a person wrote."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from mei_pipeline.candles.intervals import Intervals, interval_problems
from mei_pipeline.candles.lake import Lake
from mei_pipeline.config.document import read_yaml
from mei_pipeline.config.fields import (
    FileModel,
    Interval,
    StrategyName,
    Symbol,
    SymbolValues,
    Timestamp,
    Values,
    Venue,
    flaws,
    shape,
)
from mei_pipeline.config.load import Config
from mei_pipeline.config.models import MarketValues
from mei_pipeline.config.promoted import read_promoted
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.params.benchmark import AUTO
from mei_pipeline.params.identity import ResolvedConfig, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.replay.record import PromotionRecord, parse_record
from mei_pipeline.simulation.extents import common_symbols


class BacktestSpec(FileModel):
    """One config, written by hand."""

    strategy: StrategyName
    """Strategy: a module of kernels/strategies."""
    venue: Venue | None = None
    """Venue whose bars are used; when left out, the one of pipeline.yaml."""
    interval: Interval
    """Length of the bars that features are made of and that the strategy decides on."""
    entry_interval: Interval | None = None
    """Shorter bars at whose closes entries are decided; it divides `interval`. When left out: `interval`."""
    exit_interval: Interval | None = None
    """Shorter bars at whose closes exits are decided; it divides `interval`, and the shorter of both divides the other.
    When left out: `interval`."""
    symbols: Annotated[
        Annotated[Literal["all"], Tag("word")] | Annotated[tuple[Symbol, ...], Tag("list"), Field(min_length=1)],
        Discriminator(shape),
    ] = "all"
    """Symbols of the book: `all` that the lake has, or a list."""
    anchor_ms: Annotated[Timestamp | None, Field(alias="anchor")] = None
    """Bar at which features start; when left out, the anchor of the interval in pipeline.yaml."""
    initial_balance_usd: Annotated[float, Field(gt=0, le=1e12)] = 10_000.0
    """Equity at the start."""
    benchmark: Symbol = AUTO
    """Symbol to compare with, and whose trend gives the others context in strategies that read one; `auto`: Bitcoin in
    any notation, such as BTC, BTC/USDT:USDT, BTC-USDT-SWAP or XBTUSD. A config that reads one and has none is
    refused."""
    market: MarketValues = Field(default_factory=dict)
    """Market parameters, written without the leading `market.`, where they differ from their defaults."""
    params: Values = Field(default_factory=dict)
    """Parameters that differ from their defaults."""
    symbol_params: dict[Symbol, SymbolValues] = Field(default_factory=dict)
    """Parameters of single symbols; they win over `params`. `symbols` is a list of names and has none of them."""

    @model_validator(mode="after")
    def _dividing(self) -> "BacktestSpec":
        if found := interval_problems(self.interval, self.entry_interval or "", self.exit_interval or ""):
            raise flaws(found)
        return self

    @property
    def intervals(self) -> Intervals:
        """The intervals together."""
        return Intervals(self.interval, self.entry_interval or "", self.exit_interval or "")


def read_config(path: Path, lake: Lake, config: Config) -> tuple[ResolvedConfig, int]:
    """The config in `path` and the anchor of its features, in milliseconds.

    Args:
        path: A file of `lanes/<lane>/configs/`, or one that has the keys of `BacktestSpec`.
        lake: Says which symbols `all` are.
        config: The operator's configuration, for what the file leaves out.

    Raises:
        ConfigError: The file is missing or wrong, `symbol_params` names a symbol that is not in the book, or no anchor
            is known.
        DataError: The lake has no bars for it.
    """
    if _is_promoted(path):
        resolved, file = read_promoted(path)
        return resolved, anchor_of(config, resolved.interval, file.evidence.get("anchor_ms"))
    spec = read_yaml(path, BacktestSpec)
    venue = spec.venue or config.pipeline.venue
    names = tuple(common_symbols(lake, venue, spec.intervals)[0]) if spec.symbols == "all" else spec.symbols
    if not names:
        raise DataError(f"lake {lake.root}: no {' and '.join(spec.intervals.read)} bars of {venue}; run `mei ingest`")
    resolved = resolve_config(
        read_catalog(),
        strategy=spec.strategy,
        venue=venue,
        interval=spec.interval,
        symbols=names,
        initial_balance_usd=spec.initial_balance_usd,
        params=spec.params,
        market=spec.market,
        symbol_params=spec.symbol_params,
        entry_interval=spec.intervals.entry,
        exit_interval=spec.intervals.exit,
        benchmark=spec.benchmark,
    )
    return resolved, anchor_of(config, spec.interval, spec.anchor_ms)


def read_record(path: Path) -> PromotionRecord | None:
    """Return the record that a config of a lane was accepted on; None for a file without one.

    Raises:
        ConfigError: The file of a promoted config is damaged.
    """
    return parse_record(read_promoted(path)[1].evidence, path) if _is_promoted(path) else None


def read_benchmark(path: Path) -> str:
    """Return the benchmark symbol that a file written by hand names; empty for `auto` and for a config of a lane.

    A config keeps its benchmark symbol only if its strategy reads one.

    Raises:
        ConfigError: The file is missing or wrong.
    """
    named = AUTO if _is_promoted(path) else read_yaml(path, BacktestSpec).benchmark
    return "" if named == AUTO else named


def _is_promoted(path: Path) -> bool:
    return path.is_file() and b"\nconfig_id:" in b"\n" + path.read_bytes()


def anchor_of(config: Config, interval: str, stated_ms: int | None) -> int:
    """Return the anchor that is stated, or else that of the interval in pipeline.yaml, in milliseconds.

    Raises:
        ConfigError: pipeline.yaml has none for the interval.
    """
    if stated_ms is not None:
        return stated_ms
    if interval not in config.pipeline.anchors:
        raise ConfigError(f"pipeline.yaml: anchors: no anchor for {interval}; add one, or state `anchor` in the file")
    return config.pipeline.anchors[interval]
