"""Features: recursive series of one symbol, each a column per (kind, window).

The sweep computes a column once and shares it between all combos; the executor advances the same columns bar by bar
with `observe`. Both call `step`, so they agree bit for bit. A bar that does not exist changes nothing. A column is NaN
before the symbol's first bar.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.jit import device, driver
from kernels.market import Floats, Ints

KINDS = ("ema", "atr")
_EMA, _ATR = range(len(KINDS))


class Column(NamedTuple):
    """Identity of a feature column.

    Attributes:
        kind: `ema`: exponential mean of closes, seeded with the first close. `atr`: Wilder's mean of the true range,
            seeded with the first bar's high - low.
        window: Window in bars.
    """

    kind: str
    window: int


class Use(NamedTuple):
    """One feature that a strategy reads.

    Attributes:
        name: What the strategy calls it.
        kind: Kind of the column.
        path: Parameter that holds the window.
    """

    name: str
    kind: str
    path: str


def encode(columns: Sequence[Column]) -> tuple[Ints, Floats]:
    """Kinds and weights of columns as arrays for `observe` and `build`.

    An EMA's weight is 2 / (window + 1). An ATR's is its window, which Wilder's recursion divides by.
    """
    kinds = np.array([KINDS.index(column.kind) for column in columns], dtype=np.int64)
    weights = [2.0 / (c.window + 1.0) if c.kind == "ema" else float(c.window) for c in columns]
    return kinds, np.array(weights, dtype=np.float64)


@device
def step(kind, weight, value, last_close, high, low, close):
    """Next value of a column; `value` and `last_close` are NaN before the symbol's first bar.

    Source: Wilder, New Concepts in Technical Trading Systems (1978), for the true range and its mean.
    """
    first = last_close != last_close  # noqa: PLR0124 - the test for NaN that every target compiles alike
    if kind == _EMA:
        return close if first else value + weight * (close - value)
    top = high if first | (high > last_close) else last_close
    bottom = low if first | (low < last_close) else last_close
    true_range = top - bottom
    return true_range if first else value + (true_range - value) / weight


@driver
def build(kinds, weights, high, low, close, out):
    """Compute whole columns.

    Args:
        kinds: [C] kind of each column (`encode`).
        weights: [C] weight of each column (`encode`).
        high: [T, S] as in `Market`; NaN where there is no bar.
        low: [T, S].
        close: [T, S].
        out: [C, T, S] receives the columns; a missing bar repeats the value before it.
    """
    for c in range(out.shape[0]):
        for s in range(out.shape[2]):
            value = np.nan
            last_close = np.nan
            for t in range(out.shape[1]):
                price = close[t, s]
                if price == price:  # noqa: PLR0124 - not NaN: the bar exists
                    value = step(kinds[c], weights[c], value, last_close, high[t, s], low[t, s], price)
                    last_close = price
                out[c, t, s] = value


@driver
def observe(kinds, weights, values, last_close, high, low, close):
    """Advance all columns by one bar, in place; how the executor follows the market.

    Args:
        kinds: [C] kind of each column.
        weights: [C] weight of each column.
        values: [C, S] value of each column; NaN before the first bar.
        last_close: [S] close of each symbol's last bar; NaN before the first bar.
        high: [S] of the new bar; NaN where there is none, as in the next two.
        low: [S].
        close: [S].
    """
    for s in range(values.shape[1]):
        price = close[s]
        if price == price:  # noqa: PLR0124 - not NaN: the bar exists
            for c in range(values.shape[0]):
                values[c, s] = step(kinds[c], weights[c], values[c, s], last_close[s], high[s], low[s], price)
            last_close[s] = price
