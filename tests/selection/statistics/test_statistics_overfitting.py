"""PBO: its slow obvious twin, noise, an edge, and searches without a choice."""

from itertools import combinations

import numpy as np
import pytest

from mei_pipeline.selection.statistics.overfitting import pbo
from mei_pipeline.sweep.metrics import sharpe


def sums(returns):
    """Count, sum and sum of squares of [blocks, days, K] returns, each [blocks, K]."""
    blocks, days, trials = returns.shape
    return np.full((blocks, trials), float(days)), returns.sum(axis=1), (returns**2).sum(axis=1)


def noise(seed, blocks, trials, days=10, edge=0.0):
    return 0.01 * (np.random.default_rng(seed).standard_normal((blocks, days, trials)) + edge)


def naive(returns):
    """CSCV by the book: every split on its own, from the returns themselves."""
    blocks, _, trials = returns.shape
    rows = []
    for chosen in combinations(range(blocks), blocks // 2):
        rest = [block for block in range(blocks) if block not in chosen]
        inside, outside = (returns[list(part)].reshape(-1, trials) for part in (chosen, rest))
        scores = inside.mean(axis=0) / inside.std(axis=0, ddof=1) * np.sqrt(365.0)
        ahead = outside.mean(axis=0) / outside.std(axis=0, ddof=1) * np.sqrt(365.0)
        best = int(scores.argmax())
        rank = float((ahead < ahead[best]).sum() + 1) / (trials + 1)
        rows.append((scores[best], ahead[best], np.log(rank / (1.0 - rank))))
    return np.array(rows)


@pytest.mark.parametrize(("blocks", "trials"), [(2, 2), (4, 7), (6, 300), (8, 20)])
def test_it_is_its_obvious_twin(blocks, trials):
    returns = noise(blocks, blocks, trials)
    expected = naive(returns)
    found = pbo(*sums(returns))
    order, same = np.argsort(found.in_sample), np.argsort(expected[:, 0])
    np.testing.assert_allclose(found.in_sample[order], expected[same, 0])
    np.testing.assert_allclose(found.out_of_sample[order], expected[same, 1])
    np.testing.assert_allclose(found.logits[order], expected[same, 2], atol=1e-12)
    below, on = (expected[:, 2] < -1e-12).mean(), (np.abs(expected[:, 2]) <= 1e-12).mean()
    assert found.pbo == pytest.approx(below + 0.5 * on)
    assert found.loss_probability == pytest.approx((expected[:, 1] < 0.0).mean())
    assert found.slope == pytest.approx(np.polyfit(expected[:, 0], expected[:, 1], 1)[0])
    assert (found.combos, found.all_splits) == (trials, len(expected))


def test_noise_is_even_odds():
    values = [pbo(*sums(noise(seed, 8, 20))).pbo for seed in range(100)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)


@pytest.mark.long
def test_noise_is_even_odds_for_sixteen_blocks():
    values = [pbo(*sums(noise(seed, 16, 50))).pbo for seed in range(150)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)


def test_a_trial_with_an_edge_is_found_again():
    returns = noise(1, 12, 200)
    returns[:, :, 3] += 0.009
    found = pbo(*sums(returns))
    assert found.pbo < 0.05
    assert np.median(found.out_of_sample) > 5.0


def test_a_search_that_fits_what_reverses_is_overfitted():
    """Each trial earns in one half of the blocks what it loses in the other."""
    returns = noise(2, 8, 60)
    returns -= returns.mean(axis=(0, 1))
    assert pbo(*sums(returns)).pbo > 0.8


def test_sixteen_blocks_have_all_their_splits_and_more_are_a_seeded_sample():
    found = pbo(*sums(noise(3, 16, 5)))
    assert len(found.logits) == found.all_splits == 12_870
    twenty = sums(noise(4, 20, 5))
    some = pbo(*twenty, most_splits=1000)
    assert (len(some.logits), some.all_splits) == (1000, 184_756)
    np.testing.assert_array_equal(some.logits, pbo(*twenty, most_splits=1000).logits)
    other = pbo(*twenty, most_splits=1000, seed=1)
    assert some.in_sample.tolist() != other.in_sample.tolist()
    assert some.pbo == pytest.approx(other.pbo, abs=0.15)


def test_a_sample_of_splits_is_made_of_splits_of_the_whole():
    returns = sums(noise(5, 10, 6))
    every, some = pbo(*returns), pbo(*returns, most_splits=40)
    assert len(np.unique(some.in_sample)) <= 40 < len(every.logits)
    assert set(zip(some.in_sample, some.out_of_sample, strict=True)) <= set(
        zip(every.in_sample, every.out_of_sample, strict=True)
    )


def test_more_trials_than_fit_one_array_are_one_search():
    """The best trial is found, and ranked, whichever part of the trials it is in."""
    returns = noise(6, 6, 700)
    order = np.random.default_rng(0).permutation(700)
    np.testing.assert_array_equal(pbo(*sums(returns)).logits, pbo(*sums(returns[:, :, order])).logits)


def test_days_may_differ_between_trials():
    returns = noise(7, 6, 40)
    n, total, squares = sums(returns)
    n[:, ::2] -= 1.0
    total[:, ::2] -= returns[:, -1, ::2]
    squares[:, ::2] -= returns[:, -1, ::2] ** 2
    found = pbo(n, total, squares)
    chosen = np.array([1, 1, 1, 0, 0, 0], dtype=bool)
    first = sharpe(n[chosen].sum(axis=0), total[chosen].sum(axis=0), squares[chosen].sum(axis=0))
    rest = sharpe(n[~chosen].sum(axis=0), total[~chosen].sum(axis=0), squares[~chosen].sum(axis=0))
    place = np.argmin(np.abs(found.in_sample - first.max()))
    assert found.in_sample[place] == pytest.approx(first.max())
    assert found.out_of_sample[place] == pytest.approx(rest[first.argmax()])


def test_equal_trials_share_their_rank_and_leave_the_odds_even():
    returns = np.repeat(noise(8, 8, 1), 300, axis=2)
    found = pbo(*sums(returns))
    np.testing.assert_array_equal(found.logits, 0.0)
    assert found.pbo == 0.5


def test_trials_that_did_nothing_have_a_score_of_zero():
    found = pbo(*sums(np.zeros((8, 10, 4))))
    np.testing.assert_array_equal(found.in_sample, 0.0)
    assert (found.pbo, found.loss_probability) == (0.5, 0.0)
    assert np.isnan(found.slope)
    losing = noise(9, 8, 2, edge=-3.0)
    losing[:, :, 1] = 0.0
    found = pbo(*sums(losing))
    np.testing.assert_array_equal(found.out_of_sample, 0.0)
    assert found.pbo == 0.0


def test_blocks_without_days_have_a_score_of_zero():
    n, total, squares = sums(noise(10, 2, 3))
    n[1] = total[1] = squares[1] = 0.0
    found = pbo(n, total, squares)
    assert 0.0 in found.in_sample
    assert np.isfinite(found.pbo)


def test_trials_with_a_value_that_is_not_finite_are_left_out():
    n, total, squares = sums(noise(11, 8, 30))
    clean = pbo(n[:, 2:], total[:, 2:], squares[:, 2:])
    total[3, 0], squares[5, 1] = np.nan, np.inf
    found = pbo(n, total, squares)
    assert found.combos == 28
    np.testing.assert_array_equal(found.logits, clean.logits)


@pytest.mark.parametrize("trials", [0, 1])
def test_without_a_choice_there_is_no_evidence(trials):
    found = pbo(*sums(noise(12, 8, trials)))
    assert np.isnan([found.pbo, found.slope, found.loss_probability]).all()
    assert (len(found.logits), found.combos) == (0, trials)


@pytest.mark.parametrize("blocks", [0, 1, 7, 26])
def test_blocks_that_cannot_be_halved_are_refused(blocks):
    with pytest.raises(ValueError, match="even number of blocks"):
        pbo(*sums(noise(13, blocks, 3)))


def test_arrays_of_different_shapes_are_refused():
    n, total, squares = sums(noise(14, 8, 3))
    with pytest.raises(ValueError, match=r"\(8, 2\)"):
        pbo(n, total[:, :2], squares)
