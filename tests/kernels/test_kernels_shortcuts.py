"""A book that keeps no record passes over what is quiet, and ends as one that takes every step."""

from dataclasses import dataclass, field, replace
from types import ModuleType

import numpy as np
import pytest
import scripted
from kernel_kit import (
    NO_CROSS,
    Case,
    Inputs,
    Scripted,
    assert_same,
    bits,
    candle,
    inputs_of,
    new_book,
    one,
    outcome_of,
    plain_values,
    run_simulation,
    run_twin,
    script_columns,
    script_of,
)
from naive import Bar, EmaCross, Rules, Sizing

from kernels.book import Book
from kernels.strategies import ema_cross

CROSS = (2, 5, 3, 1, 1.5, 2.5)
STEPS = 70


def walk(seed: int, symbols: int) -> tuple[Case, Sizing]:
    """Random closes that stand still for a while, with missing bars, funding, and a fall that liquidates."""
    rng = np.random.default_rng(seed)
    series = []
    for _ in range(symbols):
        moves = rng.normal(0, 2.0, STEPS)
        moves[rng.integers(0, 40) :][:20] = 0.0
        closes = np.maximum(100.0 + moves.cumsum(), 20.0)
        closes[60:] *= rng.choice([1.0, 0.3])
        bars = [
            Bar(c, c + abs(up), c - abs(down), c) if rng.random() < 0.95 else None
            for c, up, down in zip(closes.tolist(), *rng.normal(0, 1.5, (2, STEPS)).tolist(), strict=True)
        ]
        rates = {int(t): 0.01 for t in rng.integers(0, STEPS, 3)}
        series.append(one(bars, rates, maintenance_frac=0.02))
    rules = Rules(
        next_open=bool(seed % 2), intrabar=bool(seed % 3), delay_bars=int(seed % 4 == 3), fee=0.001, entry_slip=0.001
    )
    sizing = Sizing(frac=float(rng.choice([0.3, 4.0])), units=1.0, leverage=10.0)
    return Case(series, rules, plain_values(sizing, CROSS)), sizing


def assert_equal_ends(simulation: ModuleType, case: Case, inputs: Inputs, whole: Book) -> None:
    """Books that keep no record end as the one that does, whatever their tile."""
    for tile in (1, 7, 128):
        book = new_book(simulation, case, tile=tile, log_rows=0, recorded=False)
        simulation.run(*inputs, 0, case.steps, book)
        for name in whole.accounts.dtype.names:
            assert bits(book.accounts[name]) == bits(whole.accounts[name]), name
        assert bits(book.days) == bits(whole.days)


@pytest.mark.parametrize("symbols", [1, 2])
@pytest.mark.parametrize("seed", range(12))
def test_equal_ends(cross_simulation, symbols, seed):
    case, sizing = walk(seed, symbols)
    inputs = inputs_of(ema_cross, case)
    whole = new_book(cross_simulation, case)
    cross_simulation.run(*inputs, 0, STEPS, whole)
    assert whole.accounts[0].fills > 2
    assert_same(
        outcome_of(cross_simulation, whole),
        run_twin(case.symbols, case.rules, sizing, EmaCross(case.symbols, *CROSS)),
    )
    assert_equal_ends(cross_simulation, case, inputs, whole)


@dataclass(frozen=True)
class Quiet:
    """Bars of one symbol, among them many in which nothing happens, wishes by bar, and the fills as (bar, reason)."""

    bars: list[Bar]
    wishes: dict[int, tuple[float, ...]]
    fills: list[tuple[int, str]]
    rules: Rules = field(default_factory=Rules)
    terms: dict[str, float] = field(default_factory=dict)


LONG = (1.0, 0.0, 5.0, 10.0)
ONE_MORE = (1.0, 0.0, 5.0, 10.0, 1.0)
SHORT = (-1.0, 0.0, 5.0, 10.0)
FLAT = candle(100)

CASES = {
    "an order that waits for its time": Quiet([FLAT] * 12, {1: LONG}, [(6, "entry")], Rules(delay_bars=4)),
    "an addition that waits for its time, beside the position": Quiet(
        [*[FLAT] * 13, *[candle(102)] * 7], {0: LONG, 8: ONE_MORE}, [(6, "entry"), (14, "add")], Rules(delay_bars=5)
    ),
    "an addition that lapses, and a flat book after it": Quiet(
        [*[FLAT] * 4, candle(100, 101, 94, 98), *[candle(98)] * 9],
        {0: LONG, 3: ONE_MORE},
        [(3, "entry"), (4, "stop")],
        Rules(delay_bars=2),
    ),
    "a close that waits for its time alone, for the reversal is too small": Quiet(
        [*[FLAT] * 4, *[candle(99)] * 5, *[candle(98)] * 7],
        {0: LONG, 5: SHORT},
        [(4, "entry"), (9, "signal")],
        Rules(delay_bars=3),
        {"min_notional_usd": 100.0},
    ),
    "a reversal that waits, of which a stop leaves one part": Quiet(
        [*[FLAT] * 7, candle(100, 101, 94, 96), *[candle(96)] * 9],
        {0: LONG, 6: SHORT},
        [(5, "entry"), (7, "stop"), (11, "entry")],
        Rules(delay_bars=4),
    ),
    "a target after a long rest": Quiet(
        [*[FLAT] * 13, candle(104, 111, 103, 108), FLAT], {0: LONG}, [(1, "entry"), (13, "target")]
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_a_lone_position_waits_for_comes_in_its_time(lean_simulation, case: Quiet):
    """A strategy that adds and has no exits of its own: its lone positions may be passed over, its orders may not."""
    sizing = Sizing()
    symbols = [one(case.bars, **case.terms)]
    script = script_of({(t, 0): wish for t, wish in case.wishes.items()}, len(case.bars), 1)
    played = Case(symbols, case.rules, plain_values(sizing, NO_CROSS))
    inputs = inputs_of(scripted, played, script_columns(script))
    whole = new_book(lean_simulation, played)
    lean_simulation.run(*inputs, 0, played.steps, whole)
    outcome = outcome_of(lean_simulation, whole)
    assert_same(outcome, run_twin(symbols, case.rules, sizing, Scripted(script)))
    assert [(fill.t, fill.reason) for fill in outcome.fills] == case.fills
    assert_equal_ends(lean_simulation, played, inputs, whole)


def test_a_tile_is_told_for_how_long_nothing_is_asked_and_no_day_ends(scripted_simulation):
    """Days end at steps 3, 7 and 11; the first symbol has signals at 1, 6 and 10, the second at 10."""
    symbols = [one([FLAT] * 12), one([FLAT] * 12)]
    case = Case(symbols, Rules(), plain_values(Sizing(), NO_CROSS))
    script = script_of({(1, 0): LONG, (6, 0): LONG, (10, 0): LONG, (10, 1): LONG}, 12, 2)
    inputs, book = inputs_of(scripted, case, script_columns(script)), new_book(scripted_simulation, case, tile=6)
    told = []
    for first in (0, 6):
        scripted_simulation.run(*inputs, first, first + 6, book)
        told.append((book.steps["signal_count"].tolist(), book.steps["idle"].tolist()))
    assert told == [([0, 1, 0, 0, 0, 0], [1, 0, 1, 0, 2, 1]), ([1, 0, 0, 0, 2, 0], [0, 0, 2, 1, 0, 0])]


def joined(one_set: Inputs, other: Inputs, order: list[int]) -> Inputs:
    """The inputs of two combos of one market as those of combos of two signal groups, in any order."""
    # Joined records must be told again that their fields hide numpy's attributes.
    return one_set._replace(
        columns=np.concatenate([one_set.columns, other.columns]),
        column_of=np.concatenate([one_set.column_of, other.column_of + len(one_set.columns)]),
        signal_params=np.concatenate([one_set.signal_params, other.signal_params]).view(one_set.signal_params.dtype),
        signal_group_of=np.array(order, dtype=np.int64),
        params=np.concatenate([(one_set, other)[e].params for e in order]).view(one_set.params.dtype),
    )


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [1, 1, 0, 0, 1]])
def test_every_combo_gets_the_signals_of_its_signal_group(cross_simulation, order):
    case, sizing = walk(1, 2)
    cases = [case, replace(case, values=plain_values(sizing, (3, 9, *CROSS[2:])))]
    alone = [run_simulation(cross_simulation, ema_cross, each) for each in cases]
    assert alone[0].results != alone[1].results
    book = new_book(cross_simulation, case, combos=len(order), recorded=False)
    cross_simulation.run(*joined(*(inputs_of(ema_cross, each) for each in cases), order), 0, STEPS, book)
    for k, e in enumerate(order):
        assert outcome_of(cross_simulation, book, k=k, fills=False).results == alone[e].results
