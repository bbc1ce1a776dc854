"""Move a lane's pointer to a config that may trade there.

The registry decides which config holds a lane; files follow it. A decision is made twice. The first one tells which
files to write. The second one counts: it is made in the transaction that acts on it, under the write lock, where no
other process can change what it read. The config's file is written first, then pointer and transitions, then the
lane's files. `render` repairs the files after a crash between two steps.
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
    """Result of a promotion.

    Attributes:
        transition: The transition that moved the lane, now or before.
        pointer: The lane's pointer.
        moved: False if the config already held the lane.
        files: The files that were written.
    """

    transition: Transition
    pointer: Pointer
    moved: bool
    files: tuple[Path, ...]


@dataclass(frozen=True)
class PromotionRequest:
    """A request to let a config take a lane.

    Attributes:
        lane: The lane as the operator has configured it.
        config_id: The config.
        expected_generation: The lane's generation that the request is based on; 0 for a lane that never held a config.
        audit: Why, by whom, when.
        by_person: True for a person's command. A nightly run moves paper lanes only, and none that is paused.
        size: The size multiplier; None for the present one, or the first one of a lane that the config enters.
    """

    lane: Lane
    config_id: str
    expected_generation: int
    audit: AuditContext
    by_person: bool = False
    size: float | None = None


@dataclass(frozen=True)
class Move:
    """A move of a lane's pointer, decided within a transaction."""

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
    """The decision to leave a lane as it is, because it is already as requested."""

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
    """Let a config take a lane, resume in it, or trade there at another size.

    A config that holds the lane is renewed if its newest verdict is based on other evidence: its file then names the
    present kernels and candles. Otherwise nothing changes, whatever generation was expected, so a call that was
    interrupted can be repeated.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        request: The request.
        policy_id: The policy in force; only its newest verdict on this config counts.
        fault_hook: Called after each step.

    Raises:
        Refused: The lane's mode or state does not allow the move, the lane is manual, trades on another venue or was
            moved since, or the config is unknown, retired, or has no passing verdict under this policy with the kernels
            of this checkout. The lane is unchanged.
        ConfigError: The size is outside (0, 1].
        Fatal: The registry contradicts itself or the lane's files.
        DataError: A file could not be written. If the pointer has moved, `render` repairs the files.
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

    If the files of one lane can't be written after the move, those of the other lanes are written all the same.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lanes: The lanes of the decisions.
        decisions: Returns decisions in the order of `lanes`. It is called twice; the call in the transaction counts.
        fault_hook: Called after each step.

    Raises:
        MeiError: See `promote`; nothing has moved. Refusals and errors after the move are returned instead.
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
    for lane, result in zip(lanes, done, strict=True):
        if isinstance(result, Refused):
            outcomes.append(result)
            continue
        try:
            written[lane] += render(registry, lanes_folder, lane, fault_hook=fault_hook)
            outcomes.append(Promotion(*result, tuple(dict.fromkeys(written[lane]))))
        except MeiError as error:
            outcomes.append(error)
    fault_hook("rendered")
    return tuple(outcomes)


def decide(connection: Connection, request: PromotionRequest, policy_id: str) -> Decision:
    """Return the decision on a request, as the registry is now.

    Raises:
        ConfigError: The size is outside (0, 1].
        Fatal: The registry contradicts itself.
    """
    try:
        return _decide(connection, request, policy_id)
    except Refused as error:
        return error


def admit(connection: Connection, lane: Lane, config_id: str, policy_id: str) -> tuple[StoredConfig, Verdict, Evidence]:
    """Return a config with the passing verdict and the evidence by which it may take a lane.

    Raises:
        Refused: It did not pass, or see `judged_for`.
    """
    config, verdict, evidence = judged_for(connection, lane, config_id, policy_id)
    _check_passed(lane, verdict)
    return config, verdict, evidence


def _check_passed(lane: Lane, verdict: Verdict) -> None:
    if not verdict.passed:
        failed = ", ".join(f"{gate.name} ({gate.verdict})" for gate in verdict.gates if gate.verdict != "pass")
        short = verdict.config_id[:12]
        raise Refused(f"lane {lane.name}: config {short} did not pass: {failed or 'no gate was computed'}")


def judged_for(
    connection: Connection, lane: Lane, config_id: str, policy_id: str
) -> tuple[StoredConfig, Verdict, Evidence]:
    """Return a config with its newest verdict under a policy, passing or not, and the evidence of the verdict.

    Raises:
        Refused: The config is unknown, has no verdict, or does not fit the lane (see `check_fit`).
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
    """Check that a config was measured as this lane's executor would trade it.

    Raises:
        Refused: It trades on another venue, or was measured with other kernels than those of this checkout.
    """
    _check_venue(lane, config, evidence)
    _check_kernels(lane, config, evidence)
    check_runnable(Path(f"{config.config_id}.yaml"), config_bytes(config, evidence, verdict))


def _check_venue(lane: Lane, config: StoredConfig, evidence: Evidence) -> None:
    where, short = f"lane {lane.name}", config.config_id[:12]
    if {config.resolved.venue, evidence.basis.venue} != {lane.venue}:
        raise Refused(
            f"{where}: trades on {lane.venue}, but config {short} trades on {config.resolved.venue} and was measured on"
            f" {evidence.basis.venue}; choose a lane of its venue"
        )


def _check_kernels(lane: Lane, config: StoredConfig, evidence: Evidence) -> None:
    if evidence.basis.kernel_hash != source_hash():
        raise Refused(
            f"lane {lane.name}: config {config.config_id[:12]} was measured with kernels"
            f" {evidence.basis.kernel_hash[:12]}, but this checkout has {source_hash()[:12]} and its executor would"
            " refuse the config; judge it again"
        )


def check_mover(lane: Lane, *, by_person: bool) -> None:
    """Check that a person, or a nightly run, may bring a config into a lane.

    Raises:
        Refused: The lane is manual, is not on paper although a nightly run moves it, or trades real money on another
            venue than `REAL_MONEY_VENUE`.
    """
    where = f"lane {lane.name}"
    if lane.mode != "paper" and not by_person:
        raise Refused(f"{where}: mode is {lane.mode}; a nightly run moves paper lanes only; use `mei registry promote`")
    if lane.manual:
        raise Refused(
            f"{where}: is manual and follows strategy_overrides.yaml; remove `manual` from its file to promote to it"
        )
    _check_real_venue(lane)


def _check_real_venue(lane: Lane) -> None:
    if lane.mode == "live" and lane.venue != REAL_MONEY_VENUE:
        raise Refused(
            f"lane {lane.name}: trades real money on {lane.venue}; real money trades on {REAL_MONEY_VENUE} only"
        )


def held_by(connection: Connection, pointer: Pointer) -> str:
    """Return the id of the evidence by which a config holds its lane."""
    transition = rows.find_transition(connection, pointer.transition_id)
    return rows.find_verdict(connection, transition.verdict_id).evidence_id


def is_trading(lane: Lane, pointer: Pointer) -> bool:
    """Return True if the config that holds a lane trades there: it is not paused, and the lane has the same mode."""
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
        raise Refused(f"lane {lane.name}: is paused; resume it with `mei registry promote`")
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
        resumed = now is not None and now.config_id == request.config_id and now.state == PAUSED
        action = "resumed" if resumed else "promoted"
    # Not before the return above, so that a call that was interrupted can be repeated.
    rows.check_generation(lane.name, now, request.expected_generation)
    return Move(lane.name, config, verdict, evidence, state, size, action, now, request.audit)


def _real_money_checks(
    connection: Connection, request: PromotionRequest, policy_id: str, now: Pointer | None
) -> Iterator[Callable[[], object]]:
    """Yield a check for each condition of trading real money, or more of it, so that a refusal can name all of them."""
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
    generation = rows.last_generation(connection, lane) + 1
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
