"""The synthetic market as a source of candles, funding and instruments.

`SyntheticMarket` says what the market is, `SyntheticSource` serves it in the lake's tables, `make_bars` gives the same
bars as arrays, without frames, for work on many markets.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from mei_pipeline.candles.intervals import interval_ms as length_of
from mei_pipeline.candles.resample import resample
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS
from mei_pipeline.candles.sources.synthetic_bars import BLOCK_HOURS, FIGURES, MAX_DECIMALS, Bars, make_bars
from mei_pipeline.candles.sources.synthetic_config import (
    BASE_INTERVALS,
    DEFAULT_FROM_MS,
    HOUR_MS,
    Regimes,
    SyntheticMarket,
    instrument,
)
from mei_pipeline.candles.sources.synthetic_funding import make_funding
from mei_pipeline.errors import ConfigError

__all__ = ["DEFAULT_FROM_MS", "Bars", "Regimes", "SyntheticMarket", "SyntheticSource", "make_bars"]

FRAME_MS = 4 * BLOCK_HOURS * HOUR_MS  # a frame holds at most 32 days
LONGEST_MS = 50 * 365 * 24 * HOUR_MS
MIN_NOTIONAL_USD = 10.0


@dataclass(frozen=True)
class SyntheticSource:
    """Serves one synthetic market; satisfies the `Source` protocol."""

    market: SyntheticMarket

    @property
    def name(self) -> str:
        """What it is called in reports and in the `source` column."""
        return f"synthetic seed {self.market.seed}"

    @property
    def venue(self) -> str:
        """Venue that the bars are stored under."""
        return self.market.venue

    def candles(self, interval: str, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield candle frames, sorted by symbol and time, for the bars that open and close inside [from_ms, to_ms].

        Args:
            interval: The market's own interval or a coarser one.
            from_ms: Earliest open.
            to_ms: Latest close.

        Raises:
            ConfigError: The interval is unknown or finer than the market's own, or nothing says where to end.
        """
        self._refuse_forever(to_ms)
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
            ConfigError: Nothing says where to end.
        """
        self._refuse_forever(to_ms)
        time_ms, rates, premiums = make_funding(self.market, from_ms, to_ms)
        if len(time_ms):
            columns = {"time_ms": np.tile(time_ms, len(rates)), "rate": rates.ravel(), "premium": premiums.ravel()}
            yield self._frame(columns, len(time_ms), FUNDING.columns)

    def instruments(self) -> pl.DataFrame:
        """Return one instrument row per symbol, in force from the market's start."""
        whats = [instrument(symbol) for symbol in self.market.symbols]
        count = len(whats)
        columns = {
            "from_ms": [self.market.from_ms] * count,
            "size_decimals": [what.size_decimals for what in whats],
            "price_decimals": [MAX_DECIMALS - what.size_decimals for what in whats],
            "price_significant": [FIGURES] * count,
            "min_notional_usd": [MIN_NOTIONAL_USD] * count,
            "max_leverage": [what.max_leverage for what in whats],
            "maintenance_margin_frac": [0.5 / what.max_leverage for what in whats],
            "listed_ms": [self.market.from_ms] * count,
            "delisted_ms": [None] * count,
        }
        return self._frame(columns, 1, INSTRUMENTS.columns)

    def _refuse_forever(self, to_ms: int) -> None:
        """Refuse a request for all bars of a market that has no end."""
        if self.market.to_ms is None and to_ms > self.market.from_ms + LONGEST_MS:
            raise ConfigError(
                "synthetic market: it has no end, and more than 50 years of it were asked for; "
                "set the source's `to`, or ask for bars up to a time"
            )

    def _pieces(self, from_ms: int, to_ms: int) -> Iterator[tuple[int, int]]:
        """Cut [from_ms, to_ms), as far as the market goes, at multiples of `FRAME_MS`."""
        lo = max(from_ms, self.market.from_ms)
        end = to_ms if self.market.to_ms is None else min(to_ms, self.market.to_ms)
        while lo < end:
            hi = min(end, (lo // FRAME_MS + 1) * FRAME_MS)
            yield lo, hi
            lo = hi

    def _candle_frame(self, bars: Bars) -> pl.DataFrame:
        """Bars as a frame of the lake's columns."""
        prices = {name: getattr(bars, name).ravel() for name in ("open", "high", "low", "close", "volume", "trades")}
        open_ms = np.tile(bars.open_ms, len(self.market.symbols))
        return self._frame(
            {"interval": self.market.interval, "open_ms": open_ms, **prices}, len(bars.open_ms), CANDLES.columns
        )

    def _frame(self, columns: Mapping[str, object], rows: int, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """A frame of `schema` from columns that hold `rows` values for each symbol in turn."""
        names = pl.Series(self.market.symbols, dtype=pl.String())
        symbol = names.gather(np.repeat(np.arange(len(names)), rows))
        frame = pl.DataFrame({key: value for key, value in columns.items() if not isinstance(value, str)})
        literals = {key: pl.lit(value) for key, value in columns.items() if isinstance(value, str)}
        frame = frame.with_columns(venue=pl.lit(self.venue), source=pl.lit(self.name), symbol=symbol, **literals)
        return frame.select(pl.col(key).cast(kind) for key, kind in schema.items()).sort("symbol", maintain_order=True)
