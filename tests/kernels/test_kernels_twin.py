"""The compiled engine equals its plain Python twin, to the last bit, whatever happens."""

from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kernel_kit import (
    Scripted,
    assert_same,
    run_cross,
    run_scripted,
    run_twin,
)
from naive import EmaCross
from random_markets import all_rules, all_sizings, scripts, symbol_lists


@examples(max_examples=300)
@given(data=st.data())
def test_a_scripted_book_equals_its_twin(scripted_engine, data):
    symbols = data.draw(symbol_lists())
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    script = data.draw(scripts(symbols))
    first = data.draw(st.integers(0, len(symbols[0].bars)))
    kernel = run_scripted(scripted_engine, symbols, rules, sizing, script, first)
    assert_same(kernel, run_twin(symbols, rules, sizing, Scripted(script), first))


@examples(max_examples=200)
@given(data=st.data())
def test_an_ema_cross_book_equals_its_twin(cross_engine, data):
    symbols = data.draw(symbol_lists(max_bars=120))
    rules, sizing = data.draw(all_rules()), data.draw(all_sizings())
    fast, slow, window = (data.draw(st.integers(1, 9)) for _ in range(3))
    cross = (fast, slow, window, data.draw(st.sampled_from([1, 2, 20])), *(data.draw(st.floats(0.1, 4)) for _ in "st"))
    first = data.draw(st.integers(0, 3))
    kernel = run_cross(cross_engine, symbols, rules, sizing, cross, min(first, len(symbols[0].bars)))
    twin = run_twin(symbols, rules, sizing, EmaCross(symbols, *cross), min(first, len(symbols[0].bars)))
    assert_same(kernel, twin)
