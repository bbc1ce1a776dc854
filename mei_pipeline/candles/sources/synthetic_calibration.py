"""Measures what a planted edge earns: the EMA cross on a very long run of the same process.

The rule is `ema_cross` without stop and target, close to close: at the close of a bar hold sign(fast EMA - slow EMA) of
each symbol until the next close, at the same notional for every symbol, fees on every change, no slippage, no funding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mei_pipeline.candles.sources.synthetic_config import SyntheticMarket
from mei_pipeline.candles.sources.synthetic_hours import Floats, make_hours
from mei_pipeline.progress import Progress, silent

FAST = (5, 8, 12, 16, 21, 25)
SLOW = (30, 40, 60, 80, 100, 130, 160)
WARM_BARS = 200
DAY_HOURS = 24
YEAR_DAYS = 365
RUN_YEARS = 10  # a long run is made of markets of this length, with seeds of their own
CHUNK_HOURS = DAY_HOURS * 200


@dataclass(frozen=True)
class Earned:
    """What the rule earned on one planted edge.

    Attributes:
        edge_size: Drift in a trend, in hourly standard deviations per hour.
        books: Numbers of symbols; a book holds the first so many of the market's.
        net: [books, fast, slow], annualised Sharpe ratio of daily returns after fees.
        gross: The same before fees.
        years: Length of the run.
    """

    edge_size: float
    books: tuple[int, ...]
    net: Floats
    gross: Floats
    years: int

    def best(self, book: int) -> tuple[float, int, int]:
        """Return the highest net Sharpe ratio of the book at that place, and its fast and slow windows."""
        fast, slow = np.unravel_index(int(self.net[book].argmax()), self.net[book].shape)
        return float(self.net[book, fast, slow]), FAST[int(fast)], SLOW[int(slow)]


def measure(
    market: SyntheticMarket,
    books: Sequence[int],
    years: int,
    fee_bps: float = 4.5,
    progress: Progress = silent,
) -> Earned:
    """Run every pair of `FAST` and `SLOW` on about `years` years of the process behind `market`.

    Args:
        market: Gives edge, regimes, symbols and first seed.
        books: Numbers of symbols to report, each at most the number of the market's symbols.
        years: Rounded up to whole runs of `RUN_YEARS`.
        fee_bps: Fee per fill, of its notional.
        progress: Told after each run.
    """
    runs = -(-years // RUN_YEARS)
    moments = np.zeros((3, 2, len(books), len(FAST), len(SLOW)))  # count, sum, sum of squares; gross, net
    for run in range(runs):
        hours = RUN_YEARS * YEAR_DAYS * DAY_HOURS
        log_price = make_hours(replace(market, seed=market.seed + run), hours).log_price[1:]
        for gross, cost in ema_cross_days(log_price):
            for at, book in enumerate(books):
                before = gross[..., :book].mean(axis=-1)
                for after, daily in enumerate((before, before - fee_bps * 1e-4 * cost[..., :book].mean(axis=-1))):
                    moments[0, after, at] += daily.shape[-1]
                    moments[1, after, at] += daily.sum(axis=-1)
                    moments[2, after, at] += (daily**2).sum(axis=-1)
        progress(run + 1, runs, f"edge {market.edge_size:g}")
    mean = moments[1] / moments[0]
    sharpe = mean / np.sqrt(moments[2] / moments[0] - mean**2) * np.sqrt(YEAR_DAYS)
    return Earned(market.edge_size, tuple(books), sharpe[1], sharpe[0], runs * RUN_YEARS)


def ema_cross_days(log_price: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Yield, for stretches of days, what each window pair made before fees and what it traded.

    Args:
        log_price: [hours, symbols] at the closes.

    Yields:
        Two arrays [fast, slow, days, symbols]: simple return on constant notional, and turnover as a fraction of it.
    """
    hours, symbols = log_price.shape
    close = np.exp(log_price - log_price[0])
    ahead = np.zeros_like(close)
    ahead[:-1] = np.expm1(np.diff(log_price, axis=0))
    weight = (2.0 / (np.array(FAST + SLOW) + 1.0))[:, None]
    ema = np.repeat(close[:1], len(weight), axis=0)
    held = np.zeros((len(FAST), len(SLOW), 1, symbols))
    for start in range(0, hours // DAY_HOURS * DAY_HOURS, CHUNK_HOURS):
        end = min(start + CHUNK_HOURS, hours // DAY_HOURS * DAY_HOURS)
        path = np.empty((len(weight), end - start, symbols))
        for hour in range(start, end):
            ema = ema + weight * (close[hour] - ema)
            path[:, hour - start] = ema
        position = np.sign(path[: len(FAST), None] - path[None, len(FAST) :])
        position[:, :, : max(0, WARM_BARS - start)] = 0.0
        traded = np.abs(np.diff(position, axis=2, prepend=held))
        held = position[:, :, -1:]
        days = (len(FAST), len(SLOW), (end - start) // DAY_HOURS, DAY_HOURS, symbols)
        yield (position * ahead[start:end]).reshape(days).sum(axis=3), traded.reshape(days).sum(axis=3)
