"""What a person does with lanes and configs beside promoting: another size, a pause, a rollback, a retirement."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from kernels.cache import source_hash
from mei_pipeline.errors import MeiError, Refused
from mei_pipeline.promotion.promote import (
    Decision,
    Move,
    NoChange,
    Promotion,
    PromotionRequest,
    carry_out,
    check_fit,
    check_mover,
    decide,
    is_trading,
)
from mei_pipeline.registry import rows
from mei_pipeline.registry.database import Registry, write_transaction
from mei_pipeline.registry.lifecycle import PAUSED, RAMP, RETIRED, Action, check_size, check_transition, entry, stage
from mei_pipeline.registry.records import EVERY_LANE, AuditContext, Lane, Pointer, Transition
from mei_pipeline.registry.render import FaultHook, no_fault


def resize(
    registry: Registry,
    lanes_folder: Path,
    lane: Lane,
    size: float,
    policy_id: str,
    audit: AuditContext,
    *,
    fault_hook: FaultHook = no_fault,
) -> Promotion:
    """Let the config that trades in a lane trade at another size.

    A larger size asks of the config what a promotion asks, and in a live lane it is the next stage of the ramp. A
    smaller one is always allowed.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: What the operator says of the lane.
        size: The size multiplier.
        policy_id: The policy in force.
        audit: Why, by whom, when.
        fault_hook: Called after each step.

    Raises:
        Refused: Nothing trades in the lane, the ramp has no such stage, or the config may not have it.
        ConfigError: The size is none.
        MeiError: As `promote`.
    """
    check_size(lane.name, size)

    def step(connection: Connection) -> Decision:
        now = _held(connection, lane.name)
        if not is_trading(lane, now):
            raise Refused(
                f"lane {lane.name}: is {now.state}, in mode {lane.mode}; `mei registry promote` lets its config trade"
            )
        if size > now.size_multiplier:
            request = PromotionRequest(lane, now.config_id, now.generation, audit, by_person=True, size=size)
            return decide(connection, request, policy_id)
        if size == now.size_multiplier:
            return NoChange(now)
        state, _ = stage(lane.name, lane.mode, now.size_multiplier, size)
        return _keep(connection, now, state, size, "resized", audit)

    return _one(registry, lanes_folder, lane.name, step, fault_hook)


def pause(
    registry: Registry, lanes_folder: Path, lane: str, audit: AuditContext, *, fault_hook: FaultHook = no_fault
) -> Promotion:
    """Let the config that holds a lane open nothing more until a person promotes one again; always allowed.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: The lane; `config/lanes` may have lost it.
        audit: Why, by whom, when.
        fault_hook: Called after each step.

    Raises:
        Refused: No config holds the lane.
        MeiError: As `promote`.
    """

    def step(connection: Connection) -> Decision:
        now = _held(connection, lane)
        if now.state == PAUSED:
            return NoChange(now)
        return _keep(connection, now, PAUSED, now.size_multiplier, "paused", audit)

    return _one(registry, lanes_folder, lane, step, fault_hook)


def rollback(
    registry: Registry,
    lanes_folder: Path,
    lane: Lane,
    steps: int,
    audit: AuditContext,
    *,
    fault_hook: FaultHook = no_fault,
) -> Promotion:
    """Let a config that held a lane earlier hold it again, as a move of its own; history stays.

    It needs a pass, under whichever policy, that was made with the kernels of this checkout: an executor takes no
    other. A newer verdict does not hinder it, for the config in force may be worse. A live lane is entered at the first
    stage of the ramp.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: What the operator says of the lane.
        steps: How many configs to go back, at least 1. Going back twice goes further back.
        audit: Why, by whom, when.
        fault_hook: Called after each step.

    Raises:
        Refused: There is no such config, it is retired, can't run on these kernels, or the lane may not be moved.
        MeiError: As `promote`.
    """

    def step(connection: Connection) -> Decision:
        check_mover(lane, by_person=True)
        now = _held(connection, lane.name)
        held = rows.lane_holders(connection, lane.name)
        if not 1 <= steps < len(held):
            raise Refused(f"lane {lane.name}: can go back {len(held) - 1} configs, not {steps}")
        target = held[-1 - steps]
        state, size = entry(lane.name, lane.mode, RAMP[0] if lane.mode == "live" else lane.size_multiplier)
        check_transition(target, rows.state_in_lane(connection, target, lane.name), state)
        passed = rows.last_pass(connection, target, source_hash())
        if passed is None:
            raise Refused(
                f"lane {lane.name}: config {target[:12]} never passed with kernels {source_hash()[:12]}, those of this"
                " checkout, and an executor would not take it; judge it again, or go back further"
            )
        config = rows.find_config(connection, target)
        check_fit(lane, config, *passed)
        return Move(lane.name, config, *passed, state, size, "rolled back", now, audit)

    return _one(registry, lanes_folder, lane.name, step, fault_hook)


def retire(registry: Registry, config_id: str, audit: AuditContext) -> Transition | None:
    """Let a config trade nowhere ever again; None where it is retired already.

    Args:
        registry: The registry.
        config_id: The config.
        audit: Why, by whom, when.

    Raises:
        Refused: It is unknown, or trades in a lane.
    """
    with write_transaction(registry) as connection:
        rows.find_config(connection, config_id)
        if rows.state_in_lane(connection, config_id, EVERY_LANE) == RETIRED:
            return None
        trading = [
            pointer.lane
            for pointer in rows.all_pointers(connection)
            if pointer.config_id == config_id and pointer.state != PAUSED
        ]
        if trading:
            raise Refused(
                f"config {config_id[:12]}: trades in {', '.join(trading)}; pause the lane, or promote another config to"
                " it, first"
            )
        return rows.add_transition(connection, config_id, RETIRED, "retired", audit)


def _held(connection: Connection, lane: str) -> Pointer:
    now = rows.find_pointer(connection, lane)
    if now is None:
        raise Refused(f"lane {lane}: holds no config; `mei lane list` shows what does")
    return now


def _keep(connection: Connection, now: Pointer, state: str, size: float, action: Action, audit: AuditContext) -> Move:
    """The config of a lane in another state or at another size, by the verdict that let it in."""
    check_transition(now.config_id, rows.state_in_lane(connection, now.config_id, now.lane), state)
    transition = rows.find_transition(connection, now.transition_id)
    verdict = rows.find_verdict(connection, transition.verdict_id)
    evidence = rows.judged_evidence(connection, verdict)
    config = rows.find_config(connection, now.config_id)
    return Move(now.lane, config, verdict, evidence, state, size, action, now, audit)


def _one(
    registry: Registry, lanes_folder: Path, lane: str, step: Callable[[Connection], Decision], fault_hook: FaultHook
) -> Promotion:
    (done,) = carry_out(registry, lanes_folder, [lane], lambda connection: [step(connection)], fault_hook=fault_hook)
    if isinstance(done, MeiError):
        raise done
    return done
