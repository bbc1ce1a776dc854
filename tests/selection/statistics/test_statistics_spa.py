"""Hansen's test against `arch`, on noise, with an edge, and without evidence."""

import numpy as np
import pytest
from scipy import stats

from mei_pipeline.selection.statistics.spa import spa


def library(excess, block, draws=4000):
    """`arch` on excess returns that are divided by their deviation: it does not studentise its statistic itself."""
    days = len(excess)
    centred = excess - excess.mean(axis=0)
    lags = np.arange(1, days)
    stay = 1.0 - 1.0 / block
    kernel = (1.0 - lags / days) * stay**lags + lags / days * stay ** (days - lags)
    products = np.array([(centred[lag:] * centred[: days - lag]).sum(axis=0) for lag in lags])
    deviation = np.sqrt(((centred**2).sum(axis=0) + 2.0 * kernel @ products) / days)
    from arch.bootstrap import SPA

    test = SPA(np.zeros(days), -excess / deviation, block_size=block, reps=draws, seed=1)
    test.compute()
    return test.pvalues


def strategies(seed, count=12, days=250, edge=0.0):
    """Of different size and quality: the worst are far below the benchmark."""
    scale = np.geomspace(0.002, 0.05, count)
    quality = np.linspace(-0.5, 0.0, count)
    quality[count // 2] = edge
    return scale * (np.random.default_rng(seed).standard_normal((days, count)) + quality)


@pytest.mark.parametrize(("seed", "edge"), [(1, 0.0), (2, 0.1), (3, 0.15), (4, 0.0)])
def test_p_values_are_those_of_arch(seed, edge):
    returns = strategies(seed, edge=edge)
    expected = library(returns, 5)
    found = spa(returns, block_days=5.0)
    assert found.p_lower == pytest.approx(expected["lower"], abs=0.03)
    assert found.p_consistent == pytest.approx(expected["consistent"], abs=0.03)
    assert found.p_upper == pytest.approx(expected["upper"], abs=0.03)
    assert found.p_lower <= found.p_consistent <= found.p_upper


def test_one_strategy_is_the_test_of_its_mean():
    returns = 0.01 * np.random.default_rng(9).standard_normal((400, 1))
    returns += 0.0008 - returns.mean()
    found = spa(returns, block_days=1.0)
    expected = stats.norm.sf(0.0008 / returns.std() * np.sqrt(400))
    assert found.statistic == pytest.approx(0.0008 / returns.std() * np.sqrt(400))
    assert found.p_consistent == pytest.approx(expected, abs=0.015)


@pytest.mark.long
def test_it_rejects_too_often_by_no_more_than_chance_where_nothing_is_better():
    p = [
        spa(0.01 * np.random.default_rng(seed).standard_normal((200, 10)), draws=400).p_consistent
        for seed in range(200)
    ]
    assert np.mean(np.array(p) < 0.1) < 0.17
    assert 0.4 < np.mean(p) < 0.6


def test_a_real_edge_is_seen_and_named():
    found = spa(strategies(5, edge=0.4), draws=2000)
    assert found.best == 6
    assert found.p_consistent < 0.01
    assert found.p_lower == pytest.approx(1.0 / 2001.0)


def test_an_edge_over_nothing_is_none_over_a_better_benchmark():
    generator = np.random.default_rng(6)
    basket = 0.01 * generator.standard_normal(300) + 0.004
    returns = basket[:, None] + 0.002 * generator.standard_normal((300, 3)) - 0.001
    assert spa(returns, draws=1000).p_consistent < 0.01
    assert spa(returns, basket, draws=1000).p_consistent == 1.0


def test_where_none_is_better_nothing_is_rejected():
    found = spa(-0.01 + 0.001 * np.random.default_rng(7).standard_normal((100, 4)), draws=200)
    assert (found.p_lower, found.p_consistent, found.p_upper, found.statistic) == (1.0, 1.0, 1.0, 0.0)


def test_poor_strategies_weigh_on_the_upper_value_only():
    """White's reality check can be spoiled by adding poor strategies, the consistent value cannot."""
    generator = np.random.default_rng(8)
    good = 0.01 * generator.standard_normal((250, 1))
    good += 0.0014 - good.mean()
    poor = 0.01 * generator.standard_normal((250, 60)) - 0.01
    alone, crowd = spa(good, draws=3000), spa(np.column_stack([good, poor]), draws=3000)
    assert crowd.p_consistent == pytest.approx(alone.p_consistent, abs=0.02)
    assert crowd.p_upper > alone.p_upper + 0.1


def test_a_strategy_that_equals_the_benchmark_is_left_out():
    returns = strategies(10)
    basket = returns[:, 3].copy()
    found = spa(returns, basket, block_days=3.0, draws=500)
    others = np.delete(returns, 3, axis=1)
    assert found.p_consistent == spa(others, basket, block_days=3.0, draws=500).p_consistent


def test_the_same_seed_gives_the_same_p_values():
    returns = strategies(11)
    assert spa(returns, draws=300, seed=1) == spa(returns, draws=300, seed=1)
    assert spa(returns, draws=300, seed=1) != spa(returns, draws=300, seed=2)


@pytest.mark.parametrize(
    "returns",
    [
        np.zeros((50, 3)),
        np.full((50, 1), 0.01),
        np.empty((50, 0)),
        np.array([[0.1], [0.2]]),
        np.array([[0.1], [np.nan], [0.2]]),
    ],
    ids=["zero", "constant", "no strategy", "two days", "nan"],
)
def test_without_evidence_there_is_no_p_value(returns):
    found = spa(returns)
    assert np.isnan([found.p_lower, found.p_consistent, found.p_upper, found.statistic, found.block_days]).all()
    assert found.best == -1
