"""Writing what the registry says into a lane's folder."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from mei_pipeline.errors import DataError, Fatal
from mei_pipeline.files import locked, replacing
from mei_pipeline.registry.config_file import config_bytes, parse_config
from mei_pipeline.registry.database import Registry
from mei_pipeline.registry.lanes import (
    LaneFiles,
    config_path,
    lane_files,
    lane_folder,
    parse_pointer,
    pointer_path,
    read_bytes,
    read_pointer_file,
)
from mei_pipeline.registry.records import Evidence, StoredConfig, Verdict

RENDER_WAIT_S = 10.0
"""How long a rendering waits for another one of the same lane."""

FaultHook = Callable[[str], None]
"""Called with the name of each step that is done; a test ends the process there."""


def no_fault(_step: str) -> None:
    """Go on after a step."""


def render(
    registry: Registry,
    lanes_folder: Path,
    lane: str,
    *,
    fault_hook: FaultHook = no_fault,
    wait_s: float = RENDER_WAIT_S,
) -> tuple[Path, ...]:
    """Make a lane's files what the registry says, and return those that were written.

    A lane that never held a config is left alone.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: The lane.
        fault_hook: Called after each step.
        wait_s: How long to wait for another rendering of this lane, in seconds.

    Raises:
        Fatal: The lane's file is of a later generation than the registry: it was restored from an older backup.
        DataError: A file could not be written; the previous one is intact.
        Busy: Another process renders this lane.
    """
    with _lane_lock(lanes_folder, lane, wait_s):
        # Read under the lock: what is written last is then never older than what is there.
        expected = lane_files(registry, lane)
        if expected is None:
            return ()
        _refuse_older(registry, lanes_folder, expected)
        path = config_path(lanes_folder, lane, expected.pointer.config_id)
        written = write_checked(path, expected.config_data, parse_config)
        fault_hook("config rendered")
        return written + write_checked(pointer_path(lanes_folder, lane), expected.pointer_data, parse_pointer)


def store_config(
    lanes_folder: Path, lane: str, config: StoredConfig, evidence: Evidence, verdict: Verdict
) -> tuple[Path, ...]:
    """Write a config's file into a lane's folder, and return the path if it was not there.

    Raises:
        DataError: The file could not be written; the previous one is intact.
        Busy: Another process renders this lane.
    """
    with _lane_lock(lanes_folder, lane, RENDER_WAIT_S):
        path = config_path(lanes_folder, lane, config.config_id)
        return write_checked(path, config_bytes(config, evidence, verdict), parse_config)


def _refuse_older(registry: Registry, lanes_folder: Path, expected: LaneFiles) -> None:
    lane = expected.pointer.lane
    try:
        file = read_pointer_file(lanes_folder, lane)
    except DataError:
        return  # A damaged file says nothing, and is about to be replaced.
    if file is not None and file.generation > expected.pointer.generation:
        raise Fatal(
            f"{pointer_path(lanes_folder, lane)}: is of generation {file.generation}, {registry.url} is only at"
            f" {expected.pointer.generation}; restore the newer registry, or delete the file to accept this one"
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
def _lane_lock(lanes_folder: Path, lane: str, wait_s: float) -> Generator[None]:
    folder = lane_folder(lanes_folder, lane)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: not made: {error.strerror}; make it writable for this user") from error
    with locked(folder / ".render.lock", f"rendering lane {lane}", wait_s=wait_s):
        yield
