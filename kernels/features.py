"""Features: series of one symbol that depend on few parameters, each a column per (kind, windows).

The sweep computes a column once and shares it between all combos; the executor advances the same columns bar by bar
with `observe`. Both call `step`, so they agree bit for bit. A bar that does not exist changes nothing. A column is NaN
before the symbol's first bar, and has a value from that bar on.

A new kind is an entry in `KINDS` and a branch in `step`, made of the parts in `kernels.indicators`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.indicators import (
    ADX,
    BLOCK,
    CHANGE,
    EMA,
    MACD,
    RANGE,
    RING,
    RSI,
    WILDER,
    adx_step,
    change_step,
    ema_step,
    extreme_step,
    macd_step,
    range_step,
    ring_deviation,
    ring_full,
    ring_mean,
    ring_position,
    ring_push,
    ring_start,
    rsi_step,
    run_step,
    wilder_step,
)
from kernels.jit import device, driver
from kernels.market import Ints

MOST_WINDOWS = 3


class Kind(NamedTuple):
    """What a kind of column is.

    Attributes:
        windows: Name of each window, in order.
        doc: One sentence that says what the column holds.
        parts: Size of the parts of its state that do not depend on a window.
        rings: Windows that a ring is kept for, by name.
        blocks: Windows that a block is kept for, by name.
    """

    windows: tuple[str, ...]
    doc: str
    parts: int
    rings: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "close": Kind((), "Last close.", 0),
    "volume": Kind((), "Last volume.", 0),
    "ema": Kind(("window",), "Exponential mean of closes, seeded with the first.", EMA),
    "atr": Kind(("window",), "Mean of the true range, seeded with the first and smoothed from there.", RANGE + 1),
    "atr_warm": Kind(
        ("window",), "Mean of the true range, a plain one until the window is full, then Wilder's.", RANGE + WILDER
    ),
    "atr_warm_slope": Kind(("window",), "Change of atr_warm since the bar before.", RANGE + WILDER + CHANGE),
    "atr_warm_mean": Kind(("window", "mean"), "Mean of the last values of atr_warm.", RANGE + WILDER, ("mean",)),
    "adx": Kind(("window",), "Average directional index, 0 to 100.", ADX),
    "adx_slope": Kind(("window",), "Change of adx since the bar before.", ADX + CHANGE),
    "rsi": Kind(("window",), "Relative strength index, 0 to 100.", RSI),
    "stoch_k": Kind(
        ("rsi", "window", "smooth"), "Place of the RSI between its lowest and highest, 0 to 1, smoothed.",
        RSI, ("window", "smooth"),
    ),
    "bb_ratio": Kind(("window", "mean"), "Width of the Bollinger bands over its own mean.", 0, ("window", "mean")),
    "volume_mean": Kind(("window",), "Mean of the last volumes.", 0, ("window",)),
    "ema_slope": Kind(
        ("ema", "window"), "Change of an exponential mean over the last values, as a fraction of the close.",
        EMA, ("window",),
    ),
    "macd_hist": Kind(("fast", "slow", "signal"), "Histogram of the MACD, in price.", MACD),
    "macd_run": Kind(
        ("fast", "slow", "signal"), "Bars in a row that the histogram has risen (above 0) or fallen (below 0).",
        MACD + CHANGE + 1,
    ),
    "highest": Kind(("window",), "Highest high of the last bars, this one included.", 0, blocks=("window",)),
    "lowest": Kind(("window",), "Lowest low of the last bars, this one included.", 0, blocks=("window",)),
}  # fmt: skip
"""All kinds by name; the order is the number that `step` knows them by."""

(
    _CLOSE,
    _VOLUME,
    _EMA,
    _ATR,
    _ATR_WARM,
    _ATR_WARM_SLOPE,
    _ATR_WARM_MEAN,
    _ADX,
    _ADX_SLOPE,
    _RSI,
    _STOCH_K,
    _BB_RATIO,
    _VOLUME_MEAN,
    _EMA_SLOPE,
    _MACD_HIST,
    _MACD_RUN,
    _HIGHEST,
    _LOWEST,
) = range(len(KINDS))


class Column(NamedTuple):
    """Identity of a feature column.

    Attributes:
        kind: One of `KINDS`.
        windows: Its windows in bars, each at least 1.
    """

    kind: str
    windows: tuple[int, ...]

    @property
    def label(self) -> str:
        """The column for people, such as `macd_hist 12 26 9`."""
        return " ".join((self.kind, *map(str, self.windows)))


class Use(NamedTuple):
    """One feature that a strategy reads.

    Attributes:
        name: What the strategy calls it.
        kind: Kind of the column.
        paths: Parameters that hold the windows, in the kind's order.
    """

    name: str
    kind: str
    paths: tuple[str, ...]


def state_size(column: Column) -> int:
    """How many floats the state of `column` takes for one symbol."""
    kind = KINDS[column.kind]
    windows = dict(zip(kind.windows, column.windows, strict=True))
    rings = sum(RING + 2 * windows[name] for name in kind.rings)
    blocks = sum(BLOCK + windows[name] for name in kind.blocks)
    return kind.parts + rings + blocks


def encode(columns: Sequence[Column]) -> tuple[Ints, Ints, Ints]:
    """Columns as arrays for `build` and `observe`.

    Returns:
        Kinds [C], windows [C, 3] with 0 for those that a kind lacks, and offsets [C + 1] of the columns' states.

    Raises:
        KeyError: A kind does not exist.
        ValueError: A column has the wrong number of windows, or a window below 1.
    """
    numbers = {kind: number for number, kind in enumerate(KINDS)}
    windows = np.zeros((len(columns), MOST_WINDOWS), dtype=np.int64)
    for c, column in enumerate(columns):
        names = KINDS[column.kind].windows
        if len(column.windows) != len(names) or any(window < 1 for window in column.windows):
            wanted = ", ".join(names) or "none"
            raise ValueError(f"{column.label}: windows of {column.kind} are {wanted}, each at least 1")
        windows[c, : len(names)] = column.windows
    kinds = np.array([numbers[column.kind] for column in columns], dtype=np.int64)
    offsets = np.cumsum([0, *map(state_size, columns)], dtype=np.int64)
    return kinds, windows, offsets


@device
def step(kind, w0, w1, w2, state, high, low, close, volume):  # noqa: C901, PLR0911, PLR0912 - one branch for each kind
    """Next value of a column.

    Args:
        kind: Number of its kind.
        w0: First window; 0 where the kind has fewer, as in the next two.
        w1: Second window.
        w2: Third window.
        state: [state_size] what the column remembers of the symbol; all zero before its first bar.
        high: Of the new bar.
        low: Of the new bar.
        close: Of the new bar.
        volume: Of the new bar.
    """
    if kind == _CLOSE:
        return close
    if kind == _VOLUME:
        return volume
    if kind == _EMA:
        return ema_step(state, 0, w0, close)
    if kind == _ATR:
        first = state[0] == 0.0
        reach = range_step(state, 0, high, low, close)
        state[RANGE] = reach if first else state[RANGE] + (reach - state[RANGE]) / w0
        return state[RANGE]
    if (kind == _ATR_WARM) | (kind == _ATR_WARM_SLOPE) | (kind == _ATR_WARM_MEAN):
        mean = wilder_step(state, RANGE, w0, range_step(state, 0, high, low, close))
        if kind == _ATR_WARM:
            return mean
        if kind == _ATR_WARM_SLOPE:
            return change_step(state, RANGE + WILDER, mean)
        ring_push(state, RANGE + WILDER, w1, mean)
        return ring_mean(state, RANGE + WILDER, w1)
    if kind == _ADX:
        return adx_step(state, 0, w0, high, low, close)
    if kind == _ADX_SLOPE:
        return change_step(state, ADX, adx_step(state, 0, w0, high, low, close))
    if kind == _RSI:
        return rsi_step(state, 0, w0, close)
    if kind == _STOCH_K:
        return _stoch_k(state, w0, w1, w2, close)
    if kind == _BB_RATIO:
        return _bb_ratio(state, w0, w1, close)
    if kind == _VOLUME_MEAN:
        ring_push(state, 0, w0, volume)
        return ring_mean(state, 0, w0)
    if kind == _EMA_SLOPE:
        mean = ema_step(state, 0, w0, close)
        ring_push(state, EMA, w1, mean)
        return (mean - state[ring_start(state, EMA, w1)]) / close if ring_full(state, EMA, w1) else 0.0
    if kind == _HIGHEST:
        return extreme_step(state, 0, w0, 1.0, high)
    if kind == _LOWEST:
        return extreme_step(state, 0, w0, -1.0, low)
    histogram = macd_step(state, 0, w0, w1, w2, close)
    if kind == _MACD_HIST:
        return histogram
    state[MACD + CHANGE] = run_step(state[MACD + CHANGE], change_step(state, MACD, histogram))
    return state[MACD + CHANGE]


@device
def _stoch_k(state, rsi, window, smooth, close):
    """Mean of the last places of the RSI among its last values; 0.5 until there are `window` of those.

    The RSI's first values, which are 50, count among them.
    """
    index = rsi_step(state, 0, rsi, close)
    smoothed = RSI + RING + 2 * window
    ring_push(state, RSI, window, index)
    if not ring_full(state, RSI, window):
        return 0.5
    ring_push(state, smoothed, smooth, ring_position(state, RSI, index))
    return ring_mean(state, smoothed, smooth)


@device
def _bb_ratio(state, window, mean, close):
    """Width of the bands over the mean of the last widths; 1 if that mean is 0.

    The bands lie two standard deviations on either side, so their width is four: the four cancels and is left out. The
    width is 0 until there are `window` closes, and those zeros count in the mean.
    """
    widths = RING + 2 * window
    ring_push(state, 0, window, close)
    width = ring_deviation(state, 0, window, close) if ring_full(state, 0, window) else 0.0
    ring_push(state, widths, mean, width)
    usual = ring_mean(state, widths, mean)
    return width / usual if usual > 0.0 else 1.0


@driver
def build(kinds, windows, offsets, high, low, close, volume, out, scratch):
    """Compute whole columns.

    Args:
        kinds: [C] kind of each column (`encode`).
        windows: [C, 3] windows of each column (`encode`).
        offsets: [C + 1] where the columns' states would lie (`encode`); only their sizes count here.
        high: [T, S] as in `Market`; NaN where there is no bar.
        low: [T, S].
        close: [T, S].
        volume: [T, S] in base coins.
        out: [C, T, S] receives the columns; a missing bar repeats the value before it.
        scratch: [S, at least the size of the largest state]; whatever it holds is overwritten.
    """
    for c in range(out.shape[0]):
        size = offsets[c + 1] - offsets[c]
        scratch[:, :size] = 0.0
        for t in range(out.shape[1]):
            for s in range(out.shape[2]):
                if close[t, s] == close[t, s]:  # not NaN: the bar exists
                    out[c, t, s] = step(
                        kinds[c],
                        windows[c, 0],
                        windows[c, 1],
                        windows[c, 2],
                        scratch[s, :size],
                        high[t, s],
                        low[t, s],
                        close[t, s],
                        volume[t, s],
                    )
                else:
                    out[c, t, s] = out[c, t - 1, s] if t > 0 else np.nan


@driver
def observe(kinds, windows, offsets, state, columns, high, low, close, volume):
    """Advance all columns by one bar, in place; how the executor follows the market.

    Args:
        kinds: [C] kind of each column (`encode`).
        windows: [C, 3] windows of each column (`encode`).
        offsets: [C + 1] where each column's state lies (`encode`).
        state: [S, offsets[C]], zero before the first bar.
        columns: [C, 2, S] values at the bar before and at the last one, which becomes the bar before; NaN before the
            first bar.
        high: [S] of the new bar; NaN where there is none, as in the next three.
        low: [S].
        close: [S].
        volume: [S].
    """
    for c in range(columns.shape[0]):
        for s in range(columns.shape[2]):
            columns[c, 0, s] = columns[c, 1, s]
            if close[s] == close[s]:  # not NaN: the bar exists
                columns[c, 1, s] = step(
                    kinds[c],
                    windows[c, 0],
                    windows[c, 1],
                    windows[c, 2],
                    state[s, offsets[c] : offsets[c + 1]],
                    high[s],
                    low[s],
                    close[s],
                    volume[s],
                )
