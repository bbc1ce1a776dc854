"""Every entry mode of `mei_alpha` and every rule after it, each at its edge."""

import pytest
from alpha_kit import LONG, SHORT, edges, flips, look, told

from kernels.strategies.mei_alpha.signals import code_of, may_open, mode_of, tier_of

TREND, TREND_MEDIUM, NONE = "long high trend", "long medium trend", "none"
FALL = "short high trend"

# At ADX 31, halfway between 22 and 40, the limit of RSI is 54, and 46 for a short.
HALF = {"adx": 31.0}


@edges(
    ("the fast mean lies below the price", LONG.but(ema_slow=90.0), "ema_fast", 100.0, (TREND, NONE, NONE)),
    ("ADX exceeds its floor", LONG.but(rsi=70.0), "adx", 22.0, (NONE, NONE, TREND)),
    ("RSI exceeds its limit", LONG.but(**HALF), "rsi", 54.0, (NONE, NONE, TREND)),
    ("at the floor of ADX the weak limit holds", LONG.but(adx=23.0, min_adx=23.0, tmc_adx_cap=20.0, adx_slope=1.0),
     "rsi", 56.0, (NONE, NONE, TREND)),
    ("below it no weaker one", LONG.but(adx=21.5, min_adx=23.0, tmc_adx_cap=20.0, adx_slope=1.0),
     "rsi", 56.0, (NONE, NONE, TREND)),
    ("at strong ADX the strong limit holds", LONG.but(adx=40.0), "rsi", 52.0, (NONE, NONE, TREND)),
    ("above it no stronger one", LONG.but(adx=44.0), "rsi", 52.0, (NONE, NONE, TREND)),
    ("strong ADX is a parameter", LONG.but(adx=31.0, adx_strong_gt=31.0), "rsi", 52.0, (NONE, NONE, TREND)),
    ("strong ADX not above the floor counts as one more", LONG.but(adx=22.5, adx_strong_gt=22.0),
     "rsi", 54.0, (NONE, NONE, TREND)),
    ("a histogram above the bar before's", LONG, "macd_run", 0.0, (NONE, NONE, TREND)),
    ("a positive histogram where its sign is wanted", LONG.but(macd_hist_entry_mode="sign", enable_ssf_filter=False),
     "macd_hist", 0.0, (NONE, NONE, TREND)),
    ("K has room", LONG, "stoch_k", 0.85, (TREND, NONE, NONE)),
    ("the room of K is a parameter", LONG, "block_long_if_k_gt", 0.5, (NONE, NONE, TREND)),
    ("volume makes the tier", LONG, "volume", 250.0, (TREND_MEDIUM, TREND_MEDIUM, TREND)),
    ("how much volume is a parameter", LONG, "high_conf_volume_mult", 3.0, (TREND, TREND_MEDIUM, TREND_MEDIUM)),
    ("warm-up bars", LONG, "warmup_bars", 200.0, (TREND, TREND, NONE)),
)  # fmt: skip
def test_trend_long(scene, name, edge, answers):
    assert look(told, scene, name, edge) == list(answers)


@edges(
    ("the fast mean lies above the price", SHORT.but(ema_slow=110.0), "ema_fast", 100.0, (NONE, NONE, FALL)),
    ("ADX exceeds its floor", SHORT, "adx", 22.0, (NONE, NONE, FALL)),
    ("RSI is below its limit", SHORT.but(**HALF), "rsi", 46.0, (FALL, NONE, NONE)),
    ("at the floor of ADX the weak limit holds", SHORT.but(adx=23.0, min_adx=23.0, tmc_adx_cap=20.0, adx_slope=1.0),
     "rsi", 44.0, (FALL, NONE, NONE)),
    ("at strong ADX the strong limit holds", SHORT.but(adx=40.0), "rsi", 48.0, (FALL, NONE, NONE)),
    ("a histogram below the bar before's", SHORT, "macd_run", 0.0, (FALL, NONE, NONE)),
    ("a negative histogram where its sign is wanted", SHORT.but(macd_hist_entry_mode="sign", enable_ssf_filter=False),
     "macd_hist", 0.0, (FALL, NONE, NONE)),
    ("K has room", SHORT, "stoch_k", 0.15, (NONE, NONE, FALL)),
    ("the room of K is a parameter", SHORT, "block_short_if_k_lt", 0.5, (FALL, NONE, NONE)),
    ("volume makes the tier", SHORT, "volume", 250.0, ("short medium trend", "short medium trend", FALL)),
)  # fmt: skip
def test_trend_short(scene, name, edge, answers):
    assert look(told, scene, name, edge) == list(answers)


@flips(
    ("the weak limit is a parameter", LONG.but(rsi=55.0, adx=22.5), {"rsi_long_weak": 54.0}, NONE, TREND),
    ("the strong limit is a parameter", LONG.but(rsi=52.0, adx=40.0), {"rsi_long_strong": 51.0}, NONE, TREND),
    ("the weak limit of shorts", SHORT.but(rsi=45.0, adx=22.5), {"rsi_short_weak": 46.0}, NONE, FALL),
    ("the strong limit of shorts", SHORT.but(rsi=48.0, adx=40.0), {"rsi_short_strong": 49.0}, NONE, FALL),
    ("nothing is wanted of the histogram", LONG.but(macd_run=0.0), {"macd_hist_entry_mode": "none"}, NONE, TREND),
    ("the sign is no rise", LONG.but(macd_run=-1.0), {"macd_hist_entry_mode": "sign"}, NONE, TREND),
    ("the sign of shorts is no fall", SHORT.but(macd_run=1.0), {"macd_hist_entry_mode": "sign"}, NONE, FALL),
    ("nothing is wanted of it for shorts", SHORT.but(macd_run=0.0), {"macd_hist_entry_mode": "none"}, NONE, FALL),
    ("K is not asked", LONG.but(stoch_k=1.0), {"use_stoch_rsi_filter": False}, NONE, TREND),
    ("K is not asked for shorts", SHORT.but(stoch_k=0.0), {"use_stoch_rsi_filter": False}, NONE, FALL),
    ("volume is not asked", LONG.but(volume=50.0, require_volume_confirmation=True),
     {"require_volume_confirmation": False}, NONE, TREND_MEDIUM),
    ("ADX need not rise", LONG.but(adx_slope=0.0), {"require_adx_rising": False}, NONE, TREND),
    ("ranging", LONG.but(adx=22.5, adx_below=23.0, bb_ratio=0.5), {"enable_ranging_filter": False}, NONE, TREND),
    ("anomaly", LONG.but(before_close=80.0), {"enable_anomaly_filter": False}, NONE, TREND),
    ("extension", LONG.but(max_dist_ema_fast_frac=0.001), {"enable_extension_filter": False}, NONE, TREND),
    ("alignment", LONG.but(ema_slow=99.5), {"ema_slow": 98.5}, NONE, TREND),
    ("macro alignment", LONG.but(ema_macro=98.5), {"require_macro_alignment": True}, TREND, NONE),
    ("the lead", LONG, {"benchmark": "down"}, TREND, NONE),
    ("the lead, for shorts", SHORT, {"benchmark": "up"}, FALL, NONE),
    ("a lead that falls suits shorts", SHORT.but(benchmark="level"), {"benchmark": "down"}, NONE, FALL),
    ("the lead itself follows nobody", LONG.but(benchmark="down"), {"is_benchmark": True}, NONE, TREND),
    ("a short has the gates of a long: volume", SHORT.but(volume=50.0), {"require_volume_confirmation": True},
     "short medium trend", NONE),
    ("a missing RSI", LONG, {"rsi": float("nan")}, TREND, NONE),
    ("a missing mean", LONG, {"ema_slow": float("nan")}, TREND, NONE),
    ("one bar less than the warm-up", LONG, {"age": 199}, TREND, NONE),
)  # fmt: skip
def test_trend_by_change(scene, change, without, with_it):
    assert (told(scene), told(scene.but(**change))) == (without, with_it)


def test_the_rsi_limit_lies_between_weak_and_strong_in_proportion():
    """ADX 22 + 18 / 4: the limit is 56 - 4 / 4 = 55."""
    assert look(told, LONG.but(adx=26.5), "rsi", 55.0) == [NONE, NONE, TREND]
    assert look(told, SHORT.but(adx=26.5), "rsi", 45.0) == [FALL, NONE, NONE]


# A trend that does not fire, since the histogram stands still, behind a price that has just come back over its mean.
PULL = LONG.but(enable_pullback_entries=True, macd_run=0.0, before_close=98.0)
PULL_SHORT = SHORT.but(enable_pullback_entries=True, macd_run=0.0, before_close=102.0)
PULLED, PULLED_SHORT = "long low pullback", "short low pullback"


@edges(
    ("the close before is not above its mean", PULL, "before_close", 98.5, (PULLED, PULLED, NONE)),
    ("the mean of the bar before counts", PULL, "before_ema_fast", 98.0, (NONE, PULLED, PULLED)),
    ("the price lies above the fast mean", PULL.but(ema_slow=90.0), "ema_fast", 100.0, (PULLED, NONE, NONE)),
    ("ADX is at least", PULL, "adx", 22.0, (NONE, PULLED, PULLED)),
    ("how much is a parameter", PULL, "pullback_min_adx", 30.0, (PULLED, PULLED, NONE)),
    ("the histogram is positive", PULL.but(enable_ssf_filter=False), "macd_hist", 0.0, (NONE, NONE, PULLED)),
    ("RSI is at least", PULL, "rsi", 50.0, (NONE, PULLED, PULLED)),
    ("RSI's least is a parameter", PULL, "pullback_rsi_long_min", 60.0, (PULLED, PULLED, NONE)),
    ("warm-up bars", PULL, "warmup_bars", 200.0, (PULLED, PULLED, NONE)),
)
def test_pullback_long(scene, name, edge, answers):
    assert look(told, scene, name, edge) == list(answers)


@edges(
    ("the close before is not below its mean", PULL_SHORT, "before_close", 101.5, (NONE, PULLED_SHORT, PULLED_SHORT)),
    ("the mean of the bar before counts", PULL_SHORT, "before_ema_fast", 102.0, (PULLED_SHORT, PULLED_SHORT, NONE)),
    ("the price lies below the fast mean", PULL_SHORT.but(ema_slow=110.0), "ema_fast", 100.0,
     (NONE, NONE, PULLED_SHORT)),
    ("ADX is at least", PULL_SHORT, "adx", 22.0, (NONE, PULLED_SHORT, PULLED_SHORT)),
    ("the histogram is negative", PULL_SHORT.but(enable_ssf_filter=False), "macd_hist", 0.0,
     (PULLED_SHORT, NONE, NONE)),
    ("RSI is at most", PULL_SHORT, "rsi", 50.0, (PULLED_SHORT, PULLED_SHORT, NONE)),
    ("RSI's most is a parameter", PULL_SHORT, "pullback_rsi_short_max", 40.0, (NONE, PULLED_SHORT, PULLED_SHORT)),
)  # fmt: skip
def test_pullback_short(scene, name, edge, answers):
    assert look(told, scene, name, edge) == list(answers)


SHARED = {"macd_hist": 0.0, "enable_ssf_filter": False}
VOLUME = {"require_volume_confirmation": True}


@flips(
    ("it can be switched off", PULL, {"enable_pullback_entries": False}, PULLED, NONE),
    ("the tier is a parameter", PULL, {"pullback_confidence": "high"}, PULLED, "long high pullback"),
    ("a medium tier", PULL_SHORT, {"pullback_confidence": "medium"}, PULLED_SHORT, "short medium pullback"),
    ("the histogram is not asked", PULL.but(**SHARED), {"pullback_require_macd_sign": False}, NONE, PULLED),
    ("nor for shorts", PULL_SHORT.but(**SHARED), {"pullback_require_macd_sign": False}, NONE, PULLED_SHORT),
    ("volume", PULL.but(volume=50.0), VOLUME, PULLED, NONE),
    ("ranging", PULL, {"adx_below": 31.0, "bb_ratio": 0.5}, PULLED, NONE),
    ("anomaly", PULL, {"price_change_frac_gt": 0.01}, PULLED, NONE),
    ("extension", PULL, {"max_dist_ema_fast_frac": 0.001}, PULLED, NONE),
    ("alignment", PULL, {"ema_slow": 99.5}, PULLED, NONE),
    ("alignment of shorts", PULL_SHORT, {"ema_slow": 100.5}, PULLED_SHORT, NONE),
    ("the lead", PULL, {"benchmark": "down"}, PULLED, NONE),
    ("the lead of shorts", PULL_SHORT, {"benchmark": "up"}, PULLED_SHORT, NONE),
    ("ADX need not rise", PULL, {"adx_slope": -1.0}, PULLED, PULLED),
    ("nor exceed the floor of trends", PULL, {"min_adx": 35.0}, PULLED, PULLED),
    ("trend comes first", PULL, {"macd_run": 1.0}, PULLED, TREND),
    ("trend comes first for shorts", PULL_SHORT, {"macd_run": -1.0}, PULLED_SHORT, FALL),
    ("pullback comes before drift", PULL.but(enable_slow_drift_entries=True), {"before_close": 99.5}, PULLED,
     "long low drift"),
)  # fmt: skip
def test_pullback_by_change(scene, change, without, with_it):
    assert (told(scene), told(scene.but(**change))) == (without, with_it)


DRIFT = LONG.but(enable_slow_drift_entries=True, macd_run=0.0)
DRIFT_SHORT = SHORT.but(enable_slow_drift_entries=True, macd_run=0.0)
DRIFTS, DRIFTS_SHORT = "long low drift", "short low drift"


@edges(
    ("the price lies above the slow mean", DRIFT.but(ema_fast=101.0), "ema_slow", 100.0, (DRIFTS, NONE, NONE)),
    ("the slow mean rises", DRIFT, "slope", 0.0006, (NONE, DRIFTS, DRIFTS)),
    ("how much is a parameter", DRIFT, "slow_drift_min_slope_frac", 0.001, (DRIFTS, DRIFTS, NONE)),
    ("ADX is at least", DRIFT, "adx", 10.0, (NONE, DRIFTS, DRIFTS)),
    ("ADX's least is a parameter", DRIFT, "slow_drift_min_adx", 30.0, (DRIFTS, DRIFTS, NONE)),
    ("the histogram is positive", DRIFT.but(enable_ssf_filter=False), "macd_hist", 0.0, (NONE, NONE, DRIFTS)),
    ("RSI is at least", DRIFT, "rsi", 50.0, (NONE, DRIFTS, DRIFTS)),
    ("RSI's least is a parameter", DRIFT, "slow_drift_rsi_long_min", 60.0, (DRIFTS, DRIFTS, NONE)),
)
def test_slow_drift_long(scene, name, edge, answers):
    assert look(told, scene, name, edge) == list(answers)


@edges(
    ("the price lies below the slow mean", DRIFT_SHORT.but(ema_fast=99.0), "ema_slow", 100.0,
     (NONE, NONE, DRIFTS_SHORT)),
    ("the slow mean falls", DRIFT_SHORT, "slope", -0.0006, (DRIFTS_SHORT, DRIFTS_SHORT, NONE)),
    ("ADX is at least", DRIFT_SHORT, "adx", 10.0, (NONE, DRIFTS_SHORT, DRIFTS_SHORT)),
    ("the histogram is negative", DRIFT_SHORT.but(enable_ssf_filter=False), "macd_hist", 0.0,
     (DRIFTS_SHORT, NONE, NONE)),
    ("RSI is at most", DRIFT_SHORT, "rsi", 50.0, (DRIFTS_SHORT, DRIFTS_SHORT, NONE)),
    ("RSI's most is a parameter", DRIFT_SHORT, "slow_drift_rsi_short_max", 40.0, (NONE, DRIFTS_SHORT, DRIFTS_SHORT)),
)  # fmt: skip
def test_slow_drift_short(scene, name, edge, answers):
    assert look(told, scene, name, edge) == list(answers)


@flips(
    ("it can be switched off", DRIFT, {"enable_slow_drift_entries": False}, DRIFTS, NONE),
    ("the histogram is not asked", DRIFT.but(**SHARED), {"slow_drift_require_macd_sign": False}, NONE, DRIFTS),
    ("nor for shorts", DRIFT_SHORT.but(**SHARED), {"slow_drift_require_macd_sign": False}, NONE, DRIFTS_SHORT),
    ("volume", DRIFT.but(volume=50.0), VOLUME, DRIFTS, NONE),
    ("a steep mean lifts ranging", DRIFT, {"adx_below": 31.0, "bb_ratio": 0.5}, DRIFTS, DRIFTS),
    ("anomaly", DRIFT, {"price_change_frac_gt": 0.001}, DRIFTS, NONE),
    ("extension", DRIFT, {"max_dist_ema_fast_frac": 0.001}, DRIFTS, NONE),
    ("alignment", DRIFT, {"ema_slow": 99.5}, DRIFTS, NONE),
    ("alignment of shorts", DRIFT_SHORT, {"ema_slow": 100.5}, DRIFTS_SHORT, NONE),
    ("the lead", DRIFT, {"benchmark": "down"}, DRIFTS, NONE),
    ("the lead of shorts", DRIFT_SHORT, {"benchmark": "up"}, DRIFTS_SHORT, NONE),
    ("ADX need not rise", DRIFT, {"adx_slope": -1.0}, DRIFTS, DRIFTS),
    ("the fast mean may lie above the price", DRIFT, {"ema_fast": 101.0}, DRIFTS, DRIFTS),
    ("trend comes first", DRIFT, {"macd_run": 1.0}, DRIFTS, TREND),
    ("a lifted ranging gate lets a trend through", DRIFT.but(macd_run=1.0, adx_below=31.0, bb_ratio=0.5),
     {"enable_slow_drift_entries": False}, TREND, NONE),
)  # fmt: skip
def test_slow_drift_by_change(scene, change, without, with_it):
    assert (told(scene), told(scene.but(**change))) == (without, with_it)


FREE = LONG.but(enable_ssf_filter=False)
FREE_SHORT = SHORT.but(enable_ssf_filter=False)
BY_BREADTH = FREE.but(enable_auto_reverse=True, auto_reverse_breadth_low_pct=25.0, auto_reverse_breadth_high_pct=75.0)
BLOCKS = LONG.but(enable_regime_filter=True, breadth_block_long_below_pct=25.0, breadth_block_short_above_pct=75.0)
BLOCKS_SHORT = SHORT.but(
    enable_regime_filter=True, breadth_block_long_below_pct=25.0, breadth_block_short_above_pct=75.0
)


@edges(
    ("breadth from the low end on turns it round", BY_BREADTH, "breadth", 25.0, (TREND, FALL, FALL)),
    ("breadth up to the high end turns it round", BY_BREADTH, "breadth", 75.0, (FALL, FALL, TREND)),
    ("low breadth bars longs", BLOCKS, "breadth", 25.0, (NONE, TREND, TREND)),
    ("high breadth bars no long", BLOCKS, "breadth", 75.0, (TREND, TREND, TREND)),
    ("high breadth bars shorts", BLOCKS_SHORT, "breadth", 75.0, (FALL, FALL, NONE)),
    ("low breadth bars no short", BLOCKS_SHORT, "breadth", 25.0, (FALL, FALL, FALL)),
    ("the limit of longs is a parameter", BLOCKS, "breadth_block_long_below_pct", 50.0, (TREND, TREND, NONE)),
    ("the limit of shorts is a parameter", BLOCKS_SHORT, "breadth_block_short_above_pct", 50.0, (NONE, FALL, FALL)),
    ("SSF wants a positive histogram", LONG, "macd_hist", 0.0, (f"{TREND} barred", f"{TREND} barred", TREND)),
    ("SSF wants a negative one of shorts", SHORT, "macd_hist", 0.0, (FALL, f"{FALL} barred", f"{FALL} barred")),
    ("REEF bars longs at high RSI", LONG, "rsi", 70.0, (TREND, TREND, f"{TREND} barred")),
    ("REEF bars shorts at low RSI", SHORT, "rsi", 30.0, (f"{FALL} barred", FALL, FALL)),
    ("at strong ADX it is more patient", LONG.but(adx=45.0), "rsi", 75.0, (TREND, TREND, f"{TREND} barred")),
    ("and with shorts", SHORT.but(adx=45.0), "rsi", 25.0, (f"{FALL} barred", FALL, FALL)),
    ("strong is at least", LONG.but(rsi=72.0), "adx", 45.0, (f"{TREND} barred", TREND, TREND)),
    ("strong is a parameter", LONG.but(rsi=72.0), "reef_adx_threshold", 30.0, (TREND, TREND, f"{TREND} barred")),
)
def test_after_the_mode(scene, name, edge, answers):
    assert look(told, scene, name, edge) == list(answers)


@flips(
    ("reverse", FREE, {"reverse_entry_signal": True}, TREND, FALL),
    ("reverse a short", FREE_SHORT, {"reverse_entry_signal": True}, FALL, TREND),
    ("reverse a pullback, tier and mode stay", PULL.but(enable_ssf_filter=False), {"reverse_entry_signal": True},
     PULLED, PULLED_SHORT),
    ("reverse a short pullback", PULL_SHORT.but(enable_ssf_filter=False), {"reverse_entry_signal": True},
     PULLED_SHORT, PULLED),
    ("reverse a drift", DRIFT.but(enable_ssf_filter=False), {"reverse_entry_signal": True}, DRIFTS, DRIFTS_SHORT),
    ("reverse a short drift", DRIFT_SHORT.but(enable_ssf_filter=False), {"reverse_entry_signal": True},
     DRIFTS_SHORT, DRIFTS),
    ("breadth instead of reverse", FREE.but(reverse_entry_signal=True, breadth=5.0), {"enable_auto_reverse": True},
     FALL, TREND),
    ("the ends default to 10", FREE.but(enable_auto_reverse=True, breadth=9.0), {"breadth": 10.0}, TREND, FALL),
    ("and 90", FREE.but(enable_auto_reverse=True, breadth=90.0), {"breadth": 91.0}, FALL, TREND),
    ("the regime sees the side after the reversal", BLOCKS.but(breadth=80.0), {"reverse_entry_signal": True},
     TREND, NONE),
    ("low breadth lets the reversed side pass", BLOCKS.but(breadth=20.0), {"reverse_entry_signal": True},
     NONE, f"{FALL} barred"),
    ("regime can be switched off", BLOCKS.but(breadth=20.0), {"enable_regime_filter": False}, NONE, TREND),
    ("and for shorts", BLOCKS_SHORT.but(breadth=80.0), {"enable_regime_filter": False}, NONE, FALL),
    ("SSF sees the side after the reversal", LONG, {"reverse_entry_signal": True}, TREND, f"{FALL} barred"),
    ("SSF can be switched off", LONG.but(macd_hist=-1.0), {"enable_ssf_filter": False}, f"{TREND} barred", TREND),
    ("REEF sees the side after the reversal", FREE.but(rsi=71.0), {"reverse_entry_signal": True},
     f"{TREND} barred", FALL),
    ("REEF can be switched off", LONG.but(rsi=71.0), {"enable_reef_filter": False}, f"{TREND} barred", TREND),
    ("and for shorts", SHORT.but(rsi=29.0), {"enable_reef_filter": False}, f"{FALL} barred", FALL),
    ("REEF's limit is a parameter", LONG.but(rsi=71.0), {"reef_long_rsi_block_gt": 71.0}, f"{TREND} barred", TREND),
    ("so is the extreme one", LONG.but(rsi=76.0, adx=45.0), {"reef_long_rsi_extreme_gt": 76.0},
     f"{TREND} barred", TREND),
    ("so is that of shorts", SHORT.but(rsi=29.0), {"reef_short_rsi_block_lt": 29.0}, f"{FALL} barred", FALL),
    ("and their extreme one", SHORT.but(rsi=24.0, adx=45.0), {"reef_short_rsi_extreme_lt": 24.0},
     f"{FALL} barred", FALL),
)  # fmt: skip
def test_after_the_mode_by_change(scene, change, without, with_it):
    assert (told(scene), told(scene.but(**change))) == (without, with_it)


@pytest.mark.parametrize("side", [True, False])
@pytest.mark.parametrize("tier", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("mode", [1, 2, 3])
@pytest.mark.parametrize("opens", [True, False])
def test_a_signal_holds_side_tier_mode_and_permission_in_eight_bits(side, tier, mode, opens):
    code = code_of(side, tier, mode, opens)
    assert ((code > 0), tier_of(code), mode_of(code), may_open(code)) == (side, tier, mode, opens)
    assert 0 < abs(code) < 128
