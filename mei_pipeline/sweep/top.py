"""The best combos of a search, of those that did the same only one; memory does not grow with the number of combos."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from mei_pipeline.sweep.metrics import DOCS
from mei_pipeline.sweep.results import Results, best_of, top

STANDS_FOR = "stands_for"
"""Name of the column that says how many combos did the same."""


@dataclass(frozen=True)
class Best:
    """The best combos of a search by a metric.

    Attributes:
        rows: Their whole rows, best first, and a column `stands_for`: how many combos did the same, this one included;
            it is the one with the lowest number.
        min_trades: Fewest closed trades of a combo that is listed.
        few: How many combos have fewer and are left out.
    """

    rows: pl.DataFrame
    min_trades: int
    few: int

    @property
    def left_out(self) -> str:
        """The same in words; empty where none is left out."""
        if not self.few:
            return ""
        return f"left out: {self.few:,} combos with fewer than {self.min_trades:,} closed trades (min_trades)"


def find_best(results: Results, count: int, by: str = "sharpe", *, every: bool = False) -> Best:
    """The best combos that the search itself counts.

    A combo with fewer closed trades than the search's `min_trades` is none of them: `tpe` puts it below all that have
    as many. Combos did the same where every metric is equal, as where they differ in an axis that does nothing.

    Args:
        results: The rows.
        count: How many to find.
        by: The metric; of ties the lower number comes first.
        every: Whether to list every combo, each for itself, those with few trades among them.
    """
    if every:
        found = best_of(results.frames(("combo", by)), count, by)
        alone = results.rows(found["combo"].to_list()).with_columns(pl.lit(1, pl.Int64).alias(STANDS_FOR))
        return Best(alone, 0, 0)
    min_trades = results.plan.search.min_trades
    few, best = 0, pl.DataFrame()
    for frame in _metrics(results):
        known = frame.filter(pl.col("trades") >= min_trades)
        few += frame.height - known.height
        joined = pl.concat([best, known]) if best.width else known
        best = top(joined, joined.height, by).unique(list(DOCS), keep="first", maintain_order=True).head(count)
    # Counted only now: among ties a result may fall behind, and come back with a combo of a lower number.
    alike: Counter[int] = Counter()
    for frame in _metrics(results):
        same = best.join(frame, on=list(DOCS), nulls_equal=True).group_by("combo").len()
        alike.update(dict(same.iter_rows()))
    combos = best["combo"].to_list()
    counts = pl.Series(STANDS_FOR, [alike[combo] for combo in combos], dtype=pl.Int64)
    return Best(results.rows(combos).with_columns(counts), min_trades, few)


def _metrics(results: Results) -> Iterator[pl.DataFrame]:
    return results.frames(("combo", *DOCS))
