"""The parts that feature columns are made of: recursive steps, and statistics over the last few values.

A part lives in `state[at : at + its size]` of one column and one symbol, a slice that is all zero before the symbol's
first bar. Every count in it stops at a window, so that it can index. `kernels.features.step` puts parts together; the
size of each part is named beside it.

Sums run from the oldest value to the newest and are made anew at every bar: nothing drifts. Means are taken from the
oldest value (`oldest + mean of the differences from it`), so that the mean of equal values is exactly that value: a
constant price has no width, a constant volume does not lie above its own mean.

Prices are above zero and finite; the lake refuses others.
"""

import math

from kernels.jit import device

EMA = 2
WILDER = 3
CHANGE = 2
RANGE = 2
RSI = 2 + 2 * WILDER
ADX = 7 + WILDER
MACD = 3 * EMA
RING = 2
"""Size of a ring without its values: a ring over n values takes RING + 2 n."""
BLOCK = 2
"""Size of a block without its values: a block of n values takes BLOCK + n."""

_LANES = 8  # sums that run side by side: as many as a vector register holds


@device
def ema_step(state, at, window, x):
    """Exponential mean of all `x`, seeded with the first: started, value."""
    value = state[at + 1] + 2.0 / (window + 1.0) * (x - state[at + 1]) if state[at] > 0.0 else x
    state[at] = 1.0
    state[at + 1] = value
    return value


@device
def wilder_step(state, at, window, x):
    """Wilder's mean of all `x`: the plain mean until there are `window` of them: count up to the window, sum, mean.

    Source: Wilder, New Concepts in Technical Trading Systems (1978).
    """
    if state[at] < window:
        state[at] += 1.0
        state[at + 1] += x
        state[at + 2] = state[at + 1] / state[at]
    else:
        state[at + 2] += (x - state[at + 2]) / window
    return state[at + 2]


@device
def change_step(state, at, x):
    """How much `x` differs from the one before; 0 for the first: started, last."""
    change = x - state[at + 1] if state[at] > 0.0 else 0.0
    state[at] = 1.0
    state[at + 1] = x
    return change


@device
def true_range(high, low, last_close):
    """The larger of high and last close, less the smaller of low and last close."""
    top = high if high > last_close else last_close
    bottom = low if low < last_close else last_close
    return top - bottom


@device
def range_step(state, at, high, low, close):
    """True range of a bar, high - low for the first: started, last close."""
    value = true_range(high, low, state[at + 1]) if state[at] > 0.0 else high - low
    state[at] = 1.0
    state[at + 1] = close
    return value


@device
def rsi_step(state, at, window, close):
    """Relative strength index, 0 to 100: started, last close, Wilder's mean gain, Wilder's mean loss.

    50 until there are `window` changes. Then 100 without a loss, but 50 when there was no gain either.
    """
    change = close - state[at + 1]
    first = state[at] == 0.0
    state[at] = 1.0
    state[at + 1] = close
    if first:
        return 50.0
    gain = wilder_step(state, at + 2, window, change if change > 0.0 else 0.0)
    loss = wilder_step(state, at + 2 + WILDER, window, -change if change < 0.0 else 0.0)
    if state[at + 2] < window:
        return 50.0
    if loss > 0.0:
        return 100.0 - 100.0 / (1.0 + gain / loss)
    return 100.0 if gain > 0.0 else 50.0


@device
def directional_index(plus, minus, ranges):
    """DX of sums of directional movement and true range, 0 to 100; 0 where there was no movement."""
    up = 100.0 * plus / ranges if ranges > 0.0 else 0.0
    down = 100.0 * minus / ranges if ranges > 0.0 else 0.0
    return 100.0 * abs(up - down) / (up + down) if up + down > 0.0 else 0.0


@device
def adx_step(state, at, window, high, low, close):
    """Average directional index: count, last high, low, close, sums of +DM, -DM, true range, Wilder's mean of DX.

    The sums are plain over the first `window` changes, then `sum - sum / window + x`; the index is 0 before them, the
    first DX with the last of them, and Wilder's mean of the DX from there on.

    Source: Wilder, New Concepts in Technical Trading Systems (1978).
    """
    changes = state[at]
    value = 0.0
    if changes > 0.0:
        up = high - state[at + 1]
        down = state[at + 2] - low
        plus = up if (up > down) & (up > 0.0) else 0.0
        minus = down if (down > up) & (down > 0.0) else 0.0
        decay_sum(state, at + 4, changes > window, window, plus)
        decay_sum(state, at + 5, changes > window, window, minus)
        decay_sum(state, at + 6, changes > window, window, true_range(high, low, state[at + 3]))
        if changes >= window:
            value = wilder_step(state, at + 7, window, directional_index(state[at + 4], state[at + 5], state[at + 6]))
    if changes <= window:
        state[at] = changes + 1.0
    state[at + 1] = high
    state[at + 2] = low
    state[at + 3] = close
    return value


@device
def decay_sum(state, at, full, window, x):
    """Add `x` to a sum, which first loses its `window`-th part once it is `full`."""
    kept = state[at] - state[at] / window if full else state[at]
    state[at] = kept + x


@device
def macd_step(state, at, fast, slow, signal, close):
    """Histogram of the moving average convergence divergence: the fast mean, the slow mean, the mean of their gap."""
    line = ema_step(state, at, fast, close) - ema_step(state, at + EMA, slow, close)
    return line - ema_step(state, at + 2 * EMA, signal, line)


@device
def run_step(run, change):
    """How many changes in a row went up (positive) or down (negative); no change ends a run."""
    if change > 0.0:
        return run + 1.0 if run > 0.0 else 1.0
    if change < 0.0:
        return run - 1.0 if run < 0.0 else -1.0
    return 0.0


@device
def ring_push(state, at, size, x):
    """Put `x` into a ring, where it replaces the oldest once `size` are there: count, place of the next, values.

    Every value is kept twice, `size` apart, so that the last `size` of them always lie side by side.
    """
    place = int(state[at + 1])
    state[at + RING + place] = x
    state[at + RING + place + size] = x
    state[at + 1] = state[at + 1] + 1.0 if place + 1 < size else 0.0
    if state[at] < size:
        state[at] += 1.0


@device
def ring_full(state, at, size):
    """Whether a ring holds `size` values."""
    return state[at] >= size


@device
def ring_start(state, at, size):
    """Where the oldest value of a ring lies; the others follow in order."""
    # Until the ring is full nothing was replaced, and the oldest is where the ring starts.
    return at + RING + (int(state[at + 1]) if state[at] >= size else 0)


@device
def ring_mean(state, at, size):
    """Mean of the values in a ring, which is not empty: the oldest, and the mean of what the others differ from it.

    Eight sums run side by side, each over every eighth value from the oldest on; what is left over is summed in order.
    """
    count = int(state[at])
    start = ring_start(state, at, size)
    oldest = state[start]
    a = b = c = d = e = f = g = h = 0.0
    whole = count - count % _LANES
    for i in range(start, start + whole, _LANES):
        a += state[i] - oldest
        b += state[i + 1] - oldest
        c += state[i + 2] - oldest
        d += state[i + 3] - oldest
        e += state[i + 4] - oldest
        f += state[i + 5] - oldest
        g += state[i + 6] - oldest
        h += state[i + 7] - oldest
    rest = 0.0
    for i in range(start + whole, start + count):
        rest += state[i] - oldest
    return oldest + (((a + b) + (c + d)) + ((e + f) + (g + h)) + rest) / count


@device
def squared(value, mean, unit):
    """Square of a deviation in `unit`s; divided first, so that no square leaves the range of a float."""
    deviation = (value - mean) / unit
    return deviation * deviation


@device
def ring_deviation(state, at, size, unit):
    """Population standard deviation of the values in a ring, as a multiple of `unit`; summed like `ring_mean`."""
    count = int(state[at])
    start = ring_start(state, at, size)
    mean = ring_mean(state, at, size)
    a = b = c = d = e = f = g = h = 0.0
    whole = count - count % _LANES
    for i in range(start, start + whole, _LANES):
        a += squared(state[i], mean, unit)
        b += squared(state[i + 1], mean, unit)
        c += squared(state[i + 2], mean, unit)
        d += squared(state[i + 3], mean, unit)
        e += squared(state[i + 4], mean, unit)
        f += squared(state[i + 5], mean, unit)
        g += squared(state[i + 6], mean, unit)
        h += squared(state[i + 7], mean, unit)
    rest = 0.0
    for i in range(start + whole, start + count):
        rest += squared(state[i], mean, unit)
    return math.sqrt((((a + b) + (c + d)) + ((e + f) + (g + h)) + rest) / count)


@device
def ring_position(state, at, x):
    """Where `x` lies between the least (0) and the greatest value (1) of a ring with it, 0.5 if they are equal."""
    least = x
    greatest = x
    for i in range(int(state[at])):
        value = state[at + RING + i]
        least = value if value < least else least
        greatest = value if value > greatest else greatest
    return (x - least) / (greatest - least) if greatest > least else 0.5


@device
def extreme_step(state, at, window, sign, x):
    """Greatest of the last `window` values with `sign` 1, least with -1: place in the block, its extreme, values.

    The series is cut into blocks of `window` values. The last `window` values are the block so far, and the end of the
    block before. When a block is whole, each of its values becomes the extreme from there to its end, which takes
    `window` comparisons once in `window` bars. An entry of 0 is empty: values are above 0, and nothing is older.

    Source: van Herk, Pattern Recognition Letters 13 (1992); Gil and Werman, IEEE PAMI 15 (1993).
    """
    place = int(state[at])
    signed = sign * x
    extreme = state[at + 1] if (place > 0) & (state[at + 1] > signed) else signed
    state[at + 1] = extreme
    state[at + BLOCK + place] = signed
    if place + 1 < window:
        state[at] = place + 1.0
        older = state[at + BLOCK + place + 1]
        return sign * (older if (older != 0.0) & (older > extreme) else extreme)
    state[at] = 0.0
    for i in range(at + BLOCK + window - 2, at + BLOCK - 1, -1):
        state[i] = state[i] if state[i] > state[i + 1] else state[i + 1]
    return sign * extreme
