"""What lies in a lane's folder: the pointer, the immutable configs, and what the lane's executor says.

Every file is read with validation. `LaneFiles` is what the registry says the folder should hold; `drift` compares.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from mei_pipeline.config.document import parse_document
from mei_pipeline.config.fields import FileModel
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.config.writer import yaml_text
from mei_pipeline.errors import ConfigError, DataError, Fatal
from mei_pipeline.registry import rows
from mei_pipeline.registry.config_file import config_bytes
from mei_pipeline.registry.database import Registry, read_transaction
from mei_pipeline.registry.records import Evidence, Lane, Pointer, Transition, Verdict

POINTER_NAME = "promoted.yaml"
STATUS_NAME = "status.json"

_LANE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_Id = Annotated[str, Field(pattern="^[0-9a-f]{64}$", json_schema_extra={"x-allowed": "64 hexadecimal digits"})]


class Provenance(FileModel):
    """Where a promoted config comes from."""

    evidence_id: _Id
    """What was measured of it."""
    kernel_hash: str
    """The kernels that it was measured with; an executor with others refuses the config."""
    venue: str
    """Whose candles."""
    data_hash: str
    """Which candles."""
    policy_id: str
    """The policy that let it in."""
    night_id: str
    """The night that judged it."""
    promoted_ms: int
    """When the lane was moved."""
    trigger: str
    """What set that off."""
    who: str
    """The person or the service."""
    why: str
    """The reason, in words."""


class PointerFile(FileModel):
    """promoted.yaml: which config holds a lane."""

    schema_version: Literal[1]
    """Version of this layout."""
    lane: str
    """The lane."""
    config_id: _Id
    """The config; its file is configs/<config id>.yaml."""
    generation: Annotated[int, Field(ge=1)]
    """Counts the moves of this lane; it only grows."""
    size_multiplier: Annotated[float, Field(gt=0, le=1)]
    """Scales the equity that sizing sees; in a live lane the stage of the ramp."""
    transition_id: _Id
    """The transition that moved the lane last."""
    state: Literal["paper", "live_small", "live_full", "paused"] = "paper"
    """`paused`: no entries, exits as ever. Real money trades at `live_small` and `live_full` alone."""
    provenance: Provenance
    """Where the config comes from."""


class ExecutorStatus(FileModel):
    """status.json: what a lane's executor has in force."""

    schema_version: Literal[1]
    """Version of this layout."""
    lane: str
    """The lane."""
    config_id: _Id
    """The config in force."""
    generation: Annotated[int, Field(ge=1)]
    """The generation in force."""
    since_bar_ms: Annotated[int, Field(ge=0)]
    """Open time of the first bar that was decided with it."""
    written_ms: Annotated[int, Field(ge=0)]
    """When the executor wrote the file."""
    health: Literal["ok", "degraded", "halted"]
    """`degraded`: entries are blocked; `halted`: nothing trades."""
    detail: str = ""
    """The health in words."""
    positions: Annotated[dict[str, float], Field(default_factory=dict)]
    """Signed size per symbol in base coin."""


@dataclass(frozen=True)
class LaneFiles:
    """What the registry says a lane's folder should hold.

    Attributes:
        pointer: The lane's pointer.
        file: The content of `promoted.yaml`.
        pointer_data: The bytes of `promoted.yaml`.
        config_data: The bytes of the config's file.
    """

    pointer: Pointer
    file: PointerFile
    pointer_data: bytes
    config_data: bytes


@dataclass(frozen=True)
class Drift:
    """How a lane's folder differs from the registry.

    Attributes:
        lane: The lane.
        pointer: What the registry says.
        file: What `promoted.yaml` says; None where it is missing or damaged.
        differences: Each difference in words; empty where there is none.
    """

    lane: str
    pointer: Pointer | None
    file: PointerFile | None
    differences: tuple[str, ...]


def configured_lanes(config: Mapping[str, LaneConfig]) -> tuple[Lane, ...]:
    """The configured lanes as the registry knows them, by name."""
    return tuple(Lane(name, lane.mode, lane.venue, lane.role, lane.manual) for name, lane in sorted(config.items()))


def lane_folder(lanes_folder: Path, lane: str) -> Path:
    """The folder of a lane.

    Raises:
        ConfigError: The name can't be a folder's.
    """
    if not _LANE.fullmatch(lane):
        raise ConfigError(f"lane {lane!r}: allowed are lower-case letters, digits, '-' and '_', at most 64")
    return lanes_folder / lane


def pointer_path(lanes_folder: Path, lane: str) -> Path:
    """Where a lane's pointer lies."""
    return lane_folder(lanes_folder, lane) / POINTER_NAME


def config_path(lanes_folder: Path, lane: str, config_id: str) -> Path:
    """Where a lane keeps a config."""
    return lane_folder(lanes_folder, lane) / "configs" / f"{config_id}.yaml"


def lane_files(registry: Registry, lane: str) -> LaneFiles | None:
    """What the registry says a lane's folder should hold; None for a lane that never held a config."""
    with read_transaction(registry) as connection:
        pointer = rows.find_pointer(connection, lane)
        if pointer is None:
            return None
        config = rows.find_config(connection, pointer.config_id)
        transition = rows.find_transition(connection, pointer.transition_id)
        verdict = rows.find_verdict(connection, transition.verdict_id)
        evidence = rows.judged_evidence(connection, verdict)
    file = _pointer_file(pointer, transition, verdict, evidence)
    pointer_data = yaml_text(file.model_dump()).encode()
    return LaneFiles(pointer, file, pointer_data, config_bytes(config, evidence, verdict))


def read_bytes(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none.

    Raises:
        DataError: The file can't be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: not readable: {error.strerror}") from error


def parse_pointer(path: Path, data: bytes) -> PointerFile:
    """The content of a `promoted.yaml`.

    Args:
        path: Where the bytes come from, for messages.
        data: The bytes.

    Raises:
        DataError: The file is damaged.
    """
    try:
        return parse_document(data, path, PointerFile).model
    except ConfigError as error:
        raise DataError(f"{path}: damaged; the registry can render it again: {error}") from error


def read_pointer_file(lanes_folder: Path, lane: str) -> PointerFile | None:
    """What a lane's `promoted.yaml` says; None where there is none.

    Raises:
        DataError: The file is damaged or is of another lane.
    """
    path = pointer_path(lanes_folder, lane)
    data = read_bytes(path)
    if data is None:
        return None
    file = parse_pointer(path, data)
    if file.lane != lane:
        raise DataError(f"{path}: is of lane {file.lane}; the registry can render this lane's again")
    return file


def read_status(lanes_folder: Path, lane: str) -> ExecutorStatus | None:
    """What a lane's executor says; None where it has said nothing yet.

    Raises:
        DataError: The file is damaged or is of another lane.
    """
    path = lane_folder(lanes_folder, lane) / STATUS_NAME
    data = read_bytes(path)
    if data is None:
        return None
    try:
        status = ExecutorStatus.model_validate_json(data)
    except ValidationError as error:
        raise _invalid(path, error) from error
    if status.lane != lane:
        raise DataError(f"{path}: is of lane {status.lane}; its executor must write this lane's")
    return status


def is_acknowledged(pointer: Pointer, status: ExecutorStatus | None) -> bool:
    """Whether the executor has the pointer's generation of the pointer's config in force."""
    return status is not None and status.config_id == pointer.config_id and status.generation == pointer.generation


def drift(registry: Registry, lanes_folder: Path, lane: str) -> Drift:
    """How a lane's folder differs from the registry. Nothing is changed; `render` repairs."""
    expected = lane_files(registry, lane)
    problem = ""
    try:
        file = read_pointer_file(lanes_folder, lane)
    except DataError as error:
        file, problem = None, str(error)
    if expected is None:
        stray = file is not None or problem
        told = f"{pointer_path(lanes_folder, lane)}: lies there, and the registry knows no config of this lane"
        return Drift(lane, None, file, (told,) if stray else ())
    return Drift(lane, expected.pointer, file, tuple(_differences(lanes_folder, expected, file, problem)))


def _pointer_file(pointer: Pointer, transition: Transition, verdict: Verdict, evidence: Evidence) -> PointerFile:
    try:
        return PointerFile.model_validate(
            {
                "schema_version": 1,
                **vars(pointer),
                "provenance": Provenance(
                    evidence_id=evidence.evidence_id,
                    kernel_hash=evidence.basis.kernel_hash,
                    venue=evidence.basis.venue,
                    data_hash=evidence.basis.data_hash,
                    policy_id=verdict.policy_id,
                    night_id=verdict.night_id,
                    promoted_ms=transition.at_ms,
                    trigger=transition.trigger,
                    who=transition.who,
                    why=transition.why,
                ),
            }
        )
    except ValidationError as error:
        raise Fatal(f"lane {pointer.lane}: its pointer is impossible: {error}; restore the registry") from error


def _differences(lanes_folder: Path, expected: LaneFiles, file: PointerFile | None, problem: str) -> list[str]:
    pointer = expected.pointer
    found = []
    if problem:
        found.append(problem)
    elif file is None:
        found.append(f"{pointer_path(lanes_folder, pointer.lane)}: missing")
    elif file != expected.file:
        found.append(
            f"{pointer_path(lanes_folder, pointer.lane)}: generation {file.generation} of {file.config_id[:12]},"
            f" the registry has generation {pointer.generation} of {pointer.config_id[:12]}"
        )
    path = config_path(lanes_folder, pointer.lane, pointer.config_id)
    try:
        data = read_bytes(path)
    except DataError as error:
        return [*found, str(error)]
    if data is None:
        found.append(f"{path}: missing")
    elif data != expected.config_data:
        found.append(f"{path}: differs from the registry")
    return found


def _invalid(path: Path, error: ValidationError) -> DataError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    return DataError(f"{path}: {where}: {first['msg']}; its executor writes it again, or remove it")
