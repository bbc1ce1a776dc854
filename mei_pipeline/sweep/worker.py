"""Work of a node of a cluster for a sweep: launches of chunks from published inputs, one file for each chunk.

A worker process keeps what it read and compiled between two chunks of the same sweep.
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
from mei_pipeline.sweep.inputs import read
from mei_pipeline.sweep.launches import Launch, Local
from mei_pipeline.sweep.results import chunk_name
from mei_pipeline.sweep.simulator import Simulator

_OLD_S = 24 * 3600.0  # after which fetched inputs of another sweep are forgotten


@dataclass(frozen=True)
class Job:
    """What a worker must be told to do chunks of a sweep.

    Attributes:
        folder: Folder of the sweep; on the worker only where there is no bucket.
        bucket: Address of all results; empty where they are kept in the folder.
        inputs: Hash of the note of the inputs.
        kernels: Hash of the rules.
        threads: Threads of a task.
        gpus: GPUs of a task.
    """

    folder: str
    bucket: str
    inputs: str
    kernels: str
    threads: int
    gpus: float


def ready(job: Job) -> str:
    """Fetch the inputs and compile, on a node that is about to work; gives what it runs combos on."""
    return _bench(job).local.simulator.choice.name


def work(job: Job, launch: Launch) -> None:
    """Do the chunks of a launch, but for those that an earlier try had done before it could say so."""
    bench = _bench(job)
    names = {chunk.index: chunk_name(bench.local.simulator.plan, chunk.index) for chunk in launch}
    left = [chunk for chunk in launch if not bench.store.held(names[chunk.index])]
    if not left:
        return
    for future, indices in bench.local.submit(left).items():
        future.result()
        for name in (names[index] for index in indices if bench.store.bucket):
            bench.store.push(name)
            (bench.store.folder / name).unlink()


@dataclass(frozen=True)
class _Bench:
    """What a worker process keeps between two chunks."""

    local: Local
    store: Store


@functools.lru_cache(maxsize=1)
def _bench(job: Job) -> _Bench:
    host = socket.gethostname()
    if source_hash() != job.kernels:
        raise ConfigError(f"worker {host} has other kernels; install the same version of MEI, numba and numpy there")
    settings = read_settings()
    folder = Path(job.folder)
    if job.bucket:
        folder = settings.cache / "inputs" / folder.name
        _forget_others(folder)
    store = open_store(folder, job.bucket)
    try:
        inputs = read(store, job.inputs)
    except DataError as error:
        raise DataError(f"worker {host}: {error}") from None
    try:
        choice = choose_device(settings, "cuda" if job.gpus else "cpu", inputs.plan.strategy)
    except ConfigError as error:
        raise ConfigError(f"worker {host}: {error}; or set engine.gpus_per_task to 0") from None
    simulator = Simulator(settings, inputs.plan, inputs.window, inputs.features, choice, job.threads)
    local = Local(simulator, folder).__enter__()
    local.prepare()
    return _Bench(local, store)


def _forget_others(folder: Path) -> None:
    """Remove what was fetched for sweeps of other days; a process that still maps it keeps it until it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder and time.time() - other.stat().st_mtime > _OLD_S:
            shutil.rmtree(other, ignore_errors=True)
