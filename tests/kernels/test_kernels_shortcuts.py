"""A book that keeps no record passes over what is quiet, and ends as one that takes every step."""

import numpy as np
import pytest
from kernel_kit import Case, bits, inputs_of, new_book, one, plain_values
from naive import Bar, Rules, Sizing

from kernels.strategies import load

CROSS = (2, 5, 3, 1, 1.5, 2.5)
STEPS = 70


def walk(seed: int, symbols: int) -> Case:
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
    return Case(series, rules, plain_values(sizing, CROSS))


@pytest.mark.parametrize("symbols", [1, 2])
@pytest.mark.parametrize("seed", range(12))
def test_equal_ends(cross_engine, symbols, seed):
    case = walk(seed, symbols)
    inputs = inputs_of(load("ema_cross"), case)
    whole = new_book(cross_engine, case)
    cross_engine.run(*inputs, 0, STEPS, whole)
    assert whole.accounts[0].fills > 2
    for tile in (1, 7, 128):
        book = new_book(cross_engine, case, tile=tile, log_rows=0, recorded=False)
        cross_engine.run(*inputs, 0, STEPS, book)
        for name in whole.accounts.dtype.names:
            assert bits(book.accounts[name]) == bits(whole.accounts[name]), name
        assert bits(book.days) == bits(whole.days)
