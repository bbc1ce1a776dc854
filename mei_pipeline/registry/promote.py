"""Moving a lane's pointer, and rendering the registry into the lane's folder.

The registry is the truth. The config's file is written first, then pointer and transitions in one transaction, then
the lane's files; whatever is cut off between two steps is made good by `render`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from mei_pipeline.errors import DataError, Fatal, Refused
from mei_pipeline.files import locked, replacing
from mei_pipeline.registry import rows
from mei_pipeline.registry.config_file import check_runnable, config_bytes, parse_config
from mei_pipeline.registry.engine import Registry, reading, writing
from mei_pipeline.registry.lanes import (
    Wanted,
    config_path,
    lane_folder,
    parse_pointer,
    pointer_path,
    read_bytes,
    read_pointer_file,
    wanted,
)
from mei_pipeline.registry.lifecycle import PAPER, REPLACED, check_step
from mei_pipeline.registry.records import Config, Evidence, Lane, Occasion, Pointer, Transition, Verdict

RENDER_WAIT_S = 10.0
"""How long a rendering waits for another one of the same lane."""

Seam = Callable[[str], None]
"""Called with the name of each step that is done; a test ends the process there."""


@dataclass(frozen=True)
class Promotion:
    """What a promotion did.

    Attributes:
        transition: The transition that brought the config into the lane, now or before.
        pointer: The lane's pointer.
        moved: False where the config held the lane already.
        files: The files that were written.
    """

    transition: Transition
    pointer: Pointer
    moved: bool
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Admitted:
    config: Config
    verdict: Verdict
    evidence: Evidence
    holds: Pointer | None


def _onwards(_step: str) -> None:
    """Go on after a step."""


def promote(
    registry: Registry,
    lanes_folder: Path,
    lane: Lane,
    config_id: str,
    policy_id: str,
    expected_generation: int,
    occasion: Occasion,
    *,
    seam: Seam = _onwards,
) -> Promotion:
    """Let a config take a paper lane.

    Promoting the config that holds the lane changes nothing, whatever generation was expected. A call that was cut off
    can be repeated.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: What the operator says of the lane.
        config_id: The config.
        policy_id: The policy in force; only its newest verdict on this config counts.
        expected_generation: The generation that the caller saw; 0 for a lane that never held a config.
        occasion: Why, by whom, when.
        seam: Called after each step.

    Raises:
        Refused: The lane is no paper lane, is manual, trades another venue, was moved by somebody else since, or the
            config is unknown or has no passing verdict under this policy. The lane is as it was.
        Fatal: The registry contradicts itself or the lane's files.
        DataError: A file could not be written. Where the pointer has moved, `render` makes up for it.
        Busy: Another process holds the registry or the lane's files.
    """
    written = list(render(registry, lanes_folder, lane.name))
    with reading(registry) as connection:
        admitted = _admit(connection, lane, config_id, policy_id)
    if admitted.holds is None:
        written += store_config(lanes_folder, lane.name, admitted.config, admitted.evidence, admitted.verdict)
        seam("config written")
    with writing(registry) as connection:
        admitted = _admit(connection, lane, config_id, policy_id)
        moved = admitted.holds is None
        pointer = admitted.holds or _move(connection, lane, admitted, expected_generation, occasion)
        transition = rows.find_transition(connection, pointer.transition_id)
        seam("before commit")
    seam("pointer moved")
    written += render(registry, lanes_folder, lane.name, seam=seam)
    seam("rendered")
    return Promotion(transition, pointer, moved, tuple(dict.fromkeys(written)))


def render(
    registry: Registry, lanes_folder: Path, lane: str, *, seam: Seam = _onwards, wait_s: float = RENDER_WAIT_S
) -> tuple[Path, ...]:
    """Make a lane's files what the registry says, and return those that were written.

    A lane that never held a config is left alone.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: The lane.
        seam: Called after each step.
        wait_s: How long to wait for another rendering of this lane, in seconds.

    Raises:
        Fatal: The lane's file is of a later generation than the registry: it was restored from an older backup.
        DataError: A file could not be written; the previous one is intact.
        Busy: Another process renders this lane.
    """
    with _rendering(lanes_folder, lane, wait_s):
        # Read under the lock: what is written last is then never older than what is there.
        want = wanted(registry, lane)
        if want is None:
            return ()
        _refuse_older(registry, lanes_folder, want)
        path = config_path(lanes_folder, lane, want.pointer.config_id)
        written = write_checked(path, want.config_data, parse_config)
        seam("config rendered")
        return written + write_checked(pointer_path(lanes_folder, lane), want.pointer_data, parse_pointer)


def store_config(
    lanes_folder: Path, lane: str, config: Config, evidence: Evidence, verdict: Verdict
) -> tuple[Path, ...]:
    """Write a config's file into a lane's folder, and return the path if it was not there.

    Raises:
        Refused: The kernels of this checkout can't run the config.
        DataError: The file could not be written; the previous one is intact.
        Busy: Another process renders this lane.
    """
    with _rendering(lanes_folder, lane, RENDER_WAIT_S):
        path = config_path(lanes_folder, lane, config.config_id)
        data = config_bytes(config, evidence, verdict)
        check_runnable(path, data)
        return write_checked(path, data, parse_config)


def _admit(connection: Connection, lane: Lane, config_id: str, policy_id: str) -> _Admitted:
    """Everything that lets a config into a lane, or the refusal."""
    where = f"lane {lane.name}"
    if lane.mode != "paper":
        raise Refused(f"{where}: mode is {lane.mode}; only paper lanes are promoted to without a person")
    if lane.manual:
        raise Refused(f"{where}: is manual and follows strategy_overrides.yaml; take `manual` away to promote to it")
    config = rows.find_config(connection, config_id)
    verdict = rows.latest_verdict(connection, config_id, policy_id)
    if verdict is None:
        raise Refused(f"{where}: config {config_id[:12]} has no verdict under policy {policy_id[:12]}; judge it first")
    if not verdict.passed:
        fallen = ", ".join(f"{gate.name} ({gate.verdict})" for gate in verdict.gates if gate.verdict != "pass")
        raise Refused(f"{where}: config {config_id[:12]} did not pass: {fallen or 'no gate was computed'}")
    evidence = rows.judged_evidence(connection, verdict)
    if {config.resolved.venue, evidence.basis.venue} != {lane.venue}:
        raise Refused(
            f"{where}: trades {lane.venue}, config {config_id[:12]} is of {config.resolved.venue}"
            f" and was measured on {evidence.basis.venue}; venues never mix"
        )
    pointer = rows.find_pointer(connection, lane.name)
    holds = pointer if pointer is not None and pointer.config_id == config_id else None
    if holds is None:
        check_step(config_id, rows.state_in(connection, config_id, lane.name), PAPER)
    return _Admitted(config, verdict, evidence, holds)


def _move(
    connection: Connection, lane: Lane, admitted: _Admitted, expected_generation: int, occasion: Occasion
) -> Pointer:
    before = rows.find_pointer(connection, lane.name)
    config_id, generation = admitted.config.config_id, expected_generation + 1
    identity = rows.transition_id_of(config_id, lane.name, PAPER, generation, occasion)
    pointer = Pointer(lane.name, config_id, generation, lane.size_multiplier, identity)
    if not rows.move_pointer(connection, pointer, expected_generation):
        now = rows.find_pointer(connection, lane.name)
        holder = f"generation {now.generation}, config {now.config_id[:12]}" if now else "generation 0, nothing"
        raise Refused(f"lane {lane.name}: is at {holder}; generation {expected_generation} was expected: look again")
    verdict_id = admitted.verdict.verdict_id
    rows.step(connection, config_id, PAPER, occasion, lane=lane.name, generation=generation, verdict_id=verdict_id)
    if before is not None:
        rows.step(connection, before.config_id, REPLACED, occasion, lane=lane.name, generation=generation)
    return pointer


def _refuse_older(registry: Registry, lanes_folder: Path, want: Wanted) -> None:
    lane = want.pointer.lane
    try:
        file = read_pointer_file(lanes_folder, lane)
    except DataError:
        return  # A damaged file says nothing, and is about to be replaced.
    if file is not None and file.generation > want.pointer.generation:
        raise Fatal(
            f"{pointer_path(lanes_folder, lane)}: is of generation {file.generation}, {registry.url} is only at"
            f" {want.pointer.generation}; restore the newer registry, or delete the file to accept this one"
        )


def write_checked(path: Path, data: bytes, parse: Callable[[Path, bytes], object]) -> tuple[Path, ...]:
    """Write a file unless it holds these bytes; it takes its place only once it was read back and is good."""
    if read_bytes(path) == data:
        return ()
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        parse(path, temporary.read_bytes())
    return (path,)


@contextmanager
def _rendering(lanes_folder: Path, lane: str, wait_s: float) -> Iterator[None]:
    folder = lane_folder(lanes_folder, lane)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: not made: {error.strerror}; make it writable for this user") from error
    with locked(folder / ".render.lock", f"rendering lane {lane}", wait_s=wait_s):
        yield
