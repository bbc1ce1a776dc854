"""Memory on both sides of a device: arrays in one stretch of its memory, and pinned buffers that are used again.

Pages of a pinned buffer are locked when it is made, which takes longer than a copy into it: buffers are kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.cuda.layout import ArrayLayout, offsets_of

_MOST_KEPT = 2  # buffers: as many as there are batches in flight


class DeviceArray(NamedTuple):
    """An array and the address of its memory on the device."""

    array: ArrayLayout
    pointer: int

    @property
    def end(self) -> int:
        """Address of the first byte behind it."""
        return self.pointer + self.array.nbytes


def allocate(cupy: Any, arrays: Mapping[str, ArrayLayout]) -> tuple[Any, dict[str, DeviceArray]]:
    """Allocate one stretch of device memory for all the arrays."""
    found, length = offsets_of(arrays)
    memory = cupy.cuda.alloc(length)
    return memory, {name: DeviceArray(array, memory.ptr + found[name]) for name, array in arrays.items()}


def upload(array: NDArray[Any], placed: DeviceArray, memory: Any, stream: Any) -> NDArray[Any]:
    """Copy an array to its place; the array that is returned must live until the stream is done."""
    flat = np.ascontiguousarray(array)
    if flat.nbytes:
        (memory + (placed.pointer - memory.ptr)).copy_from_host_async(flat.ctypes.data, flat.nbytes, stream)
    return flat


class Buffer(NamedTuple):
    """Pinned memory of the host, and its bytes."""

    memory: Any
    size: int


def download(placed: Mapping[str, DeviceArray], memory: Any, buffer: Buffer, stream: Any) -> dict[str, NDArray[Any]]:
    """Copy neighbouring arrays into a buffer of `span_of` bytes at once.

    Returns:
        The arrays, which hold their values when the stream is done.
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
    """Bytes from the first of neighbouring arrays to the end of the last."""
    found = list(placed)
    return max(each.end for each in found) - min(each.pointer for each in found)


@dataclass
class PinnedBuffers:
    """Pinned buffers of the host, lent to one batch after the other."""

    cupy: Any
    _spare: list[Buffer] = field(default_factory=list)

    def take(self, length: int) -> Buffer:
        """Return the smallest spare buffer of at least `length` bytes, or a new one."""
        fitting = [buffer for buffer in self._spare if buffer.size >= length]
        if not fitting:
            return Buffer(self.cupy.cuda.alloc_pinned_memory(length), length)
        found = min(fitting, key=lambda buffer: buffer.size)
        self._spare = [buffer for buffer in self._spare if buffer is not found]
        return found

    def give(self, buffer: Buffer) -> None:
        """Take back a buffer that nothing writes to any more; the largest are kept."""
        self._spare = sorted([*self._spare, buffer], key=lambda each: -each.size)[:_MOST_KEPT]

    def release_all(self) -> None:
        """Release all spare buffers."""
        self._spare = []
