"""Statistics that all ranks of a nightly run share: overfitting of the search, number of trials, SPA tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels.market import Floats, Ints
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.params.identity import config_id
from mei_pipeline.registry.records import finite_or_none
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.statistics.overfitting import Overfitting
from mei_pipeline.selection.statistics.spa import spa
from mei_pipeline.selection.statistics.trials import align, effective_trials, statistic_correlation
from mei_pipeline.selection.walk_forward import WalkForwardResult, rank_config
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.sweep.plan import SweepPlan

SEED = 20_260_102
"""Seed of every draw of a search's statistics: the same results give the same verdict."""


@dataclass(frozen=True)
class SearchStatistics:
    """Statistics that all ranks of a nightly run share; None is no evidence.

    Attributes:
        overfitting_probability: Probability of backtest overfitting by CSCV; None if too few combos vary.
        loss_probability: Share of the splits of CSCV in which the best combo of one half loses on the other half.
        trials: Number of distinct configs that were ever judged on a day of these, by this nightly run or before.
        effective_trials: Number of independent trials with the same expected best; 0 if no trial varies.
        spa_cash_p: SPA p-value of the best rank against cash; None if no rank varies.
        spa_buy_and_hold_p: SPA p-value of the best rank against buying and holding all symbols.
    """

    overfitting_probability: float | None
    loss_probability: float | None
    trials: int
    effective_trials: float
    spa_cash_p: float | None
    spa_buy_and_hold_p: float | None


@dataclass(frozen=True)
class TrialReturns:
    """Daily returns out of sample by which a config was judged, by this nightly run or before.

    Attributes:
        config_id: The config.
        days_ms: [D] the days.
        returns: [D] their returns.
    """

    config_id: str
    days_ms: Ints
    returns: Floats


def own_trials(plan: SweepPlan, walk: WalkForwardResult, stitched_by_rank: Sequence[Segment]) -> list[TrialReturns]:
    """Return the trials of a nightly run: the stitched segments of each rank, by the id of the rank's config."""
    return [
        TrialReturns(config_id(rank_config(plan, rank)), stitched.days_ms, stitched.returns)
        for rank, stitched in zip(walk.ranks, stitched_by_rank, strict=True)
    ]


def search_statistics(
    overfitting: Overfitting, stitched_by_rank: Sequence[Segment], trials: Sequence[TrialReturns], bars: Bars
) -> SearchStatistics:
    """Return the statistics that all ranks share.

    A config that several nightly runs judged is one trial, with the days and returns of its newest judgement.

    Args:
        overfitting: Overfitting of the search.
        stitched_by_rank: Segments of this nightly run, at least one.
        trials: Trials on any days, oldest first, those of this nightly run last. Trials that share no day with the
            segments do not count.
        bars: Bars of the search's symbols.
    """
    days_ms = stitched_by_rank[0].days_ms
    latest = {trial.config_id: trial for trial in trials}
    counted = [trial for trial in latest.values() if np.isin(trial.days_ms, days_ms).any()]
    series = align([trial.days_ms // DAY_MS for trial in counted], [trial.returns for trial in counted])
    effective = finite_or_none(effective_trials(statistic_correlation(series), seed=SEED)) or 0.0
    returns = np.column_stack([stitched.returns for stitched in stitched_by_rank])
    buy_and_hold = buy_and_hold_returns(bars, days_ms)
    # A benchmark of another volatility would win or lose by its exposure alone.
    scale = float(returns.std(axis=0).max()) / float(buy_and_hold.std()) if buy_and_hold.std() > 0.0 else 0.0
    return SearchStatistics(
        overfitting_probability=finite_or_none(overfitting.pbo),
        loss_probability=finite_or_none(overfitting.loss_probability),
        trials=len(counted),
        effective_trials=effective,
        spa_cash_p=finite_or_none(spa(returns, seed=SEED).p_consistent),
        spa_buy_and_hold_p=finite_or_none(spa(returns, buy_and_hold * scale, seed=SEED).p_consistent),
    )


def buy_and_hold_returns(bars: Bars, days_ms: Ints) -> Floats:
    """Return the daily returns of holding all symbols in equal parts, [D], from close to close.

    The mean of a day leaves out a symbol without a close before the day or in it. A day without any symbol has 0.
    """
    ends = bars.steps.close_ms
    last = np.searchsorted(ends, days_ms + DAY_MS, side="right") - 1
    before = np.searchsorted(ends, days_ms, side="right") - 1
    close = bars.steps.prices[3]
    with np.errstate(invalid="ignore"):
        moves = np.where((before >= 0)[:, None], close[last] / close[np.maximum(before, 0)] - 1.0, np.nan)
    has_close = ~np.isnan(moves)
    total = np.where(has_close, moves, 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(has_close.sum(axis=1), 1))
