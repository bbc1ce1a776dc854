"""Rates from counts, and how much hangs on the best."""

import numpy as np
import pytest
from scipy import stats

from mei_pipeline.selection.statistics.concentration import concentration
from mei_pipeline.selection.statistics.proportions import clopper_pearson


@pytest.mark.parametrize(("successes", "trials"), [(0, 200), (4, 200), (200, 200), (1, 1), (0, 1), (37, 90)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_of_a_rate_is_the_librarys(successes, trials, confidence):
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert clopper_pearson(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_of_four_in_two_hundred():
    """Upper end of 4 in 200 at 95 %, as in any table: 5.04 %."""
    assert clopper_pearson(4, 200) == pytest.approx((0.00548, 0.05041), abs=5e-6)


def test_without_trials_a_rate_is_anywhere():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 0.0)])
def test_impossible_counts_are_refused(successes, trials, confidence):
    with pytest.raises(ValueError, match=f"{successes} successes in {trials}"):
        clopper_pearson(successes, trials, confidence)


def test_the_share_of_the_best_symbol_is_of_the_profits_of_those_that_made_one():
    found = concentration(np.array([50.0, 70.0, -30.0, -20.0, 40.0]), ["BTC", "ETH", "BTC", "SOL", "ETH"])
    assert found.best == "ETH"
    assert found.share == pytest.approx(110 / 130)
    assert found.without_best_usd == pytest.approx(0.0)


def test_without_groups_each_is_its_own():
    found = concentration(np.array([5.0, 20.0, -10.0, 15.0]))
    assert (found.best, found.share, found.without_best_usd) == (1, 0.5, 10.0)


def test_the_first_of_equals_is_the_best():
    assert concentration(np.array([5.0, 5.0]), ["B", "A"]).best == "B"


def test_one_symbol_is_all_of_it():
    found = concentration(np.array([5.0, -2.0]), ["BTC", "BTC"])
    assert (found.share, found.without_best_usd) == (1.0, 0.0)


def test_where_none_earned_there_is_a_best_but_no_share():
    found = concentration(np.array([-5.0, -2.0, 0.0]))
    assert (found.best, found.without_best_usd) == (2, -7.0)
    assert np.isnan(found.share)


@pytest.mark.parametrize("profits", [[], [1.0, np.nan], [np.inf]], ids=["none", "nan", "infinite"])
def test_without_profits_there_is_no_evidence(profits):
    found = concentration(np.array(profits))
    assert found.best is None
    assert np.isnan([found.share, found.without_best_usd]).all()


def test_every_profit_needs_its_group():
    with pytest.raises(ValueError, match="zip"):
        concentration(np.array([1.0, 2.0]), ["BTC"])
