"""The hourly skeleton of a synthetic market: regimes, volatility, shocks and the log prices at full hours.

Stochastic volatility (Taylor 1986): the log of an hour's volatility is level + season + regime + slow AR(1) + fast
AR(1) + noise. Each AR(1) has a shared part and a part of each symbol. Given the volatility an hour's return is
Gaussian, so the mixture has fat tails while the path inside the hour can be a Brownian motion. The return is a common
factor plus the symbol's own part, minus half the variance. So without drift the price itself, not its logarithm, is a
martingale.

Every random stream has its own generator, named by seed, purpose and symbol, and is read from the start of the market.
A longer market therefore repeats a shorter one bar by bar.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.sources.synthetic_config import Regimes, SyntheticMarket, instrument

Floats: TypeAlias = npt.NDArray[np.float64]

# Mean |hourly return| of 14 perpetuals by UTC hour and, Monday first, by weekday, relative to the mean of all.
HOUR_SEASON = np.array(
    (
        (1.03, 1.00, 0.97, 0.88, 0.85, 0.90, 0.91, 0.90, 0.92, 0.89, 0.80, 0.81),
        (0.91, 1.15, 1.44, 1.40, 1.22, 1.16, 1.01, 1.01, 1.00, 0.95, 1.03, 0.86),
    )
).ravel()
DAY_SEASON = np.array([1.08, 1.04, 1.00, 1.07, 1.14, 0.79, 0.88])


@dataclass(frozen=True)
class LogVolPart:
    """One AR(1) part of log volatility: variance shared by all symbols, variance of each symbol, half-life."""

    shared_var: float
    own_var: float
    half_life_hours: float


SLOW = LogVolPart(shared_var=0.070, own_var=0.030, half_life_hours=240.0)
FAST = LogVolPart(shared_var=0.105, own_var=0.045, half_life_hours=2.4)
NOISE_VAR = 0.065  # of log volatility, independent in each hour, for the factor and for each symbol's own part


@dataclass(frozen=True)
class Hours:
    """Hourly skeleton of a market; T hours, S symbols, all arrays time first.

    Attributes:
        log_price: [T+1, S], at the start of each hour and at the end of the last.
        factor_shock, own_shock: [T] and [T, S], standard normal.
        factor_std, own_std: [T, S], standard deviations that multiply the shocks.
        drift: [T, S], planted log return per hour.
        vol: [T, S], factor on each symbol's usual volatility.
        regime: [T], states of the market's Markov chain: -1 trend down, 0 range, 1 trend up.
    """

    log_price: Floats
    factor_shock: Floats
    own_shock: Floats
    factor_std: Floats
    own_std: Floats
    drift: Floats
    vol: Floats
    regime: Floats


def stream(seed: int, purpose: str, symbol: str = "", block: int = 0) -> np.random.Generator:
    """Return the generator of one random stream; streams with different arguments are independent."""
    key = [seed, crc32(purpose.encode()), crc32(symbol.encode()), block]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def ar1(shocks: Floats, decay: float) -> Floats:
    """Return y with y[t] = decay·y[t-1] + shocks[t] along the last axis, by recursive doubling.

    An element does not depend on the array's length, so a prefix of the result is the result of the prefix.
    """
    y, lag, weight = shocks.copy(), 1, decay
    while lag < y.shape[-1] and weight > 1e-18:  # noqa: PLR2004  (below a double's resolution)
        y[..., lag:] += weight * y[..., :-lag]
        lag, weight = 2 * lag, weight * weight
    return y


def stationary(shocks: Floats, half_life: float, variance: float) -> Floats:
    """Return a stationary Gaussian AR(1) of the given variance, driven by standard normal `shocks` [..., T]."""
    decay = 0.5 ** (1.0 / half_life)
    scaled = shocks * np.sqrt(variance * (1.0 - decay * decay))
    # The first value has the full variance: the process is stationary from its start.
    scaled[..., 0] = shocks[..., 0] * np.sqrt(variance)
    return ar1(scaled, decay)


def regime_path(seed: int, name: str, hours: int, regimes: Regimes) -> Floats:
    """Return a path of the regimes, [hours] of -1, 0 and 1; it starts in a range."""
    # The names of streams are part of the seed: another name would make other markets.
    durations, choices = stream(seed, "regime stays", name), stream(seed, "regime choices", name)
    path, now, state = np.zeros(hours), 0, 0
    while now < hours:
        mean = regimes.trend_hours if state else regimes.range_hours
        end = now + max(1, int(np.ceil(durations.standard_exponential() * mean)))
        path[now:end] = state
        state, now = _next_regime(state, choices.random(), regimes.reversal_frac), end
    return path


def _next_regime(state: int, uniform: float, reversal_frac: float) -> int:
    """Return the regime after `state`, chosen by a uniform number."""
    if state == 0:
        return 1 if uniform < 0.5 else -1  # noqa: PLR2004  (an even chance)
    return -state if uniform < reversal_frac else 0


def season(from_ms: int, hours: int) -> Floats:
    """Return the factor on volatility by hour of day and weekday, [hours]; its mean square over a week is 1."""
    hour = from_ms // HOUR_MS + np.arange(hours)
    mean_square = float(np.mean(HOUR_SEASON**2) * np.mean(DAY_SEASON**2))
    factor: Floats = (
        HOUR_SEASON[hour % 24] * DAY_SEASON[(hour // 24 + 3) % 7] / math.sqrt(mean_square)
    )  # day 0 was a Thursday
    return factor


def _log_vol(seed: int, symbol: str, hours: int, *, own: bool) -> Floats:
    """Return the sum of both AR(1) parts of log volatility, shared or a symbol's own, [hours]."""
    total = np.zeros(hours)
    for name, part in (("slow", SLOW), ("fast", FAST)):
        shocks = stream(seed, f"{name} volatility", symbol).standard_normal(hours)
        total += stationary(shocks, part.half_life_hours, part.own_var if own else part.shared_var)
    return total


def _noise(seed: int, symbol: str, hours: int) -> Floats:
    """Return independent factors on the standard deviation of each hour, [hours]; their mean square is 1."""
    normal = stream(seed, "volatility noise", symbol).standard_normal(hours)
    factor: Floats = np.exp(math.sqrt(NOISE_VAR) * normal - NOISE_VAR)
    return factor


def _edge_hours(market: SyntheticMarket, hours: int) -> int:
    """Return the number of hours from the start of the market that have the edge."""
    return hours if market.edge_to_ms is None else (market.edge_to_ms - market.from_ms) // HOUR_MS


@lru_cache(maxsize=2)
def make_hours(market: SyntheticMarket, hours: int) -> Hours:
    """Return the first `hours` hours of `market`; a smaller number gives a prefix of the same skeleton."""
    seed, regimes = market.seed, market.regimes
    regime = regime_path(seed, "", hours, regimes)
    log_vol_var = SLOW.shared_var + SLOW.own_var + FAST.shared_var + FAST.own_var
    common = season(market.from_ms, hours) * np.where(regime == 0.0, regimes.range_vol, regimes.trend_vol)
    common *= np.exp(_log_vol(seed, "", hours, own=False) - log_vol_var)
    factor_shock = stream(seed, "shock").standard_normal(hours)
    factor_noise = _noise(seed, "", hours)
    share = regimes.trend_market_share
    has_edge = np.arange(hours) < _edge_hours(market, hours)

    shape = (hours, len(market.symbols))
    out = {name: np.empty(shape) for name in ("own_shock", "factor_std", "own_std", "drift", "vol")}
    log_price = np.empty((hours + 1, len(market.symbols)))
    for at, symbol in enumerate(market.symbols):
        constants = instrument(symbol)
        vol = common * np.exp(_log_vol(seed, symbol, hours, own=True))
        std = constants.hourly_vol * vol
        factor_std = std * factor_noise * np.sqrt(constants.market_share)
        own_std = std * _noise(seed, symbol, hours) * np.sqrt(1.0 - constants.market_share)
        own_shock = stream(seed, "shock", symbol).standard_normal(hours)
        trend = np.sqrt(share) * regime + np.sqrt(1.0 - share) * regime_path(seed, symbol, hours, regimes)
        drift = market.drift_of(symbol) * std * trend * has_edge
        step = factor_std * factor_shock + own_std * own_shock + drift - 0.5 * (factor_std**2 + own_std**2)
        log_price[:, at] = np.cumsum(np.concatenate(([np.log(constants.price_usd)], step)))
        for name, column in (("own_shock", own_shock), ("factor_std", factor_std), ("own_std", own_std)):
            out[name][:, at] = column
        out["drift"][:, at], out["vol"][:, at] = drift, vol
    return Hours(log_price=log_price, factor_shock=factor_shock, regime=regime, **out)
