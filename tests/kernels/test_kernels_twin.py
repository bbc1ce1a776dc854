"""The compiled simulation equals its plain Python twin, to the last bit, whatever happens."""

from dataclasses import replace

from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st
from kernel_kit import (
    Scripted,
    assert_same,
    run_cross,
    run_scripted,
    run_twin,
)
from naive import EmaCross
from random_markets import CLOCKS, all_rules, all_sizings, on_clock, scripts, symbol_lists


@examples(250)
@given(data=st.data())
def test_a_scripted_book_equals_its_twin(scripted_simulation, data):
    symbols = data.draw(symbol_lists())
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    script = data.draw(scripts(symbols))
    first = data.draw(st.integers(0, len(symbols[0].bars)))
    kernel = run_scripted(scripted_simulation, symbols, rules, sizing, script, first)
    assert_same(kernel, run_twin(symbols, rules, sizing, Scripted(script), first))


@examples(150)
@given(data=st.data())
def test_an_ema_cross_book_equals_its_twin(cross_simulation, data):
    clock = data.draw(st.sampled_from(CLOCKS))
    symbols = [on_clock(symbol, clock) for symbol in data.draw(symbol_lists(max_bars=120))]
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    fast, slow, window = (data.draw(st.integers(1, 9)) for _ in range(3))
    cross = (fast, slow, window, data.draw(st.sampled_from([1, 2, 20])), *(data.draw(st.floats(0.1, 4)) for _ in "st"))
    first = min(data.draw(st.integers(0, 3)), len(symbols[0].bars))
    kernel = run_cross(cross_simulation, symbols, rules, sizing, cross, first, clock)
    assert_same(kernel, run_twin(symbols, rules, sizing, EmaCross(symbols, *cross, clock), first, clock))


@examples(60)
@given(data=st.data())
def test_an_ema_cross_knows_nothing_that_comes_later(cross_simulation, data):
    clock = data.draw(st.sampled_from(CLOCKS))
    symbols = data.draw(symbol_lists(max_bars=120))
    steps = len(symbols[0].bars)
    t = data.draw(st.integers(0, steps))
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    cross = (2, 5, 3, 1, 1.5, 2.5)
    others = data.draw(symbol_lists(max_bars=120))
    late = [others[s % len(others)].bars[:steps] for s in range(len(symbols))]
    changed = [
        replace(symbol, bars=[*symbol.bars[:t], *bars[t:], *[None] * (steps - max(t, len(bars)))])
        for symbol, bars in zip(symbols, late, strict=True)
    ]
    one_way, other_way = (
        run_cross(cross_simulation, [on_clock(symbol, clock) for symbol in these], rules, sizing, cross, 0, clock)
        for these in (symbols, changed)
    )
    assert [fill for fill in one_way.fills if fill.t < t] == [fill for fill in other_way.fills if fill.t < t]
    assert one_way.equity[:t] == other_way.equity[:t]
