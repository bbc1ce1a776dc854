"""Run chunks of a sweep as tasks of an existing Ray cluster.

A task runs one chunk, or on GPUs as many chunks as fill a GPU. It needs this version of MEI and the published inputs of
the sweep. The result file of a chunk is complete before its task is done. So any worker can repeat a task, and a sweep
resumes from its files alone after the driver died.
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
from mei_pipeline.sweep.combo_runner import GPU_COMBOS, ComboRunner
from mei_pipeline.sweep.inputs import SweepInputs, publish_inputs
from mei_pipeline.sweep.launches import Launch, LocalRunner
from mei_pipeline.sweep.results import chunk_done, chunk_name
from mei_pipeline.sweep.worker import WorkerJob, ready, work

_NAMESPACE = "mei"
_ANSWER_S = 5.0  # timeout of a connection to the head
_CLAIM_S = 10.0  # time that the cluster may take to notice that an earlier driver died
_READY_S = 900.0  # time that a node may take to fetch inputs and compile
_SEEN_S = 90.0  # longer than a network file system caches that a file is absent
_TRIES = 5  # retries of a task whose worker or node died


def make_runner(compute: Compute, combo_runner: ComboRunner, store: Store) -> "LocalRunner | RayRunner":
    """Return the runner that section `compute` of pipeline.yaml configures.

    Args:
        compute: Section `compute` of pipeline.yaml.
        combo_runner: Plan, data and device of this machine. Nodes of a cluster choose their own device and use
            `compute.cpus_per_task` threads.
        store: Store of the files of this sweep.
    """
    if compute.backend == "local":
        return LocalRunner(combo_runner, store.folder)
    inputs = SweepInputs(combo_runner.plan, combo_runner.window, combo_runner.features)
    return RayRunner(compute, combo_runner.settings, inputs, store)


@dataclass
class RayRunner:
    """Runs launches as tasks of a Ray cluster; see `launches.Runner`."""

    config: Compute
    settings: Settings
    inputs: SweepInputs
    store: Store
    device: str = "ray"
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
        """Connect, publish the inputs, and make every node compile.

        Raises:
            ConfigError: Ray is not installed, the cluster has another version, no node can run a task, or a node has
                another version of MEI.
            DataError: A node can't read the folder of results.
            Retryable: The cluster does not answer.
        """
        ray = self._ray = _ray()
        self._connected = _connect(ray, self.config.address)
        nodes = task_counts(ray.nodes(), self.config)
        plan = self.inputs.plan
        self._claim = _claim(ray, plan.id)
        job = self._job = WorkerJob(
            folder=str(self.store.folder),
            bucket=self.settings.sweeps_bucket,
            inputs=publish_inputs(self.store, self.inputs),
            kernels=plan.kernels,
            threads=self.config.cpus_per_task,
            gpus=self.config.gpus_per_task,
        )
        devices = self._ready(job, nodes)
        tasks = sum(nodes[node] for node in devices)
        on = " and ".join(sorted(set(devices.values())))
        self.ahead = self.config.chunks_ahead or 2 * tasks
        # Spread combos over all tasks; no task gets more than fills a GPU or more than one batch.
        if self.config.gpus_per_task:
            self.at_once = min(GPU_COMBOS, plan.batch, -(-plan.combos // self.ahead))
        self.device = f"ray: {_counted(len(devices), 'node')}, {_counted(tasks, 'task')} at a time, on {on}"
        self._work = ray.remote(work).options(
            num_cpus=self.config.cpus_per_task, num_gpus=self.config.gpus_per_task, max_retries=_TRIES
        )
        self._pool = ThreadPoolExecutor(self.ahead)

    def submit(self, launch: Launch) -> Mapping[Future[None], Sequence[int]]:
        """Submit a launch as one task."""
        if self._pool is None:
            raise RuntimeError("RayRunner.submit: not prepared; call `prepare` first")
        return {self._pool.submit(self._task, launch): [chunk.index for chunk in launch]}

    def _ready(self, job: WorkerJob, nodes: Mapping[str, int]) -> dict[str, str]:
        """Let every node fetch inputs and compile; return the device of each.

        Ray may still list a node that has just died. Such a node is left out.
        """
        ray = self._ray
        affinity = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        remote = ray.remote(ready)
        answers = {
            node: remote.options(num_cpus=0, num_gpus=job.gpus, scheduling_strategy=affinity(node, soft=False)).remote(
                job
            )
            for node in nodes
        }
        devices = {}
        for node, answer in answers.items():
            with _explained(ray, f"node {node}"):
                try:
                    devices[node] = str(ray.get(answer, timeout=_READY_S))
                except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
                    continue
        if not devices:
            raise Retryable("compute: every node of the cluster died while it compiled; check them and try again")
        return devices

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
                    raise DataError(
                        f"{path}: a worker wrote this file, but it is missing here; share the folder of results"
                    )
                time.sleep(1.0)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ConfigError("compute.backend: ray is not installed; install the extra `cluster` of mei") from None


def _connect(ray: Any, address: str) -> bool:
    """Join the cluster; return False if this process has joined one before."""
    if ray.is_initialized():
        return False
    _check_address(address)
    try:
        ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, SystemExit) as error:  # Ray exits the process if it finds no head
        raise Retryable(f"compute.address: no Ray cluster at {address}: {_first_line(error)}") from None
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"compute.address: {address}: {_first_line(error)}") from None
    return True


def _check_address(address: str) -> None:
    """Raise unless a process listens at the address. Ray itself would retry for two minutes."""
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


def task_counts(nodes: list[Mapping[str, Any]], config: Compute) -> dict[str, int]:
    """Return the number of tasks that each node can run at a time, without nodes that can run none."""
    counts: dict[str, int] = {}
    resources: list[str] = []
    for node in nodes:
        if not node["Alive"]:
            continue
        cpus, gpus = (float(node["Resources"].get(name, 0.0)) for name in ("CPU", "GPU"))
        resources.append(f"{node['NodeManagerHostname']}: {cpus:g} CPU, {gpus:g} GPU")
        tasks = cpus // config.cpus_per_task
        if config.gpus_per_task:
            tasks = min(tasks, math.floor(gpus / config.gpus_per_task + 1e-9))
        if tasks:
            counts[str(node["NodeID"])] = int(tasks)
    if not counts:
        raise ConfigError(
            f"compute: no node has {config.cpus_per_task} CPU and {config.gpus_per_task:g} GPU for a task "
            f"(cpus_per_task, gpus_per_task); the cluster has {'; '.join(resources) or 'none'}"
        )
    return counts


class _Claim:
    """An actor that reserves a sweep: only one actor can have its name, and it ends with its driver."""


def _claim(ray: Any, sweep: str) -> Any:
    """Reserve the sweep on this cluster while this process lives.

    Raises:
        Busy: Another driver has reserved it.
    """
    actor = ray.remote(_Claim).options(name=f"sweep {sweep}", num_cpus=0, max_restarts=-1)
    give_up_s = time.monotonic() + _CLAIM_S
    while True:
        try:
            return actor.remote()
        except ValueError:
            if time.monotonic() > give_up_s:
                raise Busy(f"sweep {sweep[:16]} is running on this cluster, from another process or machine") from None
            time.sleep(0.5)


@contextmanager
def _explained(ray: Any, what: str) -> Generator[None]:
    """Convert errors of tasks into errors of MEI, and the death of workers into a retryable error."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MeiError):
            raise error.cause from None
        if isinstance(error.cause, ImportError):
            raise ConfigError(
                f"{what}: a worker can't run MEI: {error.cause}; install the same version there"
            ) from None
        raise
    except ray.exceptions.GetTimeoutError:
        raise Retryable(f"{what}: no answer in {_READY_S:.0f} s; check that the cluster has free resources") from None
    except ray.exceptions.RayError as error:
        raise Retryable(f"{what}: failed on the cluster: {_first_line(error)}; run the sweep again") from error


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
