"""Resampling of bars to a longer interval, with bit-equal results on every path.

Open is the first open, high the highest high, low the lowest low, close the last close, volume the sum in row order,
trades the sum, or null if any is unknown. Only complete groups become bars.

Sums of floats depend on the order of additions, so a direct sum of 1,440 volumes is not the sum of their hourly sums.
Every resampling therefore uses the same intermediate intervals, 1m → 5m → 15m → 1h → 4h → 1d, one after another.
Resampling 1m to 1d directly is then bit-equal to resampling step by step. 3m and 30m are not among them and continue
with the next longer one.
"""

import numpy as np
import polars as pl

from mei_pipeline.candles.intervals import INTERVALS, interval_ms
from mei_pipeline.candles.schema import CANDLES
from mei_pipeline.errors import ConfigError, DataError

RESAMPLING_ORDER = ("1m", "5m", "15m", "1h", "4h", "1d")


def resample(frame: pl.DataFrame, to_interval: str) -> pl.DataFrame:
    """Return bars of `to_interval`, made from bars of one shorter interval.

    Args:
        frame: Candles of one venue and interval, one row per symbol and open_ms.
        to_interval: Interval of the result; a multiple of the frame's.

    Returns:
        Candles sorted by symbol, open_ms. A group with a missing bar, such as the present day, becomes no bar.

    Raises:
        ConfigError: The interval is unknown, or not a multiple of the frame's interval.
        DataError: The frame holds several intervals or a bar twice.
    """
    target_ms = interval_ms(to_interval)
    intervals = frame["interval"].unique().to_list()
    if not intervals:
        return CANDLES.empty()
    if len(intervals) > 1:
        raise DataError(f"resample: the frame holds intervals {', '.join(sorted(intervals))}; pass one at a time")
    source_ms = interval_ms(intervals[0])
    if target_ms < source_ms or target_ms % source_ms:
        raise ConfigError(f"resample: {intervals[0]} does not divide {to_interval}; allowed: {_targets(source_ms)}")
    frame = frame.select(*CANDLES.columns).sort("symbol", "open_ms")
    if frame.select(pl.struct("symbol", "open_ms").is_duplicated().any()).item():
        raise DataError("resample: the frame holds a bar twice; read it from the lake, which has each bar once")
    for name in [*(name for name in RESAMPLING_ORDER if source_ms < interval_ms(name) < target_ms), to_interval]:
        current_ms = interval_ms(frame["interval"][0]) if frame.height else target_ms
        next_ms = interval_ms(name)
        if next_ms > current_ms and target_ms % next_ms == 0 and next_ms % current_ms == 0:
            frame = _step(frame, name, next_ms // current_ms)
    return frame


def _step(frame: pl.DataFrame, interval: str, ratio: int) -> pl.DataFrame:
    width = interval_ms(interval)
    group = ["symbol", "_open"]
    grouped = frame.with_columns((pl.col("open_ms") // width * width).alias("_open"))
    complete = grouped.filter(pl.len().over(group) == ratio)
    first, last = complete[::ratio], complete[ratio - 1 :: ratio]
    shape = (-1, ratio)
    volume = complete["volume"].to_numpy().reshape(shape)
    total = volume[:, 0].copy() if complete.height else np.empty(0)
    # One addition after another: numpy's own sum adds in pairs, in an order that depends on the length.
    for column in range(1, ratio):
        total += volume[:, column]
    trades = complete["trades"]
    known = np.all(~trades.is_null().to_numpy().reshape(shape), axis=1)
    return pl.DataFrame(
        {
            "venue": first["venue"],
            "symbol": first["symbol"],
            "interval": pl.repeat(interval, first.height, dtype=pl.String, eager=True),
            "open_ms": first["_open"],
            "open": first["open"],
            "high": complete["high"].to_numpy().reshape(shape).max(axis=1, initial=-np.inf),
            "low": complete["low"].to_numpy().reshape(shape).min(axis=1, initial=np.inf),
            "close": last["close"],
            "volume": total,
            "trades": pl.Series(trades.fill_null(0).to_numpy().reshape(shape).sum(axis=1), dtype=pl.Int64).set(
                pl.Series(~known, dtype=pl.Boolean), None
            ),
            "source": first["source"],
        },
        schema=CANDLES.columns,
    )


def _targets(source_ms: int) -> str:
    return ", ".join(name for name, length in INTERVALS.items() if length > source_ms and length % source_ms == 0)
