"""A lane whose fills come from a broker equals the run of a sweep to the last bit, and within limits the twin."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import scripted
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st
from kernel_kit import NO_CROSS, Case, Inputs, Scripted, bits, inputs_of, new_book, plain_values, script_columns
from lane_kit import WAITS, assert_equal_books, follow, new_lane
from naive import Book, Bounds
from random_markets import BOLD, CLOCKS, all_rules, all_sizings, on_clock, random_case, scripts, symbol_lists

from kernels import bind
from kernels.strategies import load
from kernels.turn import limits_of


def assert_followed(drivers: ModuleType, case: Case, inputs: Inputs) -> int:
    """Run a case, and follow it step by step; returns the number of fills."""
    whole = new_book(drivers, case)
    drivers.run(*inputs, case.first, case.steps, whole)
    lane = new_lane(drivers, inputs, case.rules.initial_usd)
    for _ in follow(lane, inputs, case.first, case.steps):
        pass
    assert_equal_books(lane.book, whole, WAITS)
    assert_equal_books(lane.broker, whole, ("refused",))
    assert bits(lane.equity) == bits(whole.equity[case.first :])
    assert lane.verdicts == whole.verdicts[case.first :].tolist()
    return int(whole.accounts[0]["fills"])


@examples(100)
@given(data=st.data())
def test_a_lane_of_a_script_equals_its_run(scripted_drivers, data):
    clock = data.draw(st.sampled_from(CLOCKS))
    symbols = [on_clock(symbol, clock) for symbol in data.draw(symbol_lists(max_bars=40))]
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    script = data.draw(scripts(symbols))
    case = Case(symbols, rules, plain_values(sizing, NO_CROSS), clock=clock)
    assert_followed(scripted_drivers, case, inputs_of(scripted, case, script_columns(script)))


@pytest.mark.parametrize("name", ["ema_cross", "mei_alpha"])
def test_a_lane_of_a_strategy_equals_its_run(name):
    """Every other book is liquidated, sooner or later."""
    fills = 0
    strategy, drivers = load(name), bind.executor(name)
    for seed in range(8):
        case = random_case(np.random.default_rng(seed), strategy.PARAMETERS)
        changes = {"entry.warmup_bars": 1, **(BOLD if seed % 2 else {})}
        known = {path: value for path, value in changes.items() if path in case.values}
        case = replace(case, values={**case.values, **known})
        fills += assert_followed(drivers, case, inputs_of(strategy, case))
    assert fills > 20


@st.composite
def bounds_by_step(draw, steps: int, symbols: int) -> list[Bounds]:
    """Bounds that hold back some of the book's margin, places and symbols, at some of the steps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [
        Bounds(
            float(rng.choice([0.0, 0.0, 3000.0])),
            int(rng.choice([0, 0, 1, 3])),
            float(rng.choice([0.0, 0.0, 5000.0, -2000.0])),
            bool(rng.random() < 0.1),
            frozenset(np.flatnonzero(rng.random(symbols) < 0.3).tolist()),
        )
        for _ in range(steps)
    ]


@examples(60)
@given(data=st.data())
def test_a_lane_within_limits_equals_the_twin_within_them(scripted_drivers, data):
    symbols = data.draw(symbol_lists(max_bars=40))
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    script, steps = data.draw(scripts(symbols)), len(symbols[0].bars)
    bounds = data.draw(bounds_by_step(steps, len(symbols)))
    case = Case(symbols, rules, plain_values(sizing, NO_CROSS))
    inputs = inputs_of(scripted, case, script_columns(script))

    def limits(t):
        mask = [s not in bounds[t].blocked for s in range(len(symbols))]
        return limits_of(
            reserved_margin_usd=bounds[t].margin_usd,
            reserved_places=bounds[t].places,
            other_usd=bounds[t].other_usd,
            late=bounds[t].late,
            may_enter=() if all(mask) else mask,
        )

    lane = new_lane(scripted_drivers, inputs, rules.initial_usd)
    for _ in follow(lane, inputs, 0, steps, limits):
        pass
    twin = Book(symbols, rules, sizing, Scripted(script), bounds=bounds.__getitem__).run(0, steps)
    assert bits(lane.equity) == bits(twin.equity)
    results = twin.results()
    account = lane.book.accounts[0]
    assert (account["fills"], account["refused"]) == (results["fills"], results["refused"])
