"""Worker of a cluster: runs launches of a sweep from published inputs and writes one file per chunk.

A worker process keeps loaded inputs and compiled kernels between two launches of the same sweep.
"""

import functools
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from kernels.cache import source_hash
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.settings import read_settings
from mei_pipeline.simulation.device import choose_device
from mei_pipeline.storage import Store, open_store
from mei_pipeline.sweep.combo_runner import ComboRunner
from mei_pipeline.sweep.inputs import read_inputs
from mei_pipeline.sweep.launches import Launch, LocalRunner
from mei_pipeline.sweep.results import chunk_name

_OLD_S = 24 * 3600.0  # age at which a worker deletes fetched inputs of another sweep


@dataclass(frozen=True)
class WorkerJob:
    """Everything a worker needs to run chunks of a sweep.

    Attributes:
        folder: Folder of the sweep; the worker shares it unless there is a bucket.
        bucket: URL of the bucket of results; empty without one.
        inputs: Hash of the note that lists the published inputs.
        kernels: Hash of the kernel sources.
        threads: Threads of a task.
        gpus: GPUs of a task.
    """

    folder: str
    bucket: str
    inputs: str
    kernels: str
    threads: int
    gpus: float


def ready(job: WorkerJob) -> str:
    """Fetch the inputs and compile the kernels on a node; return the name of its device."""
    return _kept_for(job).local.combo_runner.choice.name


def work(job: WorkerJob, launch: Launch) -> None:
    """Run the chunks of a launch that have no result yet.

    An earlier attempt may have written some of them before its worker died.
    """
    kept = _kept_for(job)
    names = {chunk.index: chunk_name(kept.local.combo_runner.plan, chunk.index) for chunk in launch}
    remaining = [chunk for chunk in launch if not kept.store.held(names[chunk.index])]
    if not remaining:
        return
    for future, indices in kept.local.submit(remaining).items():
        future.result()
        for name in (names[index] for index in indices if kept.store.bucket):
            kept.store.push(name)
            (kept.store.folder / name).unlink()  # the bucket has the file, and a worker keeps no results


@dataclass(frozen=True)
class _Kept:
    """State that a worker process keeps between two launches."""

    local: LocalRunner
    store: Store


@functools.lru_cache(maxsize=1)  # a second sweep would double the memory of a worker
def _kept_for(job: WorkerJob) -> _Kept:
    host = socket.gethostname()
    if source_hash() != job.kernels:
        raise ConfigError(
            f"worker {host}: its kernels differ from those of the driver; "
            f"install the same version of MEI, numba and numpy there"
        )
    settings = read_settings()
    folder = Path(job.folder)
    if job.bucket:
        folder = settings.cache / "inputs" / folder.name
        _forget_others(folder)
    store = open_store(folder, job.bucket)
    try:
        inputs = read_inputs(store, job.inputs)
    except DataError as error:
        raise DataError(f"worker {host}: {error}") from None
    try:
        choice = choose_device(settings, "cuda" if job.gpus else "cpu", inputs.plan.strategy)
    except ConfigError as error:
        raise ConfigError(f"worker {host}: {error}; or set compute.gpus_per_task to 0") from None
    combo_runner = ComboRunner(settings, inputs.plan, inputs.window, inputs.features, choice, job.threads)
    runner = LocalRunner(combo_runner, folder).__enter__()
    runner.prepare()
    return _Kept(runner, store)


def _forget_others(folder: Path) -> None:
    """Delete inputs of other sweeps that are older than a day; a process that still maps them is not affected."""
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder and time.time() - other.stat().st_mtime > _OLD_S:
            shutil.rmtree(other, ignore_errors=True)
