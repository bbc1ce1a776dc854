"""Bars at times inside them: a price walks from the open over both extremes to the close.

Values are functions of the time alone, so REST, WebSocket and a second run agree. In the last millisecond of a bar its
values are those that are stored, bit for bit.
"""

import math
from typing import NamedTuple

from mei_pipeline.hyperliquid.simulator.market import CLOSE, HIGH, LOW, OPEN, VOLUME, SimulatedCoin, StoredBars
from mei_pipeline.hyperliquid.simulator.noise import mixed, uniform

_SIGNIFICANT = 5
_MAX_DECIMALS = 6


class BarView(NamedTuple):
    """A bar as far as it is known at a time; prices in USD, volume in coins."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: int


def price_decimals(price: float, size_decimals: int) -> int:
    """Return the decimals of a price: five significant figures, and at most 6 less those of sizes."""
    if price <= 0.0:
        return max(0, _MAX_DECIMALS - size_decimals)
    figures = _SIGNIFICANT - 1 - math.floor(math.log10(price))
    return max(0, min(_MAX_DECIMALS - size_decimals, figures))


def closed_bar(bars: StoredBars, index: int) -> BarView:
    """Return the final values of a bar."""
    opened, high, low, close, volume = bars.values[index].tolist()
    return BarView(int(bars.open_ms[index]), opened, high, low, close, volume, int(bars.trades[index]))


def bar_at(coin: SimulatedCoin, interval: str, now_ms: int) -> BarView | None:
    """Return the latest bar that opened at or before a time, with the values known then; None before the first."""
    bars = coin.bars.get(interval)
    if bars is None:
        return None
    index = bars.index_at(now_ms)
    return None if index < 0 else view_of(coin, bars, index, now_ms)


def view_of(coin: SimulatedCoin, bars: StoredBars, index: int, now_ms: int) -> BarView:
    """Return a bar that opened at or before a time, with the values known then."""
    final = closed_bar(bars, index)
    if now_ms >= final.open_ms + bars.length_ms - 1:
        return final
    if bars is coin.finest:
        return _walked(coin, final, bars.length_ms, now_ms)
    return _collected(coin, final, bars.length_ms, now_ms)


def price_at(coin: SimulatedCoin, now_ms: int) -> float | None:
    """Return the last price at a time; None before the first bar."""
    bar = bar_at(coin, coin.finest.interval, now_ms)
    return None if bar is None else bar.close


def _walked(coin: SimulatedCoin, final: BarView, length_ms: int, now_ms: int) -> BarView:
    """Return an open bar of the finest interval: prices go from the open to both extremes and the close."""
    done = (now_ms - final.open_ms) / length_ms
    key = mixed(coin.seed, final.open_ms)
    first, second = 0.15 + 0.3 * uniform(key, 1), 0.55 + 0.3 * uniform(key, 2)
    # A bar that rises usually has its low first.
    low_first = uniform(key, 3) < (0.75 if final.close >= final.open else 0.25)
    extremes = (final.low, final.high) if low_first else (final.high, final.low)
    times, prices = (0.0, first, second, 1.0), (final.open, *extremes, final.close)
    leg = 0 if done < first else 1 if done < second else 2
    share = (done - times[leg]) / (times[leg + 1] - times[leg])
    decimals = coin.terms_at(now_ms).size_decimals
    price = prices[leg] + share * (prices[leg + 1] - prices[leg])
    price = min(max(round(price, price_decimals(price, decimals)), final.low), final.high)
    seen = (*prices[: leg + 1], price)
    if share == 0.0:
        price = prices[leg]
    return BarView(
        final.open_ms,
        final.open,
        max(seen),
        min(seen),
        price,
        min(final.volume, round(final.volume * done, decimals)),
        int(final.trades * done),
    )


def _collected(coin: SimulatedCoin, final: BarView, length_ms: int, now_ms: int) -> BarView:
    """Return an open bar of a longer interval: made of the finest bars within it."""
    fine = coin.finest
    end = fine.index_at(now_ms) + 1
    begin = fine.index_at(final.open_ms - 1) + 1
    if begin >= end:
        return _walked(coin, final, length_ms, now_ms)
    last = view_of(coin, fine, end - 1, now_ms)
    closed = fine.values[begin : end - 1]
    highs, lows = [final.open, last.high], [final.open, last.low]
    volume, trades = last.volume, last.trades
    if len(closed):
        highs.append(float(closed[:, HIGH].max()))
        lows.append(float(closed[:, LOW].min()))
        volume += float(closed[:, VOLUME].sum())
        trades += int(fine.trades[begin : end - 1].sum())
    decimals = coin.terms_at(now_ms).size_decimals
    high, low = min(max(highs), final.high), max(min(lows), final.low)
    return BarView(
        final.open_ms,
        final.open,
        high,
        low,
        min(max(last.close, low), high),
        min(final.volume, round(volume, decimals)),
        min(final.trades, trades),
    )


def day_before(coin: SimulatedCoin, now_ms: int, day_ms: int) -> tuple[float, float, float]:
    """Return the price a day ago in USD, and the volume since then in coins and in USD, of bars that have closed."""
    fine = coin.finest
    end = fine.index_at(now_ms - fine.length_ms + 1) + 1
    begin = min(fine.index_at(now_ms - day_ms) + 1, end)
    before = float(fine.values[begin - 1, CLOSE]) if begin else float(fine.values[0, OPEN])
    volumes = fine.values[begin:end, VOLUME]
    return before, float(volumes.sum()), float(volumes @ fine.values[begin:end, CLOSE])
