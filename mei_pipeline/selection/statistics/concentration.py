"""How much of a profit hangs on one symbol, one trade or one day."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from kernels.market import Floats


@dataclass(frozen=True)
class Concentration:
    """The part of a result that its best group made; a group is a symbol, a trade or a day."""

    best: Hashable | None
    """The group with the highest net profit, the first of equals; None when there is no evidence."""
    share: float
    """Its profit over the sum of the profits of all groups that made one, 0..1; NaN when none made one."""
    without_best_usd: float
    """Net profit that is left without it."""


def concentration(profits: Floats, groups: Sequence[Hashable] | None = None) -> Concentration:
    """How much of a profit the best group made.

    Losing groups are not netted in the share: a book that earned 100 in one symbol and lost 90 in another has a share
    of 1, not of 10. A small share does not say that the rest earns: look at `without_best_usd` too.

    Args:
        profits: [n] net profits in USD of trades or days.
        groups: [n] the group of each, such as its symbol; None makes each a group of its own, named by its place.

    Returns:
        The result; `best` is None and the rest NaN without profits or with one that is not finite.

    Raises:
        ValueError: There are not as many groups as profits.
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
