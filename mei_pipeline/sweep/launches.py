"""Launches of a sweep, from numbers of combos to files, and the runner that does them on this machine.

A chunk is a result file: what survives a kill. A launch is the combos that a device gets at a time: as many chunks as
fill it. Files do not depend on how chunks are put together.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from kernels.market import Ints
from mei_pipeline.simulation.run import ComboOutcomes, Combos
from mei_pipeline.sweep.results import chunk_frame, write_chunk
from mei_pipeline.sweep.simulator import Simulator

_WRITERS = 4  # files that are written at a time: most of that is waiting for the disk


@dataclass(frozen=True)
class Chunk:
    """A chunk whose combos are chosen: its place among the files of the sweep, and the numbers of its combos."""

    index: int
    numbers: Ints


Launch = Sequence[Chunk]
"""Chunks whose combos a device gets at a time."""


class Runner(Protocol):
    """Does launches of one sweep; a chunk is a file when its future is done."""

    @property
    def ahead(self) -> int:
        """Number of launches that it takes at a time."""

    @property
    def at_once(self) -> int:
        """Most combos of a launch of several chunks; 0 for a chunk a launch."""

    @property
    def device(self) -> str:
        """What runs the combos, and why that."""

    def prepare(self) -> None:
        """Compile or fetch what is needed, before the clock of the search starts."""

    def submit(self, launch: Launch) -> Mapping[Future[None], Sequence[int]]:
        """Do a launch; returns which chunks are files when a future is done."""


@dataclass
class Local:
    """Launches on this machine, one after the other; the files of one are written while the next runs."""

    simulator: Simulator
    folder: Path

    @property
    def ahead(self) -> int:
        """Two launches; one as long as it is not known what runs them."""
        return 2 if self.simulator.settled else 1

    @property
    def at_once(self) -> int:
        """Combos that the device takes at a time."""
        return self.simulator.at_once

    @property
    def device(self) -> str:
        """What runs the combos, and why that."""
        return self.simulator.device

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self.simulator.stop = self._stop.is_set
        # A thread for each step: launches run in the order in which they came, each encoded while another runs.
        self._encoder = ThreadPoolExecutor(1)
        self._device = ThreadPoolExecutor(1)
        self._last: Future[ComboOutcomes] | None = None
        self._failed: Exception | None = None
        self._writers = ThreadPoolExecutor(min(_WRITERS, os.cpu_count() or 1))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self._stop.set()
        self._encoder.shutdown(cancel_futures=True)
        self._device.shutdown(cancel_futures=True)
        self._writers.shutdown()  # what was run is written, whatever ended the sweep
        self._last = self._failed = None  # frames of an error hold memory of the device
        self.simulator.close()

    def prepare(self) -> None:
        """Compile the kernels, or read them from disk."""
        self.simulator.prepare()

    def submit(self, launch: Launch) -> Mapping[Future[None], Sequence[int]]:
        """Do a launch in its turn; each chunk is a file by itself."""
        if self._last is not None and self._last.done():
            self._failed = None  # nothing is at work: a worker of a cluster tries again after what failed
        combos = self._encoder.submit(self._encode, launch)
        run = self._last = self._device.submit(self._run, combos)
        # Writers take chunks in the order of launches: one that waits for its launch keeps no earlier chunk back.
        starts = np.cumsum([0, *(len(chunk.numbers) for chunk in launch)]).tolist()
        return {
            self._writers.submit(self._write, run, chunk, start): (chunk.index,)
            for chunk, start in zip(launch, starts[:-1], strict=True)
        }

    def _encode(self, launch: Launch) -> Combos:
        return self.simulator.encode(np.concatenate([chunk.numbers for chunk in launch]))

    def _run(self, combos: Future[Combos]) -> ComboOutcomes:
        if self._failed is not None:
            raise self._failed
        try:
            return self.simulator.run(combos.result())
        except Exception as error:
            self._failed = error  # the launch that waits is not run, and the sweep ends with what was wrong first
            raise

    def _write(self, run: Future[ComboOutcomes], chunk: Chunk, start: int) -> None:
        outcome = run.result().slice(start, start + len(chunk.numbers))
        plan, window = self.simulator.plan, self.simulator.window
        frame = chunk_frame(plan, chunk.numbers, outcome, window.last - window.first)
        write_chunk(self.folder, plan, chunk.index, frame)
