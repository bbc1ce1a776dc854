"""Gates on the holdout of a night: one test each, with value, threshold and verdict in words."""

import math
from collections.abc import Mapping
from statistics import NormalDist

from kernels.market import Floats
from mei_pipeline.config.models import Selection
from mei_pipeline.registry.records import Gate
from mei_pipeline.selection.bounds import at_least, at_most
from mei_pipeline.sweep.metrics import FEWEST_DAYS, NO_VARIANCE

_NORMAL = NormalDist()


def p_value(n: float, total: float, squares: float) -> float | None:
    """One-sided p-value of "the mean daily return is above zero", from count, sum and sum of squares.

    Student's t statistic against the normal distribution, which it approaches over the tens of days that a holdout has;
    returns are taken as uncorrelated. None when there are fewer than two days or no variation.
    """
    if n < FEWEST_DAYS:
        return None
    mean = total / n
    variance = (squares - n * mean * mean) / (n - 1.0)
    if variance <= NO_VARIANCE:
        return None
    return 1.0 - _NORMAL.cdf(mean / math.sqrt(variance / n))


def judge(
    in_sample: Mapping[str, float],
    out_of_sample: Mapping[str, float],
    days: Floats,
    judged: int,
    policy: Selection,
) -> tuple[Gate, ...]:
    """Every gate of one finalist.

    Args:
        in_sample: Metrics over the days of the search.
        out_of_sample: Metrics over the days that the search never saw.
        days: [BLOCKS, 3] daily returns of those days as (n, sum r, sum r²).
        judged: How many finalists are judged: each is a further try at luck.
        policy: The thresholds.
    """
    n, total, squares = (float(value) for value in days.sum(axis=0))
    chance = p_value(n, total, squares)
    level = policy.significance / judged
    luck = (
        Gate("significance", None, level, "no evidence", "daily returns out of sample do not vary")
        if chance is None
        else at_most("significance", chance, level, f"chance of such returns without an edge, {judged} judged,")
    )
    return (
        at_least("min_trades", in_sample["trades"], policy.min_trades, "closed trades in sample"),
        at_least(
            "min_trades_out_of_sample",
            out_of_sample["trades"],
            policy.min_trades_out_of_sample,
            "closed trades out of sample",
        ),
        at_least(
            "min_sharpe_out_of_sample",
            out_of_sample["sharpe"],
            policy.min_sharpe_out_of_sample,
            "annual Sharpe ratio out of sample",
        ),
        at_most(
            "max_drawdown_pct",
            out_of_sample["max_drawdown_pct"],
            policy.max_drawdown_pct,
            "drawdown out of sample, percent,",
        ),
        luck,
    )
