"""Ranking of combos on some time blocks of a search, from the block sums of its rows, chunk by chunk.

The highest Sharpe ratio of many combos is mostly selection bias. Neighbouring combos trade alike but have noise of
their own, so the mean Sharpe ratio around a combo predicts its future better than its own Sharpe ratio.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from mei_pipeline.params.grid import Grid
from mei_pipeline.sweep.metrics import sharpe

COLUMNS = ("combo", "trades", "day_count", "day_sum", "day_sum_sq")
"""Columns of a row that the ranking reads."""

SMOOTHINGS = 2
"""Number of times that ratios are replaced by means over neighbours; see docs/explanation/selection.md."""

# Multiple of the combos to select: those that trade exactly alike are dropped later.
_KEPT_PER_CHUNK = 8


@dataclass(frozen=True, order=True)
class RankedCombo:
    """A combo with its score; the best combo sorts first.

    Attributes:
        loss: The negative score: the annual Sharpe ratio on the train days, its own or the mean around it.
        combo: Number of the combo; of equal scores the lower number sorts first.
        behaviour: Sum and sum of squares of its daily returns; combos that agree in both trade alike.
        own_sharpe: Its own annual Sharpe ratio on these days; None if this is its score.
    """

    loss: float
    combo: int
    behaviour: tuple[float, float]
    own_sharpe: float | None = None

    @property
    def sharpe(self) -> float:
        """Its own annual Sharpe ratio on the train days."""
        return -self.loss if self.own_sharpe is None else self.own_sharpe


def neighbour_means(
    chunks: Iterable[pl.DataFrame], spans: Sequence[tuple[int, int]], grid: Grid, at_once: int = 65_536
) -> Floats:
    """Return the mean annual Sharpe ratio around each combo of a complete grid, by span of blocks: [spans, K].

    It is the mean over a combo and its neighbours, and then the mean of these means: combos two steps away count too.

    Args:
        chunks: Rows of all combos of the grid with at least `COLUMNS`.
        spans: First block and one past the last of each span.
        grid: The grid.
        at_once: Number of combos whose neighbours are looked up at a time.
    """
    means = np.empty((len(spans), grid.combos))
    for rows in chunks:
        means[:, rows["combo"].to_numpy()] = [sharpe(*sums) for sums in _span_sums(rows, spans)]
    for _ in range(SMOOTHINGS):
        means = _over_neighbours(means, grid, at_once)
    return means


def _over_neighbours(values: Floats, grid: Grid, at_once: int) -> Floats:
    """Return the mean of the values [spans, K] of each combo and its neighbours."""
    means = np.empty_like(values)
    for start in range(0, grid.combos, at_once):
        numbers = np.arange(start, min(start + at_once, grid.combos))
        total, count = values[:, numbers], np.ones(len(numbers))
        for places, neighbours in grid.neighbours(numbers):
            total[:, places] += values[:, neighbours]
            count[places] += 1.0
        means[:, numbers] = total / count
    return means


def _span_sums(rows: pl.DataFrame, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Yield count, sum and sum of squares of the daily returns of each row, for each span."""
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
    """Return the best combos of each span of blocks, best first, by `smoothed` or their own Sharpe ratio.

    A combo must have made money and have enough trades. Of combos that trade exactly alike only the lowest number is
    kept. A span may have fewer than `count` combos, or none.

    Args:
        chunks: Rows of a sweep with at least `COLUMNS`.
        spans: First block and one past the last of each span.
        count: Number of combos to select.
        least_trades: Fewest closed trades of a row, on all days of its search: rows do not have them by block.
        smoothed: [spans, combos] scores by number of combo; see `neighbour_means`.
    """
    best: list[tuple[RankedCombo, ...]] = [() for _ in spans]
    for rows in chunks:
        combos = rows["combo"].to_numpy()
        enough = rows["trades"].to_numpy() >= least_trades
        for place, (n, total, squares) in enumerate(_span_sums(rows, spans)):
            own = np.where(enough, sharpe(n, total, squares), np.nan)
            score = own if smoothed is None else smoothed[place, combos]
            top = _top(combos, own, score, total, squares, count * _KEPT_PER_CHUNK)
            best[place] = _distinct((*best[place], *top), count)
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
    by_behaviour: dict[tuple[float, float], RankedCombo] = {}
    for each in sorted(combos):
        by_behaviour.setdefault(each.behaviour, each)
    return tuple(list(by_behaviour.values())[:count])
