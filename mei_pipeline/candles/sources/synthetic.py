"""The synthetic market as a source of candles, funding and instruments.

`SyntheticMarket` defines the market, `SyntheticSource` yields it in the lake's tables. `make_bars` returns the same
bars as arrays, without frames, for work on many markets.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.candles.intervals import interval_ms as length_of
from mei_pipeline.candles.resample import resample
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS
from mei_pipeline.candles.sources.synthetic_bars import BLOCK_HOURS, FIGURES, MAX_DECIMALS, MarketBars, make_bars
from mei_pipeline.candles.sources.synthetic_config import (
    BASE_INTERVALS,
    DEFAULT_FROM_MS,
    Regimes,
    SyntheticMarket,
    instrument,
)
from mei_pipeline.candles.sources.synthetic_funding import make_funding
from mei_pipeline.errors import ConfigError

__all__ = ["DEFAULT_FROM_MS", "MarketBars", "Regimes", "SyntheticMarket", "SyntheticSource", "make_bars"]

FRAME_MS = 4 * BLOCK_HOURS * HOUR_MS  # a frame holds at most 32 days
LONGEST_MS = 50 * 365 * DAY_MS
MIN_NOTIONAL_USD = 10.0


@dataclass(frozen=True)
class SyntheticSource:
    """One synthetic market as a source; satisfies the `Source` protocol."""

    market: SyntheticMarket

    @property
    def name(self) -> str:
        """Name of the source in reports and in the `source` column."""
        return f"synthetic seed {self.market.seed}"

    @property
    def venue(self) -> str:
        """Venue of the bars in the lake."""
        return self.market.venue

    def candles(self, interval: str, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield candle frames, sorted by symbol and time, for the bars that open and close inside [from_ms, to_ms].

        Args:
            interval: The market's own interval or a coarser one.
            from_ms: Earliest open.
            to_ms: Latest close.

        Raises:
            ConfigError: The interval is unknown or finer than the market's own, or the market has no end and the range
                is longer than 50 years.
        """
        self._check_end(to_ms)
        step_ms, base_ms = length_of(interval), BASE_INTERVALS[self.market.interval]
        if step_ms % base_ms:
            raise ConfigError(
                f"synthetic market: {interval} bars cannot be made of {self.market.interval} bars; "
                f"set the source's interval to {interval} or a finer one that divides it"
            )
        for lo, hi in self._pieces(from_ms, to_ms):
            frame = self._candle_frame(make_bars(self.market, lo, hi))
            if step_ms > base_ms:
                frame = resample(frame, interval)
            if frame.height:
                yield frame

    def funding(self, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield funding frames, sorted by symbol and time, for the payments in [from_ms, to_ms).

        Raises:
            ConfigError: The market has no end and the range is longer than 50 years.
        """
        self._check_end(to_ms)
        time_ms, rates, premiums = make_funding(self.market, from_ms, to_ms)
        if len(time_ms):
            columns = {"time_ms": np.tile(time_ms, len(rates)), "rate": rates.ravel(), "premium": premiums.ravel()}
            yield self._frame(columns, len(time_ms), FUNDING.columns)

    def instruments(self) -> pl.DataFrame:
        """Return one instrument row per symbol, in force from the market's start."""
        instruments = [instrument(symbol) for symbol in self.market.symbols]
        count = len(instruments)
        columns = {
            "from_ms": [self.market.from_ms] * count,
            "size_decimals": [each.size_decimals for each in instruments],
            "price_decimals": [MAX_DECIMALS - each.size_decimals for each in instruments],
            "price_significant": [FIGURES] * count,
            "min_notional_usd": [MIN_NOTIONAL_USD] * count,
            "max_leverage": [each.max_leverage for each in instruments],
            "maintenance_margin_frac": [0.5 / each.max_leverage for each in instruments],
            "listed_ms": [self.market.from_ms] * count,
            "delisted_ms": [None] * count,
        }
        return self._frame(columns, 1, INSTRUMENTS.columns)

    def _check_end(self, to_ms: int) -> None:
        """Raise ConfigError if a market without end is read beyond `LONGEST_MS`, which would never finish."""
        if self.market.to_ms is None and to_ms > self.market.from_ms + LONGEST_MS:
            raise ConfigError(
                "synthetic market: the market has no end and the range is longer than 50 years; set the source's `to`, "
                "or fetch bars up to a time"
            )

    def _pieces(self, from_ms: int, to_ms: int) -> Iterator[tuple[int, int]]:
        """Cut [from_ms, to_ms), as far as the market goes, at multiples of `FRAME_MS`."""
        lo = max(from_ms, self.market.from_ms)
        end = to_ms if self.market.to_ms is None else min(to_ms, self.market.to_ms)
        while lo < end:
            hi = min(end, (lo // FRAME_MS + 1) * FRAME_MS)
            yield lo, hi
            lo = hi

    def _candle_frame(self, bars: MarketBars) -> pl.DataFrame:
        """Return bars as a frame of the lake's columns."""
        prices = {name: getattr(bars, name).ravel() for name in ("open", "high", "low", "close", "volume", "trades")}
        open_ms = np.tile(bars.open_ms, len(self.market.symbols))
        return self._frame(
            {"interval": self.market.interval, "open_ms": open_ms, **prices}, len(bars.open_ms), CANDLES.columns
        )

    def _frame(self, columns: Mapping[str, object], rows: int, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """Return a frame of `schema` from columns with `rows` values for each symbol, one symbol after another."""
        names = pl.Series(self.market.symbols, dtype=pl.String())
        symbol = names.gather(np.repeat(np.arange(len(names)), rows))
        frame = pl.DataFrame({key: value for key, value in columns.items() if not isinstance(value, str)})
        literals = {key: pl.lit(value) for key, value in columns.items() if isinstance(value, str)}
        frame = frame.with_columns(venue=pl.lit(self.venue), source=pl.lit(self.name), symbol=symbol, **literals)
        return frame.select(pl.col(key).cast(kind) for key, kind in schema.items()).sort("symbol", maintain_order=True)
