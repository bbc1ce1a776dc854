"""The files of a lane: its pointer, its immutable configs and the status of its executor.

Every file is validated when it is read. `RenderedFiles` holds the files as the registry defines them; `drift` compares
them with those on disk.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from mei_pipeline.config.document import parse_document
from mei_pipeline.config.fields import FileModel
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.config.writer import yaml_text
from mei_pipeline.errors import ConfigError, DataError, Fatal
from mei_pipeline.registry.config_file import config_bytes
from mei_pipeline.registry.records import Evidence, Lane, Pointer, Transition, Verdict

if TYPE_CHECKING:
    from mei_pipeline.registry.database import Registry

POINTER_NAME = "promoted.yaml"
STATUS_NAME = "status.json"
JOURNAL_NAME = "journal.db"
LOCK_NAME = ".executor.lock"
"""Lock file of a lane's folder; the process that opens the journal for writing holds it."""

_LANE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_Id = Annotated[str, Field(pattern="^[0-9a-f]{64}$", json_schema_extra={"x-allowed": "64 hexadecimal digits"})]


class Provenance(FileModel):
    """Origin of a promoted config."""

    evidence_id: _Id
    """Its evidence."""
    kernel_hash: str
    """Hash of the kernels of the evidence; an executor with other kernels refuses the config."""
    venue: str
    """Venue of the candles."""
    data_hash: str
    """Hash of the candles."""
    policy_id: str
    """The policy that it passed."""
    night_id: str
    """The nightly run that judged it."""
    promoted_ms: int
    """Time at which the lane moved, UTC milliseconds."""
    trigger: str
    """The command or nightly run that moved it."""
    who: str
    """The person or service."""
    why: str
    """The reason in words."""


class PointerFile(FileModel):
    """promoted.yaml: the config that holds a lane."""

    schema_version: Literal[1]
    """Version of this layout."""
    lane: str
    """The lane."""
    config_id: _Id
    """The config; its file is configs/<config id>.yaml."""
    generation: Annotated[int, Field(ge=1)]
    """Number of moves of this lane; it only grows."""
    size_multiplier: Annotated[float, Field(gt=0, le=1)]
    """Factor on the equity that sizing uses; in a live lane the step of the ramp."""
    transition_id: _Id
    """The transition that moved the lane last."""
    state: Literal["paper", "live_small", "live_full", "paused"] = "paper"
    """`paused`: no entries, exits as usual. Real money trades only at `live_small` and `live_full`."""
    provenance: Provenance
    """Origin of the config."""


class OfferStatus(FileModel):
    """A config that the pointer of a lane names and that the executor does not have in force."""

    generation: Annotated[int, Field(ge=1)] | None
    """Its generation; none for a pointer that can't be read."""
    config_id: _Id | None
    """The config; none for a pointer that can't be read."""
    reason: str
    """The reason why it waits or is refused."""


class HoldStatus(FileModel):
    """A hold that an executor has in force."""

    effect: Literal["close_only", "halt"]
    """`close_only`: no new positions; `halt`: no orders at all, exits included."""
    symbol: str | None
    """Its only symbol; none for all symbols."""
    owner: str
    """The person or service that set it; `executor` for a hold that the executor set itself."""
    reason: str
    """The reason in words."""
    expires_ms: Annotated[int, Field(ge=0)] | None = None
    """Time at which it ends by itself, UTC milliseconds on the clock of the machine; none for never."""


class ExecutorStatus(FileModel):
    """status.json: the state of a lane as its executor wrote it. A file of version 1 lacks the keys with a default."""

    schema_version: Literal[1, 2]
    """Version of this layout."""
    lane: str
    """The lane."""
    config_id: _Id | None
    """The config in force; none before the first."""
    generation: Annotated[int, Field(ge=1)] | None
    """The generation in force."""
    since_bar_ms: Annotated[int, Field(ge=0)] | None
    """Open time of the first bar that the executor decided with the config; none before it."""
    written_ms: Annotated[int, Field(ge=0)]
    """Time at which the executor wrote the file, on the clock of its machine."""
    health: Literal["ok", "degraded", "halted"]
    """`degraded`: no entries; `halted`: no orders at all."""
    detail: str = ""
    """The health in words."""
    positions: Annotated[dict[str, float], Field(default_factory=dict)]
    """Signed size per symbol in base coin."""
    offered: OfferStatus | None = None
    """A config that waits or is refused."""
    draining: tuple[_Id, ...] = ()
    """Configs whose positions only exit."""
    mode: Literal["paper", "shadow", "live"] | None = None
    """Mode of the lane."""
    feed: str | None = None
    """Kind of the feed."""
    kernel_hash: str | None = None
    """Hash of the kernels of the executor."""
    pid: Annotated[int, Field(ge=1)] | None = None
    """Process of the executor."""
    boot_id: str | None = None
    """Random id of this start of the executor."""
    clock_ms: Annotated[int, Field(ge=0)] | None = None
    """Clock of the lane: the latest time among its events. A lane that follows a replay lives in the time of it."""
    last_step_ms: Annotated[int, Field(ge=0)] | None = None
    """Open time of the last step; none before the first."""
    feed_age_ms: Annotated[int, Field(ge=0)] | None = None
    """Time since the last message of the feed; none without a feed."""
    stale: Annotated[dict[str, tuple[str, ...]], Field(default_factory=dict)]
    """Stale streams by symbol."""
    holds: Annotated[dict[str, HoldStatus], Field(default_factory=dict)]
    """Holds in force by name, those of the executor included."""
    excluded: tuple[str, ...] = ()
    """Symbols that strategy_overrides.yaml excludes from entries."""
    size_multiplier: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor on the equity that sizing uses: that of the promotion times that of strategy_overrides.yaml."""
    equity_usd: float | None = None
    """Equity at last prices; none before the first config."""
    pnl_usd: float | None = None
    """Profit since the start of the lane, transfers excluded."""
    pnl_today_usd: float | None = None
    """Profit since the beginning of the UTC day on the clock of the lane; none if the equity then is unknown."""
    open_orders: Annotated[int, Field(ge=0)] | None = None
    """Number of orders that have not ended."""
    unknown_orders: Annotated[int, Field(ge=0)] | None = None
    """Number of those that may be at the venue or not."""
    last_error: str | None = None
    """Last error of the executor; none without one."""
    book_id: str | None = None
    """Book id of the journal."""
    durable_seq: Annotated[int, Field(ge=0)] | None = None
    """Number of the last event of the journal that is on the disk; none if the lane does not wait for the disk."""


@dataclass(frozen=True)
class RenderedFiles:
    """Files of a lane as the registry defines them.

    Attributes:
        pointer: The lane's pointer.
        file: Content of `promoted.yaml`.
        pointer_data: Bytes of `promoted.yaml`.
        config_data: Bytes of the config's file.
    """

    pointer: Pointer
    file: PointerFile
    pointer_data: bytes
    config_data: bytes


@dataclass(frozen=True)
class Drift:
    """Differences between a lane's folder and the registry.

    Attributes:
        lane: The lane.
        pointer: The pointer in the registry; None if no config holds the lane.
        file: Content of `promoted.yaml`; None if it is missing or damaged.
        differences: Each difference in words; empty without one.
    """

    lane: str
    pointer: Pointer | None
    file: PointerFile | None
    differences: tuple[str, ...]


def configured_lanes(config: Mapping[str, LaneConfig]) -> tuple[Lane, ...]:
    """Return the configured lanes as records of the registry, in the order of their names."""
    return tuple(Lane(name, lane.mode, lane.venue, lane.role, lane.manual) for name, lane in sorted(config.items()))


def lane_folder(lanes_folder: Path, lane: str) -> Path:
    """Return the folder of a lane.

    Raises:
        ConfigError: The name of the lane is not allowed.
    """
    if not _LANE.fullmatch(lane):
        raise ConfigError(
            f"lane {lane!r}: the name is not allowed; use lower-case letters, digits, '-' and '_', at most 64"
        )
    return lanes_folder / lane


def pointer_path(lanes_folder: Path, lane: str) -> Path:
    """Return the path of a lane's pointer."""
    return lane_folder(lanes_folder, lane) / POINTER_NAME


def config_path(lanes_folder: Path, lane: str, config_id: str) -> Path:
    """Return the path of a config in a lane's folder."""
    return lane_folder(lanes_folder, lane) / "configs" / f"{config_id}.yaml"


def lane_files(registry: "Registry", lane: str) -> RenderedFiles | None:
    """Return the files of a lane as the registry defines them; None for a lane that never held a config."""
    # A lane and the commands that stop it read these files without the registry, whose libraries take long to import.
    from mei_pipeline.registry import rows  # noqa: PLC0415 - as above
    from mei_pipeline.registry.database import read_transaction  # noqa: PLC0415 - as above

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
    return RenderedFiles(pointer, file, pointer_data, config_bytes(config, evidence, verdict))


def read_bytes(path: Path) -> bytes | None:
    """Return the bytes of a file; None if it does not exist.

    Raises:
        DataError: The file can't be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: unreadable: {error.strerror}; make it readable for this user") from error


def parse_pointer(path: Path, data: bytes) -> PointerFile:
    """Return the content of a `promoted.yaml`.

    Args:
        path: The file, for messages.
        data: Its bytes.

    Raises:
        DataError: The file is damaged.
    """
    try:
        return parse_document(data, path, PointerFile).model
    except ConfigError as error:
        raise DataError(f"{path}: damaged; the next hand-over writes it again from the registry: {error}") from error


def read_pointer_file(lanes_folder: Path, lane: str) -> PointerFile | None:
    """Return the content of a lane's `promoted.yaml`; None if it does not exist.

    Raises:
        DataError: The file is damaged or of another lane.
    """
    path = pointer_path(lanes_folder, lane)
    data = read_bytes(path)
    if data is None:
        return None
    file = parse_pointer(path, data)
    if file.lane != lane:
        raise DataError(f"{path}: belongs to lane {file.lane}; the next hand-over writes the file of lane {lane} again")
    return file


def read_status(lanes_folder: Path, lane: str) -> ExecutorStatus | None:
    """Return the status that a lane's executor wrote; None before the first.

    Raises:
        DataError: The file is damaged or of another lane.
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
        raise DataError(f"{path}: belongs to lane {status.lane}; check which executor writes into this folder")
    return status


def is_acknowledged(pointer: Pointer, status: ExecutorStatus | None) -> bool:
    """Return True if the executor has the config and generation of the pointer in force."""
    return status is not None and status.config_id == pointer.config_id and status.generation == pointer.generation


def drift(registry: "Registry", lanes_folder: Path, lane: str) -> Drift:
    """Return the differences between a lane's folder and the registry. Nothing is changed; `render` repairs."""
    expected = lane_files(registry, lane)
    problem = ""
    try:
        file = read_pointer_file(lanes_folder, lane)
    except DataError as error:
        file, problem = None, str(error)
    if expected is None:
        stray = file is not None or problem
        problem = f"{pointer_path(lanes_folder, lane)}: exists, but no config holds this lane in the registry"
        return Drift(lane, None, file, (problem,) if stray else ())
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


def _differences(lanes_folder: Path, expected: RenderedFiles, file: PointerFile | None, problem: str) -> list[str]:
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
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    return DataError(f"{path}: {where}: {first['msg']}; the executor writes it again at the next bar, or remove it")
