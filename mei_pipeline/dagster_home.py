"""DAGSTER_HOME: the folder where Dagster keeps its runs, and the dagster.yaml that MEI writes into it.

Plain Python: nothing here imports dagster.
"""

import hashlib
import os
from pathlib import Path

from mei_pipeline.errors import DataError
from mei_pipeline.files import write_bytes

MAX_CONCURRENT_RUNS = 4  # a nightly run, an ingest and a hand-over may overlap; pools separate the heavy steps
_SEAL = "# Made by mei, sha256 of the lines below: "

_TEMPLATE = """\
# You may edit this file: mei does not change a file whose lines do not match the hash above.
# Delete it, and mei writes it again.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    default_limit: 1  # one step at a time in each pool, so one at a time on the GPU
    granularity: op
  runs:
    max_concurrent_runs: {max_concurrent_runs}
run_monitoring:
  enabled: true  # a run whose process died is closed, and its pool slots are freed
  start_timeout_seconds: 180
  free_slots_after_run_end_seconds: 300
run_retries:
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false  # only a run whose process died is retried; a failed step needs a person
retention:
  schedule:
    purge_after_days: {ticks_days}
  sensor:
    purge_after_days: {ticks_days}
"""


def make(folder: Path, *, ticks_days: int, max_concurrent_runs: int = MAX_CONCURRENT_RUNS) -> bool:
    """Write dagster.yaml into `folder`, unless it has these values already or an operator edited it.

    Args:
        folder: The DAGSTER_HOME; absolute.
        ticks_days: Days after which Dagster deletes ticks of schedules and sensors.
        max_concurrent_runs: Most runs in progress at the same time.

    Returns:
        True if dagster.yaml has these values; False if an operator edited it, and it was not changed.

    Raises:
        DataError: The folder can't be written.
    """
    path = folder / "dagster.yaml"
    lines = _TEMPLATE.format(ticks_days=ticks_days, max_concurrent_runs=max_concurrent_runs).encode()
    expected = f"{_SEAL}{hashlib.sha256(lines).hexdigest()}\n".encode() + lines
    present = _read(path)
    if present == expected:
        return True
    if present is not None and not _is_sealed(present):
        return False
    write_bytes(path, expected)
    return True


def enter(folder: Path, path: Path) -> None:
    """Make `folder` the DAGSTER_HOME of this process and of the processes that it starts.

    Dagster uses the path of its home as a glob pattern to find its configuration and databases. A path with `[` or `*`
    matches nothing, and Dagster then runs with its defaults, telemetry included. Such a folder needs a link.

    Args:
        folder: The folder; absolute.
        path: Path for Dagster: the folder itself, or the path at which a link to it is created.

    Raises:
        DataError: The link can't be created.
    """
    if path != folder:
        _link(path, folder)
    os.environ["DAGSTER_HOME"] = str(path)


def _link(path: Path, folder: Path) -> None:
    try:
        if path.is_symlink() and path.readlink() == folder:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # A link is created beside the path and renamed, so that another process never finds the path missing.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder, target_is_directory=True)
        temporary.replace(path)
    except OSError as error:
        text = f"{path}: link to {folder} not created: {error.strerror}"
        raise DataError(f"{text}; set MEI_CACHE to a folder that this user may write") from error


def is_edited(folder: Path) -> bool:
    """Return True if `folder` has a dagster.yaml that an operator edited.

    Raises:
        DataError: The file can't be read.
    """
    present = _read(folder / "dagster.yaml")
    return present is not None and not _is_sealed(present)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: unreadable: {error.strerror}; make it readable for this user") from error


def _is_sealed(text: bytes) -> bool:
    first, _, lines = text.partition(b"\n")
    return first == f"{_SEAL}{hashlib.sha256(lines).hexdigest()}".encode()
