"""Run a sweep launch by launch. Each finished chunk is a file, so that a killed sweep resumes at the next chunk."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.config.models import Compute
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.device import DeviceName, choose_device
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.window import Window
from mei_pipeline.storage import open_store
from mei_pipeline.sweep.cluster import make_runner
from mei_pipeline.sweep.combo_runner import ComboRunner
from mei_pipeline.sweep.launches import Chunk, Runner
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import CHUNKS, PLAN, chunk_done, chunk_name, clear_torn, sweep_folder, write_plan
from mei_pipeline.sweep.search.methods import SearchMethod, make_method


@dataclass(frozen=True)
class SweepReport:
    """Result of running a sweep.

    Attributes:
        id: Id of the sweep.
        folder: Folder of its plan and chunks.
        combos: Combos of the plan.
        resumed: Combos that an earlier run had finished.
        bar_steps: Work of one combo: steps of the window x symbols of the book.
        seconds: Wall time of this run.
        searched_s: Part of `seconds` spent on combos, without compiling the kernels.
        device: Device that ran the combos, and the reason for it.
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
        """Combos per second of this run; None if an earlier run had finished all of them."""
        finished = self.combos - self.resumed
        return finished / self.searched_s if finished and self.searched_s > 0.0 else None

    @property
    def bar_steps_per_s(self) -> float | None:
        """Bars of one symbol under one combo, per second of this run; None if nothing was left to run."""
        return self.bar_steps * self.combos_per_s if self.combos_per_s else None

    @property
    def speed(self) -> str:
        """Both speeds as text; empty if nothing was left to run."""
        return speed(self.combos_per_s or 0.0, self.bar_steps)


def speed(combos_per_s: float, bar_steps: int) -> str:
    """Return combos and bar-steps per second as text; empty without a measurement."""
    if not combos_per_s:
        return ""
    return f"{combos_per_s:,.0f} combos/s, {combos_per_s * bar_steps / 1e6:,.1f} M bar-steps/s"


def run_sweep(  # noqa: PLR0913 - options of the caller, by name
    settings: Settings,
    plan: SweepPlan,
    window: Window,
    features: FeatureSet,
    *,
    threads: int = 0,
    device: DeviceName = "auto",
    compute: Compute | None = None,
    launch: int = 0,
    progress: Progress = silent,
) -> SweepReport:
    """Run the combos of `plan` that have no result file yet.

    Args:
        settings: Folders of sweeps and compiled kernels.
        plan: The combos.
        window: Window of the plan over the symbols of the plan.
        features: Columns for every feature window of the plan.
        threads: See `simulation.run.run_combos`.
        device: See `simulation.device.choose_device`; on a cluster each node chooses for itself.
        compute: Section `compute` of pipeline.yaml; this machine by default.
        launch: Most combos that this machine runs at a time; see `ComboRunner`.
        progress: Receives the number of finished combos and the speed.

    Raises:
        ConfigError: The device or the bucket of results can't be used as configured.
        Busy: Another process runs the same sweep.
        Retryable: The GPU was lost or has no memory, the cluster or the bucket can't be reached, or the disk is full.
            Finished chunks are on disk; the next call runs the rest.
        DataError: A chunk on disk is damaged or belongs to another sweep, or the folder can't be written.
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
        unpushed = store.pull_all(CHUNKS, (chunk_name(plan, index) for index in range(plan.chunks)))
        remaining = [index for index in range(plan.chunks) if not chunk_done(folder, plan, index)]
        for name in unpushed:  # `chunk_done` has checked each of them
            store.push(name)
        resumed = done = plan.combos - sum(len(plan.chunk(index)) for index in remaining)
        combo_runner = ComboRunner(settings, plan, window, features, choice, threads, launch)
        with make_runner(compute or Compute(), combo_runner, store) as runner:
            if remaining:
                runner.prepare()
            progress(done, plan.combos, "combos")
            began = time.monotonic()
            for index in run_chunks(runner, plan, remaining, make_method(plan, folder)):
                store.keep(chunk_name(plan, index))
                done += len(plan.chunk(index))
                searched_s = time.monotonic() - began
                progress(done, plan.combos, "combos", speed((done - resumed) / searched_s, bar_steps))
    seconds = time.monotonic() - started
    return SweepReport(plan.id, folder, plan.combos, resumed, bar_steps, seconds, searched_s, runner.device)


def run_chunks(runner: Runner, plan: SweepPlan, remaining: Iterable[int], method: SearchMethod) -> Iterator[int]:
    """Keep as many launches running as the runner accepts and the search method can supply; yield finished chunks.

    The search method chooses the combos of a launch while earlier launches run. After a failed launch no other one
    starts, and launches that already run are completed.
    """
    pending = deque(remaining)
    running: list[dict[Future[None], Sequence[int]]] = []
    while pending or running:
        while pending and len(running) < runner.ahead:
            unfinished = [index for launch in running for indices in launch.values() for index in indices]
            launch = _next_launch(pending, runner.at_once, plan, method, unfinished)
            if not launch:
                break
            running.append(dict(runner.submit(launch)))
        yield from _finished(running)


def _next_launch(
    pending: deque[int], at_once: int, plan: SweepPlan, method: SearchMethod, unfinished: Sequence[int]
) -> list[Chunk]:
    """Take the chunks of the next launch from the pending ones: neighbours whose combos the method can choose now."""
    lowest = min(unfinished, default=pending[0])
    launch: list[Chunk] = []
    combos = 0
    while pending and method.chunks_needed(pending[0]) <= lowest:
        combos += len(plan.chunk(pending[0]))
        if launch and combos > at_once:
            break
        index = pending.popleft()
        launch.append(Chunk(index, method.numbers(index)))
    return launch


def _finished(running: list[dict[Future[None], Sequence[int]]]) -> Iterator[int]:
    """Wait for the next finished file, oldest launch first, and remove launches without unfinished files."""
    done = wait([future for launch in running for future in launch], return_when=FIRST_COMPLETED).done
    for launch in running:
        for future in [each for each in launch if each in done]:
            indices = launch.pop(future)
            future.result()
            yield from indices
    running[:] = [launch for launch in running if launch]
