"""Trace of the gates of `mei_alpha` for a symbol at a step, from the functions that decide entries."""

import numpy as np

from kernels.jit import device
from kernels.strategies.mei_alpha.entries import passes_filters, pullback, rsi_limits, slow_drift, trend, turns_round
from kernels.strategies.mei_alpha.gates import gates
from kernels.strategies.mei_alpha.signals import ACCEL, SIGN

GATES = (
    "warm-up bars",
    "ranging votes",
    "anomaly, move since last close",
    "extension, distance to fast mean",
    "volume against its mean",
    "rising, slope of ADX",
    "strength, ADX against floor",
    "aligned for a long, fast against slow mean",
    "aligned for a short, fast against slow mean",
    "benchmark allows a long",
    "benchmark allows a short",
    "RSI against the limit of a trend long",
    "RSI against the limit of a trend short",
    "MACD histogram above 0",
    "MACD histogram rising for bars",
    "StochRSI K against the limit of a long",
    "StochRSI K against the limit of a short",
    "mode 1, trend (1 long, -1 short)",
    "mode 2, pullback (1 long, -1 short)",
    "mode 3, slow drift (1 long, -1 short)",
    "sides reversed, breadth",
    "SSF and REEF allow a long",
    "SSF and REEF allow a short",
)
"""Names of the rows of a trace."""


@device
def _put(out, i, in_use, value, threshold, verdict):
    """Write row `i` of a trace; the verdict is NaN if the parameters do not use the gate."""
    out[i, 0] = value
    out[i, 1] = threshold
    out[i, 2] = (1.0 if verdict else 0.0) if in_use else np.nan


@device
def _put_mode(out, i, in_use, pair):
    """Write the row of an entry mode: 1 for a long, -1 for a short, 0 for none."""
    long, short = pair
    _put(out, i, in_use, 1.0 if long else (-1.0 if short else 0.0), np.nan, long | short)


@device
def trace(price, age, is_benchmark, now, before, market_context, params, out):
    """Write value, threshold and verdict of each gate in `GATES` into `out` [len(GATES), 3].

    A missing threshold is NaN, and so is the verdict of a gate that the parameters do not use.
    """
    gate = gates(price, is_benchmark, now, before, market_context, params)
    long_limit, short_limit = rsi_limits(now, params)
    sign = params.macd_hist_entry_mode == SIGN
    filters = (params.enable_ssf_filter != 0.0) | (params.enable_reef_filter != 0.0)
    _put(out, 0, True, age, params.warmup_bars, age >= params.warmup_bars)
    _put(out, 1, params.enable_ranging_filter != 0.0, gate.votes, params.min_signals, not gate.ranging)
    moved = abs(price - before.close) / before.close
    _put(out, 2, params.enable_anomaly_filter != 0.0, moved, params.price_change_frac_gt, not gate.anomaly)
    distance = abs(price - now.ema_fast) / now.ema_fast
    _put(out, 3, params.enable_extension_filter != 0.0, distance, params.max_dist_ema_fast_frac, not gate.extended)
    _put(out, 4, params.require_volume_confirmation != 0.0, now.volume, now.volume_mean, gate.volume)
    _put(out, 5, params.require_adx_rising != 0.0, now.adx_slope, 0.0, gate.rising)
    _put(out, 6, True, now.adx, gate.floor, gate.strong)
    _put(out, 7, True, now.ema_fast, now.ema_slow, gate.bullish)
    _put(out, 8, True, now.ema_fast, now.ema_slow, gate.bearish)
    _put(out, 9, params.require_btc_alignment != 0.0, market_context.benchmark_up, np.nan, gate.benchmark_long)
    _put(out, 10, params.require_btc_alignment != 0.0, market_context.benchmark_down, np.nan, gate.benchmark_short)
    _put(out, 11, True, now.rsi, long_limit, now.rsi > long_limit)
    _put(out, 12, True, now.rsi, short_limit, now.rsi < short_limit)
    _put(out, 13, sign, now.macd_hist, 0.0, now.macd_hist > 0.0)
    _put(out, 14, params.macd_hist_entry_mode == ACCEL, now.macd_run, 0.0, now.macd_run > 0.0)
    _put(
        out,
        15,
        params.use_stoch_rsi_filter != 0.0,
        now.stoch_k,
        params.block_long_if_k_gt,
        now.stoch_k < params.block_long_if_k_gt,
    )
    _put(
        out,
        16,
        params.use_stoch_rsi_filter != 0.0,
        now.stoch_k,
        params.block_short_if_k_lt,
        now.stoch_k > params.block_short_if_k_lt,
    )
    _put_mode(out, 17, True, trend(price, now, gate, params))
    _put_mode(out, 18, params.enable_pullback_entries != 0.0, pullback(price, now, before, gate, params))
    _put_mode(out, 19, params.enable_slow_drift_entries != 0.0, slow_drift(price, now, gate, params))
    _put(
        out,
        20,
        (params.enable_auto_reverse != 0.0) | (params.reverse_entry_signal != 0.0),
        market_context.breadth_pct,
        np.nan,
        turns_round(market_context, params),
    )
    _put(out, 21, filters, now.macd_hist, 0.0, passes_filters(True, now, params))
    _put(out, 22, filters, now.macd_hist, 0.0, passes_filters(False, now, params))
