"""Calibration of a planted edge: the Sharpe ratio of `ema_cross` on a very long run of the same process.

The rules are those of `ema_cross` on closed hourly bars. A cross of the EMAs at a close is filled at the next open.
Stop and target are fixed at entry in units of ATR(14) and tested against high and low, the stop first; a gap is filled
at the open. After either the position is flat until the next cross.

Every position has the same notional at entry and profits are not reinvested. So the Sharpe ratio is that of daily
profit per unit of capital, with fees and slippage, without funding. The computation is vectorised over windows, stops,
markets and symbols; only time is a loop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.sources.synthetic_bars import make_bars
from mei_pipeline.candles.sources.synthetic_config import SyntheticMarket
from mei_pipeline.candles.sources.synthetic_edge import COST_BPS
from mei_pipeline.candles.sources.synthetic_hours import Floats
from mei_pipeline.progress import Progress, silent

FAST = (5, 8, 12, 18, 25)
SLOW = (30, 50, 80, 120, 160)
STOPS: tuple[tuple[float, float], ...] = (
    (1.5, 1.5),
    (1.5, 4.0),
    (2.0, 4.0),
    (3.0, 4.0),
    (4.0, 4.0),
    (1e6, 1e6),
)  # stop and target in ATR; the last pair is never reached
TIGHT = slice(0, -1)
ATR_WINDOW = 14
WARM_BARS = 200
DAY_HOURS = 24
YEAR_DAYS = 365
RUN_DAYS = 2 * YEAR_DAYS  # a long run is made of markets of this length, each with its own seed
MARKETS_AT_ONCE = 5


@dataclass(frozen=True)
class EdgeSharpeRatios:
    """Annualised Sharpe ratios of the strategy with one planted edge.

    Attributes:
        edge_size: Drift in a trend, in hourly standard deviations per hour.
        books: Numbers of symbols; a book holds the market's first symbols with equal weights.
        gross: Ratios before costs, [books, fast, slow, stops].
        net: Ratios after fees and slippage, [books, fast, slow, stops].
        years: Length of the run.
    """

    edge_size: float
    books: tuple[int, ...]
    gross: Floats
    net: Floats
    years: int

    def best(self, book: int, stops: slice = slice(None)) -> tuple[float, int, int, float, float]:
        """Return the highest net ratio of the book at index `book`, and its fast, slow, stop and target."""
        ratios = self.net[book][..., stops]
        fast, slow, pair = (int(at) for at in np.unravel_index(int(ratios.argmax()), ratios.shape))
        stop, target = STOPS[stops][pair]
        return float(ratios[fast, slow, pair]), FAST[fast], SLOW[slow], stop, target


def measure(
    market: SyntheticMarket,
    books: Sequence[int],
    years: int,
    cost_bps: float = COST_BPS,
    progress: Progress = silent,
) -> EdgeSharpeRatios:
    """Run every combination of `FAST`, `SLOW` and `STOPS` on about `years` years of the process of `market`.

    Args:
        market: Edge, regimes, symbols and first seed of the run; its interval must be 1h.
        books: Numbers of symbols to report, each at most the number of the market's symbols.
        years: Length of the run, rounded up to complete batches of markets.
        cost_bps: Fee and slippage per fill, of its notional.
        progress: Called after each batch.
    """
    batch_years = MARKETS_AT_ONCE * RUN_DAYS // YEAR_DAYS
    batches = -(-years // batch_years)
    moments = np.zeros((3, 2, len(books), len(FAST), len(SLOW), len(STOPS)))  # n, sum, sum of squares; gross, net
    for batch in range(batches):
        seeds = range(market.seed + batch * MARKETS_AT_ONCE, market.seed + (batch + 1) * MARKETS_AT_ONCE)
        bars = _stack([replace(market, seed=seed) for seed in seeds])
        for profit, traded in trade_days(bars):
            # Moments are enough for Sharpe ratios, and their size does not grow with the length of the run.
            for at, book in enumerate(books):
                gross = profit[..., :book].mean(axis=-1)
                for after, daily in enumerate((gross, gross - cost_bps * 1e-4 * traded[..., :book].mean(axis=-1))):
                    moments[0, after, at] += daily.shape[-1]
                    moments[1, after, at] += daily.sum(axis=-1)
                    moments[2, after, at] += (daily**2).sum(axis=-1)
        progress(batch + 1, batches, f"edge {market.edge_size:g}")
    mean = moments[1] / moments[0]
    sharpe = mean / np.sqrt(moments[2] / moments[0] - mean**2) * np.sqrt(YEAR_DAYS)
    return EdgeSharpeRatios(market.edge_size, tuple(books), sharpe[0], sharpe[1], batches * batch_years)


def _stack(markets: Sequence[SyntheticMarket]) -> Floats:
    """Return open, high, low and close of several markets, [4, hours, markets, symbols]."""
    hours = RUN_DAYS * DAY_HOURS
    runs = [make_bars(market, market.from_ms, market.from_ms + hours * HOUR_MS) for market in markets]
    return np.stack([np.stack((bars.open.T, bars.high.T, bars.low.T, bars.close.T)) for bars in runs], axis=2)


def trade_days(bars: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Trade every combination on every symbol of every market, each separately with a notional of 1 at entry.

    Args:
        bars: Open, high, low and close, [4, hours, markets, symbols].

    Yields:
        For each day two arrays [fast, slow, stops, markets, symbols]: profit before fees, and notional traded.
    """
    opens, highs, lows, closes = bars
    crosses, atr = _crosses(closes), _atr(highs, lows, closes)
    stop_atr, target_atr = np.array(STOPS).T.reshape(2, len(STOPS), 1, 1)
    shape = (len(FAST), len(SLOW), len(STOPS), *closes.shape[1:])
    units, stop, target = np.zeros(shape), np.zeros(shape), np.zeros(shape)  # units are signed
    profit, traded = np.zeros(shape), np.zeros(shape)
    for hour in range(1, len(closes)):
        begin, end = opens[hour], closes[hour]
        profit += units * (begin - closes[hour - 1])
        side = crosses[hour - 1][:, :, None]
        filled = np.broadcast_to(side != 0.0, shape)
        traded += filled * (np.abs(units) * begin + 1.0)
        units = np.where(filled, side / begin, units)
        stop = np.where(filled, begin - side * stop_atr * atr[hour - 1], stop)
        target = np.where(filled, begin + side * target_atr * atr[hour - 1], target)
        long, held = units > 0.0, units != 0.0
        stopped = held & np.where(long, lows[hour] <= stop, highs[hour] >= stop)
        out = stopped | (held & np.where(long, highs[hour] >= target, lows[hour] <= target))
        level = np.where(stopped, stop, target)
        # If the bar opens beyond the level, the fill is at the open: worse for a stop, better for a target.
        gapped = np.where(stopped == long, begin < level, begin > level)
        leave = np.where(out, np.where(gapped, begin, level), end)
        profit += units * (leave - begin)
        traded += out * np.abs(units) * leave
        units = np.where(out, 0.0, units)
        if hour % DAY_HOURS == DAY_HOURS - 1:
            yield profit, traded
            profit, traded = np.zeros(shape), np.zeros(shape)


def _crosses(closes: Floats) -> Floats:
    """Return the new side of each window pair at each close, 0 where it does not change, [hours, fast, slow, …]."""
    windows = np.array(FAST + SLOW, dtype=np.float64)
    weight = (2.0 / (windows + 1.0)).reshape(-1, *([1] * (closes.ndim - 1)))
    ema = np.repeat(closes[:1], len(windows), axis=0)
    side = np.zeros((len(closes), len(FAST), len(SLOW), *closes.shape[1:]))
    before = np.full(side.shape[1:], -1.0)
    for hour, close in enumerate(closes):
        ema = ema + weight * (close - ema)
        now = np.where(ema[: len(FAST), None] > ema[None, len(FAST) :], 1.0, -1.0)
        if hour >= WARM_BARS:
            side[hour] = now * (now != before)
        before = now
    return side


def _atr(highs: Floats, lows: Floats, closes: Floats) -> Floats:
    """Return Wilder's average true range, seeded with the first bar's range; same shape as `closes`."""
    before = np.concatenate((closes[:1], closes[:-1]))
    ranges = np.maximum(highs, before) - np.minimum(lows, before)
    ranges[0] = highs[0] - lows[0]
    out = np.empty_like(ranges)
    value = ranges[0]
    for hour, now in enumerate(ranges):
        value = value + (now - value) / ATR_WINDOW
        out[hour] = value
    return out
