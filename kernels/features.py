"""Feature columns: one series per symbol for each kind and its windows.

A sweep computes a column once with `build` and shares it between all combos. The executor advances the same columns
bar by bar with `observe`. Both call `step`, so they agree bit for bit. A missing bar changes nothing. A column is NaN
before the first bar of a symbol and has a value from that bar on.

A new kind needs an entry in `KINDS` and a branch in `step`, made of the parts in `kernels.indicators`.
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
    """A kind of feature column.

    Attributes:
        windows: Name of each window, in order.
        doc: Description in one sentence.
        parts: Size of the parts of its state that do not depend on a window.
        rings: Names of the windows with a ring in the state.
        blocks: Names of the windows with a block in the state.
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
"""All kinds by name; the position of a kind is its number in `step`."""

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
        windows: Windows in bars, each at least 1.
    """

    kind: str
    windows: tuple[int, ...]

    @property
    def label(self) -> str:
        """Text for people, such as `macd_hist 12 26 9`."""
        return " ".join((self.kind, *map(str, self.windows)))


class Use(NamedTuple):
    """A feature that a strategy reads.

    Attributes:
        name: Name in the strategy.
        kind: Kind of the column.
        paths: Parameters with the windows, in the order of the kind.
    """

    name: str
    kind: str
    paths: tuple[str, ...]


def state_size(column: Column) -> int:
    """Return the number of floats in the state of `column` for one symbol."""
    kind = KINDS[column.kind]
    windows = dict(zip(kind.windows, column.windows, strict=True))
    rings = sum(RING + 2 * windows[name] for name in kind.rings)
    blocks = sum(BLOCK + windows[name] for name in kind.blocks)
    return kind.parts + rings + blocks


def encode(columns: Sequence[Column]) -> tuple[Ints, Ints, Ints]:
    """Return columns as arrays for `build` and `observe`.

    Returns:
        Kinds [C]; windows [C, 3], 0 for those that a kind lacks; and offsets [C + 1] of the columns' states.

    Raises:
        KeyError: A kind does not exist.
        ValueError: A column has the wrong number of windows, or a window below 1.
    """
    numbers = {kind: number for number, kind in enumerate(KINDS)}
    windows = np.zeros((len(columns), MOST_WINDOWS), dtype=np.int64)
    for c, column in enumerate(columns):
        names = KINDS[column.kind].windows
        if len(column.windows) != len(names) or any(window < 1 for window in column.windows):
            expected = ", ".join(names) or "none"
            raise ValueError(f"{column.label}: windows of {column.kind} are {expected}, each at least 1")
        windows[c, : len(names)] = column.windows
    kinds = np.array([numbers[column.kind] for column in columns], dtype=np.int64)
    offsets = np.cumsum([0, *map(state_size, columns)], dtype=np.int64)
    return kinds, windows, offsets


@device
def step(kind, w0, w1, w2, state, high, low, close, volume):  # noqa: C901, PLR0911, PLR0912 - one branch for each kind
    """Advance a column by one bar and return its new value.

    Args:
        kind: Number of the kind.
        w0: First window; 0 if the kind has none.
        w1: Second window; 0 if the kind has none.
        w2: Third window; 0 if the kind has none.
        state: [state_size] state of the column for the symbol; all zero before its first bar.
        high: High of the new bar.
        low: Low of the new bar.
        close: Close of the new bar.
        volume: Volume of the new bar.
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
    """Return the mean of the last places of the RSI within the range of its last values; 0.5 before `window` values.

    The first values of the RSI, which are 50, count as values.
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
    """Return the width of the Bollinger bands over the mean of the last widths; 1 if that mean is 0.

    The width is four standard deviations; the factor of four cancels and is left out. The width is 0 before `window`
    closes, and these zeros count in the mean.
    """
    widths = RING + 2 * window
    ring_push(state, 0, window, close)
    width = ring_deviation(state, 0, window, close) if ring_full(state, 0, window) else 0.0
    ring_push(state, widths, mean, width)
    usual = ring_mean(state, widths, mean)
    return width / usual if usual > 0.0 else 1.0


@device
def _observe(kinds, windows, offsets, state, columns, high, low, close, volume):
    """Advance all columns by one bar; see `observe`."""
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


@driver
def build(kinds, windows, offsets, high, low, close, volume, out, scratch):
    """Compute columns over all bars.

    Args:
        kinds: [C] kind of each column (`encode`).
        windows: [C, 3] windows of each column (`encode`).
        offsets: [C + 1] offsets of the columns' states (`encode`); only the differences are used.
        high: [T, S] highs; NaN where there is no bar, as for the next three.
        low: [T, S] lows.
        close: [T, S] closes.
        volume: [T, S] volumes in base coins.
        out: [C, T, S] receives the columns; a missing bar repeats the value before it.
        scratch: [S, at least the size of the largest state]; overwritten.
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
    """Advance all columns by one bar in place, as the executor does.

    Args:
        kinds: [C] kind of each column (`encode`).
        windows: [C, 3] windows of each column (`encode`).
        offsets: [C + 1] offset of each column's state (`encode`).
        state: [S, offsets[C]] states; zero before the first bar.
        columns: [C, 2, S] values at the previous bar and at the last bar; NaN before the first bar.
        high: [S] highs of the new bar; NaN for a missing bar, as for the next three.
        low: [S] lows.
        close: [S] closes.
        volume: [S] volumes.
    """
    _observe(kinds, windows, offsets, state, columns, high, low, close, volume)


@driver
def warm(kinds, windows, offsets, state, columns, high, low, close, volume):
    """Advance all columns by T bars in place, as T calls of `observe` do.

    Args:
        kinds: As in `observe`, as are `windows`, `offsets`, `state` and `columns`.
        windows: As in `observe`.
        offsets: As in `observe`.
        state: As in `observe`.
        columns: As in `observe`.
        high: [T, S] highs, oldest first; NaN for a missing bar, as for the next three.
        low: [T, S] lows.
        close: [T, S] closes.
        volume: [T, S] volumes.
    """
    for t in range(close.shape[0]):
        _observe(kinds, windows, offsets, state, columns, high[t], low[t], close[t], volume[t])
