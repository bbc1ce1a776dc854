"""What a night does with the configs that it judged: store them, propose some for lanes, and, apart from that, promote.

`store_candidates` and `propose_assignments` move nothing; which config is for which lane is the caller's choice.
`promote_proposals` applies what is stored and judges again, so that it may be launched by itself at any time.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from mei_pipeline.errors import DataError, MeiError, Refused
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.promotion.promote import (
    Decision,
    Move,
    Promotion,
    PromotionRequest,
    carry_out,
    decide,
    held_by,
    judged_for,
)
from mei_pipeline.registry import rows
from mei_pipeline.registry.database import Registry, read_transaction
from mei_pipeline.registry.lanes import lane_files
from mei_pipeline.registry.lifecycle import PAPER, PAUSED, RETIRED, check_transition
from mei_pipeline.registry.records import AuditContext, Basis, Gate, Lane, Pointer, Proposal, as_dict
from mei_pipeline.registry.render import render, store_config
from mei_pipeline.registry.store import (
    add_config,
    add_evidence,
    add_proposals,
    add_verdict,
    lane_pointer,
    latest_proposals,
    state_of,
)


@dataclass(frozen=True)
class CandidateRecord:
    """A config that was judged.

    Attributes:
        resolved: The resolved config.
        basis: What it was measured on and by which rules.
        metrics: What was measured.
        gates: The verdict of each gate.
        score: Ranks those that passed, higher is better; only out-of-sample figures belong in it.
    """

    resolved: ResolvedConfig
    basis: Basis
    metrics: Mapping[str, Any]
    gates: tuple[Gate, ...]
    score: float


@dataclass(frozen=True)
class StoredCandidate:
    """A candidate as the registry has it now.

    Attributes:
        config_id: Its id.
        verdict_id: The verdict on it.
        venue: Its venue.
        passed: Whether it may be proposed.
        score: As it was given.
        rejected_at: The gates it did not pass, with their verdict, and what else speaks against it.
    """

    config_id: str
    verdict_id: str
    venue: str
    passed: bool
    score: float
    rejected_at: tuple[str, ...]


@dataclass(frozen=True)
class Assignment:
    """Which config is for a lane.

    Attributes:
        lane: The lane.
        config_id: The config, or None for "leave it as it is".
        reason: Why this one; or "nothing, because …".
    """

    lane: str
    config_id: str | None
    reason: str


@dataclass(frozen=True)
class ParameterChange:
    """One parameter that differs between two configs; None where a config doesn't have it."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True)
class LaneProposal:
    """What is proposed for one lane.

    Attributes:
        lane: The lane.
        role: Its role.
        old: The config that holds it, or None.
        new: The config proposed, or None for nothing.
        reason: Why this one; or "nothing, because …".
        changes: The parameters that differ between old and new.
    """

    lane: str
    role: str
    old: str | None
    new: str | None
    reason: str
    changes: tuple[ParameterChange, ...]


@dataclass(frozen=True)
class LanePromotion:
    """What became of one lane.

    Attributes:
        lane: The lane.
        pointer: What the lane holds now, or None.
        moved: Whether its pointer was moved.
        refused: Why a proposal was not applied, or the lane's files not written; empty if nothing went wrong.
        reason: What happened, in words.
        files: The files that were written.
        error: The error that `refused` words; None if nothing went wrong.
    """

    lane: str
    pointer: Pointer | None
    moved: bool
    refused: str
    reason: str
    files: tuple[Path, ...]
    error: MeiError | None = None


def store_candidates(
    registry: Registry, candidates: Sequence[CandidateRecord], *, night_id: str, policy_id: str, audit: AuditContext
) -> tuple[StoredCandidate, ...]:
    """Store every candidate with its evidence and verdict. Doing it twice is doing it once.

    Raises:
        Fatal: The registry contradicts itself.
        Busy: Another process holds the registry.
    """
    return tuple(_judge(registry, candidate, night_id, policy_id, audit) for candidate in candidates)


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

    A lane that no night moves is proposed nothing, whatever it was assigned; nor is one that its config holds by the
    same evidence, or whose folder takes no file. No pointer is moved. Doing it twice is doing it once.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lanes: Every lane that the operator has configured.
        assignments: One for each lane. A config is one that was judged this night or earlier.
        night_id: The night.
        policy_id: The policy in force.
        audit: Who does it, and when.

    Raises:
        Refused: A lane has no assignment or two, a config has two lanes, never passed, is retired or does not fit its
            lane (see `promote.judged_for`). Nothing was proposed. Whether its newest verdict is a pass is for
            `promote_proposals` to say.
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


def promote_proposals(
    registry: Registry,
    lanes_folder: Path,
    lanes: Sequence[Lane],
    *,
    policy_id: str,
    audit: AuditContext,
    night_id: str | None = None,
) -> tuple[LanePromotion, ...]:
    """Bring every lane's files in line with the registry, and apply the proposals stored last.

    Each proposal is judged again here: without a passing verdict on that config under the policy in force it is
    refused, whoever launches this and whatever ran before. A lane that has moved since its proposal was made is left
    alone, so that a rollback is not undone. A lane whose files can't be read or written keeps what it has, says why,
    and holds up no other lane. Doing it twice is doing it once.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lanes: Every lane that the operator has configured.
        policy_id: The policy in force.
        audit: Who does it, and when.
        night_id: Whose proposals; those of the night that proposed last where None.

    Raises:
        Fatal: The registry contradicts itself.
        DataError: The registry is damaged.
        Busy: Another process holds the registry.
    """
    proposals = {proposal.lane: proposal for proposal in latest_proposals(registry, night_id)}
    outcomes: list[LanePromotion] = []
    requests: list[PromotionRequest] = []
    written: dict[str, tuple[Path, ...]] = {}
    for lane in sorted(lanes, key=lambda lane: lane.name):
        pointer = lane_pointer(registry, lane.name)
        request = _request_of(lane, proposals.pop(lane.name, None), pointer, audit)
        lane_files(registry, lane.name)  # a registry that contradicts itself stops everything
        try:
            written[lane.name] = _prepared(registry, lanes_folder, lane.name, request, policy_id)
        except MeiError as error:
            outcomes.append(_failed(lane.name, pointer, error))
            continue
        if isinstance(request, PromotionRequest):
            requests.append(request)
        else:
            files = written[lane.name]
            outcomes.append(LanePromotion(lane.name, pointer, moved=False, refused="", reason=request, files=files))

    def decisions(connection: Connection) -> Sequence[Decision]:
        found = [decide(connection, request, policy_id) for request in requests]
        return _one_lane_each(rows.all_pointers(connection), requests, found)

    done = carry_out(registry, lanes_folder, [request.lane.name for request in requests], decisions)
    outcomes += [
        _outcome(registry, request, found, written[request.lane.name])
        for request, found in zip(requests, done, strict=True)
    ]
    for name, proposal in proposals.items():
        if proposal.config_id is not None:
            reason = f"lane {name}: is proposed for, and config/lanes has no file of it"
            outcomes.append(_failed(name, lane_pointer(registry, name), Refused(reason)))
    return tuple(sorted(outcomes, key=lambda outcome: outcome.lane))


def changes(old: ResolvedConfig | None, new: ResolvedConfig) -> tuple[ParameterChange, ...]:
    """The parameters in which two resolved configs differ, by dotted path."""
    before, after = _flat(old) if old else {}, _flat(new)
    return tuple(
        ParameterChange(path, before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    )


def _judge(
    registry: Registry, candidate: CandidateRecord, night_id: str, policy_id: str, audit: AuditContext
) -> StoredCandidate:
    config_id = add_config(registry, candidate.resolved, audit)
    evidence_id = add_evidence(registry, config_id, candidate.basis, candidate.metrics, audit)
    verdict = add_verdict(registry, config_id, evidence_id, policy_id, candidate.gates, night_id=night_id, audit=audit)
    rejected_at = [f"{gate.name}: {gate.verdict}" for gate in verdict.gates if gate.verdict != "pass"]
    if not verdict.gates:
        rejected_at.append("no gate was computed")
    if not math.isfinite(candidate.score):
        rejected_at.append("score: no evidence")
    if state_of(registry, config_id) == RETIRED:
        rejected_at.append("lifecycle: retired")
    venue = candidate.resolved.venue
    return StoredCandidate(config_id, verdict.verdict_id, venue, not rejected_at, candidate.score, tuple(rejected_at))


def _check_assignments(lanes: Sequence[Lane], assignments: Sequence[Assignment]) -> None:
    """Let assignments pass that name each lane once, and no config twice."""
    named = [assignment.lane for assignment in assignments]
    if sorted(named) != sorted(lane.name for lane in lanes):
        raise Refused(
            f"assignments: are for {', '.join(sorted(named)) or 'no lane'}; one is wanted for each of"
            f" {', '.join(sorted(lane.name for lane in lanes)) or 'no lane'}"
        )
    counts = Counter(assignment.config_id for assignment in assignments if assignment.config_id is not None)
    for config_id, count in counts.items():
        if count > 1:
            lanes_of_it = ", ".join(sorted(entry.lane for entry in assignments if entry.config_id == config_id))
            raise Refused(f"config {config_id[:12]}: is assigned to {lanes_of_it}; a night gives a config one lane")


def _propose(
    registry: Registry, lanes_folder: Path, lane: Lane, assignment: Assignment, policy_id: str
) -> tuple[LaneProposal, int]:
    """What is proposed for a lane, and the lane's generation that was seen."""
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
    if old != config.config_id:
        try:
            store_config(lanes_folder, lane.name, config, evidence, verdict)
        except DataError as error:
            reason = f"nothing, because the lane's folder takes no file: {error}"
            return LaneProposal(lane.name, lane.role, old, None, reason, ()), generation
    differing = changes(before, config.resolved)
    return LaneProposal(lane.name, lane.role, old, config.config_id, assignment.reason, differing), generation


def reason_not_to_move(lane: Lane, pointer: Pointer | None) -> str:
    """Why no night moves this lane; empty where one may."""
    if lane.mode != "paper":
        return f"nothing, because a lane of mode {lane.mode} is moved by a person"
    if lane.manual:
        return "nothing, because the lane is manual"
    if pointer is not None and pointer.state == PAUSED:
        return "nothing, because the lane is paused until a person resumes it"
    return ""


def _request_of(
    lane: Lane, proposal: Proposal | None, pointer: Pointer | None, audit: AuditContext
) -> PromotionRequest | str:
    """What a proposal wants of its lane; or why the lane stays as it is, before anything is judged."""
    if proposal is None:
        return "nothing was proposed"
    if proposal.config_id is None:
        return proposal.reason
    generation = 0 if pointer is None else pointer.generation
    if generation == proposal.generation:
        because = replace(audit, why=proposal.reason, trigger=f"night {proposal.night_id}")
        return PromotionRequest(lane, proposal.config_id, generation, because)
    if pointer is not None and pointer.config_id == proposal.config_id:
        return f"nothing, because {proposal.config_id[:12]} holds the lane"
    return f"nothing, because the lane moved after the proposal: generation {generation}, not {proposal.generation}"


def _one_lane_each(
    pointers: Sequence[Pointer], requests: Sequence[PromotionRequest], decisions: Sequence[Decision]
) -> Sequence[Decision]:
    """Refuse a move by which a config would hold two paper lanes, until none is left: a refusal may cause another."""
    decisions = list(decisions)
    while True:
        after = {pointer.lane: pointer.config_id for pointer in pointers if pointer.state in {PAPER, PAUSED}}
        after |= {entry.lane: entry.config.config_id for entry in decisions if isinstance(entry, Move)}
        for number, (request, decision) in enumerate(zip(requests, decisions, strict=True)):
            twice = [lane for lane, held in after.items() if held == request.config_id and lane != request.lane.name]
            if isinstance(decision, Move) and twice and not _keeps(decision):
                decisions[number] = Refused(
                    f"lane {request.lane.name}: config {request.config_id[:12]} holds {twice[0]}; a night gives it one lane"
                )
                break
        else:
            return decisions


def _keeps(move: Move) -> bool:
    return move.before is not None and move.before.config_id == move.config.config_id


def _prepared(
    registry: Registry, lanes_folder: Path, lane: str, request: PromotionRequest | str, policy_id: str
) -> tuple[Path, ...]:
    """Bring a lane's files in line, and store the file of the config that may come; return what was written.

    Whatever is wrong with the files of one lane shows here, before lanes move together.
    """
    written = render(registry, lanes_folder, lane)
    if isinstance(request, str):
        return written
    with read_transaction(registry) as connection:
        planned = decide(connection, request, policy_id)
    if isinstance(planned, Move) and not _keeps(planned):
        written += store_config(lanes_folder, lane, planned.config, planned.evidence, planned.verdict)
    return written


def _outcome(
    registry: Registry, request: PromotionRequest, done: Promotion | MeiError, written: tuple[Path, ...]
) -> LanePromotion:
    name, reason = request.lane.name, request.audit.why
    if isinstance(done, MeiError):
        pointer = lane_pointer(registry, name)
        moved = (
            not isinstance(done, Refused) and pointer is not None and pointer.generation > request.expected_generation
        )
        return replace(_failed(name, pointer, done), moved=moved, files=written)
    if not done.moved:
        reason = f"nothing, because {request.config_id[:12]} holds the lane"
    return LanePromotion(name, done.pointer, done.moved, "", reason, tuple(dict.fromkeys((*written, *done.files))))


def _failed(lane: str, pointer: Pointer | None, error: MeiError) -> LanePromotion:
    words = str(error) if f"lane {lane}" in str(error) else f"lane {lane}: {error}"
    return LanePromotion(lane, pointer, moved=False, refused=words, reason=words, files=(), error=error)


def _flat(resolved: ResolvedConfig) -> dict[str, Any]:
    rest = {key: value for key, value in as_dict(resolved).items() if key not in {"params", "market", "symbol_params"}}
    own = {
        f"symbol_params.{symbol}.{path}": value
        for symbol, values in resolved.symbol_params.items()
        for path, value in values.items()
    }
    return {**rest, **resolved.params, **resolved.market, **own}
