"""Rows of the registry to records and back, inside a transaction that the caller holds."""

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
    """Canonical JSON as the database keeps it; NaN and infinities become null."""
    return canonical_json(_finite(value)).decode()


def gates_to_json(gates: Sequence[Gate]) -> str:
    """The gates as canonical JSON; an infinity is kept as a word."""
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
    """A row of `configs`, its content checked against its id.

    Raises:
        Fatal: The content is not what the id was made of.
    """
    try:
        resolved = from_dict(parse_json(row.resolved, f"config {row.config_id}"), row.config_id)
    except DataError as error:
        raise Fatal(f"config {row.config_id}: {error}; restore the registry") from error
    return StoredConfig(row.config_id, resolved, row.created_ms)


def to_evidence(row: Row[Any]) -> Evidence:
    """A row of `evidence`."""
    what = f"evidence {row.evidence_id}"
    basis = Basis(**parse_json(row.basis, what))
    return Evidence(
        row.evidence_id, row.config_id, basis, parse_json(row.metrics, what), row.metrics_id, row.created_ms
    )


def to_verdict(row: Row[Any]) -> Verdict:
    """A row of `verdicts`, its outcome checked against its gates.

    Raises:
        Fatal: The gates don't say what the outcome says.
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
        raise Fatal(f"verdict {row.verdict_id}: its gates do not add up to its outcome; restore the registry")
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
    """A row of `proposals`."""
    return Proposal(row.night_id, row.lane, row.config_id, row.policy_id, row.generation, row.reason, row.at_ms)


def to_transition(row: Row[Any]) -> Transition:
    """A row of `transitions`."""
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
    """The config of an id.

    Raises:
        Refused: The registry has no such config.
        Fatal: The stored content has another id.
    """
    row = connection.execute(select(tables.configs).where(tables.configs.c.config_id == config_id)).one_or_none()
    if row is None:
        raise Refused(f"config {config_id}: not in the registry; `mei registry list` shows what is")
    return to_config(row)


def latest_evidence(connection: Connection, evidence_id: str) -> Evidence | None:
    """What was measured last on the basis of an evidence id."""
    table = tables.evidence
    query = select(table).where(table.c.evidence_id == evidence_id).order_by(table.c.seq.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else to_evidence(row)


def judged_evidence(connection: Connection, verdict: Verdict) -> Evidence:
    """What a verdict was made from.

    Raises:
        Fatal: The registry names evidence that it doesn't hold.
    """
    table = tables.evidence
    query = select(table).where(table.c.evidence_id == verdict.evidence_id, table.c.metrics_id == verdict.metrics_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise Fatal(f"evidence {verdict.evidence_id}: a verdict names it, the registry has none; restore the registry")
    return to_evidence(row)


def latest_verdict(connection: Connection, config_id: str, policy_id: str) -> Verdict | None:
    """The verdict that was stored last for a config under a policy."""
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
    """The newest pass of a config that was measured with these kernels, under whichever policy."""
    table = tables.verdicts
    query = select(table).where(table.c.config_id == config_id, table.c.passed).order_by(table.c.seq.desc())
    for row in connection.execute(query):
        verdict = to_verdict(row)
        evidence = judged_evidence(connection, verdict)
        if evidence.basis.kernel_hash == kernel_hash:
            return verdict, evidence
    return None


def find_verdict(connection: Connection, verdict_id: str) -> Verdict:
    """The verdict of an id that a transition names.

    Raises:
        Fatal: The registry names a verdict that it doesn't hold.
    """
    row = connection.execute(select(tables.verdicts).where(tables.verdicts.c.verdict_id == verdict_id)).one_or_none()
    if row is None:
        raise Fatal(f"verdict {verdict_id}: a transition names it, the registry has none; restore the registry")
    return to_verdict(row)


def find_transition(connection: Connection, transition_id: str) -> Transition:
    """The transition of an id that a lane names.

    Raises:
        Fatal: The registry names a transition that it doesn't hold.
    """
    table = tables.transitions
    row = connection.execute(select(table).where(table.c.transition_id == transition_id)).one_or_none()
    if row is None:
        raise Fatal(f"transition {transition_id}: a lane names it, the registry has none; restore the registry")
    return to_transition(row)


def find_pointer(connection: Connection, lane: str) -> Pointer | None:
    """Which config holds a lane; None for a lane that never held one."""
    table = tables.lanes
    row = connection.execute(select(table).where(table.c.name == lane, table.c.config_id.is_not(None))).one_or_none()
    return None if row is None else to_pointer(row)


def to_pointer(row: Row[Any]) -> Pointer:
    """A row of `lanes` that names a config."""
    return Pointer(row.name, row.config_id, row.generation, row.size_multiplier, row.transition_id, row.state)


def all_pointers(connection: Connection) -> tuple[Pointer, ...]:
    """All lanes that hold a config, by name."""
    table = tables.lanes
    query = select(table).where(table.c.config_id.is_not(None)).order_by(table.c.name)
    return tuple(to_pointer(row) for row in connection.execute(query))


def lane_holders(connection: Connection, lane: str) -> tuple[str, ...]:
    """The configs that held a lane, each once, the present one last; a rollback takes away those after its config."""
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
    """Whether a config was ever in a state, in whichever lane."""
    table = tables.transitions
    query = select(table.c.seq).where(table.c.config_id == config_id, table.c.to_state == state).limit(1)
    return connection.execute(query).first() is not None


def transitions_of(connection: Connection, config_id: str, lane: str | None = None) -> list[Transition]:
    """Return the transitions of a config, oldest first; those in one lane alone if `lane` is given."""
    table = tables.transitions
    query = select(table).where(table.c.config_id == config_id)
    if lane is not None:
        query = query.where(table.c.lane == lane)
    return [to_transition(row) for row in connection.execute(query.order_by(table.c.seq))]


def state_in_lane(connection: Connection, config_id: str, lane: str) -> str:
    """The state of a config as a lane sees it."""
    table = tables.transitions
    newest = select(func.max(table.c.seq)).where(
        and_(table.c.config_id == config_id, or_(table.c.lane == lane, table.c.lane == EVERY_LANE))
    )
    state = connection.execute(select(table.c.to_state).where(table.c.seq == newest.scalar_subquery())).scalar()
    return NEW if state is None else str(state)


def transition_id_of(config_id: str, lane: str, to_state: str, generation: int, audit: AuditContext) -> str:
    """The identity of a transition: what moved where, and on which occasion."""
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
    """Take a config to another state and store the transition.

    Args:
        connection: A connection in a transaction.
        config_id: The config.
        to_state: The state.
        action: What is done.
        audit: Why, by whom, when.
        pointer: What the lane holds from then on; None where it concerns every lane.
        verdict_id: The verdict that allows it.

    Raises:
        Refused: No such step exists.
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
    """Point a lane at a config, if it is still at the generation before.

    Raises:
        Refused: Somebody has moved it.
    """
    table = tables.lanes
    unheld = {"config_id": None, "generation": 0, "size_multiplier": 0.0, "transition_id": "", "state": ""}
    insert_once(connection, table, {"name": pointer.lane, **unheld})
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


def check_generation(lane: str, now: Pointer | None, expected: int) -> None:
    """Let a lane pass that is where its mover saw it.

    Raises:
        Refused: Somebody has moved it.
    """
    if (now.generation if now else 0) != expected:
        holder = f"generation {now.generation}, config {now.config_id[:12]}" if now else "generation 0, nothing"
        raise Refused(f"lane {lane}: is at {holder}; generation {expected} was expected: look again")


def parse_json(text: str, what: str) -> Any:
    """The JSON that the database keeps as text.

    Raises:
        Fatal: It is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise Fatal(f"{what}: its stored content is no JSON; restore the registry") from error


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
