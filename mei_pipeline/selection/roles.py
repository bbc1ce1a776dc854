"""Which of the configs that passed is for which lane."""

from collections import Counter
from collections.abc import Mapping, Sequence

from mei_pipeline.registry.deploy import Assignment, Judged, not_by_a_night
from mei_pipeline.registry.lanes import Wanted
from mei_pipeline.registry.lifecycle import PAPER, PAUSED
from mei_pipeline.registry.records import Lane

ROLES = ("primary", "fallback", "conservative")
"""The roles, best choice first; a role that is not among them comes after these, by name."""


def by_rank(
    judged: Sequence[Judged], lanes: Sequence[Lane], held: Mapping[str, Wanted | None], kernel_hash: str
) -> tuple[Assignment, ...]:
    """Assign the n-th best distinct config that passed to the n-th lane of its venue that a night may move.

    Lanes are in the order of roles; equal scores go by id. A config in a paper lane that no night moves is passed over,
    for it has its lane. One that holds the very lane keeps it as it is, unless it was let in with other kernels: then
    it is assigned anew, so that its file names the present ones.

    Args:
        judged: The configs of this night.
        lanes: Every configured lane.
        held: What each lane holds.
        kernel_hash: The kernels that the configs were judged with.
    """
    pointers = {name: None if now is None else now.pointer for name, now in held.items()}
    reasons = {lane.name: not_by_a_night(lane, pointers[lane.name]) for lane in lanes}
    kept = {
        pointer.config_id
        for name, pointer in pointers.items()
        if pointer is not None and reasons[name] and pointer.state in {PAPER, PAUSED}
    }
    free = [entry for entry in judged if entry.config_id not in kept]
    ranks: Counter[str] = Counter()
    assignments = []
    for lane in sorted(lanes, key=_by_role):
        if reasons[lane.name]:
            assignments.append(Assignment(lane.name, None, reasons[lane.name]))
            continue
        ranks[lane.venue] += 1
        assignments.append(_choice(free, lane, ranks[lane.venue], held[lane.name], kernel_hash))
    return tuple(assignments)


def _by_role(lane: Lane) -> tuple[int, str, str]:
    return (ROLES.index(lane.role) if lane.role in ROLES else len(ROLES), lane.role, lane.name)


def _choice(judged: Sequence[Judged], lane: Lane, rank: int, now: Wanted | None, kernel_hash: str) -> Assignment:
    here = [entry for entry in judged if entry.venue == lane.venue]
    fallen = {entry.config_id for entry in here if not entry.passed}
    standing = [entry for entry in here if entry.config_id not in fallen]
    best = {entry.config_id: entry for entry in sorted(standing, key=lambda entry: (entry.score, entry.config_id))}
    distinct = sorted(best.values(), key=lambda entry: (-entry.score, entry.config_id))
    if not here:
        return Assignment(lane.name, None, f"nothing, because no config of {lane.venue} was judged")
    if not distinct:
        return Assignment(lane.name, None, f"nothing, because none of {len(here)} passed; {_most_fell(here)}")
    if len(distinct) < rank:
        reason = f"nothing, because {len(distinct)} of {len(here)} passed and this lane takes number {rank}"
        return Assignment(lane.name, None, reason)
    chosen = distinct[rank - 1]
    if now is None or now.pointer.config_id != chosen.config_id:
        reason = f"number {rank} of {len(distinct)} that passed, score {chosen.score:.4g}"
    elif now.file.provenance.kernel_hash != kernel_hash:
        reason = f"number {rank} of {len(distinct)} that passed holds the lane, judged anew with these kernels"
    else:
        reason = f"nothing, because {chosen.config_id[:12]}, number {rank} of those that passed, holds the lane"
        return Assignment(lane.name, None, reason)
    return Assignment(lane.name, chosen.config_id, reason)


def _most_fell(judged: Sequence[Judged]) -> str:
    counts = Counter(gate for entry in judged for gate in entry.fell_at)
    gate, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"most fell at {gate} ({count})"
