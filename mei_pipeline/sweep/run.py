"""Run a sweep: chunk after chunk, each on disk before the next, so that a killed sweep goes on where it was."""

import time
from dataclasses import dataclass
from pathlib import Path

from kernels.market import fill_model
from mei_pipeline import files
from mei_pipeline.features import FeatureSet
from mei_pipeline.market import Window
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation import encode_combos, run_combos
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import chunk_done, chunk_frame, sweep_folder, write_chunk, write_plan


@dataclass(frozen=True)
class SweepReport:
    """How a sweep went.

    Attributes:
        id: Id of the sweep.
        folder: Where its plan and chunks are.
        combos: Combos of the plan.
        resumed: Combos that an earlier run had already done.
        seconds: Wall time of this run.
    """

    id: str
    folder: Path
    combos: int
    resumed: int
    seconds: float

    @property
    def combos_per_s(self) -> float | None:
        """Combos per second of this run; None when it had nothing left to do."""
        done = self.combos - self.resumed
        return done / self.seconds if done and self.seconds > 0.0 else None


def run_sweep(
    settings: Settings,
    plan: SweepPlan,
    window: Window,
    features: FeatureSet,
    *,
    threads: int = 0,
    progress: Progress = silent,
) -> SweepReport:
    """Run what is left of `plan`.

    Args:
        settings: Where sweeps and compiled kernels are kept.
        plan: The combos.
        window: What is traded; the plan's window over the plan's symbols.
        features: Columns that hold every window of the plan.
        threads: See `simulation.run_combos`.
        progress: Told of finished combos.

    Raises:
        Busy: Another process runs this very sweep.
        DataError: The disk is full, or a chunk on disk is damaged or foreign.
    """
    folder = sweep_folder(settings.sweeps, plan)
    started = time.monotonic()
    resumed = 0
    with files.locked(folder / "lock", f"sweep {plan.id[:16]} is running"):
        write_plan(folder, plan)
        model = fill_model(plan.market, plan.initial_balance_usd)
        for index in range(plan.chunks):
            numbers = plan.chunk(index)
            if chunk_done(folder, plan, index):
                resumed += len(numbers)
            else:
                params = {**plan.params, **plan.axis_values(numbers)}
                combos = encode_combos(plan.strategy, features, params, len(numbers), plan.symbols, plan.symbol_params)
                outcome = run_combos(settings, window, model, features, combos, threads)
                write_chunk(folder, plan, index, chunk_frame(plan, index, outcome, window.last - window.first))
            progress(numbers.stop, plan.combos, "combos")
    return SweepReport(plan.id, folder, plan.combos, resumed, time.monotonic() - started)
