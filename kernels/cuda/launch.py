"""Start the kernels on a device through CuPy: memory, transfers, tiles of steps, batches of combos.

CuPy is handed in as an argument, and nothing of it is used that needs a compiler: modules are loaded from machine code,
memory is raw. Two batches are in flight: while one is at work, the results of the one before it come back.
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

from kernels.book import STEP
from kernels.cuda.layout import (
    COMBOS,
    RESULTS,
    Array,
    Sizes,
    all_arrays,
    batch_arrays,
    described,
    packed,
    places,
)
from kernels.cuda.manifest import Manifest, Unfit
from kernels.market import Floats, Ints, Market

_THREADS = 128  # of a block: 168 registers leave room for three blocks of it on a multiprocessor
_FEWEST_COMBOS = 32  # a warp
_MOST_COMBOS = 1 << 19  # a device is full long before
TILE_BYTES = 32 << 20  # signals of a tile: what the device's own cache holds
_SIGNAL_BYTES = 3  # of a symbol at a step: a code and a hit
_SHORTEST_TILE, _LONGEST_TILE = 16, 512
_AHEAD = 2  # tiles that are started before the first of them is done
_USED_FRAC = 0.8  # of free memory: threads need some for themselves
_IN_FLIGHT = 2  # batches
_OUT_OF_MEMORY = 2  # CUDA's number for it, in both of its interfaces

Launch = Callable[[str, int, Mapping[str, float]], None]
"""Starts a kernel: its name, how many threads, its scalars."""


class Stopped(Exception):
    """Someone asked to stop."""


class NoMemory(Exception):
    """Not even the fewest combos fit the device's memory."""


class Placed(NamedTuple):
    """An array, and where its memory is."""

    array: Array
    pointer: int


class Job(NamedTuple):
    """Combos in order of their entry set.

    Attributes:
        entry_of: [K] entry set of each.
        params: [K, G] records of all parameters.
        entries: [E, G] records of the parameters that shape signals.
        rows: [E, G, F] feature columns.
        first: First step.
        last: One past the last step.
        usd: Cash at the start.
    """

    entry_of: Ints
    params: NDArray[Any]
    entries: NDArray[Any]
    rows: Ints
    first: int
    last: int
    usd: float


def through(
    launch: Launch, sizes: Sizes, first: int, last: int, usd: float, since: Sequence[int] = (0,)
) -> Iterator[int]:
    """Take fresh combos through the steps [first, last) by tiles; gives the step that each tile ends before.

    A tile ends where the next version of the venue's terms begins; `since` has the first step of each.
    """
    launch("start", sizes.combos, {"usd": usd})
    base = first
    while base < last:
        version = bisect.bisect_right(since, base) - 1
        ends = [base + sizes.tile, last, *since[version + 1 : version + 2]]
        count = min(ends) - base
        tile = {"first": base, "count": count, "version": version}
        launch("look", sizes.sets * count, tile)
        launch("calm", sizes.sets, tile)
        launch("move", sizes.combos, tile)
        base += count
        yield base


def tile_steps(sets: int, symbols: int, most_bytes: int = TILE_BYTES) -> int:
    """Steps of a tile whose signals stay in the device's cache; results do not depend on it."""
    of_step = sets * (symbols * _SIGNAL_BYTES + int(STEP.itemsize))
    return max(_SHORTEST_TILE, min(_LONGEST_TILE, most_bytes // of_step))


@dataclass
class Card:
    """One device with the kernels of one strategy on it, and the market that they run over.

    Attributes:
        cupy: The module CuPy.
        strategy: The strategy.
        manifest: What its kernels are.
        folder: Where they are.
        batch: Combos of a batch; 0 until the memory has been looked at.
        tile_bytes: Bytes that the signals of a tile may take.
    """

    cupy: Any
    strategy: ModuleType
    manifest: Manifest
    folder: Path
    batch: int = 0
    tile_bytes: int = TILE_BYTES

    def __post_init__(self) -> None:
        known = all_arrays(self.strategy, Sizes(1, 1, 1, 1, 1, 1))
        for name, kernel in self.manifest.kernels.items():
            for argument in kernel.arguments:
                array = known.get(argument.name)
                if argument.order and (
                    array is None or (described(array.dtype), array.order) != (argument.dtype, argument.order)
                ):
                    raise Unfit(f"{self.folder}: kernel {name} has other records than this version's: {argument.name}")
        self._functions = {
            name: self.cupy.RawModule(path=str(self.folder / f"{name}.cubin")).get_function(kernel.entry)
            for name, kernel in self.manifest.kernels.items()
        }
        self._stream = self.cupy.cuda.Stream(non_blocking=True)
        self._held: Any = None
        self._inputs: dict[str, Placed] = {}
        self._since: list[int] = [0]

    def load(self, market: Market, symbols: NDArray[Any], models: NDArray[Any], columns: Floats) -> None:
        """Bring a market and its feature columns to the device, in the place of those before."""
        given = {f"market.{name}": array for name, array in zip(Market._fields, market, strict=True)}
        given |= {"symbols": symbols, "models": models, "columns": columns}
        self._since = market.since.tolist()
        self._held, self._inputs, self.batch = None, {}, 0
        self.cupy.get_default_memory_pool().free_all_blocks()
        arrays = {name: Array(array.dtype, array.shape) for name, array in given.items()}
        self._held, self._inputs = self._allocated(arrays)
        kept = [self._upload(array, self._inputs[name], self._held, self._stream) for name, array in given.items()]
        self._stream.synchronize()
        del kept

    def run(self, job: Job, stop: Callable[[], bool] = lambda: False) -> tuple[NDArray[Any], Floats]:
        """Run every combo.

        Args:
            job: The combos, in order of their entry set.
            stop: Asked between tiles.

        Returns:
            [K] records of `ledger.ACCOUNT`, and [BLOCKS, 3, K] daily returns.

        Raises:
            Stopped: `stop` said so.
            NoMemory: Not even a few combos fit.
        """
        combos = len(job.entry_of)
        self.batch = self.batch or self._fitting(job)
        flying: deque[_Batch] = deque()
        accounts: list[NDArray[Any]] = []
        days: list[Floats] = []

        def land() -> None:
            results = flying.popleft().results()
            accounts.append(results["accounts"])
            days.append(results["days"])

        begun = 0
        while begun < combos:
            until = min(begun + self.batch, combos)
            try:
                flying.append(self._begin(job, slice(begun, until), stop))
            except Exception as error:
                if not self._is_out_of_memory(error):
                    raise
                self._shrink(error, alone=not flying)
                while flying:
                    land()
                continue
            begun = until
            while len(flying) >= _IN_FLIGHT:
                land()
        while flying:
            land()
        return np.concatenate(accounts), np.concatenate(days, axis=2)

    def _begin(self, job: Job, part: slice, stop: Callable[[], bool]) -> "_Batch":
        """Start one batch: what it needs is brought there, and its results are asked for."""
        sets, entry_of = np.unique(job.entry_of[part], return_inverse=True)
        sizes = self._sizes(job, len(entry_of), len(sets))
        arrays = batch_arrays(self.strategy, sizes)
        memory, placed = self._allocated(arrays)
        stream = self.cupy.cuda.Stream(non_blocking=True)
        try:
            memory.memset_async(0, places(arrays)[1], stream)
            given = {
                "rows": job.rows[sets],
                "entries": job.entries[sets],
                "entry_of": entry_of.astype(np.int64),
                "params": job.params[part],
            }
            kept = [self._upload(given[name], placed[name], memory, stream) for name in COMBOS]
            self._start(job, sizes, {**self._inputs, **placed}, stream, stop)
            results = {name: self._download(placed[name], memory, stream) for name in RESULTS}
            return _Batch(self._mark(stream), results, (memory, stream, kept))
        except BaseException:
            # Memory that is given back while the device still writes it would be the next batch's.
            with contextlib.suppress(Exception):
                stream.synchronize()
            raise

    def _start(
        self, job: Job, sizes: Sizes, arrays: Mapping[str, Placed], stream: Any, stop: Callable[[], bool]
    ) -> None:
        """Start the tiles of a batch, a few ahead of the device."""

        def launch(name: str, threads: int, scalars: Mapping[str, float]) -> None:
            self._launch(name, threads, scalars, arrays, stream)

        marks: deque[Any] = deque()
        for _ in through(launch, sizes, job.first, job.last, job.usd, self._since):
            marks.append(self._mark(stream))
            if len(marks) > _AHEAD:
                marks.popleft().synchronize()
            if stop():
                raise Stopped

    def _fitting(self, job: Job) -> int:
        """Combos of a batch, so that as many batches as are in flight fit the memory that is free."""
        free, _ = self.cupy.cuda.runtime.memGetInfo()
        room = free * _USED_FRAC / _IN_FLIGHT
        batch = min(_MOST_COMBOS, max(len(job.entry_of), _FEWEST_COMBOS))
        sets = len(job.entries)
        while (
            batch > _FEWEST_COMBOS
            and places(batch_arrays(self.strategy, self._sizes(job, batch, min(batch, sets))))[1] > room
        ):
            batch //= 2
        return batch

    def _sizes(self, job: Job, combos: int, sets: int) -> Sizes:
        steps, symbols = self._inputs["market.close"].array.shape
        _, groups, features = job.rows.shape
        tile = min(tile_steps(sets, symbols, self.tile_bytes), max(job.last - job.first, 1))
        return replace(Sizes(combos, sets, tile, symbols, groups, features), steps=steps, versions=len(self._since))

    def _shrink(self, error: Exception, *, alone: bool) -> None:
        """Halve a batch that did not fit, alone or beside another one."""
        if alone and self.batch <= _FEWEST_COMBOS:
            raise NoMemory(f"{self.batch} combos at once do not fit the memory of the device: {error}") from None
        self.batch = max(self.batch // 2, _FEWEST_COMBOS)
        self.cupy.get_default_memory_pool().free_all_blocks()

    def _is_out_of_memory(self, error: Exception) -> bool:
        known = isinstance(error, self.cupy.cuda.memory.OutOfMemoryError)
        return known or getattr(error, "status", None) == _OUT_OF_MEMORY

    def _launch(
        self, name: str, threads: int, scalars: Mapping[str, float], arrays: Mapping[str, Placed], stream: Any
    ) -> None:
        words: list[Any] = []
        for argument in self.manifest.kernels[name].arguments:
            if argument.order:
                words += packed(argument.words, *arrays[argument.name])
            else:
                words.append(np.dtype(argument.dtype).type(scalars[argument.name]))
        with stream:
            self._functions[name]((-(-threads // _THREADS),), (_THREADS,), tuple(words))

    def _allocated(self, arrays: Mapping[str, Array]) -> tuple[Any, dict[str, Placed]]:
        """One stretch of memory for all the arrays."""
        found, length = places(arrays)
        memory = self.cupy.cuda.alloc(length)
        return memory, {name: Placed(array, memory.ptr + found[name]) for name, array in arrays.items()}

    def _upload(self, array: NDArray[Any], placed: Placed, memory: Any, stream: Any) -> NDArray[Any]:
        """Bring an array to its place; what is returned must live until the stream is done."""
        flat = np.ascontiguousarray(array)
        if flat.nbytes:
            (memory + (placed.pointer - memory.ptr)).copy_from_host_async(flat.ctypes.data, flat.nbytes, stream)
        return flat

    def _download(self, placed: Placed, memory: Any, stream: Any) -> NDArray[Any]:
        """An array that holds what is on the device when the stream is done; pinned, so that others go on meanwhile."""
        array, pointer = placed
        pinned = self.cupy.cuda.alloc_pinned_memory(array.nbytes)
        (memory + (pointer - memory.ptr)).copy_to_host_async(pinned.ptr, array.nbytes, stream)
        found: NDArray[Any] = np.frombuffer(pinned, array.dtype, int(np.prod(array.shape))).reshape(array.shape)
        return found

    def _mark(self, stream: Any) -> Any:
        event = self.cupy.cuda.Event(block=True, disable_timing=True)
        event.record(stream)
        return event


@dataclass(frozen=True)
class _Batch:
    """A batch at work: what says that it is done, where its results will be, and what must live until then."""

    done: Any
    arrays: dict[str, NDArray[Any]]
    held: Any

    def results(self) -> dict[str, NDArray[Any]]:
        """Wait for it."""
        self.done.synchronize()
        return {name: array.copy() for name, array in self.arrays.items()}
