"""Commands of a person for lanes and configs, other than a promotion: resize, pause, rollback, retire."""

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

    A larger size has the same conditions as a promotion, and in a live lane it must be the next stage of the ramp. A
    smaller size is always allowed, because it reduces risk.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: The lane as the operator has configured it.
        size: The size multiplier.
        policy_id: The policy in force.
        audit: Why, by whom, when.
        fault_hook: Called after each step.

    Raises:
        Refused: No config trades in the lane, the ramp has no such stage, or the config does not meet its conditions.
        ConfigError: The size is outside (0, 1].
        MeiError: See `promote`.
    """
    check_size(lane.name, size)

    def decision(connection: Connection) -> Decision:
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

    return _carry_out_one(registry, lanes_folder, lane.name, decision, fault_hook)


def pause(
    registry: Registry, lanes_folder: Path, lane: str, audit: AuditContext, *, fault_hook: FaultHook = no_fault
) -> Promotion:
    """Stop the config that holds a lane from opening positions until a person promotes a config; always allowed.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: The lane; it needs no file in `config/lanes`.
        audit: Why, by whom, when.
        fault_hook: Called after each step.

    Raises:
        Refused: No config holds the lane.
        MeiError: See `promote`.
    """

    def decision(connection: Connection) -> Decision:
        now = _held(connection, lane)
        if now.state == PAUSED:
            return NoChange(now)
        return _keep(connection, now, PAUSED, now.size_multiplier, "paused", audit)

    return _carry_out_one(registry, lanes_folder, lane, decision, fault_hook)


def rollback(
    registry: Registry,
    lanes_folder: Path,
    lane: Lane,
    steps: int,
    audit: AuditContext,
    *,
    fault_hook: FaultHook = no_fault,
) -> Promotion:
    """Let a config that held a lane earlier hold it again. It is a new move; the history keeps the others.

    The config needs a passing verdict, under any policy, with the kernels of this checkout: an executor refuses
    others. A newer verdict that failed does not matter, because the config in force may be worse. In a live lane the
    config starts at the first stage of the ramp.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: The lane as the operator has configured it.
        steps: Number of configs to go back, at least 1. A second rollback goes further back.
        audit: Why, by whom, when.
        fault_hook: Called after each step.

    Raises:
        Refused: There is no such config, it is retired, has no verdict with these kernels, or the lane can't be moved.
        MeiError: See `promote`.
    """

    def decision(connection: Connection) -> Decision:
        check_mover(lane, by_person=True)
        now = _held(connection, lane.name)
        held = rows.lane_holders(connection, lane.name)
        if not 1 <= steps < len(held):
            raise Refused(f"lane {lane.name}: can go back {len(held) - 1} configs, not {steps}")
        target = held[-1 - steps]
        state, size = entry(lane.name, lane.mode, RAMP[0] if lane.mode == "live" else lane.size_multiplier)
        check_transition(target, rows.state_in_lane(connection, target, lane.name), state)
        last_pass = rows.last_pass(connection, target, source_hash())
        if last_pass is None:
            raise Refused(
                f"lane {lane.name}: config {target[:12]} never passed with kernels {source_hash()[:12]}, those of this"
                " checkout, and an executor would refuse it; judge it again, or go back further"
            )
        config = rows.find_config(connection, target)
        check_fit(lane, config, *last_pass)
        return Move(lane.name, config, *last_pass, state, size, "rolled back", now, audit)

    return _carry_out_one(registry, lanes_folder, lane.name, decision, fault_hook)


def retire(registry: Registry, config_id: str, audit: AuditContext) -> Transition | None:
    """Retire a config for good: it can't trade in any lane again. Return None if it is already retired.

    Args:
        registry: The registry.
        config_id: The config.
        audit: Why, by whom, when.

    Raises:
        Refused: The config is unknown, or holds a lane.
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
        raise Refused(f"lane {lane}: holds no config; `mei lane list` shows the lanes that hold one")
    return now


def _keep(connection: Connection, now: Pointer, state: str, size: float, action: Action, audit: AuditContext) -> Move:
    """Return a move of a lane's own config to another state or size, by the verdict by which it holds the lane."""
    check_transition(now.config_id, rows.state_in_lane(connection, now.config_id, now.lane), state)
    transition = rows.find_transition(connection, now.transition_id)
    verdict = rows.find_verdict(connection, transition.verdict_id)
    evidence = rows.judged_evidence(connection, verdict)
    config = rows.find_config(connection, now.config_id)
    return Move(now.lane, config, verdict, evidence, state, size, action, now, audit)


def _carry_out_one(
    registry: Registry,
    lanes_folder: Path,
    lane: str,
    decide_one: Callable[[Connection], Decision],
    fault_hook: FaultHook,
) -> Promotion:
    (done,) = carry_out(
        registry, lanes_folder, [lane], lambda connection: [decide_one(connection)], fault_hook=fault_hook
    )
    if isinstance(done, MeiError):
        raise done
    return done
