"""Small stages for replays: hand-made bars, and configs over the random walks of `market_kit`."""

import numpy as np
import polars as pl
from market_kit import DAY_MS, HOUR_MS, START_MS, SYMBOLS, VENUE, fill_lake, quarters

from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.candles.lake import Lake, merge_candles, read_candles
from mei_pipeline.params.identity import ResolvedConfig, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.replay.run import ReplayInputs, make_replay_inputs
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars, Steps
from mei_pipeline.simulation.loading import load_bars

FROM_MS, TO_MS = START_MS + 10 * DAY_MS, START_MS + 50 * DAY_MS

LIVELY = {
    "entry.warmup_bars": 60,
    "thresholds.entry.min_adx": 10.0,
    "thresholds.entry.enable_pullback_entries": True,
    "trade.entry_min_confidence": "low",
    "trade.add_cooldown_minutes": 0.0,
    "trade.add_min_profit_atr": 0.1,
    "trade.tp_partial_atr_mult": 1.0,
    "filters.require_btc_alignment": False,
}
"""Values of `mei_alpha` that make it trade on a random walk: entries, additions, partial closes."""


def bars_of(symbol: str, ohlc: list[tuple[float, float, float, float]]) -> Bars:
    """Hourly bars of one symbol."""
    count = len(ohlc)
    prices = np.array(ohlc, dtype=float).T[:, :, None]
    times = START_MS + HOUR_MS * np.arange(count, dtype=np.int64)
    rows, ones = np.arange(count, dtype=np.int64), np.ones(count, dtype=np.int64)
    age = rows[:, None]
    present = np.ones((count, 1), dtype=bool)
    steps = Steps("1h", times, prices, present, age, np.zeros((count, 1)), rows, rows, ones, ones)
    return Bars(
        VENUE, Intervals("1h"), (symbol,), START_MS, "", times, prices, np.ones((count, 1)), age, steps, pl.DataFrame()
    )


def cross(**params: object) -> ResolvedConfig:
    """A config of `ema_cross`, which opens and closes and nothing else."""
    values = {"indicators.ema_fast_window": 5, "indicators.ema_slow_window": 20, "entry.warmup_bars": 50, **params}
    return _resolved("ema_cross", values, {"market.exit_slippage_bps": 2.0, "market.entry_slippage_bps": 1.0})


def alpha(**params: object) -> ResolvedConfig:
    """A config of `mei_alpha` that adds and closes in part."""
    return _resolved("mei_alpha", {**LIVELY, **params}, {})


def _resolved(strategy: str, params: dict[str, object], market: dict[str, object]) -> ResolvedConfig:
    return resolve_config(
        read_catalog(),
        strategy=strategy,
        venue=VENUE,
        interval="1h",
        symbols=SYMBOLS,
        initial_balance_usd=10_000,
        params=params,
        market=market,
    )


def inputs(settings: Settings, resolved: ResolvedConfig, to_ms: int = TO_MS) -> ReplayInputs:
    """The stage of `resolved` over sixty days of random walks."""
    lake = Lake(settings.lake) if settings.lake.exists() else fill_lake(settings, drift=0.002)
    if resolved.exit_interval == "15m":
        merge_candles(lake, quarters(read_candles(lake, VENUE, "1h")), now_ms=START_MS + 99 * DAY_MS)
    bars = load_bars(lake, VENUE, resolved.intervals, SYMBOLS, START_MS, START_MS + 60 * DAY_MS)
    return make_replay_inputs(settings, bars, resolved, FROM_MS, to_ms)
