"""A lane's `control.yaml`: named holds with which a person or service stops the trading of an executor.

Holds are not in the registry, so they can be set while it is down. Each hold is lifted by its name; the strictest one
counts.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mei_pipeline.config.document import parse_document
from mei_pipeline.config.fields import FileModel, Name, Symbol
from mei_pipeline.config.writer import yaml_text
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.files import locked
from mei_pipeline.registry.lanes import HoldStatus, lane_folder, read_bytes
from mei_pipeline.registry.render import write_checked

CONTROL_NAME = "control.yaml"
CONTROL_WAIT_S = 10.0
"""Longest wait for another process that changes the holds of a lane, in seconds."""

Effect = Literal["close_only", "halt"]
EFFECTS: tuple[Effect, ...] = ("halt", "close_only")
"""Effects of a hold, strictest first."""

_Words = Annotated[str, Field(min_length=1, max_length=1000)]


class Hold(FileModel):
    """A named stop of a lane."""

    owner: _Words
    """The person or service that set it."""
    effect: Effect
    """`close_only`: no new positions; `halt`: no orders at all, exits included."""
    reason: _Words
    """The reason in words."""
    since_ms: Annotated[int, Field(ge=0)]
    """Time at which it was set, UTC milliseconds."""
    symbol: Symbol | None = None
    """Its only symbol; when left out: all symbols."""


class ControlFile(FileModel):
    """control.yaml: the holds of a lane."""

    schema_version: Literal[1]
    """Version of this layout."""
    lane: Name
    """The lane."""
    holds: dict[Name, Hold]
    """The holds by name."""


def control_path(lanes_folder: Path, lane: str) -> Path:
    """Return the path of a lane's holds."""
    return lane_folder(lanes_folder, lane) / CONTROL_NAME


def read_holds(lanes_folder: Path, lane: str) -> dict[str, Hold]:
    """Return the holds of a lane by name; empty if the file is missing.

    Raises:
        DataError: The file is damaged or of another lane; an executor then keeps the last holds that it read, and opens
            nothing.
    """
    path = control_path(lanes_folder, lane)
    data = read_bytes(path)
    return {} if data is None else parse_holds(path, data, lane)


def parse_holds(path: Path, data: bytes, lane: str) -> dict[str, Hold]:
    """As `read_holds`, for bytes from `path`."""
    file = _parse(path, data)
    if file.lane != lane:
        raise DataError(f"{path}: belongs to lane {file.lane}; correct it by hand")
    return file.holds


def strictest_effect(holds: Mapping[str, Hold | HoldStatus]) -> Effect | None:
    """Return the strictest effect of the holds that name no symbol; None without such a hold."""
    effects = {hold.effect for hold in holds.values() if hold.symbol is None}
    return next((effect for effect in EFFECTS if effect in effects), None)


def set_hold(lanes_folder: Path, lane: str, name: str, hold: Hold) -> dict[str, Hold]:
    """Set a hold of a lane, replacing one of the same name, and return all holds.

    Raises:
        ConfigError: The name of the lane or of the hold is not allowed.
        DataError: The file is damaged or could not be written.
        Busy: Another process changes the lane's holds.
    """
    return _change_holds(lanes_folder, lane, lambda holds: {**holds, name: hold})


def lift_hold(lanes_folder: Path, lane: str, name: str) -> dict[str, Hold]:
    """Lift a hold of a lane, and return the remaining holds.

    Raises:
        ConfigError: The lane has no such hold.
        DataError: The file is damaged or could not be written.
        Busy: Another process changes the lane's holds.
    """

    def remove_hold(holds: dict[str, Hold]) -> dict[str, Hold]:
        if name not in holds:
            raise ConfigError(f"lane {lane}: has no hold {name!r}; it has: {', '.join(sorted(holds)) or 'none'}")
        return {key: hold for key, hold in holds.items() if key != name}

    return _change_holds(lanes_folder, lane, remove_hold)


def _change_holds(
    lanes_folder: Path, lane: str, change: Callable[[dict[str, Hold]], dict[str, Hold]]
) -> dict[str, Hold]:
    path = control_path(lanes_folder, lane)
    # The lock has no note: on a nearly full disk the file itself needs the last block.
    with locked(path.with_name(".control.lock"), wait_s=CONTROL_WAIT_S):
        holds = change(read_holds(lanes_folder, lane))
        content = {
            "schema_version": 1,
            "lane": lane,
            "holds": {name: hold.model_dump(exclude_none=True) for name, hold in sorted(holds.items())},
        }
        data = yaml_text(content).encode()
        try:
            parse_document(data, path, ControlFile)
        except ConfigError as error:
            raise ConfigError(f"not written: {error}") from error
        write_checked(path, data, _parse)
    return holds


def _parse(path: Path, data: bytes) -> ControlFile:
    try:
        return parse_document(data, path, ControlFile).model
    except ConfigError as error:
        raise DataError(
            f"{path}: damaged; correct it by hand, or move it away and set the holds again: {error}"
        ) from error
