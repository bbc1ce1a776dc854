"""Gates that a small universe can't give evidence for."""

import pytest
from policy_kit import selection_of

from mei_pipeline.config.evidence import least_symbols, missing_evidence
from mei_pipeline.config.load import load_config
from mei_pipeline.night.universe import choose_holdout_symbols
from mei_pipeline.settings import CHECKOUT

OTHERS, BEST, SHARE = "min_holdout_symbols_sharpe", "min_sharpe_without_best_symbol", "max_symbol_share"


def gates_of(texts):
    return [next(gate for gate in (OTHERS, BEST, SHARE) if gate in text) for text in texts]


@pytest.mark.parametrize(("symbols", "gates"), [(1, [OTHERS, BEST, SHARE]), (2, [OTHERS]), (5, [OTHERS]), (6, [])])
def test_the_shipped_policy_needs_six_symbols(symbols, gates):
    selection = load_config(CHECKOUT / "config").policy.selection
    assert gates_of(missing_evidence(selection, symbols)) == gates


@pytest.mark.parametrize(
    ("changes", "symbols", "gates"),
    [
        ({"holdout_symbols": 0}, 1, []),
        ({"holdout_symbols": 0, OTHERS: 0}, 20, [OTHERS]),
        ({"holdout_symbols": 1, OTHERS: 0, BEST: 0, SHARE: 0.5}, 2, [BEST, SHARE]),  # one held out leaves one
        ({"holdout_symbols": 1, OTHERS: 0, BEST: 0, SHARE: 0.5}, 3, []),
        ({"holdout_symbols": 3, BEST: 0}, 1, [BEST]),
    ],
)
def test_a_gate_that_is_not_asked_for_needs_no_evidence(changes, symbols, gates):
    assert gates_of(missing_evidence(selection_of(**changes), symbols)) == gates


@pytest.mark.parametrize("others", range(5))
def test_as_many_symbols_are_needed_as_a_night_needs_to_hold_some_out(others):
    selection = selection_of(holdout_symbols=others, **{OTHERS: 0})
    for symbols in range(1, 12):
        names = [f"S{number}" for number in range(symbols)]
        assert bool(choose_holdout_symbols(names, others)) == (
            OTHERS not in gates_of(missing_evidence(selection, symbols))
        )
    assert least_symbols(selection) == 2 * others


def test_a_text_says_what_is_asked_for_what_there_is_and_what_to_do():
    (text,) = missing_evidence(selection_of(holdout_symbols=3, **{OTHERS: 0}), 4)
    assert "selection.gates.min_holdout_symbols_sharpe" in text
    assert "holdout_symbols: 3 holds out none of 4, it needs at least 6" in text
    assert "set the gate to null" in text
