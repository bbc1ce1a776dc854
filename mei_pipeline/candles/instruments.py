"""Default instruments for symbols whose source has none, and the instruments in force at a time.

The kernel rounds every size to the instrument's lot, so a symbol without an instrument could not be traded. Files
rarely have instruments. The defaults follow the pattern of Hyperliquid's rules and have `source` = `default`:

- size decimals: the fewest, 0 to 5, with which a lot is worth at most one dollar at the first close that was ingested
  (BTC at 94,125 has 5, ETH at 1,800 has 4, SOL at 147 has 3, DOGE at 0.17 has 0);
- price: five significant figures and at most 6 - size decimals after the point;
- minimum notional 10 USD; leverage at most 10, maintenance margin half of the initial margin at that leverage.

Defaults are in force from 1970 on (`from_ms` 0). An ingest of real instruments with `from_ms` 0 revises them; real
instruments with a later `from_ms` replace them from that time on.
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
    """Return the fewest decimals of a size, 0 to 5, with which a lot at `price_usd` is worth at most one dollar."""
    return min(MAX_SIZE_DECIMALS, max(0, math.ceil(math.log10(price_usd))))


def default_instruments(venue: str, prices_usd: Mapping[str, float]) -> pl.DataFrame:
    """Return default instruments.

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


def drop_replaced_defaults(instruments: pl.DataFrame) -> pl.DataFrame:
    """Drop the default rows of symbols that have rows of a source, for any time.

    A default row would otherwise stay in force until the first row of the source.
    """
    if "source" not in instruments.columns:
        return instruments
    default = pl.col("source") == SOURCE
    return instruments.filter(~default | default.all().over("symbol"))


def in_force(instruments: pl.DataFrame, at_ms: int) -> pl.DataFrame:
    """Return each symbol's row in force at `at_ms`: the latest row with `from_ms` at or before it."""
    return (
        instruments.filter(pl.col("from_ms") <= at_ms)
        .sort("symbol", "from_ms")
        .group_by("symbol", maintain_order=True)
        .last()
        .select(*instruments.columns)
    )
