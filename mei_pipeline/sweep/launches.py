"""Launches of a sweep, and the runner that executes them on this machine.

A chunk is a result file, the unit that survives a kill. A launch is the chunks that a device runs at a time. The
content of files does not depend on the launches.
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
from mei_pipeline.simulation.combos import Combos
from mei_pipeline.simulation.run import ComboOutcomes
from mei_pipeline.sweep.combo_runner import ComboRunner
from mei_pipeline.sweep.results import chunk_frame, write_chunk

_WRITERS = 4  # threads that write files; most of their time they wait for the disk


@dataclass(frozen=True)
class Chunk:
    """A chunk with chosen combos: its index among the files of the sweep, and the numbers of its combos."""

    index: int
    numbers: Ints


Launch = Sequence[Chunk]
"""Chunks that a device runs at a time."""


class Runner(Protocol):
    """Executes launches of one sweep; a chunk is a file when its future is done."""

    @property
    def ahead(self) -> int:
        """Number of launches that it accepts at a time."""

    @property
    def at_once(self) -> int:
        """Most combos of a launch of several chunks; 0 for one chunk per launch."""

    @property
    def device(self) -> str:
        """Device that runs the combos, and the reason for it."""

    def prepare(self) -> None:
        """Compile or fetch everything that is needed, before the sweep starts its clock."""

    def submit(self, launch: Launch) -> Mapping[Future[None], Sequence[int]]:
        """Execute a launch; return the chunks that are files when each future is done."""


@dataclass
class LocalRunner:
    """Executes launches on this machine one after another; writes the files of one while the next one runs."""

    combo_runner: ComboRunner
    folder: Path

    @property
    def ahead(self) -> int:
        """Two launches; one until the device is chosen."""
        return 2 if self.combo_runner.settled else 1

    @property
    def at_once(self) -> int:
        """Combos that the device takes at a time."""
        return self.combo_runner.at_once

    @property
    def device(self) -> str:
        """Device that runs the combos, and the reason for it."""
        return self.combo_runner.device

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self.combo_runner.stop = self._stop.is_set
        # One thread per step: launches run in order of submission, and one is encoded while another one runs.
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
        self._writers.shutdown()  # finished combos are written even if an error ended the sweep
        self._last = self._failed = None  # frames of an error keep memory of the device
        self.combo_runner.close()

    def prepare(self) -> None:
        """Compile the kernels, or load them from disk."""
        self.combo_runner.prepare()

    def submit(self, launch: Launch) -> Mapping[Future[None], Sequence[int]]:
        """Queue a launch; each of its chunks becomes a file of its own."""
        if self._last is not None and self._last.done():
            self._failed = None  # nothing runs any more: a worker of a cluster retries after a failed launch
        combos = self._encoder.submit(self._encode, launch)
        run = self._last = self._device.submit(self._run, combos)
        # Writers take chunks in the order of launches, so that a writer that waits never delays an earlier chunk.
        starts = np.cumsum([0, *(len(chunk.numbers) for chunk in launch)]).tolist()
        return {
            self._writers.submit(self._write, run, chunk, start): (chunk.index,)
            for chunk, start in zip(launch, starts[:-1], strict=True)
        }

    def _encode(self, launch: Launch) -> Combos:
        return self.combo_runner.encode(np.concatenate([chunk.numbers for chunk in launch]))

    def _run(self, combos: Future[Combos]) -> ComboOutcomes:
        if self._failed is not None:
            raise self._failed
        try:
            return self.combo_runner.run(combos.result())
        except Exception as error:
            self._failed = error  # the queued launch raises the same error, so that the sweep reports the first one
            raise

    def _write(self, run: Future[ComboOutcomes], chunk: Chunk, start: int) -> None:
        outcome = run.result().slice(start, start + len(chunk.numbers))
        plan, window = self.combo_runner.plan, self.combo_runner.window
        frame = chunk_frame(plan, chunk.numbers, outcome, window.last - window.first)
        write_chunk(self.folder, plan, chunk.index, frame)
