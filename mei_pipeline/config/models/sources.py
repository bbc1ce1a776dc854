"""Models of the entries under `sources` in pipeline.yaml."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from mei_pipeline.candles.intervals import HOUR_MS, iso
from mei_pipeline.config.fields import FileModel, Interval, Symbol, Timestamp, Venue, flaws, shape

Column = Literal[
    "venue",
    "symbol",
    "interval",
    "source",
    "open_ms",
    "close_ms",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trades",
    "time_ms",
    "rate",
    "premium",
    "from_ms",
    "size_decimals",
    "price_decimals",
    "price_significant",
    "min_notional_usd",
    "max_leverage",
    "maintenance_margin_frac",
    "listed_ms",
    "delisted_ms",
]

PresetName = Literal["binance-vision", "bybit", "ccxt", "freqtrade", "hyperliquid", "okx", "tradingview"]


class FileSourceConfig(FileModel):
    """Candles and funding from files on this machine: Parquet, CSV, Feather, JSON, zipped CSV."""

    kind: Literal["files"]
    """A source that reads files."""
    venue: Venue
    """Venue of the prices; prices of two venues are never joined in one series."""
    path: Annotated[str, Field(min_length=1)]
    """File, folder or glob; a relative path starts at the configuration folder. An existing path is taken literally."""
    interval: Interval | None = None
    """Length of the bars; by default it is read from the files and their names."""
    columns: dict[Column, str] = Field(default_factory=dict)
    """MEI's column name to the file's, for names that differ: `{open_ms: timestamp}`. `=value` gives all rows one
    value, and `close_ms` names a column of close times. One symbol for all rows is allowed for a single file only."""
    preset: PresetName | None = None
    """Venue or tool that wrote the files; by default it is recognised from their columns."""


class SyntheticSourceConfig(FileModel):
    """A synthetic market: correlated symbols with regimes, and a planted edge of stated size or none."""

    kind: Literal["synthetic"]
    """A source that generates prices."""
    venue: Venue = "synthetic"
    """Venue name of the synthetic market; never the name of a real venue."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    """Seed of the random numbers; the same seed makes the same market, bar for bar."""
    symbols: Annotated[
        Annotated[tuple[Symbol, ...], Tag("list"), Field(min_length=1, max_length=256)]
        | Annotated[int, Tag("word"), Field(ge=1, le=256)],
        Discriminator(shape),
    ]
    """Names of the symbols, or the number of symbols to generate."""
    interval: Literal["1m", "3m", "5m", "15m", "30m", "1h"] = "1h"
    """Length of the finest bars; longer bars are resampled from them."""
    from_ms: Annotated[Timestamp, Field(alias="from")]
    """Open time of the first bar, a full hour."""
    to_ms: Annotated[Timestamp | None, Field(alias="to")] = None
    """End of the market, exclusive, a full hour; by default it has no end."""
    edge_sharpe: Annotated[float, Field(ge=0, le=20)] = 0.0
    """Planted edge: annual Sharpe ratio, after costs, of the best `ema_cross` on this market; 0 plants none."""

    @model_validator(mode="after")
    def _span(self) -> "SyntheticSourceConfig":
        problems = {}
        if self.from_ms % HOUR_MS:
            problems["from"] = f"{iso(self.from_ms)} is not a full hour"
        if self.to_ms is not None and self.to_ms % HOUR_MS:
            problems["to"] = f"{iso(self.to_ms)} is not a full hour"
        elif self.to_ms is not None and self.to_ms <= self.from_ms:
            problems["to"] = f"{iso(self.to_ms)} is not later than `from`, {iso(self.from_ms)}"
        if isinstance(self.symbols, tuple) and len(set(self.symbols)) < len(self.symbols):
            problems["symbols"] = "a symbol is listed twice"
        if problems:
            raise flaws(problems)
        return self


SourceConfig = Annotated[FileSourceConfig | SyntheticSourceConfig, Field(discriminator="kind")]
