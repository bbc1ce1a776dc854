"""Memory of device and host: arrays in one block of device memory, and reusable pinned buffers.

Buffers are reused, because locking the pages of a new pinned buffer takes longer than a copy into it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.cuda.layout import ArrayLayout, offsets_of

_MOST_KEPT = 2  # buffers, as many as batches in flight


class DeviceArray(NamedTuple):
    """An array and the address of its memory on the device."""

    array: ArrayLayout
    pointer: int

    @property
    def end(self) -> int:
        """Address of the first byte after the array."""
        return self.pointer + self.array.nbytes


def allocate(cupy: Any, arrays: Mapping[str, ArrayLayout]) -> tuple[Any, dict[str, DeviceArray]]:
    """Allocate one block of device memory for all arrays; return the block and the arrays in it."""
    offsets, length = offsets_of(arrays)
    memory = cupy.cuda.alloc(length)
    return memory, {name: DeviceArray(array, memory.ptr + offsets[name]) for name, array in arrays.items()}


def upload(array: NDArray[Any], placed: DeviceArray, memory: Any, stream: Any) -> NDArray[Any]:
    """Copy an array to the device; the returned array must live until the stream has finished."""
    flat = np.ascontiguousarray(array)
    if flat.nbytes:
        (memory + (placed.pointer - memory.ptr)).copy_from_host_async(flat.ctypes.data, flat.nbytes, stream)
    return flat


class Buffer(NamedTuple):
    """Pinned memory of the host, and its size in bytes."""

    memory: Any
    size: int


def download(placed: Mapping[str, DeviceArray], memory: Any, buffer: Buffer, stream: Any) -> dict[str, NDArray[Any]]:
    """Copy adjacent arrays into a buffer of `span_of` bytes at once.

    Returns:
        The arrays, valid when the stream has finished.
    """
    first, length = min(each.pointer for each in placed.values()), span_of(placed.values())
    (memory + (first - memory.ptr)).copy_to_host_async(buffer.memory.ptr, length, stream)
    arrays = {}
    for name, (array, pointer) in placed.items():
        count = int(np.prod(array.shape))
        flat: NDArray[Any] = np.frombuffer(buffer.memory, array.dtype, count, pointer - first)
        arrays[name] = flat.reshape(array.shape)
    return arrays


def span_of(placed: Iterable[DeviceArray]) -> int:
    """Return the number of bytes from the start of the first of adjacent arrays to the end of the last."""
    arrays = list(placed)
    return max(each.end for each in arrays) - min(each.pointer for each in arrays)


@dataclass
class PinnedBuffers:
    """Pinned buffers of the host, for use by one batch after another."""

    cupy: Any
    _spare: list[Buffer] = field(default_factory=list)

    def take(self, length: int) -> Buffer:
        """Return the smallest spare buffer of at least `length` bytes, or a new one."""
        fitting = [buffer for buffer in self._spare if buffer.size >= length]
        if not fitting:
            return Buffer(self.cupy.cuda.alloc_pinned_memory(length), length)
        smallest = min(fitting, key=lambda buffer: buffer.size)
        self._spare = [buffer for buffer in self._spare if buffer is not smallest]
        return smallest

    def give_back(self, buffer: Buffer) -> None:
        """Keep a buffer for reuse, if it is among the largest; nothing may write to it any more."""
        self._spare = sorted([*self._spare, buffer], key=lambda each: -each.size)[:_MOST_KEPT]

    def release_all(self) -> None:
        """Release all spare buffers."""
        self._spare = []
