"""Launch the kernels on a GPU through CuPy: tiles of steps, batches of combos, results.

CuPy is passed as an argument. Only parts of it that need no compiler are used: modules of machine code, and raw memory.
A job is cut into as few batches as fit the free memory. Two batches are in flight: the results of one are copied back
while the next one runs.
"""

import bisect
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.blocks import BLOCKS
from kernels.book import STEP
from kernels.cuda.layout import (
    COMBOS,
    RESULTS,
    ArrayLayout,
    LayoutSizes,
    all_arrays,
    batch_arrays,
    describe_dtype,
    offsets_of,
    pack_array,
)
from kernels.cuda.manifest import CompiledKernel, CudaUnavailable, KernelManifest
from kernels.cuda.memory import Buffer, DeviceArray, PinnedBuffers, allocate, download, span_of, upload
from kernels.cuda.status import kind_of
from kernels.ledger import ACCOUNT
from kernels.market import Floats, Ints, Market

_THREADS = 128  # per block: with 168 registers, a multiprocessor holds three such blocks
_FEWEST_COMBOS = 32  # one warp
_MOST_COMBOS = 1 << 19  # a device is fully used long before
TILE_BYTES = 32 << 20  # signals of a tile, so that they fit the cache of the device
_SIGNAL_BYTES = 3  # per symbol and step: a code, and an entry of the list of symbols with a signal
_SHORTEST_TILE, _LONGEST_TILE = 16, 512
_AHEAD = 2  # tiles that are launched before the first of them has finished
_USED_FRAC = 0.8  # of free memory: local memory of threads needs the rest
_IN_FLIGHT = 2  # batches

LaunchKernel = Callable[[str, int, Mapping[str, float]], None]
"""Launches a kernel, given its name, the number of threads and its scalars."""


class LaunchStopped(Exception):
    """A launch was stopped by its caller."""


class DeviceMemoryFull(Exception):
    """The memory of the device is too small for the smallest batch."""


class CudaJob(NamedTuple):
    """Combos to run, in order of their signal group.

    Attributes:
        signal_group_of: [K] signal group of each combo.
        params: [K, G] records of all parameters, by combo and symbol group.
        signal_params: [E, G] records of the parameters that shape signals, by signal group and symbol group.
        column_of: [E, G, F] column number of each feature.
        first: First step.
        last: One past the last step.
        usd: Cash at the start.
    """

    signal_group_of: Ints
    params: NDArray[Any]
    signal_params: NDArray[Any]
    column_of: Ints
    first: int
    last: int
    usd: float


def run_tiles(
    launch: LaunchKernel, sizes: LayoutSizes, first: int, last: int, usd: float, since: Sequence[int] = (0,)
) -> Iterator[int]:
    """Launch the kernels that move new combos through the steps [first, last), tile by tile.

    A tile ends at the first step of the next version of the venue's terms; `since` has the first step of each version.

    Yields:
        One past the last step of each tile.
    """
    launch("start", sizes.combos, {"usd": usd})
    base = first
    while base < last:
        version = bisect.bisect_right(since, base) - 1
        ends = [base + sizes.tile, last, *since[version + 1 : version + 2]]
        count = min(ends) - base
        tile = {"first": base, "count": count, "version": version}
        launch("signals", sizes.signal_groups * count, tile)
        launch("idle", sizes.signal_groups, tile)
        launch("advance", sizes.combos, tile)
        base += count
        yield base


def tile_steps(sets: int, symbols: int, most_bytes: int = TILE_BYTES) -> int:
    """Return the length of a tile whose signals fit the cache of the device; results do not depend on it."""
    step_bytes = sets * (symbols * _SIGNAL_BYTES + int(STEP.itemsize))
    return max(_SHORTEST_TILE, min(_LONGEST_TILE, most_bytes // step_bytes))


@dataclass
class CudaDevice:
    """A CUDA device with the kernels of one strategy and a market.

    Only one thread at a time may use it.

    Attributes:
        cupy: The module CuPy.
        strategy: The strategy.
        manifest: Manifest of the kernels.
        folder: Folder of the kernels.
        most: Largest number of combos per batch.
        tile_bytes: Largest size of the signals of a tile.
        batch: Number of combos in the largest batch of the last job.
        spent_ms: Milliseconds of device time per kernel, added up over jobs; None to measure nothing.
    """

    cupy: Any
    strategy: ModuleType
    manifest: KernelManifest
    folder: Path
    most: int = _MOST_COMBOS
    tile_bytes: int = TILE_BYTES
    batch: int = 0
    spent_ms: dict[str, float] | None = None

    def __post_init__(self) -> None:
        layouts = all_arrays(self.strategy, LayoutSizes(1, 1, 1, 1, 1, 1))
        for name, kernel in self.manifest.kernels.items():
            for argument in kernel.arguments:
                array = layouts.get(argument.name)
                if argument.order and (
                    array is None or (describe_dtype(array.dtype), array.order) != (argument.dtype, argument.order)
                ):
                    raise CudaUnavailable(
                        f"{self.folder}: kernel {name} has other records than this version's: {argument.name}"
                    )
        self._functions = {
            name: self.cupy.RawModule(path=str(self.folder / f"{name}.cubin")).get_function(kernel.entry)
            for name, kernel in self.manifest.kernels.items()
        }
        self._stream = self.cupy.cuda.Stream(non_blocking=True)
        self._pinned = PinnedBuffers(self.cupy)
        self._held: Any = None
        self._inputs: dict[str, DeviceArray] = {}
        self._since: list[int] = [0]

    def load(self, market: Market, symbols: NDArray[Any], models: NDArray[Any], columns: Floats) -> None:
        """Copy a market and its feature columns to the device, in place of the previous ones.

        Raises:
            DeviceMemoryFull: They do not fit.
        """
        inputs_on_host = {f"market.{name}": array for name, array in zip(Market._fields, market, strict=True)}
        inputs_on_host |= {"symbols": symbols, "models": models, "columns": columns}
        self.clear()
        self._since = market.since.tolist()
        arrays = {name: ArrayLayout(array.dtype, array.shape) for name, array in inputs_on_host.items()}
        try:
            held, inputs = allocate(self.cupy, arrays)
            kept = [upload(array, inputs[name], held, self._stream) for name, array in inputs_on_host.items()]
            self._stream.synchronize()
            del kept
        except Exception as error:
            if kind_of(self.cupy, error) != "memory":
                raise
            size_mib = offsets_of(arrays)[1] / (1 << 20)
            raise DeviceMemoryFull(
                f"bars and features, {size_mib:,.0f} MiB, do not fit the memory of the device"
            ) from error
        self._held, self._inputs = held, inputs

    def clear(self) -> None:
        """Release the market and all spare memory, on device and host."""
        self._held, self._inputs = None, {}
        self._release_spare()

    def run(self, job: CudaJob, stop: Callable[[], bool] = lambda: False) -> tuple[NDArray[Any], Floats]:
        """Run every combo, in batches that fit the free memory.

        Args:
            job: The combos, in order of their signal group.
            stop: Called between tiles; the run stops when it returns True.

        Returns:
            [K] records of `ledger.ACCOUNT`, and [BLOCKS, 3, K] daily returns.

        Raises:
            LaunchStopped: `stop` returned True.
            DeviceMemoryFull: The smallest batch does not fit.
        """
        combos = len(job.signal_group_of)
        accounts, days = np.empty(combos, ACCOUNT), np.empty((BLOCKS, 3, combos))
        in_flight: deque[_Batch] = deque()
        size = self.batch = self._fit_batch(job)
        fewest = min(_FEWEST_COMBOS, self.most)
        done = begun = failed = 0
        while done < combos:
            try:
                if begun < combos and len(in_flight) < _IN_FLIGHT:
                    in_flight.append(self._begin(job, slice(begun, min(begun + size, combos)), stop))
                    begun = in_flight[-1].part.stop
                else:
                    done = self._collect(in_flight, accounts, days)
                failed = 0
            except Exception as error:
                if kind_of(self.cupy, error) != "memory":
                    self._drop(in_flight)
                    raise
                # Batches in flight hold memory. Their results are collected before a smaller batch is tried.
                was_alone = not in_flight
                with contextlib.suppress(Exception):
                    while in_flight:
                        done = self._collect(in_flight, accounts, days)
                was_alone |= bool(in_flight)
                self._drop(in_flight)
                begun, failed = done, failed + was_alone
                if size <= fewest and failed > 1:
                    size = min(size, combos - done)
                    raise DeviceMemoryFull(f"{size} combos at once do not fit the memory of the device") from error
                size = max(size // 2, fewest)
                self._release_spare()
            except BaseException:
                self._drop(in_flight)
                raise
        return accounts, days

    def _collect(self, in_flight: "deque[_Batch]", accounts: NDArray[Any], days: Floats) -> int:
        """Wait for the oldest batch, keep its results, and return the number of combos done."""
        batch = in_flight[0]
        batch.done.synchronize()
        # numpy copies records field by field, ten times slower than their bytes.
        accounts.view(np.uint8).reshape(-1, ACCOUNT.itemsize)[batch.part] = (
            batch.results["accounts"].view(np.uint8).reshape(-1, ACCOUNT.itemsize)
        )
        days[:, :, batch.part] = batch.results["days"]
        in_flight.popleft()
        self._pinned.give_back(batch.buffer)
        for name, before, after in batch.events:
            if self.spent_ms is not None:
                spent = self.cupy.cuda.get_elapsed_time(before, after)
                self.spent_ms[name] = self.spent_ms.get(name, 0.0) + float(spent)
        return int(batch.part.stop)

    def _drop(self, in_flight: "deque[_Batch]") -> None:
        """Drop batches, each after the device has finished with it; its memory must not be reused earlier."""
        while in_flight:
            with contextlib.suppress(Exception):
                in_flight[0].done.synchronize()
            in_flight.popleft()

    def _begin(self, job: CudaJob, part: slice, stop: Callable[[], bool]) -> "_Batch":
        """Start one batch: copy its inputs to the device, launch the kernels, and queue the copy of its results."""
        sets, signal_group_of = _signal_groups_of(job.signal_group_of[part])
        sizes = self._sizes(job, len(signal_group_of), len(sets))
        arrays = batch_arrays(self.strategy, sizes)
        memory, placed = allocate(self.cupy, arrays)
        results = {name: placed[name] for name in RESULTS}
        buffer = self._pinned.take(span_of(results.values()))
        stream = self.cupy.cuda.Stream(non_blocking=True)
        try:
            memory.memset_async(0, offsets_of(arrays)[1], stream)
            inputs = {
                "column_of": job.column_of[sets],
                "signal_params": job.signal_params[sets],
                "signal_group_of": signal_group_of,
                "params": job.params[part],
            }
            kept = [upload(inputs[name], placed[name], memory, stream) for name in COMBOS]
            events = self._start(job, sizes, {**self._inputs, **placed}, stream, stop)
            downloaded = download(results, memory, buffer, stream)
            return _Batch(part, self._record_event(stream), downloaded, buffer, events, (memory, stream, kept))
        except BaseException:
            # Memory that is released while the device still writes to it would be reused by the next batch.
            with contextlib.suppress(Exception):
                stream.synchronize()
                self._pinned.give_back(buffer)
            raise

    def _start(
        self, job: CudaJob, sizes: LayoutSizes, arrays: Mapping[str, DeviceArray], stream: Any, stop: Callable[[], bool]
    ) -> "list[_Timed]":
        """Launch the tiles of a batch, a few ahead of the device; return the events around each kernel if measured."""
        calls = {name: _call_of(kernel, arrays) for name, kernel in self.manifest.kernels.items()}
        events: list[_Timed] = []

        def launch(name: str, threads: int, scalars: Mapping[str, float]) -> None:
            before = self._record_event(stream, timed=True) if self.spent_ms is not None else None
            with stream:
                self._functions[name]((-(-threads // _THREADS),), (_THREADS,), calls[name].with_scalars(scalars))
            if before is not None:
                events.append((name, before, self._record_event(stream, timed=True)))

        started: deque[Any] = deque()
        for _ in run_tiles(launch, sizes, job.first, job.last, job.usd, self._since):
            started.append(self._record_event(stream))
            if len(started) > _AHEAD:
                started.popleft().synchronize()
            if stop():
                raise LaunchStopped
        return events

    def _fit_batch(self, job: CudaJob) -> int:
        """Return the number of combos per batch, for as few equal batches as fit the free memory."""
        free, _ = self.cupy.cuda.runtime.memGetInfo()
        # CuPy keeps freed blocks for its next allocations. They are free to this process only.
        room = (free + self.cupy.get_default_memory_pool().free_bytes()) * _USED_FRAC
        combos, sets = len(job.signal_group_of), len(job.signal_params)
        parts = max(-(-combos // self.most), 1)
        fewest = min(_FEWEST_COMBOS, self.most)
        while (batch := -(-combos // parts)) > fewest:
            arrays = batch_arrays(self.strategy, self._sizes(job, batch, min(batch, sets)))
            if offsets_of(arrays)[1] * min(parts, _IN_FLIGHT) <= room:
                return batch
            parts += max(parts // 8, 1)
        return max(min(fewest, combos), 1)

    def _sizes(self, job: CudaJob, combos: int, sets: int) -> LayoutSizes:
        """Return the lengths of the axes for a batch."""
        steps, symbols = self._inputs["market.close"].array.shape
        _, groups, features = job.column_of.shape
        tile = min(tile_steps(sets, symbols, self.tile_bytes), max(job.last - job.first, 1))
        return replace(
            LayoutSizes(combos, sets, tile, symbols, groups, features), steps=steps, versions=len(self._since)
        )

    def _release_spare(self) -> None:
        """Release spare memory of device and host."""
        self._pinned.release_all()
        self.cupy.get_default_memory_pool().free_all_blocks()

    def _record_event(self, stream: Any, *, timed: bool = False) -> Any:
        """Record an event on a stream; it has a time if `timed`."""
        event = self.cupy.cuda.Event(block=True, disable_timing=not timed)
        event.record(stream)
        return event


class _Call(NamedTuple):
    """Arguments of a kernel that are constant for a batch, with the places of its scalars."""

    words: tuple[Any, ...]
    scalars: tuple[tuple[int, str, type[Any]], ...]

    def with_scalars(self, values: Mapping[str, float]) -> tuple[Any, ...]:
        """Return all arguments, with the values of the scalars."""
        words = list(self.words)
        for place, name, kind in self.scalars:
            words[place] = kind(values[name])
        return tuple(words)


def _call_of(kernel: CompiledKernel, arrays: Mapping[str, DeviceArray]) -> _Call:
    """Return the packed arguments of a kernel."""
    words: list[Any] = []
    scalars = []
    for argument in kernel.arguments:
        if argument.order:
            words += pack_array(argument.words, *arrays[argument.name])
        else:
            scalars.append((len(words), argument.name, np.dtype(argument.dtype).type))
            words.append(None)
    return _Call(tuple(words), tuple(scalars))


def _signal_groups_of(signal_group_of: Ints) -> tuple[Ints, Ints]:
    """Return the distinct signal groups of combos in order, and the position of each combo's group among them."""
    first = np.diff(signal_group_of, prepend=signal_group_of[0] - 1) != 0
    return signal_group_of[first], np.cumsum(first) - 1


_Timed = tuple[str, Any, Any]


@dataclass(frozen=True)
class _Batch:
    """A batch in flight.

    Attributes:
        part: Combos of the batch.
        done: Event after the copy of its results.
        results: Results, in the buffer; valid after `done`.
        buffer: Pinned memory that the batch uses until `done`.
        events: Name of each launched kernel, with the events before and after it.
        held: Objects that must live until `done`.
    """

    part: slice
    done: Any
    results: dict[str, NDArray[Any]]
    buffer: Buffer
    events: list[_Timed]
    held: Any
