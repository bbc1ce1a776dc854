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
from mei_pipeline.selection.evaluation import Evidence, Measured, Search, basket_returns, known, measure
from mei_pipeline.selection.gates import judge
from mei_pipeline.selection.segments import Leg
from mei_pipeline.selection.statistics.overfitting import Overfitting, pbo
from mei_pipeline.selection.statistics.sharpe import TrackRecord, deflated_sharpe, track_record_of_sums
from mei_pipeline.selection.statistics.spa import spa
from mei_pipeline.selection.statistics.trials import (
    align,
    effective_trials,
    effective_trials_of_blocks,
    statistic_correlation,
)
from mei_pipeline.selection.walk_forward import Walk, slot_config
from mei_pipeline.sweep.plan import SweepPlan

MOST_TRIALS = 50_000
"""Trials that the probability of overfitting is computed of; of more, evenly spaced ones."""

_SEED = 20_260_102
_CORRELATED = 8_192  # trials whose correlations are looked at
_SUMS = ("day_count", "day_sum", "day_sum_sq")


@dataclass(frozen=True)
class Look:
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
class Luck:
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
        slot: Its slot.
        measured: What the gates look at.
        gates: Every gate.
    """

    config_id: str
    slot: int
    measured: Measured
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether it passed every gate."""
        return all_pass(self.gates)

    @property
    def fell_at(self) -> tuple[str, ...]:
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
class Judged:
    """What came of judging a night's slots.

    Attributes:
        sums: Of the trials of the search.
        overfitting: Of the search.
        search: What all gates have in common.
        judgements: One for each slot.
    """

    sums: "Sums"
    overfitting: Overfitting
    search: Search
    judgements: tuple[Judgement, ...]


def judge_chains(
    evidence: Evidence,
    chains: Sequence[Leg],
    rows: Iterable[pl.DataFrame],
    looks: Sequence[Look],
    progress: Progress = silent,
) -> Judged:
    """Measure and judge every slot of a walk-forward, of which there is at least one.

    Args:
        evidence: What slots are measured on.
        chains: What each of its slots earned out of sample.
        rows: The rows of the search.
        looks: At any days, oldest first, tonight's last; see `own_looks`.
        progress: Told of each slot.
    """
    plan = evidence.plan
    sums = trial_sums(plan, rows)
    overfitting = pbo(*sums, seed=_SEED)
    search = search_of(overfitting, chains, looks, basket_returns(evidence.ground.bars, chains[0].days_ms))
    found: list[Judgement] = []
    for slot, chain in zip(evidence.walk.slots, chains, strict=True):
        measured = measure(evidence, slot, chain, search)
        gates = judge(measured, evidence.policy.gates)
        found.append(Judgement(config_id(slot_config(plan, slot)), slot.number, measured, gates))
        progress(len(found), len(chains), "finalists judged")
    return Judged(sums, overfitting, search, tuple(found))


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


def luck_of(sums: Sums, combos: int) -> Luck | None:
    """How far luck explains the best trial of a search; None where none varies, or none between blocks.

    Args:
        sums: Of its trials.
        combos: How many trials there really were.
    """
    n, total, squares = (part.sum(axis=0) for part in sums)
    record = track_record_of_sums(n, total, squares)
    varied = np.isfinite(record.sharpe)
    if not varied.any():
        return None
    best = int(np.nanargmax(record.sharpe))
    own = TrackRecord(n[best], record.sharpe[best], record.skewness, record.kurtosis)
    variance = float(np.var(record.sharpe[varied]))
    step = -(-n.size // _CORRELATED)
    effective = effective_trials_of_blocks(sums[1][:, ::step], sums[2][:, ::step], seed=_SEED)
    if not np.isfinite(effective):
        return None
    numbers = np.unique(np.geomspace(1.0, max(combos, 2), 25))
    curve = zip(numbers.tolist(), deflated_sharpe(own, numbers, variance).tolist(), strict=True)
    return Luck(
        best_sharpe=float(own.annual),
        trials=combos,
        effective_trials=effective,
        deflated_sharpe=float(deflated_sharpe(own, effective, variance)),
        by_trials=tuple(curve),
    )


def own_looks(plan: SweepPlan, walk: Walk, chains: Sequence[Leg]) -> list[Look]:
    """What a night itself looks at: the chain of each slot, in the name of the config that the slot stands for."""
    return [
        Look(config_id(slot_config(plan, slot)), chain.days_ms, chain.returns)
        for slot, chain in zip(walk.slots, chains, strict=True)
    ]


def search_of(overfitting: Overfitting, chains: Sequence[Leg], looks: Sequence[Look], basket: Floats) -> Search:
    """What the gates of all slots have in common.

    A config that was judged on several nights is one trial, with the days and returns by which it was judged last.

    Args:
        overfitting: Of the search.
        chains: Of tonight's slots.
        looks: At any days, oldest first, tonight's last; those that share no day with the chains do not count.
        basket: [D] returns of the basket on the days of the chains.
    """
    days = chains[0].days_ms
    latest = {look.config_id: look for look in looks}
    touching = [look for look in latest.values() if np.isin(look.days_ms, days).any()]
    series = align([look.days_ms // DAY_MS for look in touching], [look.returns for look in touching])
    effective = known(effective_trials(statistic_correlation(series), seed=_SEED)) or 0.0
    returns = np.column_stack([chain.returns for chain in chains])
    scale = float(returns.std(axis=0).max()) / float(basket.std()) if basket.std() > 0.0 else 0.0
    return Search(
        overfitting_probability=known(overfitting.pbo),
        loss_probability=known(overfitting.loss_probability),
        looks=len(touching),
        effective_looks=effective,
        nothing_p=known(spa(returns, seed=_SEED).p_consistent),
        basket_p=known(spa(returns, basket * scale, seed=_SEED).p_consistent),
    )
