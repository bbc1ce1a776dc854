"""The Pareto front of a sweep: combos that no other combo dominates."""

from bisect import bisect_left, bisect_right

import numpy as np
import polars as pl

OBJECTIVES = {"return_pct": True, "max_drawdown_pct": False, "turnover_usd": False}
"""Objectives by metric; True if more is better."""
_BLOCK = 4096


def pareto(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that no other row dominates: highest return, lowest drawdown, lowest turnover.

    A row dominates another one if it is at least as good in all three objectives and better in one. Of rows that are
    equal in all three, the one with the lowest number stays. Fronts of chunks can be joined one by one, as the front of
    fronts is the front of all.

    Only rows with a higher return can dominate a row. Of these, only the staircase of drawdown and turnover matters.
    This takes N log N time, and memory for the front beside the rows.

    Source: Kung, Luccio and Preparata, On Finding the Maxima of a Set of Vectors, JACM 22 (1975).

    Args:
        frame: Rows with `combo` and the columns of `OBJECTIVES`, none of them null.

    Returns:
        The rows of the front, highest return first.
    """
    rows = frame.sort([*OBJECTIVES, "combo"], descending=[*OBJECTIVES.values(), False])
    drawdown, turnover = (rows[name].cast(pl.Float64).to_numpy() for name in list(OBJECTIVES)[1:])
    kept = np.zeros(rows.height, dtype=np.bool_)
    steps: list[float] = []  # the staircase: drawdowns ascend, turnovers descend
    heights: list[float] = []
    for start in range(0, rows.height, _BLOCK):
        places = np.arange(start, min(start + _BLOCK, rows.height))
        if steps:
            # Earlier blocks dominate most rows, so the slow loop below sees only a few of them.
            before = np.searchsorted(np.array(steps), drawdown[places], side="right") - 1
            places = places[(before < 0) | (np.take(heights, before) > turnover[places])]
        for place in places.tolist():
            across, up = float(drawdown[place]), float(turnover[place])
            left = bisect_right(steps, across) - 1
            if left >= 0 and heights[left] <= up:
                continue
            kept[place] = True
            first = last = bisect_left(steps, across)
            while last < len(steps) and heights[last] >= up:
                last += 1
            steps[first:last], heights[first:last] = [across], [up]
    return rows.filter(kept)
