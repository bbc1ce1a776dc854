"""Write the files of a lane's folder as the registry defines them."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mei_pipeline.errors import DataError, Fatal
from mei_pipeline.files import locked, replacing
from mei_pipeline.registry.config_file import config_bytes, parse_config
from mei_pipeline.registry.lanes import (
    RenderedFiles,
    config_path,
    lane_files,
    lane_folder,
    parse_pointer,
    pointer_path,
    read_bytes,
    read_pointer_file,
)
from mei_pipeline.registry.records import Evidence, StoredConfig, Verdict

if TYPE_CHECKING:
    from mei_pipeline.registry.database import Registry

RENDER_WAIT_S = 10.0
"""Longest wait for another process that renders the same lane, in seconds."""

FaultHook = Callable[[str], None]
"""Called with the name of each completed step; tests end the process there."""


def no_fault(_step: str) -> None:
    """Continue after a step."""


def render(
    registry: "Registry",
    lanes_folder: Path,
    lane: str,
    *,
    fault_hook: FaultHook = no_fault,
    wait_s: float = RENDER_WAIT_S,
) -> tuple[Path, ...]:
    """Write a lane's files as the registry defines them, and return the paths that changed.

    Nothing is written for a lane that never held a config. Rendering again after a crash repairs the files.

    Args:
        registry: The registry.
        lanes_folder: The folder of all lanes.
        lane: The lane.
        fault_hook: Called after each step.
        wait_s: Longest wait for another process that renders this lane, in seconds.

    Raises:
        Fatal: The pointer file has a later generation than the registry, which was restored from an older backup.
        DataError: A file could not be written; the previous file is intact.
        Busy: Another process renders this lane.
    """
    with _lane_lock(lanes_folder, lane, wait_s):
        # Read under the lock: two processes then can't write an older state over a newer one.
        expected = lane_files(registry, lane)
        if expected is None:
            return ()
        _refuse_older(registry, lanes_folder, expected)
        path = config_path(lanes_folder, lane, expected.pointer.config_id)
        written = write_checked(path, expected.config_data, parse_config)
        fault_hook("config rendered")
        # The pointer comes last: it never names a config whose file is missing.
        return written + write_checked(pointer_path(lanes_folder, lane), expected.pointer_data, parse_pointer)


def store_config(
    lanes_folder: Path, lane: str, config: StoredConfig, evidence: Evidence, verdict: Verdict
) -> tuple[Path, ...]:
    """Write a config's file into a lane's folder, and return the path if the file was new.

    Raises:
        DataError: The file could not be written; the previous file is intact.
        Busy: Another process renders this lane.
    """
    with _lane_lock(lanes_folder, lane, RENDER_WAIT_S):
        path = config_path(lanes_folder, lane, config.config_id)
        return write_checked(path, config_bytes(config, evidence, verdict), parse_config)


def _refuse_older(registry: "Registry", lanes_folder: Path, expected: RenderedFiles) -> None:
    lane = expected.pointer.lane
    try:
        file = read_pointer_file(lanes_folder, lane)
    except DataError:
        return  # A damaged file has no generation, and is replaced now.
    if file is not None and file.generation > expected.pointer.generation:
        raise Fatal(
            f"{pointer_path(lanes_folder, lane)}: has generation {file.generation}, the registry {registry.url} has"
            f" {expected.pointer.generation}; restore the newer registry, or delete the file to accept this one"
        )


def write_checked(path: Path, data: bytes, parse: Callable[[Path, bytes], object]) -> tuple[Path, ...]:
    """Write a file unless it has these bytes; the new file is read back and parsed before it replaces the old one."""
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
        raise DataError(f"{folder}: not created: {error.strerror}; make it writable for this user") from error
    with locked(folder / ".render.lock", f"rendering lane {lane}", wait_s=wait_s):
        yield
