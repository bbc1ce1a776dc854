"""Verdicts on the candidates of a nightly run: measure each rank and apply the gates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from mei_pipeline.params.identity import config_id
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry.records import Gate, all_pass
from mei_pipeline.selection.evaluation import EvaluationInputs, Measurements, measure
from mei_pipeline.selection.gates import apply_gates
from mei_pipeline.selection.search_statistics import SEED, SearchStatistics, TrialReturns, search_statistics
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.selection_bias import BlockSums, block_sums
from mei_pipeline.selection.statistics.overfitting import Overfitting, pbo
from mei_pipeline.selection.walk_forward import rank_config


@dataclass(frozen=True)
class Judgement:
    """The verdicts on one candidate.

    Attributes:
        config_id: Id of its config.
        rank: Its rank, from 0.
        measured: Measurements that the gates test.
        gates: The verdict of every gate.
    """

    config_id: str
    rank: int
    measured: Measurements
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """True if it passed every gate."""
        return all_pass(self.gates)

    @property
    def rejected_at(self) -> tuple[str, ...]:
        """Names of the gates that it failed."""
        return tuple(gate.name for gate in self.gates if gate.verdict == "fail")

    @property
    def without_evidence(self) -> tuple[str, ...]:
        """Names of the gates without evidence; each keeps it from passing."""
        return tuple(gate.name for gate in self.gates if gate.verdict == "no evidence")

    @property
    def reason(self) -> str:
        """Names and explanations of the gates that it did not pass."""
        failed = [gate for gate in self.gates if gate.verdict != "pass"]
        return "; ".join(f"{gate.name}: {gate.explanation}" for gate in failed) or "passed every gate"


@dataclass(frozen=True)
class JudgedSearch:
    """A search and the verdicts on its candidates.

    Attributes:
        sums: Block sums of the combos of the search.
        overfitting: Overfitting of the search.
        search: Statistics that all ranks share.
        judgements: One for each rank.
    """

    sums: BlockSums
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
    """Measure and judge every rank of a walk-forward that has at least one.

    Args:
        inputs: Data, search and policy.
        stitched_by_rank: Stitched out-of-sample segments of each rank.
        rows: The rows of the search.
        trials: Trials on any days, oldest first, those of this nightly run last; see `own_trials`.
        progress: Called after each rank.
    """
    plan = inputs.plan
    sums = block_sums(plan, rows)
    overfitting = pbo(*sums, seed=SEED)
    search = search_statistics(overfitting, stitched_by_rank, trials, inputs.data.bars)
    judgements: list[Judgement] = []
    for rank, stitched in zip(inputs.walk.ranks, stitched_by_rank, strict=True):
        measured = measure(inputs, rank, stitched, search)
        gates = apply_gates(measured, inputs.policy.gates)
        judgements.append(Judgement(config_id(rank_config(plan, rank)), rank.number, measured, gates))
        progress(len(judgements), len(stitched_by_rank), "candidates judged")
    return JudgedSearch(sums, overfitting, search, tuple(judgements))
