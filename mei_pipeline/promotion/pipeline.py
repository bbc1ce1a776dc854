"""Stages of the promotion in a nightly run, from verdicts to proposals.

`assign_lanes` reads the verdicts and writes `incumbents.json` and `roles.json`; `propose_configs` tells the registry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from kernels.cache import source_hash
from mei_pipeline import files
from mei_pipeline.config.load import Configuration
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.store import night_folder
from mei_pipeline.promotion.assign import AcceptedConfig, Assignment, Incumbent, assign
from mei_pipeline.promotion.incumbents import IncumbentReplay, incumbent_figures, replay_incumbent
from mei_pipeline.promotion.propose import (
    CandidateRecord,
    LaneProposal,
    StoredCandidate,
    propose_assignments,
    reason_not_to_move,
    store_candidates,
)
from mei_pipeline.registry.home import open_home_registry
from mei_pipeline.registry.lanes import configured_lanes, lane_files
from mei_pipeline.registry.lifecycle import PAPER, PAUSED
from mei_pipeline.registry.records import AuditContext, Basis
from mei_pipeline.selection.folds import folds_of
from mei_pipeline.selection.io import Candidate, read_file, read_verdicts
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.verdicts import Judgement
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.plan import resolved_combo

_ASSIGNMENTS = TypeAdapter(tuple[Assignment, ...])
_INCUMBENTS = TypeAdapter(tuple[IncumbentReplay, ...])


@dataclass(frozen=True)
class ProposalResult:
    """Candidates and proposals that a nightly run stored in the registry.

    Attributes:
        candidates: The candidates.
        lanes: The proposal for each lane.
    """

    candidates: tuple[StoredCandidate, ...]
    lanes: tuple[LaneProposal, ...]


def assign_lanes(settings: Settings, config: Configuration, plan: NightPlan, now_ms: int) -> tuple[Assignment, ...]:
    """Assign accepted configs to lanes, and write the assignments and the figures of the incumbents.

    Incumbents are replayed on the test days of the candidates. A config that a person put into a lane that no nightly
    run may move is assigned to no other lane.

    Raises:
        DataError: An earlier stage has not run, or has run again since.
        Busy: Another process holds the registry.
    """
    registry = open_home_registry(settings)
    walk, verdicts = read_verdicts(settings, plan)
    accepted = _accepted(verdicts)
    if accepted:
        none_accepted = "every accepted config holds a lane that no nightly run may move"
    else:
        none_accepted = _reason_of_rejection([each for _, each, _ in verdicts])
    assignments: dict[str, Assignment] = {}
    incumbents: dict[str, Incumbent] = {}
    free = []
    for lane in configured_lanes(config.lanes):
        now = lane_files(registry, lane.name)
        reason = reason_not_to_move(lane, None if now is None else now.pointer)
        if not reason and lane.venue != plan.sweep.venue:
            reason = f"nothing, because no config of {lane.venue} was judged"
        if reason:
            assignments[lane.name] = Assignment(lane.name, None, reason)
            if now is not None and now.pointer.state in {PAPER, PAUSED}:
                accepted = [each for each in accepted if each.config_id != now.pointer.config_id]
            continue
        free.append(lane)
        if now is not None:
            incumbents[lane.name] = replay_incumbent(settings, config, plan, registry, now, walk.folds)
    roles = plan.selection.roles
    assignments |= {each.lane: each for each in assign(free, accepted, incumbents, roles, now_ms, none_accepted)}
    in_order = tuple(assignments[name] for name in sorted(assignments))
    figures = tuple(incumbent_figures(name, each, roles) for name, each in sorted(incumbents.items()))
    folder = night_folder(settings, plan)
    files.write_bytes(folder / "incumbents.json", _INCUMBENTS.dump_json(figures, indent=2) + b"\n")
    files.write_bytes(folder / "roles.json", _ASSIGNMENTS.dump_json(in_order, indent=2) + b"\n")
    return in_order


def read_assignments(settings: Settings, plan: NightPlan) -> tuple[Assignment, ...]:
    """Read the assignments.

    Raises:
        DataError: `assign_lanes` has not run for this nightly run, or the file is not readable.
    """
    path = night_folder(settings, plan) / "roles.json"
    assignments: tuple[Assignment, ...] = read_file(path, _ASSIGNMENTS, "role_assignments")
    return assignments


def read_incumbents(settings: Settings, plan: NightPlan) -> tuple[IncumbentReplay, ...]:
    """Read the figures of the incumbents, by lane.

    Raises:
        DataError: `assign_lanes` has not run for this nightly run, or the file is not readable.
    """
    path = night_folder(settings, plan) / "incumbents.json"
    figures: tuple[IncumbentReplay, ...] = read_file(path, _INCUMBENTS, "role_assignments")
    return figures


def propose_configs(settings: Settings, config: Configuration, plan: NightPlan, audit: AuditContext) -> ProposalResult:
    """Store every candidate with its evidence and verdict, and propose the assigned configs. No pointer moves.

    Raises:
        Busy, DataError, Fatal, Refused: See `propose_assignments`.
    """
    registry = open_home_registry(settings)
    _, verdicts = read_verdicts(settings, plan)
    candidates = store_candidates(
        registry,
        [_record_of(plan, candidate, judgement) for candidate, judgement, _ in verdicts],
        night_id=plan.id,
        policy_id=plan.selection.id,
        audit=audit,
    )
    proposals = propose_assignments(
        registry,
        settings.lanes,
        configured_lanes(config.lanes),
        read_assignments(settings, plan),
        night_id=plan.id,
        policy_id=plan.selection.id,
        audit=audit,
    )
    return ProposalResult(candidates, proposals)


def _accepted(verdicts: Sequence[tuple[Candidate, Judgement, Segment]]) -> list[AcceptedConfig]:
    """Return the configs that passed, each once: of equal ids the better rank counts."""
    accepted: dict[str, AcceptedConfig] = {}
    for _, judgement, stitched in verdicts:
        measured = judgement.measured
        if judgement.passed and measured.sharpe is not None and judgement.config_id not in accepted:
            accepted[judgement.config_id] = AcceptedConfig(
                judgement.config_id, measured.sharpe, measured.max_drawdown_pct, stitched.returns
            )
    return list(accepted.values())


def _reason_of_rejection(judgements: Sequence[Judgement]) -> str:
    """Return the gates that rejected most candidates, in words."""
    if not judgements:
        return "no combo of the search with enough trades made money on the days that candidates are selected on"
    parts = [f"none of {len(judgements)} passed"]
    for words, names in (
        ("most were rejected at", [name for each in judgements for name in each.rejected_at]),
        ("no evidence for", [name for each in judgements for name in each.without_evidence]),
    ):
        if names:
            most = max(sorted(set(names)), key=names.count)
            parts.append(f"{words} {most} ({names.count(most)})")
    return "; ".join(parts)


def _record_of(plan: NightPlan, candidate: Candidate, judgement: Judgement) -> CandidateRecord:
    sweep = plan.sweep
    basis = Basis(
        kernel_hash=source_hash(),
        fill_model=dict(sweep.market),
        venue=sweep.venue,
        data_hash=sweep.data_hash,
        anchor_ms=sweep.anchor_ms,
    )
    folds = folds_of(sweep.from_ms, sweep.to_ms, plan.selection.walk_forward)
    metrics: dict[str, Any] = {
        "sweep_id": sweep.id,
        "combo": candidate.combo,
        "combos": sweep.combos,
        "selected": list(candidate.selected),
        "from_ms": sweep.from_ms,
        "holdout_ms": plan.holdout_ms,
        "to_ms": plan.to_ms,
        "folds_ms": [list(fold.test_ms) for fold in folds],
        "in_sample_sharpe": candidate.in_sample_sharpe,
        "out_of_sample": vars(candidate.out_of_sample),
        "holdout": vars(candidate.holdout),
    }
    score = judgement.measured.sharpe
    return CandidateRecord(
        resolved=resolved_combo(sweep, candidate.params),
        basis=basis,
        metrics=metrics,
        gates=judgement.gates,
        score=float("nan") if score is None else score,
    )
