"""`mei_alpha` equals its plain Python twin, which was written from the page alone: to the last bit, over whole runs."""

import collections
from dataclasses import replace
from types import ModuleType

import naive
import naive_alpha
import numpy as np
import pytest
from kernel_kit import Case, Outcome, assert_same, run_simulation, twin_of
from naive_alpha import Alpha, Context, Look, Memory, Sight
from random_markets import BOLD, SHAPES, on_clock, random_case

from kernels import bind
from kernels.book import REASONS
from kernels.strategies import mei_alpha

SEEDS, MORE_SEEDS = 60, 350
SEEDS_BY_SHAPE, MORE_SEEDS_BY_SHAPE = 6, 30
LATER_SEEDS = 20

PATHS = {parameter.path for parameter in mei_alpha.PARAMETERS}
DEFAULTS = {parameter.name: parameter.default for parameter in mei_alpha.PARAMETERS}

CALM = {
    "close": 100.0,
    "volume": 300.0,
    "ema_fast": 99.0,
    "ema_slow": 98.0,
    "ema_macro": 97.0,
    "adx": 31.0,
    "adx_slope": 0.2,
    "rsi": 60.0,
    "atr": 1.0,
    "atr_slope": 0.0,
    "atr_mean": 1.0,
    "bb_ratio": 1.0,
    "volume_mean": 100.0,
    "volume_short": 100.0,
    "stoch_k": 0.5,
    "slope": 0.001,
    "macd_hist": 0.1,
    "macd_run": 1.0,
}
"""Features of a trend that the defaults enter."""

NOWHERE = Context(50.0, "unknown")


def sight(price: float = 100.0, **changed: float) -> Sight:
    return Sight(price, 200, {**CALM, **changed}, {**CALM, "close": 99.5, "ema_fast": 98.9})


@pytest.fixture(scope="module")
def alpha_simulation() -> ModuleType:
    return bind.simulation("mei_alpha")


def short(values):
    return {path.rpartition(".")[2]: value for path, value in values.items()}


def twin(case: Case) -> tuple[Outcome, Alpha]:
    own = {s: short(values) for s, values in case.own.items()}
    alpha = Alpha(case.symbols, case.names, short(case.values), own, case.clock)
    return twin_of(case, alpha), alpha


def test_the_twin_enters_a_trend_as_the_page_says():
    told = naive_alpha.signal(DEFAULTS, sight(), NOWHERE, is_benchmark=False)
    assert (told.side, told.tier, told.threshold, told.passes, told.mode) == (1, 2, 22.0, True, "trend")
    assert naive_alpha.rsi_limit(DEFAULTS, CALM, 1.0) == 54.0  # halfway between ADX 22 and 40
    assert naive_alpha.entry_margin(DEFAULTS, sight(), 2, 10_000.0) == 232.5  # 300 * 31 / 40
    assert naive_alpha.cooldown_minutes(DEFAULTS, 32.5) == 112.5


@pytest.mark.parametrize(
    "changed",
    [
        {"adx": 22.0},  # the floor must be exceeded
        {"atr_mean": 0.6, "adx": 27.5},  # AVE lifts it to 27.5
        {"adx_slope": 0.0},
        {"ema_fast": 96.0},  # the price is further than 4 % away, and the means are the wrong way round
        {"rsi": 54.0},
        {"macd_run": 0.0},
        {"stoch_k": 0.85},
    ],
    ids=" ".join,
)
def test_the_twin_stays_out_where_a_gate_is_shut(changed):
    assert naive_alpha.signal(DEFAULTS, sight(**changed), NOWHERE, is_benchmark=False) is None


def test_the_twin_trails_arms_and_takes_a_part():
    position = naive.Position(10.0, 99.0, 200.0, 5.0, 0.0, 0, memory=Memory(1.0, 2, 22.0))
    walk = []
    for price in (100.0, 101.5, 101.2, 103.0, 101.0):
        gone = naive_alpha.leave(Look(DEFAULTS, sight(price), position, 100.0))
        walk.append((gone, position.memory.armed, position.memory.trail))
    assert walk == [
        (None, True, 99.2),  # profit 1: the trail starts 0.8 behind
        (None, True, 101.0),  # profit 2.5: 0.8 * 0.5 lies below the floor of 0.5
        (None, True, 101.0),
        (("take_profit_partial", 0.5), True, 102.5),
        (("trailing_stop", 1.0), True, 102.5),
    ]


def compared(alpha_simulation, seeds):
    """Compare random books with their twins; how often each reason and mode occurred, and on which clocks."""
    reasons, modes, clocks = collections.Counter(), collections.Counter(), set()
    bold = {path: value for path, value in BOLD.items() if path in PATHS}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        case = random_case(rng, mei_alpha.PARAMETERS)
        if seed % 5 == 0:
            case = replace(case, values={**case.values, **bold})
        theirs, alpha = twin(case)
        assert_same(run_simulation(alpha_simulation, mei_alpha, case, tile=int(rng.choice([1, 7, 64]))), theirs)
        reasons.update(fill.reason for fill in theirs.fills)
        modes.update(told.mode for told in alpha.heard.values() if told)
        clocks.update([case.clock] if theirs.fills else [])
    return reasons, modes, clocks


EVERY_REASON = {*mei_alpha.EXITS, *REASONS} - {"stop", "target", "manual"}


def test_random_books_equal_their_twins(alpha_simulation):
    """Most reasons to book must have occurred, and every mode, or the comparison says little."""
    reasons, modes, clocks = compared(alpha_simulation, SEEDS)
    assert set(modes) == set(naive_alpha.MODES)
    assert len(EVERY_REASON & set(reasons)) > 0.7 * len(EVERY_REASON)
    assert len(clocks) == 5


@pytest.mark.long
def test_many_random_books_equal_their_twins(alpha_simulation):
    """Every mode, every exit and every reason to book must have occurred."""
    reasons, modes, clocks = compared(alpha_simulation, MORE_SEEDS)
    assert set(modes) == set(naive_alpha.MODES)
    assert set(reasons) >= EVERY_REASON
    assert min(reasons.values()) >= 5
    assert len(clocks) == 5


@pytest.mark.parametrize("seeds", [SEEDS_BY_SHAPE, pytest.param(MORE_SEEDS_BY_SHAPE, marks=pytest.mark.long)])
@pytest.mark.parametrize("shape", SHAPES)
def test_adversarial_books_equal_their_twins(alpha_simulation, shape, seeds):
    for seed in range(seeds):
        case = random_case(np.random.default_rng(seed), mei_alpha.PARAMETERS, shape)
        assert_same(run_simulation(alpha_simulation, mei_alpha, case), twin(case)[0])


def test_a_decision_knows_nothing_that_comes_later(alpha_simulation):
    """Other bars after t change no fill and no equity up to t, whatever the intervals."""
    told = 0
    for seed in range(LATER_SEEDS):
        rng = np.random.default_rng(seed)
        case = random_case(rng, mei_alpha.PARAMETERS)
        other = random_case(rng, mei_alpha.PARAMETERS).symbols[0]
        t = int(rng.integers(case.first, case.steps + 1))
        symbols = []
        for symbol in case.symbols:
            bars = [*symbol.bars[:t], *(other.bars * 2)[: case.steps - t]]
            lost = {
                row for row, bar in enumerate(symbol.main_bars) if bar is None and (row + 1) * case.clock.per_main <= t
            }
            symbols.append(on_clock(replace(symbol, bars=bars), case.clock, lost))
        before = run_simulation(alpha_simulation, mei_alpha, case)
        after = run_simulation(alpha_simulation, mei_alpha, replace(case, symbols=symbols))
        fills = [fill for fill in before.fills if fill.t < t]
        assert fills == [fill for fill in after.fills if fill.t < t]
        assert before.equity[: t - case.first] == after.equity[: t - case.first]
        told += len(fills)
    assert told > LATER_SEEDS
