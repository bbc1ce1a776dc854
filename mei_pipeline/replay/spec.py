"""Configs for `mei backtest`: the config of a lane, or a short file written by hand."""

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
from mei_pipeline.config.load import Configuration
from mei_pipeline.config.models import MarketValues
from mei_pipeline.config.promoted import read_promoted
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.params.benchmark import AUTO
from mei_pipeline.params.identity import ResolvedConfig, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.replay.record import PromotionRecord, parse_record
from mei_pipeline.simulation.extents import common_symbols


class BacktestSpec(FileModel):
    """A config for `mei backtest`, written by hand."""

    strategy: StrategyName
    """Strategy: a module of kernels/strategies."""
    venue: Venue | None = None
    """Venue of the bars. Default: the venue of pipeline.yaml."""
    interval: Interval
    """Length of the bars that features are computed from and at whose closes the strategy decides."""
    entry_interval: Interval | None = None
    """Shorter bars at whose closes the strategy decides entries; it divides `interval`. Default: `interval`."""
    exit_interval: Interval | None = None
    """Shorter bars at whose closes the strategy decides exits. It divides `interval`, and the shorter of both divides
    the other. Default: `interval`."""
    symbols: Annotated[
        Annotated[Literal["all"], Tag("word")] | Annotated[tuple[Symbol, ...], Tag("list"), Field(min_length=1)],
        Discriminator(shape),
    ] = "all"
    """Symbols of the book: `all` symbols of the lake, or a list."""
    anchor_ms: Annotated[Timestamp | None, Field(alias="anchor")] = None
    """Bar at which recursive features start. Default: the anchor of the interval in pipeline.yaml."""
    initial_balance_usd: Annotated[float, Field(gt=0, le=1e12)] = 10_000.0
    """Initial equity."""
    benchmark: Symbol = AUTO
    """Symbol to compare with. It is also the benchmark symbol of strategies that read one. `auto`: Bitcoin in any
    notation, such as BTC, BTC/USDT:USDT, BTC-USDT-SWAP or XBTUSD. A config that reads a benchmark symbol and has none
    is refused."""
    market: MarketValues = Field(default_factory=dict)
    """Market parameters that differ from their defaults, without the leading `market.`."""
    params: Values = Field(default_factory=dict)
    """Parameters that differ from their defaults."""
    symbol_params: dict[Symbol, SymbolValues] = Field(default_factory=dict)
    """Parameters of single symbols; they override `params`. The key `symbols` is a list of names without parameters."""

    @model_validator(mode="after")
    def _dividing(self) -> "BacktestSpec":
        if problems := interval_problems(self.interval, self.entry_interval or "", self.exit_interval or ""):
            raise flaws(problems)
        return self

    @property
    def intervals(self) -> Intervals:
        """The three intervals."""
        return Intervals(self.interval, self.entry_interval or "", self.exit_interval or "")


def read_config(path: Path, lake: Lake, config: Configuration) -> tuple[ResolvedConfig, int]:
    """Return the config in `path` and the anchor of its features, in milliseconds.

    Args:
        path: A file of `lanes/<lane>/configs/`, or a file with the keys of `BacktestSpec`.
        lake: Lake that lists the symbols of `all`.
        config: Configuration of the operator, with defaults for keys that the file lacks.

    Raises:
        ConfigError: The file is missing or wrong, `symbol_params` names a symbol outside the book, or the interval has
            no anchor.
        DataError: The lake has no bars for it.
    """
    if _is_promoted(path):
        resolved, file = read_promoted(path)
        return resolved, anchor_of(config, resolved.interval, file.evidence.get("anchor_ms"))
    spec = read_yaml(path, BacktestSpec)
    venue = spec.venue or config.pipeline.venue
    symbols = tuple(common_symbols(lake, venue, spec.intervals)[0]) if spec.symbols == "all" else spec.symbols
    if not symbols:
        raise DataError(f"lake {lake.root}: no {' and '.join(spec.intervals.read)} bars of {venue}; run `mei ingest`")
    resolved = resolve_config(
        read_catalog(),
        strategy=spec.strategy,
        venue=venue,
        interval=spec.interval,
        symbols=symbols,
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
    """Return the record that the config of a lane was accepted on; None for a file without one.

    Raises:
        ConfigError: The file of a promoted config is damaged.
    """
    return parse_record(read_promoted(path)[1].evidence, path) if _is_promoted(path) else None


def read_benchmark(path: Path) -> str:
    """Return the benchmark symbol that a file written by hand names; empty for `auto` and for the config of a lane.

    The config of a lane keeps a benchmark symbol only if its strategy reads one.

    Raises:
        ConfigError: The file is missing or wrong.
    """
    setting = AUTO if _is_promoted(path) else read_yaml(path, BacktestSpec).benchmark
    return "" if setting == AUTO else setting


def _is_promoted(path: Path) -> bool:
    # Only bytes are compared: errors of YAML are reported later, by the reader of the right model.
    return path.is_file() and b"\nconfig_id:" in b"\n" + path.read_bytes()


def anchor_of(config: Configuration, interval: str, stated_ms: int | None) -> int:
    """Return `stated_ms`, or the anchor of the interval in pipeline.yaml if it is None, in milliseconds.

    Raises:
        ConfigError: pipeline.yaml has none for the interval.
    """
    if stated_ms is not None:
        return stated_ms
    if interval not in config.pipeline.anchors:
        raise ConfigError(f"pipeline.yaml: anchors: no anchor for {interval}; add one, or set `anchor` in the file")
    return config.pipeline.anchors[interval]
