"""The common work is the same for every program: known prices, known trades, and the results of plain Python."""

import numpy as np
import pytest
from naive import Bar, one_unit

from mei_pipeline.bench import w1
from mei_pipeline.bench.work import BenchWork, run_work, sample, widened

FEE = w1.FEE_BPS / 10_000.0


@pytest.fixture(scope="module")
def whole():
    return w1.make()


def test_the_prices_are_those_of_the_seed():
    prices = w1.prices()
    assert prices.shape == (17_520, 4)
    assert prices[0].tolist() == [29995.39, 30084.96, 29896.06, 29896.06]
    assert prices[-1].tolist() == [86069.07, 86225.24, 85504.79, 85957.17]
    assert (prices[:, 1] >= prices.max(axis=1)).all()
    assert (prices[:, 2] <= prices.min(axis=1)).all()


def test_another_symbol_has_other_prices():
    assert not np.array_equal(w1.prices(400, 0), w1.prices(400, 1))


def test_combos_trade_as_often_as_in_every_program(whole, mei_settings):
    figures, outcome = run_work(mei_settings, whole, "w1", repeats=2)
    assert (figures.combos, figures.steps, figures.symbols, figures.signal_groups) == (1024, 17_520, 1, 64)
    assert (figures.device, figures.repeats, figures.axes) == ("cpu", 2, 4)
    assert figures.trades_mean == outcome.results["trades"].mean() == 408.984375
    assert figures.bar_steps_per_s == pytest.approx(17_520 * 1024 / figures.seconds)
    assert figures.seconds == pytest.approx(figures.features_s + figures.encode_s + figures.simulate_s)


def test_more_combos_than_the_work_has_widen_its_exits_alone():
    work = w1.make(480, 5_000)
    axes = dict(work.plan.axes)
    assert len(set(work.numbers.tolist())) == 5_000
    assert axes["trade.sl_atr_mult"][:5] == (1.0, 1.125, 1.25, 1.375, 1.5)
    assert axes["trade.tp_atr_mult"] == (1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0)
    for path, values in w1.GRID.items():
        assert set(values) <= set(axes[path])
        assert path.startswith("trade.") or len(values) == len(axes[path])


def test_a_work_is_not_widened_without_need(whole):
    assert widened(w1.SPEC, 1_024).axes == w1.SPEC.axes
    assert len(whole.plan.axes) == 4


def test_results_are_those_of_plain_python(whole, mei_settings):
    few = BenchWork(whole.bars, whole.cut, whole.plan, np.array([0, 341, 700, 1023]))
    _, outcome = run_work(mei_settings, few, "w1")
    values = {path: of.to_list() for path, of in few.plan.axis_values(few.numbers).items()}
    bars = [Bar(*row) for row in w1.prices().tolist()]
    for k in range(len(few.numbers)):
        combo = (values[path][k] for path in w1.GRID)
        profit, trades, drawdown = one_unit(bars, *combo, FEE)
        assert outcome.results["trades"][k] == trades > 100
        assert outcome.results["equity_usd"][k] - w1.BALANCE_USD == pytest.approx(profit, abs=1e-6)
        assert outcome.results["max_drawdown_usd"][k] == pytest.approx(drawdown, abs=1e-6)


def test_less_work_is_whole_days_and_neighbouring_combos():
    work = w1.make(bars=400, combos=10)
    assert (work.steps, work.numbers.tolist()) == (408, list(range(10)))


def test_threads_do_not_change_results(mei_settings):
    work = w1.make(bars=1_000, combos=96)
    (one, first), (two, second) = (run_work(mei_settings, work, "w1", threads=threads) for threads in (1, 2))
    assert (one.threads, two.threads) == (1, 2)
    assert all(np.array_equal(first.results[name], second.results[name]) for name in first.results)


@pytest.mark.parametrize(("total", "wanted"), [(4096, 4096), (4096, 100), (1000, 640), (5, 9), (64, 1)])
def test_a_sample_takes_different_combos_from_all_over_the_grid(total, wanted):
    found = sample(total, wanted)
    assert len(found) == len(set(found)) == min(total, wanted)
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] < total
    assert found[-1] >= total * (1 - 64 / len(found)) - 64 or len(found) < 64
