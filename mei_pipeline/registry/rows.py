"""Convert rows of the registry to records and back, within the caller's transaction."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select, update

from mei_pipeline.errors import DataError, Fatal, Refused
from mei_pipeline.files import canonical_json, sha256_json
from mei_pipeline.registry import tables
from mei_pipeline.registry.database import insert_once
from mei_pipeline.registry.lifecycle import HOLDING_STATES, NEW, Action, check_transition
from mei_pipeline.registry.records import (
    EVERY_LANE,
    AuditContext,
    Basis,
    Evidence,
    Gate,
    Pointer,
    Proposal,
    StoredConfig,
    Transition,
    Verdict,
    all_pass,
    from_dict,
)


def to_json_text(value: Any) -> str:
    """Return a value as the canonical JSON that the database stores; NaN and infinities become null."""
    return canonical_json(_finite(value)).decode()


def gates_to_json(gates: Sequence[Gate]) -> str:
    """Return gates as canonical JSON; an infinite value is stored as a word."""
    return to_json_text(
        [
            {
                "name": gate.name,
                "value": _number(gate.value),
                "threshold": _number(gate.threshold),
                "verdict": gate.verdict,
                "explanation": gate.explanation,
            }
            for gate in gates
        ]
    )


def to_config(row: Row[Any]) -> StoredConfig:
    """Return a row of `configs` as a record, after a check of its content against its id.

    Raises:
        Fatal: The content has another id.
    """
    try:
        resolved = from_dict(parse_json(row.resolved, f"config {row.config_id}"), row.config_id)
    except DataError as error:
        raise Fatal(f"config {row.config_id}: {error}; restore the registry") from error
    return StoredConfig(row.config_id, resolved, row.created_ms)


def to_evidence(row: Row[Any]) -> Evidence:
    """Return a row of `evidence` as a record."""
    what = f"evidence {row.evidence_id}"
    basis = Basis(**parse_json(row.basis, what))
    return Evidence(
        row.evidence_id, row.config_id, basis, parse_json(row.metrics, what), row.metrics_id, row.created_ms
    )


def to_verdict(row: Row[Any]) -> Verdict:
    """Return a row of `verdicts` as a record, after a check of its outcome against its gates.

    Raises:
        Fatal: The outcome does not follow from the gates.
    """
    gates = tuple(
        Gate(
            entry["name"],
            _from_number(entry["value"]),
            _from_number(entry["threshold"]),
            entry["verdict"],
            entry["explanation"],
        )
        for entry in parse_json(row.gates, f"verdict {row.verdict_id}")
    )
    if row.passed != all_pass(gates):
        raise Fatal(f"verdict {row.verdict_id}: its outcome does not follow from its gates; restore the registry")
    return Verdict(
        row.verdict_id,
        row.config_id,
        row.evidence_id,
        row.metrics_id,
        row.policy_id,
        row.passed,
        gates,
        row.night_id,
        row.at_ms,
    )


def to_proposal(row: Row[Any]) -> Proposal:
    """Return a row of `proposals` as a record."""
    return Proposal(row.night_id, row.lane, row.config_id, row.policy_id, row.generation, row.reason, row.at_ms)


def to_transition(row: Row[Any]) -> Transition:
    """Return a row of `transitions` as a record."""
    return Transition(
        row.transition_id,
        row.at_ms,
        row.config_id,
        row.lane,
        row.from_state,
        row.to_state,
        row.action,
        row.trigger,
        row.who,
        row.why,
        row.generation,
        row.size_multiplier,
        row.verdict_id,
    )


def find_config(connection: Connection, config_id: str) -> StoredConfig:
    """Return the config of an id.

    Raises:
        Refused: The registry has no such config.
        Fatal: The stored content has another id.
    """
    row = connection.execute(select(tables.configs).where(tables.configs.c.config_id == config_id)).one_or_none()
    if row is None:
        raise Refused(f"config {config_id}: not in the registry; `mei registry list` shows all configs")
    return to_config(row)


def latest_evidence(connection: Connection, evidence_id: str) -> Evidence | None:
    """Return the latest measurement with an evidence id; None without one."""
    table = tables.evidence
    query = select(table).where(table.c.evidence_id == evidence_id).order_by(table.c.seq.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else to_evidence(row)


def judged_evidence(connection: Connection, verdict: Verdict) -> Evidence:
    """Return the evidence of a verdict.

    Raises:
        Fatal: The registry has no such evidence.
    """
    table = tables.evidence
    query = select(table).where(table.c.evidence_id == verdict.evidence_id, table.c.metrics_id == verdict.metrics_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise Fatal(f"evidence {verdict.evidence_id}: missing, although a verdict names it; restore the registry")
    return to_evidence(row)


def latest_verdict(connection: Connection, config_id: str, policy_id: str) -> Verdict | None:
    """Return the latest verdict on a config under a policy; None without one."""
    table = tables.verdicts
    query = (
        select(table)
        .where(table.c.config_id == config_id, table.c.policy_id == policy_id)
        .order_by(table.c.seq.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else to_verdict(row)


def last_pass(connection: Connection, config_id: str, kernel_hash: str) -> tuple[Verdict, Evidence] | None:
    """Return the latest passing verdict on a config measured with these kernels, under any policy, and its evidence."""
    table = tables.verdicts
    query = select(table).where(table.c.config_id == config_id, table.c.passed).order_by(table.c.seq.desc())
    for row in connection.execute(query):
        verdict = to_verdict(row)
        evidence = judged_evidence(connection, verdict)
        if evidence.basis.kernel_hash == kernel_hash:
            return verdict, evidence
    return None


def find_verdict(connection: Connection, verdict_id: str) -> Verdict:
    """Return the verdict that a transition names.

    Raises:
        Fatal: The registry has no such verdict.
    """
    row = connection.execute(select(tables.verdicts).where(tables.verdicts.c.verdict_id == verdict_id)).one_or_none()
    if row is None:
        raise Fatal(f"verdict {verdict_id}: missing, although a transition names it; restore the registry")
    return to_verdict(row)


def find_transition(connection: Connection, transition_id: str) -> Transition:
    """Return the transition that a lane names.

    Raises:
        Fatal: The registry has no such transition.
    """
    table = tables.transitions
    row = connection.execute(select(table).where(table.c.transition_id == transition_id)).one_or_none()
    if row is None:
        raise Fatal(f"transition {transition_id}: missing, although a lane names it; restore the registry")
    return to_transition(row)


def find_pointer(connection: Connection, lane: str) -> Pointer | None:
    """Return the pointer of a lane; None for a lane that never held a config."""
    table = tables.lanes
    row = connection.execute(select(table).where(table.c.name == lane, table.c.config_id.is_not(None))).one_or_none()
    return None if row is None else to_pointer(row)


def to_pointer(row: Row[Any]) -> Pointer:
    """Return a row of `lanes` that names a config as a record."""
    return Pointer(row.name, row.config_id, row.generation, row.size_multiplier, row.transition_id, row.state)


def all_pointers(connection: Connection) -> tuple[Pointer, ...]:
    """Return the pointers of all lanes that hold a config, by the name of the lane."""
    table = tables.lanes
    query = select(table).where(table.c.config_id.is_not(None)).order_by(table.c.name)
    return tuple(to_pointer(row) for row in connection.execute(query))


def lane_holders(connection: Connection, lane: str) -> tuple[str, ...]:
    """Return the configs that held a lane, each once, the present one last.

    A rollback removes the configs that came after its target, so that the next rollback goes further back.
    """
    table = tables.transitions
    query = select(table).where(table.c.lane == lane, table.c.to_state.in_(HOLDING_STATES)).order_by(table.c.seq)
    found: list[str] = []
    for row in connection.execute(query):
        if row.action == "rolled back":
            del found[found.index(row.config_id) :]
        elif row.config_id in found:
            found.remove(row.config_id)
        found.append(row.config_id)
    return tuple(found)


def was_in_state(connection: Connection, config_id: str, state: str) -> bool:
    """Return True if a config was ever in a state, in any lane."""
    table = tables.transitions
    query = select(table.c.seq).where(table.c.config_id == config_id, table.c.to_state == state).limit(1)
    return connection.execute(query).first() is not None


def transitions_of(connection: Connection, config_id: str, lane: str | None = None) -> list[Transition]:
    """Return the transitions of a config, oldest first; only those in one lane if `lane` is given."""
    table = tables.transitions
    query = select(table).where(table.c.config_id == config_id)
    if lane is not None:
        query = query.where(table.c.lane == lane)
    return [to_transition(row) for row in connection.execute(query.order_by(table.c.seq))]


def state_in_lane(connection: Connection, config_id: str, lane: str) -> str:
    """Return the state of a config in a lane: of the latest transition there or in all lanes."""
    table = tables.transitions
    newest = select(func.max(table.c.seq)).where(
        and_(table.c.config_id == config_id, or_(table.c.lane == lane, table.c.lane == EVERY_LANE))
    )
    state = connection.execute(select(table.c.to_state).where(table.c.seq == newest.scalar_subquery())).scalar()
    return NEW if state is None else str(state)


def transition_id_of(config_id: str, lane: str, to_state: str, generation: int, audit: AuditContext) -> str:
    """Return the id of a transition: the hash of its target and its audit context."""
    return sha256_json([config_id, lane, to_state, generation, audit.now_ms, audit.trigger, audit.who, audit.why])


def add_transition(
    connection: Connection,
    config_id: str,
    to_state: str,
    action: Action,
    audit: AuditContext,
    *,
    pointer: Pointer | None = None,
    verdict_id: str = "",
) -> Transition:
    """Store the transition of a config to another state, and return it.

    Args:
        connection: A connection in a transaction.
        config_id: The config.
        to_state: The new state.
        action: Kind of change.
        audit: Person, time and reason of the change.
        pointer: Pointer of the lane after the change; None if the change concerns every lane.
        verdict_id: The verdict that allows the change.

    Raises:
        Refused: The state can't follow the present one.
    """
    lane, generation = (EVERY_LANE, 0) if pointer is None else (pointer.lane, pointer.generation)
    from_state = state_in_lane(connection, config_id, lane)
    check_transition(config_id, from_state, to_state)
    transition = Transition(
        transition_id_of(config_id, lane, to_state, generation, audit),
        audit.now_ms,
        config_id,
        lane,
        from_state,
        to_state,
        action,
        audit.trigger,
        audit.who,
        audit.why,
        generation,
        None if pointer is None else pointer.size_multiplier,
        verdict_id,
    )
    connection.execute(tables.transitions.insert().values(**vars(transition)))
    return transition


def move_pointer(connection: Connection, pointer: Pointer) -> None:
    """Store the pointer of a lane that is still at the generation before.

    Raises:
        Refused: Another process moved the lane.
    """
    table = tables.lanes
    _add_lane(connection, pointer.lane)
    # The generation in the condition makes this a compare-and-swap, also if the caller read the lane earlier.
    moved = connection.execute(
        update(table)
        .where(table.c.name == pointer.lane, table.c.generation == pointer.generation - 1)
        .values(
            config_id=pointer.config_id,
            generation=pointer.generation,
            size_multiplier=pointer.size_multiplier,
            transition_id=pointer.transition_id,
            state=pointer.state,
        )
    )
    if moved.rowcount != 1:
        check_generation(pointer.lane, find_pointer(connection, pointer.lane), pointer.generation - 1)


def last_generation(connection: Connection, lane: str) -> int:
    """Return the number of moves of a lane, those of a registry that was reset included; 0 for an unknown lane."""
    table = tables.lanes
    return connection.execute(select(table.c.generation).where(table.c.name == lane)).scalar() or 0


def keep_generation(connection: Connection, lane: str, generation: int) -> None:
    """Let the moves of a lane without a config count on from a generation, unless its count is higher."""
    table = tables.lanes
    _add_lane(connection, lane)
    connection.execute(
        update(table).where(table.c.name == lane, table.c.generation < generation).values(generation=generation)
    )


def _add_lane(connection: Connection, lane: str) -> None:
    unheld = {"config_id": None, "generation": 0, "size_multiplier": 0.0, "transition_id": "", "state": ""}
    insert_once(connection, tables.lanes, {"name": lane, **unheld})


def check_generation(lane: str, now: Pointer | None, expected: int) -> None:
    """Raise if a lane has another generation than its caller read.

    Raises:
        Refused: Another process moved the lane.
    """
    found = now.generation if now else 0
    if found != expected:
        holder = f"config {now.config_id[:12]}" if now else "no config"
        raise Refused(
            f"lane {lane}: at generation {found} ({holder}), not {expected}: another process moved it; read its state"
            " again"
        )


def parse_json(text: str, what: str) -> Any:
    """Return the value of JSON that the database stores as text.

    Raises:
        Fatal: The text is no JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise Fatal(f"{what}: its stored content is not JSON; restore the registry") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value


def _number(value: float | None) -> float | str | None:
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _from_number(value: float | str | None) -> float | None:
    return None if value is None else float(value)
