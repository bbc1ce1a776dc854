"""Parts of feature columns: recursive steps, and statistics of the last few values.

The state of a part is `state[at : at + size]` of one column and one symbol, all zero before the symbol's first bar. The
constants below are the sizes. Counts in a state stop at a window, so that they can serve as an index.
`kernels.features.step` combines parts.

Sums run from the oldest value to the newest and are computed anew at every bar, so rounding errors do not accumulate.
Means are computed as `oldest + mean of the differences from it`, so the mean of equal values is exactly that value. A
constant price therefore has no width, and a constant volume is not above its mean.

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
"""Size of a ring without its values; a ring over n values has the size RING + 2 n."""
BLOCK = 2
"""Size of a block without its values; a block of n values has the size BLOCK + n."""

_LANES = 8  # parallel sums, as many as fit a vector register


@device
def ema_step(state, at, window, x):
    """Return the exponential mean of all `x`, seeded with the first. State: started, value."""
    value = state[at + 1] + 2.0 / (window + 1.0) * (x - state[at + 1]) if state[at] > 0.0 else x
    state[at] = 1.0
    state[at + 1] = value
    return value


@device
def wilder_step(state, at, window, x):
    """Return Wilder's mean of all `x`; up to `window` values the plain mean. State: count up to the window, sum, mean.

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
    """Return the change of `x` from the previous value; 0 for the first. State: started, last value."""
    change = x - state[at + 1] if state[at] > 0.0 else 0.0
    state[at] = 1.0
    state[at + 1] = x
    return change


@device
def true_range(high, low, last_close):
    """Return the larger of high and last close, minus the smaller of low and last close."""
    top = high if high > last_close else last_close
    bottom = low if low < last_close else last_close
    return top - bottom


@device
def range_step(state, at, high, low, close):
    """Return the true range of a bar; high - low for the first. State: started, last close."""
    value = true_range(high, low, state[at + 1]) if state[at] > 0.0 else high - low
    state[at] = 1.0
    state[at + 1] = close
    return value


@device
def rsi_step(state, at, window, close):
    """Return the relative strength index, 0 to 100. State: started, last close, Wilder's mean gain, Wilder's mean loss.

    The index is 50 before `window` changes. After that it is 100 without losses, and 50 without losses and gains.
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
    """Return the DX of sums of directional movement and true range, 0 to 100; 0 without movement."""
    up = 100.0 * plus / ranges if ranges > 0.0 else 0.0
    down = 100.0 * minus / ranges if ranges > 0.0 else 0.0
    return 100.0 * abs(up - down) / (up + down) if up + down > 0.0 else 0.0


@device
def adx_step(state, at, window, high, low, close):
    """Return the average directional index, 0 to 100.

    State: count, last high, last low, last close, sums of +DM, -DM and true range, Wilder's mean of DX.

    The sums are plain over the first `window` changes, then `sum - sum / window + x`. The index is 0 before `window`
    changes. From there on it is Wilder's mean of the DX.

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
    """Add `x` to a sum; if the sum is `full`, subtract its `window`-th part first."""
    kept = state[at] - state[at] / window if full else state[at]
    state[at] = kept + x


@device
def macd_step(state, at, fast, slow, signal, close):
    """Return the histogram of the MACD. State: the fast mean, the slow mean, the mean of their difference."""
    line = ema_step(state, at, fast, close) - ema_step(state, at + EMA, slow, close)
    return line - ema_step(state, at + 2 * EMA, signal, line)


@device
def run_step(run, change):
    """Return the number of consecutive rises (positive) or falls (negative); an unchanged value ends a run."""
    if change > 0.0:
        return run + 1.0 if run > 0.0 else 1.0
    if change < 0.0:
        return run - 1.0 if run < 0.0 else -1.0
    return 0.0


@device
def ring_push(state, at, size, x):
    """Add `x` to a ring of the last `size` values. State: count, place of the next value, values.

    Every value is stored twice, `size` apart, so that the last `size` values are always adjacent.
    """
    place = int(state[at + 1])
    state[at + RING + place] = x
    state[at + RING + place + size] = x
    state[at + 1] = state[at + 1] + 1.0 if place + 1 < size else 0.0
    if state[at] < size:
        state[at] += 1.0


@device
def ring_full(state, at, size):
    """Return whether a ring holds `size` values."""
    return state[at] >= size


@device
def ring_start(state, at, size):
    """Return the index of the oldest value of a ring; the others follow in order."""
    # Before the ring is full, no value has been replaced, and the oldest is the first.
    return at + RING + (int(state[at + 1]) if state[at] >= size else 0)


@device
def ring_mean(state, at, size):
    """Return the mean of the values in a ring with at least one value.

    Eight parallel sums each take every eighth difference from the oldest value; the remainder is summed in order.
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
    """Return the square of a deviation in `unit`s; divided before squaring, so that it stays within floats."""
    deviation = (value - mean) / unit
    return deviation * deviation


@device
def ring_deviation(state, at, size, unit):
    """Return the population standard deviation of a ring as a multiple of `unit`; summed as in `ring_mean`."""
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
    """Return the place of `x` between the least (0) and greatest (1) of itself and a ring; 0.5 if they are equal."""
    least = x
    greatest = x
    for i in range(int(state[at])):
        value = state[at + RING + i]
        least = value if value < least else least
        greatest = value if value > greatest else greatest
    return (x - least) / (greatest - least) if greatest > least else 0.5


@device
def extreme_step(state, at, window, sign, x):
    """Return the greatest (`sign` 1) or least (`sign` -1) of the last `window` values.

    State: place in the block, extreme of the block so far, values.

    The series is cut into blocks of `window` values. The last `window` values are the current block so far and the end
    of the previous block. When a block is complete, each of its values is replaced by the extreme from there to its
    end, which takes `window` comparisons once in `window` bars. An entry of 0 is empty, since values are above 0.

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
