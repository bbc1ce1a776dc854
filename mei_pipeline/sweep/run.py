"""Run a sweep: launch after launch, each chunk on disk when it is done, so that a killed sweep goes on where it was."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.config.models import Engine
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.device import DeviceName, choose_device
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.window import Window
from mei_pipeline.storage import open_store
from mei_pipeline.sweep.cluster import runner_for
from mei_pipeline.sweep.launches import Chunk, Runner
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import CHUNKS, PLAN, chunk_done, chunk_name, clear_torn, sweep_folder, write_plan
from mei_pipeline.sweep.search.methods import Choice, choice_of
from mei_pipeline.sweep.simulator import Simulator


@dataclass(frozen=True)
class SweepReport:
    """How a sweep went.

    Attributes:
        id: Id of the sweep.
        folder: Where its plan and chunks are.
        combos: Combos of the plan.
        resumed: Combos that an earlier run had already done.
        bar_steps: Work of one combo: steps of the window x symbols of the book.
        seconds: Wall time of this run.
        searched_s: Of it, the time that went into combos; compiling the engine is not in it.
        device: What ran the combos, and why that.
    """

    id: str
    folder: Path
    combos: int
    resumed: int
    bar_steps: int
    seconds: float
    searched_s: float
    device: str

    @property
    def combos_per_s(self) -> float | None:
        """Combos per second of this run; None when it had nothing left to do."""
        done = self.combos - self.resumed
        return done / self.searched_s if done and self.searched_s > 0.0 else None

    @property
    def bar_steps_per_s(self) -> float | None:
        """Bars of one symbol under one combo, per second of this run; None when it had nothing left to do."""
        return self.bar_steps * self.combos_per_s if self.combos_per_s else None

    @property
    def speed(self) -> str:
        """Both for people; empty when it had nothing left to do."""
        return speed(self.combos_per_s or 0.0, self.bar_steps)


def speed(combos_per_s: float, bar_steps: int) -> str:
    """Combos and bar-steps per second for people; empty where nothing was measured."""
    if not combos_per_s:
        return ""
    return f"{combos_per_s:,.0f} combos/s, {combos_per_s * bar_steps / 1e6:,.1f} M bar-steps/s"


def run_sweep(  # noqa: PLR0913 - what a caller may choose_device, by name
    settings: Settings,
    plan: SweepPlan,
    window: Window,
    features: FeatureSet,
    *,
    threads: int = 0,
    device: DeviceName = "auto",
    where: Engine | None = None,
    launch: int = 0,
    progress: Progress = silent,
) -> SweepReport:
    """Run what is left of `plan`.

    Args:
        settings: Where sweeps and compiled kernels are kept.
        plan: The combos.
        window: What is traded; the plan's window over the plan's symbols.
        features: Columns that hold every window of the plan.
        threads: See `simulation.run_combos`.
        device: See `gpu.choose`; on a cluster each node chooses for itself.
        where: `device` of pipeline.yaml: what runs the combos; by default this machine.
        launch: Most combos that this machine runs at a time; see `Simulator`.
        progress: Told of finished combos and of the speed.

    Raises:
        ConfigError: The engine or the bucket of results can't be used as configured.
        Busy: Another process runs this very sweep.
        Retryable: The GPU was lost or has no memory, the cluster or the bucket can't be reached, or the disk is full.
            Finished chunks are on disk, and the next call does the rest.
        DataError: A chunk on disk is damaged or foreign, or the folder can't be written.
    """
    choice = choose_device(settings, device, plan.strategy)
    folder = sweep_folder(settings.sweeps, plan)
    store = open_store(folder, settings.sweeps_bucket)
    started = time.monotonic()
    bar_steps = (window.last - window.first) * len(plan.symbols)
    searched_s = 0.0
    with files.locked(folder / "lock", f"sweep {plan.id[:16]} is running"):
        write_plan(folder, plan)
        clear_torn(folder)
        store.push(PLAN)
        alone = store.pull_all(CHUNKS, (chunk_name(plan, index) for index in range(plan.chunks)))
        left = [index for index in range(plan.chunks) if not chunk_done(folder, plan, index)]
        for name in alone:  # each was found whole
            store.push(name)
        resumed = done = plan.combos - sum(len(plan.chunk(index)) for index in left)
        simulator = Simulator(settings, plan, window, features, choice, threads, launch)
        with runner_for(where or Engine(), simulator, store) as runner:
            if left:
                runner.prepare()
            progress(done, plan.combos, "combos")
            began = time.monotonic()
            for index in in_flight(runner, plan, left, choice_of(plan, folder)):
                store.keep(chunk_name(plan, index))
                done += len(plan.chunk(index))
                searched_s = time.monotonic() - began
                progress(done, plan.combos, "combos", speed((done - resumed) / searched_s, bar_steps))
    seconds = time.monotonic() - started
    return SweepReport(plan.id, folder, plan.combos, resumed, bar_steps, seconds, searched_s, runner.device)


def in_flight(runner: Runner, plan: SweepPlan, left: Iterable[int], choice: Choice) -> Iterator[int]:
    """Keep as many launches at work as the runner takes and the choice allows; gives each chunk as it is finished.

    The combos of a launch are chosen while those before it run. The first that fails ends it: what is at work is waited
    for, and nothing else is begun.
    """
    waiting = deque(left)
    flying: list[dict[Future[None], Sequence[int]]] = []
    while waiting or flying:
        while waiting and len(flying) < runner.ahead:
            undone = [index for launch in flying for indices in launch.values() for index in indices]
            launch = _next_launch(waiting, runner.at_once, plan, choice, undone)
            if not launch:
                break
            flying.append(dict(runner.submit(launch)))
        yield from _landed(flying)


def _next_launch(
    waiting: deque[int], at_once: int, plan: SweepPlan, choice: Choice, undone: Sequence[int]
) -> list[Chunk]:
    """Take the chunks of a launch from those that wait: neighbours whose combos can be chosen now."""
    lowest = min(undone, default=waiting[0])
    launch: list[Chunk] = []
    combos = 0
    while waiting and choice.needs(waiting[0]) <= lowest:
        combos += len(plan.chunk(waiting[0]))
        if launch and combos > at_once:
            break
        index = waiting.popleft()
        launch.append(Chunk(index, choice.numbers(index)))
    return launch


def _landed(flying: list[dict[Future[None], Sequence[int]]]) -> Iterator[int]:
    """Wait for the next file, the oldest launch first; a launch with none left is no longer at work."""
    done = wait([future for launch in flying for future in launch], return_when=FIRST_COMPLETED).done
    for launch in flying:
        for future in [each for each in launch if each in done]:
            indices = launch.pop(future)
            future.result()
            yield from indices
    flying[:] = [launch for launch in flying if launch]
