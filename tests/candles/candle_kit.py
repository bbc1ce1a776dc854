"""Small candles and funding of known values, and what a lake looks like from outside."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from mei_pipeline.candles.intervals import INTERVALS
from mei_pipeline.candles.lake import Lake, candles_hash, read_candles
from mei_pipeline.candles.schema import CANDLES, FUNDING

MAY = 1_746_057_600_000  # 2025-05-01 00:00 UTC
HOUR = 3_600_000
NOW = MAY + 400 * 24 * HOUR


def bars(
    symbols: Sequence[str] = ("BTC", "ETH"),
    count: int = 48,
    start_ms: int = MAY,
    interval: str = "1h",
    venue: str = "binance",
) -> pl.DataFrame:
    """`count` sound bars per symbol; their values follow from symbol and time alone."""
    step = INTERVALS[interval]
    frames = []
    for symbol in symbols:
        opens = start_ms + step * np.arange(count, dtype=np.int64)
        rng = np.random.default_rng(sum(symbol.encode()))
        wave = 100.0 + 5.0 * np.sin((opens // step) % 1000 * rng.uniform(0.1, 0.9))
        close = np.round(wave + (opens // step % 7) * 0.1, 4)
        begin = np.round(wave, 4)
        frames.append(
            pl.DataFrame(
                {
                    "venue": venue,
                    "symbol": symbol,
                    "interval": interval,
                    "open_ms": opens,
                    "open": begin,
                    "high": np.maximum(begin, close) + 0.5,
                    "low": np.minimum(begin, close) - 0.5,
                    "close": close,
                    "volume": np.round(1.0 + (opens // step % 11) * 0.3, 4),
                    "trades": None,
                    "source": "kit",
                },
                schema_overrides=CANDLES.columns,
            ).select(*CANDLES.columns)
        )
    return pl.concat(frames)


def with_row(frame: pl.DataFrame, index: int, **values: object) -> pl.DataFrame:
    """`frame` with other values in one row."""
    return frame.with_columns(
        pl.when(pl.int_range(pl.len()) == index)
        .then(pl.lit(value, dtype=frame.schema[name]))
        .otherwise(pl.col(name))
        .alias(name)
        for name, value in values.items()
    )


def prints(rows: Sequence[tuple[str, int, float, float | None, str]], venue: str = "hyperliquid") -> pl.DataFrame:
    """Funding from (symbol, time_ms, rate, premium, source)."""
    return pl.DataFrame([(venue, *row) for row in rows], schema=FUNDING.columns, orient="row")


def data_hash(lake: Lake, venue: str, interval: str, *selection: object) -> str:
    """The content hash of a slice of the lake."""
    return candles_hash(read_candles(lake, venue, interval, *selection), venue, interval)


def contents(root: Path) -> dict[str, str]:
    """Hash of each file below `root`, less locks and temporary files."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock") and not path.name.endswith(".tmp")
    }
