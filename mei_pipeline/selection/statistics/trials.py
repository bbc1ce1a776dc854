"""Effective number of independent trials of a set of correlated trials."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, gammaln

from kernels.market import Floats, Ints
from mei_pipeline.selection.statistics.sharpe import trials_of_expected_maximum
from mei_pipeline.sweep.metrics import FEWEST_DAYS, NO_VARIANCE

DRAWS = 20_000
FEWEST_BLOCKS = 4  # directions in fewer than three dimensions do not tell trials apart
_SAME = 1.0 - 1e-9  # correlation from which on two trials are one
_SHORT = 1e-9  # rounding error of an eigenvalue, or a length, of 0
_CELLS = 4_000_000  # numbers in one array of draws: 32 MB


def align(days: Sequence[Ints], returns: Sequence[Floats]) -> Floats:
    """Return the daily returns of M trials on different days as one array.

    Args:
        days: Numbers of the days of each trial, all different, in any order.
        returns: Return of each of these days, of each trial.

    Returns:
        [days, M] returns, a row for each day of any trial, ascending; NaN if a trial does not have the day.

    Raises:
        ValueError: A trial has two returns for a day, or not as many days as returns.
    """
    every = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *days]))
    table = np.full((len(every), len(days)), np.nan)
    for trial, (numbers, values) in enumerate(zip(days, returns, strict=True)):
        if len(np.unique(numbers)) != len(values) or len(numbers) != len(values):
            raise ValueError(f"trial {trial}: {len(values)} returns for {len(np.unique(numbers))} days")
        table[np.searchsorted(every, numbers), trial] = values
    return table


def statistic_correlation(returns: Floats) -> Floats:
    """Return the correlation of the test statistics of the mean of M trials, from their daily returns.

    For sums over different days of returns that are independent between days, corr(zᵢ, zⱼ) = rᵢⱼ·nᵢⱼ/√(nᵢ·nⱼ), where r
    is the correlation of returns on the nᵢⱼ days that both have. Trials count as uncorrelated, which errs towards
    more trials, if they share fewer than two days or one of them does not vary on these days.

    Args:
        returns: [days, M], NaN if a trial does not have the day.

    Returns:
        [M, M] with 1 on the diagonal. A trial with less than two days or without variation has no test statistic: its
        row and column are NaN, and `effective_trials` does not count it.
    """
    has = ~np.isnan(returns)
    count = has.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(has, returns, 0.0).sum(axis=0) / count
        values = np.where(has, returns - mean, 0.0)
        there = has.astype(np.float64)
        both = there.T @ there
        total = values.T @ there  # [i, j]: sum of i on the days that j has too
        squares = (values * values).T @ there - total * total / both
        covariance = values.T @ values - total * total.T / both
        varies = (both >= FEWEST_DAYS) & (squares > NO_VARIANCE * both)
        known = varies & varies.T
        correlation = covariance / np.sqrt(squares * squares.T) * both / np.sqrt(np.outer(count, count))
    correlation = np.where(known, np.clip(correlation, -1.0, 1.0), 0.0)
    usable = np.diagonal(known)
    np.fill_diagonal(correlation, 1.0)
    return np.where(usable[:, None] & usable, correlation, np.nan)


def effective_trials(correlation: Floats, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the number N of independent trials with the same expected best, without edge, as M correlated trials.

    N solves E[maximum of N independent standard normals] = E[maximum of M jointly normal ones with these correlations],
    which is what the deflated Sharpe ratio needs of it. N is 1 for copies of one trial, M for independent ones, and
    between for positive correlation; an exact copy changes nothing. With negative correlations it can exceed M: the
    expected best of a rule and its reverse is higher than that of two independent rules.

    Args:
        correlation: [M, M] of the test statistics. If pairs that share different days keep it from being a
            correlation matrix, its negative eigenvalues become 0. A trial with NaN on the diagonal is not
            counted.
        draws: Draws of the joint distribution: with 20,000 the error of N is about 1 %.
        seed: Seed of the draws.

    Returns:
        N, or NaN if no trial is counted.
    """
    counted = np.isfinite(np.diagonal(correlation))
    matrix = correlation[np.ix_(counted, counted)]
    if len(matrix) == 0:
        return np.nan
    copies = (np.triu(matrix, 1) >= _SAME).any(axis=0)
    values, vectors = np.linalg.eigh(matrix[np.ix_(~copies, ~copies)])
    kept = values > _SHORT
    loadings = vectors[:, kept] * np.sqrt(values[kept])
    loadings /= np.linalg.norm(loadings, axis=1, keepdims=True)
    return trials_of_expected_maximum(_expected_maximum(loadings, draws, seed))


def effective_trials_of_blocks(total: Floats, squares: Floats, draws: int = DRAWS, seed: int = 0) -> float:
    """Return `effective_trials` of the many trials of one search, from sums over time blocks.

    A trial is the vector of its block statistics Σr/√Σr², less their mean, scaled to length 1. Dividing by √Σr² gives
    quiet and volatile blocks the same weight. The function multiplies the vectors by normal draws. It compares the
    expected maximum of the products with that of N random directions of as many dimensions, which is known exactly.
    Few blocks make independent trials look correlated, but the random directions as well.

    The error of the draws remains. With 16 blocks it is 2 % for a hundred or more independent trials and 10 % for ten.
    If all trials share half of their variance, the result is wrong by a factor of two to three. Time and memory are
    linear in the trials.

    Args:
        total: [blocks, K] sums of daily returns.
        squares: [blocks, K] sums of their squares.
        draws: Number of normal vectors.
        seed: Seed of the draws.

    Returns:
        N from 1 to K, or NaN if no trial varies, or fewer than `FEWEST_BLOCKS` blocks have returns. A trial without
        variation between blocks or with a value that is not finite is not counted.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(squares > NO_VARIANCE, total / np.sqrt(squares), 0.0 * (total + squares))
        loadings = scores - scores.mean(axis=0)
        length = np.linalg.norm(loadings, axis=0)
    counted = np.isfinite(length) & (length > _SHORT)
    loadings = (loadings[:, counted] / length[counted]).T
    blocks = int(np.count_nonzero((loadings != 0.0).any(axis=0)))
    if len(loadings) == 0 or blocks < FEWEST_BLOCKS:
        return np.nan
    maximum = _expected_maximum(loadings, draws, seed)
    return trials_of_expected_maximum(maximum, _directions(blocks - 1), most=float(len(loadings)))


def _expected_maximum(loadings: Floats, draws: int, seed: int) -> float:
    """Return the expected maximum of the products of a standard normal vector with M unit vectors, [M, factors].

    It is half of the mean range, which by symmetry has the same expectation and less variance: the common part of all
    trials cancels. The length of the normal vector is independent of its direction, so its exact expectation is used
    and only directions are drawn.
    """
    dimensions = loadings.shape[1]
    factors = np.ascontiguousarray(loadings.T)
    generator = np.random.default_rng(seed)
    batch = max(1, _CELLS // factors.shape[1])
    total = 0.0
    for start in range(0, draws, batch):
        vectors = generator.standard_normal((min(batch, draws - start), dimensions))
        values = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) @ factors
        total += float((values.max(axis=1) - values.min(axis=1)).sum())
    return _expected_length(dimensions) * 0.5 * total / draws


def _expected_length(dimensions: int) -> float:
    """Return the expected length of a standard normal vector: the mean of the chi distribution."""
    return float(np.sqrt(2.0) * np.exp(gammaln(0.5 * (dimensions + 1)) - gammaln(0.5 * dimensions)))


def _directions(dimensions: int) -> Callable[[ArrayLike], Floats]:
    """Return a function of N: the expected maximum of the products of a normal vector with N random unit vectors.

    The length of the normal vector and the cosines are independent: E‖g‖ · (1 - ∫ F(c)^N dc) over cosines c, where
    (1 + c)/2 has the beta distribution F with both parameters (dimensions - 1)/2.
    """
    half = 0.5 * (dimensions - 1)
    cosines = np.linspace(-1.0, 1.0, 2001)
    lower = np.log(betainc(half, half, 0.5 * (1.0 + cosines[1:1001])))  # F(-1) is 0
    upper = np.log1p(-betainc(half, half, 0.5 * (1.0 - cosines[1001:])))
    log_cdf = np.concatenate([lower, upper])
    length = _expected_length(dimensions)

    def expected(trials: ArrayLike) -> Floats:
        below = np.concatenate([[0.0], np.exp(np.asarray(trials, dtype=np.float64) * log_cdf)])
        return np.asarray(length * (1.0 - np.trapezoid(below, cosines)))

    return expected
