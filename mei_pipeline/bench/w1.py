"""The benchmark `w1`: `ema_cross` on one synthetic symbol, two years of hourly bars, 1,024 combos.

Prices are a geometric random walk without drift, with twelve moves an hour, rounded to cents. A signal fills at the
next open, with one coin and a fee of 4.5 bps. Stops and targets depend on the ATR at the signal and are tested inside
bars.

The definition serves to compare backtesting programs: with the same seed, each must find the same trades.
"""

import math

import numpy as np
import polars as pl

from kernels.market import Floats
from mei_pipeline.bench.work import BenchWork, make_work
from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.simulation.memory import bars_of

BARS = 17_520
COMBOS = 1_024
FEE_BPS = 4.5
BALANCE_USD = 1e6
"""Enough for one coin at any price, so margin never limits a trade."""

_START_MS = 1_735_689_600_000
_DAY_BARS = 24
_MOVES = 12  # moves of the price per hour
_HOURLY_VOL = 0.006
_OPEN_GAP = 0.0002
_FIRST_PRICE = 30_000.0

GRID = {
    "indicators.ema_fast_window": (5, 8, 10, 12, 15, 18, 21, 25),
    "indicators.ema_slow_window": (30, 40, 50, 60, 80, 100, 130, 160),
    "trade.sl_atr_mult": (1.0, 1.5, 2.0, 3.0),
    "trade.tp_atr_mult": (1.5, 2.0, 3.0, 4.0),
}

SPEC = SweepSpec.model_validate(
    {
        "strategy": "ema_cross",
        "venue": "bench",
        "interval": "1h",
        "initial_balance_usd": BALANCE_USD,
        "market": {"fill": "next_open", "stops": "intrabar", "taker_fee_bps": FEE_BPS},
        "params": {
            "indicators.atr_window": 14,
            "entry.warmup_bars": 200,
            "trade.size_mode": "units",
            "trade.size_units": 1.0,
            "trade.leverage": 50.0,
        },
        "axes": GRID,
    }
)


def prices(bars: int = BARS, symbol: int = 0, seed: int = 7) -> Floats:
    """Return open, high, low and close of each hour, [bars, 4]; the order of random draws is part of the definition."""
    source = np.random.default_rng([seed, symbol, bars])
    moves = source.standard_normal(bars * _MOVES) * _HOURLY_VOL / np.sqrt(_MOVES)
    inside = np.exp(np.cumsum(moves) + np.log(_FIRST_PRICE)).reshape(bars, _MOVES)
    before = np.concatenate(([_FIRST_PRICE], inside[:-1, -1]))
    opened = before * np.exp(source.standard_normal(bars) * _OPEN_GAP)
    high, low = np.maximum(inside.max(axis=1), opened), np.minimum(inside.min(axis=1), opened)
    return np.asarray(np.round(np.column_stack((opened, high, low, inside[:, -1])), 2), dtype=np.float64)


def make(bars: int = BARS, combos: int = COMBOS) -> BenchWork:
    """Return the work, optionally with fewer bars, rounded up to whole days, or fewer combos."""
    length = max(math.ceil(bars / _DAY_BARS), 16) * _DAY_BARS
    opened, high, low, close = (np.ascontiguousarray(column[:, None]) for column in prices(length).T)
    arrays = {"open": opened, "high": high, "low": low, "close": close, "volume": np.ones_like(close)}
    terms = pl.DataFrame(
        {
            "symbol": ["W1"],
            "size_decimals": [8],
            "min_notional_usd": [0.0],
            "max_leverage": [50.0],
            "maintenance_margin_frac": [0.01],
        }
    )
    bench_bars = bars_of("bench", Intervals("1h"), _START_MS, arrays, np.zeros_like(close), terms)
    return make_work(SPEC, bench_bars, combos)
