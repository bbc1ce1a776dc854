"""Exits of `mei_alpha` in the order in which they are tested, and the memory of a position for them."""

from kernels.book import closing_size
from kernels.jit import device
from kernels.ledger import round_to_lots
from kernels.strategies.mei_alpha.signals import LOW

_TWICE, _THRICE = 2.0, 3.0  # consecutive bars

MEMORY = ("atr", "tier", "threshold", "armed", "trails", "trail")
"""Memory of a position.

    atr, tier, threshold: ATR, tier and exhaustion threshold of the entry.
    armed: 1 if the breakeven stop is armed. trails: 1 if there is a trailing stop. trail: its price.
"""

EXITS = (
    "stop_loss",
    "breakeven",
    "trailing_stop",
    "take_profit",
    "take_profit_partial",
    "trend_breakdown",
    "trend_exhaustion",
    "macro_breakdown",
    "stagnation",
    "tsme",
    "mmde",
    "rsi_overextension",
)
(
    _STOP_LOSS,
    _BREAKEVEN,
    _TRAILING_STOP,
    _TAKE_PROFIT,
    _TAKE_PROFIT_PARTIAL,
    _TREND_BREAKDOWN,
    _TREND_EXHAUSTION,
    _MACRO_BREAKDOWN,
    _STAGNATION,
    _TSME,
    _MMDE,
    _RSI_OVEREXTENSION,
) = range(len(EXITS))


@device
def floored(atr, price, params):
    """Return the ATR, at least `min_atr_frac` of the price."""
    least = price * params.min_atr_frac
    return least if least > atr else atr


@device
def begin(position, side, fill_price):
    """Store the values of the decision in the position that was just opened at `fill_price`."""
    position.atr = position.note_a
    position.tier = position.note_b
    position.threshold = position.note_c
    position.armed = 0.0
    position.trails = 0.0
    position.trail = 0.0


@device
def stop_distance(profit, under, now, params):
    """Return the distance of the stop loss from the entry, in ATR."""
    mult = params.sl_atr_mult
    mult *= params.ase_mult if (now.adx_slope < 0.0) & under else 1.0
    mult *= params.dase_mult if (now.adx > params.dase_adx_gt) & (profit > params.dase_profit_atr_gt) else 1.0
    mult *= params.slb_mult if now.adx > params.slb_adx_gt else 1.0
    return mult


@device
def trail_distance(is_long, tier, profit, now, params):
    """Return the distance of the trailing stop from the price, in ATR."""
    special = (tier == LOW) & (params.trailing_distance_atr_low_conf > 0.0)
    base = params.trailing_distance_atr_low_conf if special else params.trailing_distance_atr
    wide = (params.enable_vol_buffered_trailing != 0.0) & (now.bb_ratio > params.vbts_bb_ratio_gt)
    distance = base * params.vbts_mult if wide else base
    if profit > params.tighten_profit_atr_gt:
        keeps = (now.adx > params.tatp_adx_gt) & (now.adx_slope > 0.0)
        distance = base * (1.0 if keeps else (params.tspv_mult if now.atr_slope > 0.0 else params.tighten_mult))
    elif now.adx < params.trail_weak_adx_lt:
        distance = base * params.trail_weak_mult
    runs = (now.rsi > params.trail_strong_rsi_long_gt) if is_long else (now.rsi < params.trail_strong_rsi_short_lt)
    floor = params.trail_floor_strong_atr if runs else params.trail_floor_atr
    return floor if distance < floor else distance


@device
def follow(position, is_long, side, price, atr, profit, now, params):
    """Move the trailing stop of a position towards the price, never away from it."""
    special = (position.tier == LOW) & (params.trailing_start_atr_low_conf > 0.0)
    start = params.trailing_start_atr_low_conf if special else params.trailing_start_atr
    if profit >= start:
        level = price - side * atr * trail_distance(is_long, position.tier, profit, now, params)
        closer = (level > position.trail) if is_long else (level < position.trail)
        if (position.trails == 0.0) | closer:
            position.trail = level
            position.trails = 1.0


@device
def reached(is_long, price, level):
    """Return whether a price has fallen to a level, or risen to it for a short."""
    return (price <= level) if is_long else (price >= level)


@device
def take_profit(position, is_long, side, price, atr, lots, params):
    """Return reason and fraction of a take profit; the reason is -1 for none."""
    full = reached(not is_long, price, position.entry + side * atr * params.tp_atr_mult)
    if params.enable_partial_tp == 0.0:
        return (_TAKE_PROFIT if full else -1), 1.0
    first = params.tp_partial_atr_mult if params.tp_partial_atr_mult > 0.0 else params.tp_atr_mult
    if (position.parts == 0.0) & reached(not is_long, price, position.entry + side * atr * first):
        part = closing_size(position.size, params.tp_partial_frac, lots)
        rest = round_to_lots(abs(position.size) - part, lots)
        splits = (part > 0.0) & (rest > 0.0) & (rest * price >= params.tp_partial_min_notional_usd)
        return (_TAKE_PROFIT_PARTIAL if splits else -1), params.tp_partial_frac
    return (_TAKE_PROFIT if full & (params.tp_partial_atr_mult > 0.0) else -1), 1.0


@device
def overextended(position, is_long, profit, now, params):
    """Return whether the RSI is beyond the bounds for the position's profit and tier."""
    little = profit < params.rsi_exit_profit_atr_switch
    top = params.rsi_exit_ub_lo_profit if little else params.rsi_exit_ub_hi_profit
    bottom = params.rsi_exit_lb_lo_profit if little else params.rsi_exit_lb_hi_profit
    low_top = params.rsi_exit_ub_lo_profit_low_conf if little else params.rsi_exit_ub_hi_profit_low_conf
    low_bottom = params.rsi_exit_lb_lo_profit_low_conf if little else params.rsi_exit_lb_hi_profit_low_conf
    top = low_top if (position.tier == LOW) & (low_top > 0.0) else top
    bottom = low_bottom if (position.tier == LOW) & (low_bottom > 0.0) else bottom
    return (params.enable_rsi_overextension_exit != 0.0) & ((now.rsi > top) if is_long else (now.rsi < bottom))


@device
def smart_exit(position, is_long, profit, under, price, atr, now, params):
    """Return the first smart exit that fires, or -1."""
    # Tested from the last to the first, so that an earlier exit replaces a later one.
    crossed = (now.ema_fast < now.ema_slow) if is_long else (now.ema_fast > now.ema_slow)
    narrow = (abs(now.ema_fast - now.ema_slow) < params.tbb_frac * now.ema_slow) & (now.adx > params.tbb_adx_gt)
    beyond = (price < now.ema_macro) if is_long else (price > now.ema_macro)
    dead = floored(now.atr, price, params) < params.stagnation_atr_mult * atr
    against = -now.macd_run if is_long else now.macd_run
    falls = (params.tsme_require_adx_slope_negative == 0.0) | (now.adx_slope < 0.0)
    tsme = (now.adx > params.tsme_adx_gt) & (profit >= params.tsme_min_profit_atr) & falls & (against >= _TWICE)
    mmde = (profit > params.mmde_profit_atr_gt) & (now.adx > params.mmde_adx_gt) & (against >= _THRICE)
    reason = _RSI_OVEREXTENSION if overextended(position, is_long, profit, now, params) else -1
    reason = _MMDE if mmde else reason
    reason = _TSME if tsme else reason
    reason = _STAGNATION if (params.enable_stagnation_exit != 0.0) & dead & under else reason
    reason = _MACRO_BREAKDOWN if (params.enable_macro_exit != 0.0) & beyond else reason
    reason = _TREND_EXHAUSTION if now.adx < position.threshold else reason
    return _TREND_BREAKDOWN if crossed & (not narrow) else reason


@device
def is_glitch(price, now, before, params):
    """Return whether the price is too far from the last close to be plausible."""
    jump = abs(price - before.close)
    far = jump > params.glitch_price_dev_frac * before.close
    wild = (now.atr > 0.0) & (jump > params.glitch_atr_mult * now.atr)
    return (params.block_exits_on_extreme_dev != 0.0) & (before.close > 0.0) & (far | wild)


@device
def manage(position, price, lots, now, before, params):
    """Return the first exit that fires, an index into `EXITS` or -1, and the fraction to close."""
    if is_glitch(price, now, before, params):
        return -1, 1.0
    is_long = position.size > 0.0
    side = 1.0 if is_long else -1.0
    atr = position.atr if position.atr > 0.0 else params.atr_fallback_frac * position.entry
    profit = side * (price - position.entry) / atr
    under = side * (price - position.entry) < 0.0
    if (params.enable_breakeven_stop != 0.0) & (profit >= params.breakeven_start_atr):
        position.armed = 1.0
    if reached(is_long, price, position.entry - side * atr * stop_distance(profit, under, now, params)):
        return _STOP_LOSS, 1.0
    if (position.armed != 0.0) & reached(is_long, price, position.entry + side * atr * params.breakeven_buffer_atr):
        return _BREAKEVEN, 1.0
    follow(position, is_long, side, price, atr, profit, now, params)
    if (position.trails != 0.0) & reached(is_long, price, position.trail):
        return _TRAILING_STOP, 1.0
    reason, frac = take_profit(position, is_long, side, price, atr, lots, params)
    if reason >= 0:
        return reason, frac
    return smart_exit(position, is_long, profit, under, price, atr, now, params), 1.0
