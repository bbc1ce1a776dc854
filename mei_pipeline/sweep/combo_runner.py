"""Run combos of a plan by their numbers on the CPU or a GPU, and choose the faster of the two.

The benchmark and the sweep use the same class, so that the benchmark measures what a sweep does.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kernels.market import Ints, fill_model
from kernels.params import SIGNAL_ROLES
from kernels.strategies import load
from mei_pipeline.errors import ConfigError, Retryable
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.combos import Combos, encode_combos
from mei_pipeline.simulation.device import DeviceChoice, Gpu, open_gpu
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.run import ComboOutcomes, join_outcomes, run_combos
from mei_pipeline.simulation.threads import thread_count
from mei_pipeline.simulation.window import Window
from mei_pipeline.sweep import speeds
from mei_pipeline.sweep.plan import SweepPlan

GPU_COMBOS = 1 << 17
"""Combos that fill a GPU: an H200 has room for 50,688 threads of these kernels at once."""

_PROBE_COMBOS = 1 << 15  # combos of the launch that both devices share: enough to measure the speed of a GPU
_SAMPLE = 256  # combos per CPU thread in that launch: enough to measure the speed of the CPU
_SAMPLE_PART = 4  # the CPU runs at most one in four combos of that launch
_MIN_GPU_COMBOS = 64  # two warps: with fewer combos, starting a GPU takes longer than the CPU needs


@dataclass
class ComboRunner:
    """Runs combos of one plan; only one thread at a time may call `run`.

    Attributes:
        settings: Folders of compiled kernels and measured speeds.
        plan: The plan.
        window: The window.
        features: Columns for every feature window of the plan.
        choice: Device that runs the combos; `auto` until `run` has measured both.
        threads: See `simulation.run.run_combos`.
        launch: Most combos that run at a time. 0: as many as fill a GPU, one chunk on the CPU. Results do not depend on
            it.
        stop: Returns True to stop; polled before each launch and while a GPU runs one.
    """

    settings: Settings
    plan: SweepPlan
    window: Window
    features: FeatureSet
    choice: DeviceChoice
    threads: int = 0
    launch: int = 0
    stop: Callable[[], bool] = lambda: False
    gpu: Gpu | None = None

    def __post_init__(self) -> None:
        self._small = 0  # combos of the last launch that was too small to measure the GPU

    @property
    def settled(self) -> bool:
        """True if the device is chosen."""
        return self.choice.name != "auto"

    @property
    def at_once(self) -> int:
        """Combos that it takes at a time; 0 for one chunk."""
        if self.choice.name == "cpu":
            return self.launch
        return self.launch or (GPU_COMBOS if self.settled else _PROBE_COMBOS)

    @property
    def device(self) -> str:
        """Device that runs the combos, and the reason for it."""
        return str(self._cpu_for(self._small) if self._small and not self.settled else self.choice)

    def prepare(self) -> None:
        """Run one combo over no step on each device that may run the others, to compile or load the kernels.

        Raises:
            Retryable: The GPU is in use, was lost, or has no memory. With `auto` the CPU runs the combos instead.
            ConfigError: The kernels or the driver do not fit; with `auto` as above.
        """
        automatic = not self.settled
        if automatic:
            self._recall()
        problem = ""
        try:
            self.gpu = open_gpu(self.choice, self.plan.strategy)
            if self.gpu is not None:
                self._warm_up(self.gpu)
        except (Retryable, ConfigError) as error:
            if not automatic:
                raise
            problem = str(error)  # the error itself would keep memory of the GPU
        if problem:
            self._leave_gpu(problem)
        if self.choice.name != "cuda":
            self._warm_up(None)

    def encode(self, numbers: Ints) -> Combos:
        """Encode the combos `numbers` [K]."""
        plan = self.plan
        values = {**plan.params, **plan.axis_values(numbers)}
        return encode_combos(
            plan.strategy,
            self.features,
            values,
            len(numbers),
            plan.symbols,
            plan.symbol_params,
            benchmark=plan.benchmark,
        )

    def run(self, combos: Combos) -> ComboOutcomes:
        """Run combos. With `auto` both devices share the first launch.

        Raises:
            Retryable: `stop` returned True, or the GPU was lost or has no memory.
        """
        if self.stop():  # a launch that was queued when the sweep stopped
            raise Retryable("sweep: stopped; finished chunks are on disk, run the same command to resume")
        if self.settled:
            return self._run_on(self.gpu, self.window, combos)
        if len(combos) < _MIN_GPU_COMBOS:
            self._small = len(combos)
            return self._run_on(None, self.window, combos)
        return self._run_on_both(combos)

    def _warm_up(self, gpu: Gpu | None) -> None:
        window = replace(self.window, last=self.window.first)
        self._run_on(gpu, window, self.encode(np.arange(1, dtype=np.int64)))

    def _run_on(self, gpu: Gpu | None, window: Window, combos: Combos) -> ComboOutcomes:
        model = fill_model(self.plan.market, self.plan.initial_balance_usd)
        return run_combos(self.settings, window, model, self.features, combos, self.threads, gpu=gpu, stop=self.stop)

    def _run_on_both(self, combos: Combos) -> ComboOutcomes:
        """Run a few combos on the CPU and the rest on the GPU, then choose the faster device."""
        sample = max(min(_SAMPLE * thread_count(self.threads), len(combos) // _SAMPLE_PART), 1)
        cpu_part, gpu_part = combos.take(np.arange(sample)), combos.take(np.arange(sample, len(combos)))
        cpu_outcome, cpu = self._run_timed(None, cpu_part)
        tried = self._try_gpu(gpu_part)
        if isinstance(tried, str):
            self._leave_gpu(tried)
            return join_outcomes([cpu_outcome, self._run_on(None, self.window, gpu_part)])
        gpu_outcome, cuda = tried
        measured = speeds.Speeds(cpu, cuda, time.time())
        # The last launch of a resumed sweep may be too small to give a speed that other sweeps can use.
        if len(combos) * 2 > self._expected:
            speeds.write_speeds(self.settings, self.kind, measured)
        self._settle(measured)
        return join_outcomes([cpu_outcome, gpu_outcome])

    def _try_gpu(self, combos: Combos) -> tuple[ComboOutcomes, float] | str:
        """Return the outcome on the GPU and its bar-steps per second, or the reason why it can't run the combos."""
        try:
            return self._run_timed(self.gpu, combos)
        except (Retryable, ConfigError) as error:
            if self.stop():
                raise
            return str(error)  # the error itself would keep memory of the GPU

    def _run_timed(self, gpu: Gpu | None, combos: Combos) -> tuple[ComboOutcomes, float]:
        """Return the outcome of combos and the bar-steps per second."""
        start = time.perf_counter()
        outcome = self._run_on(gpu, self.window, combos)
        return outcome, len(combos) * self._bar_steps / max(time.perf_counter() - start, 1e-9)

    def _leave_gpu(self, why: str) -> None:
        """Choose the CPU, and release the memory of the GPU."""
        self.close()
        self.choice = DeviceChoice("cpu", why)

    def close(self) -> None:
        """Release the memory of the GPU."""
        if self.gpu is not None:
            self.gpu.close()
        self.gpu = None

    def _cpu_for(self, combos: int) -> DeviceChoice:
        return DeviceChoice("cpu", f"{combos} combos at a time are too few for {self.choice.gpu_name}")

    def _recall(self) -> None:
        """Choose a device from the size of the sweep or a stored measurement, without running anything."""
        if self._expected < _MIN_GPU_COMBOS:
            self.choice = self._cpu_for(self._expected)
        elif stored := speeds.read_speeds(self.settings, self.kind):
            self._settle(stored)

    def _settle(self, measured: speeds.Speeds) -> None:
        cuda, cpu = (f"{speed / self._bar_steps:,.0f}" for speed in (measured.cuda, measured.cpu))
        device, cores = self.choice.gpu_name, f"{thread_count(self.threads)} cores"
        if measured.cuda > measured.cpu:
            why = f"{device}: {cuda} combos/s against {cpu} on {cores}"
            self.choice = replace(self.choice, name="cuda", why=why)
        else:
            self._leave_gpu(f"{cores}: {cpu} combos/s against {cuda} on {device}")

    @property
    def _bar_steps(self) -> int:
        """Bar-steps of one combo."""
        return max((self.window.last - self.window.first) * len(self.plan.symbols), 1)

    @property
    def _expected(self) -> int:
        """Combos of the first launch of the complete sweep."""
        return min(self.at_once, self.plan.combos, self.plan.batch * max(self.plan.search.lag, 1))

    @property
    def _sharing(self) -> int:
        """Approximate number of combos with the same signals: neighbours in a grid, chance in a sample."""
        signal_paths = {each.path for each in load(self.plan.strategy).PARAMETERS if each.role in SIGNAL_ROLES}
        signal_groups = math.prod(len(values) for path, values in self.plan.axes if path in signal_paths)
        is_grid = self.plan.search.method == "grid"
        return max((self.plan.combos if is_grid else self._expected) // signal_groups, 1)

    @property
    def kind(self) -> speeds.SweepKind:
        """Kind of this sweep, for measured speeds."""
        plan = self.plan
        return speeds.SweepKind(
            self.choice.gpu_name,
            thread_count(self.threads),
            plan.strategy,
            plan.search.method,
            tuple(dict.fromkeys(each for each in (plan.interval, plan.entry_interval, plan.exit_interval) if each)),
            len(plan.symbols).bit_length(),
            self._expected.bit_length(),
            self._sharing.bit_length(),
        )
