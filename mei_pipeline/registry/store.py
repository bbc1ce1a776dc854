"""Read and write the registry.

Ids are hashes of content, so storing the same content twice stores it once. Configs, evidence, verdicts and transitions
are added and never changed. No function here moves a lane's pointer.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from mei_pipeline.errors import ConfigError, Refused
from mei_pipeline.files import canonical_json, sha256_json
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.params.identity import config_id as id_of
from mei_pipeline.registry import rows, tables
from mei_pipeline.registry.database import Registry, insert_once, open_registry, read_transaction, write_transaction
from mei_pipeline.registry.lifecycle import CANDIDATE, HOLDING_STATES, NEW, RETIRED, VALIDATED
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
    as_dict,
    evidence_id,
)

__all__ = [
    "ConfigHistory",
    "Registry",
    "add_config",
    "add_evidence",
    "add_proposals",
    "add_verdict",
    "config_history",
    "get_config",
    "get_evidence",
    "history",
    "lane_pointer",
    "lane_pointers",
    "latest_proposals",
    "list_configs",
    "open_registry",
    "passing_verdict",
    "resolve_id",
    "state_of",
]


RecordT = TypeVar("RecordT", Evidence, Verdict, Transition)


@dataclass(frozen=True)
class ConfigHistory:
    """A config with its evidence, verdicts and transitions, each oldest first.

    Attributes:
        config: The config.
        state: State of the config. If it holds lanes and is not retired: the first of `HOLDING_STATES` that it has.
        lanes: The lanes that it holds.
        evidence: Its evidence.
        verdicts: Its verdicts.
        transitions: Its transitions.
    """

    config: StoredConfig
    state: str
    lanes: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    verdicts: tuple[Verdict, ...]
    transitions: tuple[Transition, ...]


def add_config(registry: Registry, resolved: ResolvedConfig, audit: AuditContext) -> str:
    """Store a resolved config as a candidate, and return its id; a stored config stays as it is."""
    config_id = id_of(resolved)
    row = {
        "config_id": config_id,
        "resolved": canonical_json(as_dict(resolved)).decode(),
        "created_ms": audit.now_ms,
    }
    with write_transaction(registry) as connection:
        if insert_once(connection, tables.configs, row):
            rows.add_transition(connection, config_id, CANDIDATE, "added", audit)
        rows.find_config(connection, config_id)
    return config_id


def get_config(registry: Registry, config_id: str) -> StoredConfig:
    """Return the config of an id.

    Raises:
        Refused: The registry has no such config.
        Fatal: The stored content has another id: it was edited or is damaged.
    """
    with read_transaction(registry) as connection:
        return rows.find_config(connection, config_id)


def resolve_id(registry: Registry, prefix: str) -> str:
    """Return the one config id that begins with `prefix`.

    Raises:
        ConfigError: No id or several ids begin so.
    """
    with read_transaction(registry) as connection:
        column = tables.configs.c.config_id
        found = list(connection.execute(select(column).where(column.startswith(prefix, autoescape=True))).scalars())
    if len(found) != 1:
        problem = "several ids begin so" if found else "no id begins so"
        raise ConfigError(f"config {prefix}: {problem}; `mei registry list` shows the ids")
    return str(found[0])


def add_evidence(
    registry: Registry, config_id: str, basis: Basis, metrics: Mapping[str, Any], audit: AuditContext
) -> str:
    """Store the metrics of a config, and return the evidence id.

    Raises:
        Refused: The registry has no such config.
    """
    identity = evidence_id(config_id, basis)
    text = rows.to_json_text(metrics)
    row = {
        "evidence_id": identity,
        "config_id": config_id,
        "basis": rows.to_json_text(basis.as_dict()),
        "metrics": text,
        "metrics_id": sha256_json(text),
        "created_ms": audit.now_ms,
    }
    with write_transaction(registry) as connection:
        rows.find_config(connection, config_id)
        insert_once(connection, tables.evidence, row)
    return identity


def get_evidence(registry: Registry, identity: str) -> Evidence:
    """Return the latest measurement with an evidence id.

    Raises:
        Refused: The registry has no such evidence.
    """
    with read_transaction(registry) as connection:
        evidence = rows.latest_evidence(connection, identity)
    if evidence is None:
        raise Refused(f"evidence {identity}: not in the registry; `mei registry show CONFIG` lists the evidence")
    return evidence


def add_verdict(
    registry: Registry,
    config_id: str,
    identity: str,
    policy_id: str,
    gates: Sequence[Gate],
    *,
    night_id: str,
    audit: AuditContext,
) -> Verdict:
    """Store the verdict of all gates on a config, and return it.

    A candidate that passes becomes `validated`. The same verdict of the same nightly run is stored once.

    Raises:
        Refused: The evidence is not in the registry, or belongs to another config.
    """
    passed = all_pass(tuple(gates))
    text = rows.gates_to_json(gates)
    with write_transaction(registry) as connection:
        evidence = rows.latest_evidence(connection, identity)
        if evidence is None or evidence.config_id != config_id:
            raise Refused(
                f"verdict on config {config_id}: evidence {identity} is not stored for it; store the evidence first"
            )
        verdict_id = sha256_json([config_id, identity, evidence.metrics_id, policy_id, night_id, text])
        row = {
            "verdict_id": verdict_id,
            "config_id": config_id,
            "evidence_id": identity,
            "metrics_id": evidence.metrics_id,
            "policy_id": policy_id,
            "passed": passed,
            "gates": text,
            "night_id": night_id,
            "at_ms": audit.now_ms,
        }
        if (
            insert_once(connection, tables.verdicts, row)
            and passed
            and rows.state_in_lane(connection, config_id, EVERY_LANE) == CANDIDATE
        ):
            rows.add_transition(connection, config_id, VALIDATED, "validated", audit, verdict_id=verdict_id)
        return rows.find_verdict(connection, verdict_id)


def passing_verdict(registry: Registry, config_id: str, policy_id: str) -> Verdict | None:
    """Return the latest verdict on a config under a policy if it passed, else None.

    An older pass does not count after a newer verdict failed.
    """
    with read_transaction(registry) as connection:
        verdict = rows.latest_verdict(connection, config_id, policy_id)
    return verdict if verdict is not None and verdict.passed else None


def add_proposals(registry: Registry, proposals: Sequence[Proposal]) -> None:
    """Store the proposals of nightly runs in one transaction; a proposal that is stored already is not added again."""
    with write_transaction(registry) as connection:
        stored = {
            (found.night_id, found.lane): found
            for night_id in {proposal.night_id for proposal in proposals}
            for found in _proposals_of(connection, night_id)
        }
        for proposal in proposals:
            latest = stored.get((proposal.night_id, proposal.lane))
            if latest is None or _content(latest) != _content(proposal):
                connection.execute(tables.proposals.insert().values(**vars(proposal)))


def latest_proposals(registry: Registry, night_id: str | None = None) -> tuple[Proposal, ...]:
    """Return the proposals of a nightly run, the latest per lane, in the order of the lanes' names.

    Args:
        registry: The registry.
        night_id: The nightly run; None for the one that proposed last.
    """
    table = tables.proposals
    with read_transaction(registry) as connection:
        if night_id is None:
            newest = select(table.c.night_id).order_by(table.c.seq.desc()).limit(1)
            night_id = connection.execute(newest).scalar()
        return () if night_id is None else _proposals_of(connection, night_id)


def lane_pointer(registry: Registry, lane: str) -> Pointer | None:
    """Return the pointer of a lane; None for a lane that never held a config."""
    with read_transaction(registry) as connection:
        return rows.find_pointer(connection, lane)


def lane_pointers(registry: Registry) -> tuple[Pointer, ...]:
    """Return the pointers of all lanes that hold a config, by the name of the lane."""
    with read_transaction(registry) as connection:
        return rows.all_pointers(connection)


def state_of(registry: Registry, config_id: str, lane: str = EVERY_LANE) -> str:
    """Return the state of a config in a lane; empty for an unknown config."""
    with read_transaction(registry) as connection:
        return rows.state_in_lane(connection, config_id, lane)


def history(registry: Registry, *, config_id: str | None = None, lane: str | None = None) -> tuple[Transition, ...]:
    """Return the transitions, oldest first; only those of one config or one lane if given."""
    table = tables.transitions
    query = select(table).order_by(table.c.seq)
    if config_id is not None:
        query = query.where(table.c.config_id == config_id)
    if lane is not None:
        query = query.where(table.c.lane == lane)
    with read_transaction(registry) as connection:
        return tuple(rows.to_transition(row) for row in connection.execute(query))


def list_configs(registry: Registry) -> tuple[ConfigHistory, ...]:
    """Return every config with its history, oldest first.

    Raises:
        Fatal: The content of a stored config has another id.
    """
    return _config_histories(registry, None)


def config_history(registry: Registry, config_id: str) -> ConfigHistory:
    """Return a config with its history.

    Raises:
        Refused: The registry has no such config.
        Fatal: Its stored content has another id.
    """
    found = _config_histories(registry, config_id)
    if not found:
        raise Refused(f"config {config_id}: not in the registry; `mei registry list` shows all configs")
    return found[0]


def _config_histories(registry: Registry, config_id: str | None) -> tuple[ConfigHistory, ...]:
    content = [tables.configs, tables.evidence, tables.verdicts, tables.transitions]
    with read_transaction(registry) as connection:
        found = {
            table.name: list(
                connection.execute(
                    select(table)
                    .where(*([] if config_id is None else [table.c.config_id == config_id]))
                    .order_by(table.c.seq)
                )
            )
            for table in content
        }
        held = rows.all_pointers(connection)
    evidence = _by_config(rows.to_evidence(row) for row in found["evidence"])
    verdicts = _by_config(rows.to_verdict(row) for row in found["verdicts"])
    transitions = _by_config(rows.to_transition(row) for row in found["transitions"])
    histories = []
    for row in found["configs"]:
        config = rows.to_config(row)
        pointers = [pointer for pointer in held if pointer.config_id == config.config_id]
        steps = transitions[config.config_id]
        histories.append(
            ConfigHistory(
                config,
                _foremost(pointers, steps),
                tuple(pointer.lane for pointer in pointers),
                tuple(evidence[config.config_id]),
                tuple(verdicts[config.config_id]),
                tuple(steps),
            )
        )
    return tuple(histories)


def _foremost(pointers: Sequence[Pointer], steps: Sequence[Transition]) -> str:
    newest = steps[-1].to_state if steps else NEW
    if newest == RETIRED or not pointers:
        return newest
    return min((pointer.state for pointer in pointers), key=HOLDING_STATES.index)


def _by_config(records: Iterable[RecordT]) -> defaultdict[str, list[RecordT]]:
    found: defaultdict[str, list[RecordT]] = defaultdict(list)
    for record in records:
        found[record.config_id].append(record)
    return found


def _proposals_of(connection: Connection, night_id: str) -> tuple[Proposal, ...]:
    table = tables.proposals
    query = select(table).where(table.c.night_id == night_id).order_by(table.c.seq)
    newest = {row.lane: rows.to_proposal(row) for row in connection.execute(query)}
    return tuple(newest[lane] for lane in sorted(newest))


def _content(proposal: Proposal) -> tuple[object, ...]:
    return (proposal.config_id, proposal.policy_id, proposal.generation, proposal.reason)
