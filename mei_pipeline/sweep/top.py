"""The best combos of a sweep, one of each group with equal results, in constant memory."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from mei_pipeline.sweep.metrics import DOCS
from mei_pipeline.sweep.results import Results, best_of, top

STANDS_FOR = "stands_for"
"""Name of the column with the number of combos that have the same results."""


@dataclass(frozen=True)
class BestCombos:
    """The best combos of a sweep by a metric.

    Attributes:
        rows: Complete rows, best first, and a column `stands_for`: the number of combos with the same results. Each
            group is represented by its lowest number.
        min_trades: Fewest closed trades of a listed combo.
        excluded: Number of combos with fewer trades.
    """

    rows: pl.DataFrame
    min_trades: int
    excluded: int

    @property
    def exclusion_note(self) -> str:
        """Sentence about excluded combos; empty if there are none."""
        if not self.excluded:
            return ""
        return f"excluded: {self.excluded:,} combos with fewer than {self.min_trades:,} closed trades (min_trades)"


def find_best(results: Results, count: int, by: str = "sharpe", *, every: bool = False) -> BestCombos:
    """Return the best combos by a metric.

    Combos with fewer closed trades than `min_trades` of the search are excluded: `tpe` ranks them below all others too.
    Combos with equal metrics count as one. They differ, for example, in an axis without effect.

    Args:
        results: The rows.
        count: Number of combos.
        by: The metric; ties are sorted by number.
        every: List every combo separately, including those with few trades.
    """
    if every:
        ranked = best_of(results.frames(("combo", by)), count, by)
        rows = results.rows(ranked["combo"].to_list()).with_columns(pl.lit(1, pl.Int64).alias(STANDS_FOR))
        return BestCombos(rows, 0, 0)
    min_trades = results.plan.search.min_trades
    excluded, best = 0, pl.DataFrame()
    for frame in _metrics(results):
        enough = frame.filter(pl.col("trades") >= min_trades)
        excluded += frame.height - enough.height
        joined = pl.concat([best, enough]) if best.width else enough
        best = top(joined, joined.height, by).unique(list(DOCS), keep="first", maintain_order=True).head(count)
    # Count in a second pass: a tied result may drop out of `best` and return with a combo of a lower number.
    group_sizes: Counter[int] = Counter()
    for frame in _metrics(results):
        sizes = best.join(frame, on=list(DOCS), nulls_equal=True).group_by("combo").len()
        group_sizes.update(dict(sizes.iter_rows()))
    combos = best["combo"].to_list()
    counts = pl.Series(STANDS_FOR, [group_sizes[combo] for combo in combos], dtype=pl.Int64)
    return BestCombos(results.rows(combos).with_columns(counts), min_trades, excluded)


def _metrics(results: Results) -> Iterator[pl.DataFrame]:
    return results.frames(("combo", *DOCS))
