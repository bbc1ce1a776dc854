"""`mei_alpha`: a trend strategy for a book of many symbols; docs/explanation/mei_alpha.md states its rules in words.

`signal` is a chain of gates and three entry modes, from features alone. `size`, `add` and `admits` decide what a signal
may do, `manage` is every exit in order. Each name of a rule below is the name of its row in the page.
"""

import math
from typing import NamedTuple

import numpy as np

from kernels.book import part_of
from kernels.features import Use
from kernels.jit import device
from kernels.limits import limits
from kernels.params import Parameter

NAME = "mei_alpha"

MARKET = {
    "market.fill": "close",
    "market.stops": "close",
    "market.entry_slippage_bps": 10.0,
    "market.exit_slippage_bps": 10.0,
}
"""Defaults of the market model."""

MARKET_ONLY = {"market.stops": ("close",)}
"""Its exits look at closes; nothing of it rests at the venue."""

PARAMETERS = (
    Parameter("indicators.ema_fast_window", "int", 20, 1, 5000, "bars", "feature",
              "Window of the fast mean of closes."),
    Parameter("indicators.ema_slow_window", "int", 50, 1, 5000, "bars", "feature",
              "Window of the slow mean of closes."),
    Parameter("indicators.ema_macro_window", "int", 200, 1, 5000, "bars", "feature",
              "Window of the macro mean of closes."),
    Parameter("indicators.adx_window", "int", 14, 1, 1000, "bars", "feature",
              "Window of ADX."),
    Parameter("indicators.rsi_window", "int", 14, 1, 1000, "bars", "feature",
              "Window of RSI."),
    Parameter("indicators.atr_window", "int", 14, 1, 1000, "bars", "feature",
              "Window of the average true range."),
    Parameter("indicators.atr_mean_window", "int", 50, 1, 1000, "bars", "feature",
              "Bars that the mean of ATR covers, for AVE."),
    Parameter("indicators.bb_window", "int", 20, 1, 1000, "bars", "feature",
              "Window of the Bollinger bands."),
    Parameter("indicators.bb_width_avg_window", "int", 30, 1, 1000, "bars", "feature",
              "Bars that the mean of the Bollinger width covers."),
    Parameter("indicators.volume_mean_window", "int", 20, 1, 1000, "bars", "feature",
              "Window of the mean volume."),
    Parameter("indicators.volume_short_window", "int", 5, 1, 1000, "bars", "feature",
              "Window of the short mean volume, which tells the trend of volume."),
    Parameter("indicators.stoch_rsi_window", "int", 14, 1, 1000, "bars", "feature",
              "Window in which stochastic RSI ranks RSI."),
    Parameter("indicators.stoch_rsi_smooth", "int", 3, 1, 1000, "bars", "feature",
              "Bars that smooth stochastic RSI to K."),
    Parameter("indicators.slope_window", "int", 20, 1, 1000, "bars", "feature",
              "Bars over which the slope of the slow mean is taken."),
    Parameter("indicators.macd_fast_window", "int", 12, 1, 1000, "bars", "feature",
              "Fast window of MACD."),
    Parameter("indicators.macd_slow_window", "int", 26, 1, 1000, "bars", "feature",
              "Slow window of MACD."),
    Parameter("indicators.macd_signal_window", "int", 9, 1, 1000, "bars", "feature",
              "Window of MACD's signal line."),
    Parameter("entry.warmup_bars", "int", 200, 1, 100000, "bars", "entry",
              "Bars that a symbol must have before its first signal."),
    Parameter("filters.enable_ranging_filter", "bool", True, 0, 0, "", "entry",
              "Bar trend and pullback entries while the market ranges."),
    Parameter("filters.enable_anomaly_filter", "bool", True, 0, 0, "", "entry",
              "Bar entries after a jump of price."),
    Parameter("filters.enable_extension_filter", "bool", True, 0, 0, "", "entry",
              "Bar entries far from the fast mean."),
    Parameter("filters.require_adx_rising", "bool", True, 0, 0, "", "entry",
              "Trend entries want a rising ADX."),
    Parameter("filters.adx_rising_saturation", "float", 40.0, 0, 100, "adx", "entry",
              "ADX above which it need not rise."),
    Parameter("filters.require_volume_confirmation", "bool", False, 0, 0, "", "entry",
              "Entries want volume above its mean."),
    Parameter("filters.vol_confirm_include_prev", "bool", True, 0, 0, "", "entry",
              "Volume above its mean or a rising trend of volume will do; otherwise both are wanted."),
    Parameter("filters.use_stoch_rsi_filter", "bool", True, 0, 0, "", "entry",
              "Trend entries want room in stochastic RSI."),
    Parameter("filters.require_btc_alignment", "bool", True, 0, 0, "", "entry",
              "Entries go with BTC's trend."),
    Parameter("filters.require_macro_alignment", "bool", False, 0, 0, "", "entry",
              "Entries want the slow mean on the right side of the macro mean."),
    Parameter("filters.enable_macro_exit", "bool", False, 0, 0, "", "exit",
              "A close beyond the macro mean closes the position."),
    Parameter("thresholds.ranging.min_signals", "int", 2, 1, 3, "votes", "entry",
              "Votes that make a market ranging."),
    Parameter("thresholds.ranging.adx_below", "float", 21.0, 0, 100, "adx", "entry",
              "ADX below this is a vote for ranging."),
    Parameter("thresholds.ranging.bb_width_ratio_below", "float", 0.8, 0, 100, "ratio", "entry",
              "Bollinger width below this multiple of its mean is a vote for ranging."),
    Parameter("thresholds.ranging.rsi_low", "float", 47.0, 0, 100, "rsi", "entry",
              "RSI above this and below rsi_high is a vote for ranging."),
    Parameter("thresholds.ranging.rsi_high", "float", 53.0, 0, 100, "rsi", "entry",
              "RSI below this and above rsi_low is a vote for ranging."),
    Parameter("thresholds.anomaly.price_change_frac_gt", "float", 0.1, 0, 10, "frac", "entry",
              "Move since the last close that is an anomaly."),
    Parameter("thresholds.anomaly.ema_fast_dev_frac_gt", "float", 0.5, 0, 10, "frac", "entry",
              "Distance from the fast mean that is an anomaly."),
    Parameter("thresholds.entry.max_dist_ema_fast_frac", "float", 0.04, 0, 10, "frac", "entry",
              "Distance from the fast mean beyond which an entry is late."),
    Parameter("thresholds.entry.min_adx", "float", 22.0, 0, 100, "adx", "entry",
              "Floor of ADX for trend entries."),
    Parameter("thresholds.entry.tmc_adx_slope_gt", "float", 0.5, -100, 100, "adx", "entry",
              "Slope of ADX above which the floor is capped."),
    Parameter("thresholds.entry.tmc_adx_cap", "float", 25.0, 0, 100, "adx", "entry",
              "Cap of the floor of ADX while ADX rises fast."),
    Parameter("thresholds.entry.ave_enabled", "bool", True, 0, 0, "", "entry",
              "Raise the floor of ADX while ATR is high."),
    Parameter("thresholds.entry.ave_atr_ratio_gt", "float", 1.5, 0, 100, "ratio", "entry",
              "ATR above this multiple of its mean is high."),
    Parameter("thresholds.entry.ave_adx_mult", "float", 1.25, 0.01, 10, "mult", "entry",
              "Factor of the floor of ADX while ATR is high."),
    Parameter("thresholds.entry.btc_adx_override", "float", 40.0, 0, 100, "adx", "entry",
              "ADX above which an entry may go against BTC."),
    Parameter("thresholds.entry.high_conf_volume_mult", "float", 2.5, 0, 100, "mult", "entry",
              "Volume above this multiple of its mean makes a trend entry high tier."),
    Parameter("thresholds.entry.macd_hist_entry_mode", "choice", "accel", 0, 0, "", "entry",
              "What trend entries want of the MACD histogram.", ("accel", "sign", "none")),
    Parameter("thresholds.stoch_rsi.block_long_if_k_gt", "float", 0.85, 0, 2, "k", "entry",
              "No trend long with K at or above this."),
    Parameter("thresholds.stoch_rsi.block_short_if_k_lt", "float", 0.15, -1, 1, "k", "entry",
              "No trend short with K at or below this."),
    Parameter("thresholds.momentum.adx_strong_gt", "float", 40.0, 0, 100, "adx", "entry",
              "ADX at which the RSI limits reach their strong values."),
    Parameter("thresholds.momentum.rsi_long_weak", "float", 56.0, 0, 100, "rsi", "entry",
              "RSI that a trend long wants at the floor of ADX."),
    Parameter("thresholds.momentum.rsi_long_strong", "float", 52.0, 0, 100, "rsi", "entry",
              "RSI that a trend long wants at strong ADX."),
    Parameter("thresholds.momentum.rsi_short_weak", "float", 44.0, 0, 100, "rsi", "entry",
              "RSI below which a trend short wants to be at the floor of ADX."),
    Parameter("thresholds.momentum.rsi_short_strong", "float", 48.0, 0, 100, "rsi", "entry",
              "RSI below which a trend short wants to be at strong ADX."),
    Parameter("thresholds.entry.enable_pullback_entries", "bool", False, 0, 0, "", "entry",
              "Allow pullback entries."),
    Parameter("thresholds.entry.pullback_confidence", "choice", "low", 0, 0, "", "entry",
              "Tier of pullback entries.", ("low", "medium", "high")),
    Parameter("thresholds.entry.pullback_min_adx", "float", 22.0, 0, 100, "adx", "entry",
              "Floor of ADX for pullback entries, and their exhaustion threshold."),
    Parameter("thresholds.entry.pullback_rsi_long_min", "float", 50.0, 0, 100, "rsi", "entry",
              "Least RSI of a pullback long."),
    Parameter("thresholds.entry.pullback_rsi_short_max", "float", 50.0, 0, 100, "rsi", "entry",
              "Greatest RSI of a pullback short."),
    Parameter("thresholds.entry.pullback_require_macd_sign", "bool", True, 0, 0, "", "entry",
              "Pullback entries want the MACD histogram on their side."),
    Parameter("thresholds.entry.enable_slow_drift_entries", "bool", False, 0, 0, "", "entry",
              "Allow slow-drift entries; a steep slow mean then also lifts the ranging gate."),
    Parameter("thresholds.entry.slow_drift_min_slope_frac", "float", 0.0006, 0, 1, "frac", "entry",
              "Slope of the slow mean, as a fraction of price, that counts as a drift."),
    Parameter("thresholds.entry.slow_drift_min_adx", "float", 10.0, 0, 100, "adx", "entry",
              "Floor of ADX for slow-drift entries, and their exhaustion threshold."),
    Parameter("thresholds.entry.slow_drift_rsi_long_min", "float", 50.0, 0, 100, "rsi", "entry",
              "Least RSI of a slow-drift long."),
    Parameter("thresholds.entry.slow_drift_rsi_short_max", "float", 50.0, 0, 100, "rsi", "entry",
              "Greatest RSI of a slow-drift short."),
    Parameter("thresholds.entry.slow_drift_require_macd_sign", "bool", True, 0, 0, "", "entry",
              "Slow-drift entries want the MACD histogram on their side."),
    Parameter("trade.reverse_entry_signal", "bool", False, 0, 0, "", "entry",
              "Trade the other side of every signal."),
    Parameter("market_regime.enable_auto_reverse", "bool", False, 0, 0, "", "entry",
              "Turn signals round by breadth instead of by reverse_entry_signal."),
    Parameter("market_regime.auto_reverse_breadth_low_pct", "float", 10.0, 0, 100, "pct", "entry",
              "Least breadth at which signals are turned round."),
    Parameter("market_regime.auto_reverse_breadth_high_pct", "float", 90.0, 0, 100, "pct", "entry",
              "Greatest breadth at which signals are turned round."),
    Parameter("market_regime.enable_regime_filter", "bool", False, 0, 0, "", "entry",
              "Bar entries against an extreme breadth."),
    Parameter("market_regime.breadth_block_short_above_pct", "float", 90.0, 0, 100, "pct", "entry",
              "No short with breadth above this."),
    Parameter("market_regime.breadth_block_long_below_pct", "float", 10.0, 0, 100, "pct", "entry",
              "No long with breadth below this."),
    Parameter("trade.enable_ssf_filter", "bool", True, 0, 0, "", "entry",
              "Entries want the MACD histogram on their side."),
    Parameter("trade.enable_reef_filter", "bool", True, 0, 0, "", "entry",
              "Bar entries at extreme RSI."),
    Parameter("trade.reef_adx_threshold", "float", 45.0, 0, 100, "adx", "entry",
              "ADX from which the extreme limits of REEF apply."),
    Parameter("trade.reef_long_rsi_block_gt", "float", 70.0, 0, 100, "rsi", "entry",
              "No long above this RSI, below the ADX threshold."),
    Parameter("trade.reef_long_rsi_extreme_gt", "float", 75.0, 0, 100, "rsi", "entry",
              "No long above this RSI, from the ADX threshold on."),
    Parameter("trade.reef_short_rsi_block_lt", "float", 30.0, 0, 100, "rsi", "entry",
              "No short below this RSI, below the ADX threshold."),
    Parameter("trade.reef_short_rsi_extreme_lt", "float", 25.0, 0, 100, "rsi", "entry",
              "No short below this RSI, from the ADX threshold on."),
    Parameter("trade.entry_min_confidence", "choice", "high", 0, 0, "", "sizing",
              "Least tier that opens a position.", ("low", "medium", "high")),
    Parameter("trade.enable_reentry_cooldown", "bool", True, 0, 0, "", "sizing",
              "Bar the side of an exit for a while."),
    Parameter("trade.reentry_cooldown_min_minutes", "float", 45.0, 0, 100000, "minutes", "sizing",
              "Cool-down at high ADX."),
    Parameter("trade.reentry_cooldown_max_minutes", "float", 180.0, 0, 100000, "minutes", "sizing",
              "Cool-down at low ADX."),
    Parameter("trade.reentry_adx_low", "float", 25.0, 0, 100, "adx", "sizing",
              "ADX at or below which the cool-down is longest."),
    Parameter("trade.reentry_adx_high", "float", 40.0, 0, 100, "adx", "sizing",
              "ADX at or above which the cool-down is shortest."),
    Parameter("trade.allocation_frac", "float", 0.03, 0.0001, 1, "frac", "sizing",
              "Initial margin of a new position as a fraction of equity."),
    Parameter("trade.enable_dynamic_sizing", "bool", True, 0, 0, "", "sizing",
              "Scale margin by tier, ADX and volatility."),
    Parameter("trade.confidence_mult_low", "float", 0.5, 0, 10, "mult", "sizing",
              "Factor of margin at tier low."),
    Parameter("trade.confidence_mult_medium", "float", 0.7, 0, 10, "mult", "sizing",
              "Factor of margin at tier medium."),
    Parameter("trade.confidence_mult_high", "float", 1.0, 0, 10, "mult", "sizing",
              "Factor of margin at tier high."),
    Parameter("trade.adx_sizing_min_mult", "float", 0.6, 0, 1, "mult", "sizing",
              "Least factor of margin by ADX."),
    Parameter("trade.adx_sizing_full_adx", "float", 40.0, 0.01, 100, "adx", "sizing",
              "ADX of full size."),
    Parameter("trade.vol_baseline_frac", "float", 0.01, 1e-05, 1, "frac", "sizing",
              "ATR as a fraction of price that counts as normal."),
    Parameter("trade.vol_scalar_min", "float", 0.5, 0, 10, "mult", "sizing",
              "Least factor of margin by volatility."),
    Parameter("trade.vol_scalar_max", "float", 1.0, 0, 10, "mult", "sizing",
              "Greatest factor of margin by volatility."),
    Parameter("trade.leverage_low", "float", 1.0, 1, 50, "x", "sizing",
              "Leverage at tier low; the venue's maximum applies where it is lower."),
    Parameter("trade.leverage_medium", "float", 3.0, 1, 50, "x", "sizing",
              "Leverage at tier medium."),
    Parameter("trade.leverage_high", "float", 5.0, 1, 50, "x", "sizing",
              "Leverage at tier high."),
    Parameter("trade.min_atr_frac", "float", 0.003, 0, 1, "frac", "sizing",
              "Floor of the ATR that sizes and exits use, as a fraction of price."),
    Parameter("trade.enable_pyramiding", "bool", True, 0, 0, "", "sizing",
              "Add to winning positions."),
    Parameter("trade.max_adds_per_symbol", "int", 2, 0, 100, "adds", "sizing",
              "Additions to one position."),
    Parameter("trade.add_fraction_of_base_margin", "float", 0.5, 0.01, 10, "frac", "sizing",
              "Margin of an addition as a fraction of the base margin."),
    Parameter("trade.add_cooldown_minutes", "float", 60.0, 0, 100000, "minutes", "sizing",
              "Time since the opening or the last addition."),
    Parameter("trade.add_min_profit_atr", "float", 0.5, -100, 100, "atr", "sizing",
              "Profit that an addition wants."),
    Parameter("trade.add_min_confidence", "choice", "medium", 0, 0, "", "sizing",
              "Least tier that adds.", ("low", "medium", "high")),
    Parameter("trade.dps_mult", "float", 0.5, 0, 10, "mult", "sizing",
              "Factor of add_min_profit_atr in a calm strong trend."),
    Parameter("trade.dps_adx_slope_gt", "float", 0.75, -100, 100, "adx", "sizing",
              "Slope of ADX of a calm strong trend."),
    Parameter("trade.dps_rsi_long_gt", "float", 65.0, 0, 100, "rsi", "sizing",
              "RSI of a long above which the trend is not calm."),
    Parameter("trade.dps_rsi_short_lt", "float", 35.0, 0, 100, "rsi", "sizing",
              "RSI of a short below which the trend is not calm."),
    Parameter("trade.atr_fallback_frac", "float", 0.005, 1e-05, 1, "frac", "exit",
              "ATR of an entry made with none, as a fraction of its price."),
    Parameter("trade.block_exits_on_extreme_dev", "bool", False, 0, 0, "", "exit",
              "Test no exit at a price that looks like a glitch."),
    Parameter("trade.glitch_price_dev_frac", "float", 0.4, 0, 10, "frac", "exit",
              "Move since the last close that looks like a glitch."),
    Parameter("trade.glitch_atr_mult", "float", 12.0, 0, 1000, "atr", "exit",
              "Move since the last close, in ATR, that looks like a glitch."),
    Parameter("trade.sl_atr_mult", "float", 2.0, 0.01, 100, "atr", "exit",
              "Distance of the stop loss from the entry."),
    Parameter("trade.ase_mult", "float", 0.8, 0.01, 10, "mult", "exit",
              "Factor of the stop's distance under water with falling ADX."),
    Parameter("trade.dase_mult", "float", 1.15, 0.01, 10, "mult", "exit",
              "Factor of the stop's distance in profit with strong ADX."),
    Parameter("trade.dase_adx_gt", "float", 40.0, 0, 100, "adx", "exit",
              "ADX above which dase_mult applies."),
    Parameter("trade.dase_profit_atr_gt", "float", 0.5, -100, 100, "atr", "exit",
              "Profit above which dase_mult applies."),
    Parameter("trade.slb_mult", "float", 1.1, 0.01, 10, "mult", "exit",
              "Factor of the stop's distance with very strong ADX."),
    Parameter("trade.slb_adx_gt", "float", 45.0, 0, 100, "adx", "exit",
              "ADX above which slb_mult applies."),
    Parameter("trade.enable_breakeven_stop", "bool", True, 0, 0, "", "exit",
              "Move the stop to the entry once in profit."),
    Parameter("trade.breakeven_start_atr", "float", 0.7, 0.01, 100, "atr", "exit",
              "Profit that arms the breakeven stop."),
    Parameter("trade.breakeven_buffer_atr", "float", 0.05, -10, 100, "atr", "exit",
              "Distance of the breakeven stop beyond the entry."),
    Parameter("trade.trailing_start_atr", "float", 1.0, 0, 100, "atr", "exit",
              "Profit from which the trail follows."),
    Parameter("trade.trailing_distance_atr", "float", 0.8, 0, 100, "atr", "exit",
              "Distance of the trail from the price."),
    Parameter("trade.trailing_start_atr_low_conf", "float", 0.0, 0, 100, "atr", "exit",
              "The same for tier low; 0: no difference."),
    Parameter("trade.trailing_distance_atr_low_conf", "float", 0.0, 0, 100, "atr", "exit",
              "The same for tier low; 0: no difference."),
    Parameter("trade.enable_vol_buffered_trailing", "bool", True, 0, 0, "", "exit",
              "Widen the trail while the Bollinger bands are wide."),
    Parameter("trade.vbts_bb_ratio_gt", "float", 1.2, 0, 100, "ratio", "exit",
              "Bollinger width, as a multiple of its mean, that is wide."),
    Parameter("trade.vbts_mult", "float", 1.25, 0.01, 10, "mult", "exit",
              "Factor of the trail's distance while they are wide."),
    Parameter("trade.tighten_profit_atr_gt", "float", 2.0, -100, 100, "atr", "exit",
              "Profit above which the trail tightens."),
    Parameter("trade.tighten_mult", "float", 0.5, 0.01, 10, "mult", "exit",
              "Factor of the trail's distance then."),
    Parameter("trade.tatp_adx_gt", "float", 35.0, 0, 100, "adx", "exit",
              "ADX above which, rising, the trail keeps its distance."),
    Parameter("trade.tspv_mult", "float", 0.75, 0.01, 10, "mult", "exit",
              "Factor of the trail's distance with rising ATR."),
    Parameter("trade.trail_weak_adx_lt", "float", 25.0, 0, 100, "adx", "exit",
              "ADX below which the trail tightens before that profit."),
    Parameter("trade.trail_weak_mult", "float", 0.7, 0.01, 10, "mult", "exit",
              "Factor of the trail's distance then."),
    Parameter("trade.trail_floor_atr", "float", 0.5, 0, 100, "atr", "exit",
              "Least distance of the trail."),
    Parameter("trade.trail_floor_strong_atr", "float", 0.7, 0, 100, "atr", "exit",
              "Least distance of the trail at strong RSI."),
    Parameter("trade.trail_strong_rsi_long_gt", "float", 60.0, 0, 100, "rsi", "exit",
              "RSI that is strong for a long."),
    Parameter("trade.trail_strong_rsi_short_lt", "float", 40.0, 0, 100, "rsi", "exit",
              "RSI that is strong for a short."),
    Parameter("trade.tp_atr_mult", "float", 4.0, 0.01, 100, "atr", "exit",
              "Distance of the full take profit from the entry."),
    Parameter("trade.enable_partial_tp", "bool", True, 0, 0, "", "exit",
              "Take profit in two parts."),
    Parameter("trade.tp_partial_atr_mult", "float", 0.0, 0, 100, "atr", "exit",
              "Distance of the first part; 0: that of the full one."),
    Parameter("trade.tp_partial_frac", "float", 0.5, 0.01, 0.99, "frac", "exit",
              "Fraction that the first part closes."),
    Parameter("trade.tp_partial_min_notional_usd", "float", 10.0, 0, 1000000000.0, "usd", "exit",
              "The rest must be worth this, or there is no first part."),
    Parameter("trade.tbb_frac", "float", 0.001, 0, 1, "frac", "exit",
              "Gap of fast and slow mean, as a fraction, that is too small for a breakdown."),
    Parameter("trade.tbb_adx_gt", "float", 25.0, 0, 100, "adx", "exit",
              "ADX above which a small gap is forgiven."),
    Parameter("trade.enable_stagnation_exit", "bool", True, 0, 0, "", "exit",
              "Close losers whose volatility has died."),
    Parameter("trade.stagnation_atr_mult", "float", 0.7, 0, 10, "mult", "exit",
              "ATR below this multiple of the entry's is dead."),
    Parameter("trade.tsme_adx_gt", "float", 50.0, 0, 100, "adx", "exit",
              "ADX above which TSME looks at momentum."),
    Parameter("trade.tsme_min_profit_atr", "float", 1.0, -100, 100, "atr", "exit",
              "Profit that TSME wants."),
    Parameter("trade.tsme_require_adx_slope_negative", "bool", True, 0, 0, "", "exit",
              "TSME wants a falling ADX."),
    Parameter("trade.mmde_profit_atr_gt", "float", 1.5, -100, 100, "atr", "exit",
              "Profit that MMDE wants."),
    Parameter("trade.mmde_adx_gt", "float", 35.0, 0, 100, "adx", "exit",
              "ADX above which MMDE looks at momentum."),
    Parameter("trade.enable_rsi_overextension_exit", "bool", True, 0, 0, "", "exit",
              "Close at extreme RSI."),
    Parameter("trade.rsi_exit_profit_atr_switch", "float", 1.5, -100, 100, "atr", "exit",
              "Profit from which the hi_profit bounds apply."),
    Parameter("trade.rsi_exit_ub_lo_profit", "float", 80.0, 0, 100, "rsi", "exit",
              "RSI above which a long with little profit is closed."),
    Parameter("trade.rsi_exit_ub_hi_profit", "float", 70.0, 0, 100, "rsi", "exit",
              "RSI above which a long with much profit is closed."),
    Parameter("trade.rsi_exit_ub_lo_profit_low_conf", "float", 0.0, 0, 100, "rsi", "exit",
              "The same for tier low; 0: no difference."),
    Parameter("trade.rsi_exit_ub_hi_profit_low_conf", "float", 0.0, 0, 100, "rsi", "exit",
              "The same for tier low; 0: no difference."),
    Parameter("trade.rsi_exit_lb_lo_profit", "float", 20.0, 0, 100, "rsi", "exit",
              "RSI below which a short with little profit is closed."),
    Parameter("trade.rsi_exit_lb_hi_profit", "float", 30.0, 0, 100, "rsi", "exit",
              "RSI below which a short with much profit is closed."),
    Parameter("trade.rsi_exit_lb_lo_profit_low_conf", "float", 0.0, 0, 100, "rsi", "exit",
              "The same for tier low; 0: no difference."),
    Parameter("trade.rsi_exit_lb_hi_profit_low_conf", "float", 0.0, 0, 100, "rsi", "exit",
              "The same for tier low; 0: no difference."),
    *limits(
        max_total_margin_frac=0.6,
        max_entry_orders_per_step=6,
        min_notional_usd=10.0,
        shrink_to_fit=True,
    ),
)  # fmt: skip

_RSI = "indicators.rsi_window"
_ATR = "indicators.atr_window"
_MACD = ("indicators.macd_fast_window", "indicators.macd_slow_window", "indicators.macd_signal_window")

FEATURES = (
    Use("close", "close", ()),
    Use("volume", "volume", ()),
    Use("ema_fast", "ema", ("indicators.ema_fast_window",)),
    Use("ema_slow", "ema", ("indicators.ema_slow_window",)),
    Use("ema_macro", "ema", ("indicators.ema_macro_window",)),
    Use("adx", "adx", ("indicators.adx_window",)),
    Use("adx_slope", "adx_slope", ("indicators.adx_window",)),
    Use("rsi", "rsi", (_RSI,)),
    Use("stoch_k", "stoch_k", (_RSI, "indicators.stoch_rsi_window", "indicators.stoch_rsi_smooth")),
    Use("atr", "atr_warm", (_ATR,)),
    Use("atr_slope", "atr_warm_slope", (_ATR,)),
    Use("atr_mean", "atr_warm_mean", (_ATR, "indicators.atr_mean_window")),
    Use("bb_ratio", "bb_ratio", ("indicators.bb_window", "indicators.bb_width_avg_window")),
    Use("volume_mean", "volume_mean", ("indicators.volume_mean_window",)),
    Use("volume_short", "volume_mean", ("indicators.volume_short_window",)),
    Use("slope", "ema_slope", ("indicators.ema_slow_window", "indicators.slope_window")),
    Use("macd_hist", "macd_hist", _MACD),
    Use("macd_run", "macd_run", _MACD),
)

_CLOSE_ROW, _FAST_ROW, _SLOW_ROW = 0, 2, 3  # places in FEATURES

MEMORY = ("atr", "tier", "threshold", "armed", "trails", "trail")
"""Of a position: ATR, tier and exhaustion threshold of its entry; whether breakeven is armed; the trail, if any."""

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

_LOW, _MEDIUM, _HIGH = 0.0, 1.0, 2.0
_ACCEL, _SIGN = 0.0, 1.0
_TREND, _PULLBACK, _SLOW_DRIFT = 1, 2, 3


class Around(NamedTuple):
    """The market at one main row.

    Attributes:
        breadth_pct: Symbols with their fast mean above the slow one, in percent.
        lead_up: 1 when the lead's close is above its slow mean.
        lead_down: 1 when it is below.
        lead_known: 1 when there is a lead with a bar.
    """

    breadth_pct: float
    lead_up: float
    lead_down: float
    lead_known: float


class Gates(NamedTuple):
    """What the gates say of one symbol at one step; booleans unless said otherwise.

    Attributes:
        votes: Number of votes for ranging.
        ranging: Ranging, after the slow-drift override.
        anomaly: A jump of price.
        extended: Far from the fast mean.
        volume: Volume confirms, or need not.
        rising: ADX rises, or need not.
        floor: Number; the floor of ADX.
        strong: ADX above it.
        bullish: The means are aligned for a long.
        bearish: The means are aligned for a short.
        lead_long: The lead allows a long.
        lead_short: The lead allows a short.
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
    lead_long: bool
    lead_short: bool


@device
def context(columns, rows, now, lead, params):
    """Breadth and lead at main row `now`; see `Around`."""
    up = 0.0
    seen = 0.0
    fast = rows[_FAST_ROW]
    slow = rows[_SLOW_ROW]
    if (params.enable_auto_reverse != 0.0) | (params.enable_regime_filter != 0.0):
        earlier = now - 1 if now > 0 else now
        for s in range(columns.shape[2]):
            # A symbol has two bars once it had a mean at the row before.
            known = (columns[fast, earlier, s] == columns[fast, earlier, s]) & (now > 0)  # noqa: PLR0124 - the test for NaN
            seen += 1.0 if known else 0.0
            up += 1.0 if known & (columns[fast, now, s] > columns[slow, now, s]) else 0.0
    breadth = 100.0 * up / seen if seen > 0.0 else 50.0
    at = lead if lead >= 0 else 0
    close = columns[rows[_CLOSE_ROW], now, at]
    mean = columns[slow, now, at]
    known = (lead >= 0) & (mean == mean)  # noqa: PLR0124 - the test for NaN
    return Around(
        breadth,
        1.0 if known & (close > mean) else 0.0,
        1.0 if known & (close < mean) else 0.0,
        1.0 if known else 0.0,
    )


@device
def adx_floor(now, params):
    """The floor of ADX for trend entries."""
    floor = params.min_adx
    capped = (now.adx_slope > params.tmc_adx_slope_gt) & (floor > params.tmc_adx_cap)
    floor = params.tmc_adx_cap if capped else floor
    wild = (params.ave_enabled != 0.0) & (now.atr_mean > 0.0) & (now.atr > params.ave_atr_ratio_gt * now.atr_mean)
    return floor * params.ave_adx_mult if wild else floor


@device
def votes_of(now, params):
    """Votes for a ranging market, 0 to 3."""
    weak = 1.0 if now.adx < params.adx_below else 0.0
    narrow = 1.0 if now.bb_ratio < params.bb_width_ratio_below else 0.0
    undecided = 1.0 if (now.rsi > params.rsi_low) & (now.rsi < params.rsi_high) else 0.0
    return weak + narrow + undecided


@device
def gates(price, is_lead, now, before, around, params):
    """Every gate; see `Gates`."""
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
        | is_lead
        | (around.lead_known == 0.0)
        | (now.adx > params.btc_adx_override)
    )
    return Gates(
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
        free | (around.lead_up != 0.0),
        free | (around.lead_down != 0.0),
    )


@device
def rsi_limits(now, params):
    """RSI that a trend long wants to exceed, and that a trend short wants to stay below."""
    low = params.min_adx
    high = params.adx_strong_gt if params.adx_strong_gt > low else low + 1.0
    weight = (now.adx - low) / (high - low)
    weight = 0.0 if weight < 0.0 else (1.0 if weight > 1.0 else weight)
    long = params.rsi_long_weak + weight * (params.rsi_long_strong - params.rsi_long_weak)
    short = params.rsi_short_weak + weight * (params.rsi_short_strong - params.rsi_short_weak)
    return long, short


@device
def trend(price, now, gate, params):
    """Mode 1: whether a long and whether a short fires."""
    is_open = gate.strong & gate.volume & gate.rising & (not gate.ranging) & (not gate.anomaly) & (not gate.extended)
    long_limit, short_limit = rsi_limits(now, params)
    any_macd = (params.macd_hist_entry_mode != _ACCEL) & (params.macd_hist_entry_mode != _SIGN)
    accelerates = params.macd_hist_entry_mode == _ACCEL
    up = (now.macd_run > 0.0) if accelerates else (now.macd_hist > 0.0)
    down = (now.macd_run < 0.0) if accelerates else (now.macd_hist < 0.0)
    any_k = params.use_stoch_rsi_filter == 0.0
    long = is_open & gate.bullish & (price > now.ema_fast) & (now.rsi > long_limit) & (any_macd | up) & gate.lead_long
    short = is_open & gate.bearish & (price < now.ema_fast) & (now.rsi < short_limit) & (any_macd | down)
    long = long & (any_k | (now.stoch_k < params.block_long_if_k_gt))
    short = short & gate.lead_short & (any_k | (now.stoch_k > params.block_short_if_k_lt))
    return long, short


@device
def pullback(price, now, before, gate, params):
    """Mode 2: whether a long and whether a short fires."""
    is_open = (params.enable_pullback_entries != 0.0) & (now.adx >= params.pullback_min_adx)
    is_open = is_open & gate.volume & (not gate.ranging) & (not gate.anomaly) & (not gate.extended)
    any_macd = params.pullback_require_macd_sign == 0.0
    long = is_open & gate.bullish & gate.lead_long & (before.close <= before.ema_fast) & (price > now.ema_fast)
    short = is_open & gate.bearish & gate.lead_short & (before.close >= before.ema_fast) & (price < now.ema_fast)
    long = long & (any_macd | (now.macd_hist > 0.0)) & (now.rsi >= params.pullback_rsi_long_min)
    short = short & (any_macd | (now.macd_hist < 0.0)) & (now.rsi <= params.pullback_rsi_short_max)
    return long, short


@device
def slow_drift(price, now, gate, params):
    """Mode 3: whether a long and whether a short fires."""
    is_open = (params.enable_slow_drift_entries != 0.0) & (now.adx >= params.slow_drift_min_adx)
    is_open = is_open & gate.volume & (not gate.ranging) & (not gate.anomaly) & (not gate.extended)
    any_macd = params.slow_drift_require_macd_sign == 0.0
    steep = params.slow_drift_min_slope_frac
    long = is_open & gate.bullish & gate.lead_long & (price > now.ema_slow) & (now.slope >= steep)
    short = is_open & gate.bearish & gate.lead_short & (price < now.ema_slow) & (now.slope <= -steep)
    long = long & (any_macd | (now.macd_hist > 0.0)) & (now.rsi >= params.slow_drift_rsi_long_min)
    short = short & (any_macd | (now.macd_hist < 0.0)) & (now.rsi <= params.slow_drift_rsi_short_max)
    return long, short


@device
def turns_round(around, params):
    """Whether signals are traded the other way round."""
    low = params.auto_reverse_breadth_low_pct
    high = params.auto_reverse_breadth_high_pct
    by_breadth = (around.breadth_pct >= low) & (around.breadth_pct <= high)
    return by_breadth if params.enable_auto_reverse != 0.0 else params.reverse_entry_signal != 0.0


@device
def passes_filters(is_long, now, params):
    """Whether SSF and REEF let a signal open or add."""
    momentum = (now.macd_hist > 0.0) if is_long else (now.macd_hist < 0.0)
    extreme = now.adx >= params.reef_adx_threshold
    top = params.reef_long_rsi_extreme_gt if extreme else params.reef_long_rsi_block_gt
    bottom = params.reef_short_rsi_extreme_lt if extreme else params.reef_short_rsi_block_lt
    barred = (now.rsi > top) if is_long else (now.rsi < bottom)
    return ((params.enable_ssf_filter == 0.0) | momentum) & ((params.enable_reef_filter == 0.0) | (not barred))


@device
def signal(price, age, is_lead, now, before, around, params):
    """The signal, 0 for none: its sign is the side, its size holds tier, mode and whether it may open (`tier_of` …)."""
    gate = gates(price, is_lead, now, before, around, params)
    trend_long, trend_short = trend(price, now, gate, params)
    pull_long, pull_short = pullback(price, now, before, gate, params)
    drift_long, drift_short = slow_drift(price, now, gate, params)
    by_trend = trend_long | trend_short
    by_pullback = pull_long | pull_short
    fires = (by_trend | by_pullback | drift_long | drift_short) & (age >= params.warmup_bars)
    is_long = trend_long if by_trend else (pull_long if by_pullback else drift_long)
    high = now.volume > now.volume_mean * params.high_conf_volume_mult
    tier = (_HIGH if high else _MEDIUM) if by_trend else (params.pullback_confidence if by_pullback else _LOW)
    mode = _TREND if by_trend else (_PULLBACK if by_pullback else _SLOW_DRIFT)
    is_long = is_long != turns_round(around, params)
    against = (
        (around.breadth_pct < params.breadth_block_long_below_pct)
        if is_long
        else (around.breadth_pct > params.breadth_block_short_above_pct)
    )
    fires = fires & ((params.enable_regime_filter == 0.0) | (not against))
    code = 1 + 2 * int(tier) + 8 * mode + (32 if passes_filters(is_long, now, params) else 0)
    return (code if is_long else -code) if fires else 0


@device
def tier_of(code):
    """Tier of a signal: 0 low, 1 medium, 2 high."""
    return float((abs(code) >> 1) & 3)


@device
def mode_of(code):
    """Mode of a signal: 1 trend, 2 pullback, 3 slow drift."""
    return (abs(code) >> 3) & 3


@device
def may_open(code):
    """Whether SSF and REEF let the signal open or add."""
    return (abs(code) >> 5) & 1 == 1


@device
def floored(atr, price, params):
    """ATR with its floor."""
    least = price * params.min_atr_frac
    return least if least > atr else atr


@device
def by_tier(tier, low, medium, high):
    """The value that belongs to a tier."""
    return high if tier == _HIGH else (medium if tier == _MEDIUM else low)


@device
def cooldown_of(adx, params):
    """Minutes that the side of an exit stays barred."""
    least = params.reentry_cooldown_min_minutes
    most = params.reentry_cooldown_max_minutes
    low = params.reentry_adx_low
    high = params.reentry_adx_high
    between = most + (adx - low) / (high - low) * (least - most)
    return least if adx >= high else (most if adx <= low else between)


@device
def admits(slot, code, leaving, minutes, now, params):
    """Whether a signal may open: filters, least tier, cool-down."""
    side = 1.0 if code > 0 else -1.0
    leaves_now = leaving & (slot.size * side > 0.0)
    cools = (slot.exited_side == side) & (minutes < cooldown_of(now.adx, params))
    barred = (params.enable_reentry_cooldown != 0.0) & (cools | leaves_now)
    return may_open(code) & (tier_of(code) >= params.entry_min_confidence) & (not barred)


@device
def rank(code, now, params):
    """100 x tier + whole part of ADX."""
    return 100.0 * tier_of(code) + float(math.floor(now.adx))


@device
def size(code, value, price, most_leverage, now, params):
    """Coins of a new position before rounding, and its leverage."""
    tier = tier_of(code)
    margin = value * params.allocation_frac
    if params.enable_dynamic_sizing != 0.0:
        margin *= by_tier(
            tier, params.confidence_mult_low, params.confidence_mult_medium, params.confidence_mult_high
        )
        strength = now.adx / params.adx_sizing_full_adx
        least = params.adx_sizing_min_mult
        margin *= least if strength < least else (1.0 if strength > 1.0 else strength)
        ratio = floored(now.atr, price, params) / price / params.vol_baseline_frac
        calm = 1.0 / ratio if ratio > 0.0 else 1.0
        low = params.vol_scalar_min
        high = params.vol_scalar_max
        margin *= low if calm < low else (high if calm > high else calm)
    leverage = by_tier(tier, params.leverage_low, params.leverage_medium, params.leverage_high)
    leverage = leverage if leverage < most_leverage else most_leverage
    return margin * leverage / price, leverage


@device
def plan(code, price, now, params):
    """What the entry remembers of its decision: ATR, tier and exhaustion threshold."""
    mode = mode_of(code)
    own = params.pullback_min_adx if mode == _PULLBACK else params.slow_drift_min_adx
    threshold = adx_floor(now, params) if mode == _TREND else own
    return floored(now.atr, price, params), tier_of(code), threshold


@device
def begin(slot, side, paid):
    """Remember the decision in the position that was just opened at `paid`."""
    slot.atr = slot.note_a
    slot.tier = slot.note_b
    slot.threshold = slot.note_c
    slot.armed = 0.0
    slot.trails = 0.0
    slot.trail = 0.0


@device
def add(slot, code, value, price, minutes, now, params):
    """Coins to add to a winning position, before rounding; 0 for none."""
    is_long = slot.size > 0.0
    side = 1.0 if is_long else -1.0
    gained = side * (price - slot.entry) / floored(now.atr, price, params)
    hot = (now.rsi > params.dps_rsi_long_gt) if is_long else (now.rsi < params.dps_rsi_short_lt)
    calm = (now.adx_slope > params.dps_adx_slope_gt) & (now.atr_slope <= 0.0) & (not hot)
    wanted = params.add_min_profit_atr * params.dps_mult if calm else params.add_min_profit_atr
    fine = (
        (params.enable_pyramiding != 0.0)
        & may_open(code)
        & (slot.adds < params.max_adds_per_symbol)
        & (tier_of(code) >= params.add_min_confidence)
        & (minutes >= params.add_cooldown_minutes)
        & (gained >= wanted)
    )
    margin = value * params.allocation_frac * params.add_fraction_of_base_margin
    return margin * slot.leverage / price if fine else 0.0


@device
def stop_distance(profit, under, now, params):
    """Distance of the stop loss from the entry, in ATR."""
    mult = params.sl_atr_mult
    mult *= params.ase_mult if (now.adx_slope < 0.0) & under else 1.0
    mult *= params.dase_mult if (now.adx > params.dase_adx_gt) & (profit > params.dase_profit_atr_gt) else 1.0
    mult *= params.slb_mult if now.adx > params.slb_adx_gt else 1.0
    return mult


@device
def trail_distance(is_long, tier, profit, now, params):
    """Distance of the trail from the price, in ATR."""
    special = (tier == _LOW) & (params.trailing_distance_atr_low_conf > 0.0)
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
def follow(slot, is_long, side, price, atr, profit, now, params):
    """Move the trail of a position towards the price, never away from it."""
    special = (slot.tier == _LOW) & (params.trailing_start_atr_low_conf > 0.0)
    start = params.trailing_start_atr_low_conf if special else params.trailing_start_atr
    if profit >= start:
        level = price - side * atr * trail_distance(is_long, slot.tier, profit, now, params)
        closer = (level > slot.trail) if is_long else (level < slot.trail)
        if (slot.trails == 0.0) | closer:
            slot.trail = level
            slot.trails = 1.0


@device
def reached(is_long, price, level):
    """Whether a price has fallen to a stop's level, or risen to it for a short."""
    return (price <= level) if is_long else (price >= level)


@device
def take_profit(slot, is_long, side, price, atr, lots, params):
    """Reason, or -1, and fraction of the take profit."""
    full = reached(not is_long, price, slot.entry + side * atr * params.tp_atr_mult)
    if params.enable_partial_tp == 0.0:
        return (_TAKE_PROFIT if full else -1), 1.0
    first = params.tp_partial_atr_mult if params.tp_partial_atr_mult > 0.0 else params.tp_atr_mult
    if (slot.parts == 0.0) & reached(not is_long, price, slot.entry + side * atr * first):
        part = part_of(slot.size, params.tp_partial_frac, lots)
        rest = abs(slot.size) - part
        splits = (part > 0.0) & (rest > 0.0) & (rest * price >= params.tp_partial_min_notional_usd)
        return (_TAKE_PROFIT_PARTIAL if splits else -1), params.tp_partial_frac
    return (_TAKE_PROFIT if full & (params.tp_partial_atr_mult > 0.0) else -1), 1.0


@device
def overextended(slot, is_long, profit, now, params):
    """Whether RSI is beyond the bounds of the position's profit and tier."""
    little = profit < params.rsi_exit_profit_atr_switch
    top = params.rsi_exit_ub_lo_profit if little else params.rsi_exit_ub_hi_profit
    bottom = params.rsi_exit_lb_lo_profit if little else params.rsi_exit_lb_hi_profit
    low_top = params.rsi_exit_ub_lo_profit_low_conf if little else params.rsi_exit_ub_hi_profit_low_conf
    low_bottom = params.rsi_exit_lb_lo_profit_low_conf if little else params.rsi_exit_lb_hi_profit_low_conf
    top = low_top if (slot.tier == _LOW) & (low_top > 0.0) else top
    bottom = low_bottom if (slot.tier == _LOW) & (low_bottom > 0.0) else bottom
    return (params.enable_rsi_overextension_exit != 0.0) & ((now.rsi > top) if is_long else (now.rsi < bottom))


@device
def smart_exit(slot, is_long, profit, under, price, atr, now, params):
    """The first smart exit that fires, or -1."""
    crossed = (now.ema_fast < now.ema_slow) if is_long else (now.ema_fast > now.ema_slow)
    narrow = (abs(now.ema_fast - now.ema_slow) < params.tbb_frac * now.ema_slow) & (now.adx > params.tbb_adx_gt)
    beyond = (price < now.ema_macro) if is_long else (price > now.ema_macro)
    dead = floored(now.atr, price, params) < params.stagnation_atr_mult * atr
    against = -now.macd_run if is_long else now.macd_run
    falls = (params.tsme_require_adx_slope_negative == 0.0) | (now.adx_slope < 0.0)
    tsme = (now.adx > params.tsme_adx_gt) & (profit >= params.tsme_min_profit_atr) & falls & (against >= 2.0)
    mmde = (profit > params.mmde_profit_atr_gt) & (now.adx > params.mmde_adx_gt) & (against >= 3.0)
    reason = _RSI_OVEREXTENSION if overextended(slot, is_long, profit, now, params) else -1
    reason = _MMDE if mmde else reason
    reason = _TSME if tsme else reason
    reason = _STAGNATION if (params.enable_stagnation_exit != 0.0) & dead & under else reason
    reason = _MACRO_BREAKDOWN if (params.enable_macro_exit != 0.0) & beyond else reason
    reason = _TREND_EXHAUSTION if now.adx < slot.threshold else reason
    return _TREND_BREAKDOWN if crossed & (not narrow) else reason


@device
def looks_like_a_glitch(price, now, before, params):
    """Whether the price is too far from the last close to be believed."""
    jump = abs(price - before.close)
    far = jump > params.glitch_price_dev_frac * before.close
    wild = (now.atr > 0.0) & (jump > params.glitch_atr_mult * now.atr)
    return (params.block_exits_on_extreme_dev != 0.0) & (before.close > 0.0) & (far | wild)


@device
def manage(slot, price, lots, now, before, params):
    """The first exit that fires: an index into `EXITS` or -1, and the fraction to close."""
    if looks_like_a_glitch(price, now, before, params):
        return -1, 1.0
    is_long = slot.size > 0.0
    side = 1.0 if is_long else -1.0
    atr = slot.atr if slot.atr > 0.0 else params.atr_fallback_frac * slot.entry
    profit = side * (price - slot.entry) / atr
    under = side * (price - slot.entry) < 0.0
    if (params.enable_breakeven_stop != 0.0) & (profit >= params.breakeven_start_atr):
        slot.armed = 1.0
    if reached(is_long, price, slot.entry - side * atr * stop_distance(profit, under, now, params)):
        return _STOP_LOSS, 1.0
    if (slot.armed != 0.0) & reached(is_long, price, slot.entry + side * atr * params.breakeven_buffer_atr):
        return _BREAKEVEN, 1.0
    follow(slot, is_long, side, price, atr, profit, now, params)
    if (slot.trails != 0.0) & reached(is_long, price, slot.trail):
        return _TRAILING_STOP, 1.0
    reason, frac = take_profit(slot, is_long, side, price, atr, lots, params)
    if reason >= 0:
        return reason, frac
    return smart_exit(slot, is_long, profit, under, price, atr, now, params), 1.0
