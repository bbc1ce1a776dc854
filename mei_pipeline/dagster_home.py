"""DAGSTER_HOME: the folder where Dagster keeps its runs, and the dagster.yaml that MEI writes into it.

Plain Python: nothing here imports dagster.
"""

import hashlib
import os
from pathlib import Path

from mei_pipeline.errors import DataError
from mei_pipeline.files import write_bytes

MAX_CONCURRENT_RUNS = 4  # a night, an ingest and a hand-over may overlap; pools keep the heavy steps apart
_SEAL = "# Made by mei, sha256 of the lines below: "

_TEMPLATE = """\
# Edit freely: a file whose lines do not match the seal above is the operator's, and mei leaves it alone.
# Delete it to have it made again.
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
  retry_on_asset_or_op_failure: false  # only a run whose process died is tried again; a failed step is looked at
retention:
  schedule:
    purge_after_days: {ticks_days}
  sensor:
    purge_after_days: {ticks_days}
"""


def make(folder: Path, *, ticks_days: int, max_concurrent_runs: int = MAX_CONCURRENT_RUNS) -> bool:
    """Make `folder` a DAGSTER_HOME; doing it again changes nothing unless the values differ.

    Args:
        folder: The DAGSTER_HOME; absolute.
        ticks_days: Days after which ticks of schedules and sensors are forgotten.
        max_concurrent_runs: How many runs may be in progress at once.

    Returns:
        Whether dagster.yaml holds what was asked for; False where an operator has edited it, and it was left alone.

    Raises:
        DataError: The folder can't be written.
    """
    path = folder / "dagster.yaml"
    lines = _TEMPLATE.format(ticks_days=ticks_days, max_concurrent_runs=max_concurrent_runs).encode()
    wanted = f"{_SEAL}{hashlib.sha256(lines).hexdigest()}\n".encode() + lines
    present = _read(path)
    if present == wanted:
        return True
    if present is not None and not _is_sealed(present):
        return False
    write_bytes(path, wanted)
    return True


def enter(folder: Path, path: Path) -> None:
    """Make `folder` the DAGSTER_HOME of this process and of those it starts.

    Dagster looks for its configuration, and for its databases, by a pattern made of the path of its home. If that path
    holds `[` or `*`, it finds neither, and turns on what the configuration turns off. Such a folder has a link.

    Args:
        folder: The folder; absolute.
        path: What Dagster is told: the folder, or the path of a link to it, which is made.

    Raises:
        DataError: The link can't be made.
    """
    if path != folder:
        _link(path, folder)
    os.environ["DAGSTER_HOME"] = str(path)


def _link(path: Path, folder: Path) -> None:
    try:
        if path.is_symlink() and path.readlink() == folder:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{path.name}.{os.getpid()}")
        made.unlink(missing_ok=True)
        made.symlink_to(folder, target_is_directory=True)
        made.replace(path)
    except OSError as error:
        text = f"{path}: can't be made a link to {folder}: {error.strerror}"
        raise DataError(f"{text}; set MEI_CACHE to a folder that this user may write") from error


def is_edited(folder: Path) -> bool:
    """Whether `folder` has a dagster.yaml that mei did not write as it is.

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
        raise DataError(f"{path}: can't be read: {error.strerror}; make it readable for this user") from error


def _is_sealed(text: bytes) -> bool:
    first, _, lines = text.partition(b"\n")
    return first == f"{_SEAL}{hashlib.sha256(lines).hexdigest()}".encode()
