"""Hansen's test of superior predictive ability (SPA) of the best of many strategies over a benchmark."""

from dataclasses import dataclass

import numpy as np

from kernels.market import Floats
from mei_pipeline.selection.statistics.bootstrap import DRAWS, optimal_block_days, stationary_weights
from mei_pipeline.sweep.metrics import NO_VARIANCE

FEWEST_DAYS = 3  # fewer make log log n of the threshold negative or undefined


@dataclass(frozen=True)
class Spa:
    """p-values of "no strategy beats the benchmark"; NaN is no evidence."""

    p_lower: float
    """p-value without the strategies below the benchmark: too small."""
    p_consistent: float
    """p-value without the strategies that are clearly below the benchmark: the p-value to use."""
    p_upper: float
    """p-value as if all strategies equalled the benchmark, as in White's reality check: too large."""
    statistic: float
    """√n · mean excess return / its deviation, of the best strategy by that measure; 0 if none is better."""
    best: int
    """Number of that strategy; -1 without evidence."""
    block_days: float
    """Mean length of the blocks that were drawn."""


_NO_EVIDENCE = Spa(np.nan, np.nan, np.nan, np.nan, -1, np.nan)


def spa(
    returns: Floats,
    benchmark: Floats | None = None,
    block_days: float | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Spa:
    """Test the superior predictive ability of M strategies over a benchmark, by stationary bootstrap.

    The largest studentised mean excess return is compared with that of resampled days. The mean of each strategy is
    subtracted from the resampled days. The three p-values differ in the means that they subtract:

    - upper: every mean;
    - consistent: means that are not below -√(2·ω²·ln ln n / n);
    - lower: means above 0.

    A p-value is (1 + draws that reach the statistic) / (1 + draws), never 0.

    Source: Hansen, A Test for Superior Predictive Ability, Journal of Business & Economic Statistics 23(4), 2005; ω² is
    its variance of the mean under the stationary bootstrap, in closed form.

    Args:
        returns: [days, M] daily returns on the same days.
        benchmark: [days] daily returns to beat; None is cash.
        block_days: Mean length of blocks; None takes the mean of the strategies' `optimal_block_days`.
        draws: Number of resampled series.
        seed: Seed of the draws.

    Returns:
        The result. A strategy whose excess return does not vary has no statistic and is left out. No evidence without
        another one, on less than `FEWEST_DAYS` days, or with a value that is not finite.
    """
    excess = returns if benchmark is None else returns - benchmark[:, None]
    days = len(excess)
    if days < FEWEST_DAYS or not np.isfinite(excess).all():
        return _NO_EVIDENCE
    numbers = np.flatnonzero(excess.var(axis=0) > NO_VARIANCE)
    if len(numbers) == 0:
        return _NO_EVIDENCE
    excess = excess[:, numbers]
    length = float(np.mean([optimal_block_days(column) for column in excess.T])) if block_days is None else block_days
    mean = excess.mean(axis=0)
    deviation = np.sqrt(_variance(excess - mean, length))
    score = np.sqrt(days) * mean / deviation
    statistic = max(0.0, float(score.max()))
    threshold = -np.sqrt(2.0 * np.log(np.log(days)))
    centres = np.stack([np.maximum(mean, 0.0), np.where(score >= threshold, mean, 0.0), mean])
    reached = np.zeros(3)
    for weights in stationary_weights(days, length, draws, seed):
        drawn = weights @ excess / days
        for place, centre in enumerate(centres):
            largest = (np.sqrt(days) * (drawn - centre) / deviation).max(axis=1)
            reached[place] += np.count_nonzero(np.maximum(largest, 0.0) >= statistic)
    lower, consistent, upper = (float(value) for value in (1.0 + reached) / (1.0 + draws))
    return Spa(lower, consistent, upper, statistic, int(numbers[score.argmax()]), length)


def _variance(centred: Floats, block_days: float) -> Floats:
    """Return the variance of √n · mean under the stationary bootstrap, [M], of series [days, M] of mean 0."""
    days = len(centred)
    continued = 1.0 - 1.0 / block_days
    total = (centred * centred).sum(axis=0) / days
    for lag in range(1, days):
        share = lag / days
        kernel = (1.0 - share) * continued**lag + share * continued ** (days - lag)
        if kernel > 0.0:
            total += 2.0 * kernel * (centred[lag:] * centred[:-lag]).sum(axis=0) / days
    return np.asarray(total)
