"""Choose combos on some blocks of a search, from the sums that every row has; rows are seen chunk by chunk."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.market import Floats
from mei_pipeline.sweep.metrics import sharpe

COLUMNS = ("combo", "trades", "day_count", "day_sum", "day_sum_sq")
"""What a choice reads of a row."""

_KEPT_PER_CHUNK = 8  # times as many as wanted: equal ones among them count once


@dataclass(frozen=True, order=True)
class Pick:
    """A combo and why it was chosen; the best sorts first.

    Attributes:
        loss: The negative of its annual Sharpe ratio on the days of the choice.
        combo: Its number; of equal ones the lower is chosen.
        behaviour: Sum and sum of squares of its daily returns: combos that agree in both do the same.
    """

    loss: float
    combo: int
    behaviour: tuple[float, float]

    @property
    def sharpe(self) -> float:
        """Annual Sharpe ratio on the days of the choice."""
        return -self.loss


def pick(
    chunks: Iterable[pl.DataFrame], spans: Sequence[tuple[int, int]], count: int, least_trades: float = 0.0
) -> list[tuple[Pick, ...]]:
    """The best combos of each span of blocks, best first, by Sharpe ratio of daily returns.

    Only a combo that made money and has the trades is chosen, and of those that did the same only the one with the
    lowest number: there may be fewer than `count`, or none.

    Args:
        chunks: Rows of a sweep with at least `COLUMNS`.
        spans: First block and one past the last, for each choice.
        count: How many to choose.
        least_trades: Fewest closed trades of a row, on all days of its search: rows do not have them by block.
    """
    best: list[tuple[Pick, ...]] = [() for _ in spans]
    for rows in chunks:
        combos = rows["combo"].to_numpy()
        enough = rows["trades"].to_numpy() >= least_trades
        sums = [rows[name].to_numpy() for name in COLUMNS[2:]]
        for place, (first, last) in enumerate(spans):
            n, total, squares = (part[:, first:last].sum(axis=1) for part in sums)
            score = np.where(enough, sharpe(n, total, squares), np.nan)
            found = _top(combos, score, total, squares, count * _KEPT_PER_CHUNK)
            best[place] = _distinct((*best[place], *found), count)
    return best


def _top(combos: Floats, score: Floats, total: Floats, squares: Floats, count: int) -> list[Pick]:
    fit = np.flatnonzero((total > 0.0) & np.isfinite(score) & (score > 0.0))
    order = fit[np.lexsort((combos[fit], -score[fit]))][:count]
    return [Pick(-float(score[i]), int(combos[i]), (float(total[i]), float(squares[i]))) for i in order]


def _distinct(picks: Iterable[Pick], count: int) -> tuple[Pick, ...]:
    found: dict[tuple[float, float], Pick] = {}
    for each in sorted(picks):
        found.setdefault(each.behaviour, each)
    return tuple(list(found.values())[:count])
