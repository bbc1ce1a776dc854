"""`ema_cross` with one unit on one symbol does what its definition says, told in forty lines of plain Python."""

import itertools
import math

import numpy as np
import pytest
from kernel_kit import Case, candle, inputs_of, new_book, one, plain_values, run_cross
from naive import Bar, Rules, Sizing, one_unit

from kernels.strategies import ema_cross

FEE = 0.00045
BIG = Rules(fee=FEE, initial_usd=1e6)
UNIT = Sizing(units=1.0, leverage=50.0)


def walk(bars: int, seed: int) -> list[Bar]:
    """Prices to the cent, with real extremes and opens that gap a little."""
    rng = np.random.default_rng(seed)
    inside = np.exp(np.cumsum(rng.normal(0, 0.006 / math.sqrt(12), bars * 12)) + math.log(30_000)).reshape(bars, 12)
    opens = np.concatenate(([30_000.0], inside[:-1, -1])) * np.exp(rng.normal(0, 0.0002, bars))
    highs, lows = np.maximum(inside.max(1), opens), np.minimum(inside.min(1), opens)
    return [Bar(*row) for row in np.round(np.column_stack((opens, highs, lows, inside[:, -1])), 2).tolist()]


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_profit_trades_and_drawdown_of_every_combo(cross_simulation, seed):
    bars = walk(1500, seed)
    symbols = [one(bars, lots=10_000.0)]
    for fast, slow, sl, tp in itertools.product([5, 12, 25], [30, 80], [1.0, 3.0], [1.5, 4.0]):
        outcome = run_cross(cross_simulation, symbols, BIG, UNIT, (fast, slow, 14, 200, sl, tp))
        profit, trades, drawdown = one_unit(bars, fast, slow, sl, tp, FEE)
        assert outcome.results["trades"] == trades > 5
        assert outcome.results["equity_usd"] - 1e6 == pytest.approx(profit, abs=1e-6)
        assert outcome.results["max_drawdown_usd"] == pytest.approx(drawdown, abs=1e-6)


@pytest.mark.parametrize(("cross_at", "entries"), [(199, []), (200, [(201, 1.0)]), (201, [(202, 1.0)])])
def test_the_first_signal_is_at_the_bar_with_200_before_it(cross_simulation, cross_at, entries):
    bars = [candle(100 - 0.1 * t) if t < cross_at else candle(500, 500, 400, 500) for t in range(205)]
    outcome = run_cross(cross_simulation, [one(bars)], BIG, UNIT, (1, 50, 14, 200, 50.0, 50.0))
    assert [(fill.t, fill.size) for fill in outcome.fills] == entries


def test_the_warm_up_counts_the_bars_of_the_symbol_itself(cross_simulation):
    late = [None] * 3 + [candle(50 - t) if t < 6 else candle(90) for t in range(9)]
    holes = [
        candle(50),
        None,
        candle(49),
        None,
        candle(48),
        candle(47),
        candle(46),
        candle(90),
        candle(90),
        None,
        None,
        None,
    ]
    outcome = run_cross(cross_simulation, [one(late), one(holes)], BIG, UNIT, (1, 3, 2, 5, 50.0, 50.0))
    assert [(fill.t, fill.s) for fill in outcome.fills] == [(8, 1), (10, 0)]


def test_stop_and_target_hang_on_the_atr_of_the_signal(cross_simulation):
    # Flat, then one bar that closes at 110 with a range of 20: ATR(2) there is (4 + 20) / 2 = 12.
    quiet = [candle(100, 102, 98, 100)] * 3
    signal = candle(100, 115, 95, 110)
    bars = [*quiet, signal, candle(111, 116, 110, 112), candle(112, 150, 112, 140)]
    # The mean of one bar is above the mean of three at bar 3; 1.5 * 12 = 18 below and 24 above the fill at 111.
    outcome = run_cross(cross_simulation, [one(bars)], BIG, UNIT, (1, 3, 2, 2, 1.5, 2.0))
    assert [(f.t, f.reason, f.price) for f in outcome.fills] == [(4, "entry", 111), (5, "target", 135)]
    bars[5] = candle(112, 113, 90, 95)
    outcome = run_cross(cross_simulation, [one(bars)], BIG, UNIT, (1, 3, 2, 2, 1.5, 2.0))
    assert [(f.t, f.reason, f.price) for f in outcome.fills] == [(4, "entry", 111), (5, "stop", 93)]


def test_stops_are_tested_at_closes_where_the_market_says_so(cross_simulation):
    """Bought at 110 with an ATR of 12: a low of 80 and a high of 150 do nothing, a close of 140 is above 134."""
    quiet = [candle(100, 102, 98, 100)] * 3
    bars = [*quiet, candle(100, 115, 95, 110), candle(112, 150, 80, 112), candle(112, 141, 111, 140)]
    rules = Rules(next_open=False, intrabar=False, fee=FEE, initial_usd=1e6)
    outcome = run_cross(cross_simulation, [one(bars)], rules, UNIT, (1, 3, 2, 2, 1.5, 2.0))
    assert [(f.t, f.reason, f.price) for f in outcome.fills] == [(3, "entry", 110), (5, "target", 140)]


def test_prices_that_never_move_give_no_signal(cross_simulation):
    outcome = run_cross(cross_simulation, [one([candle(100)] * 60)], BIG, UNIT, (2, 5, 3, 1, 1.0, 1.0))
    assert outcome.fills == []


def test_a_full_log_counts_on_so_that_its_size_is_known(cross_simulation):
    bars = walk(600, 5)
    symbols, cross = [one(bars)], (5, 30, 14, 200, 1.0, 1.5)
    full = run_cross(cross_simulation, symbols, BIG, UNIT, cross)
    case = Case(symbols, BIG, plain_values(UNIT, cross))
    book = new_book(cross_simulation, case, log_rows=3)
    cross_simulation.run(*inputs_of(ema_cross, case), 0, case.steps, book)
    assert int(book.accounts[0].logged) == len(full.fills) > 3
    assert book.log["price"].tolist() == [fill.price for fill in full.fills[:3]]
    assert book.equity.tolist() == full.equity
