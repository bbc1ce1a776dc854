"""`control.yaml`: named holds with which a person or service stops the trading of a lane, or of all lanes.

Holds are not in the registry, so they can be set while it is down. Each hold is lifted by its name, or ends by itself
at its `expires_ms`. The strictest one counts. Each lane has a file in its folder; that of all lanes is beside them.
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
ALL_LANES = "all/"
"""First part of the names of holds of all lanes, as a lane and its commands show them."""

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
    expires_ms: Annotated[int, Field(ge=0)] | None = None
    """Time at which it ends by itself, UTC milliseconds on the clock of the machine; when left out: never."""


class ControlFile(FileModel):
    """control.yaml: the holds of a lane, or of all lanes."""

    schema_version: Literal[1]
    """Version of this layout."""
    lane: Name | None = None
    """The lane; left out in the file of all lanes."""
    holds: dict[Name, Hold]
    """The holds by name."""


def control_path(lanes_folder: Path, lane: str | None) -> Path:
    """Return the path of a lane's holds; of those of all lanes for None."""
    return (lanes_folder if lane is None else lane_folder(lanes_folder, lane)) / CONTROL_NAME


def read_holds(lanes_folder: Path, lane: str | None) -> dict[str, Hold]:
    """Return the holds in the file of a lane by name, expired ones included; empty if the file is missing.

    Args:
        lanes_folder: The folder of all lanes.
        lane: The lane; None for the file of all lanes.

    Raises:
        DataError: The file is damaged or of another lane; an executor then keeps the last holds that it read, and opens
            nothing.
    """
    path = control_path(lanes_folder, lane)
    data = read_bytes(path)
    return {} if data is None else parse_holds(path, data, lane)


def parse_holds(path: Path, data: bytes, lane: str | None) -> dict[str, Hold]:
    """As `read_holds`, for bytes from `path`."""
    file = _parse(path, data)
    if file.lane != lane:
        owner = "all lanes: it names none" if file.lane is None else f"lane {file.lane}"
        raise DataError(f"{path}: belongs to {owner}; correct it by hand")
    return file.holds


def read_all_holds(lanes_folder: Path, lane: str, now_ms: int) -> dict[str, Hold]:
    """Return the holds that a lane's file and the file of all lanes put in force.

    Args:
        lanes_folder: The folder of all lanes.
        lane: The lane.
        now_ms: Time on the clock of the machine; expired holds are left out.

    Returns:
        The holds by name; names of holds of all lanes begin with `ALL_LANES`.

    Raises:
        DataError: As `read_holds`.
    """
    everywhere = {f"{ALL_LANES}{name}": hold for name, hold in read_holds(lanes_folder, None).items()}
    return unexpired({**everywhere, **read_holds(lanes_folder, lane)}, now_ms)


def unexpired(holds: Mapping[str, Hold], now_ms: int) -> dict[str, Hold]:
    """Return the holds that have not expired at a time on the clock of the machine."""
    return {name: hold for name, hold in holds.items() if hold.expires_ms is None or hold.expires_ms > now_ms}


def strictest_effect(holds: Mapping[str, Hold | HoldStatus]) -> Effect | None:
    """Return the strictest effect of the holds that name no symbol; None without such a hold."""
    effects = {hold.effect for hold in holds.values() if hold.symbol is None}
    return next((effect for effect in EFFECTS if effect in effects), None)


def set_hold(lanes_folder: Path, lane: str | None, name: str, hold: Hold) -> dict[str, Hold]:
    """Set a hold, replacing one of the same name, and return all holds of the file. Expired holds are removed.

    Args:
        lanes_folder: The folder of all lanes.
        lane: The lane; None for a hold of all lanes.
        name: Name of the hold.
        hold: The hold; its `since_ms` is the time of the change.

    Raises:
        ConfigError: The name of the lane or of the hold is not allowed.
        DataError: The file is damaged or could not be written.
        Busy: Another process changes the lane's holds.
    """
    return _change_holds(lanes_folder, lane, lambda holds: {**unexpired(holds, hold.since_ms), name: hold})


def lift_hold(lanes_folder: Path, lane: str | None, name: str) -> dict[str, Hold]:
    """Lift a hold, and return the remaining holds of the file.

    Raises:
        ConfigError: The file has no such hold.
        DataError: The file is damaged or could not be written.
        Busy: Another process changes the lane's holds.
    """

    def remove_hold(holds: dict[str, Hold]) -> dict[str, Hold]:
        if name not in holds:
            owner = "the file of all lanes" if lane is None else f"lane {lane}"
            raise ConfigError(f"{owner}: has no hold {name!r}; it has: {', '.join(sorted(holds)) or 'none'}")
        return {key: hold for key, hold in holds.items() if key != name}

    return _change_holds(lanes_folder, lane, remove_hold)


def lift_holds(
    lanes_folder: Path, lane: str | None, chosen: Callable[[str, Hold], bool]
) -> tuple[dict[str, Hold], dict[str, Hold]]:
    """Lift the holds that `chosen` returns True for.

    Args:
        lanes_folder: The folder of all lanes.
        lane: The lane; None for the file of all lanes.
        chosen: Takes name and hold.

    Returns:
        The lifted holds, and the remaining holds of the file.

    Raises:
        DataError: The file is damaged or could not be written.
        Busy: Another process changes the lane's holds.
    """
    lifted: dict[str, Hold] = {}

    def remove_chosen(holds: dict[str, Hold]) -> dict[str, Hold]:
        lifted.update({name: hold for name, hold in holds.items() if chosen(name, hold)})
        return {name: hold for name, hold in holds.items() if name not in lifted}

    # A file that does not exist has nothing to lift, and nothing is written.
    if not read_holds(lanes_folder, lane):
        return {}, {}
    remaining = _change_holds(lanes_folder, lane, remove_chosen)
    return lifted, remaining


def _change_holds(
    lanes_folder: Path, lane: str | None, change: Callable[[dict[str, Hold]], dict[str, Hold]]
) -> dict[str, Hold]:
    path = control_path(lanes_folder, lane)
    # The lock has no note: on a nearly full disk the file itself needs the last block.
    with locked(path.with_name(".control.lock"), wait_s=CONTROL_WAIT_S):
        holds = change(read_holds(lanes_folder, lane))
        content = {
            "schema_version": 1,
            **({} if lane is None else {"lane": lane}),
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
