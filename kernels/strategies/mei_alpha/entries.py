"""Entries of `mei_alpha`: the market context, three modes behind the gates, and filters of the signal."""

from kernels.jit import device
from kernels.strategies.mei_alpha.gates import MarketContext, gates
from kernels.strategies.mei_alpha.signals import ACCEL, HIGH, LOW, MEDIUM, PULLBACK, SIGN, SLOW_DRIFT, TREND, code_of
from kernels.strategies.mei_alpha.table import FEATURES

_NAMES = [use.name for use in FEATURES]
_CLOSE_ROW, _FAST_ROW, _SLOW_ROW = (_NAMES.index(name) for name in ("close", "ema_fast", "ema_slow"))


@device
def context(columns, column_of, now, benchmark, params):
    """Return breadth and trend of the benchmark at main row `now`."""
    up = 0.0
    known_symbols = 0.0
    fast = column_of[_FAST_ROW]
    slow = column_of[_SLOW_ROW]
    earlier = now - 1 if now > 0 else now
    for s in range(columns.shape[2]):
        known = (columns[fast, earlier, s] == columns[fast, earlier, s]) & (now > 0)
        known_symbols += 1.0 if known else 0.0
        up += 1.0 if known & (columns[fast, now, s] > columns[slow, now, s]) else 0.0
    breadth = 100.0 * up / known_symbols if known_symbols > 0.0 else 50.0
    at = benchmark if benchmark >= 0 else 0
    close = columns[column_of[_CLOSE_ROW], now, at]
    mean = columns[slow, now, at]
    known = (benchmark >= 0) & (mean == mean)  # noqa: PLR0124 - the test for NaN
    return MarketContext(
        breadth,
        1.0 if known & (close > mean) else 0.0,
        1.0 if known & (close < mean) else 0.0,
        1.0 if known else 0.0,
    )


@device
def rsi_limits(now, params):
    """Return the RSI that a trend long must exceed, and the RSI that a trend short must stay below."""
    low = params.min_adx
    high = params.adx_strong_gt if params.adx_strong_gt > low else low + 1.0
    weight = (now.adx - low) / (high - low)
    weight = 0.0 if weight < 0.0 else (1.0 if weight > 1.0 else weight)
    long = params.rsi_long_weak + weight * (params.rsi_long_strong - params.rsi_long_weak)
    short = params.rsi_short_weak + weight * (params.rsi_short_strong - params.rsi_short_weak)
    return long, short


@device
def trend(price, now, gate, params):
    """Return whether a long and whether a short of mode 1, trend, fires."""
    is_open = gate.strong & gate.volume & gate.rising & (not gate.ranging) & (not gate.anomaly) & (not gate.extended)
    long_limit, short_limit = rsi_limits(now, params)
    any_macd = (params.macd_hist_entry_mode != ACCEL) & (params.macd_hist_entry_mode != SIGN)
    accelerates = params.macd_hist_entry_mode == ACCEL
    up = (now.macd_run > 0.0) if accelerates else (now.macd_hist > 0.0)
    down = (now.macd_run < 0.0) if accelerates else (now.macd_hist < 0.0)
    any_k = params.use_stoch_rsi_filter == 0.0
    long = (
        is_open & gate.bullish & (price > now.ema_fast) & (now.rsi > long_limit) & (any_macd | up) & gate.benchmark_long
    )
    short = is_open & gate.bearish & (price < now.ema_fast) & (now.rsi < short_limit) & (any_macd | down)
    long = long & (any_k | (now.stoch_k < params.block_long_if_k_gt))
    short = short & gate.benchmark_short & (any_k | (now.stoch_k > params.block_short_if_k_lt))
    return long, short


@device
def pullback(price, now, before, gate, params):
    """Return whether a long and whether a short of mode 2, pullback, fires."""
    is_open = (params.enable_pullback_entries != 0.0) & (now.adx >= params.pullback_min_adx)
    is_open = is_open & gate.volume & (not gate.ranging) & (not gate.anomaly) & (not gate.extended)
    any_macd = params.pullback_require_macd_sign == 0.0
    long = is_open & gate.bullish & gate.benchmark_long & (before.close <= before.ema_fast) & (price > now.ema_fast)
    short = is_open & gate.bearish & gate.benchmark_short & (before.close >= before.ema_fast) & (price < now.ema_fast)
    long = long & (any_macd | (now.macd_hist > 0.0)) & (now.rsi >= params.pullback_rsi_long_min)
    short = short & (any_macd | (now.macd_hist < 0.0)) & (now.rsi <= params.pullback_rsi_short_max)
    return long, short


@device
def slow_drift(price, now, gate, params):
    """Return whether a long and whether a short of mode 3, slow drift, fires."""
    is_open = (params.enable_slow_drift_entries != 0.0) & (now.adx >= params.slow_drift_min_adx)
    is_open = is_open & gate.volume & (not gate.ranging) & (not gate.anomaly) & (not gate.extended)
    any_macd = params.slow_drift_require_macd_sign == 0.0
    steep = params.slow_drift_min_slope_frac
    long = is_open & gate.bullish & gate.benchmark_long & (price > now.ema_slow) & (now.slope >= steep)
    short = is_open & gate.bearish & gate.benchmark_short & (price < now.ema_slow) & (now.slope <= -steep)
    long = long & (any_macd | (now.macd_hist > 0.0)) & (now.rsi >= params.slow_drift_rsi_long_min)
    short = short & (any_macd | (now.macd_hist < 0.0)) & (now.rsi <= params.slow_drift_rsi_short_max)
    return long, short


@device
def turns_round(market_context, params):
    """Return whether the sides of signals are reversed."""
    low = params.auto_reverse_breadth_low_pct
    high = params.auto_reverse_breadth_high_pct
    by_breadth = (market_context.breadth_pct >= low) & (market_context.breadth_pct <= high)
    return by_breadth if params.enable_auto_reverse != 0.0 else params.reverse_entry_signal != 0.0


@device
def passes_filters(is_long, now, params):
    """Return whether SSF and REEF allow a signal to open or add."""
    momentum = (now.macd_hist > 0.0) if is_long else (now.macd_hist < 0.0)
    extreme = now.adx >= params.reef_adx_threshold
    top = params.reef_long_rsi_extreme_gt if extreme else params.reef_long_rsi_block_gt
    bottom = params.reef_short_rsi_extreme_lt if extreme else params.reef_short_rsi_block_lt
    barred = (now.rsi > top) if is_long else (now.rsi < bottom)
    return ((params.enable_ssf_filter == 0.0) | momentum) & ((params.enable_reef_filter == 0.0) | (not barred))


@device
def signal(price, age, is_benchmark, now, before, market_context, params):
    """Return the signal code, 0 for none: the sign is the side; `signals` decodes tier, mode and permission to open."""
    gate = gates(price, is_benchmark, now, before, market_context, params)
    trend_long, trend_short = trend(price, now, gate, params)
    pull_long, pull_short = pullback(price, now, before, gate, params)
    drift_long, drift_short = slow_drift(price, now, gate, params)
    by_trend = trend_long | trend_short
    by_pullback = pull_long | pull_short
    fires = (by_trend | by_pullback | drift_long | drift_short) & (age >= params.warmup_bars)
    is_long = trend_long if by_trend else (pull_long if by_pullback else drift_long)
    high = now.volume > now.volume_mean * params.high_conf_volume_mult
    tier = (HIGH if high else MEDIUM) if by_trend else (params.pullback_confidence if by_pullback else LOW)
    mode = TREND if by_trend else (PULLBACK if by_pullback else SLOW_DRIFT)
    is_long = is_long != turns_round(market_context, params)
    against = (
        (market_context.breadth_pct < params.breadth_block_long_below_pct)
        if is_long
        else (market_context.breadth_pct > params.breadth_block_short_above_pct)
    )
    fires = fires & ((params.enable_regime_filter == 0.0) | (not against))
    code = code_of(is_long, tier, mode, passes_filters(is_long, now, params))
    return code if fires else 0
