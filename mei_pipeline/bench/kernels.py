"""Milliseconds of a GPU in each kernel, for the combos of a benchmark or a sweep."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kernels.market import Ints
from mei_pipeline.bench.work import BenchWork, make_combo_runner, timed
from mei_pipeline.errors import ConfigError
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.combos import Combos
from mei_pipeline.simulation.device import Gpu, choose_device
from mei_pipeline.sweep.combo_runner import GPU_COMBOS, ComboRunner
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.search.permutation import Permutation


@dataclass(frozen=True)
class KernelFigures:
    """Times of one piece of work.

    Attributes:
        work: Name of the work.
        device: Device that ran the combos.
        symbols: Number of symbols.
        steps: Number of steps per combo, which are bars of the finest interval.
        combos: Number of combos, run in one launch.
        signal_groups: Number of signal groups.
        batch: Number of combos that the GPU held at a time.
        seconds: Seconds from encoded combos to results, of the fastest run without events around kernels.
        bar_steps_per_s: Steps x symbols x combos, per second of `seconds`.
        ms: Milliseconds of the GPU in each kernel, of a separate run.
        kernels_ms: Sum of `ms`.
        kernels_bar_steps_per_s: Steps x symbols x combos, per second of `kernels_ms`.
    """

    work: str
    device: str
    symbols: int
    steps: int
    combos: int
    signal_groups: int
    batch: int
    seconds: float
    bar_steps_per_s: float
    ms: dict[str, float]
    kernels_ms: float
    kernels_bar_steps_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def first_numbers(plan: SweepPlan, combos: int = 0) -> Ints:
    """Return the combos of a sweep's first launch: the first ones of a grid, random ones of a search.

    Args:
        plan: The sweep.
        combos: Number of combos, at most that of the sweep; 0 for as many as fill a GPU.

    Raises:
        ConfigError: The sweep runs fewer combos.
    """
    if combos > plan.combos:
        raise ConfigError(f"--combos {combos:,}: the sweep runs {plan.combos:,}; choose at most that many")
    places = np.arange(min(plan.combos, combos or GPU_COMBOS), dtype=np.int64)
    if plan.search.method == "grid":
        return places
    return np.sort(Permutation(plan.grid.combos, plan.search.seed).at(places))


def run_kernels(
    settings: Settings, work: BenchWork, name: str, *, repeats: int = 3, progress: Progress = silent
) -> KernelFigures:
    """Run the work on the GPU `repeats` times, then once with events around each kernel.

    Raises:
        ConfigError: No GPU can be used.
        Retryable: The GPU is taken, was lost, or has too little memory.
    """
    combo_runner = make_combo_runner(settings, work, choose_device(settings, "cuda", work.plan.strategy))
    combos = combo_runner.encode(work.numbers)
    seconds = []
    for index in range(repeats):
        progress(index, repeats + 1, "runs")
        seconds.append(timed(lambda: combo_runner.run(combos))[0])
    ms = _measure_kernels(combo_runner, combos)
    progress(repeats + 1, repeats + 1, "runs")
    bar_steps = work.steps * len(work.bars.symbols) * len(combos)
    return KernelFigures(
        work=name,
        device=combo_runner.device,
        symbols=len(work.bars.symbols),
        steps=work.steps,
        combos=len(combos),
        signal_groups=len(combos.signal_params),
        batch=_gpu(combo_runner).device.batch,
        seconds=min(seconds),
        bar_steps_per_s=bar_steps / min(seconds),
        ms=ms,
        kernels_ms=sum(ms.values()),
        kernels_bar_steps_per_s=bar_steps / (sum(ms.values()) / 1e3),
    )


def _measure_kernels(combo_runner: ComboRunner, combos: Combos) -> dict[str, float]:
    """Run the combos with events around each kernel, and return the milliseconds per kernel."""
    device = _gpu(combo_runner).device
    device.spent_ms = {}
    combo_runner.run(combos)
    spent, device.spent_ms = device.spent_ms, None
    return spent


def _gpu(combo_runner: ComboRunner) -> Gpu:
    """Return the GPU of a prepared runner."""
    if combo_runner.gpu is None:
        raise RuntimeError("runner without a GPU: call prepare first")
    return combo_runner.gpu
