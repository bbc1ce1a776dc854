"""Sharpe statistics: the papers' figures, what trials without edge give, and degenerate records."""

import numpy as np
import pytest
from scipy import integrate, stats

from mei_pipeline.selection.statistics.sharpe import (
    ReturnStatistics,
    deflated_sharpe,
    expected_maximum,
    probabilistic_sharpe,
    return_statistics,
    return_statistics_of_sums,
    trials_of_expected_maximum,
)
from mei_pipeline.sweep.metrics import sharpe

PAPER = ReturnStatistics(np.array(1250.0), np.array(2.5 / np.sqrt(250.0)), np.array(-3.0), np.array(10.0))
PAPER_VARIANCE = 0.5 / 250.0  # of annual Sharpe ratios 1/2, in a year of 250 days


def expected_maximum_gumbel(trials):
    """The approximation that is printed in the paper on the deflated Sharpe ratio, equation 1."""
    high = stats.norm.ppf(1.0 - np.exp(-1.0) / trials)
    return (1.0 - np.euler_gamma) * stats.norm.ppf(1.0 - 1.0 / trials) + np.euler_gamma * high


def test_a_track_record_is_what_the_library_measures():
    returns = np.random.default_rng(1).standard_t(5, size=(300, 4)) * 0.01 + 0.001
    record = return_statistics(returns)
    np.testing.assert_allclose(record.sharpe, returns.mean(axis=0) / returns.std(axis=0, ddof=1))
    np.testing.assert_allclose(record.skewness, stats.skew(returns))
    np.testing.assert_allclose(record.kurtosis, stats.kurtosis(returns, fisher=False))
    np.testing.assert_allclose(record.annual, record.sharpe * np.sqrt(365.0))
    np.testing.assert_array_equal(record.days, 300.0)


def test_sums_give_the_sharpe_ratio_of_the_returns_and_of_the_sweep():
    returns = np.random.default_rng(2).normal(0.001, 0.01, (100, 3))
    n, total, squares = np.full(3, 100.0), returns.sum(axis=0), (returns**2).sum(axis=0)
    record = return_statistics_of_sums(n, total, squares)
    np.testing.assert_allclose(record.sharpe, return_statistics(returns).sharpe)
    np.testing.assert_allclose(record.annual, sharpe(n, total, squares))
    assert (record.skewness, record.kurtosis) == (0.0, 3.0)


def test_the_example_of_the_deflated_sharpe_ratio_is_the_papers():
    assert float(np.sqrt(PAPER_VARIANCE) * expected_maximum_gumbel(100)) == pytest.approx(0.1132, abs=5e-5)
    assert float(deflated_sharpe(PAPER, 100, PAPER_VARIANCE, expected_maximum_gumbel)) == pytest.approx(
        0.9004, abs=5e-5
    )
    assert float(deflated_sharpe(PAPER, 46, PAPER_VARIANCE, expected_maximum_gumbel)) == pytest.approx(0.9505, abs=5e-5)
    normal = ReturnStatistics(PAPER.days, PAPER.sharpe, np.array(0.0), np.array(3.0))
    assert float(deflated_sharpe(normal, 88, PAPER_VARIANCE, expected_maximum_gumbel)) == pytest.approx(
        0.9505, abs=5e-5
    )


def test_the_exact_maximum_deflates_a_little_less_than_the_papers_approximation():
    exact = float(deflated_sharpe(PAPER, 100, PAPER_VARIANCE))
    assert exact == pytest.approx(0.9054, abs=5e-5)


def test_one_trial_is_not_deflated():
    assert float(deflated_sharpe(PAPER, 1, PAPER_VARIANCE)) == pytest.approx(
        float(probabilistic_sharpe(PAPER)), rel=1e-12
    )


@pytest.mark.parametrize(
    ("trials", "value"),
    [
        (1, 0.0),
        (2, 1 / np.sqrt(np.pi)),
        (3, 1.5 / np.sqrt(np.pi)),
        (5, 1.1629644736),
        (10, 1.5387527308),
        (100, 2.5075936),
    ],
)
def test_expected_maxima_are_those_of_the_tables(trials, value):
    assert float(expected_maximum(trials)) == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("trials", [1.3, 2.5, 77.7, 1e6, 1e12])
def test_expected_maxima_of_any_number_are_those_of_quadrature(trials):
    def survival(x):
        return -np.expm1(trials * stats.norm.logcdf(x))

    above, _ = integrate.quad(survival, 0.0, 12.0, epsabs=1e-12, limit=200)
    below, _ = integrate.quad(lambda x: np.exp(trials * stats.norm.logcdf(x)), -12.0, 0.0, epsabs=1e-12, limit=200)
    assert float(expected_maximum(trials)) == pytest.approx(above - below, abs=1e-9)


def test_the_expected_maximum_rises_from_one_trial_on():
    values = expected_maximum(np.concatenate([np.linspace(1.0, 3.0, 50), np.geomspace(3.1, 1e20, 200)]))
    assert values[0] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(values) > 0.0).all()
    assert values[-1] == pytest.approx(float(stats.norm.isf(1e-20)), rel=0.01)


def test_maxima_of_impossible_numbers_are_no_evidence():
    assert np.isnan(expected_maximum([0.0, 0.99, np.nan, 1e21])).all()


@pytest.mark.parametrize("trials", [1.5, 2.0, 30.0, 36_864.0, 1e15])
def test_the_number_of_trials_is_found_back_from_their_maximum(trials):
    assert trials_of_expected_maximum(float(expected_maximum(trials))) == pytest.approx(trials, rel=1e-9)


def test_the_number_of_trials_has_ends():
    assert trials_of_expected_maximum(0.0) == 1.0
    assert trials_of_expected_maximum(-1.0) == 1.0
    assert trials_of_expected_maximum(50.0) == pytest.approx(1e20)
    assert np.isnan(trials_of_expected_maximum(np.nan))


@pytest.mark.parametrize("tails", ["normal", "fat"])
def test_the_probabilistic_sharpe_ratio_of_a_trial_without_edge_is_uniform(tails):
    generator = np.random.default_rng(11)
    shape = (280, 4000)
    returns = generator.standard_normal(shape) if tails == "normal" else generator.standard_t(6, shape)
    values = probabilistic_sharpe(return_statistics(0.01 * returns))
    assert stats.kstest(values, "uniform").pvalue > 0.05


def test_the_probabilistic_sharpe_ratio_asks_for_more_where_losses_are_rare_and_large():
    plain, skewed = (
        ReturnStatistics(np.array(250.0), np.array(0.1), np.array(s), np.array(k)) for s, k in ((0, 3), (-3, 15))
    )
    assert probabilistic_sharpe(skewed) < probabilistic_sharpe(plain)


def best_of(generator, trials, days, draws):
    """Records of the best of so many trials without edge, and the variance of the Sharpe ratios among them."""
    returns = 0.01 * generator.standard_normal((days, draws, trials))
    record = return_statistics(returns)
    best = record.sharpe.argmax(axis=1)[:, None]
    fields = (
        np.take_along_axis(field, best, axis=1)[:, 0]
        for field in (record.days, record.sharpe, record.skewness, record.kurtosis)
    )
    return ReturnStatistics(*fields), record.sharpe.var(axis=1, ddof=1)


def deflated_of_the_best(trials, draws):
    generator = np.random.default_rng(trials)
    assumed, measured = [], []
    for _ in range(draws // 100):
        record, variance = best_of(generator, trials, 200, 100)
        assumed.append(deflated_sharpe(record, trials))
        measured.append(deflated_sharpe(record, trials, variance))
    return np.concatenate(assumed), np.concatenate(measured)


@pytest.mark.parametrize("trials", [20, pytest.param(100, marks=pytest.mark.long)])
def test_the_best_of_many_trials_without_edge_is_even_odds_and_almost_never_passes(trials):
    for values in deflated_of_the_best(trials, 1000):
        assert values.mean() == pytest.approx(0.5, abs=0.1)
        assert (values > 0.95).mean() < 0.01


@pytest.mark.long
@pytest.mark.parametrize(("trials", "passing"), [(2, 0.0270), (5, 0.0124), (10, 0.0072), (100, 0.0016)])
def test_how_often_the_best_of_trials_without_edge_passes_is_what_the_docstring_says(trials, passing):
    assert 1.0 - stats.norm.cdf(expected_maximum(trials) + stats.norm.ppf(0.95)) ** trials == pytest.approx(
        passing, abs=6e-5
    )
    values, _ = deflated_of_the_best(trials, 10_000)
    assert (values > 0.95).mean() == pytest.approx(passing, abs=4.0 * np.sqrt(passing / 10_000))


@pytest.mark.parametrize(
    "returns",
    [
        np.empty(0),
        np.array([0.01]),
        np.full(50, 0.001),
        np.zeros(50),
        np.array([0.01, np.nan, 0.02]),
        np.array([0.01, np.inf, 0.0]),
    ],
    ids=["none", "one day", "constant", "zero", "nan", "infinite"],
)
def test_a_record_without_evidence_has_no_statistic(returns):
    record = return_statistics(returns)
    sums = return_statistics_of_sums(len(returns), returns.sum(), (returns**2).sum())
    assert record.days == len(returns)
    for value in (record, sums):
        assert np.isnan(value.sharpe)
        assert np.isnan(probabilistic_sharpe(value))
        assert np.isnan(deflated_sharpe(value, 10))


def test_a_trial_without_evidence_leaves_the_others_alone():
    returns = np.random.default_rng(0).normal(0.0, 0.01, (50, 3))
    returns[:, 1] = 0.0
    returns[7, 2] = np.nan
    assert np.isnan(return_statistics(returns).sharpe).tolist() == [False, True, True]


def test_impossible_trials_variances_and_moments_are_no_evidence():
    assert np.isnan(deflated_sharpe(PAPER, 0.5, PAPER_VARIANCE))
    assert np.isnan(deflated_sharpe(PAPER, np.nan))
    assert np.isnan(deflated_sharpe(PAPER, 10, -1.0))
    assert np.isnan(deflated_sharpe(PAPER, 10, np.nan))
    two_values = ReturnStatistics(np.array(10.0), np.array(1.0), np.array(2.0), np.array(5.0))  # its error would be 0
    assert np.isnan(probabilistic_sharpe(two_values))
