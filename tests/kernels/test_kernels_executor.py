"""A lane whose fills come from a broker's book equals the run of a sweep, to the last bit."""

from types import ModuleType

import scripted
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st
from kernel_kit import NO_CROSS, Case, Inputs, bits, inputs_of, new_book, plain_values, script_columns
from lane_kit import WAITS, assert_equal_books, follow, new_lane
from random_markets import CLOCKS, all_rules, all_sizings, on_clock, scripts, symbol_lists


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


@examples(60)
@given(data=st.data())
def test_a_lane_of_any_strategy_equals_its_run(scripted_drivers, data):
    clock = data.draw(st.sampled_from(CLOCKS))
    symbols = [on_clock(symbol, clock) for symbol in data.draw(symbol_lists(max_bars=40))]
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    script = data.draw(scripts(symbols))
    case = Case(symbols, rules, plain_values(sizing, NO_CROSS), clock=clock)
    assert_followed(scripted_drivers, case, inputs_of(scripted, case, script_columns(script)))
