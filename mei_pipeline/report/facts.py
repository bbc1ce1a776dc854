"""Facts of a nightly run for its report, read from its files, the rows of its search and the registry.

The report computes no statistic again, so it can't contradict the verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mei_pipeline.night.plan import NightPlan
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.promotion.assign import Assignment
from mei_pipeline.promotion.incumbents import IncumbentReplay
from mei_pipeline.promotion.pipeline import read_assignments, read_incumbents
from mei_pipeline.promotion.propose import ParameterChange, parameter_changes
from mei_pipeline.registry.database import Registry
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.registry.records import Pointer, Proposal, Transition
from mei_pipeline.registry.store import get_config, history, lane_pointers, latest_proposals
from mei_pipeline.selection.io import (
    CandidateSet,
    GateResults,
    read_candidates,
    read_gate_results,
    read_replays,
    read_walk_forward,
)
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.walk_forward import WalkForwardResult
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.results import open_results, sweep_folder
from mei_pipeline.sweep.summary import HeatMap, Histogram, SweepSummary, heat_maps, histogram, summarise

BEST = 10
"""Number of combos in the table of best combos."""


@dataclass(frozen=True)
class SearchOverview:
    """Overview of the rows of the search.

    Attributes:
        summary: Summary of all combos.
        shown: Distribution of the metric.
        maps: Heat maps of the axes that matter most.
    """

    summary: SweepSummary
    shown: Histogram
    maps: tuple[HeatMap, ...]


@dataclass(frozen=True)
class LaneOutcome:
    """Result of a nightly run for one lane.

    Attributes:
        lane: The lane.
        before: The config that held it when the nightly run proposed; None for none.
        assigned: The config that the nightly run assigned to it; None for none.
        reason: Reason for this config, or for none.
        proposed: True if the registry has a proposal of this nightly run.
        moved: True if the proposal was applied.
        now: The lane's pointer at the time of the report.
        changes: Parameters that differ between the config before and the assigned one.
    """

    lane: str
    before: str | None
    assigned: str | None
    reason: str
    proposed: bool
    moved: bool
    now: Pointer | None
    changes: tuple[ParameterChange, ...]


@dataclass(frozen=True)
class Facts:
    """Facts that the report of a nightly run is made of.

    Attributes:
        plan: Plan of the nightly run.
        written_ms: Time of the report, UTC milliseconds.
        walk: Folds and ranks.
        stitched_by_rank: Stitched out-of-sample segments of each rank.
        replays: Segments of each candidate's config on the days that it was selected on, and on the holdout.
        candidates: The candidates.
        gate_results: Their verdicts.
        lanes: Result for each lane.
        incumbents: Figures of the configs that held lanes.
        steps: Transitions of this nightly run in the registry, oldest first.
        searched: Overview of the rows of the search; None if housekeeping has removed them.
    """

    plan: NightPlan
    written_ms: int
    walk: WalkForwardResult
    stitched_by_rank: tuple[Segment, ...]
    replays: tuple[tuple[Segment, Segment], ...]
    candidates: CandidateSet
    gate_results: GateResults
    lanes: tuple[LaneOutcome, ...]
    incumbents: tuple[IncumbentReplay, ...]
    steps: tuple[Transition, ...]
    searched: SearchOverview | None


def read_facts(settings: Settings, plan: NightPlan, now_ms: int) -> Facts:
    """Read the facts of a nightly run whose lanes have been assigned.

    Raises:
        DataError: A stage has not run for this nightly run, or a file is not readable.
    """
    assigned = read_assignments(settings, plan)
    walk, stitched_by_rank = read_walk_forward(settings, plan)
    registry = open_home_registry(settings)
    steps = tuple(step for step in history(registry) if step.trigger == f"night {plan.id}")
    return Facts(
        plan=plan,
        written_ms=now_ms,
        walk=walk,
        stitched_by_rank=stitched_by_rank,
        replays=read_replays(settings, plan),
        candidates=read_candidates(settings, plan),
        gate_results=read_gate_results(settings, plan),
        lanes=_lanes(registry, plan, assigned, steps),
        incumbents=read_incumbents(settings, plan),
        steps=steps,
        searched=_searched(settings, plan),
    )


def _searched(settings: Settings, plan: NightPlan) -> SearchOverview | None:
    folder = sweep_folder(settings.sweeps, plan.sweep)
    if not folder.exists():
        return None
    results = open_results(folder, plan.sweep)
    summary = summarise(results, count=BEST)
    return SearchOverview(summary, histogram(results, summary), heat_maps(results, summary))


def _lanes(
    registry: Registry, plan: NightPlan, assigned: Sequence[Assignment], steps: Sequence[Transition]
) -> tuple[LaneOutcome, ...]:
    proposals = {each.lane: each for each in latest_proposals(registry, plan.id)}
    pointers = {each.lane: each for each in lane_pointers(registry)}
    return tuple(
        _outcome(registry, each, proposals.get(each.lane), pointers.get(each.lane), steps) for each in assigned
    )


def _outcome(
    registry: Registry,
    assigned: Assignment,
    proposal: Proposal | None,
    now: Pointer | None,
    steps: Sequence[Transition],
) -> LaneOutcome:
    lane = assigned.lane
    seen = 0 if proposal is None else proposal.generation
    before = next(
        (move.config_id for move in reversed(history(registry, lane=lane)) if 0 < move.generation <= seen), None
    )
    chosen = assigned.config_id if proposal is None else proposal.config_id
    return LaneOutcome(
        lane=lane,
        before=before,
        assigned=chosen,
        reason=assigned.reason if proposal is None else proposal.reason,
        proposed=proposal is not None,
        moved=proposal is not None and any(step.lane == lane and step.generation > seen for step in steps),
        now=now,
        changes=()
        if before is None or chosen is None
        else parameter_changes(_resolved(registry, before), _resolved(registry, chosen)),
    )


def _resolved(registry: Registry, config_id: str) -> ResolvedConfig:
    return get_config(registry, config_id).resolved
