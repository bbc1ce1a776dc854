"""Wait until running lanes have followed what a command wrote for them."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output

if TYPE_CHECKING:
    from mei_pipeline.registry.holds import Hold
    from mei_pipeline.settings import Settings

TIMEOUT = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=15.0,
    show_default=True,
    help="Longest wait for a running lane, in seconds.",
)
POLL_S = 0.1


def is_running(settings: "Settings", lane: str) -> bool:
    """Return True if a process of this machine runs the lane: its status alone outlives it."""
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.files import lock_holder
    from mei_pipeline.registry.lanes import LOCK_NAME, lane_folder

    try:
        return bool(lock_holder(lane_folder(settings.lanes, lane) / LOCK_NAME))
    except ConfigError:  # the name of a file that no lane can have
        return False


def wait_for_holds(
    settings: "Settings", lane: str | None, changes: "Mapping[str, Hold | None]", timeout_s: float
) -> dict[str, str]:
    """Wait until every lane that runs reports a change of holds in its status.

    Args:
        settings: Settings of the home.
        lane: The lane; None for all lanes.
        changes: Holds by the names that a lane shows; None for one that was lifted.
        timeout_s: Longest wait, in seconds.

    Returns:
        For each lane: `followed`, `stopped` if no process runs it, or `unknown` if it has not followed in time.
    """
    folder = settings.lanes
    found = sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    lanes = [lane] if lane is not None else found
    deadline_s = time.monotonic() + timeout_s
    told = False
    try:
        while True:
            outcome = {each: _follows(settings, each, changes) for each in lanes}
            if "unknown" not in outcome.values() or time.monotonic() >= deadline_s:
                return outcome
            if not told:
                output.note("waiting for the lane to follow")
            told = True
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        output.note("the change is in the file, and stays; a running lane follows it when it next looks")
        raise


def _follows(settings: "Settings", lane: str, changes: "Mapping[str, Hold | None]") -> str:
    from mei_pipeline.errors import DataError
    from mei_pipeline.registry.lanes import read_status

    if not is_running(settings, lane):
        return "stopped"
    try:
        status = read_status(settings.lanes, lane)
    except DataError:
        return "unknown"
    if status is None:
        return "unknown"
    reported = {name: hold.model_dump() for name, hold in status.holds.items()}
    return "followed" if all(_agrees(reported.get(name), hold) for name, hold in changes.items()) else "unknown"


def _agrees(reported: Mapping[str, Any] | None, hold: "Hold | None") -> bool:
    if hold is None or reported is None:
        return hold is None and reported is None
    wanted = hold.model_dump()
    return all(wanted[key] == value for key, value in reported.items())
