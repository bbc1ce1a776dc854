"""The stationary bootstrap of daily returns: intervals that allow for dependent days."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kernels.market import Floats
from mei_pipeline.sweep.metrics import NO_VARIANCE, YEAR_DAYS

DRAWS = 10_000
_CELLS = 1_000_000  # numbers in one array of draws: 8 MB


@dataclass(frozen=True)
class Bootstrap:
    """Bootstrap of a track record; NaN is no evidence."""

    mean: tuple[float, float]
    """Interval of the mean daily return."""
    annual_sharpe: tuple[float, float]
    """Interval of the annual Sharpe ratio."""
    loss_probability: float
    """Share of draws whose mean return is 0 or less."""
    block_days: float
    """Mean length of the blocks that were drawn."""


def optimal_block_days(returns: Floats) -> float:
    """Return the mean block length in days, 1 or more, that estimates the variance of a mean best.

    (2·G²/D·n)^⅓ with G = Σ λ(k/M)·|k|·R(k), D = 2·(Σ λ(k/M)·R(k))², autocovariances R and the flat-top window λ. M is
    twice the first lag from which max(5, log₁₀ n) autocorrelations in a row stay within ±2·√(log₁₀ n / n).

    Source: Politis and White, Automatic Block-Length Selection for the Dependent Bootstrap, Econometric Reviews 23(1),
    2004; Patton, Politis and White, Correction, Econometric Reviews 28(4), 2009. The choice of M and the longest
    length, min(3·√n, n/3), are those of Patton's program.

    Args:
        returns: [days]. NaN for less than two days, no variation, or a value that is not finite.
    """
    days = len(returns)
    if not _varies(returns):
        return np.nan
    centred = returns - returns.mean()
    run = max(5, int(np.log10(days)))
    longest = int(np.ceil(np.sqrt(days))) + run
    covariance = np.array([centred[lag:] @ centred[: max(days - lag, 0)] / days for lag in range(longest + 1)])
    small = np.abs(covariance / covariance[0]) < 2.0 * np.sqrt(np.log10(days) / days)
    starts = (lag for lag in range(1, longest - run + 1) if small[lag : lag + run].all())
    window = min(2 * next(starts, longest), longest)
    lags = np.arange(1, window + 1)
    weighted = np.minimum(1.0, 2.0 * (1.0 - lags / window)) * covariance[1 : window + 1]
    slope = 2.0 * float(lags @ weighted)
    variance = float(covariance[0] + 2.0 * weighted.sum())
    if variance == 0.0:
        return 1.0
    length = float(np.cbrt(slope**2 / variance**2 * days))
    return max(1.0, min(length, float(np.ceil(min(3.0 * np.sqrt(days), days / 3.0)))))


def stationary_weights(days: int, block_days: float, draws: int, seed: int) -> Iterator[Floats]:
    """Yield how often each day occurs in each resampled series: [some draws, days] at a time, rows of sum `days`.

    Blocks start at any day, continue from the last day with the first, and have geometrically distributed lengths.
    Means of resampled series are weights @ returns / days.

    Source: Politis and Romano, The Stationary Bootstrap, Journal of the American Statistical Association 89(428), 1994.

    Args:
        days: Length of the series.
        block_days: Mean length of a block, 1 or more; 1 draws single days.
        draws: Number of resampled series.
        seed: Seed of the draws.
    """
    generator = np.random.default_rng(seed)
    batch = max(1, _CELLS // days)
    steps = np.arange(days)
    for start in range(0, draws, batch):
        rows = min(batch, draws - start)
        begins = generator.random((rows, days)) < 1.0 / block_days
        begins[:, 0] = True
        first = np.maximum.accumulate(np.where(begins, steps, 0), axis=1)
        origin = np.take_along_axis(generator.integers(days, size=(rows, days)), first, axis=1)
        drawn = (origin + steps - first) % days
        cells = (drawn + days * np.arange(rows)[:, None]).ravel()
        yield np.bincount(cells, minlength=rows * days).reshape(rows, days).astype(np.float64)


def stationary_bootstrap(
    returns: Floats,
    confidence: float = 0.95,
    block_days: float | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Bootstrap:
    """Return intervals of mean and Sharpe ratio of daily returns, and the probability that the mean is not above 0.

    Percentile intervals are somewhat too narrow on a few dozen days.

    Args:
        returns: [days].
        confidence: Confidence of the two-sided intervals.
        block_days: Mean length of blocks; None takes `optimal_block_days`.
        draws: Number of resampled series.
        seed: Seed of the draws.

    Returns:
        The result; all NaN for less than two days, no variation, or a value that is not finite.
    """
    if not _varies(returns):
        return Bootstrap((np.nan, np.nan), (np.nan, np.nan), np.nan, np.nan)
    length = optimal_block_days(returns) if block_days is None else block_days
    days = len(returns)
    values = np.column_stack([returns, returns * returns])
    sums = np.concatenate([weights @ values for weights in stationary_weights(days, length, draws, seed)])
    mean = sums[:, 0] / days
    variance = (sums[:, 1] - days * mean * mean) / (days - 1.0)
    varied = variance > NO_VARIANCE  # of two days both may be the same one
    sharpe = mean[varied] / np.sqrt(variance[varied] / YEAR_DAYS)
    tails = (0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence)
    low, high = (float(value) for value in np.quantile(mean, tails))
    worst, best = (float(value) for value in np.quantile(sharpe, tails)) if varied.any() else (np.nan, np.nan)
    return Bootstrap((low, high), (worst, best), float(np.mean(mean <= 0.0)), length)


def _varies(returns: Floats) -> bool:
    """Return True if there are two days or more, all finite and not all the same."""
    return len(returns) > 1 and bool(np.isfinite(returns).all()) and float(returns.var()) > NO_VARIANCE
