"""Numbers of the combos that a search has chosen, so that it chooses none twice."""

import numpy as np
from numpy.typing import NDArray

from kernels.market import Ints

_RECENT_PART = 8  # merge the recent numbers when they exceed one in eight of the others


class VisitedCombos:
    """A growing set of numbers in sorted arrays, 8 bytes each.

    Recent numbers are an array of their own, so that adding a batch does not copy all others.
    """

    def __init__(self) -> None:
        self._old = self._recent = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._old) + len(self._recent)

    def add(self, numbers: Ints) -> None:
        """Add numbers that are not in the set."""
        self._recent = np.sort(np.concatenate([self._recent, numbers]))
        if len(self._recent) * _RECENT_PART > len(self._old):
            self._old = np.sort(np.concatenate([self._old, self._recent]))
            self._recent = np.zeros(0, dtype=np.int64)

    def has(self, numbers: Ints) -> NDArray[np.bool_]:
        """Return whether each number is in the set."""
        return _among(self._old, numbers) | _among(self._recent, numbers)


def unvisited(numbers: Ints, visited: VisitedCombos, taken: Ints) -> Ints:
    """Return the numbers that are in neither set, each once, in their order.

    Args:
        numbers: Numbers, possibly repeated.
        visited: Numbers of earlier batches.
        taken: Numbers of this batch.
    """
    ordered, first = np.unique(numbers, return_index=True)
    return numbers[np.sort(first[~(visited.has(ordered) | _among(np.sort(taken), ordered))])]


def _among(ordered: Ints, numbers: Ints) -> NDArray[np.bool_]:
    place = np.searchsorted(ordered, numbers)
    inside = place < len(ordered)
    member = np.zeros(len(numbers), dtype=np.bool_)
    member[inside] = ordered[place[inside]] == numbers[inside]
    return member
