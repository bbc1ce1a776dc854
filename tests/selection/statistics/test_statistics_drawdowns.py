"""Drawdowns of shuffled trades."""

from itertools import permutations

import numpy as np
import pytest

from mei_pipeline.selection.statistics.drawdowns import max_drawdown_frac, monte_carlo_drawdowns


@pytest.mark.parametrize(
    ("profits", "expected"),
    [([100.0, -50.0, 20.0], 50 / 1100), ([-100.0, 300.0, -60.0], 0.1), ([5.0, 5.0], 0.0), ([-1500.0], 1.5), ([], 0.0)],
)
def test_a_drawdown_is_measured_from_the_peak_before_it(profits, expected):
    assert float(max_drawdown_frac(np.array(profits), 1000.0)) == pytest.approx(expected)


def test_drawdowns_of_many_orders_at_once():
    rows = np.array([[100.0, -50.0], [-50.0, 100.0]])
    np.testing.assert_allclose(max_drawdown_frac(rows, 1000.0), [50 / 1100, 0.05])


def test_shuffles_draw_every_order_equally_often():
    profits = np.array([-40.0, 100.0, -10.0, 25.0, -70.0])
    every = np.sort([float(max_drawdown_frac(np.array(order), 1000.0)) for order in permutations(profits)])
    found = monte_carlo_drawdowns(profits, 1000.0, draws=20_000)
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(found.shuffled, share) == pytest.approx(np.quantile(every, share), abs=0.003)
    assert found.shuffled.mean() == pytest.approx(every.mean(), rel=0.02)


def test_a_lucky_and_an_unlucky_order_lie_at_the_ends():
    wins, losses = np.full(30, 12.0), np.full(30, -10.0)
    unlucky = monte_carlo_drawdowns(np.concatenate([wins, losses]), 1000.0, draws=2000)
    lucky = monte_carlo_drawdowns(np.column_stack([wins, losses]).ravel(), 1000.0, draws=2000)
    assert unlucky.smaller_frac > 0.99
    assert lucky.smaller_frac < 0.01
    assert unlucky.realised == pytest.approx(300 / 1360)


def test_a_typical_order_lies_anywhere():
    shares = []
    for seed in range(200):
        profits = np.random.default_rng(seed).normal(1.0, 20.0, 40)
        shares.append(monte_carlo_drawdowns(profits, 1000.0, draws=200, seed=seed).smaller_frac)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.07)


def test_the_same_seed_gives_the_same_shuffles_and_many_come_in_batches():
    profits = np.random.default_rng(1).normal(1.0, 20.0, 600)
    first, again, other = (monte_carlo_drawdowns(profits, 1000.0, 2000, seed).shuffled for seed in (1, 1, 2))
    assert len(first) == 2000
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("profits", [[-30.0], [10.0] * 5, [-10.0] * 5], ids=["one trade", "equal wins", "equal losses"])
def test_where_every_order_is_the_same_the_share_is_one_half(profits):
    found = monte_carlo_drawdowns(np.array(profits), 1000.0, draws=50)
    assert found.smaller_frac == 0.5
    np.testing.assert_array_equal(found.shuffled, found.realised)


@pytest.mark.parametrize("profits", [[], [1.0, np.nan], [np.inf, 1.0]], ids=["none", "nan", "infinite"])
def test_without_trades_there_is_no_evidence(profits):
    found = monte_carlo_drawdowns(np.array(profits), 1000.0)
    assert np.isnan([found.realised, found.smaller_frac]).all()
    assert len(found.shuffled) == 0
