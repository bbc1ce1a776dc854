"""Statistics of daily returns and drawdowns against scipy, and against values worked out by hand."""

import math

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, HOUR_MS, START_MS
from scipy import stats

from mei_pipeline.replay.risk import (
    Distribution,
    Drawdown,
    annual_sharpe,
    cagr_pct,
    calmar,
    daily_returns,
    distribution,
    longest_drawdown_days,
    max_drawdown_pct,
    rolling_sharpe,
    rolling_window,
    sortino,
    worst_drawdowns,
)

RETURNS = np.random.default_rng(3).standard_t(4, 400) / 100.0


def day(number):
    return START_MS + number * DAY_MS


def drawdowns(*equity, count=5):
    """Drawdowns of a curve of one point a day that starts at 100."""
    times = day(1) + DAY_MS * np.arange(len(equity), dtype=np.int64)
    return worst_drawdowns(times, np.array(equity, dtype=float), START_MS, 100.0, count)


def test_growth_is_compounded_over_years():
    assert cagr_pct(100.0, 121.0, 730) == pytest.approx(10.0)
    assert cagr_pct(100.0, 50.0, 365) == pytest.approx(-50.0)


@pytest.mark.parametrize(("final", "days"), [(110.0, 364), (0.0, 730), (-5.0, 730)])
def test_growth_is_not_given_for_less_than_a_year_or_for_a_ruin(final, days):
    assert cagr_pct(100.0, final, days) is None


def test_calmar_is_growth_over_the_deepest_fall():
    assert calmar(30.0, 12.0) == 2.5
    assert calmar(None, 12.0) is None
    assert calmar(30.0, 0.0) is None


def test_sortino_counts_every_day_and_punishes_losses_only():
    returns = np.array([0.02, -0.01, 0.03, 0.0])
    # mean 0.01; of the squares 0, 0.0001, 0, 0 the mean is 0.000025, its root 0.005
    assert sortino(returns) == pytest.approx(2.0 * math.sqrt(365.0))
    assert sortino(np.array([0.01, 0.02])) is None
    assert sortino(np.array([])) is None


def test_daily_returns_go_from_midnight_to_midnight():
    times = START_MS + HOUR_MS * np.arange(1, 73)
    values = np.full(72, 5.0)
    values[[23, 47, 71]] = 110.0, 0.0, 50.0
    equity = pl.DataFrame({"close_ms": times, "equity_usd": values})
    assert daily_returns(equity, 100.0).tolist() == pytest.approx([0.1, -1.0, 0.0])


def test_the_sharpe_ratio_is_mean_over_sample_deviation_of_a_year():
    assert annual_sharpe(RETURNS) == pytest.approx(RETURNS.mean() / RETURNS.std(ddof=1) * math.sqrt(365.0))
    assert [annual_sharpe(np.array(each)) for each in ([], [0.1], [0.1, 0.1, 0.1])] == [0.0, 0.0, 0.0]


def test_the_rolling_sharpe_ratio_is_that_of_each_window():
    ratios = rolling_sharpe(RETURNS, 30)
    assert ratios.tolist() == pytest.approx([annual_sharpe(RETURNS[first : first + 30]) for first in range(371)])
    assert rolling_sharpe(RETURNS, 400).tolist() == pytest.approx([annual_sharpe(RETURNS)])


def test_windows_without_variation_or_with_an_unknown_return():
    returns = np.array([0.0, 0.0, 0.0, 0.01, np.nan, 0.02])
    ratios = rolling_sharpe(returns, 3)
    assert ratios[0] == 0.0
    assert ratios[1] == pytest.approx(annual_sharpe(returns[1:4]))
    assert np.isnan(ratios[2:]).tolist() == [True, True]


@pytest.mark.parametrize(("days", "window"), [(0, 2), (5, 6), (5, 1), (5, 0)])
def test_too_few_days_have_no_rolling_sharpe_ratio(days, window):
    assert rolling_sharpe(np.zeros(days), window).shape == (0,)


@pytest.mark.parametrize(("days", "window"), [(1000, 90), (180, 90), (179, 89), (40, 20), (16, 8), (1, 0), (0, 0)])
def test_the_window_is_ninety_days_or_half_of_the_backtest(days, window):
    assert rolling_window(days) == window


def test_each_drawdown_has_its_peak_its_trough_and_its_recovery():
    deep, shallow = Drawdown(day(1), day(3), day(5), 50.0, 4.0), Drawdown(day(6), day(7), day(8), 25.0, 2.0)
    assert drawdowns(110, 80, 55, 60, 110, 200, 150, 210) == (deep, shallow)


def test_the_deepest_come_first_and_of_equal_ones_the_earlier():
    found = drawdowns(75, 100, 50, 100, 75, 100, 25, 100, 90, 100, count=4)
    assert [each.depth_pct for each in found] == [75.0, 50.0, 25.0, 25.0]
    assert [each.peak_ms for each in found[2:]] == [day(0), day(4)]


def test_a_drawdown_that_is_open_at_the_end_has_no_recovery():
    assert drawdowns(200, 100, 150) == (Drawdown(day(1), day(2), None, 50.0, 2.0),)
    assert drawdowns(75, 80, 90) == (Drawdown(day(0), day(1), None, 25.0, 3.0),)


def test_a_peak_that_lasts_begins_the_drawdown_with_its_last_day():
    assert drawdowns(200, 200, 100, 200, 200) == (Drawdown(day(2), day(3), day(4), 50.0, 2.0),)


def test_equity_below_zero_fell_by_more_than_all():
    assert drawdowns(200, -50, 0) == (Drawdown(day(1), day(2), None, 125.0, 2.0),)
    assert max_drawdown_pct(np.array([200.0, -50.0]), 100.0) == 125.0


@pytest.mark.parametrize("equity", [[], [100.0], [100.0, 100.0], [110.0, 120.0]])
def test_equity_that_never_falls_has_no_drawdown(equity):
    times = day(1) + DAY_MS * np.arange(len(equity), dtype=np.int64)
    assert drawdowns(*equity) == ()
    assert longest_drawdown_days(times, np.array(equity), START_MS, 100.0) == 0.0
    assert max_drawdown_pct(np.array(equity), 100.0) == 0.0


def test_points_without_a_value_are_left_out():
    assert drawdowns(200, np.nan, 100, np.nan) == (Drawdown(day(1), day(3), None, 50.0, 2.0),)
    assert drawdowns(np.nan, np.nan) == ()


def test_the_deepest_and_the_longest_are_those_of_every_decline():
    equity = 100.0 * np.cumprod(1.0 + RETURNS)
    times = day(1) + DAY_MS * np.arange(len(equity), dtype=np.int64)
    found = worst_drawdowns(times, equity, START_MS, 100.0, 1000)
    assert found[0].depth_pct == pytest.approx(max_drawdown_pct(equity, 100.0))
    assert max(each.days for each in found) == longest_drawdown_days(times, equity, START_MS, 100.0)
    assert worst_drawdowns(times, equity, START_MS, 100.0) == found[:5]


def test_the_longest_drawdown_ends_where_the_old_peak_is_reached_again():
    times = START_MS + DAY_MS * np.arange(1, 8)
    equity = np.array([110.0, 105.0, 108.0, 110.0, 120.0, 100.0, 90.0])
    assert longest_drawdown_days(times, equity, START_MS, 100.0) == 3.0  # from day 1 to day 4
    assert longest_drawdown_days(times, equity[::-1].copy(), START_MS, 100.0) == 4.0  # from day 3 to the end
    assert longest_drawdown_days(times, np.full(7, 99.0), START_MS, 100.0) == 7.0


def test_the_distribution_has_the_moments_of_scipy():
    found = distribution(RETURNS)
    assert found.days == 400
    assert found.mean_pct == pytest.approx(100.0 * RETURNS.mean())
    assert found.deviation_pct == pytest.approx(100.0 * RETURNS.std(ddof=1))
    assert found.skewness == pytest.approx(stats.skew(RETURNS))
    assert found.excess_kurtosis == pytest.approx(stats.kurtosis(RETURNS))
    assert (found.best_pct, found.worst_pct) == (100.0 * RETURNS.max(), 100.0 * RETURNS.min())
    assert found.positive_pct == pytest.approx(100.0 * np.count_nonzero(RETURNS > 0.0) / 400.0)
    assert found.value_at_risk_pct == pytest.approx(-100.0 * stats.mstats.mquantiles(RETURNS, 0.05, 1.0, 1.0)[0])
    assert found.expected_shortfall_pct == pytest.approx(-100.0 * np.sort(RETURNS)[:20].mean())


def test_value_at_risk_and_expected_shortfall_are_losses_of_the_worst_days():
    returns = np.arange(-2, 19) / 100.0  # 21 days: the quantile of 5 % is the second one
    found = distribution(returns)
    assert found.value_at_risk_pct == pytest.approx(1.0)
    assert found.expected_shortfall_pct == pytest.approx(1.5)
    gains = distribution(np.array([0.01, 0.01, 0.01]))
    assert (gains.value_at_risk_pct, gains.expected_shortfall_pct) == pytest.approx((-1.0, -1.0))


def test_a_distribution_without_days_has_no_figure():
    assert distribution(np.empty(0)) == distribution(np.array([np.nan, np.inf])) == Distribution(0)


def test_one_day_and_flat_equity_have_no_moments():
    one = distribution(np.array([-0.02]))
    assert (one.mean_pct, one.best_pct, one.worst_pct, one.value_at_risk_pct) == (-2.0, -2.0, -2.0, 2.0)
    assert one.deviation_pct is one.skewness is one.excess_kurtosis is None
    flat = distribution(np.zeros(30))
    assert (flat.deviation_pct, flat.positive_pct, flat.expected_shortfall_pct) == (0.0, 0.0, 0.0)
    assert flat.skewness is flat.excess_kurtosis is None


def test_days_without_a_return_are_left_out_of_the_distribution():
    assert distribution(np.array([0.01, np.nan, -0.02])) == distribution(np.array([0.01, -0.02]))
