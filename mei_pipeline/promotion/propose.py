"""Store judged candidates in the registry, and propose the config of each assignment.

No pointer moves here: a proposal is applied later, by `promote_proposals`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mei_pipeline.errors import DataError, Refused
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.promotion.assign import Assignment
from mei_pipeline.promotion.promote import held_by, judged_for
from mei_pipeline.registry import rows
from mei_pipeline.registry.database import Registry, read_transaction
from mei_pipeline.registry.lifecycle import PAPER, PAUSED, RETIRED, check_transition
from mei_pipeline.registry.records import AuditContext, Basis, Gate, Lane, Pointer, Proposal, as_dict
from mei_pipeline.registry.render import store_config
from mei_pipeline.registry.store import add_config, add_evidence, add_proposals, add_verdict, state_of


@dataclass(frozen=True)
class CandidateRecord:
    """A judged config, to be stored.

    Attributes:
        resolved: The resolved config.
        basis: Data, kernels and fill model of the measurement.
        metrics: Measured values.
        gates: The verdict of each gate.
        score: Score of its results out of sample, higher is better.
    """

    resolved: ResolvedConfig
    basis: Basis
    metrics: Mapping[str, Any]
    gates: tuple[Gate, ...]
    score: float


@dataclass(frozen=True)
class StoredCandidate:
    """A judged config as the registry has it now.

    Attributes:
        config_id: Its id.
        verdict_id: The verdict on it.
        venue: Its venue.
        passed: True if it may be proposed.
        score: Its score.
        rejected_at: The gates that it did not pass, with their verdict, and other reasons not to propose it.
    """

    config_id: str
    verdict_id: str
    venue: str
    passed: bool
    score: float
    rejected_at: tuple[str, ...]


@dataclass(frozen=True)
class ParameterChange:
    """A parameter that differs between two configs; None if a config doesn't have it."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True)
class LaneProposal:
    """The proposal for one lane.

    Attributes:
        lane: The lane.
        role: Its role.
        old: The config that holds it, or None.
        new: The proposed config, or None for nothing.
        reason: Reason for this config, or "nothing, because …".
        changes: The parameters that differ between old and new.
    """

    lane: str
    role: str
    old: str | None
    new: str | None
    reason: str
    changes: tuple[ParameterChange, ...]


def store_candidates(
    registry: Registry, candidates: Sequence[CandidateRecord], *, night_id: str, policy_id: str, audit: AuditContext
) -> tuple[StoredCandidate, ...]:
    """Store every candidate with its evidence and verdict. A second call changes nothing.

    Raises:
        Fatal: The registry contradicts itself.
        Busy: Another process holds the registry.
    """
    return tuple(_store(registry, candidate, night_id, policy_id, audit) for candidate in candidates)


def propose_assignments(
    registry: Registry,
    lanes_folder: Path,
    lanes: Sequence[Lane],
    assignments: Sequence[Assignment],
    *,
    night_id: str,
    policy_id: str,
    audit: AuditContext,
) -> tuple[LaneProposal, ...]:
    """Propose for each lane the config that it was assigned, and write its file into the lane's folder.

    Nothing is proposed for a lane that no nightly run may move, that the config holds by the same evidence, or whose
    folder can't be written. A second call changes nothing.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lanes: Every lane that the operator has configured.
        assignments: One for each lane, of a config that this nightly run or an earlier one judged.
        night_id: The nightly run.
        policy_id: The policy in force.
        audit: Who does it, and when.

    Raises:
        Refused: A lane has no assignment or two, a config has two lanes, has no verdict, is retired or does not fit its
            lane (see `promote.judged_for`). Nothing was proposed. `promote_proposals` checks that the verdict passed.
        Fatal: The registry contradicts itself.
        Busy: Another process holds the registry or a lane's files.
    """
    _check_assignments(lanes, assignments)
    assigned = {assignment.lane: assignment for assignment in assignments}
    entries: list[LaneProposal] = []
    proposals: list[Proposal] = []
    for lane in lanes:
        entry, generation = _propose(registry, lanes_folder, lane, assigned[lane.name], policy_id)
        entries.append(entry)
        proposals.append(Proposal(night_id, lane.name, entry.new, policy_id, generation, entry.reason, audit.now_ms))
    add_proposals(registry, proposals)
    return tuple(entries)


def reason_not_to_move(lane: Lane, pointer: Pointer | None) -> str:
    """Return the reason that no nightly run may move a lane; empty if it may."""
    if lane.mode != "paper":
        return f"nothing, because a person moves lanes of mode {lane.mode}"
    if lane.manual:
        return "nothing, because the lane is manual"
    if pointer is not None and pointer.state == PAUSED:
        return "nothing, because the lane is paused until a person resumes it"
    return ""


def parameter_changes(old: ResolvedConfig | None, new: ResolvedConfig) -> tuple[ParameterChange, ...]:
    """Return the parameters in which two resolved configs differ, by dotted path."""
    before, after = _flat(old) if old else {}, _flat(new)
    return tuple(
        ParameterChange(path, before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    )


def _store(
    registry: Registry, candidate: CandidateRecord, night_id: str, policy_id: str, audit: AuditContext
) -> StoredCandidate:
    config_id = add_config(registry, candidate.resolved, audit)
    evidence_id = add_evidence(registry, config_id, candidate.basis, candidate.metrics, audit)
    verdict = add_verdict(registry, config_id, evidence_id, policy_id, candidate.gates, night_id=night_id, audit=audit)
    rejected_at = [f"{gate.name}: {gate.verdict}" for gate in verdict.gates if gate.verdict != "pass"]
    # A config without a gate or a score has not failed, but nothing shows that it may trade.
    if not verdict.gates:
        rejected_at.append("no gate was computed")
    if not math.isfinite(candidate.score):
        rejected_at.append("score: no evidence")
    if state_of(registry, config_id) == RETIRED:
        rejected_at.append("lifecycle: retired")
    venue = candidate.resolved.venue
    return StoredCandidate(config_id, verdict.verdict_id, venue, not rejected_at, candidate.score, tuple(rejected_at))


def _check_assignments(lanes: Sequence[Lane], assignments: Sequence[Assignment]) -> None:
    """Check that assignments name each lane once, and no config twice.

    Raises:
        Refused: They do not.
    """
    named = [assignment.lane for assignment in assignments]
    if sorted(named) != sorted(lane.name for lane in lanes):
        raise Refused(
            f"assignments: name the lanes {', '.join(sorted(named)) or 'none'}; name each configured lane once:"
            f" {', '.join(sorted(lane.name for lane in lanes)) or 'none'}"
        )
    counts = Counter(assignment.config_id for assignment in assignments if assignment.config_id is not None)
    for config_id, count in counts.items():
        if count > 1:
            lanes_of_config = ", ".join(sorted(each.lane for each in assignments if each.config_id == config_id))
            raise Refused(
                f"config {config_id[:12]}: is assigned to {lanes_of_config}; a nightly run gives a config one lane"
            )


def _propose(
    registry: Registry, lanes_folder: Path, lane: Lane, assignment: Assignment, policy_id: str
) -> tuple[LaneProposal, int]:
    """Return the proposal for a lane, and the generation of the lane that it is based on."""
    with read_transaction(registry) as connection:
        pointer = rows.find_pointer(connection, lane.name)
        old, generation = (None, 0) if pointer is None else (pointer.config_id, pointer.generation)
        reason = reason_not_to_move(lane, pointer)
        if reason or assignment.config_id is None:
            return LaneProposal(lane.name, lane.role, old, None, reason or assignment.reason, ()), generation
        config, verdict, evidence = judged_for(connection, lane, assignment.config_id, policy_id)
        if pointer is not None and old == config.config_id:
            if evidence.evidence_id == held_by(connection, pointer):
                reason = f"nothing, because {config.config_id[:12]} holds the lane"
                return LaneProposal(lane.name, lane.role, old, None, reason, ()), generation
        else:
            check_transition(config.config_id, rows.state_in_lane(connection, config.config_id, lane.name), PAPER)
        before = None if old is None else rows.find_config(connection, old).resolved
    # The file of the config in force is written with the pointer: it would name evidence that is not in force yet.
    if old != config.config_id:
        try:
            store_config(lanes_folder, lane.name, config, evidence, verdict)
        except DataError as error:
            reason = f"nothing, because the lane's folder can't be written: {error}"
            return LaneProposal(lane.name, lane.role, old, None, reason, ()), generation
    changes = parameter_changes(before, config.resolved)
    return LaneProposal(lane.name, lane.role, old, config.config_id, assignment.reason, changes), generation


def _flat(resolved: ResolvedConfig) -> dict[str, Any]:
    rest = {key: value for key, value in as_dict(resolved).items() if key not in {"params", "market", "symbol_params"}}
    own = {
        f"symbol_params.{symbol}.{path}": value
        for symbol, values in resolved.symbol_params.items()
        for path, value in values.items()
    }
    return {**rest, **resolved.params, **resolved.market, **own}
