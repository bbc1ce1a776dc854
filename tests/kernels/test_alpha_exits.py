"""Every exit of `mei_alpha` at its edge, what it remembers, and the order in which they are tested."""

import pytest
from alpha_kit import LONG, SHORT, Scene, edges, features, flips, look, record, slot_of

from kernels.strategies import mei_alpha

STAYS, STOP, EVEN, TRAIL = "stays", "stop_loss", "breakeven", "trailing_stop"
TAKE, PART, DOWN, TIRED = "take_profit", "take_profit_partial", "trend_breakdown", "trend_exhaustion"
MACRO, DEAD, TSME, MMDE, HOT = "macro_breakdown", "stagnation", "tsme", "mmde", "rsi_overextension"
ORDERED = (STOP, EVEN, TRAIL, TAKE, PART, DOWN, TIRED, MACRO, DEAD, TSME, MMDE, HOT)


def run_exits(scene: Scene):
    position = slot_of(scene)
    reason, frac = mei_alpha.manage(
        position, scene.price, scene.lots, features(scene.now), features(scene.before), record(scene)
    )
    return position, (STAYS if reason < 0 else mei_alpha.EXITS[reason]), float(frac)


def leaves(scene: Scene) -> str:
    """Every exit but the first part closes the whole."""
    _, reason, frac = run_exits(scene)
    assert frac == 1.0 or reason == PART
    return reason


def leaves_how_much(scene: Scene) -> tuple[str, float]:
    return run_exits(scene)[1:]


def armed(scene: Scene) -> bool:
    position = run_exits(scene)[0]
    assert position.armed in {0.0, 1.0}
    return bool(position.armed)


def trail(scene: Scene) -> float | None:
    position = run_exits(scene)[0]
    assert position.trails in {0.0, 1.0}
    return float(position.trail) if position.trails else None


# Eight coins from 100 on, with an ATR of 2 at entry; half an ATR in profit, respectively a price beyond all exits.
NEVER = {"enable_breakeven_stop": False, "trailing_start_atr": 100.0, "tp_atr_mult": 100.0}
AT_ENTRY = {"entry": 100.0, "atr": 2.0, "tier": 2.0, "threshold": 22.0}
HELD = LONG.but(price=101.0, rsi=55.0, atr=2.0, enable_partial_tp=False, before_close=101.0, held_size=8.0, **NEVER)
HELD = HELD.but(**{f"held_{name}": value for name, value in AT_ENTRY.items()})
SOLD = SHORT.but(price=99.0, rsi=45.0, atr=2.0, enable_partial_tp=False, before_close=99.0, held_size=-8.0, **NEVER)
SOLD = SOLD.but(**{f"held_{name}": value for name, value in AT_ENTRY.items()})

UNDER = HELD.but(price=96.5)
UNDER_SHORT = SOLD.but(price=103.5)
WIDER = HELD.but(price=96.0, dase_profit_atr_gt=-3.0)
ALL_FACTORS = HELD.but(
    adx=60.0,
    adx_slope=-1.0,
    ase_mult=0.5,
    dase_mult=1.5,
    slb_mult=2.0,
    dase_profit_atr_gt=-4.0,
    tsme_min_profit_atr=9.0,
)


def test_the_scenes_stay_and_exits_have_their_order():
    assert (leaves(HELD), leaves(SOLD), leaves(UNDER), leaves(UNDER_SHORT)) == (STAYS,) * 4
    assert mei_alpha.EXITS == ORDERED


@edges(
    ("two ATR below the entry", HELD, "price", 96.0, (STOP, STOP, STAYS)),
    ("two ATR above the entry of a short", SOLD, "price", 104.0, (STAYS, STOP, STOP)),
    ("the distance is a parameter", HELD.but(sl_atr_mult=1.0), "price", 98.0, (STOP, STOP, STAYS)),
    ("the ATR is that of the entry", HELD.but(held_atr=4.0, atr=4.0), "price", 92.0, (STOP, STOP, STAYS)),
    ("the average entry counts", HELD.but(held_entry=102.0), "price", 98.0, (STOP, STOP, STAYS)),
    ("of a tiny long", HELD.but(held_size=0.25), "price", 96.0, (STOP, STOP, STAYS)),
    ("of a tiny short", SOLD.but(held_size=-0.25), "price", 104.0, (STAYS, STOP, STOP)),
    ("an ATR below 1 is an ATR", HELD.but(held_atr=0.75), "price", 98.5, (STOP, STOP, STAYS)),
    ("an entry without ATR has the fallback's", HELD.but(held_atr=0.0), "price", 99.0, (STOP, STOP, STAYS)),
    ("ASE: nearer while ADX falls", UNDER, "adx_slope", 0.0, (STOP, STAYS, STAYS)),
    ("ASE for a short", UNDER_SHORT, "adx_slope", 0.0, (STOP, STAYS, STAYS)),
    ("ASE's factor", UNDER.but(adx_slope=-1.0), "ase_mult", 0.875, (STOP, STOP, STAYS)),
    ("DASE: further with strong ADX", WIDER, "adx", 40.0, (STOP, STOP, STAYS)),
    ("DASE's ADX is a parameter", WIDER, "dase_adx_gt", 30.0, (STAYS, STOP, STOP)),
    ("DASE wants profit", WIDER.but(adx=41.0), "dase_profit_atr_gt", -2.0, (STAYS, STOP, STOP)),
    ("DASE's factor", WIDER.but(adx=41.0, price=95.0), "dase_mult", 1.25, (STOP, STOP, STAYS)),
    ("SLB: further with very strong ADX", HELD.but(price=96.0), "adx", 45.0, (STOP, STOP, STAYS)),
    ("SLB's ADX is a parameter", HELD.but(price=96.0), "slb_adx_gt", 30.0, (STAYS, STOP, STOP)),
    ("SLB's factor", HELD.but(price=95.0, adx=46.0), "slb_mult", 1.25, (STOP, STOP, STAYS)),
    ("factors multiply: 2 * 0.5 * 1.5 * 2 ATR", ALL_FACTORS, "price", 94.0, (STOP, STOP, STAYS)),
    ("ASE at the entry price itself is not under water", HELD.but(price=100.0, adx_slope=-1.0, ase_mult=0.01),
     "held_entry", 100.0, (STAYS, STAYS, STAYS)),
)  # fmt: skip
def test_stop_loss(scene, name, edge, answers):
    assert look(leaves, scene, name, edge) == list(answers)


def test_dase_needs_half_an_atr_of_profit_by_default():
    """So it widens nothing under water: at ADX 41 the stop stays two ATR away."""
    assert look(leaves, HELD.but(adx=41.0), "price", 96.0) == [STOP, STOP, STAYS]


EVENS = HELD.but(enable_breakeven_stop=True, breakeven_start_atr=0.75, breakeven_buffer_atr=0.25)
EVENS_SHORT = SOLD.but(enable_breakeven_stop=True, breakeven_start_atr=0.75, breakeven_buffer_atr=0.25)
ARMED = EVENS.but(held_armed=1.0)


@edges(
    ("a profit of 0.75 ATR arms it", EVENS, "price", 101.5, (False, True, True)),
    ("and that of a short", EVENS_SHORT, "price", 98.5, (True, True, False)),
    ("the profit is a parameter", EVENS, "breakeven_start_atr", 0.5, (True, True, False)),
    ("it stays armed", ARMED, "price", 101.5, (True, True, True)),
    ("switched off it is never armed", EVENS.but(enable_breakeven_stop=False), "price", 101.5, (False,) * 3),
)
def test_breakeven_is_armed(scene, name, edge, answers):
    assert look(armed, scene, name, edge) == list(answers)


@edges(
    ("a quarter of an ATR beyond the entry", ARMED, "price", 100.5, (EVEN, EVEN, STAYS)),
    ("and below that of a short", EVENS_SHORT.but(held_armed=1.0), "price", 99.5, (STAYS, EVEN, EVEN)),
    ("the buffer is a parameter", ARMED.but(breakeven_buffer_atr=-0.5), "price", 99.0, (EVEN, EVEN, STAYS)),
    ("not before it is armed", EVENS, "price", 100.5, (STAYS,) * 3),
    ("it may be armed and hit at once", EVENS.but(breakeven_buffer_atr=1.0), "price", 101.5, (STAYS, EVEN, EVEN)),
    ("the stop loss comes first", ARMED, "price", 96.0, (STOP, STOP, EVEN)),
)
def test_breakeven(scene, name, edge, answers):
    assert look(leaves, scene, name, edge) == list(answers)


# From one ATR on the trail follows 3/4 ATR behind: ADX is not weak, the bands are not wide, RSI is not strong.
TRAILS = HELD.but(trailing_start_atr=1.0, trailing_distance_atr=0.75, price=103.0)
TRAILS_SHORT = SOLD.but(trailing_start_atr=1.0, trailing_distance_atr=0.75, price=97.0)
FAR = TRAILS.but(trailing_distance_atr=4.0)  # the floors are far below
GAINS = FAR.but(price=104.5)  # 2.25 ATR: tightened
WEAK = FAR.but(adx=24.0)
LOW_TIER = TRAILS.but(held_tier=0.0)


def near(*levels):
    return [level if level is None else pytest.approx(level, abs=1e-6) for level in levels]


@edges(
    ("a profit of one ATR starts it", TRAILS, "price", 102.0, (None, 100.5, 100.5)),
    ("and that of a short", TRAILS_SHORT, "price", 98.0, (99.5, 99.5, None)),
    ("the start is a parameter", TRAILS, "trailing_start_atr", 1.5, (101.5, 101.5, None)),
    ("tier low may start otherwise", LOW_TIER.but(trailing_start_atr_low_conf=1.25), "price", 102.5,
     (None, 101.0, 101.0)),
    ("anything above 0 is another start", LOW_TIER.but(price=101.0, trail_floor_atr=0.75),
     "trailing_start_atr_low_conf", 0.0, (None, None, 99.5)),
    ("0 is no difference", LOW_TIER, "trailing_start_atr_low_conf", 0.0, (101.5, 101.5, 101.5)),
    ("0 is no difference in distance", LOW_TIER.but(trail_floor_atr=0.0), "trailing_distance_atr_low_conf", 0.0,
     (101.5, 101.5, 103.0)),
    ("wide bands widen it", FAR, "bb_ratio", 1.2, (95.0, 95.0, 93.0)),
    ("how wide is a parameter", FAR, "vbts_bb_ratio_gt", 1.0, (93.0, 95.0, 95.0)),
    ("weak ADX narrows it", FAR.but(trail_weak_mult=0.5), "adx", 25.0, (99.0, 95.0, 95.0)),
    ("how weak is a parameter", FAR.but(trail_weak_mult=0.5), "trail_weak_adx_lt", 30.0, (95.0, 95.0, 99.0)),
    ("profit tightens it", FAR, "price", 104.0, (96.0, 96.0, 100.0)),
    ("how much profit is a parameter", FAR, "tighten_profit_atr_gt", 1.5, (99.0, 95.0, 95.0)),
    ("a rising ATR loosens that", GAINS, "atr_slope", 0.0, (100.5, 100.5, 98.5)),
    ("a strong ADX keeps the distance", GAINS, "adx", 35.0, (100.5, 100.5, 96.5)),
    ("how strong is a parameter", GAINS, "tatp_adx_gt", 30.0, (96.5, 100.5, 100.5)),
    ("if it rises", GAINS.but(adx=36.0), "adx_slope", 0.0, (100.5, 100.5, 96.5)),
    ("never below the floor", TRAILS, "trail_floor_atr", 0.75, (101.5, 101.5, 101.5)),
    ("at strong RSI another floor", TRAILS.but(trail_floor_strong_atr=1.5), "rsi", 60.0, (101.5, 101.5, 100.0)),
    ("at low RSI for a short", TRAILS_SHORT.but(trail_floor_strong_atr=1.5), "rsi", 40.0, (100.0, 98.5, 98.5)),
    ("how strong is a parameter", TRAILS.but(trail_floor_strong_atr=1.5), "trail_strong_rsi_long_gt", 55.0,
     (100.0, 101.5, 101.5)),
    ("and for shorts", TRAILS_SHORT.but(trail_floor_strong_atr=1.5), "trail_strong_rsi_short_lt", 45.0,
     (98.5, 98.5, 100.0)),
    ("never away from the price", TRAILS.but(held_trails=1.0), "held_trail", 101.5, (101.5, 101.5, 101.5)),
)  # fmt: skip
def test_where_the_trail_lies(scene, name, edge, answers):
    assert look(trail, scene, name, edge) == near(*answers)


@flips(
    ("the start of tier low is for tier low", TRAILS.but(trailing_start_atr_low_conf=2.0), {"held_tier": 0.0},
     101.5, None),
    ("the distance of tier low is for tier low", TRAILS.but(trailing_distance_atr_low_conf=1.0), {"held_tier": 0.0},
     101.5, 101.0),
    ("medium is not low", TRAILS.but(trailing_start_atr_low_conf=2.0), {"held_tier": 1.0}, 101.5, 101.5),
    ("the distance is a parameter", TRAILS, {"trailing_distance_atr": 1.0}, 101.5, 101.0),
    ("the ATR is that of the entry", TRAILS, {"held_atr": 1.6}, 101.5, 101.8),
    ("wide bands need not widen it", FAR.but(bb_ratio=2.0), {"enable_vol_buffered_trailing": False}, 93.0, 95.0),
    ("by a factor", FAR.but(bb_ratio=2.0), {"vbts_mult": 1.5}, 93.0, 91.0),
    ("tightening replaces widening", GAINS, {"bb_ratio": 2.0}, 100.5, 100.5),
    ("weakness replaces widening", WEAK.but(trail_weak_mult=0.5), {"bb_ratio": 2.0}, 99.0, 99.0),
    ("tightening replaces weakness", GAINS.but(trail_weak_mult=0.125), {"adx": 24.0}, 100.5, 100.5),
    ("a factor of profit", GAINS, {"tighten_mult": 0.25}, 100.5, 102.5),
    ("a factor of rising ATR", GAINS.but(atr_slope=1.0), {"tspv_mult": 0.625}, 98.5, 99.5),
    ("a factor of weakness", WEAK.but(trail_weak_mult=0.5), {"trail_weak_mult": 0.25}, 99.0, 101.0),
    ("weakness is 0.7 by default", FAR, {"adx": 24.0}, 95.0, 97.4),
    ("a strong ADX keeps it despite a rising ATR", GAINS.but(adx=36.0), {"atr_slope": 1.0}, 96.5, 96.5),
    ("the floor", TRAILS, {"trailing_distance_atr": 0.0}, 101.5, 102.0),
    ("the floor is a parameter", TRAILS.but(trailing_distance_atr=0.0), {"trail_floor_atr": 0.25}, 102.0, 102.5),
    ("the floor at strong RSI", TRAILS.but(trailing_distance_atr=0.0), {"rsi": 61.0}, 102.0, 101.6),
    ("the floor of a short at strong RSI", TRAILS_SHORT.but(trailing_distance_atr=0.0), {"rsi": 39.0}, 98.0, 98.4),
    ("what is strong for a long is not for a short", TRAILS_SHORT.but(trailing_distance_atr=0.0), {"rsi": 61.0},
     98.0, 98.0),
    ("it moves towards the price", TRAILS.but(held_trails=1.0, held_trail=100.0), {"price": 103.5}, 101.5, 102.0),
    ("not away from it", TRAILS.but(held_trails=1.0, held_trail=102.0), {"price": 102.5}, 102.0, 102.0),
    ("of a short", TRAILS_SHORT.but(held_trails=1.0, held_trail=100.0), {"held_trail": 98.0}, 98.5, 98.0),
    ("it stays where profit has shrunk below its start", TRAILS.but(held_trails=1.0, held_trail=100.5),
     {"price": 101.0}, 101.5, 100.5),
    ("a trail of 0 is a trail", TRAILS.but(held_trail=0.0, held_trails=0.0), {"held_trails": 1.0}, 101.5, 101.5),
    ("a short's first trail lies above an unset one", TRAILS_SHORT, {"held_trail": 0.0}, 98.5, 98.5),
)  # fmt: skip
def test_where_the_trail_lies_by_change(scene, change, without, with_it):
    assert [trail(scene), trail(scene.but(**change))] == near(without, with_it)


TRAILED = HELD.but(held_trails=1.0, held_trail=100.5)


@edges(
    ("at the trail", TRAILED, "price", 100.5, (TRAIL, TRAIL, STAYS)),
    ("at that of a short", SOLD.but(held_trails=1.0, held_trail=99.5), "price", 99.5, (STAYS, TRAIL, TRAIL)),
    ("without a trail none is hit", TRAILED.but(held_trails=0.0), "price", 100.5, (STAYS,) * 3),
    ("at once where the distance is nothing", TRAILS.but(trailing_distance_atr=0.0, trail_floor_atr=0.0),
     "price", 102.0, (STAYS, TRAIL, TRAIL)),
    ("breakeven comes first", TRAILED.but(enable_breakeven_stop=True, breakeven_buffer_atr=0.25, held_armed=1.0),
     "price", 100.5, (EVEN, EVEN, STAYS)),
)  # fmt: skip
def test_trailing_stop(scene, name, edge, answers):
    assert look(leaves, scene, name, edge) == list(answers)


TAKES = HELD.but(tp_atr_mult=4.0)
TAKES_SHORT = SOLD.but(tp_atr_mult=4.0)
PARTS = TAKES.but(enable_partial_tp=True)
TWO_LEVELS = PARTS.but(tp_partial_atr_mult=1.0)
NOTHING, WHOLE, HALF = (STAYS, 1.0), (TAKE, 1.0), (PART, 0.5)


@edges(
    ("four ATR beyond the entry", TAKES, "price", 108.0, (NOTHING, WHOLE, WHOLE)),
    ("four ATR below that of a short", TAKES_SHORT, "price", 92.0, (WHOLE, WHOLE, NOTHING)),
    ("the distance is a parameter", TAKES, "tp_atr_mult", 0.5, (WHOLE, WHOLE, NOTHING)),
    ("in part: the first at the full level", PARTS, "price", 108.0, (NOTHING, HALF, HALF)),
    ("of a short", TAKES_SHORT.but(enable_partial_tp=True), "price", 92.0, (HALF, HALF, NOTHING)),
    ("in part: the first at its own level", TWO_LEVELS, "price", 102.0, (NOTHING, HALF, HALF)),
    ("of a short", TAKES_SHORT.but(enable_partial_tp=True, tp_partial_atr_mult=1.0), "price", 98.0,
     (HALF, HALF, NOTHING)),
    ("after it, at the full level", TWO_LEVELS.but(held_parts=1.0), "price", 108.0, (NOTHING, WHOLE, WHOLE)),
    ("of a short after it", TAKES_SHORT.but(enable_partial_tp=True, tp_partial_atr_mult=1.0, held_parts=1.0),
     "price", 92.0, (WHOLE, WHOLE, NOTHING)),
    ("after it there is no full level without a partial one", PARTS.but(held_parts=1.0), "price", 108.0,
     (NOTHING,) * 3),
    ("a full level before the partial one", PARTS.but(tp_partial_atr_mult=5.0), "price", 108.0,
     (NOTHING, WHOLE, WHOLE)),
    ("the partial one wins where both are reached", PARTS.but(tp_partial_atr_mult=5.0), "price", 110.0,
     (WHOLE, HALF, HALF)),
    ("the rest must be worth it", PARTS.but(price=108.0), "tp_partial_min_notional_usd", 432.0, (HALF, HALF, NOTHING)),
    ("a rest too small bars the full level too", TWO_LEVELS.but(price=108.0), "tp_partial_min_notional_usd", 432.0,
     (HALF, HALF, NOTHING)),
    ("a partial level of 0 is none", PARTS.but(held_parts=1.0, price=108.0), "tp_partial_atr_mult", 0.0,
     (NOTHING, NOTHING, WHOLE)),
)  # fmt: skip
def test_take_profit(scene, name, edge, answers):
    assert look(leaves_how_much, scene, name, edge) == list(answers)


@flips(
    ("the fraction is a parameter", PARTS.but(price=108.0), {"tp_partial_frac": 0.25}, HALF, (PART, 0.25)),
    ("nothing to close: half of one lot", PARTS.but(price=108.0, tp_partial_min_notional_usd=0.0),
     {"held_size": 0.01}, HALF, NOTHING),
    ("nothing to close: three quarters of one lot", PARTS.but(price=108.0, tp_partial_min_notional_usd=0.0, lots=1.0),
     {"held_size": 1.0, "tp_partial_frac": 0.75}, HALF, NOTHING),
    ("whole lots: of three coins one is closed, two are left", PARTS.but(price=108.0, lots=1.0, held_size=3.0,
     tp_partial_min_notional_usd=216.0), {"tp_partial_min_notional_usd": 217.0}, HALF, NOTHING),
    ("half of a coin is a part", PARTS.but(price=108.0, tp_partial_min_notional_usd=0.0), {"held_size": 1.0}, HALF,
     HALF),
    ("nothing to keep", PARTS.but(price=108.0, tp_partial_min_notional_usd=0.0), {"tp_partial_frac": 1.0}, HALF,
     NOTHING),
    ("a part of a short is as large", TAKES_SHORT.but(price=92.0, enable_partial_tp=True),
     {"tp_partial_min_notional_usd": 369.0}, HALF, NOTHING),
    ("the trail comes first", TAKES.but(price=108.0), {"held_trails": 1.0, "held_trail": 109.0}, WHOLE, (TRAIL, 1.0)),
    ("after a refused part the smart exits are asked", PARTS.but(price=108.0, tp_partial_min_notional_usd=1e6),
     {"ema_fast": 90.0}, NOTHING, (DOWN, 1.0)),
)  # fmt: skip
def test_take_profit_by_change(scene, change, without, with_it):
    assert [leaves_how_much(scene), leaves_how_much(scene.but(**change))] == [without, with_it]


BROKEN = HELD.but(ema_fast=127.0, ema_slow=128.0, tbb_frac=0.0078125)
TURNS = HELD.but(adx=60.0, adx_slope=-1.0, macd_run=-2.0, price=102.0, ase_mult=1.0)
TURNS_SHORT = SOLD.but(adx=60.0, adx_slope=-1.0, macd_run=2.0, price=98.0, ase_mult=1.0)
TURNS_MORE = HELD.but(adx=40.0, macd_run=-3.0, price=104.0)
TURNS_MORE_SHORT = SOLD.but(adx=40.0, macd_run=3.0, price=96.0)
FADES = UNDER.but(atr=1.0)
MACROS = HELD.but(enable_macro_exit=True)
LITTLE, MUCH = HELD, HELD.but(price=104.0)
LITTLE_SHORT, MUCH_SHORT = SOLD, SOLD.but(price=96.0)


@edges(
    ("breakdown of a long", HELD.but(tbb_frac=0.0), "ema_fast", 98.0, (DOWN, STAYS, STAYS)),
    ("breakdown of a short", SOLD.but(tbb_frac=0.0), "ema_fast", 102.0, (STAYS, STAYS, DOWN)),
    ("a narrow gap is forgiven", BROKEN, "ema_fast", 127.0, (DOWN, DOWN, STAYS)),
    ("where ADX is above", BROKEN.but(ema_fast=127.5), "adx", 25.0, (DOWN, DOWN, STAYS)),
    ("how narrow is a parameter", BROKEN, "tbb_frac", 0.0078125, (DOWN, DOWN, STAYS)),
    ("what ADX is a parameter", BROKEN.but(ema_fast=127.5), "tbb_adx_gt", 30.0, (STAYS, DOWN, DOWN)),
    ("a narrow gap of a short", SOLD.but(ema_fast=129.0, ema_slow=128.0, tbb_frac=0.0078125), "ema_fast", 129.0,
     (STAYS, DOWN, DOWN)),
    ("exhaustion", HELD, "adx", 22.0, (TIRED, STAYS, STAYS)),
    ("exhaustion of a short", SOLD, "adx", 22.0, (TIRED, STAYS, STAYS)),
    ("by the threshold of the entry", HELD, "held_threshold", 30.0, (STAYS, STAYS, TIRED)),
    ("macro breakdown", MACROS, "ema_macro", 101.0, (STAYS, STAYS, MACRO)),
    ("macro breakdown of a short", SOLD.but(enable_macro_exit=True), "ema_macro", 99.0, (MACRO, STAYS, STAYS)),
    ("stagnation: dead", UNDER, "atr", 1.4, (DEAD, STAYS, STAYS)),
    ("how dead is a parameter", UNDER, "stagnation_atr_mult", 1.0, (STAYS, STAYS, DEAD)),
    ("against the ATR of the entry", FADES.but(stagnation_atr_mult=0.25), "held_atr", 4.0, (STAYS, STAYS, DEAD)),
    ("under water", FADES, "price", 100.0, (DEAD, STAYS, STAYS)),
    ("under water, a short", UNDER_SHORT.but(atr=1.0), "price", 100.0, (STAYS, STAYS, DEAD)),
    ("TSME: ADX", TURNS, "adx", 50.0, (STAYS, STAYS, TSME)),
    ("TSME: profit", TURNS, "price", 102.0, (STAYS, TSME, TSME)),
    ("TSME: momentum", TURNS, "macd_run", -2.0, (TSME, TSME, STAYS)),
    ("TSME: a falling ADX", TURNS, "adx_slope", 0.0, (TSME, STAYS, STAYS)),
    ("TSME: ADX is a parameter", TURNS, "tsme_adx_gt", 60.0, (TSME, STAYS, STAYS)),
    ("TSME: profit is a parameter", TURNS, "tsme_min_profit_atr", 1.0, (TSME, TSME, STAYS)),
    ("TSME of a short", TURNS_SHORT, "macd_run", 2.0, (STAYS, TSME, TSME)),
    ("MMDE: profit", TURNS_MORE, "price", 103.0, (STAYS, STAYS, MMDE)),
    ("MMDE: ADX", TURNS_MORE, "adx", 35.0, (STAYS, STAYS, MMDE)),
    ("MMDE: momentum", TURNS_MORE, "macd_run", -3.0, (MMDE, MMDE, STAYS)),
    ("MMDE: profit is a parameter", TURNS_MORE, "mmde_profit_atr_gt", 2.0, (MMDE, STAYS, STAYS)),
    ("MMDE: ADX is a parameter", TURNS_MORE, "mmde_adx_gt", 40.0, (MMDE, STAYS, STAYS)),
    ("MMDE of a short", TURNS_MORE_SHORT, "macd_run", 3.0, (STAYS, MMDE, MMDE)),
    ("RSI with little profit", LITTLE, "rsi", 80.0, (STAYS, STAYS, HOT)),
    ("RSI with much profit", MUCH, "rsi", 70.0, (STAYS, STAYS, HOT)),
    ("RSI of a short with little profit", LITTLE_SHORT, "rsi", 20.0, (HOT, STAYS, STAYS)),
    ("RSI of a short with much profit", MUCH_SHORT, "rsi", 30.0, (HOT, STAYS, STAYS)),
    ("little is less than 1.5 ATR", HELD.but(rsi=75.0), "price", 103.0, (STAYS, HOT, HOT)),
    ("how little is a parameter", HELD.but(rsi=75.0), "rsi_exit_profit_atr_switch", 0.5, (HOT, HOT, STAYS)),
    ("the bound of little profit", LITTLE.but(rsi=75.0), "rsi_exit_ub_lo_profit", 75.0, (HOT, STAYS, STAYS)),
    ("the bound of much profit", MUCH.but(rsi=75.0), "rsi_exit_ub_hi_profit", 75.0, (HOT, STAYS, STAYS)),
    ("a short's bound of little profit", LITTLE_SHORT.but(rsi=25.0), "rsi_exit_lb_lo_profit", 25.0,
     (STAYS, STAYS, HOT)),
    ("a short's bound of much profit", MUCH_SHORT.but(rsi=25.0), "rsi_exit_lb_hi_profit", 25.0, (STAYS, STAYS, HOT)),
)  # fmt: skip
def test_smart_exits(scene, name, edge, answers):
    assert look(leaves, scene, name, edge) == list(answers)


@flips(
    ("a macro breakdown must be wanted", HELD.but(ema_macro=105.0), {"enable_macro_exit": True}, STAYS, MACRO),
    ("stagnation can be switched off", FADES, {"enable_stagnation_exit": False}, DEAD, STAYS),
    ("ATR counts with its floor", FADES.but(atr=0.1), {"min_atr_frac": 0.015}, DEAD, STAYS),
    ("TSME need not want a falling ADX", TURNS.but(adx_slope=1.0), {"tsme_require_adx_slope_negative": False},
     STAYS, TSME),
    ("RSI can be switched off", HELD.but(rsi=85.0), {"enable_rsi_overextension_exit": False}, HOT, STAYS),
    ("a low RSI closes no long", HELD, {"rsi": 10.0}, STAYS, STAYS),
    ("a high RSI closes no short", SOLD, {"rsi": 90.0}, STAYS, STAYS),
    ("momentum with a long closes nothing", TURNS, {"macd_run": 3.0}, TSME, STAYS),
    ("momentum with a short closes nothing", TURNS_SHORT, {"macd_run": -3.0}, TSME, STAYS),
    ("wide means are no narrow gap", BROKEN, {"ema_fast": 100.0}, DOWN, DOWN),
)  # fmt: skip
def test_smart_exits_by_change(scene, change, without, with_it):
    assert (leaves(scene), leaves(scene.but(**change))) == (without, with_it)


LOW_CONF = [
    (LITTLE, "rsi_exit_ub_lo_profit_low_conf", 50.0, 0.0),
    (MUCH, "rsi_exit_ub_hi_profit_low_conf", 50.0, 0.0),
    (LITTLE_SHORT, "rsi_exit_lb_lo_profit_low_conf", 50.0, 0.0),
    (MUCH_SHORT, "rsi_exit_lb_hi_profit_low_conf", 50.0, 0.0),
]


@pytest.mark.parametrize(("scene", "name", "value", "none"), LOW_CONF, ids=[row[1] for row in LOW_CONF])
def test_rsi_bounds_of_tier_low(scene, name, value, none):
    """Each closes where profit and side are its own, at tier low, and where it is above 0."""
    for other, _, _, _ in LOW_CONF:
        assert leaves(other.but(held_tier=0.0, **{name: value})) == (HOT if other is scene else STAYS)
    assert leaves(scene.but(held_tier=1.0, **{name: value})) == STAYS
    assert leaves(scene.but(held_tier=0.0, **{name: none})) == STAYS
    long = scene.held["size"] > 0.0
    at = scene.but(held_tier=0.0, rsi=75.0 if long else 25.0, **{name: 75.0 if long else 25.0})
    assert look(leaves, at, "rsi", at.now["rsi"]) == ([STAYS, STAYS, HOT] if long else [HOT, STAYS, STAYS])


def test_a_bound_of_tier_low_just_above_nothing_counts():
    """For a long any RSI lies above it; 0 itself is no bound."""
    assert look(leaves, LITTLE.but(held_tier=0.0), "rsi_exit_ub_lo_profit_low_conf", 0.0) == [STAYS, STAYS, HOT]
    hot = LITTLE_SHORT.but(held_tier=0.0, rsi=15.0)
    assert look(leaves, hot, "rsi_exit_lb_lo_profit_low_conf", 0.0) == [HOT, HOT, STAYS]


GLITCH = HELD.but(block_exits_on_extreme_dev=True, price=80.0, before_close=80.0, atr=0.0)
FAR_OFF = GLITCH.but(glitch_price_dev_frac=0.25, before_close=64.0)
WILD = GLITCH.but(glitch_atr_mult=4.0, atr=2.0, before_close=72.0)


@edges(
    ("a jump of more than the fraction", FAR_OFF, "price", 80.0, (STOP, STOP, STAYS)),
    ("a fall of more than the fraction", FAR_OFF.but(before_close=100.0), "price", 75.0, (STAYS, STOP, STOP)),
    ("a jump of more than so many ATR", WILD, "price", 80.0, (STOP, STOP, STAYS)),
    ("a fall of more than so many ATR", WILD.but(before_close=88.0), "price", 80.0, (STAYS, STOP, STOP)),
    ("no ATR, no measure", WILD.but(price=81.0), "atr", 0.0, (STOP, STOP, STAYS)),
    ("the fraction is a parameter", FAR_OFF, "glitch_price_dev_frac", 0.25, (STAYS, STOP, STOP)),
    ("the multiple is a parameter", WILD, "glitch_atr_mult", 4.0, (STAYS, STOP, STOP)),
    ("without a close before there is nothing to compare with", FAR_OFF, "before_close", 0.0, (STOP, STOP, STAYS)),
)
def test_glitch_guard(scene, name, edge, answers):
    assert look(leaves, scene, name, edge) == list(answers)


def test_a_glitch_is_a_glitch_only_where_they_are_looked_for():
    glitch = FAR_OFF.but(price=90.0)
    assert (leaves(glitch), leaves(glitch.but(block_exits_on_extreme_dev=False))) == (STAYS, STOP)


def test_a_glitch_is_not_remembered():
    jump = TRAILS.but(enable_breakeven_stop=True, price=150.0, before_close=100.0)
    assert (armed(jump), trail(jump)) == (True, 149.0)
    guarded = jump.but(block_exits_on_extreme_dev=True)
    assert (armed(guarded), trail(guarded)) == (False, None)


# Everything fires at once; the first of a ladder is switched off, then the next.
UNDER_WATER = HELD.but(
    price=96.0, held_armed=1.0, held_trails=1.0, held_trail=97.0, ema_fast=90.0, adx=60.0, adx_slope=-1.0,
    held_threshold=70.0, ema_macro=110.0, enable_macro_exit=True, atr=0.5, macd_run=-3.0, tsme_min_profit_atr=-9.0,
    mmde_profit_atr_gt=-9.0, rsi=85.0,
)  # fmt: skip
LADDER_UNDER_WATER = [
    (STOP, {"sl_atr_mult": 50.0}),
    (EVEN, {"held_armed": 0.0}),
    (TRAIL, {"held_trails": 0.0}),
    (DOWN, {"ema_fast": 99.0}),
    (TIRED, {"held_threshold": 22.0}),
    (MACRO, {"enable_macro_exit": False}),
    (DEAD, {"enable_stagnation_exit": False}),
    (TSME, {"tsme_adx_gt": 90.0}),
    (MMDE, {"mmde_adx_gt": 90.0}),
    (HOT, {"enable_rsi_overextension_exit": False}),
    (STAYS, {}),
]
IN_PROFIT = UNDER_WATER.but(
    price=110.0, held_armed=1.0, breakeven_buffer_atr=6.0, held_trails=1.0, held_trail=115.0, tp_atr_mult=4.0
)
LADDER_IN_PROFIT = [
    (EVEN, {"held_armed": 0.0}),
    (TRAIL, {"held_trails": 0.0}),
    (TAKE, {"enable_partial_tp": True}),
    (PART, {"tp_atr_mult": 50.0, "ema_macro": 120.0}),
    *((reason, change) for reason, change in LADDER_UNDER_WATER[3:] if reason != DEAD),
]


@pytest.mark.parametrize(
    ("scene", "ladder"),
    [(UNDER_WATER, LADDER_UNDER_WATER), (IN_PROFIT, LADDER_IN_PROFIT)],
    ids=["under water", "in profit"],
)
def test_the_first_exit_that_fires_wins(scene, ladder):
    for reason, without in ladder:
        assert leaves(scene) == reason
        scene = scene.but(**without)


def test_every_exit_has_its_scene():
    assert {reason for reason, _ in (*LADDER_UNDER_WATER, *LADDER_IN_PROFIT)} == {*mei_alpha.EXITS, STAYS}


@pytest.mark.parametrize("scene", [HELD, SOLD])
def test_a_position_begins_with_its_entrys_notes_and_no_memory(scene):
    position = slot_of(scene.but(held_armed=1.0, held_trails=1.0, held_trail=5.0, held_note_a=1.5, held_note_b=1.0,
                             held_note_c=27.5))  # fmt: skip
    mei_alpha.begin(position, 1.0, 100.0)
    assert [getattr(position, name) for name in mei_alpha.MEMORY] == [1.5, 1.0, 27.5, 0.0, 0.0, 0.0]
