"""Chunks of a sweep on a Ray cluster that is already there, and the choice between it and this machine.

A task is a chunk, or on GPUs as many chunks as fill one. It needs nothing of the machine that it runs on but this
version of MEI: what it reads, `inputs` has published, and the rows of a chunk are a file of their own, whole or absent,
before the task is done. So a task can be done again anywhere, and a sweep whose driver died goes on from the files
alone.
"""

import importlib
import logging
import math
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from mei_pipeline.config.models import Compute
from mei_pipeline.errors import Busy, ConfigError, DataError, MeiError, Retryable
from mei_pipeline.settings import Settings
from mei_pipeline.storage import Store
from mei_pipeline.sweep.inputs import Inputs, publish
from mei_pipeline.sweep.launches import Launch, Local
from mei_pipeline.sweep.results import chunk_done, chunk_name
from mei_pipeline.sweep.simulator import FILLS, Simulator
from mei_pipeline.sweep.worker import Job, ready, work

_NAMESPACE = "mei"
_ANSWER_S = 5.0  # for a connection to the head
_CLAIM_S = 10.0  # until the cluster has noticed that an earlier driver died
_READY_S = 900.0  # to fetch inputs and compile on a node
_SEEN_S = 90.0  # longer than a network file system keeps on saying that a file is absent
_TRIES = 5  # of a chunk whose worker or node died


def runner_for(compute: Compute, simulator: Simulator, store: Store) -> "Local | Cluster":
    """Return the runner of a plan, as `compute` of pipeline.yaml says.

    Args:
        compute: `compute` of pipeline.yaml.
        simulator: Plan and data, and what runs combos on this machine; the nodes of a cluster choose for themselves and
            have `compute.cpus_per_task` threads.
        store: Where the files of this sweep are.
    """
    if compute.backend == "local":
        return Local(simulator, store.folder)
    inputs = Inputs(simulator.plan, simulator.window, simulator.features)
    return Cluster(compute, simulator.settings, inputs, store)


@dataclass
class Cluster:
    """Chunks as tasks of a Ray cluster; see `chunks.Runner`."""

    config: Compute
    settings: Settings
    inputs: Inputs
    store: Store
    engine: str = "ray"
    ahead: int = 1
    at_once: int = 0
    _tasks: set[Any] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._pool: ThreadPoolExecutor | None = None
        self._connected = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool:
            for task in list(self._tasks):
                self._ray.cancel(task, force=True)
            self._pool.shutdown(cancel_futures=True)
        if self._connected:
            self._ray.shutdown()

    def prepare(self) -> None:
        """Connect, publish the inputs, and have every node compile and answer.

        Raises:
            ConfigError: Ray is not installed, is another version there, no node can run a task, or a node has another
                version of MEI.
            DataError: A node does not see the results.
            Retryable: The cluster does not answer, or another driver runs this sweep on it.
        """
        ray = self._ray = _ray()
        self._connected = _connect(ray, self.config.address)
        nodes = slots_of(ray.nodes(), self.config)
        plan = self.inputs.plan
        self._claim = _claim(ray, plan.id)
        job = self._job = Job(
            folder=str(self.store.folder),
            bucket=self.settings.sweeps_bucket,
            inputs=publish(self.store, self.inputs),
            kernels=plan.kernels,
            threads=self.config.cpus_per_task,
            gpus=self.config.gpus_per_task,
        )
        kinds = self._ready(job, nodes)
        slots = sum(nodes[node] for node in kinds)
        on = " and ".join(sorted(set(kinds.values())))
        self.ahead = self.config.chunks_ahead or 2 * slots
        if self.config.gpus_per_task:  # every task gets its share, none more than fills a GPU or than one batch
            self.at_once = min(FILLS, plan.batch, -(-plan.combos // self.ahead))
        self.engine = f"ray: {_counted(len(kinds), 'node')}, {_counted(slots, 'task')} at a time, on {on}"
        self._work = ray.remote(work).options(
            num_cpus=self.config.cpus_per_task, num_gpus=self.config.gpus_per_task, max_retries=_TRIES
        )
        self._pool = ThreadPoolExecutor(self.ahead)

    def submit(self, launch: Launch) -> Mapping[Future[None], Sequence[int]]:
        """Do a launch as one task on some node."""
        if self._pool is None:
            raise RuntimeError("prepare comes first")
        return {self._pool.submit(self._task, launch): [chunk.index for chunk in launch]}

    def _ready(self, job: Job, nodes: Mapping[str, int]) -> dict[str, str]:
        """Have every node show that it can work; gives what each runs combos on.

        A node that has just died may still be listed: it is left out, as one that dies later is.
        """
        ray = self._ray
        at = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        ask = ray.remote(ready)
        asked = {
            node: ask.options(num_cpus=0, num_gpus=job.gpus, scheduling_strategy=at(node, soft=False)).remote(job)
            for node in nodes
        }
        found = {}
        for node, answer in asked.items():
            with _explained(ray, f"node {node}"):
                try:
                    found[node] = str(ray.get(answer, timeout=_READY_S))
                except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
                    continue
        if not found:
            raise Retryable("compute: every node of the cluster died while it got ready; look at it, and try again")
        return found

    def _task(self, launch: Launch) -> None:
        task = self._work.remote(self._job, launch)
        self._tasks.add(task)
        try:
            with _explained(self._ray, f"chunk {launch[0].index}"):
                self._ray.get(task)
        finally:
            self._tasks.discard(task)
        plan, folder = self.inputs.plan, self.store.folder
        give_up_s = time.monotonic() + _SEEN_S
        for index in (chunk.index for chunk in launch):
            self.store.pull(chunk_name(plan, index))
            while not chunk_done(folder, plan, index):
                if time.monotonic() > give_up_s:
                    path = folder / chunk_name(plan, index)
                    raise DataError(f"{path}: a worker wrote it, but it is not here; is the folder of results shared?")
                time.sleep(1.0)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ConfigError("compute.backend: ray is not installed here; install the extra `cluster` of mei") from None


def _connect(ray: Any, address: str) -> bool:
    """Join the cluster; False where this process has joined one before, which then stays joined."""
    if ray.is_initialized():
        return False
    _refuse_silence(address)
    try:
        ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, SystemExit) as error:  # Ray ends the process that finds no head
        raise Retryable(f"compute.address: no Ray cluster at {address}: {_first_line(error)}") from None
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"compute.address: {address}: {_first_line(error)}") from None
    return True


def _refuse_silence(address: str) -> None:
    """Raise unless something listens there: Ray itself would try for two minutes."""
    if address == "auto":
        return
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_S):
            pass
    except (OSError, ValueError) as error:
        raise Retryable(
            f"compute.address: no Ray cluster at {address}: {error}; start it with `ray start --head`, or correct the "
            f"address"
        ) from None


def slots_of(nodes: list[Mapping[str, Any]], config: Compute) -> dict[str, int]:
    """Nodes that can run a task, and how many at a time."""
    found: dict[str, int] = {}
    seen: list[str] = []
    for node in nodes:
        if not node["Alive"]:
            continue
        cpus, gpus = (float(node["Resources"].get(name, 0.0)) for name in ("CPU", "GPU"))
        seen.append(f"{node['NodeManagerHostname']}: {cpus:g} CPU, {gpus:g} GPU")
        slots = cpus // config.cpus_per_task
        if config.gpus_per_task:
            slots = min(slots, math.floor(gpus / config.gpus_per_task + 1e-9))
        if slots:
            found[str(node["NodeID"])] = int(slots)
    if not found:
        raise ConfigError(
            f"compute: no node has {config.cpus_per_task} CPU and {config.gpus_per_task:g} GPU, as cpus_per_task and "
            f"gpus_per_task ask for; the cluster has {'; '.join(seen) or 'none'}"
        )
    return found


class _Claim:
    """An actor that stands for a sweep: its name can be taken once, and it ends with its driver."""


def _claim(ray: Any, sweep: str) -> Any:
    """Hold the sweep's name on this cluster for as long as this process lives.

    Raises:
        Busy: Another driver holds it.
    """
    make = ray.remote(_Claim).options(name=f"sweep {sweep}", num_cpus=0, max_restarts=-1)
    give_up_s = time.monotonic() + _CLAIM_S
    while True:
        try:
            return make.remote()
        except ValueError:
            if time.monotonic() > give_up_s:
                raise Busy(f"sweep {sweep[:16]} is running on this cluster, from another process or machine") from None
            time.sleep(0.5)


@contextmanager
def _explained(ray: Any, what: str) -> Generator[None]:
    """Raise what a task raised as MEI's own error, and the death of workers as one that may not come again."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MeiError):
            raise error.cause from None
        if isinstance(error.cause, ImportError):
            raise ConfigError(f"a worker can't run MEI: {error.cause}; install the same version there") from None
        raise
    except ray.exceptions.GetTimeoutError:
        raise Retryable(f"{what} did not answer in {_READY_S:.0f} s; is the cluster taken?") from None
    except ray.exceptions.RayError as error:
        raise Retryable(f"{what} failed on the cluster: {_first_line(error)}; run the sweep again") from error


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
