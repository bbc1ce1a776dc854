"""Bars of a synthetic market: the path inside each hour, its extremes, volume, trades and the venue's price grid.

Inside an hour the factor and each symbol's own part are Brownian bridges to the skeleton's values. They run on a random
clock (activity comes in bursts), so a return at any scale remains a mixture of centred Gaussians. High and low of a bar
are drawn independently from the exact distribution of the extreme of a Brownian bridge between open and close:
P(max >= m) = exp(-2·m·(m - x)/v) for a move x with variance v (Karatzas and Shreve, Brownian Motion and Stochastic
Calculus, 4.3.40).
"""

import math
from dataclasses import dataclass

import numpy as np

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.sources.synthetic_config import BASE_INTERVALS, SyntheticMarket, instrument
from mei_pipeline.candles.sources.synthetic_hours import Floats, Hours, make_hours, stationary, stream

BLOCK_HOURS = 192  # bars are made in blocks of 8 days counted from 1970, each with its own generators
BURST_VAR, BURST_HALF_LIFE_MS = 1.40, 600_000.0  # persistent part of log activity inside an hour
FLICKER_VAR = 0.80  # independent part of log activity inside an hour
OPEN_GAP = 0.01  # standard deviation of open against previous close, in standard deviations of the bar
MAX_DECIMALS, FIGURES = 6, 5  # a price has at most 6 - size decimals decimals and, unless it is an integer, 5 figures
HORIZON_STEP_HOURS = 24 * 366  # a market without end is extended by this much at a time
TRADE_USD = 1_500.0


@dataclass(frozen=True)
class MarketBars:
    """Bars of one market; arrays [symbols, bars], only `open_ms` [bars]."""

    open_ms: np.ndarray[tuple[int], np.dtype[np.int64]]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    trades: np.ndarray[tuple[int, int], np.dtype[np.int64]]


def make_bars(market: SyntheticMarket, from_ms: int, to_ms: int) -> MarketBars:
    """Return the bars of `market`, in its own interval, that open at or after `from_ms` and have closed by `to_ms`.

    There are no bars before the market's start or after its end.
    """
    interval_ms = BASE_INTERVALS[market.interval]
    end_ms = to_ms if market.to_ms is None else min(to_ms, market.to_ms)
    start_ms = -(-max(from_ms, market.from_ms) // interval_ms) * interval_ms
    end_ms = end_ms // interval_ms * interval_ms
    if end_ms <= start_ms:
        return _empty(len(market.symbols))
    skeleton = make_hours(market, horizon_hours(market, end_ms))
    block_ms = BLOCK_HOURS * HOUR_MS
    blocks = range(start_ms // block_ms, -(-end_ms // block_ms))
    return _clip(_base_bars(market, skeleton, blocks), start_ms, end_ms)


def horizon_hours(market: SyntheticMarket, end_ms: int) -> int:
    """Return the number of hours of the skeleton that is needed for bars up to `end_ms`.

    A market without end gets whole steps, so that slices share few skeletons and the cache of `make_hours` hits.
    """
    if market.to_ms is not None:
        return (market.to_ms - market.from_ms) // HOUR_MS
    hours = -(-(end_ms - market.from_ms) // HOUR_MS)
    return -(-hours // HORIZON_STEP_HOURS) * HORIZON_STEP_HOURS


def round_prices(prices: Floats, size_decimals: Floats) -> Floats:
    """Return prices [symbols, …] on the venue's grid: 5 significant figures, at most 6 - size decimals decimals.

    Integer prices are always on the grid. `size_decimals` is [symbols].
    """
    room = (MAX_DECIMALS - size_decimals).reshape(-1, *([1] * (prices.ndim - 1)))
    decimals = np.clip(FIGURES - 1 - np.floor(np.log10(prices)), 0, room).astype(np.int64)
    scale = np.array([1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6])[decimals]
    rounded: Floats = np.maximum(np.rint(prices * scale), 1.0) / scale
    return rounded


def _base_bars(market: SyntheticMarket, skeleton: Hours, blocks: range) -> MarketBars:
    """Return bars of the market's own interval for the hours of the blocks that the skeleton covers."""
    steps = HOUR_MS // BASE_INTERVALS[market.interval]
    first = blocks.start * BLOCK_HOURS - market.from_ms // HOUR_MS  # hour of the skeleton where the blocks begin
    lo, hi = max(first, 0), min(first + len(blocks) * BLOCK_HOURS, len(skeleton.regime))
    inside = slice((lo - first) * steps, (hi - first) * steps)

    # Each block is drawn in full from its own generators, so a bar does not depend on the slice that it is made for.
    names = ("", *market.symbols)  # the empty name is the common factor
    normals = np.empty((len(names), len(blocks) * BLOCK_HOURS * steps, 6))
    uniforms = np.empty((len(names), len(blocks) * BLOCK_HOURS * steps, 2))
    size = BLOCK_HOURS * steps
    for at, name in enumerate(names):
        for index, block in enumerate(blocks):
            generator = stream(market.seed, "bars", name, block)
            rows = slice(index * size, index * size + size)
            generator.standard_normal(out=normals[at, rows])
            generator.random(out=uniforms[at, rows])
            if steps > 1:
                normals[at, rows, 1] = _activity(normals[at, rows, 1], normals[at, rows, 2], steps)
    normals, uniforms = normals[:, inside], uniforms[:, inside]
    return _bars_of(market, skeleton, (lo, hi), normals, uniforms)


def _activity(persistent: Floats, flicker: Floats, steps: int) -> Floats:
    """Return the log activity of each step of a block."""
    half_life = BURST_HALF_LIFE_MS / (HOUR_MS / steps)
    return stationary(persistent, half_life, BURST_VAR) + math.sqrt(FLICKER_VAR) * flicker


def _bridge(shock: Floats, normals: Floats, steps: int) -> tuple[Floats, Floats]:
    """Split hourly shocks [S, H]; return increments [S, H, steps] and their shares of the hour's variance."""
    shape = (*shock.shape, steps)
    if steps == 1:
        return shock[..., None], np.ones(shape)
    weight = np.exp(normals[..., 1].reshape(shape))
    weight /= weight.sum(axis=-1, keepdims=True)
    noise = np.sqrt(weight) * normals[..., 0].reshape(shape)
    return noise + weight * (shock[..., None] - noise.sum(axis=-1, keepdims=True)), weight


def _bars_of(
    market: SyntheticMarket,
    skeleton: Hours,
    hours: tuple[int, int],
    normals: Floats,
    uniforms: Floats,
) -> MarketBars:
    """Return the bars of a range of hours.

    Args:
        market: The market.
        skeleton: Hours of the market from its start.
        hours: First and last hour of the skeleton, [first, last).
        normals: Standard normal numbers, [1 + symbols, bars, 6]; the factor is first.
        uniforms: Uniform numbers, [1 + symbols, bars, 2].
    """
    lo, hi = hours
    steps = HOUR_MS // BASE_INTERVALS[market.interval]
    instruments = [instrument(symbol) for symbol in market.symbols]
    factor_std, own_std = skeleton.factor_std[lo:hi].T[..., None], skeleton.own_std[lo:hi].T[..., None]
    factor, factor_share = _bridge(skeleton.factor_shock[None, lo:hi], normals[:1], steps)
    own, own_share = _bridge(skeleton.own_shock[lo:hi].T, normals[1:], steps)
    variance = factor_std**2 * factor_share + own_std**2 * own_share
    moves = factor_std * factor + own_std * own - 0.5 * variance + skeleton.drift[lo:hi].T[..., None] / steps
    path = skeleton.log_price[lo:hi].T[..., None] + np.cumsum(moves, axis=-1)
    # The cumulative sum differs from the skeleton in the last bits; hours must be equal for every base interval.
    path[..., -1] = skeleton.log_price[lo + 1 : hi + 1].T
    close = path.reshape(len(instruments), -1)
    std = np.sqrt(variance).reshape(close.shape)
    before = np.concatenate((skeleton.log_price[lo][:, None], close[:, :-1]), axis=1)
    begin = before + OPEN_GAP * std * normals[1:, :, 3]
    move = close - begin
    reach = -2.0 * std**2
    up = 0.5 * (np.sqrt(move**2 + reach * np.log1p(-uniforms[1:, :, 0])) + move)
    down = 0.5 * (np.sqrt(move**2 + reach * np.log1p(-uniforms[1:, :, 1])) - move)

    decimals = np.array([each.size_decimals for each in instruments], dtype=np.float64)
    prices = round_prices(np.exp(np.stack((begin, begin + up, begin - down, close), axis=1)), decimals)
    vol = np.repeat(skeleton.vol[lo:hi].T, steps, axis=1)
    usual = np.array([each.hourly_vol for each in instruments])[:, None] / np.sqrt(steps)
    usd = np.array([each.daily_volume_usd for each in instruments])[:, None] / (24 * steps)
    price = np.array([each.price_usd for each in instruments])[:, None]
    activity = np.sqrt(vol * (up + down) / usual) * np.exp(0.30 * normals[1:, :, 4])
    scale = 10.0 ** decimals[:, None]
    volume = np.maximum(np.rint(usd / price * activity * scale), 1.0) / scale
    trades = np.maximum(np.rint(usd * activity / TRADE_USD * np.exp(0.15 * normals[1:, :, 5])), 1.0).astype(np.int64)
    open_ms = market.from_ms + lo * HOUR_MS + BASE_INTERVALS[market.interval] * np.arange(close.shape[1])
    return MarketBars(open_ms, prices[:, 0], prices[:, 1], prices[:, 2], prices[:, 3], volume, trades)


def _clip(bars: MarketBars, start_ms: int, end_ms: int) -> MarketBars:
    """Keep the bars that open in [start_ms, end_ms)."""
    lo, hi = (int(at) for at in np.searchsorted(bars.open_ms, (start_ms, end_ms)))
    return MarketBars(
        open_ms=bars.open_ms[lo:hi],
        open=bars.open[:, lo:hi],
        high=bars.high[:, lo:hi],
        low=bars.low[:, lo:hi],
        close=bars.close[:, lo:hi],
        volume=bars.volume[:, lo:hi],
        trades=bars.trades[:, lo:hi],
    )


def _empty(symbols: int) -> MarketBars:
    """Return zero bars of `symbols` symbols."""
    none = np.empty((symbols, 0))
    return MarketBars(np.empty(0, dtype=np.int64), none, none, none, none, none, none.astype(np.int64))
