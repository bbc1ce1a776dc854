"""Axes and lines of the plots of a replay."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from kernels.market import Floats, Ints
from mei_pipeline.candles.heatmap import MONTHS
from mei_pipeline.svg import CHARACTER, LINE, SOFT, text, ticks

WIDTH, LEFT, RIGHT = 1080.0, 74.0, 16.0
"""Width of a plot, and the margins of it on the left and on the right, in pixels."""
TICKS = 6
"""Approximate number of steps of an axis."""
_MOST_POINTS = 1500  # points of a curve that a screen can show


@dataclass(frozen=True)
class Scale:
    """Map from values to the pixels between two edges of a panel."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: Any) -> Any:
        """Return the position of a value, in pixels."""
        return self.start + (self.end - self.start) * (value - self.low) / ((self.high - self.low) or 1.0)


def thinned(values: Floats) -> Ints:
    """Return indices of the points of a curve to draw: the first, least and greatest of all points on one pixel.

    Args:
        values: [T] finite values.
    """
    if len(values) <= _MOST_POINTS:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), _MOST_POINTS // 3 + 1).astype(int)
    indices = [
        point
        for start, stop in itertools.pairwise(edges)
        for point in (start, start + int(values[start:stop].argmin()), start + int(values[start:stop].argmax()))
    ]
    return np.unique([*indices, len(values) - 1])


def levels(values: Sequence[float], scale: Scale, label: Callable[[float], str]) -> list[str]:
    """Draw a line across the plot at each value, with the value on the left."""
    out = []
    for tick in values:
        y = scale(tick)
        out.append(f'<path d="M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}" stroke="{LINE}"/>')
        out.append(text(LEFT - 8, y + 4, label(tick), SOFT, anchor="end"))
    return out


def dates(time_ms: Ints, scale: Scale, y: float) -> list[str]:
    """Draw the names of months at their beginnings, or of days in a short window, at height `y`."""
    first, last = (datetime.fromtimestamp(int(time) / 1000, UTC) for time in (time_ms[0], time_ms[-1]))
    months = (last.year - first.year) * 12 + last.month - first.month
    out = []
    if months < 3:  # noqa: PLR2004 - fewer leave the axis almost empty
        for share in np.linspace(0.04, 0.96, 7).tolist():
            moment = scale.low + share * (scale.high - scale.low)
            day = datetime.fromtimestamp(moment / 1000, UTC).strftime("%d %b")
            out.append(text(scale(moment), y, day, SOFT, anchor="middle"))
        return out
    every = max(1, math.ceil(months / 14))
    for number in range(1, months + 1):
        if number % every == 0:
            year, month = divmod(first.year * 12 + first.month - 1 + number, 12)
            x = scale(datetime(year, month + 1, 1, tzinfo=UTC).timestamp() * 1000)
            name = f"{MONTHS[month]} {year}" if month == 0 or number == every else MONTHS[month]
            out.append(f'<path d="M{x:.1f} 14V{y - 14:g}" stroke="{LINE}" stroke-dasharray="2 4"/>')
            # A name centred on the right edge would be cut off.
            is_cut = x + CHARACTER * len(name) / 2.0 > WIDTH
            out.append(text(WIDTH if is_cut else x, y, name, SOFT, anchor="end" if is_cut else "middle"))
    return out


def path(x: Floats, y: Floats) -> str:
    """Return the path through points."""
    return "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in zip(x.tolist(), y.tolist(), strict=True))


def inside(low: float, high: float, count: int = TICKS) -> list[float]:
    """Return the round values between two ends, about `count` of them."""
    slack = 1e-9 * (high - low)  # rounding errors: 14 steps of 0.1 are more than 1.4
    return [tick for tick in ticks(low, high, count) if low - slack <= tick <= high + slack]
