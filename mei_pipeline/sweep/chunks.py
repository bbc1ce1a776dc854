"""One chunk of a sweep, from numbers of combos to a file, and the runner that does chunks on this machine."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from kernels.market import Ints, fill_model
from mei_pipeline.features import FeatureSet
from mei_pipeline.gpu import Choice, Gpu, open_gpu
from mei_pipeline.market import Window
from mei_pipeline.settings import Settings
from mei_pipeline.simulation import Combos, Outcome, encode_combos, run_combos
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import chunk_frame, write_chunk


class Runner(Protocol):
    """Does chunks of one sweep, each of which is a file when its future is done.

    Attributes:
        ahead: How many chunks it takes at a time.
    """

    ahead: int

    @property
    def engine(self) -> str:
        """What runs the combos, and why that."""

    def prepare(self) -> None:
        """Compile or fetch what is needed, before the clock of the search starts."""

    def submit(self, index: int, numbers: Ints) -> Future[None]:
        """Do the chunk `index`, whose combos are `numbers`."""


@dataclass
class Local:
    """Chunks on this machine, one after the other; the file of one is written while the next runs."""

    settings: Settings
    plan: SweepPlan
    window: Window
    features: FeatureSet
    folder: Path
    choice: Choice
    threads: int = 0
    ahead: int = 2
    _running: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _gpu: Gpu | None = None

    @property
    def engine(self) -> str:
        """What runs the combos, and why that."""
        return str(self.choice)

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self.ahead)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def prepare(self) -> None:
        """One combo over no step: compiles the engine, or reads it from disk."""
        self._gpu = open_gpu(self.choice, self.plan.strategy)
        nothing = replace(self.window, last=self.window.first)
        self._run(nothing, _encode(self.plan, self.features, np.arange(1, dtype=np.int64)))

    def submit(self, index: int, numbers: Ints) -> Future[None]:
        """Do the chunk `index`, whose combos are `numbers`, in its turn."""
        return self._pool.submit(self._chunk, index, numbers)

    def _chunk(self, index: int, numbers: Ints) -> None:
        combos = _encode(self.plan, self.features, numbers)
        with self._running:
            outcome = self._run(self.window, combos)
        frame = chunk_frame(self.plan, numbers, outcome, self.window.last - self.window.first)
        write_chunk(self.folder, self.plan, index, frame)

    def _run(self, window: Window, combos: Combos) -> Outcome:
        model = fill_model(self.plan.market, self.plan.initial_balance_usd)
        return run_combos(
            self.settings,
            window,
            model,
            self.features,
            combos,
            self.threads,
            gpu=self._gpu,
            stop=self._stop.is_set,
        )


def _encode(plan: SweepPlan, features: FeatureSet, numbers: Ints) -> Combos:
    values = {**plan.params, **plan.axis_values(numbers)}
    return encode_combos(
        plan.strategy, features, values, len(numbers), plan.symbols, plan.symbol_params, benchmark=plan.benchmark
    )
