"""A piece of work: combos of a sweep over bars in memory, run as a sweep runs them, from parameters to results.

As in a sweep, a device gets the combos launch by launch, and keeps the market between two of them.
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
from kernels.params import Value
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.params.grid import CodedValues
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.device import DeviceChoice, DeviceName, choose
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.market import Bars, Window, window
from mei_pipeline.simulation.memory import features_of, threads_of
from mei_pipeline.simulation.run import ComboOutcomes, join_outcomes
from mei_pipeline.sweep.combo_runner import ComboRunner
from mei_pipeline.sweep.plan import SweepPlan, make_plan

Result = TypeVar("Result")

_NEIGHBOURS = 64
"""Combos that a sample takes together: in a sweep neighbours share their signals, and so they must in a sample."""

_GOLDEN = 0.6180339887498949  # the part of the golden ratio behind the point: its multiples spread evenly over 0..1


@dataclass(frozen=True)
class Work:
    """What is run.

    Attributes:
        bars: The bars.
        cut: The days of them that are traded.
        plan: The grid.
        numbers: [K] combos of the grid that are run.
    """

    bars: Bars
    cut: Window
    plan: SweepPlan
    numbers: Ints

    @property
    def steps(self) -> int:
        """Steps that each combo goes through."""
        return self.cut.last - self.cut.first


@dataclass(frozen=True)
class WorkFigures:
    """How long it took.

    Attributes:
        work: Name of the work.
        device: What ran the combos.
        threads: Threads at work.
        repeats: How often it was run; the fastest counts.
        symbols: Symbols of the book.
        steps: Steps that each combo goes through: bars of the finest interval.
        combos: Combos.
        axes: Parameters that vary.
        signal_groups: Groups of combos that share their signals; one that two launches share counts twice.
        seconds: From parameters and bars to results: columns, encoding, engine.
        features_s: Of these, feature columns.
        encode_s: Of these, parameters turned into records.
        simulate_s: Of these, the engine.
        simulate_cpu_s: Processor time of the engine, all threads together: the better figure on a busy machine.
        bar_steps_per_s: Steps times symbols times combos, by `seconds`.
        ns_per_combo_bar: Processor nanoseconds for one step of one combo with all its symbols.
        trades_mean: Round trips of a combo, on average.
        trades_min: Fewest round trips of a combo.
        trades_max: Most round trips of a combo.
        trades_per_year: `trades_mean` by years of 365 days.
        held_frac: Part of the steps at whose close a combo holds something, on average.
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
        """The figures by name."""
        return asdict(self)


def make_work(spec: SweepSpec, bars: Bars, combos: int = 0) -> Work:
    """Combos of `spec` over all days of `bars`.

    Args:
        spec: The grid.
        bars: The bars.
        combos: How many of its combos, in groups of neighbours from all over the grid; 0 means all. For more than it
            has, it is widened.
    """
    cut = window(bars, bars.anchor_ms, bars.end_ms)
    plan = make_plan(widened(spec, combos), bars, cut.from_ms, cut.to_ms)
    return Work(bars, cut, plan, sample(plan.grid.combos, combos or plan.combos))


def widened(spec: SweepSpec, combos: int) -> SweepSpec:
    """The grid with at least `combos` combos: axes of exits get values halfway between those that they have, in turn.

    The values of the grid stay, and so do its entry sets.
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


def sample(total: int, wanted: int) -> Ints:
    """Numbers of `wanted` of `total` combos, neighbours together, groups at uneven distances.

    A grid repeats itself: groups at even distances would all have the same value on some axis.
    """
    count = min(total, wanted)
    groups = -(-count // _NEIGHBOURS)
    edges = np.linspace(0, total, groups + 1).astype(int).tolist()
    found: list[int] = []
    for i, part in enumerate(np.array_split(np.arange(count), groups)):
        room = edges[i + 1] - edges[i] - len(part)
        start = edges[i] + int((i * _GOLDEN % 1.0) * (room + 1))
        found += range(start, start + len(part))
    return np.array(found, dtype=np.int64)


def values_of(work: Work) -> dict[str, CodedValues | Value]:
    """Value of every parameter by path: one for all combos, or one for each."""
    return {**work.plan.params, **work.plan.axis_values(work.numbers)}


def run_work(
    settings: Settings,
    work: Work,
    name: str,
    *,
    threads: int = 0,
    repeats: int = 1,
    device: DeviceName = "cpu",
    progress: Progress = silent,
) -> tuple[WorkFigures, ComboOutcomes]:
    """Run the work `repeats` times.

    Args:
        settings: Says where compiled kernels are kept.
        work: What to run.
        name: What to call it.
        threads: Threads; 0 means one per processor.
        repeats: How often; what is compiled on the way does not count.
        device: See `gpu.choose`.
        progress: Told of each run.

    Returns:
        Figures of the fastest run, and the results, which are the same each time.

    Raises:
        ConfigError: The engine can't be had.
    """
    combo_runner = make_combo_runner(settings, work, choose(settings, device, work.plan.strategy), threads)
    runs = []
    for index in range(repeats):
        progress(index, repeats, "runs")
        runs.append(_once(combo_runner, work))
    progress(repeats, repeats, "runs")
    best = min(runs, key=lambda run: sum(run[0][:3]))
    (features_s, encode_s, simulate_s, simulate_cpu_s), outcome, sets = best
    seconds = features_s + encode_s + simulate_s
    steps, symbols, combos = work.steps, len(work.bars.symbols), len(work.numbers)
    used = min(threads_of(threads), combos)
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
        signal_groups=sets,
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


def make_combo_runner(settings: Settings, work: Work, choice: DeviceChoice, threads: int = 0) -> ComboRunner:
    """Return the simulator with which a sweep would run the work, ready to run it."""
    use_kernels(settings)
    features = features_of(work.bars, work.plan.columns(), threads)
    combo_runner = ComboRunner(settings, work.plan, work.cut, features, choice, threads)
    combo_runner.prepare()
    return combo_runner


def _once(combo_runner: ComboRunner, work: Work) -> tuple[tuple[float, float, float, float], ComboOutcomes, int]:
    """Seconds of columns, encoding and engine, and of processors in the engine; results; number of signal sets."""
    plan = work.plan
    features_s, _ = timed(lambda: features_of(work.bars, plan.columns(), combo_runner.threads))
    encode_s = simulate_s = simulate_cpu_s = 0.0
    outcomes: list[ComboOutcomes] = []
    begun = sets = 0
    while begun < len(work.numbers):
        numbers = work.numbers[begun : begun + (combo_runner.at_once or plan.chunk_combos)]
        spent_s, combos = timed(functools.partial(combo_runner.encode, numbers))
        encode_s += spent_s
        before_s = time.process_time()
        spent_s, outcome = timed(functools.partial(combo_runner.run, combos))
        simulate_s, simulate_cpu_s = simulate_s + spent_s, simulate_cpu_s + time.process_time() - before_s
        outcomes.append(outcome)
        begun, sets = begun + len(numbers), sets + len(combos.signal_params)
    whole = outcomes[0] if len(outcomes) == 1 else join_outcomes(outcomes)
    return (features_s, encode_s, simulate_s, simulate_cpu_s), whole, sets


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    """Wall seconds of a call, and what it returned."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result
