"""Concentration of a profit in one symbol, one trade or one day."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from kernels.market import Floats


@dataclass(frozen=True)
class Concentration:
    """The contribution of the best group to a profit; a group is a symbol, a trade or a day."""

    best: Hashable | None
    """The group with the highest net profit, the first of equals; None without evidence."""
    share: float
    """Its profit over the sum of the profits of all groups that made one, 0..1; NaN if none made one."""
    without_best_usd: float
    """Net profit of the other groups."""


def concentration(profits: Floats, groups: Sequence[Hashable] | None = None) -> Concentration:
    """Return the contribution of the best group to a profit.

    Losing groups are not netted in the share: a book that earned 100 in one symbol and lost 90 in another has a share
    of 1, not of 10. A small share does not mean that the other groups earn: see `without_best_usd`.

    Args:
        profits: [n] net profits in USD of trades or days.
        groups: [n] the group of each, such as its symbol; None makes each a group of its own, named by its index.

    Returns:
        The contribution; `best` is None and the rest NaN without profits or with a profit that is not finite.

    Raises:
        ValueError: The numbers of groups and profits differ.
    """
    names = range(len(profits)) if groups is None else groups
    totals: dict[Hashable, float] = {}
    for name, profit in zip(names, profits.tolist(), strict=True):
        totals[name] = totals.get(name, 0.0) + profit
    if not totals or not np.isfinite(profits).all():
        return Concentration(None, np.nan, np.nan)
    best = max(totals, key=lambda name: totals[name])
    gains = sum(value for value in totals.values() if value > 0.0)
    return Concentration(
        best=best,
        share=totals[best] / gains if gains > 0.0 else np.nan,
        without_best_usd=sum(value for name, value in totals.items() if name != best),
    )
