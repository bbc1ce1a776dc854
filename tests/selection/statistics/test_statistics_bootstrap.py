"""The stationary bootstrap against `arch`, theory, and series without evidence."""

import numpy as np
import pytest

from mei_pipeline.selection.statistics.bootstrap import optimal_block_days, stationary_bootstrap, stationary_weights

DEGENERATE = [
    np.empty(0),
    np.array([0.01]),
    np.full(60, 0.001),
    np.array([0.01, np.nan, 0.02]),
    np.array([0.01, np.inf, 0.02]),
]


def autoregressive(seed, days, persistence):
    shocks = np.random.default_rng(seed).standard_normal(days + 100)
    values = np.zeros_like(shocks)
    for day in range(1, len(values)):
        values[day] = persistence * values[day - 1] + shocks[day]
    return 0.01 * values[100:]


@pytest.mark.parametrize("persistence", [-0.3, 0.0, 0.3, 0.7])
@pytest.mark.parametrize("days", [60, 280, 1500])
def test_the_block_length_is_that_of_arch(days, persistence):
    returns = autoregressive(days, days, persistence)
    from arch.bootstrap import optimal_block_length

    expected = float(optimal_block_length(returns)["stationary"].iloc[0])
    assert optimal_block_days(returns) == pytest.approx(max(1.0, expected), rel=1e-9)


def test_the_block_length_is_on_average_that_of_theory():
    """For persistence a, G/√(D/2) = 2a/(1 - a²) (Politis and White, example)."""
    persistence, days = 0.5, 4000
    theory = ((2.0 * persistence / (1.0 - persistence**2)) ** 2 * days) ** (1.0 / 3.0)
    found = [optimal_block_days(autoregressive(seed, days, persistence)) for seed in range(30)]
    assert np.mean(found) == pytest.approx(theory, rel=0.15)


@pytest.mark.parametrize("days", [2, 3, 7, 12])
def test_a_short_series_has_a_block_length_within_it(days):
    assert 1.0 <= optimal_block_days(autoregressive(1, days, 0.5)) <= max(1.0, np.ceil(days / 3.0))


@pytest.mark.parametrize(("days", "bound"), [(20, 7.0), (100, 30.0), (300, 52.0)])
def test_a_cycle_does_not_make_blocks_longer_than_the_bound(days, bound):
    period = 8.0
    assert optimal_block_days(0.01 * np.sin(2.0 * np.pi * np.arange(days) / period)) == bound


def test_each_resampled_series_is_as_long_as_the_series():
    weights = np.concatenate(list(stationary_weights(50, 4.0, 300, 1)))
    assert weights.shape == (300, 50)
    np.testing.assert_array_equal(weights.sum(axis=1), 50.0)
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.4)


def test_large_samples_come_in_batches():
    sizes = [len(weights) for weights in stationary_weights(300_000, 10.0, 7, 1)]
    assert sizes == [3, 3, 1]


def test_the_variance_of_resampled_means_is_that_of_theory():
    """Politis and Romano (1994), lemma 1."""
    returns = autoregressive(2, 120, 0.4)
    block, days = 6.0, len(returns)
    means = np.concatenate([weights @ returns / days for weights in stationary_weights(days, block, 60_000, 3)])
    centred = returns - returns.mean()
    circular = np.array([(centred * np.roll(centred, -lag)).mean() for lag in range(days)])
    lags = np.arange(1, days)
    theory = circular[0] + 2.0 * ((1.0 - lags / days) * (1.0 - 1.0 / block) ** lags * circular[1:]).sum()
    assert days * means.var() == pytest.approx(theory, rel=0.03)
    assert means.mean() == pytest.approx(returns.mean(), abs=4.0 * means.std() / np.sqrt(60_000))


def test_blocks_of_one_day_are_the_plain_bootstrap():
    weights = np.concatenate(list(stationary_weights(40, 1.0, 20_000, 4)))
    assert weights.var(axis=0).mean() == pytest.approx(1.0 - 1.0 / 40.0, rel=0.02)
    assert np.corrcoef(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(-1.0 / 39.0, abs=0.02)


def test_intervals_are_those_of_arch():
    returns = autoregressive(5, 250, 0.3) + 0.001

    def figures(values):
        return np.array([values.mean(), values.mean() / values.std(ddof=1) * np.sqrt(365.0)])

    from arch.bootstrap import StationaryBootstrap

    library = StationaryBootstrap(8, returns, seed=1).conf_int(figures, reps=4000, method="percentile")
    found = stationary_bootstrap(returns, block_days=8.0, draws=20_000)
    width = library[1] - library[0]
    np.testing.assert_allclose(found.mean, library[:, 0], atol=0.05 * width[0])
    np.testing.assert_allclose(found.annual_sharpe, library[:, 1], atol=0.05 * width[1])
    assert found.block_days == 8.0


@pytest.mark.long
def test_intervals_cover_the_truth_about_as_often_as_they_say():
    inside = 0
    for seed in range(300):
        low, high = stationary_bootstrap(autoregressive(seed, 300, 0.2), 0.9, draws=400, seed=seed).mean
        inside += low < 0.0 < high
    assert 0.82 < inside / 300 < 0.94


def test_the_chance_of_no_gain_falls_with_the_gain():
    noise = autoregressive(6, 300, 0.0)
    noise -= noise.mean()
    chances = [stationary_bootstrap(noise + gain, draws=2000).loss_probability for gain in (-0.01, 0.0, 0.001, 0.01)]
    assert chances == sorted(chances, reverse=True)
    assert (chances[0], chances[-1]) == (1.0, 0.0)
    assert chances[1] == pytest.approx(0.5, abs=0.05)


def test_the_same_seed_gives_the_same_intervals():
    returns = autoregressive(7, 100, 0.0)
    assert stationary_bootstrap(returns, draws=500, seed=1) == stationary_bootstrap(returns, draws=500, seed=1)
    assert stationary_bootstrap(returns, draws=500, seed=1) != stationary_bootstrap(returns, draws=500, seed=2)


def test_draws_without_variation_have_no_sharpe_ratio():
    returns = np.array([0.01, 0.03])
    both_the_same = next(seed for seed in range(50) if next(stationary_weights(2, 1.0, 1, seed)).max() == 2.0)
    assert np.isnan(stationary_bootstrap(returns, block_days=1.0, draws=1, seed=both_the_same).annual_sharpe).all()
    many = stationary_bootstrap(returns, block_days=1.0, draws=200)
    assert many.mean == (0.01, 0.03)
    assert many.annual_sharpe == pytest.approx((0.02 / np.sqrt(0.0002) * np.sqrt(365.0),) * 2)


@pytest.mark.parametrize("returns", DEGENERATE, ids=["none", "one day", "constant", "nan", "infinite"])
def test_a_series_without_evidence_has_no_interval(returns):
    found = stationary_bootstrap(returns)
    assert np.isnan([*found.mean, *found.annual_sharpe, found.loss_probability, found.block_days]).all()
    assert np.isnan(optimal_block_days(returns))
