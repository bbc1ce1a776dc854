"""The feature columns once more, slow and obvious: plain Python, from the definitions, over the whole history at once.

Nothing here is shared with `kernels`. Results are compared bit for bit, so the twin follows the order of sums that is
part of the rules: a mean of the last few values is the oldest of them plus the mean of the differences from it, and
such sums run in eight lanes.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NAN = float("nan")


@dataclass(frozen=True)
class Candle:
    """One bar that exists, as far as features read it."""

    high: float
    low: float
    close: float
    volume: float


Series = list[float]


def column(kind: str, windows: Sequence[int], bars: Sequence[Candle | None]) -> Series:
    """A column over a grid: a bar that does not exist repeats the value before it, NaN before the first."""
    values = iter(KINDS[kind]([bar for bar in bars if bar is not None], *windows))
    series, value = [], NAN
    for bar in bars:
        value = value if bar is None else next(values)
        series.append(value)
    return series


def add(values: Sequence[float]) -> float:
    """Sum from left to right; the built-in sum corrects its rounding since Python 3.12."""
    total = 0.0
    for value in values:
        total += value
    return total


def add_side_by_side(values: Sequence[float]) -> float:
    """Eight sums over every eighth value each, as far as whole eights go; then what is left, from left to right."""
    whole = len(values) - len(values) % 8
    a, b, c, d, e, f, g, h = (add(values[lane:whole:8]) for lane in range(8))
    return ((a + b) + (c + d)) + ((e + f) + (g + h)) + add(values[whole:])


def mean(values: Sequence[float]) -> float:
    oldest = values[0]
    return oldest + add_side_by_side([value - oldest for value in values]) / len(values)


def last(values: Series, t: int, window: int) -> Series:
    """Up to `window` values that end with the one at t."""
    return values[max(0, t + 1 - window) : t + 1]


def means(values: Series, window: int) -> Series:
    return [mean(last(values, t, window)) for t in range(len(values))]


def changes(values: Series) -> Series:
    return [values[t] - values[t - 1] if t else 0.0 for t in range(len(values))]


def exponential(values: Series, window: int) -> Series:
    series: Series = []
    for value in values:
        series.append(series[-1] + 2.0 / (window + 1.0) * (value - series[-1]) if series else value)
    return series


def wilder(values: Series, window: int) -> Series:
    """Plain mean of what there is up to `window` values, then a `window`-th of the way to each value."""
    series: Series = []
    for t, value in enumerate(values):
        if t < window:
            series.append(add(values[: t + 1]) / (t + 1))
        else:
            series.append(series[-1] + (value - series[-1]) / window)
    return series


def decayed(values: Series, window: int) -> Series:
    """Plain sum of the first `window` values, then Wilder's sum: less its `window`-th part, plus the new value."""
    series: Series = []
    for t, value in enumerate(values):
        if t < window:
            series.append(add(values[: t + 1]))
        else:
            series.append(series[-1] - series[-1] / window + value)
    return series


def closes(bars: list[Candle]) -> Series:
    return [bar.close for bar in bars]


def volumes(bars: list[Candle]) -> Series:
    return [bar.volume for bar in bars]


def ranges(bars: list[Candle]) -> Series:
    """True ranges: the greatest of high - low and how far high and low lie from the last close."""
    series: Series = []
    for t, bar in enumerate(bars):
        spans = [bar.high - bar.low]
        if t:
            spans += [abs(bar.high - bars[t - 1].close), abs(bar.low - bars[t - 1].close)]
        series.append(max(spans))
    return series


def ema(bars: list[Candle], window: int) -> Series:
    return exponential(closes(bars), window)


def atr(bars: list[Candle], window: int) -> Series:
    series: Series = []
    for reach in ranges(bars):
        series.append(series[-1] + (reach - series[-1]) / window if series else reach)
    return series


def atr_warm(bars: list[Candle], window: int) -> Series:
    return wilder(ranges(bars), window)


def adx(bars: list[Candle], window: int) -> Series:
    plus, minus = [], []
    for before, bar in itertools.pairwise(bars):
        up, down = bar.high - before.high, before.low - bar.low
        plus.append(up if up > down and up > 0 else 0.0)
        minus.append(down if down > up and down > 0 else 0.0)
    sums = zip(decayed(plus, window), decayed(minus, window), decayed(ranges(bars)[1:], window), strict=True)
    indices = []
    for up, down, reach in sums:
        rise, fall = (100.0 * up / reach, 100.0 * down / reach) if reach > 0 else (0.0, 0.0)
        indices.append(100.0 * abs(rise - fall) / (rise + fall) if rise + fall > 0 else 0.0)
    # The first bar has no change; an index counts once it is made of `window` changes.
    series = [0.0] * window + wilder(indices[window - 1 :], window)
    return series[: len(bars)]


def rsi(bars: list[Candle], window: int) -> Series:
    moves = changes(closes(bars))[1:]
    gains = wilder([max(move, 0.0) for move in moves], window)
    losses = wilder([max(-move, 0.0) for move in moves], window)
    series = [50.0] * min(window, len(bars))
    for gain, loss in zip(gains[window - 1 :], losses[window - 1 :], strict=True):
        if gain == 0 and loss == 0:
            series.append(50.0)
        elif loss == 0:
            series.append(100.0)
        else:
            series.append(100.0 - 100.0 / (1.0 + gain / loss))
    return series


def stoch_k(bars: list[Candle], rsi_window: int, window: int, smooth: int) -> Series:
    strength = rsi(bars, rsi_window)
    places = []
    for t in range(window - 1, len(bars)):
        low, high = min(last(strength, t, window)), max(last(strength, t, window))
        places.append((strength[t] - low) / (high - low) if high > low else 0.5)
    return [0.5] * min(window - 1, len(bars)) + means(places, smooth)


def bb_ratio(bars: list[Candle], window: int, over: int) -> Series:
    widths = []
    for t, bar in enumerate(bars):
        recent = last(closes(bars), t, window)
        middle = mean(recent)
        deviations = [(close - middle) / bar.close for close in recent]
        full = len(recent) == window
        widths.append(math.sqrt(add_side_by_side([x * x for x in deviations]) / window) if full else 0.0)
    return [width / usual if usual > 0 else 1.0 for width, usual in zip(widths, means(widths, over), strict=True)]


def ema_slope(bars: list[Candle], ema_window: int, window: int) -> Series:
    series = ema(bars, ema_window)
    return [
        (series[t] - series[t - (window - 1)]) / bar.close if t >= window - 1 else 0.0 for t, bar in enumerate(bars)
    ]


def macd_hist(bars: list[Candle], fast: int, slow: int, signal: int) -> Series:
    line = [a - b for a, b in zip(ema(bars, fast), ema(bars, slow), strict=True)]
    return [a - b for a, b in zip(line, exponential(line, signal), strict=True)]


def macd_run(bars: list[Candle], fast: int, slow: int, signal: int) -> Series:
    signs = [float(move > 0) - float(move < 0) for move in changes(macd_hist(bars, fast, slow, signal))]
    series = []
    for t, sign in enumerate(signs):
        length = 1
        while length <= t and signs[t - length] == sign:
            length += 1
        series.append(sign * length)
    return series


def highest(bars: list[Candle], window: int) -> Series:
    highs = [bar.high for bar in bars]
    return [max(last(highs, t, window)) for t in range(len(bars))]


def lowest(bars: list[Candle], window: int) -> Series:
    lows = [bar.low for bar in bars]
    return [min(last(lows, t, window)) for t in range(len(bars))]


KINDS: dict[str, Callable[..., Series]] = {
    "close": closes,
    "volume": volumes,
    "ema": ema,
    "atr": atr,
    "atr_warm": atr_warm,
    "atr_warm_slope": lambda bars, window: changes(atr_warm(bars, window)),
    "atr_warm_mean": lambda bars, window, over: means(atr_warm(bars, window), over),
    "adx": adx,
    "adx_slope": lambda bars, window: changes(adx(bars, window)),
    "rsi": rsi,
    "stoch_k": stoch_k,
    "bb_ratio": bb_ratio,
    "volume_mean": lambda bars, window: means(volumes(bars), window),
    "ema_slope": ema_slope,
    "macd_hist": macd_hist,
    "macd_run": macd_run,
    "highest": highest,
    "lowest": lowest,
}
