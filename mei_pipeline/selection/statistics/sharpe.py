"""The Sharpe ratio of daily returns, and how far luck explains it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr, ndtri

from kernels.market import Floats
from mei_pipeline.sweep.metrics import FEWEST_DAYS, NO_VARIANCE, YEAR_DAYS

NORMAL_KURTOSIS = 3.0
MOST_TRIALS = 1e20  # the grid below ends where the maximum of more might lie
_GRID = np.linspace(-12.0, 12.0, 2401)  # the widest density is 1 wide, the narrowest 0.1: 10 points and more
_STEP = _GRID[1] - _GRID[0]
_LOG_DENSITY = -0.5 * _GRID * _GRID - 0.5 * np.log(2.0 * np.pi)
_LOG_CDF = log_ndtr(_GRID)


@dataclass(frozen=True)
class ReturnStatistics:
    """What the error of a Sharpe ratio depends on. Each field is one number, or [K] of K trials; NaN is no evidence."""

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
    """Track record of daily returns, [days] of one trial or [days, K] of K trials.

    A trial with less than two days, without variation, or with a value that is not finite has NaN for everything but
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
    """Track record from count, sum and sum of squares of daily returns, each one number or [K].

    Sums say nothing about skewness and kurtosis: without them returns are taken as normal, which flatters a trial that
    loses seldom and much.
    """
    n, total, squares = (np.asarray(value, dtype=np.float64) for value in (n, total, squares))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / n
        variance = (squares - n * mean * mean) / (n - 1.0)
        usable = (n >= FEWEST_DAYS) & (variance > NO_VARIANCE)
        sharpe = np.where(usable, mean / np.sqrt(variance), np.nan)
    return ReturnStatistics(n, sharpe, np.asarray(skewness, dtype=np.float64), np.asarray(kurtosis, dtype=np.float64))


def _spread(record: ReturnStatistics) -> Floats:
    """√(1 - skewness·SR + (kurtosis - 1)/4·SR²): the error of a Sharpe ratio times √(days - 1); NaN where it is 0."""
    sharpe = np.asarray(record.sharpe)
    inside = 1.0 - record.skewness * sharpe + 0.25 * (record.kurtosis - 1.0) * sharpe * sharpe
    return np.sqrt(np.where(inside > 0.0, inside, np.nan))


def probabilistic_sharpe(record: ReturnStatistics, benchmark: ArrayLike = 0.0) -> Floats:
    """Probability that the true Sharpe ratio exceeds `benchmark` (per day), given the track record.

    Φ((SR - benchmark)·√(days - 1) / √(1 - skewness·SR + (kurtosis - 1)/4·SR²)). Uniform on 0..1 when the true ratio is
    the benchmark. Returns are taken as independent; see `bootstrap` for those that are not.

    Source: Bailey and López de Prado, The Sharpe Ratio Efficient Frontier, Journal of Risk 15(2), 2012, equation 9.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(ndtr((record.sharpe - np.asarray(benchmark)) * np.sqrt(record.days - 1.0) / _spread(record)))


def minimum_track_record(record: ReturnStatistics, benchmark: float = 0.0, confidence: float = 0.95) -> Floats:
    """Days after which the probabilistic Sharpe ratio reaches `confidence`, if the rest of the record stays as it is.

    1 + (1 - skewness·SR + (kurtosis - 1)/4·SR²)·(z / (SR - benchmark))²; infinite when SR does not exceed the
    benchmark.

    Source: Bailey and López de Prado, 2012 (see `probabilistic_sharpe`), equation 11.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        lead = np.maximum(record.sharpe - benchmark, 0.0)
        return np.asarray(1.0 + (_spread(record) * ndtri(confidence) / lead) ** 2)


def expected_maximum(trials: ArrayLike) -> Floats:
    """Expected maximum of independent standard normals, for any real number of them from 1, where it is 0.

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


def expected_maximum_gumbel(trials: ArrayLike) -> Floats:
    """The approximation of `expected_maximum` that is printed in the paper on the deflated Sharpe ratio.

    (1 - c)·Φ⁻¹(1 - 1/N) + c·Φ⁻¹(1 - 1/(N·e)), c the constant of Euler and Mascheroni. 1 % too high at N = 100, 8 % too
    low at N = 2; held at 0 from below, and 0 at N = 1. NaN below 1.

    Source: Bailey and López de Prado, The Deflated Sharpe Ratio, Journal of Portfolio Management 40(5), 2014,
    equation 1.
    """
    trials = np.asarray(trials, dtype=np.float64)
    number = np.where(trials >= 1.0, trials, np.nan)
    high = ndtri(1.0 - np.exp(-1.0) / number)
    value = np.maximum((1.0 - np.euler_gamma) * ndtri(1.0 - 1.0 / number) + np.euler_gamma * high, 0.0)
    return np.asarray(value)


def trials_of_expected_maximum(
    maximum: float, expected: Callable[[ArrayLike], Floats] = expected_maximum, most: float = MOST_TRIALS
) -> float:
    """The number of independent trials whose expected maximum is `maximum`: `expected` inverted.

    Args:
        maximum: What is expected of the best.
        expected: Rising function of the number of trials, which may be any real number from 1.
        most: The answer where so many do not reach the maximum.

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
    """Probability that the true Sharpe ratio of the best of N trials exceeds 0, given that the best of N was chosen.

    The probabilistic Sharpe ratio against what the best of N trials without edge is expected to reach:
    benchmark = √variance · E[maximum of N standard normals].

    It centres on the mean of the maximum and keeps the spread of a single trial, which is wider. As a test it is thus
    not exact: for trials without edge it averages about 0.5, and exceeds 0.95 in 5 % of cases at N = 1, 2.7 % at N = 2,
    1.2 % at N = 5, 0.7 % at N = 10 and 0.2 % at N = 100.

    Source: Bailey and López de Prado, 2014 (see `expected_maximum_gumbel`), equation 2.

    Args:
        record: Of the chosen trial.
        trials: N, independent trials that were made, real; see `trials.effective_trials`. NaN below 1.
        variance: Of the trials' Sharpe ratios per day. None takes that of trials without edge, 1/(days - 1): right
            where the ratios of the other trials are not known, or are of few trials.
        expected: `expected_maximum`, or the paper's approximation.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(1.0 / (record.days - 1.0) if variance is None else np.asarray(variance, dtype=np.float64))
    return probabilistic_sharpe(record, spread * expected(trials))


def one_sided_power(sharpe_annual: ArrayLike, days: ArrayLike, level: float) -> Floats:
    """Power of the ideal one-sided test of a mean above 0: the chance that an edge is seen in so many days.

    Φ(S·√(days/365) - Φ⁻¹(1 - level)): the z-test of independent normal returns of known variance, which no test of the
    same level beats (lemma of Neyman and Pearson).

    Args:
        sharpe_annual: True Sharpe ratio S of a year of 365 days, one number or an array.
        days: Length of the test.
        level: Chance of seeing an edge where there is none.
    """
    years = np.asarray(days, dtype=np.float64) / YEAR_DAYS
    return np.asarray(ndtr(np.asarray(sharpe_annual) * np.sqrt(years) - ndtri(1.0 - level)))
