"""Confidence interval of a rate."""

from scipy.special import betaincinv


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided confidence interval of a rate from a count of successes.

    It covers the true rate with a probability of at least `confidence`, for every rate. The ends are quantiles of beta
    distributions: the rates at which a count as extreme as this one has the probability (1 - `confidence`) / 2.

    Source: Clopper and Pearson, The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial,
    Biometrika 26(4), 1934.

    Args:
        successes: 0 to `trials`.
        trials: Number of trials; without a trial the interval is 0 to 1.
        confidence: Confidence of the interval.

    Raises:
        ValueError: Successes are below 0 or above trials, or confidence is not between 0 and 1.
    """
    if not 0 <= successes <= trials or not 0.0 < confidence < 1.0:
        raise ValueError(f"{successes} successes in {trials} trials with confidence {confidence}: not possible")
    tail = 0.5 * (1.0 - confidence)
    missed = trials - successes
    low = float(betaincinv(successes, missed + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, missed, 1.0 - tail)) if missed else 1.0
    return low, high
