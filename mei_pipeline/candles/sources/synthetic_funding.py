"""Funding of a synthetic market: an hourly premium, and the rate by Hyperliquid's rule."""

import numpy as np
import numpy.typing as npt

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.sources.synthetic_bars import horizon_hours
from mei_pipeline.candles.sources.synthetic_config import SyntheticMarket, instrument
from mei_pipeline.candles.sources.synthetic_hours import Floats, make_hours, stationary, stream

PREMIUM_MEAN = 2.0e-4  # per 8 hours, like all premiums here
SLOW_STD, SLOW_HALF_LIFE_HOURS = 4.2e-4, 160.0
FAST_STD, FAST_HALF_LIFE_HOURS = 2.8e-4, 3.0
CHASE_STD, CHASE_HALF_LIFE_HOURS = 1.5e-4, 24.0  # longs pay more after a rise

INTEREST = 1.0e-4
CLAMP = 5.0e-4
RATE_LIMIT = 0.04
PERIOD_HOURS = 8.0


def funding_rate(premium: Floats) -> Floats:
    """Return the hourly payment of longs as a fraction of notional, for the mean premium of an hour.

    Formula: Hyperliquid documentation, "Funding": premium + clamp(interest - premium, -0.05 %, 0.05 %) for 8 hours, an
    eighth of it each hour, at most 4 % per hour.
    """
    per_period = premium + np.clip(INTEREST - premium, -CLAMP, CLAMP)
    return np.clip(per_period / PERIOD_HOURS, -RATE_LIMIT, RATE_LIMIT)


def make_funding(market: SyntheticMarket, from_ms: int, to_ms: int) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return times [T], rates [S, T] and premiums [S, T] of the full hours in [from_ms, to_ms).

    A payment is computed from the premium of the hour before it, so the market's first hour has none.
    """
    # The payment at the market's end is included: it is computed from the last hour.
    end_ms = to_ms if market.to_ms is None else min(to_ms, market.to_ms + HOUR_MS)
    first = max(-(-from_ms // HOUR_MS), market.from_ms // HOUR_MS + 1)
    last = -(-end_ms // HOUR_MS)
    if last <= first:
        empty = np.empty((len(market.symbols), 0))
        return np.empty(0, dtype=np.int64), empty, empty
    lo, hi = (hour - 1 - market.from_ms // HOUR_MS for hour in (first, last))
    horizon = horizon_hours(market, market.from_ms + hi * HOUR_MS)
    moves = np.diff(make_hours(market, horizon).log_price, axis=0)
    premiums = np.stack([_premium(market.seed, name, moves[:, at]) for at, name in enumerate(market.symbols)])
    premiums = np.round(premiums[:, lo:hi], 10)
    return np.arange(first, last) * HOUR_MS, funding_rate(premiums), premiums


def _premium(seed: int, symbol: str, moves: Floats) -> Floats:
    """Return the premium of each hour, [hours]."""
    slow, fast = (stream(seed, f"{name} premium", symbol).standard_normal(len(moves)) for name in ("slow", "fast"))
    total = PREMIUM_MEAN + stationary(slow, SLOW_HALF_LIFE_HOURS, SLOW_STD**2)
    total += stationary(fast, FAST_HALF_LIFE_HOURS, FAST_STD**2)
    return total + stationary(moves / instrument(symbol).hourly_vol, CHASE_HALF_LIFE_HOURS, CHASE_STD**2)
