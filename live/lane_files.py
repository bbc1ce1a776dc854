"""Files of a lane that its executor follows: the promoted config and the holds, read as events.

`poll` looks at the files by their metadata and reads only those that changed, so it can be called at every step. A file
that can't be read changes nothing: the lane keeps what the file said before.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from live.hold_files import HoldFile, Mark, hold_files, mark_of, read_changes
from mei_pipeline.config.document import read_yaml
from mei_pipeline.config.load import LANES
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.errors import ConfigError, DataError, MeiError, Refused
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.events import ConfigOffered, Event, HoldsChanged, HoldState
from mei_pipeline.execution.state import LaneState
from mei_pipeline.params.paths import closest
from mei_pipeline.registry.config_file import parse_anchored
from mei_pipeline.registry.lanes import (
    PointerFile,
    config_path,
    lane_folder,
    pointer_path,
    read_bytes,
    read_pointer_file,
)
from mei_pipeline.registry.records import as_dict
from mei_pipeline.settings import Settings

POINTER_ALERT = "promoted-file"
"""Key of the alert about a `promoted.yaml` that the lane can't follow."""


@dataclass(frozen=True)
class LaneFiles:
    """The files of a lane as they were read last.

    Attributes:
        lanes_folder: The folder of all lanes.
        lane: The lane.
        venue: Venue of the lane.
        offer: Config that the pointer named when it could be read last; None before.
        config: Path of a config that the pointer named and that could not be read; None otherwise.
        pointer_marks: Metadata of the pointer and of `config` when they were read; None before.
        pointer_problem: Reason why the lane does not follow its pointer; empty without one.
        holds: Files of holds: those of all lanes, then those of the lane.
        in_force: Holds of the last event.
    """

    lanes_folder: Path
    lane: str
    venue: str
    offer: ConfigOffered | None = None
    config: Path | None = None
    pointer_marks: tuple[Mark, Mark] | None = None
    pointer_problem: str = ""
    holds: tuple[HoldFile, ...] = ()
    in_force: Mapping[str, HoldState] = field(default_factory=dict)

    @cached_property
    def pointer(self) -> Path:
        """Path of the pointer; kept, because making it takes longer than looking at the file."""
        return pointer_path(self.lanes_folder, self.lane)


class Polled(NamedTuple):
    """The result of `poll`.

    Attributes:
        files: The files as they are now.
        events: Events for the core, in this order.
        alerts: Alerts about files that can't be followed; one per problem until the file is good again.
    """

    files: LaneFiles
    events: tuple[Event, ...] = ()
    alerts: tuple[Alert, ...] = ()


def read_lane_config(settings: Settings, lane: str) -> LaneConfig:
    """Read the configuration of a lane. No other file is read: an error in one must not stop a lane.

    Raises:
        ConfigError: The lane has no file in the configuration folder, or the file is invalid.
    """
    folder = settings.config / LANES
    known = sorted(path.stem for path in folder.glob("*.yaml") if not path.name.startswith("."))
    lane_folder(settings.lanes, lane)  # checks the name
    if lane not in known:
        raise ConfigError(
            f"lane {lane!r}: {folder} has no file of it; {closest(lane, known)}known: {', '.join(known) or 'none'}"
        )
    return read_yaml(folder / f"{lane}.yaml", LaneConfig)


def offered_config(settings: Settings, lane: str, lane_config: LaneConfig) -> ConfigOffered:
    """Return the config that the pointer of a lane names.

    Raises:
        Refused: No config is promoted to the lane, or it is for another venue than the lane.
        DataError: The pointer or the config is missing, damaged, or of another lane.
    """
    return _offer_of(settings.lanes, _read_pointer(settings.lanes, lane), lane_config.venue)


def watch_files(settings: Settings, lane: str, lane_config: LaneConfig, state: LaneState) -> LaneFiles:
    """Return the files of a lane as a recovered state knows them; the first `poll` reads all of them."""
    offer = state.waiting or (state.books[-1].config if state.books else None)
    holds = hold_files(settings.lanes, lane, state.holds)
    return LaneFiles(settings.lanes, lane, lane_config.venue, offer, holds=holds, in_force=dict(state.holds))


def poll(files: LaneFiles, clock_ms: int, now_ms: int | None = None) -> Polled:
    """Return the events and alerts of the files that changed since the last call.

    Args:
        files: The files as they were then.
        clock_ms: Clock of the lane, the start of the holds that it does not know yet.
        now_ms: Time on the clock of the machine, at which holds expire; None for now.
    """
    files, offered, told = _poll_pointer(files)
    files, changed, warned = poll_holds(files, clock_ms, now_ms)
    return Polled(files, offered + changed, told + warned)


def poll_holds(files: LaneFiles, clock_ms: int, now_ms: int | None = None) -> Polled:
    """As `poll`, for the holds alone: they apply at any time, a config only between two steps."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    read = [read_changes(file, clock_ms, now_ms) for file in files.holds]
    if all(now is before for (now, _), before in zip(read, files.holds, strict=True)) and not any(
        hold.expires_ms is not None and hold.expires_ms <= now_ms for hold in files.in_force.values()
    ):
        return Polled(files)
    in_force = {name: hold for file, _ in read for name, hold in file.in_force(now_ms).items()}
    events = () if in_force == files.in_force else (HoldsChanged(holds=in_force),)
    followed = replace(files, holds=tuple(file for file, _ in read), in_force=in_force)
    return Polled(followed, events, tuple(alert for _, alerts in read for alert in alerts))


def _poll_pointer(files: LaneFiles) -> Polled:
    path = files.pointer
    mark = mark_of(path)
    if (mark, files.config and mark_of(files.config)) == files.pointer_marks:
        return Polled(files)
    config: Path | None = None
    config_mark: Mark = None
    try:
        pointer = _read_pointer(files.lanes_folder, files.lane)
        offer = files.offer
        if offer is None or not _is_known(path, pointer, offer):
            config = config_path(files.lanes_folder, files.lane, pointer.config_id)
            config_mark = mark_of(config)
            offer = _offer_of(files.lanes_folder, pointer, files.venue)
    except MeiError as error:
        known = replace(files, config=config, pointer_marks=(mark, config_mark), pointer_problem=str(error))
        return Polled(known, (), () if files.pointer_problem else (Alert(POINTER_ALERT, "warning", str(error)),))
    good = replace(files, offer=offer, config=None, pointer_marks=(mark, None), pointer_problem="")
    return Polled(good, () if offer is files.offer else (offer,))


def _read_pointer(lanes_folder: Path, lane: str) -> PointerFile:
    pointer = read_pointer_file(lanes_folder, lane)
    if pointer is None:
        raise Refused(
            f"lane {lane}: no config is promoted to it; run `mei nightly`, or `mei registry promote ID --lane {lane}`"
        )
    return pointer


def _is_known(path: Path, pointer: PointerFile, offer: ConfigOffered) -> bool:
    """Return True if the lane has the generation of a pointer.

    Raises:
        Refused: The pointer has an older generation, or another content of the same generation.
    """
    if pointer.generation < offer.generation:
        raise Refused(
            f"{path}: generation {pointer.generation} is older than generation {offer.generation}, which the lane has; "
            "restore the newer registry"
        )
    if pointer.generation > offer.generation:
        return False
    for key in ("config_id", "state", "size_multiplier"):
        found, known = getattr(pointer, key), getattr(offer, key)
        if found != known:
            raise Refused(
                f"{path}: {key}: {found}, but the lane has {known} under the same generation {offer.generation}; "
                "the next hand-over writes the file again from the registry"
            )
    return True


def _offer_of(lanes_folder: Path, pointer: PointerFile, venue: str) -> ConfigOffered:
    """Return the config that a pointer names.

    Raises:
        Refused: It is for another venue than the lane.
        DataError: Its file is missing or damaged.
    """
    path = config_path(lanes_folder, pointer.lane, pointer.config_id)
    data = read_bytes(path)
    if data is None:
        raise DataError(f"{path}: missing; the next hand-over writes it again from the registry")
    resolved, anchor_ms = parse_anchored(path, data, pointer.config_id)
    if resolved.venue != venue:
        raise Refused(
            f"{path}: venue: {resolved.venue}, but lane {pointer.lane} is on {venue}; correct venue in its "
            f"configuration, or promote a config of {venue}"
        )
    return ConfigOffered(
        config_id=pointer.config_id,
        generation=pointer.generation,
        state=pointer.state,
        size_multiplier=pointer.size_multiplier,
        kernel_hash=pointer.provenance.kernel_hash,
        anchor_ms=anchor_ms,
        config=as_dict(resolved),
    )
