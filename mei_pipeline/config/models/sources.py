"""Where candles come from."""

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

Preset = Literal["binance-vision", "bybit", "ccxt", "freqtrade", "hyperliquid", "okx", "tradingview"]


class FilesSource(FileModel):
    """Candles and funding from files that are already on this machine: Parquet, CSV, Feather, JSON, zipped CSV."""

    kind: Literal["files"]
    """A source that reads files."""
    venue: Venue
    """Venue whose prices these are; they never meet another venue's in one series."""
    path: Annotated[str, Field(min_length=1)]
    """File, folder or glob; a relative one starts at the configuration folder. A path that exists is no pattern."""
    interval: Interval | None = None
    """Length of the bars; when left out it is read from the files and their names."""
    columns: dict[Column, str] = Field(default_factory=dict)
    """MEI's column name to the file's, for those that differ: `{open_ms: timestamp}`; `=value` gives all rows one
    value, and `close_ms` names a column of close times. One symbol for all rows is for a single file."""
    preset: Preset | None = None
    """Who wrote the files; when left out it is told from their columns."""


class SyntheticSource(FileModel):
    """A made-up market: correlated symbols with regimes, and an edge of stated size or none."""

    kind: Literal["synthetic"]
    """A source that invents prices."""
    venue: Venue = "synthetic"
    """Venue name of the invented market; never that of a real one."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    """The same seed makes the same market, bar for bar."""
    symbols: Annotated[
        Annotated[tuple[Symbol, ...], Tag("list"), Field(min_length=1, max_length=256)]
        | Annotated[int, Tag("word"), Field(ge=1, le=256)],
        Discriminator(shape),
    ]
    """Names of the symbols, or how many to invent."""
    interval: Literal["1m", "3m", "5m", "15m", "30m", "1h"] = "1h"
    """Length of the finest bars; longer ones are made of them."""
    from_ms: Annotated[Timestamp, Field(alias="from")]
    """Open time of the first bar, a full hour."""
    to_ms: Annotated[Timestamp | None, Field(alias="to")] = None
    """End of the market, exclusive, a full hour; when left out it has none."""
    edge_sharpe: Annotated[float, Field(ge=0, le=20)] = 0.0
    """Planted edge: annual Sharpe ratio, after costs, of the best `ema_cross` on this market; 0 plants none."""

    @model_validator(mode="after")
    def _span(self) -> "SyntheticSource":
        found = {}
        if self.from_ms % HOUR_MS:
            found["from"] = f"{iso(self.from_ms)} is not a full hour"
        if self.to_ms is not None and self.to_ms % HOUR_MS:
            found["to"] = f"{iso(self.to_ms)} is not a full hour"
        elif self.to_ms is not None and self.to_ms <= self.from_ms:
            found["to"] = f"{iso(self.to_ms)} is not later than `from`, {iso(self.from_ms)}"
        if isinstance(self.symbols, tuple) and len(set(self.symbols)) < len(self.symbols):
            found["symbols"] = "a symbol is listed twice"
        if found:
            raise flaws(found)
        return self


Source = Annotated[FilesSource | SyntheticSource, Field(discriminator="kind")]
