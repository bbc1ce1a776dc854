"""Work of a benchmark: combos of a sweep over bars in memory, run as in a sweep, from parameters to results.

As in a sweep, combos are run launch by launch, and a GPU keeps the market between launches.
"""

import functools
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from kernels.market import Ints
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.device import DeviceChoice, DeviceName, choose_device
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.memory import features_of
from mei_pipeline.simulation.run import ComboOutcomes, join_outcomes
from mei_pipeline.simulation.threads import thread_count
from mei_pipeline.simulation.window import Window, cut_window
from mei_pipeline.sweep.combo_runner import ComboRunner
from mei_pipeline.sweep.plan import SweepPlan, make_plan

Result = TypeVar("Result")

_NEIGHBOURS = 64
"""Number of neighbouring combos that a sample takes together, because neighbours share signals as in a sweep."""

_GOLDEN = 0.6180339887498949  # fractional part of the golden ratio: its multiples modulo 1 spread evenly


@dataclass(frozen=True)
class BenchWork:
    """Combos to run, and the bars to run them over.

    Attributes:
        bars: The bars.
        cut: Days of the bars that are traded.
        plan: Plan of the sweep.
        numbers: [K] numbers of the combos in the grid.
    """

    bars: Bars
    cut: Window
    plan: SweepPlan
    numbers: Ints

    @property
    def steps(self) -> int:
        """Number of steps per combo."""
        return self.cut.last - self.cut.first


@dataclass(frozen=True)
class WorkFigures:
    """Times of a piece of work.

    Attributes:
        work: Name of the work.
        device: Device that ran the combos.
        threads: Number of threads.
        repeats: Number of runs; the figures are those of the fastest.
        symbols: Number of symbols.
        steps: Number of steps per combo, which are bars of the finest interval.
        combos: Number of combos.
        axes: Number of axes.
        signal_groups: Number of signal groups; a group in two launches counts twice.
        seconds: Seconds from parameters and bars to results; the sum of the next three.
        features_s: Seconds for feature columns.
        encode_s: Seconds for the encoding of parameters as records.
        simulate_s: Seconds for the simulation.
        simulate_cpu_s: Processor time of the simulation over all threads; more reliable on a busy machine.
        bar_steps_per_s: Steps x symbols x combos, per second of `seconds`.
        ns_per_combo_bar: Processor nanoseconds per step of a combo, with all its symbols.
        trades_mean: Mean number of trades per combo.
        trades_min: Smallest number of trades of a combo.
        trades_max: Largest number of trades of a combo.
        trades_per_year: `trades_mean` per 365 days.
        held_frac: Mean share of steps with an open position at the close.
    """

    work: str
    device: str
    threads: int
    repeats: int
    symbols: int
    steps: int
    combos: int
    axes: int
    signal_groups: int
    seconds: float
    features_s: float
    encode_s: float
    simulate_s: float
    simulate_cpu_s: float
    bar_steps_per_s: float
    ns_per_combo_bar: float
    trades_mean: float
    trades_min: float
    trades_max: float
    trades_per_year: float
    held_frac: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def make_work(spec: SweepSpec, bars: Bars, combos: int = 0) -> BenchWork:
    """Return the work of running combos of `spec` over all days of `bars`.

    Args:
        spec: Spec of the sweep.
        bars: The bars.
        combos: Number of combos, in groups of neighbours spread over the grid; 0 for all. If the grid has fewer, it is
            widened.
    """
    cut = cut_window(bars, bars.anchor_ms, bars.end_ms)
    plan = make_plan(widened(spec, combos), bars, cut.from_ms, cut.to_ms)
    return BenchWork(bars, cut, plan, sample(plan.grid.combos, combos or plan.combos))


def widened(spec: SweepSpec, combos: int) -> SweepSpec:
    """Return the spec with at least `combos` combos: axes of exits get values halfway between existing ones, in turn.

    Only axes of exits grow, so the number of signal groups stays the same.
    """
    table = read_catalog().strategy(spec.strategy)
    axes = {path: tuple(spec.axis_values(path)) for path in spec.axes}
    grows = [path for path in axes if (table[path].role, table[path].kind) == ("exit", "float") and len(axes[path]) > 1]
    for path in itertools.cycle(grows):
        if math.prod(map(len, axes.values())) >= combos:
            break
        values = sorted(map(float, axes[path]))
        axes[path] = tuple(sorted({*values, *((low + high) / 2.0 for low, high in itertools.pairwise(values))}))
    return spec.model_copy(update={"axes": axes})


def sample(total: int, size: int) -> Ints:
    """Return the numbers of `size` of `total` combos, in groups of neighbours at uneven distances.

    A grid is periodic: groups at even distances would all have the same value on some axis.
    """
    count = min(total, size)
    groups = -(-count // _NEIGHBOURS)
    edges = np.linspace(0, total, groups + 1).astype(int).tolist()
    numbers: list[int] = []
    for i, part in enumerate(np.array_split(np.arange(count), groups)):
        room = edges[i + 1] - edges[i] - len(part)
        start = edges[i] + int((i * _GOLDEN % 1.0) * (room + 1))
        numbers += range(start, start + len(part))
    return np.array(numbers, dtype=np.int64)


def run_work(
    settings: Settings,
    work: BenchWork,
    name: str,
    *,
    threads: int = 0,
    repeats: int = 1,
    device: DeviceName = "cpu",
    progress: Progress = silent,
) -> tuple[WorkFigures, ComboOutcomes]:
    """Run the work `repeats` times.

    Args:
        settings: Settings, for the folder of compiled kernels.
        work: Work to run.
        name: Name of the work.
        threads: Number of threads; 0 uses one per processor.
        repeats: Number of runs; time for compiling does not count.
        device: Requested device, see `choose_device`.
        progress: Called before each run.

    Returns:
        Figures of the fastest run, and the outcomes, which are equal for all runs.

    Raises:
        ConfigError: The device can't be used.
    """
    combo_runner = make_combo_runner(settings, work, choose_device(settings, device, work.plan.strategy), threads)
    runs = []
    for index in range(repeats):
        progress(index, repeats, "runs")
        runs.append(_once(combo_runner, work))
    progress(repeats, repeats, "runs")
    best = min(runs, key=lambda run: sum(run[0][:3]))
    (features_s, encode_s, simulate_s, simulate_cpu_s), outcome, signal_groups = best
    seconds = features_s + encode_s + simulate_s
    steps, symbols, combos = work.steps, len(work.bars.symbols), len(work.numbers)
    used = min(thread_count(threads), combos)
    trades = outcome.results["trades"]
    figures = WorkFigures(
        work=name,
        device="cpu" if device == "cpu" else combo_runner.device,
        threads=used,
        repeats=repeats,
        symbols=symbols,
        steps=steps,
        combos=combos,
        axes=len(work.plan.axes),
        signal_groups=signal_groups,
        seconds=seconds,
        features_s=features_s,
        encode_s=encode_s,
        simulate_s=simulate_s,
        simulate_cpu_s=simulate_cpu_s,
        bar_steps_per_s=steps * symbols * combos / seconds,
        ns_per_combo_bar=simulate_cpu_s * 1e9 / (steps * combos),
        trades_mean=float(trades.mean()),
        trades_min=float(trades.min()),
        trades_max=float(trades.max()),
        trades_per_year=float(trades.mean()) * 365.0 / work.cut.days,
        held_frac=float(outcome.results["bars_held"].mean()) / steps,
    )
    return figures, outcome


def make_combo_runner(settings: Settings, work: BenchWork, choice: DeviceChoice, threads: int = 0) -> ComboRunner:
    """Return a prepared `ComboRunner`, as a sweep would use for the work."""
    use_kernels(settings)
    features = features_of(work.bars, work.plan.columns(), threads)
    combo_runner = ComboRunner(settings, work.plan, work.cut, features, choice, threads)
    combo_runner.prepare()
    return combo_runner


def _once(combo_runner: ComboRunner, work: BenchWork) -> tuple[tuple[float, float, float, float], ComboOutcomes, int]:
    """Run the work once.

    Returns:
        Seconds for columns, for encoding and for the simulation, and processor seconds of the simulation; outcomes; and
        the number of signal groups.
    """
    plan = work.plan
    features_s, _ = timed(lambda: features_of(work.bars, plan.columns(), combo_runner.threads))
    encode_s = simulate_s = simulate_cpu_s = 0.0
    outcomes: list[ComboOutcomes] = []
    begun = signal_groups = 0
    while begun < len(work.numbers):
        numbers = work.numbers[begun : begun + (combo_runner.at_once or plan.chunk_combos)]
        spent_s, combos = timed(functools.partial(combo_runner.encode, numbers))
        encode_s += spent_s
        before_s = time.process_time()
        spent_s, launched = timed(functools.partial(combo_runner.run, combos))
        simulate_s, simulate_cpu_s = simulate_s + spent_s, simulate_cpu_s + time.process_time() - before_s
        outcomes.append(launched)
        begun, signal_groups = begun + len(numbers), signal_groups + len(combos.signal_params)
    outcome = outcomes[0] if len(outcomes) == 1 else join_outcomes(outcomes)
    return (features_s, encode_s, simulate_s, simulate_cpu_s), outcome, signal_groups


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    """Return the wall seconds of a call, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result
