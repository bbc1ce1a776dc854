"""The Pareto front of a sweep: combos of which none is better in one objective without being worse in another."""

from bisect import bisect_left, bisect_right

import numpy as np
import polars as pl

OBJECTIVES = {"return_pct": True, "max_drawdown_pct": False, "turnover_usd": False}
"""Metric, and whether more of it is better."""
_BLOCK = 4096


def pareto(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that no other row beats: highest return, lowest drawdown, lowest turnover.

    A row is beaten by one that is at least as good in all three and better in one; of rows equal in all three the one
    with the lowest combo stays. In order of return, the points before a row are those that may beat it, and of these
    only the staircase of drawdown and turnover counts (Kung, Luccio and Preparata, On Finding the Maxima of a Set of
    Vectors, JACM 22, 1975): N log N time, and memory beside the rows in proportion to the front. The front of fronts is
    the front of all, so chunks may be joined one by one.

    Args:
        frame: Rows with `combo` and the columns of `OBJECTIVES`, none of them null.

    Returns:
        The rows of the front, the highest return first.
    """
    rows = frame.sort([*OBJECTIVES, "combo"], descending=[*OBJECTIVES.values(), False])
    drawdown, turnover = (rows[name].cast(pl.Float64).to_numpy() for name in list(OBJECTIVES)[1:])
    kept = np.zeros(rows.height, dtype=np.bool_)
    steps: list[float] = []  # the staircase: drawdowns ascend, turnovers descend
    heights: list[float] = []
    for start in range(0, rows.height, _BLOCK):
        places = np.arange(start, min(start + _BLOCK, rows.height))
        if steps:
            # Most rows are beaten by an earlier block already; the rest is looked at one by one.
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
