"""Milliseconds of a GPU in each kernel, for the combos of a bench or of a sweep."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kernels.market import Ints
from mei_pipeline.bench.work import Work, make_combo_runner, timed
from mei_pipeline.errors import ConfigError
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.device import Gpu, choose
from mei_pipeline.simulation.run import Combos
from mei_pipeline.sweep.combo_runner import GPU_COMBOS, ComboRunner
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.search.permutation import Permutation


@dataclass(frozen=True)
class KernelFigures:
    """Times of one piece of work.

    Attributes:
        work: Name of the work.
        device: What ran the combos.
        symbols: Symbols of the book.
        steps: Steps that each combo goes through: bars of the finest interval.
        combos: Combos, all of them in one launch.
        signal_groups: Groups of combos that share their signals.
        batch: Combos that the GPU held at a time.
        seconds: From encoded combos to their results, the fastest run without measuring kernels.
        bar_steps_per_s: Steps times symbols times combos, by `seconds`.
        ms: Milliseconds of the GPU in each kernel, in one more run.
        kernels_ms: All of them together.
        kernels_bar_steps_per_s: As `bar_steps_per_s`, by the kernels alone.
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
        """The figures by name."""
        return asdict(self)


def first_numbers(plan: SweepPlan, combos: int = 0) -> Ints:
    """Combos of a sweep as its first launch has them: of a grid the first, else random ones.

    Args:
        plan: The sweep.
        combos: How many, at most as many as it runs; 0 for as many as fill a GPU.

    Raises:
        ConfigError: The sweep runs fewer.
    """
    if combos > plan.combos:
        raise ConfigError(f"--combos {combos:,}: the sweep runs {plan.combos:,}; ask for fewer")
    places = np.arange(min(plan.combos, combos or GPU_COMBOS), dtype=np.int64)
    if plan.search.method == "grid":
        return places
    return np.sort(Permutation(plan.grid.combos, plan.search.seed).at(places))


def run_kernels(
    settings: Settings, work: Work, name: str, *, repeats: int = 3, progress: Progress = silent
) -> KernelFigures:
    """Run the work on the GPU `repeats` times, and once more with events around each kernel.

    Raises:
        ConfigError: No GPU can be used.
        Retryable: The GPU is taken, was lost, or has no memory.
    """
    combo_runner = make_combo_runner(settings, work, choose(settings, "cuda", work.plan.strategy))
    combos = combo_runner.encode(work.numbers)
    seconds = []
    for index in range(repeats):
        progress(index, repeats + 1, "runs")
        seconds.append(timed(lambda: combo_runner.run(combos))[0])
    ms = _measured(combo_runner, combos)
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


def _measured(combo_runner: ComboRunner, combos: Combos) -> dict[str, float]:
    """Milliseconds in each kernel."""
    device = _gpu(combo_runner).device
    device.spent_ms = {}
    combo_runner.run(combos)
    spent, device.spent_ms = device.spent_ms, None
    return spent


def _gpu(combo_runner: ComboRunner) -> Gpu:
    if combo_runner.gpu is None:
        raise RuntimeError("prepare comes first")
    return combo_runner.gpu
