"""How much of a drawdown is the order in which trades happened to come."""

from dataclasses import dataclass

import numpy as np

from kernels.market import Floats

DRAWS = 10_000
_CELLS = 1_000_000  # numbers in one array of draws: 8 MB


@dataclass(frozen=True)
class MonteCarloDrawdowns:
    """Deepest falls from a peak, as fractions of the peak, when the same trades come in another order."""

    realised: float
    """In the order that happened."""
    shuffled: Floats
    """[draws] in shuffled orders, ascending."""
    rank: float
    """Share of shuffled ones that are less deep than the realised one; equal ones count half.

    Near 1 the order was unlucky. Near 0 it was lucky: the drawdown to plan with is deeper than the one that was seen.
    """


def max_drawdown_frac(profits: Floats, initial_usd: float) -> Floats:
    """Deepest fall of equity from a peak as a fraction of that peak, where nothing moves between trades.

    Args:
        profits: [..., trades] net profits in USD, in order.
        initial_usd: Equity before the first, above 0: the first peak.

    Returns:
        [...] fractions, 0 without a fall, above 1 when equity falls below 0.
    """
    start = np.full((*profits.shape[:-1], 1), initial_usd)
    equity = np.concatenate([start, initial_usd + profits.cumsum(axis=-1)], axis=-1)
    peak = np.maximum.accumulate(equity, axis=-1)
    return np.asarray(((peak - equity) / peak).max(axis=-1))


def monte_carlo_drawdowns(
    profits: Floats, initial_usd: float, draws: int = DRAWS, seed: int = 0
) -> MonteCarloDrawdowns:
    """Distribution of the maximum drawdown when the order of trades is shuffled, and where the realised one lies.

    Profits are added, not compounded, and trades are taken one after the other: overlapping ones, and losses that come
    in clusters because the market does, are outside of what a shuffle can show.

    Args:
        profits: [trades] net profits in USD, in order of their exits.
        initial_usd: Equity before the first, above 0.
        draws: Shuffles.
        seed: Of the shuffles.

    Returns:
        The result; NaN and an empty array without trades or with a value that is not finite.
    """
    if len(profits) == 0 or not np.isfinite(profits).all():
        return MonteCarloDrawdowns(np.nan, np.empty(0), np.nan)
    generator = np.random.default_rng(seed)
    batch = max(1, _CELLS // len(profits))
    found = []
    for start in range(0, draws, batch):
        rows = np.tile(profits, (min(batch, draws - start), 1))
        found.append(max_drawdown_frac(generator.permuted(rows, axis=1), initial_usd))
    shuffled = np.sort(np.concatenate(found))
    realised = float(max_drawdown_frac(profits, initial_usd))
    rank = np.mean(shuffled < realised) + 0.5 * np.mean(shuffled == realised)
    return MonteCarloDrawdowns(realised, shuffled, float(rank))
