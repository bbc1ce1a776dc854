"""Choose combos on some blocks of a search, from the sums that every row has; rows are seen chunk by chunk.

Of many combos the one with the highest ratio is mostly the luckiest. Combos that differ by one step on one axis trade
alike and have luck of their own: the mean ratio of the combos around it says more about a combo than its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from mei_pipeline.params.grid import Grid
from mei_pipeline.sweep.metrics import sharpe

COLUMNS = ("combo", "trades", "day_count", "day_sum", "day_sum_sq")
"""What a choice reads of a row."""

SMOOTHINGS = 2
"""How often ratios are replaced by means over neighbours; docs/explanation/selection.md says how it was set."""

_KEPT_PER_CHUNK = 8  # times as many as wanted: equal ones among them count once


@dataclass(frozen=True, order=True)
class RankedCombo:
    """A combo and why it was chosen; the best sorts first.

    Attributes:
        loss: The negative of what it is ranked by: the annual Sharpe ratio on the days of the choice, its own or the
            mean around it.
        combo: Its number; of equal ones the lower is chosen.
        behaviour: Sum and sum of squares of its daily returns: combos that agree in both do the same.
        own_sharpe: Its own annual Sharpe ratio on those days; None if it is ranked by that.
    """

    loss: float
    combo: int
    behaviour: tuple[float, float]
    own_sharpe: float | None = None

    @property
    def sharpe(self) -> float:
        """Its own annual Sharpe ratio on the days of the choice."""
        return -self.loss if self.own_sharpe is None else self.own_sharpe


def neighbour_means(
    chunks: Iterable[pl.DataFrame], spans: Sequence[tuple[int, int]], grid: Grid, at_once: int = 65_536
) -> Floats:
    """Mean annual Sharpe ratio around each combo of a whole grid, by span of blocks: [spans, K].

    The mean over a combo and its neighbours, and then the mean of these means: combos two steps away count too.

    Args:
        chunks: Rows of all combos of the grid with at least `COLUMNS`.
        spans: First block and one past the last, for each choice.
        grid: The grid.
        at_once: Combos whose neighbours are looked up at a time.
    """
    means = np.empty((len(spans), grid.combos))
    for rows in chunks:
        means[:, rows["combo"].to_numpy()] = [sharpe(*sums) for sums in _span_sums(rows, spans)]
    for _ in range(SMOOTHINGS):
        means = _over_neighbours(means, grid, at_once)
    return means


def _over_neighbours(values: Floats, grid: Grid, at_once: int) -> Floats:
    """Mean of the values [spans, K] of each combo and its neighbours."""
    found = np.empty_like(values)
    for start in range(0, grid.combos, at_once):
        numbers = np.arange(start, min(start + at_once, grid.combos))
        total, count = values[:, numbers], np.ones(len(numbers))
        for places, neighbours in grid.neighbours(numbers):
            total[:, places] += values[:, neighbours]
            count[places] += 1.0
        found[:, numbers] = total / count
    return found


def _span_sums(rows: pl.DataFrame, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Count, sum and sum of squares of the daily returns of each row, for each span."""
    sums = [rows[name].to_numpy() for name in COLUMNS[2:]]
    for first, last in spans:
        n, total, squares = (part[:, first:last].sum(axis=1) for part in sums)
        yield n, total, squares


def rank_combos(
    chunks: Iterable[pl.DataFrame],
    spans: Sequence[tuple[int, int]],
    count: int,
    least_trades: float = 0.0,
    smoothed: Floats | None = None,
) -> list[tuple[RankedCombo, ...]]:
    """The best combos of each span of blocks, best first, by `smoothed` or the Sharpe ratio of their daily returns.

    Only a combo that made money and has the trades is chosen, and of those that did the same only the one with the
    lowest number: there may be fewer than `count`, or none.

    Args:
        chunks: Rows of a sweep with at least `COLUMNS`.
        spans: First block and one past the last, for each choice.
        count: How many to choose.
        least_trades: Fewest closed trades of a row, on all days of its search: rows do not have them by block.
        smoothed: [spans, combos] what combos are ranked by, by number; see `neighbour_means`.
    """
    best: list[tuple[RankedCombo, ...]] = [() for _ in spans]
    for rows in chunks:
        combos = rows["combo"].to_numpy()
        enough = rows["trades"].to_numpy() >= least_trades
        for place, (n, total, squares) in enumerate(_span_sums(rows, spans)):
            own = np.where(enough, sharpe(n, total, squares), np.nan)
            score = own if smoothed is None else smoothed[place, combos]
            found = _top(combos, own, score, total, squares, count * _KEPT_PER_CHUNK)
            best[place] = _distinct((*best[place], *found), count)
    return best


def _top(combos: Ints, own: Floats, score: Floats, total: Floats, squares: Floats, count: int) -> list[RankedCombo]:
    fit = np.flatnonzero((total > 0.0) & np.isfinite(own) & (own > 0.0))
    order = fit[np.lexsort((combos[fit], -score[fit]))][:count]
    return [
        RankedCombo(
            loss=-float(score[i]),
            combo=int(combos[i]),
            behaviour=(float(total[i]), float(squares[i])),
            own_sharpe=None if score is own else float(own[i]),
        )
        for i in order
    ]


def _distinct(combos: Iterable[RankedCombo], count: int) -> tuple[RankedCombo, ...]:
    found: dict[tuple[float, float], RankedCombo] = {}
    for each in sorted(combos):
        found.setdefault(each.behaviour, each)
    return tuple(list(found.values())[:count])
