"""Files of holds, read as a lane follows them: `control.yaml` of the lane, and that of all lanes.

A file that can't be read, or that is gone while holds of it are in force, lifts nothing: the last good holds stay, and
a hold of the executor blocks entries until the file is good again.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from msgspec import structs

from mei_pipeline.errors import DataError
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.events import HoldState
from mei_pipeline.execution.reactions import OWNER
from mei_pipeline.registry.holds import ALL_LANES, Hold, control_path, parse_holds
from mei_pipeline.registry.lanes import read_bytes

CONTROL_HOLD = "control-file"
"""Name of the hold of a lane whose `control.yaml` can't be read, and key of its alert."""

Mark = tuple[int, int, int] | int | None
"""Metadata of a file: time of change, size and inode; an error number, or None for a missing file."""


@dataclass(frozen=True)
class HoldFile:
    """A file of holds as it was read last.

    Attributes:
        path: The file.
        lane: The lane; None for the file of all lanes.
        holds: Holds when they could be read last, by the names that the lane shows.
        mark: Metadata of the file when it was read.
        broken: Hold while the file can't be read; None while it can. Its reason is the error.
    """

    path: Path
    lane: str | None
    holds: Mapping[str, HoldState]
    mark: Mark | Literal["unread"] = "unread"
    broken: HoldState | None = None

    @property
    def prefix(self) -> str:
        """First part of the names of the holds of this file."""
        return ALL_LANES if self.lane is None else ""

    def in_force(self, now_ms: int) -> dict[str, HoldState]:
        """Return the holds at a time on the clock of the machine."""
        holds = {name: hold for name, hold in self.holds.items() if hold.expires_ms is None or hold.expires_ms > now_ms}
        return holds if self.broken is None else {**holds, self.prefix + CONTROL_HOLD: self.broken}


def hold_files(lanes_folder: Path, lane: str, known: Mapping[str, HoldState]) -> tuple[HoldFile, ...]:
    """Return the files of holds that a lane follows, which are not read yet: that of all lanes, then its own.

    Args:
        lanes_folder: The folder of all lanes.
        lane: The lane.
        known: Holds of a recovered lane.
    """
    files = []
    for owner in (None, lane):
        own = {name: hold for name, hold in known.items() if name.startswith(ALL_LANES) == (owner is None)}
        file = HoldFile(control_path(lanes_folder, owner), owner, own)
        broken = own.pop(file.prefix + CONTROL_HOLD, None)
        files.append(replace(file, broken=broken))
    return tuple(files)


def read_changes(file: HoldFile, clock_ms: int, now_ms: int) -> tuple[HoldFile, tuple[Alert, ...]]:
    """Read a file of holds if it has changed; return the same object if it has not.

    Args:
        file: The file as it was read last.
        clock_ms: Clock of the lane, the start of the holds that it does not know yet.
        now_ms: Time on the clock of the machine.

    Returns:
        The file, and an alert if it can't be read any more.
    """
    mark = mark_of(file.path)
    if mark == file.mark:
        return file, ()
    try:
        holds = _read(file, clock_ms, now_ms)
    except DataError as error:
        broken = file.broken or HoldState(owner=OWNER, effect="close_only", reason=str(error), since_ms=clock_ms)
        # A problem that the journal knows from an earlier start of the lane is told again.
        told = file.broken is not None and file.mark != "unread"
        alerts = () if told else (Alert(file.prefix + CONTROL_HOLD, "critical", str(error)),)
        return replace(file, mark=mark, broken=broken), alerts
    return replace(file, mark=mark, holds=holds, broken=None), ()


def _read(file: HoldFile, clock_ms: int, now_ms: int) -> dict[str, HoldState]:
    """Return the holds in a file.

    Raises:
        DataError: The file can't be read, or it is gone although holds, or a problem with it, were in force.
    """
    data = read_bytes(file.path)
    if data is not None:
        holds = {file.prefix + name: hold for name, hold in parse_holds(file.path, data, file.lane).items()}
        return {name: _state_of(hold, file.holds.get(name), clock_ms) for name, hold in holds.items()}
    if in_force := file.in_force(now_ms):
        again = f"mei lane set {file.lane} --hold NAME EFFECT" if file.lane else "mei lane halt --all"
        raise DataError(
            f"{file.path}: missing, although holds are in force: {', '.join(in_force)}; restore it, or set the holds "
            f"again with `{again}`; `mei lane resume` then lifts them"
        )
    return {}


def _state_of(hold: Hold, known: HoldState | None, clock_ms: int) -> HoldState:
    """Return a hold on the lane's clock: the file has the time of the machine, which a replay is far away from."""
    state = HoldState(
        owner=hold.owner,
        effect=hold.effect,
        reason=hold.reason,
        since_ms=clock_ms if known is None else known.since_ms,
        symbol=hold.symbol or "",
        expires_ms=hold.expires_ms,
    )
    return state if state == known else structs.replace(state, since_ms=clock_ms)


def mark_of(path: Path) -> Mark:
    """Return the metadata of a file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - faster
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.errno or 0
    return found.st_mtime_ns, found.st_size, found.st_ino
