"""Apply stored proposals: move the pointers of lanes, and keep the files of every lane in line with the registry.

Every proposal is checked again here, so this may run separately from the nightly run, at any time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from mei_pipeline.errors import MeiError, Refused
from mei_pipeline.promotion.promote import Decision, Move, Promotion, PromotionRequest, carry_out, decide
from mei_pipeline.registry import rows
from mei_pipeline.registry.database import Registry, read_transaction
from mei_pipeline.registry.lanes import lane_files
from mei_pipeline.registry.lifecycle import PAPER, PAUSED
from mei_pipeline.registry.records import AuditContext, Lane, Pointer, Proposal
from mei_pipeline.registry.render import render, store_config
from mei_pipeline.registry.store import lane_pointer, latest_proposals


@dataclass(frozen=True)
class LanePromotion:
    """Result of `promote_proposals` for one lane.

    Attributes:
        lane: The lane.
        pointer: The lane's pointer now, or None.
        moved: True if the pointer was moved.
        refused: Reason that the proposal was not applied or the lane's files not written; empty without an error.
        reason: Reason for the result.
        files: The files that were written.
        error: The error that `refused` describes; None without an error.
    """

    lane: str
    pointer: Pointer | None
    moved: bool
    refused: str
    reason: str
    files: tuple[Path, ...]
    error: MeiError | None = None


def promote_proposals(
    registry: Registry,
    lanes_folder: Path,
    lanes: Sequence[Lane],
    *,
    policy_id: str,
    audit: AuditContext,
    night_id: str | None = None,
) -> tuple[LanePromotion, ...]:
    """Apply the newest proposals, and bring every lane's files in line with the registry.

    A proposal is refused without a passing verdict on its config under the policy in force. A lane that has moved since
    its proposal was made keeps its config, so that a rollback is not undone. A lane whose files can't be read or
    written keeps its config and does not stop other lanes. A second call changes nothing.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lanes: Every lane that the operator has configured.
        policy_id: The policy in force.
        audit: Who does it, and when.
        night_id: The nightly run that proposed; None for the last one.

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
        lane_files(registry, lane.name)  # raises outside of `try`: a registry that contradicts itself stops every lane
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
        decided = [decide(connection, request, policy_id) for request in requests]
        return _one_lane_each(rows.all_pointers(connection), requests, decided)

    results = carry_out(registry, lanes_folder, [request.lane.name for request in requests], decisions)
    outcomes += [
        _outcome(registry, request, result, written[request.lane.name])
        for request, result in zip(requests, results, strict=True)
    ]
    outcomes += [
        _without_lane_file(registry, name) for name, proposal in proposals.items() if proposal.config_id is not None
    ]
    return tuple(sorted(outcomes, key=lambda outcome: outcome.lane))


def _request_of(
    lane: Lane, proposal: Proposal | None, pointer: Pointer | None, audit: AuditContext
) -> PromotionRequest | str:
    """Return the request of a proposal, or the reason that the lane keeps its config."""
    if proposal is None:
        return "nothing was proposed"
    if proposal.config_id is None:
        return proposal.reason
    generation = 0 if pointer is None else pointer.generation
    if generation == proposal.generation:
        own_occasion = replace(audit, why=proposal.reason, trigger=f"night {proposal.night_id}")
        return PromotionRequest(lane, proposal.config_id, generation, own_occasion)
    if pointer is not None and pointer.config_id == proposal.config_id:
        return f"nothing, because {proposal.config_id[:12]} holds the lane"
    return f"nothing, because the lane moved after the proposal: generation {generation}, not {proposal.generation}"


def _one_lane_each(
    pointers: Sequence[Pointer], requests: Sequence[PromotionRequest], decisions: Sequence[Decision]
) -> Sequence[Decision]:
    """Refuse moves after which a config would hold two paper lanes.

    A refused lane keeps its config, which may be the config of another move: the search starts again after a refusal.
    """
    decisions = list(decisions)
    while True:
        held_after = {pointer.lane: pointer.config_id for pointer in pointers if pointer.state in {PAPER, PAUSED}}
        held_after |= {entry.lane: entry.config.config_id for entry in decisions if isinstance(entry, Move)}
        for number, (request, decision) in enumerate(zip(requests, decisions, strict=True)):
            name, config_id = request.lane.name, request.config_id
            others = [lane for lane, held in held_after.items() if held == config_id and lane != name]
            if isinstance(decision, Move) and others and not _keeps_config(decision):
                decisions[number] = Refused(
                    f"lane {name}: config {config_id[:12]} holds {others[0]}; a nightly run gives it one lane"
                )
                break
        else:
            return decisions


def _keeps_config(move: Move) -> bool:
    return move.before is not None and move.before.config_id == move.config.config_id


def _prepared(
    registry: Registry, lanes_folder: Path, lane: str, request: PromotionRequest | str, policy_id: str
) -> tuple[Path, ...]:
    """Bring a lane's files in line, store the file of the config of its request, and return the files written.

    An error of the files of one lane must be raised here, because all lanes move in one transaction later.
    """
    written = render(registry, lanes_folder, lane)
    if isinstance(request, str):
        return written
    with read_transaction(registry) as connection:
        planned = decide(connection, request, policy_id)
    if isinstance(planned, Move) and not _keeps_config(planned):
        written += store_config(lanes_folder, lane, planned.config, planned.evidence, planned.verdict)
    return written


def _outcome(
    registry: Registry, request: PromotionRequest, result: Promotion | MeiError, written: tuple[Path, ...]
) -> LanePromotion:
    name, reason = request.lane.name, request.audit.why
    if isinstance(result, MeiError):
        pointer = lane_pointer(registry, name)
        moved = (
            not isinstance(result, Refused) and pointer is not None and pointer.generation > request.expected_generation
        )
        return replace(_failed(name, pointer, result), moved=moved, files=written)
    if not result.moved:
        reason = f"nothing, because {request.config_id[:12]} holds the lane"
    return LanePromotion(
        name, result.pointer, result.moved, "", reason, tuple(dict.fromkeys((*written, *result.files)))
    )


def _without_lane_file(registry: Registry, lane: str) -> LanePromotion:
    reason = f"lane {lane}: has a proposal but no file in config/lanes; add the file, or propose again"
    return _failed(lane, lane_pointer(registry, lane), Refused(reason))


def _failed(lane: str, pointer: Pointer | None, error: MeiError) -> LanePromotion:
    text = str(error) if f"lane {lane}" in str(error) else f"lane {lane}: {error}"
    return LanePromotion(lane, pointer, moved=False, refused=text, reason=text, files=(), error=error)
