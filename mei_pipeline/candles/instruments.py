"""Instruments for symbols of which a source says nothing.

The kernel rounds every size to the instrument's lot, so a symbol without an instrument could not be traded. Files
rarely have instruments; the defaults follow the shape of Hyperliquid's rules and are marked `default` in `source`:

- size decimals: as many as make one lot worth at most one dollar at the first close that was ingested, 0 to 5
  (BTC at 94,125 has 5, ETH at 1,800 has 4, SOL at 147 has 3, DOGE at 0.17 has 0);
- price: five significant figures and at most 6 - size decimals after the point;
- minimum notional 10 USD; leverage at most 10, maintenance margin half of the initial margin at that leverage.

They hold from the beginning of time, so an ingest of real instruments with `from_ms` 0 revises them, and one with a
later `from_ms` takes over from then on.
"""

import math
from collections.abc import Mapping

import polars as pl

from mei_pipeline.candles.schema import INSTRUMENTS

MAX_DECIMALS = 6
MAX_SIZE_DECIMALS = 5
SIGNIFICANT = 5
MIN_NOTIONAL_USD = 10.0
MAX_LEVERAGE = 10.0
SOURCE = "default"


def size_decimals(price_usd: float) -> int:
    """Fewest decimals of a size, 0 to 5, with which a lot at `price_usd` is worth at most one dollar."""
    return min(MAX_SIZE_DECIMALS, max(0, math.ceil(math.log10(price_usd))))


def default_instruments(venue: str, prices_usd: Mapping[str, float]) -> pl.DataFrame:
    """Instruments by the documented defaults.

    Args:
        venue: The venue.
        prices_usd: First close of each symbol.
    """
    rows = [
        {
            "venue": venue,
            "symbol": symbol,
            "from_ms": 0,
            "size_decimals": size_decimals(price),
            "price_decimals": MAX_DECIMALS - size_decimals(price),
            "price_significant": SIGNIFICANT,
            "min_notional_usd": MIN_NOTIONAL_USD,
            "max_leverage": MAX_LEVERAGE,
            "maintenance_margin_frac": 0.5 / MAX_LEVERAGE,
            "listed_ms": None,
            "delisted_ms": None,
            "source": SOURCE,
        }
        for symbol, price in sorted(prices_usd.items())
    ]
    return pl.DataFrame(rows, schema=INSTRUMENTS.columns)


def without_assumed(instruments: pl.DataFrame) -> pl.DataFrame:
    """Drop the assumed rows of symbols of which a source stated terms, for whatever time.

    Assumed rows hold from the beginning of time: they would stay in force until the first stated row.
    """
    if "source" not in instruments.columns:
        return instruments
    assumed = pl.col("source") == SOURCE
    return instruments.filter(~assumed | assumed.all().over("symbol"))


def in_force(instruments: pl.DataFrame, at_ms: int) -> pl.DataFrame:
    """Of each symbol the row in force at `at_ms`: the latest whose `from_ms` is not after it."""
    return (
        instruments.filter(pl.col("from_ms") <= at_ms)
        .sort("symbol", "from_ms")
        .group_by("symbol", maintain_order=True)
        .last()
        .select(*instruments.columns)
    )
