"""Every gate of `mei_alpha` at its edge, the market around it, and the trace that shows them."""

import math

import numpy as np
import pytest
from alpha_kit import LONG, SHORT, Scene, edges, features, flips, look, market_context, record, signal_code

from kernels.strategies import mei_alpha
from kernels.strategies.mei_alpha.gates import gates

NAN = math.nan
NO, YES = False, True
FIRST, LAST, BOTH, NEITHER = (YES, NO, NO), (NO, NO, YES), (NO, YES, YES), (YES, YES, NO)
"""Answers below, at and above an edge."""


def gate(name):
    def ask(scene: Scene):
        seen = gates(
            scene.price,
            scene.is_benchmark,
            features(scene.now),
            features(scene.before),
            market_context(scene),
            record(scene),
        )
        return getattr(seen, name)

    return ask


RANGING = LONG.but(adx=10.0, bb_ratio=0.5, rsi=60.0)
LIFTED = RANGING.but(enable_slow_drift_entries=True, slow_drift_min_slope_frac=0.5)


@edges(
    ("an ADX below 21 votes", LONG, "adx", 21.0, (1, 0, 0)),
    ("narrow bands vote", LONG, "bb_ratio", 0.8, (1, 0, 0)),
    ("RSI in the middle votes, from below", LONG, "rsi", 47.0, (0, 0, 1)),
    ("RSI in the middle votes, from above", LONG, "rsi", 53.0, (1, 0, 0)),
    ("votes are added", RANGING, "rsi", 53.0, (3, 2, 2)),
    ("the level of ADX is a parameter", LONG, "adx_below", 30.0, (0, 0, 1)),
    ("the width is a parameter", LONG, "bb_width_ratio_below", 1.0, (0, 0, 1)),
    ("the middle's low end is a parameter", LONG.but(rsi=50.0), "rsi_low", 50.0, (1, 0, 0)),
    ("the middle's high end is a parameter", LONG.but(rsi=50.0), "rsi_high", 50.0, (0, 0, 1)),
)
def test_votes_for_ranging(scene, name, edge, answers):
    assert look(gate("votes"), scene, name, edge) == list(answers)


@edges(
    ("two votes are needed", RANGING, "bb_ratio", 0.8, FIRST),
    ("one may do", LONG.but(min_signals=1), "bb_ratio", 0.8, FIRST),
    ("all three may be needed", RANGING.but(min_signals=3), "rsi", 53.0, FIRST),
    ("a rising slow mean lifts it", LIFTED, "slope", 0.5, FIRST),
    ("a falling slow mean lifts it", LIFTED, "slope", -0.5, LAST),
)
def test_ranging(scene, name, edge, answers):
    assert look(gate("ranging"), scene, name, edge) == list(answers)


@flips(
    ("it can be switched off", RANGING, {"enable_ranging_filter": False}, YES, NO),
    ("steepness lifts it only where drifts are traded", RANGING, {"enable_slow_drift_entries": True}, YES, NO),
)
def test_ranging_by_switch(scene, change, without, with_it):
    assert (gate("ranging")(scene), gate("ranging")(scene.but(**change))) == (without, with_it)


JUMP = LONG.but(before_close=96.0, price_change_frac_gt=0.125, ema_fast=96.0)
DEVIATION = LONG.but(ema_fast_dev_frac_gt=0.125, ema_fast=96.0, price_change_frac_gt=10.0)


@edges(
    ("a rise of more than the fraction", JUMP, "price", 108.0, LAST),
    ("a fall of more than the fraction", JUMP, "price", 84.0, FIRST),
    ("far above the fast mean", DEVIATION, "price", 108.0, LAST),
    ("far below the fast mean", DEVIATION, "price", 84.0, FIRST),
)
def test_anomaly(scene, name, edge, answers):
    assert look(gate("anomaly"), scene, name, edge) == list(answers)


EXTENDED = LONG.but(ema_fast=96.0, max_dist_ema_fast_frac=0.125)


@edges(
    ("far above the fast mean", EXTENDED, "price", 108.0, LAST),
    ("far below the fast mean", EXTENDED, "price", 84.0, FIRST),
)
def test_extension(scene, name, edge, answers):
    assert look(gate("extended"), scene, name, edge) == list(answers)


@pytest.mark.parametrize(
    ("name", "scene", "switch"),
    [
        ("anomaly", JUMP.but(price=110.0), "enable_anomaly_filter"),
        ("anomaly", DEVIATION.but(price=110.0), "enable_anomaly_filter"),
        ("extended", EXTENDED.but(price=110.0), "enable_extension_filter"),
    ],
)
def test_anomaly_and_extension_can_be_switched_off(name, scene, switch):
    assert (gate(name)(scene), gate(name)(scene.but(**{switch: False}))) == (YES, NO)


EITHER = LONG.but(require_volume_confirmation=True, volume=100.0, volume_short=100.0)
EACH = EITHER.but(vol_confirm_include_prev=False, volume=101.0, volume_short=101.0)


@edges(
    ("volume above its mean will do", EITHER, "volume", 100.0, LAST),
    ("a short mean above the long one will do", EITHER, "volume_short", 100.0, LAST),
    ("of both wanted, the volume", EACH, "volume", 100.0, LAST),
    ("of both wanted, the short mean", EACH, "volume_short", 100.0, LAST),
)
def test_volume(scene, name, edge, answers):
    assert look(gate("volume"), scene, name, edge) == list(answers)


LEVEL = LONG.but(adx_slope=0.0)


@edges(
    ("ADX rises", LONG, "adx_slope", 0.0, LAST),
    ("ADX is so high that it need not", LEVEL, "adx", 40.0, LAST),
    ("how high is a parameter", LEVEL, "adx_rising_saturation", 30.0, FIRST),
)
def test_rising(scene, name, edge, answers):
    assert look(gate("rising"), scene, name, edge) == list(answers)


@flips(
    ("volume need not confirm", EITHER, {"require_volume_confirmation": False}, (NO, YES), (YES, YES)),
    ("ADX need not rise", LEVEL, {"require_adx_rising": False}, (YES, NO), (YES, YES)),
)
def test_volume_and_rising_by_switch(scene, change, without, with_it):
    asked = [gate("volume"), gate("rising")]
    assert (tuple(ask(scene) for ask in asked), tuple(ask(scene.but(**change)) for ask in asked)) == (without, with_it)


FAST = LONG.but(min_adx=30.0)
WILD = LONG.but(atr=2.0)


@edges(
    ("a fast rise caps it", FAST, "adx_slope", 0.5, (30.0, 30.0, 25.0)),
    ("how fast is a parameter", FAST, "tmc_adx_slope_gt", 0.25, (25.0, 30.0, 30.0)),
    ("the cap is a parameter", FAST.but(adx_slope=1.0), "tmc_adx_cap", 30.0, (30.0 - 3e-8, 30.0, 30.0)),
    ("the cap lifts nothing", LONG.but(adx_slope=1.0), "min_adx", 25.0, (25.0 - 2.5e-8, 25.0, 25.0)),
    ("wild ATR multiplies it", LONG, "atr", 1.5, (22.0, 22.0, 27.5)),
    ("how wild is a parameter", WILD, "ave_atr_ratio_gt", 2.0, (27.5, 22.0, 22.0)),
    ("no mean, no multiplying", WILD, "atr_mean", 0.0, (22.0, 22.0, 27.5)),
)  # fmt: skip
def test_floor_of_adx(scene, name, edge, answers):
    assert look(gate("floor"), scene, name, edge) == pytest.approx(list(answers), rel=1e-12)


@flips(
    ("it is min_adx", LONG, {"min_adx": 23.0}, 22.0, 23.0),
    ("the factor is a parameter", WILD, {"ave_adx_mult": 1.5}, 27.5, 33.0),
    ("it can be switched off", WILD, {"ave_enabled": False}, 27.5, 22.0),
    ("first capped, then multiplied", FAST.but(adx_slope=1.0), {"atr": 2.0}, 25.0, 31.25),
)
def test_floor_of_adx_by_change(scene, change, without, with_it):
    assert (gate("floor")(scene), gate("floor")(scene.but(**change))) == (without, with_it)


@edges(
    ("above the floor", LONG, "adx", 22.0, LAST),
    ("above the multiplied floor", WILD, "adx", 27.5, LAST),
)
def test_strength(scene, name, edge, answers):
    assert look(gate("strong"), scene, name, edge) == list(answers)


@pytest.mark.parametrize(
    ("name", "scene", "of", "edge", "answers"),
    [
        ("bullish", LONG, "ema_fast", 98.0, LAST),
        ("bullish", LONG, "ema_slow", 99.0, FIRST),
        ("bullish", LONG.but(require_macro_alignment=True), "ema_macro", 98.0, FIRST),
        ("bearish", SHORT, "ema_fast", 102.0, FIRST),
        ("bearish", SHORT, "ema_slow", 101.0, LAST),
        ("bearish", SHORT.but(require_macro_alignment=True), "ema_macro", 102.0, LAST),
    ],
)
def test_alignment(name, scene, of, edge, answers):
    assert look(gate(name), scene, of, edge) == list(answers)


def test_the_macro_mean_counts_only_where_it_is_wanted():
    assert gate("bullish")(LONG.but(ema_macro=150.0))
    assert gate("bearish")(SHORT.but(ema_macro=50.0))
    assert not gate("bullish")(LONG.but(ema_macro=90.0, ema_fast=97.0, require_macro_alignment=True))
    assert not gate("bearish")(SHORT.but(ema_macro=110.0, ema_fast=103.0, require_macro_alignment=True))


@pytest.mark.parametrize(("benchmark", "long", "short"), [
    ("up", YES, NO), ("down", NO, YES), ("level", NO, NO), ("unknown", YES, YES),
])  # fmt: skip
def test_lead(benchmark, long, short):
    scene = LONG.but(benchmark=benchmark)
    for free in (scene.but(is_benchmark=True), scene.but(require_btc_alignment=False)):
        assert (gate("benchmark_long")(free), gate("benchmark_short")(free)) == (YES, YES)
    assert (gate("benchmark_long")(scene), gate("benchmark_short")(scene)) == (long, short)


@edges(
    ("a strong ADX may go against the lead", LONG.but(benchmark="level"), "adx", 40.0, LAST),
    ("how strong is a parameter", LONG.but(benchmark="level"), "btc_adx_override", 30.0, FIRST),
)
def test_override_of_the_lead(scene, name, edge, answers):
    assert look(gate("benchmark_long"), scene, name, edge) == list(answers)
    assert look(gate("benchmark_short"), scene, name, edge) == list(answers)


# Columns of the market around: close, fast mean, slow mean; three symbols over two bars, the last without a first bar.
CLOSES = [[10.0, 20.0, NAN], [11.0, 19.0, 30.0]]
FASTS = [[10.0, 20.0, NAN], [11.0, 18.0, 31.0]]
SLOWS = [[10.0, 20.0, NAN], [10.5, 19.0, 30.0]]
ROWS = np.array([{"close": 0, "ema_fast": 1, "ema_slow": 2}.get(use.name, 0) for use in mei_alpha.FEATURES])


def market_around(closes, fasts, slows, now: int, benchmark: int) -> tuple[float, ...]:
    return tuple(mei_alpha.context(np.array([closes, fasts, slows]), ROWS, now, benchmark, record(LONG)))


def test_breadth_counts_symbols_that_had_a_bar_before():
    """Of the two that had one is up; before the first bar nobody had."""
    assert market_around(CLOSES, FASTS, SLOWS, 1, -1) == (50.0, 0.0, 0.0, 0.0)
    all_three = ([[1.0] * 3, CLOSES[1]], [[1.0] * 3, FASTS[1]], [[1.0] * 3, SLOWS[1]])
    assert market_around(*all_three, 1, -1)[0] == 100.0 * 2.0 / 3.0
    assert market_around(CLOSES, FASTS, SLOWS, 0, -1)[0] == 50.0
    one_up = ([[1.0], [2.0]], [[1.0], [2.0]], [[1.0], [1.5]])
    assert market_around(*one_up, 1, -1)[0] == 100.0
    assert market_around(*one_up, 0, -1)[0] == 50.0


def test_equal_means_are_not_up():
    level = ([[1.0, 1.0], [1.0, 1.0]],) * 3
    assert market_around(*level, 1, -1)[0] == 0.0


def test_breadth_compares_with_the_bar_before_only():
    """Three bars: the second symbol came with the second bar."""
    grid = [[1.0, NAN], [1.0, 5.0], [2.0, 6.0]]
    below = [[1.0, NAN], [1.0, 5.0], [1.5, 5.5]]
    assert market_around(grid, grid, [[1.0, NAN], [1.0, 5.0], [3.0, 5.5]], 2, -1)[0] == 50.0
    assert market_around(grid, grid, below, 2, -1)[0] == 100.0


def test_the_lead_is_up_down_level_or_unknown():
    """Its close against its slow mean, at this row."""
    assert market_around(CLOSES, FASTS, SLOWS, 1, 0)[1:] == (1.0, 0.0, 1.0)
    assert market_around(CLOSES, FASTS, SLOWS, 1, 1)[1:] == (0.0, 0.0, 1.0)
    assert market_around([CLOSES[0], [11.0, 18.5, 30.0]], FASTS, SLOWS, 1, 1)[1:] == (0.0, 1.0, 1.0)
    assert market_around(CLOSES, FASTS, SLOWS, 0, 2)[1:] == (0.0, 0.0, 0.0)
    assert market_around(CLOSES, FASTS, SLOWS, 1, -1)[1:] == (0.0, 0.0, 0.0)


def trace_of(scene: Scene) -> dict[str, tuple[float, float, float]]:
    out = np.full((len(mei_alpha.GATES), 3), 7.0)
    mei_alpha.trace(
        scene.price,
        scene.age,
        scene.is_benchmark,
        features(scene.now),
        features(scene.before),
        market_context(scene),
        record(scene),
        out,
    )
    return {name: tuple(map(float, row)) for name, row in zip(mei_alpha.GATES, out, strict=True)}


OPEN_TRACE = {
    "warm-up bars": (200, 200, 1),
    "ranging votes": (0, 2, 1),
    "anomaly, move since last close": (0.5 / 99.5, 0.1, 1),
    "extension, distance to fast mean": (1 / 99, 0.04, 1),
    "volume against its mean": (300, 100, NAN),
    "rising, slope of ADX": (0.25, 0, 1),
    "strength, ADX against floor": (30, 22, 1),
    "aligned for a long, fast against slow mean": (99, 98, 1),
    "aligned for a short, fast against slow mean": (99, 98, 0),
    "benchmark allows a long": (1, NAN, 1),
    "benchmark allows a short": (0, NAN, 0),
    "RSI against the limit of a trend long": (60, 56 - 4 * 8 / 18, 1),
    "RSI against the limit of a trend short": (60, 44 + 4 * 8 / 18, 0),
    "MACD histogram above 0": (0.5, 0, NAN),
    "MACD histogram rising for bars": (1, 0, 1),
    "StochRSI K against the limit of a long": (0.5, 0.85, 1),
    "StochRSI K against the limit of a short": (0.5, 0.15, 1),
    "mode 1, trend (1 long, -1 short)": (1, NAN, 1),
    "mode 2, pullback (1 long, -1 short)": (0, NAN, NAN),
    "mode 3, slow drift (1 long, -1 short)": (0, NAN, NAN),
    "sides reversed, breadth": (50, NAN, NAN),
    "SSF and REEF allow a long": (0.5, 0, 1),
    "SSF and REEF allow a short": (0.5, 0, 0),
}
SHUT = LONG.but(
    benchmark="down", age=199, adx=10.0, bb_ratio=0.5, before_close=50.0, ema_fast=90.0,
    require_volume_confirmation=True, volume=50.0, adx_slope=-1.0, rsi=44.0, macd_hist=0.0, macd_run=0.0, stoch_k=0.85,
    reverse_entry_signal=True,
)  # fmt: skip
SHUT_TRACE = {
    "warm-up bars": (199, 200, 0),
    "ranging votes": (2, 2, 0),
    "anomaly, move since last close": (1.0, 0.1, 0),
    "extension, distance to fast mean": (10 / 90, 0.04, 0),
    "volume against its mean": (50, 100, 0),
    "rising, slope of ADX": (-1, 0, 0),
    "strength, ADX against floor": (10, 22, 0),
    "aligned for a long, fast against slow mean": (90, 98, 0),
    "aligned for a short, fast against slow mean": (90, 98, 1),
    "benchmark allows a long": (0, NAN, 0),
    "benchmark allows a short": (1, NAN, 1),
    "RSI against the limit of a trend long": (44, 56, 0),
    "RSI against the limit of a trend short": (44, 44, 0),
    "MACD histogram above 0": (0, 0, NAN),
    "MACD histogram rising for bars": (0, 0, 0),
    "StochRSI K against the limit of a long": (0.85, 0.85, 0),
    "StochRSI K against the limit of a short": (0.85, 0.15, 1),
    "mode 1, trend (1 long, -1 short)": (0, NAN, 0),
    "mode 2, pullback (1 long, -1 short)": (0, NAN, NAN),
    "mode 3, slow drift (1 long, -1 short)": (0, NAN, NAN),
    "sides reversed, breadth": (50, NAN, 1),
    "SSF and REEF allow a long": (0, 0, 0),
    "SSF and REEF allow a short": (0, 0, 0),
}


@pytest.mark.parametrize(("scene", "wanted"), [(LONG.but(benchmark="up"), OPEN_TRACE), (SHUT, SHUT_TRACE)])
def test_the_trace_says_value_threshold_and_verdict_of_every_gate(scene, wanted):
    shown = trace_of(scene)
    assert list(shown) == list(wanted)
    for name, row in wanted.items():
        assert shown[name] == pytest.approx(row, rel=1e-12, nan_ok=True), name


def test_the_trace_tells_the_side_of_each_mode():
    pull = {"enable_pullback_entries": True, "enable_slow_drift_entries": True}
    long = trace_of(LONG.but(before_close=98.0, **pull))
    short = trace_of(SHORT.but(before_close=102.0, stoch_k=0.15, **pull))
    modes = [name for name in mei_alpha.GATES if name.startswith("mode")]
    assert [long[name][::2] for name in modes] == [(1, 1), (1, 1), (1, 1)]
    assert [short[name][::2] for name in modes] == [(0, 0), (-1, 1), (-1, 1)]
    assert trace_of(SHORT)[modes[0]][::2] == (-1, 1)
    assert short["StochRSI K against the limit of a short"] == (0.15, 0.15, 0)
    assert short["RSI against the limit of a trend short"][::2] == (40, 1)
    assert short["RSI against the limit of a trend long"][::2] == (40, 0)
    assert short["SSF and REEF allow a short"] == (-0.5, 0, 1)
    assert trace_of(LONG.but(rsi=54.0))["RSI against the limit of a trend long"][2] == 0
    assert trace_of(LONG.but(adx=22.0, rsi=56.0))["RSI against the limit of a trend long"] == (56, 56, 0)


def test_the_trace_changes_no_signal():
    trace_of(LONG)
    assert signal_code(LONG) > 0
