"""Run combos of a plan by their numbers, on processors or a GPU, and find out which of them is faster.

The bench and the sweep use the same class, so a bench measures the path of a sweep.
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
from mei_pipeline.simulation.device import DeviceChoice, Gpu, open_gpu
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.run import ComboOutcomes, Combos, encode_combos, join_outcomes, run_combos
from mei_pipeline.simulation.threads import thread_count
from mei_pipeline.simulation.window import Window
from mei_pipeline.sweep import speeds
from mei_pipeline.sweep.plan import SweepPlan

FILLS = 1 << 17
"""Combos that fill a GPU: an H200 has room for 50,688 threads of these kernels at once."""

_TELLING = 1 << 15  # combos of the launch that is run on both, enough for the speed of a GPU to show
_SAMPLE = 256  # combos of a thread that tell the speed of a processor
_SAMPLE_PART = 4  # one in how many combos of that launch the processors run at most
_FEW = 64  # combos that no GPU is worth starting for: two warps


@dataclass
class Simulator:
    """Runs combos of one plan; one thread at a time may run them.

    Attributes:
        settings: Where compiled kernels and measured speeds are kept.
        plan: The plan.
        window: What is traded.
        features: Columns that hold every window of the plan.
        choice: What runs combos; `auto` until that is settled.
        threads: See `simulation.run_combos`.
        launch: Most combos that are run at a time; 0 for as many as fill a GPU, and one chunk on processors. Results
            do not depend on it.
        stop: Asked now and then by a GPU, whether to stop.
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
        self._few = 0  # combos of the last launch that was too small to settle anything

    @property
    def settled(self) -> bool:
        """True if it is known what runs the combos."""
        return self.choice.name != "auto"

    @property
    def at_once(self) -> int:
        """Combos that it takes at a time; 0 for one chunk."""
        if self.choice.name == "cpu":
            return self.launch
        return self.launch or (FILLS if self.settled else _TELLING)

    @property
    def device(self) -> str:
        """The device that runs the combos, and the reason."""
        return str(self._cpu_for(self._few) if self._few and not self.settled else self.choice)

    def prepare(self) -> None:
        """Run one combo over no step on each device that may run the others: compiles kernels or reads them.

        Raises:
            Retryable: The GPU is taken, was lost, or has no memory. Of `auto` that settles for processors.
            ConfigError: The kernels or the driver do not fit; `auto` as above.
        """
        automatic = not self.settled
        if automatic:
            self._recall()
        why = ""
        try:
            self.gpu = open_gpu(self.choice, self.plan.strategy)
            if self.gpu is not None:
                self._nothing(self.gpu)
        except (Retryable, ConfigError) as error:
            if not automatic:
                raise
            why = str(error)  # which itself holds memory of the GPU
        if why:
            self._leave_gpu(why)
        if self.choice.name != "cuda":
            self._nothing(None)

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
        """Run combos; the first of `auto` on both, each a part of them.

        Raises:
            Retryable: It was told to stop, or the GPU was lost or has no memory.
        """
        if self.stop():  # the launch that waited for its turn
            raise Retryable("stopped; finished chunks are on disk, the same command goes on")
        if self.settled:
            return self._on(self.gpu, self.window, combos)
        if len(combos) < _FEW:
            self._few = len(combos)
            return self._on(None, self.window, combos)
        return self._both(combos)

    def _nothing(self, gpu: Gpu | None) -> None:
        window = replace(self.window, last=self.window.first)
        self._on(gpu, window, self.encode(np.arange(1, dtype=np.int64)))

    def _on(self, gpu: Gpu | None, window: Window, combos: Combos) -> ComboOutcomes:
        model = fill_model(self.plan.market, self.plan.initial_balance_usd)
        return run_combos(self.settings, window, model, self.features, combos, self.threads, gpu=gpu, stop=self.stop)

    def _both(self, combos: Combos) -> ComboOutcomes:
        """Run some combos on processors, the rest on the GPU, and settle for the faster."""
        few = max(min(_SAMPLE * thread_count(self.threads), len(combos) // _SAMPLE_PART), 1)
        ours, rest = combos.take(np.arange(few)), combos.take(np.arange(few, len(combos)))
        first, cpu = self._timed(None, ours)
        found = self._tried(rest)
        if isinstance(found, str):
            self._leave_gpu(found)
            return join_outcomes([first, self._on(None, self.window, rest)])
        second, cuda = found
        measured = speeds.Speeds(cpu, cuda, time.time())
        if len(combos) * 2 > self._expected:  # the rest of a sweep that goes on may be too little to tell others
            speeds.keep(self.settings, self.kind, measured)
        self._settle(measured)
        return join_outcomes([first, second])

    def _tried(self, combos: Combos) -> tuple[ComboOutcomes, float] | str:
        """Results of combos on the GPU, and the bar-steps per second; or why it can't run them."""
        try:
            return self._timed(self.gpu, combos)
        except (Retryable, ConfigError) as error:
            if self.stop():
                raise
            return str(error)  # the error itself holds memory of the GPU

    def _timed(self, gpu: Gpu | None, combos: Combos) -> tuple[ComboOutcomes, float]:
        """Results of combos, and the bar-steps per second."""
        start = time.perf_counter()
        outcome = self._on(gpu, self.window, combos)
        return outcome, len(combos) * self._bar_steps / max(time.perf_counter() - start, 1e-9)

    def _leave_gpu(self, why: str) -> None:
        """Settle for processors, and leave the memory of the GPU to others."""
        self.close()
        self.choice = DeviceChoice("cpu", why)

    def close(self) -> None:
        """Give the memory of the GPU back."""
        if self.gpu is not None:
            self.gpu.close()
        self.gpu = None

    def _cpu_for(self, combos: int) -> DeviceChoice:
        return DeviceChoice("cpu", f"{combos} combos at a time are too few for {self.choice.gpu_name}")

    def _recall(self) -> None:
        """Settle by what is known without running anything."""
        if self._expected < _FEW:
            self.choice = self._cpu_for(self._expected)
        elif found := speeds.kept(self.settings, self.kind):
            self._settle(found)

    def _settle(self, found: speeds.Speeds) -> None:
        cuda, cpu = (f"{speed / self._bar_steps:,.0f}" for speed in (found.cuda, found.cpu))
        device, cores = self.choice.gpu_name, f"{thread_count(self.threads)} cores"
        if found.cuda > found.cpu:
            why = f"{device}: {cuda} combos/s against {cpu} on {cores}"
            self.choice = replace(self.choice, name="cuda", why=why)
        else:
            self._leave_gpu(f"{cores}: {cpu} combos/s against {cuda} on {device}")

    @property
    def _bar_steps(self) -> int:
        """Bars of one symbol that a combo goes through."""
        return max((self.window.last - self.window.first) * len(self.plan.symbols), 1)

    @property
    def _expected(self) -> int:
        """Combos of the first launch of the whole sweep."""
        return min(self.at_once, self.plan.combos, self.plan.batch * max(self.plan.search.lag, 1))

    @property
    def _sharing(self) -> int:
        """About how many combos share their signals: in a grid neighbours do, in a sample some by chance."""
        shaping = {each.path for each in load(self.plan.strategy).PARAMETERS if each.role in SIGNAL_ROLES}
        sets = math.prod(len(values) for path, values in self.plan.axes if path in shaping)
        of_grid = self.plan.search.method == "grid"
        return max((self.plan.combos if of_grid else self._expected) // sets, 1)

    @property
    def kind(self) -> speeds.Kind:
        """The kind of this sweep."""
        plan = self.plan
        return speeds.Kind(
            self.choice.gpu_name,
            thread_count(self.threads),
            plan.strategy,
            plan.search.method,
            tuple(dict.fromkeys(each for each in (plan.interval, plan.entry_interval, plan.exit_interval) if each)),
            len(plan.symbols).bit_length(),
            self._expected.bit_length(),
            self._sharing.bit_length(),
        )
