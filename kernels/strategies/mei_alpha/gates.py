"""Gates of `mei_alpha`: conditions for all entry modes."""

from typing import NamedTuple

from kernels.jit import device


class MarketContext(NamedTuple):
    """State of the market at a main row.

    Attributes:
        breadth_pct: Percentage of symbols whose fast mean is above the slow mean.
        benchmark_up: 1 if the close of the benchmark is above its slow mean.
        benchmark_down: 1 if it is below.
        benchmark_known: 1 if there is a benchmark with a bar.
    """

    breadth_pct: float
    benchmark_up: float
    benchmark_down: float
    benchmark_known: float


class EntryGates(NamedTuple):
    """State of the gates for a symbol at a step.

    Attributes:
        votes: Number of votes for a ranging market.
        ranging: The market ranges, after the slow-drift override.
        anomaly: The price has jumped.
        extended: The price is far from the fast mean.
        volume: Volume confirms, or is not required to.
        rising: ADX rises, or is not required to.
        floor: Floor of ADX.
        strong: ADX is above the floor.
        bullish: The means are aligned for a long.
        bearish: The means are aligned for a short.
        benchmark_long: The benchmark allows a long.
        benchmark_short: The benchmark allows a short.
    """

    votes: float
    ranging: bool
    anomaly: bool
    extended: bool
    volume: bool
    rising: bool
    floor: float
    strong: bool
    bullish: bool
    bearish: bool
    benchmark_long: bool
    benchmark_short: bool


@device
def adx_floor(now, params):
    """Return the floor of ADX for trend entries."""
    floor = params.min_adx
    capped = (now.adx_slope > params.tmc_adx_slope_gt) & (floor > params.tmc_adx_cap)
    floor = params.tmc_adx_cap if capped else floor
    wild = (params.ave_enabled != 0.0) & (now.atr_mean > 0.0) & (now.atr > params.ave_atr_ratio_gt * now.atr_mean)
    return floor * params.ave_adx_mult if wild else floor


@device
def votes_of(now, params):
    """Return the number of votes for a ranging market, 0 to 3."""
    weak = 1.0 if now.adx < params.adx_below else 0.0
    narrow = 1.0 if now.bb_ratio < params.bb_width_ratio_below else 0.0
    undecided = 1.0 if (now.rsi > params.rsi_low) & (now.rsi < params.rsi_high) else 0.0
    return weak + narrow + undecided


@device
def gates(price, is_benchmark, now, before, market_context, params):
    """Return the state of every gate."""
    votes = votes_of(now, params)
    ranging = (params.enable_ranging_filter != 0.0) & (votes >= params.min_signals)
    steep = abs(now.slope) >= params.slow_drift_min_slope_frac
    ranging = ranging & (not ((params.enable_slow_drift_entries != 0.0) & steep))
    jumped = abs(price - before.close) > params.price_change_frac_gt * before.close
    stretched = abs(price - now.ema_fast) > params.ema_fast_dev_frac_gt * now.ema_fast
    late = abs(price - now.ema_fast) > params.max_dist_ema_fast_frac * now.ema_fast
    heavy = now.volume > now.volume_mean
    swelling = now.volume_short > now.volume_mean
    confirmed = (heavy | swelling) if params.vol_confirm_include_prev != 0.0 else (heavy & swelling)
    rising = (now.adx_slope > 0.0) | (now.adx > params.adx_rising_saturation)
    floor = adx_floor(now, params)
    any_macro = params.require_macro_alignment == 0.0
    free = (
        (params.require_btc_alignment == 0.0)
        | is_benchmark
        | (market_context.benchmark_known == 0.0)
        | (now.adx > params.btc_adx_override)
    )
    return EntryGates(
        votes,
        ranging,
        (params.enable_anomaly_filter != 0.0) & (jumped | stretched),
        (params.enable_extension_filter != 0.0) & late,
        (params.require_volume_confirmation == 0.0) | confirmed,
        (params.require_adx_rising == 0.0) | rising,
        floor,
        now.adx > floor,
        (now.ema_fast > now.ema_slow) & (any_macro | (now.ema_slow > now.ema_macro)),
        (now.ema_fast < now.ema_slow) & (any_macro | (now.ema_slow < now.ema_macro)),
        free | (market_context.benchmark_up != 0.0),
        free | (market_context.benchmark_down != 0.0),
    )
