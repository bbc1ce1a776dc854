"""Admission, rank and size of entries of `mei_alpha`, and additions."""

import math

from kernels.jit import device
from kernels.strategies.mei_alpha.exits import floored
from kernels.strategies.mei_alpha.gates import adx_floor
from kernels.strategies.mei_alpha.signals import HIGH, MEDIUM, PULLBACK, TREND, may_open, mode_of, tier_of


@device
def by_tier(tier, low, medium, high):
    """Return the value of a tier."""
    return high if tier == HIGH else (medium if tier == MEDIUM else low)


@device
def cooldown_of(adx, params):
    """Return the minutes during which the side of an exit is barred."""
    least = params.reentry_cooldown_min_minutes
    most = params.reentry_cooldown_max_minutes
    low = params.reentry_adx_low
    high = params.reentry_adx_high
    between = most + (adx - low) / (high - low) * (least - most)
    return least if adx >= high else (most if adx <= low else between)


@device
def admits(position, code, leaving, minutes, now, params):
    """Return whether a signal may open: filters, minimum tier, cool-down."""
    if (not may_open(code)) | (tier_of(code) < params.entry_min_confidence):
        return False
    side = 1.0 if code > 0 else -1.0
    leaves_now = leaving & (position.size * side > 0.0)
    # An exit that is ordered but not yet filled starts the cool-down now.
    since_exit = 0.0 if leaves_now else minutes
    barred = (params.enable_reentry_cooldown != 0.0) & (since_exit < cooldown_of(now.adx, params))
    return not barred


@device
def rank(code, now, params):
    """Return 100 x tier + whole part of ADX."""
    return 100.0 * tier_of(code) + float(math.floor(now.adx))


@device
def size(code, value, price, most_leverage, now, params):
    """Return the coins of a new position before rounding, and its leverage."""
    tier = tier_of(code)
    margin = value * params.allocation_frac
    if params.enable_dynamic_sizing != 0.0:
        margin *= by_tier(tier, params.confidence_mult_low, params.confidence_mult_medium, params.confidence_mult_high)
        strength = now.adx / params.adx_sizing_full_adx
        least = params.adx_sizing_min_mult
        margin *= least if strength < least else (1.0 if strength > 1.0 else strength)
        ratio = floored(now.atr, price, params) / price / params.vol_baseline_frac
        scale = 1.0 / ratio if ratio > 0.0 else 1.0
        low = params.vol_scalar_min
        high = params.vol_scalar_max
        margin *= low if scale < low else (high if scale > high else scale)
    leverage = by_tier(tier, params.leverage_low, params.leverage_medium, params.leverage_high)
    leverage = leverage if leverage < most_leverage else most_leverage
    return margin * leverage / price, leverage


@device
def plan(code, price, now, params):
    """Return the values to keep until the fill: ATR, tier and exhaustion threshold."""
    mode = mode_of(code)
    own = params.pullback_min_adx if mode == PULLBACK else params.slow_drift_min_adx
    threshold = adx_floor(now, params) if mode == TREND else own
    return floored(now.atr, price, params), tier_of(code), threshold


@device
def add(position, code, value, price, minutes, now, params):
    """Return the coins to add to a winning position, before rounding; 0 for none."""
    is_long = position.size > 0.0
    side = 1.0 if is_long else -1.0
    gained = side * (price - position.entry) / floored(now.atr, price, params)
    hot = (now.rsi > params.dps_rsi_long_gt) if is_long else (now.rsi < params.dps_rsi_short_lt)
    calm = (now.adx_slope > params.dps_adx_slope_gt) & (now.atr_slope <= 0.0) & (not hot)
    min_profit = params.add_min_profit_atr * params.dps_mult if calm else params.add_min_profit_atr
    allowed = (
        (params.enable_pyramiding != 0.0)
        & may_open(code)
        & (position.adds < params.max_adds_per_symbol)
        & (tier_of(code) >= params.add_min_confidence)
        & (minutes >= params.add_cooldown_minutes)
        & (gained >= min_profit)
    )
    margin = value * params.allocation_frac * params.add_fraction_of_base_margin
    return margin * position.leverage / price if allowed else 0.0
