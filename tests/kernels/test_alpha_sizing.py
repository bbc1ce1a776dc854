"""What a signal of `mei_alpha` may do: admission, cool-down, rank, margin, addition, each rule at its edge."""

import pytest
from alpha_kit import LONG, SHORT, Scene, code, edges, features, flips, look, record, slot_of

from kernels.strategies import mei_alpha

HIGH, MEDIUM, LOW = code(1), code(1, "medium"), code(1, "low")
NO, YES = False, True

ANY_TIER = LONG.but(code=HIGH, entry_min_confidence="low")
# Out of a long; ADX 32.5 lies halfway between 25 and 40, so the side is barred for 112.5 minutes.
LEFT = ANY_TIER.but(adx=32.5)


def admitted(scene: Scene) -> bool:
    return bool(
        mei_alpha.admits(slot_of(scene), scene.code, scene.leaving, scene.minutes, features(scene.now), record(scene))
    )


@edges(
    ("halfway the cool-down is halfway", LEFT, "minutes", 112.5, (NO, YES, YES)),
    ("at low ADX it is longest", LEFT.but(adx=25.0), "minutes", 180.0, (NO, YES, YES)),
    ("below low ADX it is no longer", LEFT.but(adx=10.0), "minutes", 180.0, (NO, YES, YES)),
    ("at high ADX it is shortest", LEFT.but(adx=40.0), "minutes", 45.0, (NO, YES, YES)),
    ("above high ADX it is no shorter", LEFT.but(adx=80.0), "minutes", 45.0, (NO, YES, YES)),
    ("where both levels of ADX coincide it is shortest",
     LEFT.but(reentry_adx_low=32.5, reentry_adx_high=32.5), "minutes", 45.0, (NO, YES, YES)),
    ("a quarter of the way", LEFT.but(adx=28.75), "minutes", 146.25, (NO, YES, YES)),
    ("after a short, for shorts", LEFT.but(code=-HIGH), "minutes", 112.5, (NO, YES, YES)),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # uncompiled, 0 / 0 warns
def test_cool_down(scene, name, edge, answers):
    assert look(admitted, scene, name, edge) == list(answers)


SOON = LEFT.but(minutes=60.0)


@flips(
    ("before the first exit there is none", SOON, {"minutes": float("nan")}, NO, YES),
    ("it can be switched off", SOON, {"enable_reentry_cooldown": False}, NO, YES),
    ("the least is a parameter", SOON.but(adx=50.0), {"reentry_cooldown_min_minutes": 61.0}, YES, NO),
    ("the most is a parameter", SOON.but(adx=20.0), {"reentry_cooldown_max_minutes": 60.0}, NO, YES),
    ("low ADX is a parameter", LEFT.but(minutes=150.0), {"reentry_adx_low": 32.5}, YES, NO),
    ("high ADX is a parameter", SOON, {"reentry_adx_high": 32.5}, NO, YES),
    ("an exit ordered at this step counts as made now", ANY_TIER.but(held_size=8.0), {"leaving": True}, YES, NO),
    ("the same out of a short", ANY_TIER.but(held_size=-8.0, code=-HIGH), {"leaving": True}, YES, NO),
    ("a minute counts", ANY_TIER.but(held_size=0.25, adx=50.0, reentry_cooldown_min_minutes=0.5), {"leaving": True},
     YES, NO),
    ("it bars its own side only", ANY_TIER.but(held_size=-8.0), {"leaving": True}, YES, YES),
    ("made now it has passed if there are no minutes to wait", ANY_TIER.but(held_size=8.0, leaving=True, adx=50.0),
     {"reentry_cooldown_min_minutes": 0.0}, NO, YES),
    ("and only where there is a cool-down", ANY_TIER.but(held_size=8.0, leaving=True),
     {"enable_reentry_cooldown": False}, NO, YES),
    ("SSF and REEF", ANY_TIER, {"code": code(1, opens=False)}, YES, NO),
    ("the least tier is high", LONG.but(code=MEDIUM), {"code": HIGH}, NO, YES),
    ("medium will do", LONG.but(code=MEDIUM), {"entry_min_confidence": "medium"}, NO, YES),
    ("low will not do then", LONG.but(code=LOW, entry_min_confidence="medium"), {"code": MEDIUM}, NO, YES),
    ("low will do", LONG.but(code=LOW), {"entry_min_confidence": "low"}, NO, YES),
    ("the same for shorts", LONG.but(code=-LOW), {"entry_min_confidence": "low"}, NO, YES),
)  # fmt: skip
def test_admission(scene, change, without, with_it):
    assert (admitted(scene), admitted(scene.but(**change))) == (without, with_it)


@pytest.mark.parametrize(
    ("signal", "adx", "rank"),
    [(HIGH, 30.0, 230.0), (-HIGH, 30.999, 230.0), (MEDIUM, 30.0, 130.0), (LOW, 99.5, 99.0), (LOW, 0.5, 0.0)],
)
def test_rank(signal, adx, rank):
    assert mei_alpha.rank(signal, features(LONG.but(adx=adx).now), record(LONG)) == rank


def sized(scene: Scene) -> tuple[float, float]:
    coins, leverage = mei_alpha.size(
        scene.code, scene.value, scene.price, scene.most_leverage, features(scene.now), record(scene)
    )
    return float(coins), float(leverage)


# 10,000 * 0.03 = 300 USD of margin; ADX at 40 and an ATR of 1 % leave it as it is; leverage 5 makes 15 coins at 100.
SIZED = LONG.but(code=HIGH, adx=40.0)


@flips(
    ("allocation", SIZED, {"allocation_frac": 0.06}, (15.0, 5.0), (30.0, 5.0)),
    ("equity", SIZED, {"value": 5000.0}, (15.0, 5.0), (7.5, 5.0)),
    ("price", SIZED.but(enable_dynamic_sizing=False), {"price": 50.0}, (15.0, 5.0), (30.0, 5.0)),
    ("a short is sized alike", SIZED, {"code": -HIGH}, (15.0, 5.0), (15.0, 5.0)),
    ("tier medium: multiplier and leverage", SIZED.but(confidence_mult_medium=0.75), {"code": MEDIUM},
     (15.0, 5.0), (6.75, 3.0)),
    ("tier low: multiplier and leverage", SIZED, {"code": LOW}, (15.0, 5.0), (1.5, 1.0)),
    ("the multiplier of high is a parameter", SIZED, {"confidence_mult_high": 2.0}, (15.0, 5.0), (30.0, 5.0)),
    ("of medium", SIZED.but(code=MEDIUM, confidence_mult_medium=0.75), {"confidence_mult_medium": 1.5},
     (6.75, 3.0), (13.5, 3.0)),
    ("of low", SIZED.but(code=LOW), {"confidence_mult_low": 1.0}, (1.5, 1.0), (3.0, 1.0)),
    ("the leverage of high is a parameter", SIZED, {"leverage_high": 10.0}, (15.0, 5.0), (30.0, 10.0)),
    ("of medium", SIZED.but(code=MEDIUM, confidence_mult_medium=0.75), {"leverage_medium": 6.0},
     (6.75, 3.0), (13.5, 6.0)),
    ("of low", SIZED.but(code=LOW), {"leverage_low": 2.0}, (1.5, 1.0), (3.0, 2.0)),
    ("the venue's leverage where it is lower", SIZED, {"most_leverage": 4.0}, (15.0, 5.0), (12.0, 4.0)),
    ("not where it is higher", SIZED, {"most_leverage": 6.0}, (15.0, 5.0), (15.0, 5.0)),
    ("ADX in proportion", SIZED, {"adx": 30.0}, (15.0, 5.0), (11.25, 5.0)),
    ("ADX not above full", SIZED, {"adx": 60.0}, (15.0, 5.0), (15.0, 5.0)),
    ("ADX not below the least factor", SIZED.but(adx=30.0, adx_sizing_min_mult=0.5), {"adx": 10.0},
     (11.25, 5.0), (7.5, 5.0)),
    ("the least factor is a parameter", SIZED.but(adx=10.0, adx_sizing_min_mult=0.5), {"adx_sizing_min_mult": 0.75},
     (7.5, 5.0), (11.25, 5.0)),
    ("full ADX is a parameter", SIZED, {"adx_sizing_full_adx": 50.0}, (15.0, 5.0), (12.0, 5.0)),
    ("an ATR of 1.25 %: four fifths", SIZED, {"atr": 1.25}, (15.0, 5.0), (12.0, 5.0)),
    ("not below the least factor", SIZED, {"atr": 8.0}, (15.0, 5.0), (7.5, 5.0)),
    ("the least factor is a parameter", SIZED.but(atr=8.0), {"vol_scalar_min": 0.25}, (7.5, 5.0), (3.75, 5.0)),
    ("not above the greatest factor", SIZED, {"atr": 0.5}, (15.0, 5.0), (15.0, 5.0)),
    ("the greatest factor is a parameter", SIZED.but(atr=0.5), {"vol_scalar_max": 1.5}, (15.0, 5.0), (22.5, 5.0)),
    ("the baseline is a parameter", SIZED.but(atr=1.25), {"vol_baseline_frac": 0.0125}, (12.0, 5.0), (15.0, 5.0)),
    ("a tiny ATR counts as the floor", SIZED.but(vol_scalar_max=10.0, min_atr_frac=0.005), {"atr": 0.1},
     (15.0, 5.0), (30.0, 5.0)),
    ("the floor is a parameter", SIZED.but(vol_scalar_max=10.0, atr=0.5), {"min_atr_frac": 0.01},
     (30.0, 5.0), (15.0, 5.0)),
    ("no ATR at all counts as 1", SIZED.but(vol_scalar_max=10.0, min_atr_frac=0.0, atr=0.5), {"atr": 0.0},
     (30.0, 5.0), (15.0, 5.0)),
    ("all at once", SIZED.but(code=MEDIUM, confidence_mult_medium=0.75, adx=20.0, adx_sizing_min_mult=0.25),
     {"atr": 1.25}, (3.375, 3.0), (2.7, 3.0)),
    ("all can be switched off", SIZED.but(code=LOW, adx=10.0, atr=8.0), {"enable_dynamic_sizing": False},
     (0.45, 1.0), (3.0, 1.0)),
)  # fmt: skip
def test_margin_and_leverage(scene, change, without, with_it):
    assert sized(scene) == pytest.approx(without, rel=1e-12)
    assert sized(scene.but(**change)) == pytest.approx(with_it, rel=1e-12)


def planned(scene: Scene) -> tuple[float, ...]:
    return tuple(map(float, mei_alpha.plan(scene.code, scene.price, features(scene.now), record(scene))))


@flips(
    ("a trend remembers ATR, tier and floor of ADX", LONG.but(code=HIGH), {"code": -MEDIUM}, (1, 2, 22), (1, 1, 22)),
    ("the floor as it is at the decision", LONG.but(code=HIGH), {"atr": 2.0}, (1, 2, 22), (2, 2, 27.5)),
    ("a pullback remembers its own", LONG.but(code=code(1, "low", 2), pullback_min_adx=19.0),
     {"code": code(-1, "high", 2)}, (1, 0, 19), (1, 2, 19)),
    ("a drift remembers its own", LONG.but(code=code(1, "low", 3)), {"slow_drift_min_adx": 12.0},
     (1, 0, 10), (1, 0, 12)),
    ("a tiny ATR counts as the floor", LONG.but(code=HIGH), {"atr": 0.25}, (1, 2, 22), (0.3, 2, 22)),
    ("no ATR", LONG.but(code=HIGH, atr=0.5), {"atr": 0.0, "min_atr_frac": 0.0}, (0.5, 2, 22), (0, 2, 22)),
)  # fmt: skip
def test_what_an_entry_remembers(scene, change, without, with_it):
    assert planned(scene) == pytest.approx(without, rel=1e-12)
    assert planned(scene.but(**change)) == pytest.approx(with_it, rel=1e-12)


def added(scene: Scene) -> float:
    return float(
        mei_alpha.add(
            slot_of(scene),
            scene.code,
            scene.value,
            scene.price,
            scene.minutes,
            features(scene.now),
            record(scene),
        )
    )


# 10,000 * 0.03 * 0.5 = 150 USD of margin at leverage 5 make 7.5 coins at 100; the entry at 99.5 is half an ATR away.
ADDS = LONG.but(code=HIGH, held_size=8.0, held_entry=99.5, held_leverage=5.0, minutes=60.0)
ADDS_SHORT = SHORT.but(code=-HIGH, held_size=-8.0, held_entry=100.5, held_leverage=5.0, minutes=60.0)
CALM = ADDS.but(adx_slope=1.0, held_entry=99.75)
CALM_SHORT = ADDS_SHORT.but(adx_slope=1.0, held_entry=100.25)
FULL = 7.5


@edges(
    ("profit in ATR, of a long", ADDS, "held_entry", 99.5, (FULL, FULL, 0.0)),
    ("profit in ATR, of a short", ADDS_SHORT, "held_entry", 100.5, (0.0, FULL, FULL)),
    ("the profit is a parameter", ADDS, "add_min_profit_atr", 0.5, (FULL, FULL, 0.0)),
    ("the ATR is the current one", ADDS, "atr", 1.0, (FULL, FULL, 0.0)),
    ("time since the last", ADDS, "minutes", 60.0, (0.0, FULL, FULL)),
    ("the time is a parameter", ADDS, "add_cooldown_minutes", 60.0, (FULL, FULL, 0.0)),
    ("in a calm strong trend half the profit will do", CALM, "held_entry", 99.75, (FULL, FULL, 0.0)),
    ("strong is a slope of ADX above", CALM, "adx_slope", 0.75, (0.0, 0.0, FULL)),
    ("how steep is a parameter", CALM, "dps_adx_slope_gt", 1.0, (FULL, 0.0, 0.0)),
    ("calm is an ATR that does not rise", CALM, "atr_slope", 0.0, (FULL, FULL, 0.0)),
    ("calm is an RSI not above", CALM, "rsi", 65.0, (FULL, FULL, 0.0)),
    ("for a short not below", CALM_SHORT, "rsi", 35.0, (0.0, FULL, FULL)),
    ("the RSI of longs is a parameter", CALM, "dps_rsi_long_gt", 60.0, (0.0, FULL, FULL)),
    ("the RSI of shorts is a parameter", CALM_SHORT, "dps_rsi_short_lt", 40.0, (FULL, FULL, 0.0)),
    ("the factor is a parameter", CALM, "dps_mult", 0.5, (FULL, FULL, 0.0)),
)
def test_addition_at_its_edges(scene, name, edge, answers):
    assert look(added, scene, name, edge) == pytest.approx(list(answers), rel=1e-12)


@flips(
    ("it can be switched off", ADDS, {"enable_pyramiding": False}, FULL, 0.0),
    ("SSF and REEF", ADDS, {"code": code(1, opens=False)}, FULL, 0.0),
    ("so many additions", ADDS.but(held_adds=1.0), {"held_adds": 2.0}, FULL, 0.0),
    ("how many is a parameter", ADDS.but(held_adds=2.0), {"max_adds_per_symbol": 3}, 0.0, FULL),
    ("the least tier is medium", ADDS.but(code=LOW), {"code": MEDIUM}, 0.0, FULL),
    ("the least tier is a parameter", ADDS.but(code=LOW), {"add_min_confidence": "low"}, 0.0, FULL),
    ("allocation", ADDS, {"allocation_frac": 0.06}, FULL, 15.0),
    ("the fraction of the base margin", ADDS, {"add_fraction_of_base_margin": 1.0}, FULL, 15.0),
    ("equity", ADDS, {"value": 20_000.0}, FULL, 15.0),
    ("the position's leverage, not the tier's", ADDS, {"held_leverage": 2.0}, FULL, 3.0),
    ("at the price of now", ADDS, {"price": 150.0, "ema_fast": 149.0}, FULL, 5.0),
    ("not by volatility or ADX", ADDS.but(held_entry=90.0), {"atr": 2.0, "adx": 10.0}, FULL, FULL),
    ("a tiny ATR counts as the floor", ADDS.but(atr=0.1, held_entry=99.9), {"held_entry": 99.8}, 0.0, FULL),
    ("a tiny long is a long", ADDS, {"held_size": 0.25}, FULL, FULL),
    ("a calm short", CALM_SHORT, {"adx_slope": 0.5}, FULL, 0.0),
)  # fmt: skip
def test_addition_by_change(scene, change, without, with_it):
    assert added(scene) == pytest.approx(without, rel=1e-12)
    assert added(scene.but(**change)) == pytest.approx(with_it, rel=1e-12)
