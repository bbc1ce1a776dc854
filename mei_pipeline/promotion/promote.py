"""Moving a lane's pointer to a config that may trade there.

The registry is the truth. A decision is made twice: once to know which files to write, and once more in the
transaction that acts on it, under the write lock, where what it read stays true. The config's file is written first,
then pointer and transitions, then the lane's files; whatever is cut off between two steps is made good by `render`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from kernels.cache import source_hash
from mei_pipeline.errors import MeiError, Refused
from mei_pipeline.promotion.real_money import check_all, check_paper, check_stage
from mei_pipeline.registry import rows
from mei_pipeline.registry.config_file import check_runnable, config_bytes
from mei_pipeline.registry.database import Registry, read_transaction, write_transaction
from mei_pipeline.registry.lifecycle import (
    LIVE_SMALL,
    PAUSED,
    RAMP,
    REAL_MONEY_VENUE,
    REPLACED,
    RETIRED,
    TRADING_STATES,
    Action,
    check_size,
    check_transition,
    entry,
    stage,
)
from mei_pipeline.registry.records import AuditContext, Evidence, Lane, Pointer, StoredConfig, Transition, Verdict
from mei_pipeline.registry.render import FaultHook, no_fault, render, store_config


@dataclass(frozen=True)
class Promotion:
    """What became of a lane that was to be moved.

    Attributes:
        transition: The transition that moved the lane, now or before.
        pointer: The lane's pointer.
        moved: False where the lane was there already.
        files: The files that were written.
    """

    transition: Transition
    pointer: Pointer
    moved: bool
    files: tuple[Path, ...]


@dataclass(frozen=True)
class PromotionRequest:
    """What somebody wants of a lane.

    Attributes:
        lane: What the operator says of the lane.
        config_id: The config.
        expected_generation: The generation that was seen; 0 for a lane that never held a config.
        audit: Why, by whom, when.
        by_person: A person's command; a night moves paper lanes only, and none that is paused.
        size: The size multiplier; None for the one that goes without saying.
    """

    lane: Lane
    config_id: str
    expected_generation: int
    audit: AuditContext
    by_person: bool = False
    size: float | None = None


@dataclass(frozen=True)
class Move:
    """Where a lane goes, decided within a transaction."""

    lane: str
    config: StoredConfig
    verdict: Verdict
    evidence: Evidence
    state: str
    size_multiplier: float
    action: Action
    before: Pointer | None
    audit: AuditContext


@dataclass(frozen=True)
class NoChange:
    """A lane that is already where it should go."""

    pointer: Pointer


Decision = Move | NoChange | Refused
Decide = Callable[[Connection], Sequence[Decision]]


def promote(
    registry: Registry,
    lanes_folder: Path,
    request: PromotionRequest,
    policy_id: str,
    *,
    fault_hook: FaultHook = no_fault,
) -> Promotion:
    """Let a config take a lane, come back to one that is paused, or go to another size.

    A config that holds the lane is renewed where its newest verdict was made from other evidence: its file then
    carries the kernels and candles of now. Else nothing changes, whatever generation was expected. A call that was cut
    off can be repeated.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        request: Which config, where, why.
        policy_id: The policy in force; only its newest verdict on this config counts.
        fault_hook: Called after each step.

    Raises:
        Refused: The lane may not be moved so, is manual, trades another venue, was moved by somebody else since, or
            the config is unknown, retired, or has no passing verdict under this policy, made with the kernels of this
            checkout. The lane is as it was.
        ConfigError: The size is none.
        Fatal: The registry contradicts itself or the lane's files.
        DataError: A file could not be written. Where the pointer has moved, `render` makes up for it.
        Busy: Another process holds the registry or the lane's files.
    """
    (done,) = carry_out(
        registry,
        lanes_folder,
        [request.lane.name],
        lambda connection: [decide(connection, request, policy_id)],
        fault_hook=fault_hook,
    )
    if isinstance(done, MeiError):
        raise done
    return done


def carry_out(
    registry: Registry, lanes_folder: Path, lanes: Sequence[str], decisions: Decide, *, fault_hook: FaultHook = no_fault
) -> tuple[Promotion | MeiError, ...]:
    """Move lanes as decided, all in one transaction, and write their files.

    A lane whose files can't be written after it has moved keeps no other lane from its own files.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lanes: The lanes that are decided upon.
        decisions: Decides, in the order of `lanes`; called twice, and what it says in the transaction counts.
        fault_hook: Called after each step.

    Raises:
        MeiError: See `promote`; nothing has moved. A refusal, and what went wrong after the move, is returned instead.
    """
    written = {lane: list(render(registry, lanes_folder, lane)) for lane in lanes}
    with read_transaction(registry) as connection:
        planned = decisions(connection)
    for move in planned:
        # The file of a config that is in force is written with the pointer, so that the two agree.
        if isinstance(move, Move) and not (move.before and move.before.config_id == move.config.config_id):
            written[move.lane] += store_config(lanes_folder, move.lane, move.config, move.evidence, move.verdict)
            fault_hook("config written")
    done: list[tuple[Transition, Pointer, bool] | Refused] = []
    with write_transaction(registry) as connection:
        for decision in decisions(connection):
            if isinstance(decision, Refused):
                done.append(decision)
                continue
            pointer = _move(connection, decision) if isinstance(decision, Move) else decision.pointer
            transition = rows.find_transition(connection, pointer.transition_id)
            done.append((transition, pointer, isinstance(decision, Move)))
        fault_hook("before commit")
    fault_hook("pointer moved")
    outcomes: list[Promotion | MeiError] = []
    for lane, found in zip(lanes, done, strict=True):
        if isinstance(found, Refused):
            outcomes.append(found)
            continue
        try:
            written[lane] += render(registry, lanes_folder, lane, fault_hook=fault_hook)
            outcomes.append(Promotion(*found, tuple(dict.fromkeys(written[lane]))))
        except MeiError as error:
            outcomes.append(error)
    fault_hook("rendered")
    return tuple(outcomes)


def decide(connection: Connection, request: PromotionRequest, policy_id: str) -> Decision:
    """What a wish comes to, as the registry is now.

    Raises:
        ConfigError: The size is none.
        Fatal: The registry contradicts itself.
    """
    try:
        return _decide(connection, request, policy_id)
    except Refused as error:
        return error


def admit(connection: Connection, lane: Lane, config_id: str, policy_id: str) -> tuple[StoredConfig, Verdict, Evidence]:
    """A config with the verdict and the evidence that let it into a lane.

    Raises:
        Refused: Something does not.
    """
    config, verdict, evidence = judged_for(connection, lane, config_id, policy_id)
    _check_passed(lane, verdict)
    return config, verdict, evidence


def _check_passed(lane: Lane, verdict: Verdict) -> None:
    if not verdict.passed:
        fallen = ", ".join(f"{gate.name} ({gate.verdict})" for gate in verdict.gates if gate.verdict != "pass")
        short = verdict.config_id[:12]
        raise Refused(f"lane {lane.name}: config {short} did not pass: {fallen or 'no gate was computed'}")


def judged_for(
    connection: Connection, lane: Lane, config_id: str, policy_id: str
) -> tuple[StoredConfig, Verdict, Evidence]:
    """A config with its newest verdict under a policy, whatever that is, and the evidence, which fits the lane.

    Raises:
        Refused: The config is unknown, has no verdict, or does not fit (see `check_fit`).
    """
    config = rows.find_config(connection, config_id)
    verdict = rows.latest_verdict(connection, config_id, policy_id)
    if verdict is None:
        raise Refused(
            f"lane {lane.name}: config {config_id[:12]} has no verdict under policy {policy_id[:12]}; judge it first"
        )
    evidence = rows.judged_evidence(connection, verdict)
    check_fit(lane, config, verdict, evidence)
    return config, verdict, evidence


def check_fit(lane: Lane, config: StoredConfig, verdict: Verdict, evidence: Evidence) -> None:
    """Let a config pass that was measured as this lane's executor would trade it.

    Raises:
        Refused: It is of another venue, or was measured with other kernels than those of this checkout.
    """
    _check_venue(lane, config, evidence)
    _check_kernels(lane, config, evidence)
    check_runnable(Path(f"{config.config_id}.yaml"), config_bytes(config, evidence, verdict))


def _check_venue(lane: Lane, config: StoredConfig, evidence: Evidence) -> None:
    where, short = f"lane {lane.name}", config.config_id[:12]
    if {config.resolved.venue, evidence.basis.venue} != {lane.venue}:
        raise Refused(
            f"{where}: trades {lane.venue}, config {short} is of {config.resolved.venue}"
            f" and was measured on {evidence.basis.venue}; venues never mix"
        )


def _check_kernels(lane: Lane, config: StoredConfig, evidence: Evidence) -> None:
    if evidence.basis.kernel_hash != source_hash():
        raise Refused(
            f"lane {lane.name}: config {config.config_id[:12]} was measured with kernels"
            f" {evidence.basis.kernel_hash[:12]}, these are {source_hash()[:12]}"
            " and an executor would not take it; judge it again"
        )


def check_mover(lane: Lane, *, by_person: bool) -> None:
    """Let a mover pass that may bring a config into a lane.

    Raises:
        Refused: The lane is no paper lane and no person moves it, is manual, or is of real money on another venue.
    """
    where = f"lane {lane.name}"
    if lane.mode != "paper" and not by_person:
        raise Refused(f"{where}: mode is {lane.mode}; only paper lanes are promoted to without a person")
    if lane.manual:
        raise Refused(f"{where}: is manual and follows strategy_overrides.yaml; take `manual` away to promote to it")
    _check_real_venue(lane)


def _check_real_venue(lane: Lane) -> None:
    if lane.mode == "live" and lane.venue != REAL_MONEY_VENUE:
        raise Refused(
            f"lane {lane.name}: the lane trades on {lane.venue}, and real money trades on {REAL_MONEY_VENUE} alone"
        )


def held_by(connection: Connection, pointer: Pointer) -> str:
    """The id of the evidence by which a config holds its lane."""
    transition = rows.find_transition(connection, pointer.transition_id)
    return rows.find_verdict(connection, transition.verdict_id).evidence_id


def is_trading(lane: Lane, pointer: Pointer) -> bool:
    """Whether the config that holds a lane trades there; not while it is paused, or the lane's mode has changed."""
    return pointer.state in TRADING_STATES[lane.mode]


def _decide(connection: Connection, request: PromotionRequest, policy_id: str) -> Decision:
    lane = request.lane
    if request.size is not None:
        check_size(lane.name, request.size)
    now = rows.find_pointer(connection, lane.name)
    if lane.mode == "live" and request.by_person:
        check_all(lane.name, request.config_id, _real_money_checks(connection, request, policy_id, now))
    check_mover(lane, by_person=request.by_person)
    if now is not None and now.state == PAUSED and not request.by_person:
        raise Refused(f"lane {lane.name}: is paused; a person resumes it with `mei registry promote`")
    config, verdict, evidence = admit(connection, lane, request.config_id, policy_id)
    if now is not None and now.config_id == request.config_id and is_trading(lane, now):
        size = now.size_multiplier if request.size is None else request.size
        state, size = stage(lane.name, lane.mode, now.size_multiplier, size)
        if size == now.size_multiplier and evidence.evidence_id == held_by(connection, now):
            return NoChange(now)
        action: Action = "renewed" if size == now.size_multiplier else "resized"
    else:
        size = _first_size(lane) if request.size is None else request.size
        state, size = entry(lane.name, lane.mode, size)
        check_transition(request.config_id, rows.state_in_lane(connection, request.config_id, lane.name), state)
        back = now is not None and now.config_id == request.config_id and now.state == PAUSED
        action = "resumed" if back else "promoted"
    rows.check_generation(lane.name, now, request.expected_generation)
    return Move(lane.name, config, verdict, evidence, state, size, action, now, request.audit)


def _real_money_checks(
    connection: Connection, request: PromotionRequest, policy_id: str, now: Pointer | None
) -> Iterator[Callable[[], object]]:
    """Everything that a config needs to trade real money, or more of it, each as a check of its own."""
    lane, config = request.lane, rows.find_config(connection, request.config_id)
    yield lambda: check_mover(replace(lane, venue=REAL_MONEY_VENUE), by_person=True)
    yield lambda: _check_real_venue(lane)
    verdict = rows.latest_verdict(connection, request.config_id, policy_id)
    if verdict is None:
        yield lambda: judged_for(connection, lane, request.config_id, policy_id)
    else:
        judged, evidence = verdict, rows.judged_evidence(connection, verdict)
        yield lambda: _check_passed(lane, judged)
        yield lambda: _check_venue(lane, config, evidence)
        yield lambda: _check_kernels(lane, config, evidence)
        yield lambda: check_runnable(Path(f"{config.config_id}.yaml"), config_bytes(config, evidence, judged))
    at_ms = request.audit.now_ms
    if now is not None and now.config_id == request.config_id and is_trading(lane, now):
        held, size = now, now.size_multiplier if request.size is None else request.size
        yield lambda: stage(lane.name, lane.mode, held.size_multiplier, size)
        if size > held.size_multiplier:
            yield lambda: check_stage(connection, lane, held, at_ms)
    else:
        first = _first_size(lane) if request.size is None else request.size
        state = rows.state_in_lane(connection, request.config_id, lane.name)
        yield lambda: entry(lane.name, lane.mode, first)
        yield lambda: check_transition(request.config_id, state, LIVE_SMALL)
        yield lambda: check_paper(connection, lane, request.config_id, at_ms)


def _first_size(lane: Lane) -> float:
    return RAMP[0] if lane.mode == "live" else lane.size_multiplier


def _move(connection: Connection, move: Move) -> Pointer:
    config_id, lane, audit = move.config.config_id, move.lane, move.audit
    generation = (move.before.generation if move.before else 0) + 1
    identity = rows.transition_id_of(config_id, lane, move.state, generation, audit)
    pointer = Pointer(lane, config_id, generation, move.size_multiplier, identity, move.state)
    rows.move_pointer(connection, pointer)
    rows.add_transition(
        connection, config_id, move.state, move.action, audit, pointer=pointer, verdict_id=move.verdict.verdict_id
    )
    before = move.before
    if (
        before is not None
        and before.config_id != config_id
        and rows.state_in_lane(connection, before.config_id, lane) != RETIRED
    ):
        rows.add_transition(connection, before.config_id, REPLACED, "replaced", audit, pointer=pointer)
    return pointer
