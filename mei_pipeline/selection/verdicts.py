"""From chains out of sample to verdicts: what they were judged on, how often these days were seen, how much is luck."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kernels.market import Floats, Ints
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.params.identity import config_id
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry.records import Gate, all_pass
from mei_pipeline.selection.evaluation import (
    EvaluationInputs,
    Measurements,
    SearchStatistics,
    buy_and_hold_returns,
    measure,
    number_or_none,
)
from mei_pipeline.selection.gates import judge
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.statistics.overfitting import Overfitting, pbo
from mei_pipeline.selection.statistics.sharpe import ReturnStatistics, deflated_sharpe, return_statistics_of_sums
from mei_pipeline.selection.statistics.spa import spa
from mei_pipeline.selection.statistics.trials import (
    align,
    effective_trials,
    effective_trials_of_blocks,
    statistic_correlation,
)
from mei_pipeline.selection.walk_forward import WalkForwardResult, rank_config
from mei_pipeline.sweep.plan import SweepPlan

MOST_TRIALS = 50_000
"""Trials that the probability of overfitting is computed of; of more, evenly spaced ones."""

_SEED = 20_260_102
_CORRELATED = 8_192  # trials whose correlations are looked at
_SUMS = ("day_count", "day_sum", "day_sum_sq")


@dataclass(frozen=True)
class TrialReturns:
    """Daily returns out of sample by which a config was judged, tonight or before.

    Attributes:
        config_id: The config.
        days_ms: [D] the days.
        returns: [D] their returns.
    """

    config_id: str
    days_ms: Ints
    returns: Floats


@dataclass(frozen=True)
class SelectionBias:
    """How far luck explains what is best on the days of a search; reported, and decides nothing.

    Attributes:
        best_sharpe: Annual Sharpe ratio of the best trial.
        trials: How many trials there were.
        effective_trials: How many independent ones have the same expected best, from the correlations of their blocks.
        deflated_sharpe: Probability that the true Sharpe ratio of the best is above zero, after so many.
        by_trials: The same for other numbers of independent trials: pairs of number and probability.
    """

    best_sharpe: float
    trials: int
    effective_trials: float
    deflated_sharpe: float
    by_trials: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Judgement:
    """The verdicts on one finalist.

    Attributes:
        config_id: Its config.
        rank: Its slot.
        measured: What the gates look at.
        gates: Every gate.
    """

    config_id: str
    rank: int
    measured: Measurements
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether it passed every gate."""
        return all_pass(self.gates)

    @property
    def rejected_at(self) -> tuple[str, ...]:
        """Names of the gates that it failed."""
        return tuple(gate.name for gate in self.gates if gate.verdict == "fail")

    @property
    def without_evidence(self) -> tuple[str, ...]:
        """Names of the gates that could not be judged; each keeps it from passing."""
        return tuple(gate.name for gate in self.gates if gate.verdict == "no evidence")

    @property
    def reason(self) -> str:
        """Why it did not pass, or that it did."""
        failed = [gate for gate in self.gates if gate.verdict != "pass"]
        return "; ".join(f"{gate.name}: {gate.explanation}" for gate in failed) or "passed every gate"


@dataclass(frozen=True)
class JudgedSearch:
    """What came of judging a night's slots.

    Attributes:
        sums: Of the trials of the search.
        overfitting: Of the search.
        search: What all gates have in common.
        judgements: One for each slot.
    """

    sums: "Sums"
    overfitting: Overfitting
    search: SearchStatistics
    judgements: tuple[Judgement, ...]


def judge_ranks(
    inputs: EvaluationInputs,
    stitched_by_rank: Sequence[Segment],
    rows: Iterable[pl.DataFrame],
    trials: Sequence[TrialReturns],
    progress: Progress = silent,
) -> JudgedSearch:
    """Measure and judge every slot of a walk-forward, of which there is at least one.

    Args:
        inputs: What slots are measured on.
        stitched_by_rank: What each of its slots earned out of sample.
        rows: The rows of the search.
        trials: At any days, oldest first, tonight's last; see `own_trials`.
        progress: Told of each slot.
    """
    plan = inputs.plan
    sums = trial_sums(plan, rows)
    overfitting = pbo(*sums, seed=_SEED)
    search = search_statistics(
        overfitting, stitched_by_rank, trials, buy_and_hold_returns(inputs.data.bars, stitched_by_rank[0].days_ms)
    )
    found: list[Judgement] = []
    for rank, stitched in zip(inputs.walk.ranks, stitched_by_rank, strict=True):
        measured = measure(inputs, rank, stitched, search)
        gates = judge(measured, inputs.policy.gates)
        found.append(Judgement(config_id(rank_config(plan, rank)), rank.number, measured, gates))
        progress(len(found), len(stitched_by_rank), "finalists judged")
    return JudgedSearch(sums, overfitting, search, tuple(found))


Sums = tuple[Floats, Floats, Floats]
"""Count, sum and sum of squares of daily returns of trials in each time block, each [BLOCKS, K]."""


def trial_sums(plan: SweepPlan, chunks: Iterable[pl.DataFrame]) -> Sums:
    """The sums of a search's trials, of at most `MOST_TRIALS` evenly spaced ones."""
    step = -(-plan.combos // MOST_TRIALS)
    parts: list[list[Floats]] = [[], [], []]
    seen = 0
    for rows in chunks:
        kept = slice(-seen % step, None, step)
        for part, name in zip(parts, _SUMS, strict=True):
            part.append(rows[name].to_numpy()[kept].T)
        seen += rows.height
    n, total, squares = (np.concatenate(part, axis=1) for part in parts)
    return n, total, squares


def estimate_selection_bias(sums: Sums, combos: int) -> SelectionBias | None:
    """How far luck explains the best trial of a search; None where none varies, or none between blocks.

    Args:
        sums: Of its trials.
        combos: How many trials there really were.
    """
    n, total, squares = (part.sum(axis=0) for part in sums)
    record = return_statistics_of_sums(n, total, squares)
    varied = np.isfinite(record.sharpe)
    if not varied.any():
        return None
    best = int(np.nanargmax(record.sharpe))
    own = ReturnStatistics(n[best], record.sharpe[best], record.skewness, record.kurtosis)
    variance = float(np.var(record.sharpe[varied]))
    step = -(-n.size // _CORRELATED)
    effective = effective_trials_of_blocks(sums[1][:, ::step], sums[2][:, ::step], seed=_SEED)
    if not np.isfinite(effective):
        return None
    numbers = np.unique(np.geomspace(1.0, max(combos, 2), 25))
    curve = zip(numbers.tolist(), deflated_sharpe(own, numbers, variance).tolist(), strict=True)
    return SelectionBias(
        best_sharpe=float(own.annual),
        trials=combos,
        effective_trials=effective,
        deflated_sharpe=float(deflated_sharpe(own, effective, variance)),
        by_trials=tuple(curve),
    )


def own_trials(plan: SweepPlan, walk: WalkForwardResult, stitched_by_rank: Sequence[Segment]) -> list[TrialReturns]:
    """What a night itself looks at: the chain of each slot, in the name of the config that the slot stands for."""
    return [
        TrialReturns(config_id(rank_config(plan, rank)), stitched.days_ms, stitched.returns)
        for rank, stitched in zip(walk.ranks, stitched_by_rank, strict=True)
    ]


def search_statistics(
    overfitting: Overfitting, stitched_by_rank: Sequence[Segment], trials: Sequence[TrialReturns], buy_and_hold: Floats
) -> SearchStatistics:
    """What the gates of all slots have in common.

    A config that was judged on several nights is one trial, with the days and returns by which it was judged last.

    Args:
        overfitting: Of the search.
        stitched_by_rank: Of tonight's slots.
        trials: At any days, oldest first, tonight's last; those that share no day with the chains do not count.
        buy_and_hold: [D] returns of the basket on the days of the chains.
    """
    days = stitched_by_rank[0].days_ms
    latest = {trial.config_id: trial for trial in trials}
    touching = [trial for trial in latest.values() if np.isin(trial.days_ms, days).any()]
    series = align([trial.days_ms // DAY_MS for trial in touching], [trial.returns for trial in touching])
    effective = number_or_none(effective_trials(statistic_correlation(series), seed=_SEED)) or 0.0
    returns = np.column_stack([stitched.returns for stitched in stitched_by_rank])
    scale = float(returns.std(axis=0).max()) / float(buy_and_hold.std()) if buy_and_hold.std() > 0.0 else 0.0
    return SearchStatistics(
        overfitting_probability=number_or_none(overfitting.pbo),
        loss_probability=number_or_none(overfitting.loss_probability),
        trials=len(touching),
        effective_trials=effective,
        spa_cash_p=number_or_none(spa(returns, seed=_SEED).p_consistent),
        spa_buy_and_hold_p=number_or_none(spa(returns, buy_and_hold * scale, seed=_SEED).p_consistent),
    )
