"""The Sharpe ratio of daily returns, its error, and its selection bias."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr

from kernels.market import Floats
from mei_pipeline.sweep.metrics import FEWEST_DAYS, NO_VARIANCE, YEAR_DAYS

NORMAL_KURTOSIS = 3.0
MOST_TRIALS = 1e20  # the maximum of more trials might lie outside of the grid below
_GRID = np.linspace(-12.0, 12.0, 2401)  # the widest density is 1 wide, the narrowest 0.1: 10 points and more
_STEP = _GRID[1] - _GRID[0]
_LOG_DENSITY = -0.5 * _GRID * _GRID - 0.5 * np.log(2.0 * np.pi)
_LOG_CDF = log_ndtr(_GRID)


@dataclass(frozen=True)
class ReturnStatistics:
    """Moments of daily returns on which the error of a Sharpe ratio depends.

    Each field is one number, or [K] of K trials; NaN is no evidence.
    """

    days: Floats
    """Daily returns that were observed."""
    sharpe: Floats
    """Mean over sample deviation of daily returns, per day, no risk-free rate."""
    skewness: Floats
    """Third standardised moment; 0 for the normal distribution."""
    kurtosis: Floats
    """Fourth standardised moment, not the excess; 3 for the normal distribution."""

    @property
    def annual(self) -> Floats:
        """Sharpe ratio of a year of 365 days: the daily one times √365, which assumes uncorrelated days."""
        return np.asarray(self.sharpe * np.sqrt(YEAR_DAYS))


def return_statistics(returns: Floats) -> ReturnStatistics:
    """Return the statistics of daily returns, [days] of one trial or [days, K] of K trials.

    A trial with fewer than two days, without variation, or with a value that is not finite has NaN in all fields but
    days.
    """
    days = np.full(returns.shape[1:], float(len(returns)))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = returns.sum(axis=0) / days
        centred = returns - mean
        second = (centred**2).sum(axis=0) / days
        usable = (days >= FEWEST_DAYS) & (second > NO_VARIANCE)
        skewness = (centred**3).sum(axis=0) / days / second**1.5
        kurtosis = (centred**4).sum(axis=0) / days / second**2
        sharpe = mean / np.sqrt(second * days / (days - 1.0))
    return ReturnStatistics(days, *(np.where(usable, value, np.nan) for value in (sharpe, skewness, kurtosis)))


def return_statistics_of_sums(
    n: ArrayLike,
    total: ArrayLike,
    squares: ArrayLike,
    skewness: ArrayLike = 0.0,
    kurtosis: ArrayLike = NORMAL_KURTOSIS,
) -> ReturnStatistics:
    """Return the statistics of daily returns from their count, sum and sum of squares, each one number or [K].

    The sums do not determine skewness and kurtosis: by default returns are taken as normal, which is too favourable
    for a trial with rare large losses.
    """
    n, total, squares = (np.asarray(value, dtype=np.float64) for value in (n, total, squares))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / n
        variance = (squares - n * mean * mean) / (n - 1.0)
        usable = (n >= FEWEST_DAYS) & (variance > NO_VARIANCE)
        sharpe = np.where(usable, mean / np.sqrt(variance), np.nan)
    return ReturnStatistics(n, sharpe, np.asarray(skewness, dtype=np.float64), np.asarray(kurtosis, dtype=np.float64))


def _spread(record: ReturnStatistics) -> Floats:
    """Return √(1 - skewness·SR + (kurtosis - 1)/4·SR²): the error of a Sharpe ratio times √(days - 1)."""
    sharpe = np.asarray(record.sharpe)
    inside = 1.0 - record.skewness * sharpe + 0.25 * (record.kurtosis - 1.0) * sharpe * sharpe
    return np.sqrt(np.where(inside > 0.0, inside, np.nan))


def probabilistic_sharpe(record: ReturnStatistics, benchmark: ArrayLike = 0.0) -> Floats:
    """Return the probability that the true Sharpe ratio exceeds `benchmark` (per day).

    Φ((SR - benchmark)·√(days - 1) / √(1 - skewness·SR + (kurtosis - 1)/4·SR²)). Uniform on 0..1 when the true ratio is
    the benchmark. Returns are taken as independent; see `bootstrap` for those that are not.

    Source: Bailey and López de Prado, The Sharpe Ratio Efficient Frontier, Journal of Risk 15(2), 2012, equation 9.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(ndtr((record.sharpe - np.asarray(benchmark)) * np.sqrt(record.days - 1.0) / _spread(record)))


def expected_maximum(trials: ArrayLike) -> Floats:
    """Return the expected maximum of N independent standard normals, for real N from 1, where it is 0.

    ∫ x·N·φ(x)·Φ(x)^(N-1) dx, by the trapezoidal rule, which for such a function is exact to about 1e-12. NaN below 1
    and above `MOST_TRIALS`.

    Args:
        trials: N, one number or an array of any shape.
    """
    trials = np.asarray(trials, dtype=np.float64)
    known = (trials >= 1.0) & (trials <= MOST_TRIALS)
    number = np.where(known, trials, 1.0)[..., None]
    density = np.exp(np.log(number) + _LOG_DENSITY + (number - 1.0) * _LOG_CDF)
    return np.asarray(np.where(known, density @ _GRID * _STEP, np.nan))


def trials_of_expected_maximum(
    maximum: float, expected: Callable[[ArrayLike], Floats] = expected_maximum, most: float = MOST_TRIALS
) -> float:
    """Return the number of independent trials whose expected maximum is `maximum`: the inverse of `expected`.

    Args:
        maximum: The expected maximum.
        expected: Rising function of the number of trials, which may be any real number from 1.
        most: The result if so many trials do not reach the maximum.

    Returns:
        The number; 1 for a maximum that one trial reaches, NaN for NaN.
    """
    if np.isnan(maximum):
        return np.nan
    low, high = 0.0, float(np.log(most))
    for _ in range(60):  # halves the range of logarithms down to the last bit of a double
        middle = 0.5 * (low + high)
        if expected(np.exp(middle)) < maximum:
            low = middle
        else:
            high = middle
    return float(np.exp(low))


def deflated_sharpe(
    record: ReturnStatistics,
    trials: ArrayLike,
    variance: ArrayLike | None = None,
    expected: Callable[[ArrayLike], Floats] = expected_maximum,
) -> Floats:
    """Return the probability that the true Sharpe ratio of a trial exceeds 0, given that it is the best of N.

    It is the probabilistic Sharpe ratio over the expected best of N trials without edge:
    benchmark = √variance · E[maximum of N standard normals].

    It centres on the mean of the maximum and keeps the spread of a single trial, which is wider. The test is thus not
    exact. For trials without edge it averages about 0.5. It exceeds 0.95 in 5 % of cases at N = 1, 2.7 % at N = 2,
    1.2 % at N = 5, 0.7 % at N = 10 and 0.2 % at N = 100.

    Source: Bailey and López de Prado, The Deflated Sharpe Ratio, Journal of Portfolio Management 40(5), 2014,
    equation 2.

    Args:
        record: Statistics of the best trial.
        trials: N, the number of independent trials, real; see `trials.effective_trials`. NaN below 1.
        variance: Variance of the trials' Sharpe ratios per day. None takes that of trials without edge, 1/(days - 1):
            use it if the ratios of the other trials are unknown, or the trials are few.
        expected: `expected_maximum`, or an approximation of it.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(1.0 / (record.days - 1.0) if variance is None else np.asarray(variance, dtype=np.float64))
    return probabilistic_sharpe(record, spread * expected(trials))
