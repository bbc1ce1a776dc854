"""What a night does with the configs that it judged: store them and propose; and, apart from that, promote.

`propose_deployments` stores and proposes and moves nothing. `promote_proposals` applies what is stored and judges
again, so that it may be launched by itself at any time.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mei_pipeline.errors import Refused
from mei_pipeline.params.identity import Resolved
from mei_pipeline.registry import rows
from mei_pipeline.registry.engine import Registry, reading
from mei_pipeline.registry.promote import promote, render, store_config
from mei_pipeline.registry.records import Basis, Gate, Lane, Occasion, Pointer, Proposal, as_dict
from mei_pipeline.registry.store import (
    add_config,
    add_evidence,
    add_verdict,
    get_config,
    lane_pointer,
    latest_proposals,
    propose,
)

ROLES = ("primary", "fallback", "conservative")
"""The roles, best choice first; a role that is not among them comes after these, by name."""


@dataclass(frozen=True)
class Candidate:
    """A config that was judged.

    Attributes:
        resolved: The resolved config.
        basis: What it was measured on and by which rules.
        metrics: What was measured.
        gates: The verdict of each gate.
        score: Ranks those that passed, higher is better; only out-of-sample figures belong in it.
    """

    resolved: Resolved
    basis: Basis
    metrics: Mapping[str, Any]
    gates: tuple[Gate, ...]
    score: float


@dataclass(frozen=True)
class Judged:
    """A candidate as the registry has it now.

    Attributes:
        config_id: Its id.
        verdict_id: The verdict on it.
        venue: Its venue.
        passed: Whether it may be proposed.
        score: As it was given.
        fell_at: The gates it did not pass, with their verdict.
    """

    config_id: str
    verdict_id: str
    venue: str
    passed: bool
    score: float
    fell_at: tuple[str, ...]


@dataclass(frozen=True)
class Change:
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
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Deployments:
    """What a night stored and proposed."""

    judged: tuple[Judged, ...]
    lanes: tuple[LaneProposal, ...]


@dataclass(frozen=True)
class LanePromotion:
    """What became of one lane.

    Attributes:
        lane: The lane.
        pointer: What the lane holds now, or None.
        moved: Whether its pointer was moved.
        refused: Why a proposal was not applied; empty where nothing was refused.
        reason: What happened, in words.
        files: The files that were written.
    """

    lane: str
    pointer: Pointer | None
    moved: bool
    refused: str
    reason: str
    files: tuple[Path, ...]


def propose_deployments(
    registry: Registry,
    lanes_folder: Path,
    lanes: Sequence[Lane],
    candidates: Sequence[Candidate],
    *,
    night_id: str,
    policy_id: str,
    occasion: Occasion,
) -> Deployments:
    """Store every candidate with its evidence and verdict, and propose the best that passed to the paper lanes.

    The n-th best distinct config that passed goes to the n-th paper lane of its venue, in the order of roles. No
    pointer is moved. Doing it twice is doing it once.

    Raises:
        Fatal: The registry contradicts itself.
        DataError: A file could not be written.
        Busy: Another process holds the registry or a lane's files.
    """
    judged = tuple(_judge(registry, candidate, night_id, policy_id, occasion) for candidate in candidates)
    taken: dict[str, int] = {}
    entries, proposals = [], []
    for lane in sorted(lanes, key=_by_role):
        pointer = lane_pointer(registry, lane.name)
        chosen, reason = None, _not_by_a_night(lane)
        if not reason:
            rank = taken[lane.venue] = taken.get(lane.venue, 0) + 1
            chosen, reason = _choice(judged, lane, rank, pointer)
        new = None if chosen is None else chosen.config_id
        differing = () if chosen is None else _store_choice(registry, lanes_folder, lane, pointer, chosen)
        old, generation = (None, 0) if pointer is None else (pointer.config_id, pointer.generation)
        entries.append(LaneProposal(lane.name, lane.role, old, new, reason, differing))
        proposals.append(Proposal(night_id, lane.name, new, policy_id, generation, reason, occasion.now_ms))
    propose(registry, proposals)
    return Deployments(judged, tuple(entries))


def promote_proposals(
    registry: Registry,
    lanes_folder: Path,
    lanes: Sequence[Lane],
    *,
    policy_id: str,
    occasion: Occasion,
    night_id: str | None = None,
) -> tuple[LanePromotion, ...]:
    """Bring every lane's files in line with the registry, and apply the proposals stored last.

    Each proposal is judged again here: without a passing verdict on that config under the policy in force it is
    refused, whoever launches this and whatever ran before. A lane that has moved since its proposal was made is left
    alone, so that a rollback is not undone. Doing it twice is doing it once.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lanes: Every lane that the operator has configured.
        policy_id: The policy in force.
        occasion: Who does it, and when.
        night_id: Whose proposals; those of the night that proposed last where None.

    Raises:
        Fatal: The registry contradicts itself or a lane's files.
        DataError: A file could not be written.
        Busy: Another process holds the registry or a lane's files.
    """
    known = {lane.name: lane for lane in lanes}
    proposals = {proposal.lane: proposal for proposal in latest_proposals(registry, night_id)}
    outcomes = []
    for name in sorted(known.keys() | proposals.keys()):
        if name in known:
            outcomes.append(_apply(registry, lanes_folder, known[name], proposals.get(name), policy_id, occasion))
        elif proposals[name].config_id is not None:
            reason = f"lane {name}: is proposed for, and config/lanes has no file of it"
            outcomes.append(
                LanePromotion(name, lane_pointer(registry, name), moved=False, refused=reason, reason=reason, files=())
            )
    return tuple(outcomes)


def changes(old: Resolved | None, new: Resolved) -> tuple[Change, ...]:
    """The parameters in which two resolved configs differ, by dotted path."""
    before, after = _flat(old) if old else {}, _flat(new)
    return tuple(
        Change(path, before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    )


def _judge(registry: Registry, candidate: Candidate, night_id: str, policy_id: str, occasion: Occasion) -> Judged:
    config_id = add_config(registry, candidate.resolved, occasion)
    evidence_id = add_evidence(registry, config_id, candidate.basis, candidate.metrics, occasion)
    verdict = add_verdict(
        registry, config_id, evidence_id, policy_id, candidate.gates, night_id=night_id, occasion=occasion
    )
    fell_at = [f"{gate.name}: {gate.verdict}" for gate in verdict.gates if gate.verdict != "pass"]
    if not verdict.gates:
        fell_at.append("no gate was computed")
    if not math.isfinite(candidate.score):
        fell_at.append("score: no evidence")
    venue = candidate.resolved.venue
    return Judged(config_id, verdict.verdict_id, venue, not fell_at, candidate.score, tuple(fell_at))


def _by_role(lane: Lane) -> tuple[int, str, str]:
    return (ROLES.index(lane.role) if lane.role in ROLES else len(ROLES), lane.role, lane.name)


def _not_by_a_night(lane: Lane) -> str:
    """Why no night moves this lane; empty where one may."""
    if lane.mode != "paper":
        return f"nothing, because a lane of mode {lane.mode} is moved by a person"
    return "nothing, because the lane is manual" if lane.manual else ""


def _choice(judged: Sequence[Judged], lane: Lane, rank: int, pointer: Pointer | None) -> tuple[Judged | None, str]:
    """The `rank`-th best distinct config that passed on a lane's venue, and why; equal scores go by id."""
    here = [entry for entry in judged if entry.venue == lane.venue]
    fallen = {entry.config_id for entry in here if not entry.passed}
    distinct: dict[str, Judged] = {}
    standing = [entry for entry in here if entry.config_id not in fallen]
    for entry in sorted(standing, key=lambda entry: (-entry.score, entry.config_id)):
        distinct.setdefault(entry.config_id, entry)
    if not here:
        return None, f"nothing, because no config of {lane.venue} was judged"
    if not distinct:
        return None, f"nothing, because none of {len(here)} passed; {_most_fell(here)}"
    if len(distinct) < rank:
        return None, f"nothing, because {len(distinct)} of {len(here)} passed and this lane takes number {rank}"
    chosen = list(distinct.values())[rank - 1]
    if pointer is not None and pointer.config_id == chosen.config_id:
        return None, f"nothing, because {chosen.config_id[:12]}, number {rank} of those that passed, holds the lane"
    return chosen, f"number {rank} of {len(distinct)} that passed, score {chosen.score:.4g}"


def _most_fell(judged: Sequence[Judged]) -> str:
    counts = Counter(gate for entry in judged for gate in entry.fell_at)
    gate, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"most fell at {gate} ({count})"


def _store_choice(
    registry: Registry, lanes_folder: Path, lane: Lane, pointer: Pointer | None, chosen: Judged
) -> tuple[Change, ...]:
    """Write the config's file into the lane's folder, and say in what it differs from the config in force."""
    with reading(registry) as connection:
        config = rows.find_config(connection, chosen.config_id)
        verdict = rows.find_verdict(connection, chosen.verdict_id)
        evidence = rows.judged_evidence(connection, verdict)
    store_config(lanes_folder, lane.name, config, evidence, verdict)
    return changes(None if pointer is None else get_config(registry, pointer.config_id).resolved, config.resolved)


def _apply(
    registry: Registry,
    lanes_folder: Path,
    lane: Lane,
    proposal: Proposal | None,
    policy_id: str,
    occasion: Occasion,
) -> LanePromotion:
    files = render(registry, lanes_folder, lane.name)
    pointer = lane_pointer(registry, lane.name)
    generation = 0 if pointer is None else pointer.generation

    def left(reason: str, refused: str = "") -> LanePromotion:
        return LanePromotion(lane.name, pointer, moved=False, refused=refused, reason=reason, files=files)

    if proposal is None:
        return left("nothing was proposed")
    if proposal.config_id is None:
        return left(proposal.reason)
    if pointer is not None and pointer.config_id == proposal.config_id:
        return left(f"nothing, because {proposal.config_id[:12]} holds the lane")
    if generation != proposal.generation:
        return left(
            f"nothing, because the lane moved after the proposal: generation {generation}, not {proposal.generation}"
        )
    because = replace(occasion, why=proposal.reason, trigger=f"night {proposal.night_id}")
    try:
        done = promote(registry, lanes_folder, lane, proposal.config_id, policy_id, generation, because)
    except Refused as error:
        return left(str(error), refused=str(error))
    return LanePromotion(
        lane.name, done.pointer, moved=done.moved, refused="", reason=proposal.reason, files=files + done.files
    )


def _flat(resolved: Resolved) -> dict[str, Any]:
    rest = {key: value for key, value in as_dict(resolved).items() if key not in {"params", "market", "symbol_params"}}
    own = {
        f"symbol_params.{symbol}.{path}": value
        for symbol, values in resolved.symbol_params.items()
        for path, value in values.items()
    }
    return {**rest, **resolved.params, **resolved.market, **own}
