"""A CuPy without a card: the part of it that MEI uses, over memory of this process.

Work of a stream waits until someone waits for it, as on a device, so results that are read too early are wrong here,
too. A kernel is started with the words that a device would receive: its arrays are put together from these alone, must
lie in memory that is allocated, and the kernel's own source runs, thread by thread, with rules compiled for this
processor. What this can't show is what a device's compiler makes of the rules.
"""

import bisect
import ctypes
import functools
import gc
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Self

import numba
import numpy as np

from kernels.cache import rules_hash
from kernels.cuda import build
from kernels.cuda.layout import KERNELS, KernelArgument, LayoutSizes, all_arrays, arguments_of
from kernels.cuda.manifest import (
    MANIFEST,
    CompiledKernel,
    KernelManifest,
    kernel_folder,
    read_manifest,
    sha256_of,
    to_text,
)
from kernels.market import Market
from kernels.strategies import load

NAME = "Fake GPU"
GIB = 1 << 30


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message or f"error {status}")
        self.status = status


class CUDADriverError(CUDARuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


def raising(error: Exception) -> Callable[..., None]:
    """A call of CUDA that fails."""

    def fails(*_: object, **__: object) -> None:
        raise error

    return fails


class Memory:
    """A stretch of memory; what it points to stays until it is let go."""

    def __init__(self, card: "FakeCupy", length: int) -> None:
        buffer = np.full(max(length, 1), 0xA5, np.uint8)  # what a device hands out is not clean
        self.card, self.ptr = card, buffer.ctypes.data
        card.blocks[self.ptr] = buffer
        card.used += length
        card.most_used = max(card.most_used, card.used)
        weakref.finalize(self, card.let_go, self.ptr, length)

    def __add__(self, offset: int) -> "Place":
        return Place(self, self.ptr + offset)

    def memset_async(self, value: int, size: int, stream: "Stream") -> None:
        stream.queue.append(lambda: ctypes.memset(self.ptr, value, size))


class Place:
    def __init__(self, memory: Memory, ptr: int) -> None:
        self.memory, self.ptr = memory, ptr

    def copy_from_host_async(self, source: int, size: int, stream: "Stream") -> None:
        self.memory.card.copied.append(size)
        kept = ctypes.string_at(source, size)  # a device stages what is not pinned before the call is done
        stream.queue.append(lambda: ctypes.memmove(self.memory.card.at(self.ptr, size), kept, size))

    def copy_to_host_async(self, target: int, size: int, stream: "Stream") -> None:
        self.memory.card.brought.append(size)
        stream.queue.append(lambda: ctypes.memmove(target, self.memory.card.at(self.ptr, size), size))


class Stream:
    def __init__(self, card: "FakeCupy") -> None:
        self.card, self.queue = card, []

    def __enter__(self) -> None:
        self.card.current = self

    def __exit__(self, *_: object) -> None:
        self.card.current = None

    def synchronize(self) -> None:
        self.work(len(self.queue))

    def work(self, count: int) -> None:
        for _ in range(min(count, len(self.queue))):
            if self.card.lost_after == 0:
                self.queue.clear()  # nothing that was asked of a lost card is done
            self.card.check()
            self.queue.pop(0)()


class Event:
    def __init__(self, *, timed: bool) -> None:
        self.timed = timed

    def record(self, stream: Stream) -> None:
        self.stream = stream
        stream.queue.append(self.reached)
        self.done = False

    def reached(self) -> None:
        self.done, self.at_s = True, time.perf_counter()

    def synchronize(self) -> None:
        while not self.done:
            self.stream.work(1)


class FakeCupy:
    """The module, and the card behind it.

    Attributes:
        capacity: Bytes of memory; where it says more than it has, `memGetInfo` is the one that lies.
        said_free: What `memGetInfo` says; 0 for the truth.
        lost_after: How many launches the card survives; negative for any number.
        taken_after: After how many launches another process takes all memory; negative for never.
        status: What its errors say.
        asked: How often something was asked for that takes memory, on the card or of the host.
        fails: Which of these times there is none; a test may say a range without an end.
        copied: Bytes of each array that was brought to the card.
        brought: Bytes of each copy back.
        locked: Bytes of each buffer of the host whose pages were locked.
        launches: Kernels that were started, with their threads.
        most_used: Most bytes that were in use at once.
        pooled: Bytes that nothing uses and no one else may have, as CuPy keeps them.
    """

    def __init__(self, capacity: int = GIB, driver: int = 13000, capability: tuple[int, int] = (9, 0)) -> None:
        self.capacity, self.said_free = capacity, 0
        self.lost_after, self.status = -1, 719
        self.taken_after = -1
        self.used = self.most_used = 0
        self.blocks: dict[int, np.ndarray] = {}
        self.asked, self.fails = 0, range(0)
        self.pooled = 0
        self.copied: list[int] = []
        self.brought: list[int] = []
        self.locked: list[int] = []
        self.launches: list[tuple[str, int]] = []
        self.current: Stream | None = None
        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: driver,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda _: {"name": NAME.encode(), "major": capability[0], "minor": capability[1]},
            memGetInfo=lambda: (self.said_free or self.capacity - self.used - self.pooled, self.capacity),
        )
        self.cuda = SimpleNamespace(
            runtime=runtime,
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            alloc=self.alloc,
            alloc_pinned_memory=self.alloc_pinned,
            get_elapsed_time=elapsed_ms,
            Stream=self.stream,
            Event=self.event,
        )

    def kept(self) -> int:
        """Bytes in use that are not garbage: what measures the tests' coverage looks at the values of frames."""
        gc.collect()
        return self.used

    def get_default_memory_pool(self) -> SimpleNamespace:
        return SimpleNamespace(free_all_blocks=self.free_pool, free_bytes=lambda: self.pooled)

    def free_pool(self) -> None:
        self.pooled = 0

    def ask(self) -> None:
        self.asked += 1
        if self.asked - 1 in self.fails:
            raise CUDARuntimeError(2, "cudaErrorMemoryAllocation: out of memory")

    def stream(self, **_: object) -> Stream:
        self.ask()
        return Stream(self)

    def event(self, *, block: bool, disable_timing: bool) -> Event:
        assert block  # else a thread that waits takes a whole processor
        self.ask()
        return Event(timed=not disable_timing)

    def alloc_pinned(self, length: int) -> "Pinned":
        self.ask()
        self.locked.append(length)
        return Pinned(length)

    def alloc(self, length: int) -> Memory:
        self.check()
        self.asked += 1
        if length > self.pooled and self.used + self.pooled + length > self.capacity:
            self.free_pool()  # as CuPy does before it gives up
        if self.asked - 1 in self.fails or (length > self.pooled and self.used + length > self.capacity):
            raise OutOfMemoryError(f"Out of memory allocating {length} bytes")
        self.pooled = max(self.pooled - length, 0)
        return Memory(self, length)

    def let_go(self, pointer: int, length: int) -> None:
        self.used -= length
        self.pooled += length
        del self.blocks[pointer]

    def at(self, pointer: int, size: int) -> int:
        """The pointer, when that much memory is allocated there."""
        starts = sorted(self.blocks)
        start = starts[bisect.bisect(starts, pointer) - 1]
        assert start <= pointer
        assert pointer + size <= start + len(self.blocks[start])
        return pointer

    def check(self) -> None:
        if self.lost_after == 0:
            raise CUDADriverError(self.status, "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure")

    def RawModule(self, *, path: str) -> SimpleNamespace:  # noqa: N802 - CuPy's name
        folder, name = Path(path).parent, Path(path).stem
        manifest = read_manifest(folder)

        def get_function(entry: str) -> Callable:
            assert entry == manifest.kernels[name].entry
            return lambda grid, block, words: self.launch(manifest, name, grid[0] * block[0], words)

        return SimpleNamespace(get_function=get_function)

    def launch(self, manifest: KernelManifest, name: str, threads: int, words: tuple) -> None:
        self.check()
        self.ask()
        self.lost_after -= 1
        self.taken_after -= 1
        if self.taken_after == 0:
            self.fails = range(self.asked, sys.maxsize)
        self.launches.append((name, threads))
        kernel = getattr(threads_of(manifest.strategy), name)

        def run() -> None:
            given = self.put_together(manifest, name, words)
            for Target.thread in range(threads):
                kernel(*given)

        self.current.queue.append(run)

    def put_together(self, manifest: KernelManifest, name: str, words: tuple) -> list:
        """The arguments of a kernel, from its words."""
        known = all_arrays(load(manifest.strategy), LayoutSizes(1, 1, 1, 1, 1, 1))
        left, given, fields = list(words), [], {}
        for argument in manifest.kernels[name].arguments:
            taken, left = left[: len(argument.words)], left[len(argument.words) :]
            said = dict(zip(argument.words, taken, strict=True))
            if not argument.order:
                given.append(said["value"])
                continue
            dtype = known[argument.name].dtype
            axes = len([word for word in said if word.startswith("shape")])
            shape, strides = ([int(said[f"{kind}.{axis}"]) for axis in range(axes)] for kind in ("shape", "strides"))
            assert (said["meminfo"], said["parent"]) == (0, 0)
            assert (said["itemsize"], said["nitems"]) == (dtype.itemsize, np.prod(shape, dtype=np.int64))
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            start = self.at(int(said["data"]), size)
            memory = (ctypes.c_uint8 * max(size, 1)).from_address(start)
            array = np.ndarray(shape, dtype, memory, strides=strides)
            if argument.name.startswith("market."):
                fields[argument.name.removeprefix("market.")] = array
                if len(fields) == len(Market._fields):
                    given.append(Market(**fields))
            else:
                given.append(array)
        assert left == []
        return given


class Target:
    """What the kernels call `cuda`."""

    thread = 0
    local = SimpleNamespace(array=np.empty)

    @classmethod
    def grid(cls, _: int) -> int:
        return cls.thread


@functools.cache
def threads_of(strategy: str) -> ModuleType:
    """The kernels of a strategy, whose rules are compiled once for all tests and kept for the next run."""
    threads = build.bind(strategy, Target, "processor")
    if not numba.config.DISABLE_JIT:
        for rule in (threads.open_one, threads.signals_at, threads.advance_one):
            rule.enable_caching()
    return threads


def elapsed_ms(before: Event, after: Event) -> float:
    assert before.timed
    assert after.timed
    return (after.at_s - before.at_s) * 1000.0


class Pinned(np.ndarray):
    """Memory of the host."""

    def __new__(cls, length: int) -> Self:
        return np.zeros(length, np.uint8).view(cls)

    @property
    def ptr(self) -> int:
        return self.ctypes.data


def write_kernels(root: Path, strategy: str, arch: str = "sm_90", rules: str = "", cuda: str = "13.0") -> Path:
    """Kernels of a strategy, as far as anything but a device looks at them."""
    place = kernel_folder(root, strategy, arch)
    place.mkdir(parents=True)
    arguments = _arguments(strategy)
    kernels = {}
    for name in KERNELS:
        (place / f"{name}.cubin").write_bytes(name.encode())
        kernels[name] = CompiledKernel(f"mei_{name}", sha256_of(place / f"{name}.cubin"), 0, 0, 0, 0, arguments[name])
    manifest = KernelManifest(strategy, arch, rules or rules_hash(), cuda, {}, {}, kernels)
    (place / MANIFEST).write_text(to_text(manifest))
    return place


@functools.cache
def _arguments(strategy: str) -> Mapping[str, tuple[KernelArgument, ...]]:
    """Layout of the arguments of each kernel of a strategy."""
    threads = build.bind(strategy, None, "signatures")
    return {name: tuple(arguments_of(getattr(threads, name), load(strategy))) for name in KERNELS}
