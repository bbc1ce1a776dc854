"""What a count of successes says about their rate."""

from scipy.special import betaincinv


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided confidence interval of a rate from a count of successes.

    It covers the true rate at least as often as `confidence` says, whatever the rate is. Each end is the rate at which
    a count as far out as this one has a chance of half of what is missing to 1: quantiles of beta distributions.

    Source: Clopper and Pearson, The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial,
    Biometrika 26(4), 1934.

    Args:
        successes: 0 to `trials`.
        trials: How often it was tried; without a trial the rate is anywhere from 0 to 1.
        confidence: Of the interval; each end has half of the rest.

    Raises:
        ValueError: Successes below 0 or above trials, or a confidence not between 0 and 1.
    """
    if not 0 <= successes <= trials or not 0.0 < confidence < 1.0:
        raise ValueError(f"{successes} successes in {trials} trials with confidence {confidence}")
    tail = 0.5 * (1.0 - confidence)
    missed = trials - successes
    low = float(betaincinv(successes, missed + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, missed, 1.0 - tail)) if missed else 1.0
    return low, high
