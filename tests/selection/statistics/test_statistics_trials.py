"""The effective number of trials: its ends, its order, and correlations of partly shared days."""

import numpy as np
import pytest

from mei_pipeline.selection.statistics.sharpe import expected_maximum, trials_of_expected_maximum
from mei_pipeline.selection.statistics.trials import (
    align,
    effective_trials,
    effective_trials_of_blocks,
    statistic_correlation,
)


def equicorrelated(trials, correlation):
    return np.full((trials, trials), correlation) + (1.0 - correlation) * np.eye(trials)


@pytest.mark.parametrize("trials", [1, 2, 10, 100, pytest.param(500, marks=pytest.mark.long)])
def test_independent_trials_count_in_full(trials):
    assert effective_trials(np.eye(trials)) == pytest.approx(trials, rel=0.02)


@pytest.mark.parametrize("trials", [1, 2, 50])
def test_copies_are_one_trial(trials):
    assert effective_trials(np.ones((trials, trials))) == 1.0
    assert effective_trials(equicorrelated(trials, 1.0 - 1e-7)) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("correlation", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("trials", [2, 20, 200])
def test_equally_correlated_trials_have_the_maximum_that_theory_says(trials, correlation):
    """max = √r·common + √(1 - r)·own, and the common part has mean 0."""
    expected = trials_of_expected_maximum(float(np.sqrt(1.0 - correlation) * expected_maximum(trials)))
    assert effective_trials(equicorrelated(trials, correlation)) == pytest.approx(expected, rel=0.02)


def test_more_correlation_is_fewer_trials():
    values = [effective_trials(equicorrelated(30, r)) for r in (0.0, 0.1, 0.3, 0.6, 0.9, 0.99, 1.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == 1.0


def test_an_exact_copy_changes_nothing():
    factor = np.random.default_rng(1).normal(size=(12, 5))
    covariance = factor @ factor.T + np.eye(12)
    deviation = np.sqrt(np.diagonal(covariance))
    matrix = covariance / np.outer(deviation, deviation)
    again = np.arange(13) % 12
    assert effective_trials(matrix[np.ix_(again, again)]) == effective_trials(matrix)


def test_groups_of_near_copies_count_as_groups():
    matrix = np.kron(np.eye(8), equicorrelated(25, 0.9999))
    assert effective_trials(matrix) == pytest.approx(8.0, rel=0.05)


def test_a_rule_and_its_reverse_are_luckier_than_two_rules():
    """E|z| = √(2/π) lies between the maxima of two and of three independent trials."""
    assert effective_trials(np.array([[1.0, -1.0], [-1.0, 1.0]])) == pytest.approx(
        trials_of_expected_maximum(np.sqrt(2.0 / np.pi)), rel=1e-6
    )


def test_a_matrix_that_no_trials_can_have_is_mended():
    impossible = np.array([[1.0, 0.9, 0.9], [0.9, 1.0, -0.9], [0.9, -0.9, 1.0]])
    assert np.linalg.eigvalsh(impossible)[0] < 0.0
    assert 1.0 < effective_trials(impossible) < 4.0


def test_the_same_seed_gives_the_same_number():
    matrix = equicorrelated(40, 0.3)
    assert effective_trials(matrix, seed=4) == effective_trials(matrix, seed=4)
    assert effective_trials(matrix, seed=4) != effective_trials(matrix, seed=5)


def test_trials_without_a_statistic_are_not_counted():
    matrix = np.eye(3)
    matrix[1] = matrix[:, 1] = np.nan
    assert effective_trials(matrix) == pytest.approx(2.0, rel=0.02)
    assert np.isnan(effective_trials(np.full((2, 2), np.nan)))
    assert np.isnan(effective_trials(np.empty((0, 0))))


def test_series_are_aligned_by_their_days():
    table = align([np.array([5, 3]), np.array([4, 5])], [np.array([0.5, 0.3]), np.array([1.4, 1.5])])
    np.testing.assert_array_equal(table, [[0.3, np.nan], [np.nan, 1.4], [0.5, 1.5]])
    assert align([], []).shape == (0, 0)


@pytest.mark.parametrize(("days", "returns"), [([1, 1], [0.1, 0.2]), ([1, 2], [0.1]), ([1], [0.1, 0.2])])
def test_a_trial_with_two_returns_for_a_day_is_refused(days, returns):
    with pytest.raises(ValueError, match="trial 0"):
        align([np.array(days)], [np.array(returns)])


def test_correlation_on_common_days_is_the_librarys_times_the_overlap():
    returns = np.random.default_rng(3).normal(size=(100, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]]) * 0.01 + 0.05
    returns[:40, 0] = np.nan
    returns[90:, 1] = np.nan
    common = slice(40, 90)
    expected = np.corrcoef(returns[common].T)[0, 1] * 50 / np.sqrt(60 * 90)
    np.testing.assert_allclose(statistic_correlation(returns), [[1.0, expected], [expected, 1.0]])


def test_correlation_of_statistics_is_that_of_drawn_statistics():
    generator = np.random.default_rng(8)
    common = generator.standard_normal((60, 20_000))
    first, second = common + generator.standard_normal(common.shape), common + generator.standard_normal(common.shape)
    drawn = np.corrcoef(first[:45].sum(axis=0), second[30:].sum(axis=0))[0, 1]
    assert 0.5 * 15 / np.sqrt(45 * 30) == pytest.approx(drawn, abs=0.02)
    returns = np.column_stack([first[:, 0], second[:, 0]])
    returns[45:, 0] = np.nan
    returns[:30, 1] = np.nan
    overlap = np.corrcoef(returns[30:45].T)[0, 1]
    assert statistic_correlation(returns)[0, 1] == pytest.approx(overlap * 15 / np.sqrt(45 * 30))


def test_trials_that_share_nothing_are_independent():
    returns = np.full((20, 3), np.nan)
    generator = np.random.default_rng(2)
    returns[:10, 0], returns[9:, 1], returns[:, 2] = generator.normal(size=10), generator.normal(size=11), 0.0
    returns[15:, 2] = generator.normal(size=5)  # constant on the days that it shares with the first
    matrix = statistic_correlation(returns)
    assert matrix[0, 1] == matrix[0, 2] == 0.0
    assert matrix[1, 2] != 0.0


def test_a_trial_without_variation_has_no_correlation():
    returns = np.random.default_rng(2).normal(0.0, 0.01, (30, 5))
    returns[:, 1] = 0.001
    returns[1:, 2] = np.nan
    returns[:, 3] = np.nan
    returns[3, 4] = np.inf
    matrix = statistic_correlation(returns)
    assert matrix[0, 0] == 1.0
    assert np.isnan(matrix[1:]).all()
    assert np.isnan(matrix[:, 1:]).all()
    assert effective_trials(matrix) == 1.0


def blocks(generator, trials, shared=0.0, volatility=None):
    """Sums and squares of 12 days in each of 16 blocks of trials that share a part of their variance."""
    own, common = generator.standard_normal((16, 12, trials)), generator.standard_normal((16, 12, 1))
    returns = 0.01 * (np.sqrt(shared) * common + np.sqrt(1.0 - shared) * own)
    if volatility is not None:
        returns *= volatility[:, None, None]
    return returns.sum(axis=1), (returns**2).sum(axis=1)


@pytest.mark.parametrize("volatility", [None, np.geomspace(0.3, 3.0, 16)], ids=["calm", "calm to wild"])
@pytest.mark.parametrize("trials", [10, 100, pytest.param(1000, marks=pytest.mark.long)])
def test_independent_trials_count_in_full_by_their_blocks(trials, volatility):
    found = [
        effective_trials_of_blocks(*blocks(np.random.default_rng(seed), trials, 0.0, volatility)) for seed in range(3)
    ]
    assert np.mean(found) == pytest.approx(trials, rel=0.1)
    assert max(found) <= trials * (1.0 + 1e-9)


@pytest.mark.parametrize(("trials", "shared"), [(100, 0.2), (100, 0.5), (500, 0.8)])
def test_correlated_trials_count_by_their_blocks_as_by_their_correlation(trials, shared):
    true = trials_of_expected_maximum(float(np.sqrt(1.0 - shared) * expected_maximum(trials)))
    found = [
        effective_trials_of_blocks(*blocks(np.random.default_rng(seed), trials, shared), 4000) for seed in range(9)
    ]
    assert true / 1.5 < np.median(found) < true * 1.5


def test_copies_are_one_trial_by_their_blocks():
    total, squares = blocks(np.random.default_rng(6), 1)
    assert effective_trials_of_blocks(np.repeat(total, 40, axis=1), np.repeat(squares, 40, axis=1)) == 1.0


def test_trials_that_never_traded_are_not_counted_by_blocks():
    total, squares = blocks(np.random.default_rng(7), 6)
    alone = effective_trials_of_blocks(total, squares)
    total, squares = np.column_stack([total, np.zeros((16, 2))]), np.column_stack([squares, np.zeros((16, 2))])
    total[3, 7] = np.nan
    assert effective_trials_of_blocks(total, squares) == alone
    assert np.isnan(effective_trials_of_blocks(total[:, 6:], squares[:, 6:]))
    assert np.isnan(effective_trials_of_blocks(total[:3], squares[:3]))
    assert np.isnan(effective_trials_of_blocks(np.empty((16, 0)), np.empty((16, 0))))
    assert np.isnan(effective_trials_of_blocks(np.full((16, 2), 0.01), np.full((16, 2), 0.001)))
