"""The combos that no other beats in return, drawdown and turnover at once."""

from bisect import bisect_left, bisect_right

import polars as pl

_ORDER = ("return_pct", "max_drawdown_pct", "turnover_usd", "combo")
_DESCENDING = [True, False, False, False]


def pareto(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that no other row dominates: more return, less drawdown and less turnover, or as much in some of them.

    Of rows that are equal in all three the one with the lowest combo is kept: combos that never trade would be most of
    the front otherwise. The front of many chunks is that of their fronts, `pareto(pl.concat([front, chunk]))`, in
    whatever order, so memory is in proportion to the front and a chunk.

    Rows are taken by falling return. One is beaten if a row before it has neither more drawdown nor more turnover;
    those before it that matter are a staircase, less turnover for more drawdown. Source: Kung, Luccio and Preparata, On
    Finding the Maxima of a Set of Vectors, Journal of the ACM 22 (1975).

    Args:
        frame: Rows of a sweep.

    Returns:
        The rows of the front, all columns, by falling return.
    """
    ordered = frame.sort(_ORDER, descending=_DESCENDING)
    drawdowns: list[float] = []
    turnovers: list[float] = []
    kept: list[int] = []
    for row, (drawdown, turnover) in enumerate(ordered.select(_ORDER[1:3]).iter_rows()):
        place = bisect_right(drawdowns, drawdown)
        if place and turnovers[place - 1] <= turnover:
            continue
        kept.append(row)
        start = bisect_left(drawdowns, drawdown)
        stop = start
        while stop < len(turnovers) and turnovers[stop] >= turnover:
            stop += 1
        drawdowns[start:stop] = [drawdown]
        turnovers[start:stop] = [turnover]
    return ordered[kept]
