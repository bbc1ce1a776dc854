"""Monte Carlo drawdowns: the drawdown of the same trades in random orders."""

from dataclasses import dataclass

import numpy as np

from kernels.market import Floats

DRAWS = 10_000
_CELLS = 1_000_000  # numbers in one array of draws: 8 MB


@dataclass(frozen=True)
class MonteCarloDrawdowns:
    """Maximum drawdowns of the same trades in random orders, fractions of the peak."""

    realised: float
    """Maximum drawdown in the real order."""
    shuffled: Floats
    """[draws] maximum drawdowns in random orders, ascending."""
    smaller_frac: float
    """Share of random orders with a smaller drawdown than the real order; equal ones count half.

    Near 0 the real order was favourable: plan with a greater drawdown than the realised one.
    """


def max_drawdown_frac(profits: Floats, initial_usd: float) -> Floats:
    """Return the maximum drawdown of equity that changes only by trades, as a fraction of the peak.

    Args:
        profits: [..., trades] net profits in USD, in order.
        initial_usd: Equity before the first trade, above 0: the first peak.

    Returns:
        [...] fractions; 0 without a drawdown, above 1 if equity falls below 0.
    """
    start = np.full((*profits.shape[:-1], 1), initial_usd)
    equity = np.concatenate([start, initial_usd + profits.cumsum(axis=-1)], axis=-1)
    peak = np.maximum.accumulate(equity, axis=-1)
    return np.asarray(((peak - equity) / peak).max(axis=-1))


def monte_carlo_drawdowns(
    profits: Floats, initial_usd: float, draws: int = DRAWS, seed: int = 0
) -> MonteCarloDrawdowns:
    """Return the maximum drawdowns of trades in random orders, and the share below the realised one.

    Profits are added, not compounded, and trades follow one another. So the result does not show overlapping trades, or
    clusters of losses that markets cause.

    Args:
        profits: [trades] net profits in USD, in order of their exits.
        initial_usd: Equity before the first trade, above 0.
        draws: Number of random orders.
        seed: Seed of the orders.

    Returns:
        The drawdowns; NaN and an empty array without trades or with a profit that is not finite.
    """
    if len(profits) == 0 or not np.isfinite(profits).all():
        return MonteCarloDrawdowns(np.nan, np.empty(0), np.nan)
    generator = np.random.default_rng(seed)
    batch = max(1, _CELLS // len(profits))
    parts = []
    for start in range(0, draws, batch):
        rows = np.tile(profits, (min(batch, draws - start), 1))
        parts.append(max_drawdown_frac(generator.permuted(rows, axis=1), initial_usd))
    shuffled = np.sort(np.concatenate(parts))
    realised = float(max_drawdown_frac(profits, initial_usd))
    smaller_frac = np.mean(shuffled < realised) + 0.5 * np.mean(shuffled == realised)
    return MonteCarloDrawdowns(realised, shuffled, float(smaller_frac))
